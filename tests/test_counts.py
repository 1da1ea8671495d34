"""How the whole stands, counted on from what was known: as if all had been counted."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from taskloom import v1
from taskloom_client import Client
from taskloom_server.coordinator import (
    claims,
    counts,
    dependencies,
    history,
    metrics,
    restoring,
    system,
)
from taskloom_server.coordinator.renaming import Rename, rename_task
from taskloom_server.graph.errors import DomainError
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Dependency, Task
from taskloom_server.store.transaction import Transaction

from tests.lone_writer import LoneWriter, lone_writer

STEPS = 700
STATUSES = ("pending", "working", "completed", "failed", "cancelled", "waiting")
TAGS = ((), ("x",), ("x", "y"), ("z",))


def _all(tx: Transaction, _: None) -> list[Task]:
    return list(tx.tasks.all())


class _Change:
    """Makes any change there is, of tasks of which it knows the ids that they ever had."""

    def __init__(self, writer: LoneWriter, rng: random.Random) -> None:
        self._writer = writer
        self._rng = rng
        self._ids = ["t0"]
        self._made = 0

    def make(self) -> tuple[str, Any]:
        """A change at random; what it was, and what came of it."""
        names = [name for name in dir(self) if name.startswith("do_")]
        name = self._rng.choice(names)
        verb: Callable[[], Any] = getattr(self, name)
        return name, verb()

    def _tasks(self) -> list[Task]:
        tasks: list[Task] = self._writer.run(_all, None)
        return tasks

    def _some(self) -> str:
        """A task that is there, mostly, or one that there was."""
        there = [task.id for task in self._tasks() if task.deleted_at is None]
        return self._rng.choice(there if there and self._rng.random() < 0.8 else self._ids[-12:])

    def _held(self, worker: str) -> str:
        held = [task.id for task in self._tasks() if task.worker_id == worker]
        return self._rng.choice(held) if held else self._some()

    def _new(self) -> str:
        self._made += 1
        self._ids.append(f"t{self._made}")
        return self._ids[-1]

    def do_create(self) -> Any:
        parent = self._some() if self._rng.random() < 0.3 else ""
        blockers = (self._some(),) if self._rng.random() < 0.3 else ()
        return self._writer.create(
            self._new(),
            parent,
            blocked_by=blockers,
            needed_tags=self._rng.choice(TAGS),
            wanted_tags=self._rng.choice(TAGS),
            not_before=self._writer.now + 5_000 if self._rng.random() < 0.2 else None,
            max_cost_usd=1.0 if self._rng.random() < 0.2 else None,
        )

    do_create_another = do_create_a_third = do_create

    def do_claim(self) -> Any:
        return self._writer.claim("ann", self._some(), advisory=self._rng.random() < 0.3)

    def do_claim_next(self) -> Any:
        return self._writer.claim_next(self._rng.choice(["ann", "bob"]), 2)

    def do_complete(self) -> Any:
        return self._writer.end(claims.complete, "ann", self._held("ann"))

    def do_release(self) -> Any:
        return self._writer.end(claims.release, "bob", self._held("bob"))

    def do_fail(self) -> Any:
        return self._writer.fail("ann", self._held("ann"), retry=self._rng.random() < 0.5)

    def do_move(self) -> Any:
        return self._writer.update(self._some(), status=self._rng.choice(STATUSES))

    def do_change_tags(self) -> Any:
        needed, wanted = self._rng.choice(TAGS), self._rng.choice(TAGS)
        return self._writer.update(self._some(), {"needed_tags": needed, "wanted_tags": wanted})

    def do_follow(self) -> Any:
        workflow = self._rng.choice(["swarm", "solo", "hierarchical"])
        return self._writer.update(self._some(), workflow=workflow)

    def do_delete(self) -> Any:
        return self._writer.delete(self._some())

    def do_restore(self) -> Any:
        ask = restoring.Restore(self._some(), "", "", cascade=self._rng.random() < 0.5)
        return self._writer.run(restoring.restore_task, ask)

    do_restore_another = do_restore

    def do_obliterate(self) -> Any:
        ask = restoring.Obliterate(self._some(), "", "", cascade=True, force=True)
        return self._writer.run(restoring.obliterate_task, ask)

    def do_rename(self) -> Any:
        return self._writer.run(rename_task, Rename(self._some(), self._new(), 0, "", ""))

    def do_spend(self) -> Any:
        ask = metrics.LogMetrics(self._some(), "", 0, (1,) * 8, 0.4)
        return self._writer.run(metrics.log_metrics, ask)

    def do_link(self) -> Any:
        return self._writer.link(
            self._some(), self._some(), self._rng.choice(["blocks", "contains"])
        )

    def do_relink(self) -> Any:
        there = [task for task in self._tasks() if task.parent_id and task.deleted_at is None]
        if not there:
            return self.do_link()
        child = self._rng.choice(there)
        gone = Dependency(str(child.parent_id), child.id, "contains")
        new = Dependency(str(child.parent_id), self._some(), "contains")
        ask = dependencies.Relink((gone,), (new,), worker_id="")
        return self._writer.run(dependencies.relink_tasks, ask)

    do_relink_again = do_relink

    def do_delay(self) -> Any:
        later = self._rng.choice([None, self._writer.now + 5_000])
        return self._writer.update(self._some(), {"not_before": later})

    def do_pause(self) -> Any:
        return self._writer.pause(self._some())

    def do_resume(self) -> Any:
        return self._writer.resume(self._some())

    def do_pass_time(self) -> Any:
        return self._writer.pass_time(3_000)

    def do_connect(self) -> Any:
        return self._writer.connect(self._rng.choice(["ann", "bob"]), *self._rng.choice(TAGS))

    def do_disconnect(self) -> Any:
        return self._writer.disconnect("bob")

    def do_forget(self) -> Any:
        return self._writer.run(history.compact, history.Kept(0, 20))

    def do_reset(self) -> None:
        if self._rng.random() < 0.05:
            self._ids = ["t0"]
            self._writer.run(system.reset, None)
            self._writer.connect("ann")


def test_counted_on_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever changes, counts that go on from before, or from long before, are those of all."""
    monkeypatch.setattr(counts, "_EVENTS_A_TASK", 1_000)
    done = Counter[str]()
    with lone_writer(tmp_path / "tasks.db") as writer:
        writer.connect("ann")
        writer.connect("bob", "x", lease_ms=4_000)
        change = _Change(writer, random.Random(3))
        known = early = writer.run(system.get_status, None)
        for step in range(STEPS):
            name, answer = change.make()
            done[name] += not isinstance(answer, DomainError)
            status = writer.run(system.get_status, None)
            assert writer.run(system.get_status, known) == status, name
            assert writer.run(system.get_status, early) == status, name
            known = status
            if step % 50 == 0:
                early = status
    assert min(done.values()) > 0, done


