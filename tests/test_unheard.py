"""Answers that nobody was there to hear: what they gave is taken back."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from taskloom_server.coordinator import claims, files, system, tasks
from taskloom_server.coordinator.renaming import Rename, rename_task
from taskloom_server.graph.events import EventType
from taskloom_server.graph.workers import Pause
from taskloom_server.store.ledger import Committed
from taskloom_server.store.schema import prepare
from taskloom_server.store.transaction import Transaction
from taskloom_server.store.writer import Writer
from taskloom_server.workflow_files import load_workflows

from tests.lone_writer import lone_writer

_RENAMED = (rename_task, Rename("old", "new", 0, "", ""))


def _rename_and_create(tx: Transaction, _: None) -> None:
    """Another task has the old id at once."""
    rename_task(tx, _RENAMED[1])
    tasks.create_tasks(tx, tasks.CreateTasks(tasks.NewTask("old", "Another"), "", "", ""))


async def test_cancelled_between_the_answer_and_hearing_it(tmp_path: Path) -> None:
    """A caller that is cancelled when its answer is there, but not heard, is undone as well."""
    path = tmp_path / "tasks.db"
    prepare(path)
    loop = asyncio.get_running_loop()
    calls: list[asyncio.Task[int]] = []
    undone: asyncio.Future[int] = loop.create_future()

    def on_commit(committed: Committed) -> None:
        if calls and committed.revision == 1:
            # Runs after the answer is set, and before the caller runs on with it.
            loop.call_soon(calls[0].cancel)

    def pause(tx: Transaction, reason: str) -> int:
        return system.pause(tx, Pause("eve", reason, 0))[1]

    def undo(tx: Transaction, revision: int) -> None:
        loop.call_soon_threadsafe(undone.set_result, revision)

    def fail(error: Exception) -> None:
        raise error

    writer = Writer(
        path,
        load_workflows("swarm"),
        clock=lambda: 1_800_000_000_000,
        rng=Random(1),
        on_commit=on_commit,
        on_failure=fail,
    )
    await writer.start()
    try:
        calls.append(asyncio.create_task(writer.run(pause, "a reason", undo=undo)))
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        assert await asyncio.wait_for(undone, 10) == 1
    finally:
        await writer.stop()


@pytest.mark.parametrize("advisory", [False, True])
def test_a_claim_is_undone_though_the_task_has_another_id_by_now(
    tmp_path: Path, advisory: bool
) -> None:
    """A task that is renamed before its unheard claim is undone is ready again, all the same."""
    with lone_writer(tmp_path / "tasks.db") as writer:
        writer.create("old")
        writer.connect("ann")
        ask = claims.ClaimNext("ann", 1, None, "", advisory=advisory)
        writer.run_for_nobody(claims.claim_next, ask, claims.give_back, meanwhile=_RENAMED)
        given = writer.claim_next("ann", 1, advisory=advisory)
        assert [task.id for task in given.tasks] == ["new"]


@pytest.mark.parametrize("meanwhile", [_RENAMED, (_rename_and_create, None)])
def test_marks_are_lifted_though_their_task_has_another_id_by_now(
    tmp_path: Path, meanwhile: tuple[Callable[[Transaction, Any], Any], Any]
) -> None:
    """A lock that nobody was told of is free again, by whatever name its task goes by then."""
    with lone_writer(tmp_path / "tasks.db") as writer:
        writer.create("old")
        writer.connect("ann")
        ask = files.Mark("ann", ("lock:gpu", "a.py"), "old", 0, "")
        writer.run_for_nobody(files.mark_files, ask, files.give_back, meanwhile=meanwhile)
        lifted = [e.task_id for e in writer.told if e.type is EventType.FILE_UNMARKED]
        assert lifted == ["new", "new"]
