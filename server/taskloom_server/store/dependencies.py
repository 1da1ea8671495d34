"""``dependencies``: the edges, and what they say about who waits for whom."""

from collections.abc import Iterable, Iterator

import apsw

from taskloom_server.graph.tasks import CONTAINS, START_BLOCKING, Dependency
from taskloom_server.store.statements import Statement, arg
from taskloom_server.store.tables import Dependencies, Tasks

_FIELDS = (Dependencies.from_task_id, Dependencies.to_task_id, Dependencies.dep_type)
_FROM = Dependencies.from_task_id == arg("from_task_id")
_TO = Dependencies.to_task_id == arg("to_task_id")
_BETWEEN = Statement(
    Dependencies.select(*_FIELDS).where(_FROM & _TO).order_by(Dependencies.dep_type),
    "from_task_id",
    "to_task_id",
)
_INSERT = Statement(
    Dependencies.insert({f: arg(f.name) for f in _FIELDS}),
    "from_task_id",
    "to_task_id",
    "dep_type",
)
_DELETE = Statement(
    Dependencies.delete().where(_FROM & _TO & (Dependencies.dep_type == arg("dep_type"))),
    "from_task_id",
    "to_task_id",
    "dep_type",
)
# Tasks that wait for the end of this one: what it blocks, and its parent.
_BLOCKED_BY = Statement(
    Dependencies.select(Dependencies.to_task_id)
    .join(Tasks, on=(Tasks.id == Dependencies.to_task_id))
    .where(_FROM & Dependencies.dep_type.in_(START_BLOCKING) & Tasks.deleted_at.is_null())
    .order_by(Dependencies.to_task_id),
    "from_task_id",
)
_PARENT = Statement(
    Dependencies.select(Dependencies.from_task_id).where(_TO & (Dependencies.dep_type == CONTAINS)),
    "to_task_id",
)
_BLOCKERS = Statement(
    Dependencies.select(Tasks.id, Tasks.status, Tasks.workflow)
    .join(Tasks, on=(Tasks.id == Dependencies.from_task_id))
    .where(_TO & Dependencies.dep_type.in_(START_BLOCKING) & Tasks.deleted_at.is_null())
    .group_by(Tasks.id, Tasks.status, Tasks.workflow)
    .order_by(Tasks.id),
    "to_task_id",
)
_OF_FROM = (
    Dependencies.select(*_FIELDS)
    .join(Tasks, on=(Tasks.id == Dependencies.to_task_id))
    .where(_FROM & Tasks.deleted_at.is_null())
)
_OF_TO = (
    Dependencies.select(*_FIELDS)
    .join(Tasks, on=(Tasks.id == Dependencies.from_task_id))
    .where(_TO & Tasks.deleted_at.is_null())
)
_OUT = Statement(_OF_FROM.order_by(Dependencies.dep_type, Dependencies.to_task_id), "from_task_id")
_IN = Statement(_OF_TO.order_by(Dependencies.dep_type, Dependencies.from_task_id), "to_task_id")
_TOUCHING = Statement(
    Dependencies.select(*_FIELDS)
    .where(
        (Dependencies.from_task_id == arg("task_id")) | (Dependencies.to_task_id == arg("task_id"))
    )
    .order_by(*_FIELDS),
    "task_id",
)
_ALL = Statement(Dependencies.select(*_FIELDS).order_by(*_FIELDS))


class DependencyTable:
    """``dependencies`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def between(self, from_task_id: str, to_task_id: str) -> list[Dependency]:
        """All dependencies from the one to the other."""
        return [Dependency(*r) for r in _BETWEEN.all(self._connection, from_task_id, to_task_id)]

    def insert(self, dependency: Dependency) -> None:
        """Add one that is not there."""
        _INSERT.run(self._connection, *dependency)

    def insert_many(self, dependencies: Iterable[Dependency]) -> None:
        """Add some that are not there."""
        _INSERT.many(self._connection, dependencies)

    def delete(self, dependency: Dependency) -> None:
        """Remove one."""
        _DELETE.run(self._connection, *dependency)

    def waiting_for(self, task_id: str) -> list[str]:
        """The tasks whose end waits for the end of this one."""
        rows = _BLOCKED_BY.all(self._connection, task_id) + _PARENT.all(self._connection, task_id)
        return [row[0] for row in rows]

    def blocked_by(self, task_id: str) -> list[str]:
        """The tasks whose start this one blocks."""
        return [row[0] for row in _BLOCKED_BY.all(self._connection, task_id)]

    def touching(self, task_id: str) -> list[Dependency]:
        """All dependencies from and to the task, whatever became of the other ends."""
        return [Dependency(*row) for row in _TOUCHING.all(self._connection, task_id)]

    def blockers(self, task_id: str) -> list[tuple[str, str, str]]:
        """The start-blockers that are not deleted: id, status and workflow of each."""
        return [(r[0], r[1], r[2]) for r in _BLOCKERS.all(self._connection, task_id)]

    def of(self, task_id: str) -> list[Dependency]:
        """All dependencies from and to the task whose other end is not deleted."""
        rows = _OUT.all(self._connection, task_id) + _IN.all(self._connection, task_id)
        return [Dependency(*row) for row in rows]

    def all(self) -> Iterator[Dependency]:
        """Every dependency, in order."""
        return (Dependency(*row) for row in _ALL.each(self._connection))
