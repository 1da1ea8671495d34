"""The ledger: groups of verbs, each group one transaction, and the line of those who wait.

It knows no thread and no event loop: whoever calls it decides when. The writer calls it on a
thread of its own, a simulation in its own thread between two events.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import apsw

from taskloom_server.graph.errors import ClaimLost, DomainError, RequestIdReused, Superseded
from taskloom_server.graph.events import Event, EventType, Revision
from taskloom_server.store.requests import Answer
from taskloom_server.store.transaction import Noted, Transaction
from taskloom_server.store.waiting import Waiting, WaitingLine

if TYPE_CHECKING:
    import asyncio

Ask = TypeVar("Ask")
Result = TypeVar("Result")
Verb = Callable[[Transaction, Ask], Result | DomainError | Waiting]


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
    dropped: tuple[str, ...] = ()  # files of attachments that an attachment less refers to


@dataclass(slots=True)
class Job:
    """A verb that was submitted, what became of it, and who is to be told."""

    verb: Callable[[Transaction, Any], Any]
    ask: Any
    idempotent: Idempotent[Any] | None
    future: "asyncio.Future[Any]"
    undo: Callable[[Transaction, Any], Any] | None = None
    worker_id: str = ""  # who asks: it lives, also where it is refused
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
    answered: list[Job] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    deadlines: list[int] = field(default_factory=list)
    leases: dict[str, int] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def note(self, noted: Noted) -> None:
        """Take over when something will be due, and what has become of no use."""
        self.dropped += noted.dropped
        if noted.deadline is not None:
            self.deadlines.append(noted.deadline)
        for worker_id, deadline in noted.leases:
            self.leases[worker_id] = min(deadline, self.leases.get(worker_id, deadline))


class WriterStopped(Exception):
    """The writer has stopped, so nothing can be changed any more."""


def answer(jobs: Iterable[Job], take_back: Callable[[Job], None]) -> None:
    """Answer those who asked; ``take_back`` is given what nobody is there to hear."""
    for job in jobs:
        if job.gone():
            take_back(job)
        elif job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.answer)


def _shows_life(error: Exception) -> bool:
    """Whether who is refused with this is who it says: a lost claim may be an earlier life's."""
    return isinstance(error, DomainError) and not isinstance(error, ClaimLost)


def _is_same(job: Job, other: Job) -> bool:
    """Whether two requests of one request_id are the same request."""
    one, two = job.idempotent, other.idempotent
    return one is not None and two is not None and one.fingerprint == two.fingerprint


