"""What a verb is given: the tables on one connection, the time, and the revision it makes."""

import random
from collections import deque
from dataclasses import dataclass, field

import apsw

from taskloom_server.graph.events import Aspect, Event, EventType, aspect_of
from taskloom_server.graph.tasks import Attachment, Dependency, FileMark, Task
from taskloom_server.graph.temperature import DEFAULT_WEIGHTS, Weights
from taskloom_server.graph.workers import Pause, Worker
from taskloom_server.graph.workflows import Workflows
from taskloom_server.store.advisory_claims import AdvisoryClaimTable
from taskloom_server.store.attachments import AttachmentTable
from taskloom_server.store.budgets import BudgetTable
from taskloom_server.store.consumed import ConsumedTable
from taskloom_server.store.dependencies import DependencyTable
from taskloom_server.store.events import EventTable
from taskloom_server.store.file_marks import FileMarkTable
from taskloom_server.store.listing import TaskListing
from taskloom_server.store.pauses import PauseTable
from taskloom_server.store.ready import ReadyTasks
from taskloom_server.store.requests import RequestTable
from taskloom_server.store.requirements import RequirementTable
from taskloom_server.store.search import SearchIndex
from taskloom_server.store.system import SystemTable
from taskloom_server.store.task_ids import TaskIds
from taskloom_server.store.tasks import TaskTable
from taskloom_server.store.transitions import TransitionTable
from taskloom_server.store.workers import WorkerTable

_KEPT_EVENTS = 10_000  # as many as the tail keeps at the most


@dataclass(slots=True)
class Noted:
    """What one verb left to be done at its end. Deadlines in Unix ms."""

    events: list[Event] = field(default_factory=list)
    written_down: int = 0  # events before those, which are in the table already
    deadline: int | None = None
    leases: list[tuple[str, int]] = field(default_factory=list)  # a worker, and when one may end
    readied: list[int] = field(default_factory=list)  # groups of tasks that can be taken since
    readied_below: set[str] = field(default_factory=set)  # the tasks that those lie below
    taken: list[int] = field(default_factory=list)  # groups of tasks that cannot any more
    freed: list[str] = field(default_factory=list)  # workers that may be able to take more since
    recheck: bool = False  # whether all who wait should be asked again
    roomy: list[int] = field(default_factory=list)  # groups of tasks that there is room for since
    warnings: list[str] = field(default_factory=list)
    unlocked: list[str] = field(default_factory=list)  # locks that nobody holds any more
    dropped: list[str] = field(default_factory=list)  # files that an attachment less refers to


