"""The task as the rules see it, and when it is ready."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from taskloom_server.graph.temperature import DEFAULT_WEIGHTS, Warmth, born

DEFAULT_PRIORITY = 5
DEFAULT_MAX_ATTEMPTS = 5
LONGEST_RETRY_DELAY_MS = 24 * 3600 * 1000

# An advisory claim: who, its fencing token, since when and its lease, in ms.
AdvisoryClaim = tuple[str, int, int, int]


class Task(NamedTuple):
    """One row of ``tasks``, in the order of ``store.tasks.COLUMNS``.

    A named tuple where the house's habit is a frozen dataclass: a row becomes one in 0.9 µs
    against 5 µs, and a changed copy takes 1.1 µs against 12 µs (measured, CPython 3.11).
    Times are Unix milliseconds, durations milliseconds.
    """

    tags: tuple[str, ...]
    needed_tags: tuple[str, ...]
    wanted_tags: tuple[str, ...]
    advisory_claims: tuple[AdvisoryClaim, ...]  # oldest first
    number: int  # order of creation
    id: str
    title: str
    description: str
    status: str
    phase: str | None
    priority: int
    parent_id: str | None
    worker_id: str | None
    claimed_at: int | None
    points: int | None
    time_estimate_ms: int | None
    time_actual_ms: int
    started_at: int | None
    completed_at: int | None
    current_thought: str | None
    metric_0: int
    metric_1: int
    metric_2: int
    metric_3: int
    metric_4: int
    metric_5: int
    metric_6: int
    metric_7: int
    cost_usd: float
    deleted_at: int | None
    deleted_by: str | None
    deleted_reason: str | None
    created_at: int
    updated_at: int
    workflow: str
    revision: int  # the last that changed the task
    claim_revision: int | None  # the fencing token while claimed, else None
    lease_ms: int | None  # the claim lasts so long after its worker's last sign of life
    lease_since: int | None  # or after this, where that is later; the claim's beginning at first
    parked_lease_ms: int | None  # in a parked state: the lease that stands still meanwhile
    lapsed_worker_id: str | None  # whose lease ran out, while nobody took the task since
    lapsed_claim_revision: int | None
    not_before: int | None  # None again once it has passed
    attempts: int  # claims that ended otherwise than by completion
    max_attempts: int
    retry_delay_ms: int | None  # after the first failed attempt, then doubled
    ready_at: int | None  # when it became ready for the last time
    unmet_blockers: int  # start-blockers, counted by task, that hold it back
    open_children: int  # children in a blocking state
    claimable: int  # 1 in the initial state, unowned and not deleted
    paused: int  # how many pauses and spent budgets there are of it and those above it
    requirement_id: int  # what it asks of a worker: a row of ``requirements``
    sequence_id: int | None  # its open row in ``task_sequence``
    state_since: int | None  # since when it is in a timed state
    activity: float  # this and the next five: see graph.temperature.Warmth
    breakthrough: float
    boost: float
    active_at: int
    progressed_at: int
    heat: float
    max_cost_usd: float | None  # that it and all below it may cost together
    max_subtree_attempts: int | None  # that it and all below it may fail together
    budgets: int  # how many are over it, its own included
    lease_until: int | None  # over budget: the lease ends then, whatever its worker does
    delete_revision: int | None  # what was deleted together shares it
    lease_expires_at: int | None  # while claimed: of the worker's last sign of life

    @property
    def ready(self) -> bool:
        """Whether some worker may take it: the part of admission that asks no worker."""
        return bool(
            self.claimable
            and not self.unmet_blockers
            and not self.open_children
            and self.not_before is None
            and not self.paused
        )

    @property
    def claimed(self) -> bool:
        """Whether a worker holds it."""
        return self.claim_revision is not None

    @property
    def warmth(self) -> Warmth:
        """What its temperature is made of."""
        return Warmth(
            self.activity,
            self.breakthrough,
            self.boost,
            self.active_at,
            self.progressed_at,
            self.heat,
        )

    def changed(self, changes: Mapping[str, Any]) -> "Task":
        """A copy with other values in these columns: ``_replace`` in a third of its time."""
        values = list(self)
        for column, value in changes.items():
            values[_PLACES[column]] = value
        return tuple.__new__(Task, values)

    def advisory_claim(self, worker_id: str) -> AdvisoryClaim | None:
        """The advisory claim by which this worker works on it."""
        return next((c for c in self.advisory_claims if c[0] == worker_id), None)

    def retry_delay(self, attempts: int) -> int:
        """How long it rests after so many failed attempts, in ms."""
        if not self.retry_delay_ms:
            return 0
        doublings = min(attempts - 1, 32)
        return min(self.retry_delay_ms << doublings, LONGEST_RETRY_DELAY_MS)

    @property
    def metrics(self) -> tuple[int, ...]:
        """The eight counters in order."""
        return (
            self.metric_0,
            self.metric_1,
            self.metric_2,
            self.metric_3,
            self.metric_4,
            self.metric_5,
            self.metric_6,
            self.metric_7,
        )


_PLACES = {column: place for place, column in enumerate(Task._fields)}


def new_task(
    *, id: str, title: str, description: str, status: str, workflow: str, now: int, revision: int
) -> Task:
    """A task of which nothing else is known; not claimable until somebody says so."""
    warmth = born(DEFAULT_PRIORITY, now, DEFAULT_WEIGHTS)
    return Task(
        tags=(),
        needed_tags=(),
        wanted_tags=(),
        advisory_claims=(),
        number=0,
        id=id,
        title=title,
        description=description,
        status=status,
        phase=None,
        priority=DEFAULT_PRIORITY,
        parent_id=None,
        worker_id=None,
        claimed_at=None,
        points=None,
        time_estimate_ms=None,
        time_actual_ms=0,
        started_at=None,
        completed_at=None,
        current_thought=None,
        metric_0=0,
        metric_1=0,
        metric_2=0,
        metric_3=0,
        metric_4=0,
        metric_5=0,
        metric_6=0,
        metric_7=0,
        cost_usd=0.0,
        deleted_at=None,
        deleted_by=None,
        deleted_reason=None,
        created_at=now,
        updated_at=now,
        workflow=workflow,
        revision=revision,
        claim_revision=None,
        lease_ms=None,
        lease_since=None,
        parked_lease_ms=None,
        lapsed_worker_id=None,
        lapsed_claim_revision=None,
        not_before=None,
        attempts=0,
        max_attempts=DEFAULT_MAX_ATTEMPTS,
        retry_delay_ms=None,
        ready_at=None,
        unmet_blockers=0,
        open_children=0,
        claimable=0,
        paused=0,
        requirement_id=0,
        sequence_id=None,
        state_since=None,
        **warmth._asdict(),
        max_cost_usd=None,
        max_subtree_attempts=None,
        budgets=0,
        lease_until=None,
        delete_revision=None,
        lease_expires_at=None,
    )


class TaskChanges(TypedDict, total=False):
    """The columns that a verb may change."""

    revision: int
    updated_at: int
    tags: tuple[str, ...]
    needed_tags: tuple[str, ...]
    wanted_tags: tuple[str, ...]
    title: str
    description: str
    status: str
    phase: str | None
    priority: int
    parent_id: str | None
    worker_id: str | None
    claimed_at: int | None
    points: int | None
    time_estimate_ms: int | None
    time_actual_ms: int
    started_at: int | None
    completed_at: int | None
    metric_0: int
    metric_1: int
    metric_2: int
    metric_3: int
    metric_4: int
    metric_5: int
    metric_6: int
    metric_7: int
    cost_usd: float
    deleted_at: int | None
    deleted_by: str | None
    deleted_reason: str | None
    claim_revision: int | None
    lease_ms: int | None
    lease_since: int | None
    parked_lease_ms: int | None
    advisory_claims: tuple[AdvisoryClaim, ...]
    lapsed_worker_id: str | None
    lapsed_claim_revision: int | None
    not_before: int | None
    attempts: int
    max_attempts: int
    retry_delay_ms: int | None
    ready_at: int | None
    unmet_blockers: int
    open_children: int
    claimable: int
    paused: int
    requirement_id: int
    sequence_id: int | None
    state_since: int | None
    activity: float
    breakthrough: float
    boost: float
    active_at: int
    progressed_at: int
    heat: float
    workflow: str
    current_thought: str | None
    max_cost_usd: float | None
    max_subtree_attempts: int | None
    budgets: int
    lease_until: int | None
    delete_revision: int | None


BLOCKS = "blocks"
FOLLOWS = "follows"
CONTAINS = "contains"
START_BLOCKING = (BLOCKS, FOLLOWS)  # the start of `to` waits for the end of `from`
DEPENDENCY_TYPES = (BLOCKS, FOLLOWS, CONTAINS, "duplicate", "see-also", "relates-to")


class Dependency(NamedTuple):
    """A directed edge: ``from_task_id`` blocks, or contains, ``to_task_id``."""

    from_task_id: str
    to_task_id: str
    dep_type: str


class Transition(NamedTuple):
    """One row of ``task_sequence``; a None status or phase means unchanged."""

    id: int
    task_id: str
    worker_id: str | None
    status: str | None
    phase: str | None
    reason: str | None
    timestamp: int
    end_timestamp: int | None


class Attachment(NamedTuple):
    """One row of ``attachments``.

    ``content`` is None where it was not asked for, and where it is kept in a file of the media
    folder: that is named ``file_path``, the SHA-256 of the content.
    """

    task_id: str
    attachment_type: str
    sequence: int
    name: str
    mime_type: str
    size: int
    created_at: int
    file_path: str | None = None
    content: bytes | None = None


LOCK_PREFIX = "lock:"  # of a path that is no file, but a resource that one worker holds at a time


class FileMark(NamedTuple):
    """One row of ``file_locks``: a worker's word that it works on a file, or its lock."""

    file_path: str
    worker_id: str
    task_id: str | None
    reason: str | None
    locked_at: int

    @property
    def is_lock(self) -> bool:
        """Whether it keeps others out."""
        return is_lock(self.file_path)


def is_lock(path: str) -> bool:
    """Whether a path names a resource that one worker holds at a time."""
    return path.startswith(LOCK_PREFIX)


class Requirement(NamedTuple):
    """What a group of tasks asks of a worker."""

    id: int
    needed_tags: frozenset[str]
    wanted_tags: frozenset[str]
    workflow: str = ""

    def admits(self, tags: frozenset[str]) -> bool:
        """Whether a worker with these tags may take the tasks of the group."""
        return self.needed_tags <= tags and (not self.wanted_tags or bool(self.wanted_tags & tags))
