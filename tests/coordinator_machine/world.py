"""The world of the model: tasks, workers and dependencies, and all that follows from them.

Nothing here is kept up to date: no counters, no indexes, no columns that are derived. What is
ready, and for whom, is worked out anew whenever somebody asks. Times in Unix ms, durations in ms.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

OPEN = ("pending", "assigned", "working", "waiting")
HELD = ("assigned", "working", "waiting")
ENDED = ("completed", "failed", "cancelled")
EXITS = {
    "pending": ("assigned", "working", "cancelled"),
    "assigned": ("working", "pending", "cancelled"),
    "working": ("completed", "failed", "pending", "waiting"),
    "waiting": ("working", "completed", "failed", "pending", "cancelled"),
    "completed": ("pending",),
    "failed": ("pending",),
    "cancelled": (),
}
_LETS_GO = ("completed", "cancelled")
_HOLDS_START = ("blocks", "follows")
DAY = 24 * 3600 * 1000
DEFAULT_LEASE = 900_000
_COLDEST = 2.0**-20

Edge = tuple[str, str, str]
"""From, to, type."""
Tags = frozenset[str]


@dataclass
class Advice:
    """An advisory claim; ``claim`` is its token."""

    worker: str
    claim: int
    since: int
    lease: int


@dataclass
class Task:
    """A task. ``claim``, of 0 while nobody holds it, is the token of the claim."""

    number: int
    id: str
    priority: int = 5
    needed: Tags = frozenset()
    wanted: Tags = frozenset()
    max_attempts: int = 5
    retry_delay: int = 0
    not_before: int | None = None
    status: str = "pending"
    worker: str = ""
    claim: int = 0
    lease: int = 0
    lease_since: int = 0
    advice: list[Advice] = field(default_factory=list)
    lapsed: tuple[str, int] = ("", 0)
    attempts: int = 0
    worked: int = 0
    since: int = 0
    ready_at: int | None = None
    revision: int = 0
    deleted: bool = False
    activity: float = 0.0
    breakthrough: float = 0.0
    boost: float = 0.0
    active_at: int = 0
    progressed_at: int = 0

    @property
    def held(self) -> bool:
        """Whether a worker holds it exclusively."""
        return self.claim != 0

    def admits(self, tags: Tags) -> bool:
        """Whether a worker with these tags may take it."""
        return self.needed <= tags and (not self.wanted or bool(self.wanted & tags))

    def advice_of(self, worker: str) -> Advice | None:
        """The advisory claim of a worker."""
        return next((one for one in self.advice if one.worker == worker), None)

    def rest_after(self, attempts: int) -> int:
        """How long it rests after so many failed attempts."""
        return min(self.retry_delay << (attempts - 1), DAY)

    @property
    def temperature(self) -> float:
        """As of its last activity."""
        value = (
            self.priority / 10
            + 0.2 * self.activity
            + 0.3 * self.breakthrough
            - 0.1 * ((self.active_at - self.progressed_at) / DAY)
            + 0.5 * self.boost
        )
        return min(1.0, max(_COLDEST, value))

    @property
    def heat(self) -> float:
        """What all tasks can be ordered by, since all temperatures halve in a day."""
        return math.log2(self.temperature) + self.active_at / DAY


@dataclass
class Worker:
    """A registration."""

    id: str
    registered: int
    tags: Tags = frozenset()
    max_claims: int = 1
    lease: int = DEFAULT_LEASE
    cool_down: int = 0
    seen: int = 0
    rests_until: int = 0
    grace_until: int | None = None
    connected: bool = True
    attempts: int = 0
    granted: int = 0
    lost: int = 0
    last_status: str = ""


@dataclass(frozen=True)
class Node:
    """A task to be, with those below it."""

    id: str
    priority: int = 5
    needed: Tags = frozenset()
    wanted: Tags = frozenset()
    not_before: int | None = None
    max_attempts: int = 5
    retry_delay: int = 0
    blocked_by: tuple[str, ...] = ()
    children: tuple["Node", ...] = ()

    def all(self) -> Iterator["Node"]:
        """The node and all below it, each before its children."""
        yield self
        for child in self.children:
            yield from child.all()


@dataclass(frozen=True)
class Terms:
    """What a worker asks for when it connects; 0: the default."""

    tags: Tags
    max_claims: int
    lease: int
    cool_down: int = 0


@dataclass(frozen=True)
class Next:
    """A claim of the best tasks there are, and how long it waits for them."""

    worker: str
    max_tasks: int = 1
    lease: int = 0
    scope: str = ""
    wait: int = 0
    when_done: bool = False
    hottest: bool = False
    advisory: bool = False


@dataclass
class World:
    """All there is, and what the verb that is being done has told of so far."""

    now: int
    revision: int = 0
    paused: bool = False
    pauses: set[str] = field(default_factory=set)
    tasks: dict[str, Task] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    edges: set[Edge] = field(default_factory=set)
    told: list[tuple[str, str]] = field(default_factory=list)
    """Types of events, and what each is about."""
    freed: set[str] = field(default_factory=set)
    """Workers that may be able to take more since."""
    turned: bool = False
    """Everybody may be."""

    # Tasks

    def alive(self, id: str) -> bool:
        """Whether a task is not deleted."""
        return not self.tasks[id].deleted

    def living(self) -> list[Task]:
        """The tasks that are not deleted, oldest first."""
        return [task for task in self.tasks.values() if not task.deleted]

    def holds_back(self, id: str) -> bool:
        """Whether what depends on the task must wait."""
        return self.alive(id) and self.tasks[id].status not in _LETS_GO

    def blockers(self, id: str) -> set[str]:
        """What the start of the task waits for."""
        return {
            from_
            for from_, to, type_ in self.edges
            if to == id and type_ in _HOLDS_START and self.holds_back(from_)
        }

    def children(self, id: str) -> set[str]:
        """The children that are not deleted."""
        return {
            to
            for from_, to, type_ in self.edges
            if (from_, type_) == (id, "contains") and self.alive(to)
        }

    def open_children(self, id: str) -> set[str]:
        """What the end of the task waits for."""
        return {child for child in self.children(id) if self.holds_back(child)}

    def parent(self, id: str) -> str:
        """The task that contains this one, or nothing."""
        return next((f for f, to, type_ in self.edges if (to, type_) == (id, "contains")), "")

    def below(self, id: str) -> set[str]:
        """All descendants that are not deleted."""
        found, stack = set[str](), [id]
        while stack:
            children = self.children(stack.pop())
            found |= children
            stack += children
        return found

    def hindered(self, id: str) -> bool:
        """Whether other tasks hold it back."""
        return bool(self.blockers(id) or self.open_children(id))

    def is_paused(self, id: str) -> bool:
        """Whether the task, or one above it, is paused."""
        while id and id not in self.pauses:
            id = self.parent(id)
        return bool(id)

    def free(self, id: str) -> bool:
        """Whether it is where claims begin."""
        task = self.tasks[id]
        return not task.deleted and task.status == "pending"

    def ready(self) -> set[str]:
        """What a worker with the right tags could take."""
        return {
            id
            for id, task in self.tasks.items()
            if self.free(id)
            and task.not_before is None
            and not self.hindered(id)
            and not self.is_paused(id)
        }

    def best(self, *, hottest: bool = False) -> list[Task]:
        """The ready tasks in the order in which they are to be taken."""
        return sorted(
            (self.tasks[id] for id in self.ready()),
            key=lambda task: (
                bool(task.advice),
                -(task.heat if hottest else task.priority),
                task.number,
            ),
        )

    def all_done(self, scope: str) -> bool:
        """Whether every task (of the scope) has ended."""
        ids = self.below(scope) if scope else self.tasks.keys()
        return not any(self.alive(id) and self.tasks[id].status in OPEN for id in ids)

    def awaited(self, ids: list[str]) -> set[str]:
        """All whose end the ends of these wait for."""
        seen, stack = set[str](), list(ids)
        while stack:
            here = stack.pop()
            for from_, to, type_ in self.edges:
                if type_ == "duplicate" or not (self.alive(from_) and self.alive(to)):
                    continue
                waiting, awaited = (from_, to) if type_ == "contains" else (to, from_)
                if waiting == here and awaited not in seen:
                    seen.add(awaited)
                    stack.append(awaited)
        return seen

    # Workers and their claims

    def held_by(self, worker: str) -> list[Task]:
        """The tasks that a worker holds exclusively, oldest first."""
        return [task for task in self.tasks.values() if task.held and task.worker == worker]

    def advised_by(self, worker: str) -> list[tuple[Task, Advice]]:
        """The advisory claims of a worker."""
        return [
            (task, one)
            for task in self.tasks.values()
            for one in task.advice
            if one.worker == worker
        ]

    def load(self, worker: str) -> int:
        """How many tasks a worker holds in either way, those not counted that are parked."""
        begun = [task for task in self.held_by(worker) if task.status != "waiting"]
        return len(begun) + len(self.advised_by(worker))

    def at_limit(self, worker: str) -> bool:
        """Whether a connected worker holds all that it may."""
        one = self.workers[worker]
        return one.connected and self.load(worker) >= one.max_claims

    def hindrance(self, worker: Worker, load: int) -> str:
        """Why a worker with this load may take no task at all just now; nothing when it may."""
        if self.paused:
            return "PAUSED"
        if load >= worker.max_claims:
            return "LIMIT_REACHED"
        return "COOLING_DOWN" if worker.rests_until > self.now else ""

    def choice(self, ask: Next) -> list[Task]:
        """The ready tasks that may be given to a worker, best first."""
        found = [
            task
            for task in self.best(hottest=ask.hottest)
            if task.admits(self.workers[ask.worker].tags)
        ]
        if ask.scope:
            below = self.below(ask.scope)
            found = [task for task in found if task.id in below]
        if ask.advisory:
            found = [task for task in found if task.advice_of(ask.worker) is None]
        return found

    def lease_end(self, task: Task) -> int | None:
        """When the claim of a held task ends unless its worker gives a sign of life."""
        if not task.held or task.status == "waiting":
            return None
        return self._end(task.worker, task.lease_since, task.lease)

    def advice_end(self, advice: Advice) -> int:
        """Likewise, of an advisory claim."""
        return self._end(advice.worker, advice.since, advice.lease)

    def _end(self, worker: str, since: int, lease: int) -> int:
        one = self.workers[worker]
        end = max(since, one.seen) + lease
        if one.grace_until is None or one.grace_until <= since:
            return end
        return min(end, one.grace_until)

    def deadlines(self) -> list[int]:
        """All times at which something happens to a task by itself."""
        times = [task.not_before for task in self.living()]
        times += [self.lease_end(task) for task in self.living()]
        times += [self.advice_end(one) for task in self.living() for one in task.advice]
        return sorted(time for time in times if time is not None)
