"""A writer and a reader on the thread of their caller: for a simulation, in which nobody waits.

Every verb is run in the moment in which it is asked, each in a transaction of its own, by the
ledger that the writer uses, too. The loop stands still meanwhile, so a server must not have them.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from taskloom_server.graph.temperature import DEFAULT_WEIGHTS, Weights
from taskloom_server.graph.workflows import Workflows
from taskloom_server.store.connections import writing
from taskloom_server.store.ledger import (
    Ask,
    Committed,
    Idempotent,
    Job,
    Ledger,
    Result,
    Verb,
    WriterStopped,
    answer,
)
from taskloom_server.store.readers import Reader
from taskloom_server.store.transaction import Transaction

_APART_S = 1e-9


class InlineWriter:
    """The one that writes. Its methods and ``on_commit`` are those of Writer."""

    def __init__(
        self,
        path: Path,
        workflows: Workflows,
        *,
        clock: Callable[[], int],
        rng: random.Random,
        weights: Weights = DEFAULT_WEIGHTS,
        on_commit: Callable[[Committed], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.commit_s = 0.0
        """How long a change takes to be on the disk, it is said: so late it takes effect."""
        self._due = 0.0
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._ledger = Ledger(clock)
        self._stopped = False
        self._database = writing(path)
        self._database.connect()
        connection = self._database.connection()
        connection.pragma("synchronous", 0)  # no power is cut in a simulation
        self._transaction = Transaction(connection, workflows, rng, weights)

    async def start(self) -> Committed:
        """The revision and the incarnation that the database is at."""
        return self._ledger.begin(self._transaction)

    async def run(
        self,
        verb: Verb[Ask, Result],
        ask: Ask,
        idempotent: Idempotent[Result] | None = None,
        undo: Callable[[Transaction, Result], object] | None = None,
        worker_id: str = "",
    ) -> Result:
        """Run a verb in a transaction: its answer, for which only one that waits is waited."""
        if self.commit_s:
            await self._on_the_disk()
        if self._stopped:
            raise WriterStopped
        future: asyncio.Future[Result] = self._loop.create_future()
        job = Job(verb, ask, idempotent, future, undo, worker_id)
        self._commit(job)
        if future.done():
            return future.result()
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._ledger.leave(job)
            else:  # cancelled in the instant between the answer and hearing it
                self._take_back(job)
            raise

    async def _on_the_disk(self) -> None:
        """Wait as long as a commit takes; in order, which timers of one moment do not keep."""
        now = self._loop.time()
        self._due = max(now + self.commit_s, self._due + _APART_S)
        await asyncio.sleep(self._due - now)

    def dismiss(self) -> None:
        """Tell all who wait that the server is going."""
        self._ledger.dismissing = True
        answer(self._ledger.dismiss(), self._take_back)

    async def stop(self) -> None:
        """Checkpoint, close."""
        if not self._stopped:
            with contextlib.suppress(apsw.BusyError):  # another program reads: nothing is lost
                self._transaction.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._stopped = True
        self._database.close()

    def _commit(self, job: Job) -> None:
        try:
            answered, committed = self._ledger.commit(self._transaction, [job])
        except Exception as error:
            self._stopped = True
            self._on_failure(error)
            raise WriterStopped from error
        self._on_commit(committed)
        answer(answered, self._take_back)

    def _take_back(self, job: Job) -> None:
        """Undo what nobody was there to hear, if it can be undone."""
        if job.undo is not None and job.error is None and not self._stopped:
            nobody: asyncio.Future[Any] = self._loop.create_future()
            self._commit(Job(job.undo, job.answer, None, nobody))


class InlineReaders:
    """One connection that reads, on which a verb is run in the moment in which it is asked."""

    def __init__(self, path: Path, workflows: Workflows, *, clock: Callable[[], int]) -> None:
        self._reader = Reader(path, workflows, clock)

    async def run(self, verb: Callable[[Transaction, Ask], Result], ask: Ask) -> Result:
        """Run a verb on a snapshot; its answer, or what it raised."""
        return self._reader.read(verb, ask)

    def use(self, workflows: Workflows) -> None:
        """Go by these workflows from the next verb on."""
        self._reader.use(workflows)

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()
