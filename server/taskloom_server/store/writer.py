"""The writer: one thread, one connection, and every change there is.

A verb is submitted and awaited. The thread takes all that are waiting, opens one ``BEGIN
IMMEDIATE``, runs each verb under a savepoint of its own, commits once, and only then answers
everybody and announces the revision. So claims are serialized by construction, a refused verb
does not spoil its neighbours, and one fsync serves a whole group.
"""

import asyncio
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw
import structlog

from taskloom_server.graph.errors import DomainError, RequestIdReused
from taskloom_server.graph.events import Revision
from taskloom_server.graph.workflows import Workflows
from taskloom_server.store.connections import writing
from taskloom_server.store.requests import Answer
from taskloom_server.store.transaction import Transaction

Ask = TypeVar("Ask")
Result = TypeVar("Result")
Verb = Callable[[Transaction, Ask], Result | DomainError]

_GROUP = 256  # verbs a transaction at the most, so that nobody waits for a crowd behind him


@dataclass(frozen=True, slots=True)
class Idempotent(Generic[Result]):
    """How an answer is remembered under the request_id of its request."""

    request_id: str
    fingerprint: bytes  # of the request: the same id with another one is refused
    encode: Callable[[Result], bytes]
    decode: Callable[[bytes], Result]


@dataclass(frozen=True, slots=True)
class Committed:
    """What a group has changed, told after its commit."""

    revision: int
    revisions: tuple[Revision, ...]
    incarnation: str
    deadline: int | None  # the earliest time at which something is due, Unix ms


@dataclass(slots=True)
class _Job:
    verb: Callable[[Transaction, Any], Any]
    ask: Any
    idempotent: Idempotent[Any] | None
    future: "asyncio.Future[Any]"
    answer: Any = None
    error: Exception | None = None


class WriterStopped(Exception):
    """The writer has stopped, so nothing can be changed any more."""


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
        on_commit: Callable[[Committed], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._path = path
        self._workflows = workflows
        self._clock = clock
        self._rng = rng
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._stopped = False
        self._log = structlog.get_logger("writer")
        self._begun: asyncio.Future[Committed] = self._loop.create_future()

    async def start(self) -> Committed:
        """Open the database; the revision and the incarnation that it is at."""
        self._thread.start()
        return await self._begun

    async def run(
        self, verb: Verb[Ask, Result], ask: Ask, idempotent: Idempotent[Result] | None = None
    ) -> Result:
        """Run a verb in a transaction; its answer, once that is committed.

        Raises what the verb raised, or the refusal that it returned. A caller that gives up
        cancels his waiting, not the transaction.
        """
        if self._stopped:
            raise WriterStopped
        future: asyncio.Future[Result] = self._loop.create_future()
        self._jobs.put(_Job(verb, ask, idempotent, future))
        return await future

    async def stop(self) -> None:
        """Finish what was submitted, checkpoint, close."""
        self._stopped = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        database = writing(self._path)
        try:
            database.connect()
            connection = database.connection()
            transaction = Transaction(connection, self._workflows, self._rng)
            begun = self._begin(transaction)
            self._loop.call_soon_threadsafe(self._begun.set_result, begun)
            self._serve(transaction)
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

    def _begin(self, tx: Transaction) -> Committed:
        """The first transaction of all makes the row about the whole."""
        with tx.connection:
            if not tx.connection.execute('SELECT 1 FROM "system"').fetchall():
                tx.system.begin(revision=0, now=self._clock())
            system = tx.system.get()
            deadline = tx.tasks.next_deadline()
        tx.committed, tx.incarnation = system.revision, system.incarnation
        return Committed(system.revision, (), system.incarnation, deadline)

    def _serve(self, tx: Transaction) -> None:
        while True:
            group = [self._jobs.get()]
            while len(group) < _GROUP and not self._jobs.empty():
                group.append(self._jobs.get())
            jobs = [job for job in group if job is not None]
            if jobs:
                committed = self._commit(tx, jobs)
                self._loop.call_soon_threadsafe(self._deliver, jobs, committed)
            if len(jobs) < len(group):
                return

    def _commit(self, tx: Transaction, jobs: list[_Job]) -> Committed:
        """Run a group of verbs in one transaction."""
        execute = tx.connection.execute
        before = revision = tx.committed
        revisions: list[Revision] = []
        deadlines: list[int] = []
        execute("BEGIN IMMEDIATE")
        for job in jobs:
            tx.begin(self._clock(), revision)
            incarnation = tx.incarnation
            execute("SAVEPOINT verb")
            try:
                self._perform(tx, job)
            except Exception as error:
                if isinstance(error, apsw.Error) and not isinstance(error, apsw.ConstraintError):
                    raise  # the disk, not the verb
                execute("ROLLBACK TO verb")
                tx.requirements.forget()
                job.error = error
            else:
                if tx.incarnation != incarnation:
                    revisions.clear()  # they were of the life that this verb ended
                events, deadline = tx.told()
                if events:
                    revision += 1
                    tx.events.insert(revision, events)
                    revisions.append(Revision(revision, tuple(events)))
                if deadline is not None:
                    deadlines.append(deadline)
            execute("RELEASE verb")
        if revision > before:
            tx.system.advance(revision)
        execute("COMMIT")
        tx.committed = revision
        return Committed(revision, tuple(revisions), tx.incarnation, min(deadlines, default=None))

    def _perform(self, tx: Transaction, job: _Job) -> None:
        """Run one verb, or find the answer that it was given before."""
        remember = job.idempotent
        if remember is not None:
            known = tx.requests.get(remember.request_id, tx.now)
            if known is not None:
                if known.fingerprint != remember.fingerprint:
                    raise RequestIdReused(
                        f"request_id {remember.request_id!r} belongs to an earlier request with "
                        "other contents; make up a new one for every new request"
                    )
                job.answer = remember.decode(known.response)
                return
        answer = job.verb(tx, job.ask)
        if isinstance(answer, DomainError):
            job.error = answer  # refused, but what it wrote is kept
            return
        job.answer = answer
        if remember is not None:
            response = remember.encode(answer)
            tx.requests.put(remember.request_id, Answer(remember.fingerprint, response), tx.now)

    def _deliver(self, jobs: list[_Job], committed: Committed) -> None:
        """Tell the revision, then answer everybody. On the event loop, once for a group."""
        self._on_commit(committed)
        for job in jobs:
            if job.future.done():
                continue  # whoever asked has given up
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.answer)
