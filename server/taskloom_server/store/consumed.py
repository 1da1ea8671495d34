"""``worker_metrics``, and sums over tasks: what was consumed, and how long tasks stayed where."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import apsw
from peewee import Field, Query, fn

from taskloom_server.store.statements import Statement, arg
from taskloom_server.store.subtrees import subtree
from taskloom_server.store.tables import Tasks, TaskSequence, WorkerMetrics

_METRICS = tuple(f"metric_{n}" for n in range(8))
_LOW = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Scope:
    """Which tasks are meant: one, all below it, those of a worker; all three empty: every one."""

    task_id: str = ""
    recursive: bool = False
    worker_id: str = ""


class Consumed(NamedTuple):
    """Sums of what was logged: eight counters, and US dollars."""

    metrics: tuple[int, ...]
    cost_usd: float


class Stay(NamedTuple):
    """A row of the history with what decides on how its time counts. Times in Unix ms."""

    task_id: str
    worker_id: str | None
    status: str | None  # None: as before
    began_at: int
    ended_at: int | None
    workflow: str
    deleted_at: int | None


_ADD = Statement(
    WorkerMetrics.insert({f: arg(f.name) for f in WorkerMetrics._meta.sorted_fields}).on_conflict(
        conflict_target=[WorkerMetrics.worker_id, WorkerMetrics.task_id],
        update={
            f: f + arg(f.name)
            for f in WorkerMetrics._meta.sorted_fields
            if f.name not in ("worker_id", "task_id")
        },
    ),
    *(f.name for f in WorkerMetrics._meta.sorted_fields),
)


def _sums(table: Any) -> list[Any]:
    """The sums of the counters, each in two halves, for SQLite's own overflow; then of the cost."""
    halves = []
    for name in _METRICS:
        column: Field = getattr(table, name)
        halves += [
            fn.COALESCE(fn.SUM(column.bin_and(_LOW)), 0),
            fn.COALESCE(fn.SUM((column - column.bin_and(_LOW)) / (_LOW + 1)), 0),
        ]
    return [*halves, fn.TOTAL(table.cost_usd)]


_BY_WORKER = Statement(
    WorkerMetrics.select(*_sums(WorkerMetrics)).where(WorkerMetrics.worker_id == arg("worker_id")),
    "worker_id",
)
_STAYS = (
    TaskSequence.task_id,
    TaskSequence.worker_id,
    TaskSequence.status,
    TaskSequence.timestamp,
    TaskSequence.end_timestamp,
    Tasks.workflow,
    Tasks.deleted_at,
)


def _select(what: str) -> Query:
    match what:
        case "sums":
            return Tasks.select(
                *_sums(Tasks), fn.COALESCE(fn.SUM(Tasks.attempts), 0), fn.COUNT(Tasks.number)
            )
        case "statuses":
            return (
                Tasks.select(Tasks.status, fn.COUNT(Tasks.number))
                .where(Tasks.deleted_at.is_null())
                .group_by(Tasks.status)
                .order_by(Tasks.status)
            )
        case "times":
            return Tasks.select(Tasks.time_actual_ms, Tasks.state_since, Tasks.deleted_at)
    return (
        TaskSequence.select(*_STAYS)
        .join(Tasks, on=(Tasks.id == TaskSequence.task_id))
        .order_by(TaskSequence.task_id, TaskSequence.id)
    )


@lru_cache(maxsize=32)
def _compile(what: str, by: str) -> Statement:
    """A query, limited ``by`` a task, its subtree, a worker, or by nothing."""
    query: Any = _select(what)
    match by:
        case "task":
            return Statement(query.where(Tasks.id == arg("id")), "id")
        case "subtree":
            below: Any = subtree(arg("id"), also_deleted=True)
            ids = below.select_from(below.c.id)
            return Statement(query.where((Tasks.id == arg("id")) | Tasks.id.in_(ids)), "id")
        case "worker" if what == "stays":
            other = TaskSequence.alias()
            mine = other.select(other.task_id).where(other.worker_id == arg("id"))
            return Statement(query.where(Tasks.id.in_(mine)), "id")
        case "worker":
            return Statement(query.where(Tasks.worker_id == arg("id")), "id")
    return Statement(query)


class ConsumedTable:
    """``worker_metrics`` and sums over tasks, on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def add(self, worker_id: str, task_id: str, metrics: tuple[int, ...], cost_usd: float) -> None:
        """Add to what a worker logged for a task."""
        _ADD.run(self._connection, worker_id, task_id, *metrics, cost_usd)

    def by_worker(self, worker_id: str) -> Consumed:
        """What a worker logged."""
        row = _BY_WORKER.one(self._connection, worker_id)
        assert row is not None
        return _consumed(row)

    def by_tasks(self, scope: Scope) -> tuple[Consumed, int]:
        """What was logged for the tasks, and how many attempts at them failed."""
        [row] = self._rows("sums", scope)
        return _consumed(row), row[-2]

    def statuses(self, scope: Scope) -> dict[str, int]:
        """How many of the tasks that are not deleted have each status."""
        return {row[0]: row[1] for row in self._rows("statuses", scope)}

    def times(self, scope: Scope) -> Iterator[tuple[int, int | None, int | None]]:
        """Of each task: time_actual_ms, state_since and deleted_at."""
        return ((row[0], row[1], row[2]) for row in self._rows("times", scope))

    def stays(self, scope: Scope) -> Iterator[Stay]:
        """The history of the tasks, task by task, each oldest first."""
        return (Stay(*row) for row in self._rows("stays", scope))

    def _rows(self, what: str, scope: Scope) -> Iterator[Any]:
        by = ""
        if scope.task_id:
            by = "subtree" if scope.recursive else "task"
        elif scope.worker_id:
            by = "worker"
        values = (scope.task_id or scope.worker_id,) if by else ()
        return _compile(what, by).each(self._connection, *values)


def _consumed(row: tuple[Any, ...]) -> Consumed:
    return Consumed(
        tuple(low + high * (_LOW + 1) for low, high in zip(row[:16:2], row[1:16:2], strict=True)),
        row[16],
    )
