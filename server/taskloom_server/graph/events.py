"""Events: what happened, with what it happened to as it was afterwards."""

from enum import IntEnum
from typing import NamedTuple

from taskloom_server.graph.tasks import Attachment, Dependency, FileMark, Task
from taskloom_server.graph.workers import Pause, Worker


class EventType(IntEnum):
    """What happened. Numbers are those of the proto and of ``events.type``: fixed."""

    TASK_LISTED = 1
    TASK_CREATED = 2
    TASK_UPDATED = 3
    TASK_READY = 4
    TASK_BLOCKED = 5
    TASK_CLAIMED = 6
    TASK_RELEASED = 7
    TASK_LEASE_EXPIRED = 8
    TASK_COMPLETED = 9
    TASK_FAILED = 10
    TASK_CANCELLED = 11
    TASK_MOVED = 12
    TASK_DELETED = 13
    TASK_SIGNALED = 14
    TASK_BOOSTED = 15
    ADVISORY_CLAIM_MADE = 16
    ADVISORY_CLAIM_ENDED = 17
    TASK_RESTORED = 18
    TASK_RENAMED = 19
    DEPENDENCY_ADDED = 20
    DEPENDENCY_REMOVED = 21
    WORKER_CONNECTED = 30
    WORKER_DISCONNECTED = 31
    WORKER_THOUGHT = 32
    WORKER_UPDATED = 33
    FILE_MARKED = 40
    FILE_UNMARKED = 41
    ATTACHMENT_ADDED = 50
    ATTACHMENT_REMOVED = 51
    PAUSED = 60
    RESUMED = 61
    BUDGET_SPENT = 70
    BUDGET_FREED = 71
    GATE_FORCED = 75
    TASK_OBLITERATED = 80


After = Task | Worker | Dependency | FileMark | Attachment | Pause | None


class Aspect(NamedTuple):
    """What a watch's filter looks at in a task."""

    status: str
    worker_id: str | None
    phase: str | None
    tags: tuple[str, ...]
    ancestors: tuple[str, ...]  # parent first
    # While it is ready, the needed and the wanted tags of those who may take it.
    ready_for: tuple[tuple[str, ...], tuple[str, ...]] | None


def aspect_of(task: Task, ancestors: tuple[str, ...]) -> Aspect:
    """What a filter looks at in a task that has these ancestors."""
    return Aspect(
        task.status,
        task.worker_id,
        task.phase,
        task.tags,
        ancestors,
        (task.needed_tags, task.wanted_tags) if task.ready else None,
    )


class Event(NamedTuple):
    """One row of ``events``.

    ``before`` is the aspect of the task before, where there was one, so that a watch can
    tell from the event alone whether the task has left its filter; of an event about something
    that hangs on a task it is the aspect of that task. ``ancestors`` are those of the task
    after, nearest first.
    """

    type: EventType
    time: int  # Unix ms
    task_id: str | None
    worker_id: str | None
    reason: str | None
    after: After
    before: Aspect | None = None
    ancestors: tuple[str, ...] = ()

    def aspect(self) -> Aspect | None:
        """What a filter looks at in the task after; None if the event is about no task."""
        task = self.after
        if not isinstance(task, Task):
            return self.before
        return aspect_of(task, self.ancestors)

    def above(self) -> tuple[str, ...]:
        """The tasks that it is and was below; twice those that it still is."""
        return self.ancestors if self.before is None else (*self.ancestors, *self.before.ancestors)


class Revision(NamedTuple):
    """One committed change: its number and all its events, in the order they happened.

    None where they are too many to be kept in memory: they are in the table, then.
    """

    number: int
    events: tuple[Event, ...]
