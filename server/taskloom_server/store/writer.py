"""The writer: one thread, one connection, and every change there is.

A verb is submitted and awaited. All that have come while the group before was committed are handed
to the thread. It opens one ``BEGIN IMMEDIATE``, runs each verb under a savepoint of its own,
commits once, and only then answers everybody and announces the revision. So claims are serialized
by construction, a refused verb does not spoil its neighbours, and one fsync serves a whole group.

While a group's verbs are run, the event loop stands still, for a moment at the most. Else the two
threads would hand Python's lock (the GIL) to and fro with each of a verb's statements, as it is let
go for each. While the group is committed, and the disk is waited for, the loop goes on; and before
it stands again it has had as long for itself, so that a flood is seen, and turned away.
"""

import asyncio
import contextlib
import queue
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import structlog

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
from taskloom_server.store.transaction import Transaction

_GROUP = 256  # verbs a transaction at the most, so that nobody waits for a crowd behind him
_TURNS = 4  # of the loop that the first of a crowd waits for the rest
_STANDS_S = 0.02  # that the loop waits for verbs to be run, as it would wait for the GIL


class Writer:
    """The one that writes.

    ``on_commit`` is called on the event loop after each commit and before the answers;
    ``on_failure`` when nothing can be written any more: then the server must stop, and calls
    that wait for an answer are not given one.
    """

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
        self._path = path
        self._workflows = workflows
        self._clock = clock
        self._rng = rng
        self._weights = weights
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._coming: list[Job] = []  # to be handed to the thread
        self._is_busy = False  # the thread, with a group
        self._next_at = 0.0  # when the loop may stand still again, in its time
        # A group; an empty one: to look after those who wait. None: to stop.
        self._groups: queue.SimpleQueue[Sequence[Job] | None] = queue.SimpleQueue()
        self._performed = threading.Lock()  # released when a group's verbs are run
        self._performed.acquire()
        self._gone: queue.SimpleQueue[Job] = queue.SimpleQueue()  # who stopped waiting
        self._ledger = Ledger(clock)
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._stopped = False
        self._log = structlog.get_logger("writer")
        self._begun: asyncio.Future[Committed] = self._loop.create_future()

    async def start(self) -> Committed:
        """Open the database; the revision and the incarnation that it is at."""
        self._thread.start()
        return await self._begun

    async def run(
        self,
        verb: Verb[Ask, Result],
        ask: Ask,
        idempotent: Idempotent[Result] | None = None,
        undo: Callable[[Transaction, Result], object] | None = None,
        worker_id: str = "",
    ) -> Result:
        """Run a verb in a transaction; its answer, once that is committed.

        Raises what the verb raised, or the refusal that it returned. A caller that gives up
        cancels his waiting, not the transaction; ``undo`` is then run with the answer that
        nobody was there to hear. A verb that answers ``Waiting`` is run again when there is
        something for it. ``worker_id``: who asks; to be refused is a sign of its life, too.
        """
        if self._stopped:
            raise WriterStopped
        future: asyncio.Future[Result] = self._loop.create_future()
        job = Job(verb, ask, idempotent, future, undo, worker_id)
        self._submit(job)
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._gone.put(job)
                self._groups.put(())
            else:  # cancelled in the instant between the answer and hearing it
                self._take_back(job)
            raise

    def dismiss(self) -> None:
        """Tell all who wait that the server is going."""
        self._ledger.dismissing = True
        self._groups.put(())

    async def stop(self) -> None:
        """Finish what was submitted, checkpoint, close."""
        self._stopped = True
        while group := self._next_group():
            self._groups.put(group)
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)

    def _submit(self, job: Job) -> None:
        self._coming.append(job)
        if len(self._coming) == 1 and not self._is_busy:
            self._loop.call_soon(self._gather, 0, _TURNS)

    def _gather(self, seen: int, turns: int) -> None:
        """Wait for another turn of the loop while turns bring more, and then hand over a group.

        Else the thread would begin with the first of a crowd, and commit for it alone.
        """
        if self._is_busy or not self._coming:
            return
        if seen < len(self._coming) < _GROUP and turns:
            self._loop.call_soon(self._gather, len(self._coming), turns - 1)
        elif self._loop.time() < self._next_at:
            self._loop.call_at(self._next_at, self._gather, 0, 0)
        else:
            self._hand_over(self._next_group())

    def _next_group(self) -> Sequence[Job]:
        group = self._coming[:_GROUP]
        del self._coming[:_GROUP]
        return group

    def _hand_over(self, group: Sequence[Job]) -> None:
        """Let the thread run a group, and stand still until its verbs are run, or for too long."""
        self._is_busy = True
        began = self._loop.time()
        self._performed.acquire(blocking=False)  # of a group before that took longer
        self._groups.put(group)
        self._performed.acquire(timeout=_STANDS_S)
        now = self._loop.time()
        self._next_at = now + (now - began)

    def _run(self) -> None:
        database = writing(self._path)
        try:
            database.connect()
            connection = database.connection()
            transaction = Transaction(connection, self._workflows, self._rng, self._weights)
            begun = self._ledger.begin(transaction)
            self._loop.call_soon_threadsafe(self._begun.set_result, begun)
            self._serve(transaction)
            connection.set_busy_timeout(0)
            with contextlib.suppress(apsw.BusyError):  # another program reads: nothing is lost
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except Exception as error:
            self._stopped = True
            self._loop.call_soon_threadsafe(self._fail, error)
        finally:
            database.close()

    def _fail(self, error: Exception) -> None:
        if self._begun.done():
            self._on_failure(error)
        else:
            self._begun.set_exception(error)

    def _serve(self, tx: Transaction) -> None:
        while (group := self._groups.get()) is not None:
            self._tend_line()
            if group:
                answered, committed = self._ledger.commit(tx, group, self._let_go)
                self._loop.call_soon_threadsafe(self._deliver, answered, committed)

    def _let_go(self) -> None:
        """Let the loop go on."""
        if self._performed.locked():
            self._performed.release()

    def _tend_line(self) -> None:
        """Let those leave the line who gave up, or all of them when the server is going."""
        while not self._gone.empty():
            self._ledger.leave(self._gone.get())
        if self._ledger.dismissing:
            dismissed = self._ledger.dismiss()
            self._loop.call_soon_threadsafe(answer, dismissed, self._take_back)

    def _deliver(self, jobs: list[Job], committed: Committed) -> None:
        """Tell the revision, then answer everybody. On the event loop, once for a group."""
        self._is_busy = False
        self._loop.call_soon(self._gather, 0, _TURNS)  # what has come meanwhile, if anything has
        self._on_commit(committed)
        answer(jobs, self._take_back)

    def _take_back(self, job: Job) -> None:
        """Undo what nobody was there to hear, if it can be undone."""
        if job.undo is not None and job.error is None and not self._stopped:
            nobody: asyncio.Future[Any] = self._loop.create_future()
            self._submit(Job(job.undo, job.answer, None, nobody))
