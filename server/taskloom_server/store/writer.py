"""The writer: one thread, one connection, and every change there is.

A verb is submitted and awaited. The thread takes all that are waiting, opens one ``BEGIN
IMMEDIATE``, runs each verb under a savepoint of its own, commits once, and only then answers
everybody and announces the revision. So claims are serialized by construction, a refused verb
does not spoil its neighbours, and one fsync serves a whole group.
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

_GROUP = 256  # verbs handed over at once; no transaction has twice as many
_TURNS = 4  # of the loop that the first of a crowd waits for the rest


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
        self._coming: list[Job] = []  # on their way to the thread
        # Verbs that came together; none of them: to look after those who wait. None: to stop.
        self._jobs: queue.SimpleQueue[Sequence[Job] | None] = queue.SimpleQueue()
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
                self._jobs.put(())
            else:  # cancelled in the instant between the answer and hearing it
                self._take_back(job)
            raise

    def dismiss(self) -> None:
        """Tell all who wait that the server is going."""
        self._ledger.dismissing = True
        self._jobs.put(())

    async def stop(self) -> None:
        """Finish what was submitted, checkpoint, close."""
        self._stopped = True
        self._hand_over()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _submit(self, job: Job) -> None:
        self._coming.append(job)
        if len(self._coming) == 1:
            self._loop.call_soon(self._gather, 0, _TURNS)

    def _gather(self, seen: int, turns: int) -> None:
        """Wait for another turn of the loop while turns bring more, and then hand all over.

        Else the thread would begin with the first of a crowd, and commit for it alone.
        """
        if seen < len(self._coming) < _GROUP and turns:
            self._loop.call_soon(self._gather, len(self._coming), turns - 1)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        for n in range(0, len(self._coming), _GROUP):
            self._jobs.put(self._coming[n : n + _GROUP])
        self._coming.clear()

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
        stopping = False
        while not stopping:
            group: list[Job] = []
            come = self._jobs.get()
            while come is not None:
                group += come
                if len(group) >= _GROUP or self._jobs.empty():
                    break
                come = self._jobs.get()
            stopping = come is None
            self._tend_line()
            if group:
                answered, committed = self._ledger.commit(tx, group)
                self._loop.call_soon_threadsafe(self._deliver, answered, committed)

    def _tend_line(self) -> None:
        """Let those leave the line who gave up, or all of them when the server is going."""
        while not self._gone.empty():
            self._ledger.leave(self._gone.get())
        if self._ledger.dismissing:
            dismissed = self._ledger.dismiss()
            self._loop.call_soon_threadsafe(answer, dismissed, self._take_back)

    def _deliver(self, jobs: list[Job], committed: Committed) -> None:
        """Tell the revision, then answer everybody. On the event loop, once for a group."""
        self._on_commit(committed)
        answer(jobs, self._take_back)

    def _take_back(self, job: Job) -> None:
        """Undo what nobody was there to hear, if it can be undone."""
        if job.undo is not None and job.error is None and not self._stopped:
            nobody: asyncio.Future[Any] = self._loop.create_future()
            self._submit(Job(job.undo, job.answer, None, nobody))