def _counted_on(writer: LoneWriter, *verbs: Callable[[], Any]) -> None:
    """Whether each verb leaves the status as it is when all is counted."""
    for verb in verbs:
        known = writer.run(system.get_status, None)
        assert not isinstance(verb(), DomainError)
        assert writer.run(system.get_status, known) == writer.run(system.get_status, None)


def _relink(writer: LoneWriter, gone: Dependency, new: Dependency) -> Any:
    ask = dependencies.Relink((gone,), (new,), worker_id="")
    return writer.run(dependencies.relink_tasks, ask)


def test_a_parent_whose_last_open_child_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent that has nothing open for a moment, and one that ends as soon as it is ready."""
    monkeypatch.setattr(counts, "_EVENTS_A_TASK", 1_000)
    with lone_writer(tmp_path / "tasks.db") as writer:
        for id in ("p", "a", "b", "done"):
            writer.create(id)
        writer.update("done", status="cancelled")
        writer.link("p", "a", "contains")
        writer.link("p", "done", "contains")
        a, b = Dependency("p", "a", "contains"), Dependency("p", "b", "contains")
        writer.told.clear()
        _counted_on(writer, lambda: _relink(writer, a, b), lambda: _relink(writer, b, a))
        turned = {EventType.TASK_READY, EventType.TASK_BLOCKED}
        assert not [e for e in writer.told if e.type in turned and e.task_id == "p"]

        for id in ("q", "first", "ended"):
            writer.create(id)
        writer.update("ended", status="cancelled")
        writer.link("first", "q", "blocks")
        gone, new = Dependency("first", "q", "blocks"), Dependency("q", "ended", "contains")
        _counted_on(writer, lambda: _relink(writer, gone, new))
        told = [e for e in writer.told if e.task_id == "q" and e.type is EventType.TASK_COMPLETED]
        assert told[0].before is not None
        assert told[0].before.ready_for is not None, "as it was told last"


async def test_many_ask_at_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks while tasks come and go is told the counts of one revision, and the last all."""
    monkeypatch.setattr(counts, "_EVENTS_A_TASK", 1_000)

    async def work(name: int) -> None:
        for n in range(10):
            request = v1.CreateTaskRequest(id=f"{name}-{n}", title="t")
            await client.tasks.CreateTask(request)
            if n % 2:
                update = v1.UpdateTaskRequest(task_id=request.id, status="cancelled")
                await client.tasks.UpdateTask(update)

    async def look() -> None:
        for _ in range(20):
            status = await client.admin.GetStatus(v1.GetStatusRequest())
            by_status = status.tasks_by_status
            assert status.ready_tasks == status.open_tasks == by_status["pending"]

    await asyncio.gather(*map(work, range(5)), *(look() for _ in range(5)))
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert dict(status.tasks_by_status) == {"pending": 25, "cancelled": 25}


def test_many_events_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more has happened than is worth reading, the tasks are counted."""
    with lone_writer(tmp_path / "tasks.db") as writer:
        writer.create("a")
        known = writer.run(system.get_status, None)
        writer.create("b")
        nothing = counts.Counts({}, {})
        monkeypatch.setattr(counts, "count", lambda _: nothing)
        assert writer.run(system.get_status, known).counts is nothing
