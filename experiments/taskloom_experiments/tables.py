"""A run's tables as plain values: what the analysis reads of ``tasks.db``, and nothing else.

Databases of other programs of this family have fewer columns: what is missing is None or empty,
and the figures that need it say so. Times are Unix milliseconds, durations milliseconds.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from taskloom_experiments.database import DatabaseUnreadable, table_columns
from taskloom_experiments.modes import PART

START_BLOCKING = frozenset({"blocks", "follows"})
CONTAINS = "contains"


@dataclass(frozen=True)
class Task:
    """A task at the end of the run; ``tokens`` are in, out, cached, thinking, image, audio.

    ``is_part``: an agent made it out of its task, in a hybrid run. ``metric_6`` and ``metric_7``
    are where simulated coordinators book what an assignment cost.
    """

    id: str
    status: str
    worker_id: str | None
    points: float | None
    parent_id: str | None
    created_at: int | None
    ready_at: int | None
    started_at: int | None
    completed_at: int | None
    time_actual_ms: int | None
    cost_usd: float
    tokens: tuple[int, ...]
    is_part: bool = False
    metric_6: int = 0
    metric_7: int = 0

    @property
    def worked_ms(self) -> int:
        """Working time: the one recorded, else from its start to its end, else none."""
        if self.time_actual_ms is not None:
            return max(0, self.time_actual_ms)
        if self.worker_id and self.started_at is not None and self.completed_at is not None:
            return max(0, self.completed_at - self.started_at)
        return 0


@dataclass(frozen=True)
class Transition:
    """A row of task_sequence; ``status`` None means unchanged, an open row has no end."""

    task_id: str
    worker_id: str | None
    status: str | None
    timestamp: int
    end_timestamp: int | None


@dataclass(frozen=True)
class Claim:
    """A worker took a task, and when the task had become ready for that."""

    task_id: str
    worker_id: str
    ready_at: int
    claimed_at: int


@dataclass(frozen=True)
class Assigned:
    """Somebody assigned a task to a worker, and when the task had become ready for that."""

    task_id: str
    worker_id: str
    ready_at: int
    assigned_at: int


@dataclass(frozen=True)
class Connected:
    """A worker connected, for the first time or again, at ``time`` in Unix ms."""

    worker_id: str
    time: int


@dataclass(frozen=True)
class Worker:
    """A registration with its claim counters; None where the database does not count."""

    id: str
    max_claims: int | None
    registered_at: int | None
    last_heartbeat: int | None
    disconnected_at: int | None
    claim_attempts: int | None
    claims_granted: int | None
    claims_lost: int | None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Dependency:
    """An edge of the graph; what each type means is in ``START_BLOCKING`` and ``CONTAINS``."""

    from_task_id: str
    to_task_id: str
    dep_type: str


@dataclass(frozen=True)
class Mark:
    """A row of claim_sequence: a worker ``claimed`` or ``released`` the mark of a file."""

    file_path: str
    worker_id: str
    event: str
    timestamp: int
    end_timestamp: int | None


@dataclass(frozen=True)
class Tables:
    """Everything the figures of a run are computed from; deleted tasks are left out."""

    tasks: tuple[Task, ...]
    transitions: tuple[Transition, ...]
    claims: tuple[Claim, ...]
    workers: tuple[Worker, ...]
    dependencies: tuple[Dependency, ...]
    marks: tuple[Mark, ...]
    assigned: tuple[Assigned, ...]
    connected: tuple[Connected, ...]


_COLUMNS = {
    "tasks": "id status worker_id points parent_id created_at ready_at claimed_at started_at"
    " completed_at time_actual_ms cost_usd deleted_at metric_0 metric_1 metric_2 metric_3 metric_4"
    " metric_5 metric_6 metric_7 tags",
    "task_sequence": "id task_id worker_id status timestamp end_timestamp",
    "workers": "id max_claims registered_at last_heartbeat disconnected_at claim_attempts"
    " claims_granted claims_lost tags",
    "dependencies": "from_task_id to_task_id dep_type",
    "claim_sequence": "id file_path worker_id event timestamp end_timestamp",
}
_NEEDED = {
    "tasks": frozenset({"id", "status", "worker_id", "started_at", "completed_at"}),
    "task_sequence": frozenset({"task_id", "worker_id", "status", "timestamp"}),
    "dependencies": frozenset({"from_task_id", "to_task_id", "dep_type"}),
}


def read_tables(connection: apsw.Connection, file: Path) -> Tables:
    """Read what is analysed. Raises DatabaseUnreadable for a database without these tables."""
    tasks = tuple(
        _task(row)
        for row in _rows(connection, file, "tasks", "id")
        if row.get("deleted_at") is None
    )
    transitions = tuple(
        Transition(
            task_id=row["task_id"],
            worker_id=row["worker_id"],
            status=row["status"],
            timestamp=int(row["timestamp"]),
            end_timestamp=_whole(row.get("end_timestamp")),
        )
        for row in _rows(connection, file, "task_sequence", "timestamp, rowid")
    )
    workers = tuple(
        Worker(
            id=row["id"],
            max_claims=_whole(row.get("max_claims")),
            registered_at=_whole(row.get("registered_at")),
            last_heartbeat=_whole(row.get("last_heartbeat")),
            disconnected_at=_whole(row.get("disconnected_at")),
            claim_attempts=_whole(row.get("claim_attempts")),
            claims_granted=_whole(row.get("claims_granted")),
            claims_lost=_whole(row.get("claims_lost")),
            tags=_tags(row.get("tags")),
        )
        for row in _rows(connection, file, "workers", "id")
    )
    dependencies = tuple(
        Dependency(row["from_task_id"], row["to_task_id"], row["dep_type"])
        for row in _rows(connection, file, "dependencies", "from_task_id, to_task_id, dep_type")
    )
    marks = tuple(
        Mark(
            file_path=row["file_path"],
            worker_id=row["worker_id"],
            event=row["event"],
            timestamp=int(row["timestamp"]),
            end_timestamp=_whole(row.get("end_timestamp")),
        )
        for row in _rows(connection, file, "claim_sequence", "timestamp, rowid")
    )
    claims = tuple(_claims(connection, file))
    assigned = tuple(_assigned(connection, tasks, transitions))
    connected = tuple(_connected(connection))
    return Tables(tasks, transitions, claims, workers, dependencies, marks, assigned, connected)


_TASK_CLAIMED = 6  # events.type, fixed by the proto
_CLAIMS_TOLD = f"""
    SELECT task_id, worker_id, after ->> '$.task.ready_at', after ->> '$.task.claimed_at'
    FROM events WHERE type = {_TASK_CLAIMED} ORDER BY revision, ordinal
