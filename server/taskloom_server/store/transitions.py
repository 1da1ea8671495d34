"""``task_sequence``: the history of each task's status and phase."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import apsw
from peewee import fn

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
_LAST = Statement(TaskSequence.select(fn.MAX(TaskSequence.id)))
_EXISTS = Statement(TaskSequence.select(TaskSequence.id).where(TaskSequence.id == arg("id")), "id")
_FORGET = Statement(TaskSequence.delete().where(TaskSequence.task_id == arg("task_id")), "task_id")


@dataclass(frozen=True, slots=True)
class TransitionFilters:
    """Which transitions to list; what is None or empty lets all pass. Times in Unix ms."""

    task_id: str = ""
    since: int | None = None
    before: int | None = None
    statuses: tuple[str, ...] = ()
    worker_id: str = ""


@lru_cache(maxsize=64)
def _page(
    names: tuple[str, ...], statuses: int, *, newest_first: bool, has_after: bool
) -> Statement:
    """The statement of a page by the filters that are named. Built once, like those of lists."""
    row = TaskSequence
    conditions = {
        "task_id": row.task_id == arg("task_id"),
        "since": row.timestamp >= arg("since"),
        "before": row.timestamp < arg("before"),
        "worker_id": row.worker_id == arg("worker_id"),
    }
    query = row.select(*_FIELDS).order_by(row.id.desc() if newest_first else row.id)
    for name in names:
        query = query.where(conditions[name])
    slots = [f"status{n}" for n in range(statuses)]
    if slots:
        query = query.where(row.status.in_([arg(slot) for slot in slots]))
    after = ["after"] if has_after else []
    if has_after:
        query = query.where(row.id < arg("after") if newest_first else row.id > arg("after"))
    return Statement(query.limit(arg("limit")), *names, *slots, *after, "limit")


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

    def next_id(self) -> int:
        """The id that the next row gets."""
        row = _LAST.one(self._connection)
        return ((row and row[0]) or 0) + 1

    def restore(self, transitions: Iterable[Transition]) -> None:
        """Add rows as they were, with their ids."""
        _RESTORE.many(self._connection, transitions)

    def exists(self, transition_id: int) -> bool:
        """Whether the id is taken."""
        return _EXISTS.one(self._connection, transition_id) is not None

    def forget(self, task_id: str) -> int:
        """Delete the history of a task; how many rows that were."""
        _FORGET.run(self._connection, task_id)
        return self._connection.changes()

    def page(
        self, filters: TransitionFilters, after: int | None, limit: int, *, newest_first: bool
    ) -> list[Transition]:
        """The transitions that pass, from the one after ``after``, in the order of their making."""
        given = {
            name: value
            for name in ("task_id", "since", "before", "worker_id")
            if (value := getattr(filters, name)) not in ("", None)
        }
        statement = _page(
            tuple(given),
            len(filters.statuses),
            newest_first=newest_first,
            has_after=after is not None,
        )
        values = [*given.values(), *filters.statuses]
        if after is not None:
            values.append(after)
        return [Transition(*r) for r in statement.all(self._connection, *values, limit)]

    def close(self, transition_id: int, at: int) -> None:
        """Note that the stay that a row tells of ended then."""
        _CLOSE.run(self._connection, at, transition_id)

    def all(self) -> Iterator[Transition]:
        """Every transition, in the order of their making."""
        return (Transition(*row) for row in _ALL.each(self._connection))
