"""``task_sequence``: the history of each task's status and phase."""

from collections.abc import Iterator

import apsw

from taskloom_server.graph.tasks import Transition
from taskloom_server.store.statements import Statement, arg
from taskloom_server.store.tables import TaskSequence

_FIELDS = tuple(getattr(TaskSequence, name) for name in Transition._fields)
_CLOSE = Statement(
    TaskSequence.update({TaskSequence.end_timestamp: arg("now")}).where(
        TaskSequence.id == arg("id")
    ),
    "now",
    "id",
)
_INSERT = Statement(
    TaskSequence.insert({f: arg(f.name) for f in _FIELDS[1:]}), *Transition._fields[1:]
)
_RESTORE = Statement(TaskSequence.insert({f: arg(f.name) for f in _FIELDS}), *Transition._fields)
_PAGE = Statement(
    TaskSequence.select(*_FIELDS)
    .where((TaskSequence.task_id == arg("task_id")) & (TaskSequence.id > arg("after")))
    .order_by(TaskSequence.id)
    .limit(arg("limit")),
    "task_id",
    "after",
    "limit",
)
_EXISTS = Statement(TaskSequence.select(TaskSequence.id).where(TaskSequence.id == arg("id")), "id")
_FORGET = Statement(TaskSequence.delete().where(TaskSequence.task_id == arg("task_id")), "task_id")
_ALL = Statement(TaskSequence.select(*_FIELDS).order_by(TaskSequence.id))


class TransitionTable:
    """``task_sequence`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def append(self, transition: Transition, closes: int | None) -> int:
        """Add a row and close the one before; the new row's id."""
        if closes is not None:
            _CLOSE.run(self._connection, transition.timestamp, closes)
        _INSERT.run(self._connection, *transition[1:])
        return self._connection.last_insert_rowid()

    def restore(self, transition: Transition) -> None:
        """Add a row as it was, with its id."""
        _RESTORE.run(self._connection, *transition)

    def exists(self, transition_id: int) -> bool:
        """Whether the id is taken."""
        return _EXISTS.one(self._connection, transition_id) is not None

    def forget(self, task_id: str) -> int:
        """Delete the history of a task; how many rows that were."""
        _FORGET.run(self._connection, task_id)
        return self._connection.changes()

    def page(self, task_id: str, after: int, limit: int) -> list[Transition]:
        """A task's transitions, oldest first, from the one after ``after``."""
        return [Transition(*r) for r in _PAGE.all(self._connection, task_id, after, limit)]

    def all(self) -> Iterator[Transition]:
        """Every transition, in the order of their making."""
        return (Transition(*row) for row in _ALL.each(self._connection))