"""


def _claims(connection: apsw.Connection, file: Path) -> Iterator[Claim]:
    """Every claim that the events tell of; without events the last one of each task."""
    if table_columns(connection, "events"):
        rows: Iterable[tuple[Any, ...]] = connection.execute(_CLAIMS_TOLD)
    else:
        rows = (
            (row["id"], row["worker_id"], row.get("ready_at"), row.get("claimed_at"))
            for row in _rows(connection, file, "tasks", "id")
            if row.get("deleted_at") is None
        )
    for task_id, worker_id, ready_at, claimed_at in rows:
        if worker_id and ready_at is not None and claimed_at is not None:
            yield Claim(task_id, worker_id, int(ready_at), int(claimed_at))


_TASK_MOVED = 12
ASSIGNED = "assigned"
_ASSIGNMENTS_TOLD = f"""
    SELECT task_id, after ->> '$.task.worker_id', after ->> '$.task.ready_at', time
    FROM events WHERE type = {_TASK_MOVED} AND after ->> '$.task.status' = '{ASSIGNED}'
    ORDER BY revision, ordinal
"""


def _assigned(
    connection: apsw.Connection, tasks: Iterable[Task], transitions: Iterable[Transition]
) -> Iterator[Assigned]:
    """Every assignment that the events tell of; without events those of the history.

    That has not to whom, which is then who had the task last, nor when it was ready before.
    """
    rows: Iterable[tuple[Any, ...]]
    if table_columns(connection, "events"):
        rows = connection.execute(_ASSIGNMENTS_TOLD)
    else:
        by_id = {task.id: task for task in tasks}
        rows = (
            (row.task_id, by_id[row.task_id].worker_id, by_id[row.task_id].ready_at, row.timestamp)
            for row in transitions
            if row.status == ASSIGNED and row.task_id in by_id
        )
    for task_id, worker_id, ready_at, time in rows:
        if worker_id and ready_at is not None:
            yield Assigned(task_id, worker_id, int(ready_at), int(time))


_WORKER_CONNECTED = 30
_CONNECTIONS_TOLD = f"""
    SELECT worker_id, time FROM events WHERE type = {_WORKER_CONNECTED} ORDER BY revision, ordinal
"""


def _connected(connection: apsw.Connection) -> Iterator[Connected]:
    """Every connection that the events tell of."""
    if table_columns(connection, "events"):
        for worker_id, time in connection.execute(_CONNECTIONS_TOLD):
            yield Connected(worker_id, int(time))


def _rows(
    connection: apsw.Connection, file: Path, table: str, order_by: str
) -> Iterator[Mapping[str, Any]]:
    """The wanted columns that the table has, as mappings; SQLite promises no types."""
    present = table_columns(connection, table)
    if missing := _NEEDED.get(table, frozenset()) - present:
        what = f"column {sorted(missing)[0]} in its table {table}" if present else f"table {table}"
        raise DatabaseUnreadable(f"{file}: is not a taskloom database: it has no {what}")
    wanted = [column for column in _COLUMNS[table].split() if column in present]
    if not wanted:
        return
    for row in connection.execute(f"SELECT {', '.join(wanted)} FROM {table} ORDER BY {order_by}"):
        yield dict(zip(wanted, row, strict=True))


def _task(row: Mapping[str, Any]) -> Task:
    return Task(
        id=row["id"],
        status=row["status"],
        worker_id=row["worker_id"],
        points=_number(row.get("points")),
        parent_id=row.get("parent_id"),
        created_at=_whole(row.get("created_at")),
        ready_at=_whole(row.get("ready_at")),
        started_at=_whole(row.get("started_at")),
        completed_at=_whole(row.get("completed_at")),
        time_actual_ms=_whole(row.get("time_actual_ms")),
        cost_usd=_number(row.get("cost_usd")) or 0.0,
        tokens=tuple(_whole(row.get(f"metric_{index}")) or 0 for index in range(6)),
        is_part=PART in _tags(row.get("tags")),
        metric_6=_whole(row.get("metric_6")) or 0,
        metric_7=_whole(row.get("metric_7")) or 0,
    )


def _tags(value: object) -> frozenset[str]:
    """The tags of a column, which holds a JSON list; none where it holds anything else."""
    try:
        tags = json.loads(value) if isinstance(value, str) else []
    except ValueError:
        return frozenset()
    return frozenset(map(str, tags)) if isinstance(tags, list) else frozenset()


def _whole(value: float | str | None) -> int | None:
    return None if value is None else round(float(value))


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)
