"""What a verb is given: the tables on one connection, the time, and the revision it makes."""

import random
from collections import deque
from dataclasses import dataclass

import apsw

from taskloom_server.graph.events import Aspect, Event, EventType
from taskloom_server.graph.tasks import Attachment, Dependency, FileMark, Task
from taskloom_server.graph.workers import Pause, Worker
from taskloom_server.graph.workflows import Workflows
from taskloom_server.store.attachments import AttachmentTable
from taskloom_server.store.dependencies import DependencyTable
from taskloom_server.store.events import EventTable
from taskloom_server.store.file_marks import FileMarkTable
from taskloom_server.store.listing import TaskListing
from taskloom_server.store.ready import ReadyTasks
from taskloom_server.store.requests import RequestTable
from taskloom_server.store.requirements import RequirementTable
from taskloom_server.store.system import SystemTable
from taskloom_server.store.tasks import TaskTable
from taskloom_server.store.transitions import TransitionTable
from taskloom_server.store.workers import WorkerTable


def _aspect(task: Task, ancestors: tuple[str, ...]) -> Aspect:
    """What the filters of watches look at."""
    return Aspect(task.status, task.worker_id, task.phase, task.tags, ancestors)


@dataclass(slots=True)
class _Noted:
    """What one verb left to be done at its end."""

    events: list[Event]
    deadline: int | None
    readied: list[int]  # the groups of tasks that can be taken since this verb
    recheck: bool  # whether all who wait should be asked again


class Transaction:
    """One connection's tables, handed to one verb after the other.

    Verbs that read get one on a reader's connection, where nothing can be written.
    """

    def __init__(
        self, connection: apsw.Connection, workflows: Workflows, rng: random.Random
    ) -> None:
        self.connection = connection
        self.workflows = workflows
        self.rng = rng
        self.now = 0  # Unix ms, the same for the whole verb
        self.committed = 0  # the revision before this verb
        self.incarnation = ""
        self.rolling_up: deque[str] = deque()  # parents that end by themselves, in their order
        self._noted = _Noted([], None, [], False)

        self.tasks = TaskTable(connection)
        self.ready = ReadyTasks(connection)
        self.listing = TaskListing(connection)
        self.requirements = RequirementTable(connection)
        self.workers = WorkerTable(connection)
        self.dependencies = DependencyTable(connection)
        self.transitions = TransitionTable(connection)
        self.attachments = AttachmentTable(connection)
        self.file_marks = FileMarkTable(connection)
        self.events = EventTable(connection)
        self.requests = RequestTable(connection)
        self.system = SystemTable(connection)

    @property
    def revision(self) -> int:
        """The revision that this verb makes, if it changes anything."""
        return self.committed + 1

    @property
    def seen(self) -> int:
        """The revision for the answer: the one made, or else the one seen."""
        return self.committed + bool(self._noted.events)

    def begin(self, now: int, committed: int) -> None:
        """Get ready for the next verb."""
        self.now = now
        self.committed = committed
        self.rolling_up.clear()
        self._noted = _Noted([], None, [], False)

    def tell_task(
        self,
        type_: EventType,
        task: Task,
        before: Task | None,
        *,
        worker_id: str | None = None,
        reason: str | None = None,
        was_below: tuple[str, ...] | None = None,
    ) -> None:
        """Append an event about a task, as it is and as it was, to this verb's revision.

        ``was_below``: its ancestors before, where one of them has moved.
        """
        ancestors = self.tasks.ancestors(task.parent_id)
        aspect = None
        if task.ready and (
            before is None or not before.ready or before.requirement_id != task.requirement_id
        ):
            self._noted.readied.append(task.requirement_id)
        if before is not None:
            above = was_below
            if above is None:
                same = before.parent_id == task.parent_id
                above = ancestors if same else self.tasks.ancestors(before.parent_id)
            aspect = _aspect(before, above)
        self._noted.events.append(
            Event(type_, self.now, task.id, worker_id, reason or None, task, aspect, ancestors)
        )

    def tell(
        self,
        type_: EventType,
        after: Worker | Dependency | FileMark | Attachment | Pause | None,
        *,
        task_id: str | None = None,
        task: Task | None = None,
        worker_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Append an event about anything else; ``task_id`` names the task that it hangs on.

        ``task`` is that task, where the caller has it at hand.
        """
        if task is None and task_id is not None:
            task = self.tasks.get(task_id)
        aspect = task and _aspect(task, self.tasks.ancestors(task.parent_id))
        self._noted.events.append(
            Event(type_, self.now, task_id, worker_id, reason or None, after, aspect)
        )

    def wake_at(self, deadline: int) -> None:
        """Something will be due then: a lease's end, or a not_before. Unix ms."""
        if self._noted.deadline is None or deadline < self._noted.deadline:
            self._noted.deadline = deadline

    def ask_again(self) -> None:
        """Let all who wait for a task look again: something that held them all back changed."""
        self._noted.recheck = True

    def readied(self) -> tuple[list[int], bool]:
        """The groups of tasks that this verb made ready, and whether all should look again."""
        return self._noted.readied, self._noted.recheck

    def unblocked(self) -> list[str]:
        """The tasks that became ready by this verb so far."""
        return [
            event.task_id
            for event in self._noted.events
            if event.type is EventType.TASK_READY and event.task_id is not None
        ]

    def told(self) -> tuple[list[Event], int | None]:
        """The events of this verb, and the earliest time at which something is due."""
        return self._noted.events, self._noted.deadline
