"""What a coordinator knows, and what it decides by that: which task goes to which worker next.

Only its state and its rule live here: no call, no clock, no chance. The same events lead to the
same decisions, in a process of its own as in a simulation. Who listens, waits and calls is
``coordinator``.
"""

import heapq
from collections import Counter
from dataclasses import dataclass, field

from taskloom import v1

from taskloom_experiments.modes import PART

Rank = tuple[int, int, str]
Requirement = tuple[frozenset[str], frozenset[str]]
"""The tags that a worker must have all of, and those of which it must have one."""


@dataclass(frozen=True)
class Costs:
    """What coordinating costs, in simulated seconds and in tokens; see ``Coordinator``."""

    decision_s: float = 0.0
    notice_s: float = 0.0
    batch: int = 1
    tokens_in: int = 0
    tokens_out: int = 0
    max_backlog: int = 1


@dataclass(frozen=True)
class Assignment:
    """A decision: this task to this worker."""

    task_id: str
    worker_id: str


@dataclass
class _Known:
    """A task that has not ended, as it was at a revision."""

    revision: int
    rank: Rank
    requirement: Requirement
    ready: bool
    holder: str | None

    @property
    def active(self) -> bool:
        """Whether it is to be had, or in somebody's hands."""
        return self.ready or self.holder is not None


@dataclass
class _Hand:
    """A worker that is there. ``since`` grows with every time that it was done with something."""

    tags: frozenset[str]
    since: int
    missing: bool = False  # its lease ran out, and nothing was heard of it since


