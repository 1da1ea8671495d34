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
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw
import structlog

from taskloom_server.graph.errors import DomainError, RequestIdReused, Superseded
from taskloom_server.graph.events import EventType, Revision
from taskloom_server.graph.temperature import DEFAULT_WEIGHTS, Weights
from taskloom_server.graph.workflows import Workflows
from taskloom_server.store.connections import writing
from taskloom_server.store.requests import Answer
from taskloom_server.store.transaction import Noted, Transaction
from taskloom_server.store.waiting import Waiting, WaitingLine

Ask = TypeVar("Ask")
Result = TypeVar("Result")
Verb = Callable[[Transaction, Ask], Result | DomainError | Waiting]

_GROUP = 256  # verbs a transaction at the most, so that nobody waits for a crowd behind him


@dataclass(frozen=True, slots=True)
class Idempotent(Generic[Result]):
    """How an answer is remembered under the request_id of its request."""

    request_id: str
    fingerprint: bytes  # of the request: the same id with another one is refused
    encode: Callable[[Result], bytes]
    decode: Callable[[bytes], Result]
    worth_it: Callable[[Result], bool]  # whether the answer is to be remembered


@dataclass(frozen=True, slots=True)
class Committed:
    """What a group has changed, told after its commit."""

    revision: int
    revisions: tuple[Revision, ...]
    incarnation: str
    deadline: int | None  # the earliest time at which something but a lease is due, Unix ms
    leases: tuple[tuple[str, int], ...]  # workers, and when a lease of theirs may end


@dataclass(slots=True)
class _Job:
    verb: Callable[[Transaction, Any], Any]
    ask: Any
    idempotent: Idempotent[Any] | None
    future: "asyncio.Future[Any]"
    undo: Callable[[Transaction, Any], Any] | None = None
    answer: Any = None
    taken: Sequence[int] = ()  # what the ready tasks asked that it took
    error: Exception | None = None

    @property
    def name(self) -> str:
        """The id under which the request may come again; empty: none."""
        return self.idempotent.request_id if self.idempotent else ""

    def gone(self) -> bool:
        """Whether whoever asked has given up."""
        return self.future.done()


def _nothing(_tx: Transaction, _ask: None) -> None:
    """No verb: the writer is to look after those who wait."""


_TEND: Any = _Job(_nothing, None, None, None)  # type: ignore[arg-type]

# What may be the end of all that somebody waits for.
_ENDINGS = frozenset(
    {
        EventType.TASK_COMPLETED,
        EventType.TASK_FAILED,
        EventType.TASK_CANCELLED,
        EventType.TASK_DELETED,
        EventType.TASK_MOVED,
        EventType.DEPENDENCY_REMOVED,  # of a child, which ends what is below its parent
    }
)