class Transaction:
    """One connection's tables, handed to one verb after the other.

    Verbs that read get one on a reader's connection, where nothing can be written.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        workflows: Workflows,
        rng: random.Random,
        weights: Weights = DEFAULT_WEIGHTS,
    ) -> None:
        self.connection = connection
        self.workflows = workflows
        self.rng = rng
        self.weights = weights  # of what makes up a temperature
        self.now = 0  # Unix ms, the same for the whole verb
        self.committed = 0  # the revision before this verb
        self.again = False  # whether the verb is asked again, by itself, since it waited
        self.incarnation = ""
        self.rolling_up: deque[str] = deque()  # parents that end by themselves, in their order
        self.noted = Noted()

        self.tasks = TaskTable(connection)
        self.ready = ReadyTasks(connection)
        self.listing = TaskListing(connection)
        self.requirements = RequirementTable(connection)
        self.workers = WorkerTable(connection)
        self.advisory_claims = AdvisoryClaimTable(connection)
        self.pauses = PauseTable(connection)
        self.budgets = BudgetTable(connection)
        self.task_ids = TaskIds(connection)
        self.consumed = ConsumedTable(connection)
        self.dependencies = DependencyTable(connection)
        self.transitions = TransitionTable(connection)
        self.attachments = AttachmentTable(connection)
        self.file_marks = FileMarkTable(connection)
        self.events = EventTable(connection)
        self.requests = RequestTable(connection)
        self.system = SystemTable(connection)
        self.search = SearchIndex(connection)

    @property
    def revision(self) -> int:
        """The revision that this verb makes, if it changes anything."""
        return self.committed + 1

    @property
    def seen(self) -> int:
        """The revision for the answer: the one made, or else the one seen."""
        return self.committed + bool(self.noted.events or self.noted.written_down)

    def begin(self, now: int, committed: int, *, again: bool = False) -> None:
        """Get ready for the next verb."""
        self.now = now
        self.again = again
        self.committed = committed
        self.rolling_up.clear()
        self.noted = Noted()

    def tell_task(
        self,
        type_: EventType,
        task: Task,
        before: Task | None,
        *,
        worker_id: str | None = None,
        reason: str | None = None,
        was_below: tuple[str, ...] | None = None,
        ancestors: tuple[str, ...] | None = None,
    ) -> None:
        """Append an event about a task, as it is and as it was, to this verb's revision.

        ``was_below``: its ancestors before, where one of them has moved; ``ancestors``: those it
        has now, where the caller knows them.
        """
        if ancestors is None:
            ancestors = self.tasks.ancestors(task.parent_id)
        aspect = None
        found_as = None  # by what, and below which tasks, it was found by those who look for one
        if before is not None:
            above = was_below
            if above is None:
                same = before.parent_id == task.parent_id
                above = ancestors if same else self.tasks.ancestors(before.parent_id)
            aspect = aspect_of(before, above)
            if before.ready:
                found_as = before.requirement_id, above
        if task.ready and found_as != (task.requirement_id, ancestors):
            self.noted.readied.append(task.requirement_id)
            self.noted.readied_below.update(ancestors)
        elif found_as and not task.ready:
            self.noted.taken.append(found_as[0])
        self.noted.events.append(
            Event(type_, self.now, task.id, worker_id, reason or None, task, aspect, ancestors)
        )

    def tell_renamed(
        self, task: Task, before: Task, *, worker_id: str | None, reason: str | None
    ) -> None:
        """Append the events of a rename: one about the old id, one about the new."""
        ancestors = self.tasks.ancestors(task.parent_id)
        aspect = aspect_of(before, ancestors)
        self.noted.events.append(
            Event(
                EventType.TASK_RENAMED,
                self.now,
                before.id,
                worker_id,
                reason or None,
                task,
                aspect,
                ancestors,
            )
        )
        self.tell_task(EventType.TASK_UPDATED, task, None, worker_id=worker_id, reason=reason)

    def tell(
        self,
        type_: EventType,
        after: Worker | Dependency | FileMark | Attachment | Pause | None,
        *,
        task_id: str | None = None,
        task: Task | None = None,
        aspect: Aspect | None = None,
        worker_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Append an event about anything else; ``task_id`` names the task that it hangs on.

        ``task`` is that task, or ``aspect`` that of it, where the caller has either at hand.
        """
        if aspect is None:
            if task is None and task_id is not None:
                task = self.tasks.get(task_id)
            aspect = task and aspect_of(task, self.tasks.ancestors(task.parent_id))
        self.noted.events.append(
            Event(type_, self.now, task_id, worker_id, reason or None, after, aspect)
        )

    def write_down(self) -> None:
        """Write the events so far to the table, where they are too many to be kept in memory."""
        noted = self.noted
        if len(noted.events) >= _KEPT_EVENTS:
            self.events.insert(self.revision, noted.events, after=noted.written_down)
            noted.written_down += len(noted.events)
            noted.events = []

    def wake_at(self, deadline: int) -> None:
        """Something that is no lease will be due then, in Unix ms."""
        if self.noted.deadline is None or deadline < self.noted.deadline:
            self.noted.deadline = deadline

    def lease_ends_at(self, worker_id: str, deadline: int) -> None:
        """A lease of the worker ends then, in Unix ms, unless it gives a sign of life."""
        self.noted.leases.append((worker_id, deadline))

    def lease_end_of(self, worker_id: str | None) -> int | None:
        """What was said last in this verb of when a lease of the worker ends."""
        ends = (end for id_, end in reversed(self.noted.leases) if id_ == worker_id)
        return next(ends, None)

    def ask_again(self) -> None:
        """Let all who wait for a task look again: something that held them all back changed."""
        self.noted.recheck = True

    def ask_worker_again(self, worker_id: str) -> None:
        """Let those look again who wait for this worker: it has room for a task, or has gone."""
        self.noted.freed.append(worker_id)

    def has_room(self, workflow: str) -> None:
        """Let those look again who wait for tasks of a workflow: its limit leaves room for one."""
        self.noted.roomy += self.requirements.of_workflow(workflow)

    def warn(self, sentence: str) -> None:
        """Say in the answer what was taken although the workflow does not want it so."""
        self.noted.warnings.append(sentence)

    def ask_for_lock_again(self, path: str) -> None:
        """Let those look again who wait for this lock: nobody holds it any more."""
        self.noted.unlocked.append(path)

    def drop_file(self, name: str) -> None:
        """An attachment that refers to this file of the media folder is gone.

        Once that is committed, the file goes, too, unless another one refers to it.
        """
        self.noted.dropped.append(name)

    def unblocked(self) -> list[str]:
        """The tasks that became ready by this verb so far."""
        return [
            event.task_id
            for event in self.noted.events
            if event.type is EventType.TASK_READY and event.task_id is not None
        ]