class Ledger:
    """Runs verbs on the one connection that writes, and remembers who waits for what."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._line: WaitingLine[Job] = WaitingLine()
        self.dismissing = False  # who waits, or would wait from now on, is sent away

    def begin(self, tx: Transaction) -> Committed:
        """The first transaction of all makes the row about the whole."""
        with tx.connection:
            if not tx.connection.execute('SELECT 1 FROM "system"').fetchall():
                tx.system.begin(revision=0, now=self._clock())
            system = tx.system.get()
            due = tx.tasks.next_due(0)
            leases = tx.tasks.lease_ends()
            for worker_id in tx.advisory_claims.workers():
                leases[worker_id] = self._clock()  # looked at once, and then it is known
            for worker_id in tx.file_marks.lock_holders():
                leases[worker_id] = self._clock()
        tx.committed, tx.incarnation = system.revision, system.incarnation
        return Committed(system.revision, (), system.incarnation, due, tuple(leases.items()))

    def leave(self, job: Job) -> None:
        """Whoever asked has given up: nothing is to be looked for any more."""
        self._line.leave(job, job.name)

    def dismiss(self) -> list[Job]:
        """All who wait, who are out of the line now, and to be told that the server is going."""
        dismissed = self._line.all()
        for job in dismissed:
            self.leave(job)
            job.error = WriterStopped()
        return dismissed

    def commit(
        self, tx: Transaction, jobs: Sequence[Job], performed: Callable[[], object] | None = None
    ) -> tuple[list[Job], Committed]:
        """Run a group of verbs in one transaction; those that have an answer now.

        ``performed`` is called when nothing is left but to commit.
        """
        execute = tx.connection.execute
        before = tx.committed
        group = _Group(revision=before)
        execute("BEGIN IMMEDIATE")
        for job in jobs:
            self._attempt(tx, job, group)
        self._attempt_waiting(tx, self._line.due(self._clock()), group)
        if group.revision > before:
            tx.system.advance(group.revision)
        if performed is not None:
            performed()
        execute("COMMIT")
        tx.committed = group.revision
        times = [*group.deadlines, *filter(None, [self._line.next_time()])]
        return group.answered, Committed(
            group.revision,
            tuple(group.revisions),
            tx.incarnation,
            min(times, default=None),
            tuple(group.leases.items()),
            tuple(group.dropped),
        )

    def _attempt(self, tx: Transaction, job: Job, group: "_Group") -> bool:
        """Run one verb under a savepoint, and then those whom it gave something to do.

        False: the verb waits (still).
        """
        ticket = self._line.leave(job, job.name)
        again = ticket is not None
        if ticket is None and not job.gone():
            ticket = self._supersede(job, group)
        tx.begin(self._clock(), group.revision, again=again)
        incarnation = tx.incarnation
        execute = tx.connection.execute
        execute("SAVEPOINT verb")
        try:
            waiting = self._perform(tx, job)
            noted = tx.noted
            events = noted.events
            if events and (waiting is None or self.dismissing):
                tx.events.insert(group.revision + 1, events, after=noted.written_down)
        except Exception as error:
            if isinstance(error, apsw.Error) and not isinstance(error, apsw.ConstraintError):
                raise  # the disk, not the verb
            execute("ROLLBACK TO verb")
            if job.worker_id and not again and _shows_life(error):
                tx.workers.still_lives(job.worker_id, tx.now)
            execute("RELEASE verb")
            tx.requirements.forget()
            tx.system.forget()
            tx.incarnation = incarnation
            job.error = error
            group.answered.append(job)
            return True
        execute("RELEASE verb")
        if tx.incarnation != incarnation:
            group.revisions.clear()  # they were of the life that this verb ended
        group.note(noted)
        if waiting is not None and not self.dismissing:
            if not job.gone():
                self._line.join(job, waiting, ticket, job.name)
            return False
        if waiting is not None:
            job.error = WriterStopped()
        group.answered.append(job)
        job.taken = noted.taken
        if events or noted.written_down:
            group.revision += 1
            kept = () if noted.written_down else tuple(events)
            group.revisions.append(Revision(group.revision, kept))
        if len(self._line):
            self._call_up(tx, group, noted)
        return True

    def _attempt_waiting(self, tx: Transaction, jobs: Iterable[Job], group: "_Group") -> None:
        """Ask those again who wait; one before may have given another what it waits for."""
        for job in jobs:
            if self._line.waiting(job) is not None:
                self._attempt(tx, job, group)

    def _supersede(self, job: Job, group: "_Group") -> int | None:
        """Let a retried call stand in the place of the one that waits under its request_id."""
        other = self._line.named(job.name)
        if other is None or not _is_same(job, other):
            return None
        ticket = self._line.leave(other, other.name)
        other.error = Superseded("the same request came again, and its answer goes there")
        group.answered.append(other)
        return ticket

    def _call_up(self, tx: Transaction, group: "_Group", noted: Noted) -> None:
        """Give what has become ready to those who wait longest, each task to one of them."""
        again = self._line.all() if noted.recheck else self._line.of_workers(noted.freed)
        for job in again:
            self._line.may_again(job)
        for path in noted.unlocked:
            self._let_stand(path)
        if noted.readied or noted.roomy:
            scopes = None if noted.roomy else {"", *noted.readied_below}
            self._offer(tx, group, [*noted.readied, *noted.roomy], scopes)
        for path in noted.unlocked:
            self._hand_on(tx, group, path)
        self._attempt_waiting(tx, again, group)
        endings = [event for event in noted.events if event.type in _ENDINGS]
        if endings:
            self._dismiss_done(tx, group, endings, anywhere=not noted.readied)

    def _offer(
        self,
        tx: Transaction,
        group: "_Group",
        readied: Sequence[int],
        scopes: Container[str] | None,
    ) -> None:
        """Offer tasks, of which is said what they ask, to those who wait for such, in their turn.

        ``scopes``: in which they lie, None: in any. What is taken by an advisory claim is left to
        the next one, too.
        """
        left = Counter(readied)

        def wanted(place: tuple[tuple[str, ...], str]) -> bool:
            return not left.keys().isdisjoint(tx.requirements.admitting(place[0]))

        places = [place for place in self._line.kinds(scopes) if wanted(place)]
        for job, waiting in self._line.in_turn(places):
            for lock in waiting.locks:
                self._hand_on_before(tx, group, lock, job)
            if self._attempt(tx, job, group):
                if job.taken:  # another may only have been told why there is nothing
                    left -= Counter(job.taken)
                    places[:] = [place for place in places if wanted(place)]
            elif not waiting.shares and self._line.waiting(job) == waiting:
                places.remove((waiting.tags, waiting.scope))  # it is not below their scope

    def _let_stand(self, lock: str) -> None:
        """Let the first of each kind that a lock kept from taking tasks be offered them in turn."""
        kinds = set()
        for job in self._line.for_lock(lock):
            waiting = self._line.waiting(job)
            if waiting is not None and waiting.for_task and waiting.kind not in kinds:
                kinds.add(waiting.kind)
                self._line.may_again(job)

    def _hand_on_before(self, tx: Transaction, group: "_Group", lock: str, job: Job) -> None:
        """Let those have a free lock who wait for it alone, and longer than one for a task, too."""
        for other in self._line.for_lock(lock):
            if other is job or tx.file_marks.on(lock):
                return
            waiting = self._line.waiting(other)
            if waiting is not None and not waiting.for_task:
                self._attempt(tx, other, group)

    def _hand_on(self, tx: Transaction, group: "_Group", lock: str) -> None:
        """Give a lock that is free to one of those who wait for it.

        Whoever finds it free and no task beside it speaks for all of his kind: they stand with
        those who wait for a task from now on, and are not asked before there is one.
        """
        jobs = self._line.for_lock(lock)
        if jobs and tx.file_marks.on(lock):
            return  # with a task that was ready
        dry = set()
        for job in jobs:
            waiting = self._line.waiting(job)
            if waiting is None:
                continue
            if waiting.kind in dry:
                self._line.may_again(job)
            elif self._attempt(tx, job, group):
                if tx.file_marks.on(lock):
                    return
            elif waiting.for_task and not waiting.shares:
                after = self._line.waiting(job)
                if after is not None and not after.cannot:
                    dry.add(waiting.kind)

    def _dismiss_done(
        self, tx: Transaction, group: "_Group", endings: Sequence[Event], *, anywhere: bool
    ) -> None:
        """Tell those who wait when every task that they could wait for has ended.

        ``anywhere``: it may be so of those who wait for any task, too.
        """
        anywhere = anywhere and not tx.tasks.any_with_status(tx.workflows.open_statuses)
        scopes = {id_ for event in endings for id_ in event.above()}
        if anywhere:
            scopes.add("")
        for place in self._line.kinds(scopes):
            for job, waiting in self._line.in_turn([place]):
                if not waiting.when_done and not self._attempt(tx, job, group):
                    break
        if anywhere:
            self._attempt_waiting(tx, self._line.held_up(), group)

    def _perform(self, tx: Transaction, job: Job) -> Waiting | None:
        """Run one verb, or find the answer that it was given before. Waiting: no answer yet."""
        remember = job.idempotent
        if remember is not None:
            known = tx.requests.get(remember.request_id, tx.now)
            waits = self._line.named(job.name)
            if (known and known.fingerprint != remember.fingerprint) or (
                waits and not _is_same(job, waits)
            ):
                raise RequestIdReused(
                    f"request_id {remember.request_id!r} belongs to an earlier request with "
                    "other contents; make up a new one for every new request"
                )
            if known is not None:
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
