"""A writer on a real file without a server, driven by a test that is not of an event loop.

So a property can be tried on hundreds of graphs, by the verbs and the transactions that a server
would use. What waits, and what is due, is the server's business and not tried here.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from taskloom_server.coordinator import (
    claims,
    deadlines,
    dependencies,
    system,
    tasks,
    workers,
)
from taskloom_server.coordinator.admission import Held
from taskloom_server.graph.errors import DomainError
from taskloom_server.graph.events import Event
from taskloom_server.graph.tasks import TaskChanges
from taskloom_server.graph.workers import Pause
from taskloom_server.store.ledger import Committed
from taskloom_server.store.schema import prepare
from taskloom_server.store.transaction import Transaction
from taskloom_server.store.writer import Writer
from taskloom_server.workflow_files import load_workflows

EVERYBODY = workers.ListWorkers("", 1_000, include_disconnected=False)


class LoneWriter:
    """Runs one verb after the other; ``now`` is its clock, ``told`` what was told since begin."""

    def __init__(self, runner: asyncio.Runner, db: Path) -> None:
        self._runner = runner
        self.now = 1_800_000_000_000
        self.told: list[Event] = []
        prepare(db)
        self._writer: Writer = runner.run(self._start(db))

    async def _start(self, db: Path) -> Writer:
        writer = Writer(
            db,
            load_workflows("swarm"),
            clock=lambda: self.now,
            rng=random.Random(0),
            on_commit=self._committed,
            on_failure=lambda error: pytest.fail(f"the writer failed: {error}"),
        )
        await writer.start()
        return writer

    def _committed(self, committed: Committed) -> None:
        for revision in committed.revisions:
            self.told += revision.events

    def run(self, verb: Callable[[Transaction, Any], Any], ask: Any) -> Any:
        """Run a verb; its answer, or its refusal."""
        try:
            return self._runner.run(self._writer.run(verb, ask))
        except DomainError as refusal:
            return refusal

    def run_for_nobody(
        self,
        verb: Callable[[Transaction, Any], Any],
        ask: Any,
        undo: Callable[[Transaction, Any], Any],
        meanwhile: tuple[Callable[[Transaction, Any], Any], Any] | None = None,
    ) -> None:
        """Run a verb whose caller goes before it is answered, and what then undoes it.

        ``meanwhile``: another verb, done before the undo.
        """

        async def leave() -> None:
            call = asyncio.create_task(self._writer.run(verb, ask, undo=undo))
            await asyncio.sleep(0)  # it is submitted; an answer could be heard in a next turn only
            call.cancel()
            # The undo is submitted when the verb is done, which is before the next is answered.
            await self._writer.run(*(meanwhile or (system.get_status, None)))

        self._runner.run(leave())
        self.run(system.get_status, None)

    def begin(self) -> None:
        """Begin with nothing."""
        self.run(system.reset, None)
        self.told.clear()

    def stop(self) -> None:
        """Close the file."""
        self._runner.run(self._writer.stop())

    # The verbs that tests begin with, and most of their fields left out

    def connect(self, worker: str, *tags: str, **fields: Any) -> Any:
        """Connect a worker, with a lease of a week and room for 100 tasks unless said otherwise."""
        asked = {"max_claims": 100, "lease_ms": 7 * 86_400_000, "cool_down_ms": 0} | fields
        return self.run(workers.connect, workers.Connect(worker, "", tags, **asked))

    def create(self, task: str, parent: str = "", **fields: Any) -> Any:
        """Create one task."""
        root = tasks.NewTask(task, task, **fields)
        return self.run(tasks.create_tasks, tasks.CreateTasks(root, parent, "", ""))

    def claim(self, worker: str, task: str, *, advisory: bool = False) -> Any:
        """Claim a task that is named."""
        return self.run(claims.claim_task, claims.Claim(worker, task, None, advisory))

    def claim_next(self, worker: str, max_tasks: int = 1, *, advisory: bool = False) -> Any:
        """Claim the best tasks there are."""
        ask = claims.ClaimNext(worker, max_tasks, None, "", advisory=advisory)
        return self.run(claims.claim_next, ask)

    def end(self, verb: Callable[[Transaction, Any], Any], worker: str, task: str) -> Any:
        """Complete or release a task."""
        return self.run(verb, Held(worker, task, 0, ""))

    def fail(self, worker: str, task: str, *, retry: bool = False) -> Any:
        """Fail a task."""
        ask = claims.Fail(worker, task, 0, "", retry=retry, retry_delay_ms=None)
        return self.run(claims.fail, ask)

    def update(self, task: str, changes: TaskChanges | None = None, **fields: Any) -> Any:
        """Update a task as a person does."""
        ask = tasks.UpdateTask(task, "", 0, 0, "", changes or {}, **fields)
        return self.run(tasks.update_task, ask)

    def delete(self, task: str, *, cascade: bool = True) -> Any:
        """Delete a task, claimed or not."""
        ask = tasks.DeleteTask(task, "", "", cascade=cascade, force=True)
        return self.run(tasks.delete_task, ask)

    def link(self, from_: str, to: str, type_: str) -> Any:
        """Link two tasks."""
        return self.run(dependencies.link_tasks, dependencies.Link(from_, to, type_, ""))

    def pause(self, task: str | None = None) -> Any:
        """Pause a subtree, or everything."""
        return self.run(system.pause, Pause("eve", "", 0, task))

    def resume(self, task: str | None = None) -> Any:
        """Resume it."""
        return self.run(system.resume, Pause("eve", "", 0, task))

    def pass_time(self, ms: int) -> None:
        """Let so much time pass; what is due by then is seen to."""
        self.now += ms
        self.run(deadlines.meet_due, None)
        for worker in self.run(workers.list_workers, EVERYBODY).workers:
            self.run(deadlines.end_leases, worker[0].id)

    def disconnect(self, worker: str) -> Any:
        """Disconnect a worker."""
        return self.run(workers.disconnect, workers.Disconnect(worker, ""))


@contextmanager
def lone_writer(db: Path) -> Iterator[LoneWriter]:
    """A writer of a new file."""
    with asyncio.Runner() as runner:
        writer = LoneWriter(runner, db)
        yield writer
        writer.stop()
