"""Looking around a task: what is before, after, above and below it, and how far."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from taskloom_server.coordinator.lookup import require_live_task
from taskloom_server.graph.tasks import Task
from taskloom_server.store.transaction import Transaction


class Direction(IntEnum):
    """Where to look. Numbers are those of the proto, and the order of the answer."""

    BEFORE = 1
    AFTER = 2
    ABOVE = 3
    BELOW = 4


Place = tuple[int, int, int]
"""Direction, distance, and the number of the task: the order of a scan."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A page of what is around a task, from the place ``after``."""

    task_id: str
    directions: tuple[Direction, ...]
    depth: int | None  # None: as far as there is
    after: Place | None
    limit: int


@dataclass(frozen=True, slots=True)
class Scanned:
    """A task as it was found from another one."""

    task: Task
    direction: Direction
    distance: int

    @property
    def place(self) -> Place:
        """Where it stands in the order of the scan."""
        return self.direction, self.distance, self.task.number


@dataclass(frozen=True, slots=True)
class ScanPage:
    """Tasks in the order of the scan, and the place from which the next page goes on."""

    found: list[Scanned]
    next_after: Place | None
    revision: int


def scan_tasks(tx: Transaction, ask: Scan) -> ScanPage:
    """What is around a task, near ones first. Raises TaskNotFound and TaskDeleted."""
    task = require_live_task(tx, ask.task_id)
    found: list[Scanned] = []
    for direction in sorted(set(ask.directions)):
        for one in _walk(tx, task, direction, ask.depth):
            if ask.after is None or one.place > ask.after:
                found.append(one)
            if len(found) > ask.limit:
                shown = found[: ask.limit]
                return ScanPage(shown, shown[-1].place, tx.seen)
    return ScanPage(found, None, tx.seen)


def _walk(
    tx: Transaction, start: Task, direction: Direction, depth: int | None
) -> Iterator[Scanned]:
    """All that is found in one direction, a distance at a time, each task once."""
    neighbours = _NEIGHBOURS[direction]
    seen = {start.id}
    level = [start]
    distance = 0
    while level and distance != depth:
        distance += 1
        following: dict[str, Task] = {}
        for task in level:
            for one in neighbours(tx, task):
                if one.id not in seen:
                    seen.add(one.id)
                    following[one.id] = one
        level = sorted(following.values(), key=lambda one: one.number)
        for one in level:
            yield Scanned(one, direction, distance)


def _live(tx: Transaction, task_ids: list[str]) -> list[Task]:
    tasks = (tx.tasks.get(task_id) for task_id in task_ids)
    return [task for task in tasks if task is not None and task.deleted_at is None]


def _before(tx: Transaction, task: Task) -> list[Task]:
    return _live(tx, [task_id for task_id, *_ in tx.dependencies.blockers(task.id)])


def _after(tx: Transaction, task: Task) -> list[Task]:
    return _live(tx, tx.dependencies.blocked_by(task.id))


def _above(tx: Transaction, task: Task) -> list[Task]:
    return _live(tx, [task.parent_id] if task.parent_id else [])


def _below(tx: Transaction, task: Task) -> list[Task]:
    return tx.tasks.children(task.id)


_NEIGHBOURS: dict[Direction, Callable[[Transaction, Task], list[Task]]] = {
    Direction.BEFORE: _before,
    Direction.AFTER: _after,
    Direction.ABOVE: _above,
    Direction.BELOW: _below,
}
