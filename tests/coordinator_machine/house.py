"""The server without transport and threads: each verb is done when the test says so.

Servicers, writer, line, alarm and file are the server's own. Only what makes them run by
themselves is left out: the writer's thread, the readers' threads, the machine's clock and gRPC.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from taskloom_server.alarm import Alarm
from taskloom_server.coordinator.attachments import used_files
from taskloom_server.coordinator.deadlines import end_leases, meet_due
from taskloom_server.coordinator.workers import LostStream, lose_stream
from taskloom_server.graph.events import Revision
from taskloom_server.graph.workflows import InForce, Workflows
from taskloom_server.service.admin import AdminServicer
from taskloom_server.service.calls import Calls
from taskloom_server.service.claims import ClaimServicer
from taskloom_server.service.snapshots import Snapshots
from taskloom_server.service.tasks import TaskServicer
from taskloom_server.service.work import OpenStreams
from taskloom_server.service.workers import WorkerServicer
from taskloom_server.store.connections import writing
from taskloom_server.store.ledger import Committed, Job, WriterStopped
from taskloom_server.store.media import Media, media_folder
from taskloom_server.store.queries import Queries
from taskloom_server.store.readers import Readers
from taskloom_server.store.transaction import Transaction
from taskloom_server.store.writer import Writer

Ask = TypeVar("Ask")
Result = TypeVar("Result")

START = 1_800_000_000_000
_QUIET = 8  # turns of the loop without work after which nothing more will come by itself
_RESTLESS = 10_000  # turns after which it never will be quiet


class Clock:
    """A clock that stands still until it is moved, and knows who waits for it."""

    def __init__(self, now: int = START) -> None:
        self._now = now
        self._moved = asyncio.Event()
        self._awaited: list[int] = []

    def now(self) -> int:
        """The time in Unix ms."""
        return self._now

    def advance(self, ms: int) -> None:
        """Let so much time pass at once."""
        self._now += ms
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def until(self, deadline: int) -> None:
        """Return once the clock has been moved so far."""
        self._awaited.append(deadline)
        try:
            while self._now < deadline:
                await self._moved.wait()
        finally:
            self._awaited.remove(deadline)

    def next_awaited(self) -> int | None:
        """The earliest time that somebody waits for."""
        return min(self._awaited, default=None)


class SteppedWriter(Writer):
    """The writer on the thread of its caller: a group of verbs is all that is there now."""

    def open(self) -> Committed:
        """As the thread does first; the revision that the file is at."""
        self._database = writing(self._path)
        self._database.connect()
        connection = self._database.connection()
        connection.pragma("synchronous", 0)  # nobody cuts the power here, and it is a third faster
        self._transaction = Transaction(connection, self._workflows, self._rng, self._weights)
        return self._ledger.begin(self._transaction)

    def _hand_over(self, group: Sequence[Job]) -> None:
        """There is no thread."""
        self._groups.put(group)

    def step(self) -> bool:
        """Run what was submitted as one group; whether there was anything."""
        if group := self._next_group():
            self._groups.put(group)
        if self._groups.empty():
            return False
        self._groups.put(None)  # after which the loop of the thread ends
        self._serve(self._transaction)
        return True

    def close(self) -> None:
        """Give the file back."""
        self._database.close()


class InlineReaders(Readers):
    """The readers on the thread of their caller."""

    async def run(self, verb: Callable[[Transaction, Ask], Result], ask: Ask) -> Result:
        """Run a verb on a snapshot; its answer, or what it raised."""
        return self._read(verb, ask)


class _Context:
    """Of a call that has no deadline."""

    def time_remaining(self) -> float | None:
        return None


class House:
    """A server on a file.

    What is committed on it is in ``revisions``; what the alarm has seen to, in that order, in
    ``met``: a worker's leases, or nothing for all the rest.
    """

    def __init__(self, db: Path, workflows: Workflows, seed: int = 0) -> None:
        self._db = db
        self._workflows = workflows
        self._rng = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._started: set[asyncio.Task[Any]] = set()
        self.clock = Clock()
        self.revisions: list[Revision] = []
        self.met: list[str] = []
        self._loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self._writer = SteppedWriter(
            self._db,
            self._workflows,
            clock=self.clock.now,
            rng=self._rng,
            on_commit=self._committed,
            on_failure=self._failed,
        )
        begun = self._writer.open()
        self._revision = begun.revision
        self._alarm = Alarm(self.clock, self._meet)
        self._set_alarm(begun)
        self._readers = InlineReaders(self._db, self._workflows, clock=self.clock.now)
        self._calls = calls = Calls(self._writer, self._readers, self.clock.now)
        self._streams = OpenStreams(begun.incarnation)
        self._servicers = (
            WorkerServicer(calls),
            TaskServicer(calls),
            ClaimServicer(calls, self._streams),
            AdminServicer(
                calls,
                in_force=InForce(self._workflows, self.clock.now()),
                revision=lambda: self._revision,
                started_at=self.clock.now(),
                queries=Queries(self._db, max_queries=1),
                snapshots=Snapshots(calls, Media(media_folder(self._db), self._used), 1 << 20),
            ),
        )
        self._ringing = asyncio.create_task(self._alarm.run())

    async def _used(self, names: Sequence[str]) -> frozenset[str]:
        return await self._readers.run(used_files, names)

    async def _meet(self, worker_id: str) -> int | None:
        self.met.append(worker_id)
        with suppress(WriterStopped):
            if worker_id:
                return await self._writer.run(end_leases, worker_id)
            return await self._writer.run(meet_due, None)
        return None

    def _set_alarm(self, committed: Committed) -> None:
        self._alarm.set(committed.deadline)
        for worker_id, deadline in committed.leases:
            self._alarm.set(deadline, worker_id)

    def _committed(self, committed: Committed) -> None:
        self._revision = committed.revision
        self.revisions += committed.revisions
        self._set_alarm(committed)

    def _failed(self, error: Exception) -> None:
        raise AssertionError("the writer failed") from error

    def start(self, method: str, request: Any) -> "asyncio.Task[Any]":
        """Begin a call; it goes on with the next ``settle``."""
        call = self._loop.create_task(self._coroutine(method, request))
        self._started.add(call)
        return call

    def _coroutine(self, method: str, request: Any) -> Coroutine[Any, Any, Any]:
        servicer = next(s for s in self._servicers if method in vars(type(s)))
        coroutine: Coroutine[Any, Any, Any] = getattr(servicer, method)(request, _Context())
        return coroutine

    def lose_stream(self, worker_id: str, grace_ms: int) -> None:
        """Do what the end of a worker's last Work stream does, when it breaks."""
        lost = LostStream(worker_id, grace_ms)
        self._started.add(self._loop.create_task(self._calls.write_anew(lose_stream, lost)))

    def settle(self) -> None:
        """Let everything happen that happens without anybody doing more, or time passing."""
        self._loop.run_until_complete(self._settle())

    async def _settle(self) -> None:
        quiet = turns = 0
        while quiet < _QUIET:
            await asyncio.sleep(0)
            quiet = 0 if self._writer.step() else quiet + 1
            turns += 1
            assert turns < _RESTLESS, "the server does not come to rest"
            assert not self._ringing.done(), self._ringing

    def commit(self) -> None:
        """Let calls that were started be committed, but nobody be answered yet."""
        self._turn()
        self._writer.step()

    def deliver(self) -> None:
        """Let answers come to those who called, but nothing more be committed yet."""
        for _ in range(_QUIET):
            self._turn()

    def _turn(self) -> None:
        """Let the loop run what is due in it, once."""
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()

    def ask(self, method: str, request: Any) -> Any:
        """The answer of a call that only reads."""
        try:
            self._coroutine(method, request).send(None)
        except StopIteration as returned:
            return returned.value
        raise AssertionError(f"{method} does not answer at once")

    def stop(self) -> None:
        """Go down as the server does: who waits is told, what was submitted is committed."""
        self._writer.dismiss()
        self.settle()
        self._loop.run_until_complete(self._end())
        self._writer.close()
        self._readers.close()

    async def _end(self) -> None:
        self._ringing.cancel()
        with suppress(asyncio.CancelledError):
            await self._ringing

    def restart(self) -> None:
        """Go down, and come up again on the same file."""
        self.stop()
        self._loop.run_until_complete(self._start())

    def end(self) -> None:
        """Go down for good."""
        self.stop()
        self._loop.run_until_complete(_results(self._started))
        self._loop.close()


async def _results(calls: Iterable["asyncio.Task[Any]"]) -> None:
    """Take note of all, so that none is reported as overlooked."""
    await asyncio.gather(*calls, return_exceptions=True)


def stopped(error: BaseException | None) -> bool:
    """Whether that is the word of a server that is going."""
    return isinstance(error, WriterStopped)