@dataclass(slots=True)
class _Group:
    """What a group of verbs has come to so far."""

    revision: int
    answered: list[_Job] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    deadlines: list[int] = field(default_factory=list)
    leases: dict[str, int] = field(default_factory=dict)

    def note(self, noted: Noted) -> None:
        """Take over when something will be due."""
        if noted.deadline is not None:
            self.deadlines.append(noted.deadline)
        for worker_id, deadline in noted.leases:
            self.leases[worker_id] = min(deadline, self.leases.get(worker_id, deadline))


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
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gone: queue.SimpleQueue[_Job] = queue.SimpleQueue()  # who stopped waiting
        self._line: WaitingLine[_Job] = WaitingLine()
        self._dismissing = False
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
    ) -> Result:
        """Run a verb in a transaction; its answer, once that is committed.

        Raises what the verb raised, or the refusal that it returned. A caller that gives up
        cancels his waiting, not the transaction; ``undo`` is then run with the answer that
        nobody was there to hear. A verb that answers ``Waiting`` is run again when there is
        something for it.
        """
        if self._stopped:
            raise WriterStopped
        future: asyncio.Future[Result] = self._loop.create_future()
        job = _Job(verb, ask, idempotent, future, undo)
        self._jobs.put(job)
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._gone.put(job)
                self._jobs.put(_TEND)
            else:  # cancelled in the instant between the answer and hearing it
                self._take_back(job)
            raise

    def dismiss(self) -> None:
        """Tell all who wait that the server is going."""
        self._dismissing = True
        self._jobs.put(_TEND)

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
            transaction = Transaction(connection, self._workflows, self._rng, self._weights)
            begun = self._begin(transaction)
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

    def _begin(self, tx: Transaction) -> Committed:
        """The first transaction of all makes the row about the whole."""
        with tx.connection:
            if not tx.connection.execute('SELECT 1 FROM "system"').fetchall():
                tx.system.begin(revision=0, now=self._clock())
            system = tx.system.get()
            due = tx.tasks.next_due(0)
            leases = tx.tasks.lease_ends()
            for worker_id in tx.advisory_claims.workers():
                leases[worker_id] = self._clock()  # looked at once, and then it is known
        tx.committed, tx.incarnation = system.revision, system.incarnation
        return Committed(system.revision, (), system.incarnation, due, tuple(leases.items()))

    def _serve(self, tx: Transaction) -> None:
        while True:
            group = [self._jobs.get()]
            while len(group) < _GROUP and not self._jobs.empty():
                group.append(self._jobs.get())
            self._tend_line()
            jobs = [job for job in group if job is not None and job is not _TEND]
            if jobs:
                answered, committed = self._commit(tx, jobs)
                self._loop.call_soon_threadsafe(self._deliver, answered, committed)
            if None in group:
                return

    def _tend_line(self) -> None:
        """Let those leave the line who gave up, or all of them when the server is going."""
        while not self._gone.empty():
            gone = self._gone.get()
            self._line.leave(gone, gone.name)
        if self._dismissing:
            dismissed = self._line.all()
            for job in dismissed:
                self._line.leave(job, job.name)
                job.error = WriterStopped()
            self._loop.call_soon_threadsafe(self._answer, dismissed)

    def _commit(self, tx: Transaction, jobs: list[_Job]) -> tuple[list[_Job], Committed]:
        """Run a group of verbs in one transaction; those that have an answer now."""
        execute = tx.connection.execute
        before = tx.committed
        group = _Group(revision=before)
        execute("BEGIN IMMEDIATE")
        for job in jobs:
            self._attempt(tx, job, group)
        for job in self._line.due(self._clock()):
            self._attempt(tx, job, group)
        if group.revision > before:
            tx.system.advance(group.revision)
        execute("COMMIT")
        tx.committed = group.revision
        times = [*group.deadlines, *filter(None, [self._line.next_time()])]
        return group.answered, Committed(
            group.revision,
            tuple(group.revisions),
            tx.incarnation,
            min(times, default=None),
            tuple(group.leases.items()),
        )

    def _attempt(self, tx: Transaction, job: _Job, group: "_Group") -> bool:
        """Run one verb under a savepoint, and then those whom it gave something to do.

        False: the verb waits (still).
        """
        ticket = self._line.leave(job, job.name)
        again = ticket is not None
        if ticket is None:
            ticket = self._supersede(job, group)
        tx.begin(self._clock(), group.revision, again=again)
        incarnation = tx.incarnation
        execute = tx.connection.execute
        execute("SAVEPOINT verb")
        try:
            waiting = self._perform(tx, job)
            noted = tx.noted
            events = noted.events
            if events and (waiting is None or self._dismissing):
                tx.events.insert(group.revision + 1, events)
        except Exception as error:
            if isinstance(error, apsw.Error) and not isinstance(error, apsw.ConstraintError):
                raise  # the disk, not the verb
            execute("ROLLBACK TO verb")
            execute("RELEASE verb")
            tx.requirements.forget()
            tx.incarnation = incarnation
            job.error = error
            group.answered.append(job)
            return True
        execute("RELEASE verb")
        if tx.incarnation != incarnation:
            group.revisions.clear()  # they were of the life that this verb ended
        group.note(noted)
        if waiting is not None and not self._dismissing:
            if not job.gone():
                self._line.join(job, waiting, ticket, job.name)
            return False
        if waiting is not None:
            job.error = WriterStopped()
        group.answered.append(job)
        job.taken = noted.taken
        if events:
            group.revision += 1
            group.revisions.append(Revision(group.revision, tuple(events)))
        if len(self._line):
            self._call_up(tx, group, noted)
        return True

    def _supersede(self, job: _Job, group: "_Group") -> int | None:
        """Let a retried call stand in the place of the one that waits under its request_id."""
        other = self._line.named(job.name)
        if other is None or job.idempotent is None or other.idempotent is None:
            return None
        if other.idempotent.fingerprint != job.idempotent.fingerprint:
            return None  # refused when it has been answered; two may wait meanwhile
        ticket = self._line.leave(other, other.name)
        other.error = Superseded("the same request came again, and its answer goes there")
        group.answered.append(other)
        return ticket

    def _call_up(self, tx: Transaction, group: "_Group", noted: Noted) -> None:
        """Give what has become ready to those who wait longest, each task to one of them."""
        again = self._line.all() if noted.recheck else self._line.of_workers(noted.freed)
        for job in again:
            self._line.may_again(job)
        if noted.readied or noted.roomy:
            self._offer(tx, group, [*noted.readied, *noted.roomy])
        for job in again:
            if self._line.waiting(job) is not None:
                self._attempt(tx, job, group)
        if any(event.type in _ENDINGS for event in noted.events):
            self._dismiss_done(tx, group, anywhere=not noted.readied)

    def _offer(self, tx: Transaction, group: "_Group", readied: Sequence[int]) -> None:
        """Offer tasks, of which is said what they ask, to those who wait for such, in their turn.

        What is taken by an advisory claim is left to the next one, too.
        """
        left = Counter(readied)

        def wanted(place: tuple[tuple[str, ...], str]) -> bool:
            return not left.keys().isdisjoint(tx.requirements.admitting(place[0]))

        places = [place for place in self._line.kinds() if wanted(place)]
        for job, waiting in self._line.in_turn(places):
            if self._attempt(tx, job, group):
                if job.taken:  # another may only have been told why there is nothing
                    left -= Counter(job.taken)
                    places[:] = [place for place in places if wanted(place)]
            elif not waiting.shares and self._line.waiting(job) == waiting:
                places.remove((waiting.tags, waiting.scope))  # it is not below their scope

    def _dismiss_done(self, tx: Transaction, group: "_Group", *, anywhere: bool) -> None:
        """Tell those who wait when every task that they could wait for has ended.

        ``anywhere``: it may be so of those who wait for any task, too.
        """
        anywhere = anywhere and not tx.tasks.any_with_status(tx.workflows.open_statuses)
        for tags, scope in self._line.kinds():
            if not (scope or anywhere):
                continue
            for job, waiting in self._line.in_turn([(tags, scope)]):
                if not waiting.when_done and not self._attempt(tx, job, group):
                    break

    def _perform(self, tx: Transaction, job: _Job) -> Waiting | None:
        """Run one verb, or find the answer that it was given before. Waiting: no answer yet."""
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
                return None
        answer = job.verb(tx, job.ask)
        if isinstance(answer, Waiting):
            return answer
        if isinstance(answer, DomainError):
            job.error = answer  # refused, but what it wrote is kept
            return None
        job.answer = answer
        if remember is not None and remember.worth_it(answer):
            response = remember.encode(answer)
            tx.requests.put(remember.request_id, Answer(remember.fingerprint, response), tx.now)
        return None

    def _deliver(self, jobs: list[_Job], committed: Committed) -> None:
        """Tell the revision, then answer everybody. On the event loop, once for a group."""
        self._on_commit(committed)
        self._answer(jobs)

    def _answer(self, jobs: list[_Job]) -> None:
        for job in jobs:
            if job.gone():
                self._take_back(job)
            elif job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.answer)

    def _take_back(self, job: _Job) -> None:
        """Undo what nobody was there to hear, if it can be undone."""
        if job.undo is not None and job.error is None and not self._stopped:
            nobody: asyncio.Future[Any] = self._loop.create_future()
            self._jobs.put(_Job(job.undo, job.answer, None, nobody))
