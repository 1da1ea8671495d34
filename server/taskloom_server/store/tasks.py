"""``tasks`` and its tag tables: reading, writing, and the sets that change together."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Unpack

import apsw
from peewee import JOIN, Case, Field, fn

from taskloom_server.graph.tasks import START_BLOCKING, Task, TaskChanges
from taskloom_server.store.json_text import read_tags, write_tags
from taskloom_server.store.statements import Row, Statement, arg
from taskloom_server.store.tables import (
    Dependencies,
    TaskNeededTags,
    Tasks,
    TaskTags,
    TaskWantedTags,
    Workers,
)

_STORED = Task._fields[:-1]  # lease_expires_at is worked out
_FIELDS: tuple[Field, ...] = tuple(getattr(Tasks, name) for name in _STORED)
# A lease counts from the worker's last sign of life. What is assigned to a worker that was idle
# counts from its assignment, which is no sign of the worker's life.
_LEASE_END = (
    Case(
        None,
        [(Tasks.claimed_at > Workers.last_heartbeat, Tasks.claimed_at)],
        Workers.last_heartbeat,
    )
    + Tasks.lease_ms
)
_LEASE_EXPIRES_AT = Case(None, [(Tasks.claim_revision.is_null(False), _LEASE_END)], None)
TAG_TABLES: dict[str, Any] = {
    "tags": TaskTags,
    "needed_tags": TaskNeededTags,
    "wanted_tags": TaskWantedTags,
}


def select_tasks() -> Any:
    """A query for whole tasks; read its rows with ``task_of``."""
    return Tasks.select(*_FIELDS, _LEASE_EXPIRES_AT).join(
        Workers, JOIN.LEFT_OUTER, on=(Workers.id == Tasks.worker_id)
    )


def task_of(row: Row) -> Task:
    """The task in a row of ``select_tasks``."""
    return Task(read_tags(row[0]), read_tags(row[1]), read_tags(row[2]), *row[3:])


_GET = Statement(select_tasks().where(Tasks.id == arg("id")), "id")
_EXISTS = Statement(Tasks.select(Tasks.number).where(Tasks.id == arg("id")), "id")
_INSERTED = tuple(name for name in _STORED if name != "number")
_INSERT = Statement(
    Tasks.insert({getattr(Tasks, name): arg(name) for name in _INSERTED}), *_INSERTED
)
_HELD_COUNT = Statement(
    Tasks.select(fn.COUNT(Tasks.number)).where(
        (Tasks.worker_id == arg("worker_id")) & Tasks.claim_revision.is_null(False)
    ),
    "worker_id",
)
_SHORTEST_LEASE = Statement(
    Tasks.select(fn.MIN(Tasks.lease_ms)).where(
        (Tasks.worker_id == arg("worker_id")) & Tasks.claim_revision.is_null(False)
    ),
    "worker_id",
)
_HELD = Statement(
    select_tasks()
    .where((Tasks.worker_id == arg("worker_id")) & Tasks.claim_revision.is_null(False))
    .order_by(Tasks.number),
    "worker_id",
)
_CHILDREN = Statement(
    select_tasks()
    .where((Tasks.parent_id == arg("parent_id")) & Tasks.deleted_at.is_null())
    .order_by(Tasks.number),
    "parent_id",
)
_HAS_CHILDREN = Statement(
    Tasks.select(Tasks.number)
    .where((Tasks.parent_id == arg("parent_id")) & Tasks.deleted_at.is_null())
    .limit(1),
    "parent_id",
)
_PARENT_ID = Statement(Tasks.select(Tasks.parent_id).where(Tasks.id == arg("id")), "id")


@cache
def _any_with_status(count: int) -> Statement:
    """For a list of known length, since SQLite has no array to bind."""
    slots = [f"s{n}" for n in range(count)]
    return Statement(
        Tasks.select(Tasks.number)
        .where(Tasks.deleted_at.is_null() & Tasks.status.in_([arg(slot) for slot in slots]))
        .limit(1),
        *slots,
    )


_BY_STATUS = Statement(
    Tasks.select(Tasks.status, fn.COUNT(Tasks.number))
    .where(Tasks.deleted_at.is_null())
    .group_by(Tasks.status)
)
_READY_COUNT = Statement(Tasks.select(fn.COUNT(Tasks.number)).where(Tasks.ready_as.is_null(False)))
_CLAIMED_COUNT = Statement(
    Tasks.select(fn.COUNT(Tasks.number)).where(Tasks.claim_revision.is_null(False))
)
_DELAYED_COUNT = Statement(
    Tasks.select(fn.COUNT(Tasks.number)).where(
        Tasks.not_before.is_null(False)
        & (Tasks.claimable == 1)
        & (Tasks.unmet_blockers == 0)
        & (Tasks.open_children == 0)
    )
)
_EMPTY = Statement(Tasks.select(Tasks.number).limit(1))
_ALL = Statement(select_tasks().order_by(Tasks.number))
# Ordered in Python: to order here, SQLite would walk all tasks rather than the claimed ones.
_EXPIRED = Statement(
    select_tasks().where(Tasks.claim_revision.is_null(False) & (arg("now") >= _LEASE_END)),
    "now",
)
_NEXT_EXPIRY = Statement(
    Tasks.select(fn.MIN(_LEASE_END))
    .join(Workers, on=(Workers.id == Tasks.worker_id))
    .where(Tasks.claim_revision.is_null(False))
)
_DUE = Statement(
    select_tasks()
    .where(
        Tasks.not_before.is_null(False)
        & (Tasks.not_before <= arg("now"))
        & Tasks.deleted_at.is_null()
    )
    .order_by(Tasks.number),
    "now",
)
_NEXT_DUE = Statement(
    Tasks.select(fn.MIN(Tasks.not_before)).where(
        Tasks.not_before.is_null(False) & Tasks.deleted_at.is_null()
    )
)

_DEPENDENTS = Dependencies.select(Dependencies.to_task_id).where(
    (Dependencies.from_task_id == arg("from_task_id")) & Dependencies.dep_type.in_(START_BLOCKING)
)
# Whether the task, whose count of unmet blockers is now `unmet`, is ready but for that count.
_OTHERWISE_READY = (Tasks.claimable == 1) & (Tasks.open_children == 0) & Tasks.not_before.is_null()


def _shift_dependents(by: int, turning_at: int) -> Statement:
    """All dependents' counts of unmet blockers moved by one, in one statement.

    Those that are turned by it, into ready or out of it, get the revision; ``turning_at`` is
    their count before.
    """
    turned = _OTHERWISE_READY & (Tasks.unmet_blockers == turning_at)
    changes: dict[Field, Any] = {
        Tasks.unmet_blockers: Tasks.unmet_blockers + by,
        Tasks.revision: Case(None, [(turned, arg("revision"))], Tasks.revision),
        Tasks.updated_at: Case(None, [(turned, arg("now"))], Tasks.updated_at),
    }
    if by < 0:
        changes[Tasks.ready_at] = Case(None, [(turned, arg("now"))], Tasks.ready_at)
    query = (
        Tasks.update(changes)
        .where(Tasks.id.in_(_DEPENDENTS) & Tasks.deleted_at.is_null())
        .returning(*_FIELDS)
    )
    return Statement(query, "from_task_id", "revision", "now")


_UNBLOCK_DEPENDENTS = _shift_dependents(-1, turning_at=1)
_BLOCK_DEPENDENTS = _shift_dependents(+1, turning_at=0)

_ADD_TAG = {
    column: Statement(
        table.insert({table.task_id: arg("task_id"), table.tag: arg("tag")}), "task_id", "tag"
    )
    for column, table in TAG_TABLES.items()
}
_REMOVE_TAGS = {
    column: Statement(table.delete().where(table.task_id == arg("task_id")), "task_id")
    for column, table in TAG_TABLES.items()
}


class TaskTable:
    """``tasks`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._updates: dict[tuple[str, ...], Statement] = {}

    def get(self, task_id: str) -> Task | None:
        """The task of this id, deleted or not."""
        row = _GET.one(self._connection, task_id)
        return task_of(row) if row else None

    def exists(self, task_id: str) -> bool:
        """Whether the id is taken."""
        return _EXISTS.one(self._connection, task_id) is not None

    def insert(self, task: Task) -> Task:
        """Add a task; its ``number`` is made up here."""
        values = task._asdict()
        for column in TAG_TABLES:
            values[column] = write_tags(values[column])
        _INSERT.run(self._connection, *(values[name] for name in _INSERTED))
        for column, add in _ADD_TAG.items():
            if tags := getattr(task, column):
                add.many(self._connection, [(task.id, tag) for tag in set(tags)])
        return task._replace(number=self._connection.last_insert_rowid())

    def change(self, task: Task, **changes: Unpack[TaskChanges]) -> Task:
        """Write the changed columns, and only those: an index is paid for when it is named."""
        columns = tuple(changes)
        update = self._updates.get(columns)
        if update is None:
            update = self._updates[columns] = Statement(
                Tasks.update({getattr(Tasks, c): arg(c) for c in columns}).where(
                    Tasks.number == arg("number")
                ),
                *columns,
                "number",
            )
        values: dict[str, Any] = dict(changes)
        for column in TAG_TABLES.keys() & values.keys():
            tags = values[column]
            values[column] = write_tags(tags)
            _REMOVE_TAGS[column].run(self._connection, task.id)
            _ADD_TAG[column].many(self._connection, [(task.id, tag) for tag in set(tags)])
        update.run(self._connection, *values.values(), task.number)
        return task._replace(**changes)

    def unblock_dependents(self, task_id: str, revision: int, now: int) -> list[Task]:
        """Count one blocker less on all that the task blocks; those that have none left."""
        rows = _UNBLOCK_DEPENDENTS.all(self._connection, task_id, revision, now)
        tasks = [task_of((*row, None)) for row in rows]
        return sorted((t for t in tasks if not t.unmet_blockers), key=lambda t: t.number)

    def block_dependents(self, task_id: str, revision: int, now: int) -> list[Task]:
        """Count one blocker more on all that the task blocks; those that were ready before."""
        rows = _BLOCK_DEPENDENTS.all(self._connection, task_id, revision, now)
        tasks = [task_of((*row, None)) for row in rows]
        turned = (t for t in tasks if t._replace(unmet_blockers=t.unmet_blockers - 1).ready)
        return sorted(turned, key=lambda t: t.number)

    def held_count(self, worker_id: str) -> int:
        """How many tasks the worker holds."""
        row = _HELD_COUNT.one(self._connection, worker_id)
        assert row is not None
        count: int = row[0]
        return count

    def shortest_lease(self, worker_id: str) -> int | None:
        """The shortest lease of the tasks that the worker holds, in ms; None if it holds none."""
        row = _SHORTEST_LEASE.one(self._connection, worker_id)
        return row[0] if row else None

    def held(self, worker_id: str) -> list[Task]:
        """The tasks that the worker holds, oldest first."""
        return [task_of(row) for row in _HELD.each(self._connection, worker_id)]

    def children(self, task_id: str) -> list[Task]:
        """The children that are not deleted, oldest first."""
        return [task_of(row) for row in _CHILDREN.each(self._connection, task_id)]

    def has_children(self, task_id: str) -> bool:
        """Whether the task has children that are not deleted."""
        return _HAS_CHILDREN.one(self._connection, task_id) is not None

    def ancestors(self, parent_id: str | None) -> tuple[str, ...]:
        """The ids from this parent up to the root."""
        ids: list[str] = []
        while parent_id is not None:
            ids.append(parent_id)
            row = _PARENT_ID.one(self._connection, parent_id)
            parent_id = row[0] if row else None
        return tuple(ids)

    def any_with_status(self, statuses: tuple[str, ...]) -> bool:
        """Whether some task that is not deleted has one of these statuses."""
        return _any_with_status(len(statuses)).one(self._connection, *statuses) is not None

    def empty(self) -> bool:
        """Whether there is no task at all, deleted ones included."""
        return _EMPTY.one(self._connection) is None

    def all(self) -> Iterator[Task]:
        """Every task, deleted ones included, in the order of creation."""
        return map(task_of, _ALL.each(self._connection))

    def counts(self) -> tuple[dict[str, int], int, int, int]:
        """Tasks by status, then how many are ready, claimed, and only delayed."""

        def count(statement: Statement) -> int:
            row = statement.one(self._connection)
            return row[0] if row else 0

        by_status = {row[0]: row[1] for row in _BY_STATUS.each(self._connection)}
        return by_status, count(_READY_COUNT), count(_CLAIMED_COUNT), count(_DELAYED_COUNT)

    def expired(self, now: int) -> list[Task]:
        """The claimed tasks whose lease has ended, oldest first."""
        tasks = [task_of(row) for row in _EXPIRED.all(self._connection, now)]
        return sorted(tasks, key=lambda task: task.number)

    def due(self, now: int) -> list[Task]:
        """The tasks whose not_before has passed, oldest first."""
        return [task_of(row) for row in _DUE.all(self._connection, now)]

    def next_deadline(self) -> int | None:
        """When the next lease ends or the next not_before passes, in Unix ms."""
        times = (s.one(self._connection) for s in (_NEXT_EXPIRY, _NEXT_DUE))
        return min((row[0] for row in times if row and row[0] is not None), default=None)