@dataclass
class Board:
    """All that a coordinator keeps in mind. ``max_backlog`` is as in ``Costs``."""

    max_backlog: int = 1
    _tasks: dict[str, _Known] = field(default_factory=dict)
    _queues: dict[Requirement, list[tuple[Rank, str]]] = field(default_factory=dict)
    _decided: dict[str, str] = field(default_factory=dict)
    _load: Counter[str] = field(default_factory=Counter)
    _workers: dict[str, _Hand] = field(default_factory=dict)
    _free: set[str] = field(default_factory=set)
    _active: int = 0
    _turn: int = 0

    @property
    def at_rest(self) -> bool:
        """Whether nothing that is known of is ready or in anybody's hands."""
        return not self._active

    def worker_came(self, worker_id: str, tags: frozenset[str]) -> None:
        """A worker connected, or was found connected."""
        known = self._workers.get(worker_id)
        self._workers[worker_id] = _Hand(tags, known.since if known else self._next_turn())
        self._weigh(worker_id)

    def worker_left(self, worker_id: str) -> None:
        """A worker disconnected; what it held is told of task by task."""
        self._workers.pop(worker_id, None)
        self._free.discard(worker_id)

    def heard_of(self, worker_id: str) -> None:
        """A worker did something, so it is there."""
        hand = self._workers.get(worker_id)
        if hand and hand.missing:
            hand.missing = False
            self._weigh(worker_id)

    def lease_expired(self, task_id: str) -> None:
        """The lease of whoever holds the task ran out: it is given nothing until it is heard of."""
        known = self._tasks.get(task_id)
        hand = self._workers.get(known.holder) if known and known.holder else None
        if hand and known and known.holder:
            hand.missing = True
            self._weigh(known.holder)

    def task(self, task: v1.Task, *, ended: bool) -> None:
        """A task as it is, or was: what is older than what is known is passed over."""
        known = self._tasks.get(task.id)
        if known and task.revision < known.revision:
            return
        if ended or task.HasField("delete_time"):
            self.forget(task.id)
            return
        now = _Known(
            revision=task.revision,
            rank=(-task.priority, task.create_time.ToNanoseconds(), task.id),
            requirement=(frozenset(task.needed_tags), frozenset(task.wanted_tags)),
            ready=task.ready and PART not in task.tags,
            holder=task.worker_id if task.claim_revision else None,
        )
        self._tasks[task.id] = now
        self._active += now.active - (known is not None and known.active)
        before = known.holder if known else None
        if before != now.holder:
            self._put_down(before)
            self._take_up(now.holder)
        if now.ready and not (known and known.ready and known.rank == now.rank):
            heapq.heappush(self._queues.setdefault(now.requirement, []), (now.rank, task.id))

    def forget(self, task_id: str) -> None:
        """A task ended, or cannot be assigned until something new is heard of it."""
        known = self._tasks.pop(task_id, None)
        if known:
            self._active -= known.active
            self._put_down(known.holder)

    def decide(self, batch: int) -> list[Assignment]:
        """The next assignments, at most ``batch``: the best task first, and who is to have it.

        Best is the highest priority, then the oldest. Of the workers that may take it, it goes to
        the one that has the least before it, and of these to the one that waits longest. What is
        decided counts as the worker's until ``settle``.
        """
        chosen: list[Assignment] = []
        while len(chosen) < batch and (assignment := self._best()):
            self._decided[assignment.task_id] = assignment.worker_id
            self._take_up(assignment.worker_id)
            chosen.append(assignment)
        return chosen

    def settle(self, assignment: Assignment, task: v1.Task | None) -> None:
        """An assignment was made, and this is the task now; None: it was refused."""
        del self._decided[assignment.task_id]
        self._put_down(assignment.worker_id)
        if task is None:
            self.forget(assignment.task_id)
        else:
            self.task(task, ended=False)
            self._queue_again(assignment.task_id)

    def _queue_again(self, task_id: str) -> None:
        """A task that came back while its assignment was under way is to be had anew."""
        known = self._tasks.get(task_id)
        if known and known.ready:
            heapq.heappush(self._queues.setdefault(known.requirement, []), (known.rank, task_id))

    def can_decide(self) -> bool:
        """Whether there is a task that somebody who is free may take."""
        return bool(self._free) and self._best(keep=True) is not None

    def _best(self, *, keep: bool = False) -> Assignment | None:
        if not self._free:
            return None
        best: tuple[Rank, str, Requirement, str] | None = None
        for requirement, queue in self._queues.items():
            head = self._head(queue, requirement)
            if head is None or (best and best[:2] < head):
                continue
            if worker_id := self._freest(requirement):
                best = (*head, requirement, worker_id)
        if best is None:
            return None
        _, task_id, requirement, worker_id = best
        if not keep:
            heapq.heappop(self._queues[requirement])
        return Assignment(task_id, worker_id)

    def _head(
        self, queue: list[tuple[Rank, str]], requirement: Requirement
    ) -> tuple[Rank, str] | None:
        """The first of the queue that is still to be had; what is not, is dropped from it."""
        while queue:
            rank, task_id = queue[0]
            known = self._tasks.get(task_id)
            current = known and known.ready and (known.rank, known.requirement)
            if current == (rank, requirement) and task_id not in self._decided:
                return queue[0]
            heapq.heappop(queue)
        return None

    def _freest(self, requirement: Requirement) -> str | None:
        needed, wanted = requirement
        able = [
            (self._load[worker_id], hand.since, worker_id)
            for worker_id in self._free
            if (hand := self._workers[worker_id]).tags >= needed
            and (not wanted or hand.tags & wanted)
        ]
        return min(able)[-1] if able else None

    def _take_up(self, worker_id: str | None) -> None:
        if worker_id is not None:
            self._load[worker_id] += 1
            self._weigh(worker_id)

    def _put_down(self, worker_id: str | None) -> None:
        if worker_id is None:
            return
        self._load[worker_id] -= 1
        if hand := self._workers.get(worker_id):
            hand.since = self._next_turn()
        self._weigh(worker_id)

    def _weigh(self, worker_id: str) -> None:
        """Note whether the worker can be given more."""
        hand = self._workers.get(worker_id)
        if hand and not hand.missing and self._load[worker_id] < self.max_backlog:
            self._free.add(worker_id)
        else:
            self._free.discard(worker_id)

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn
