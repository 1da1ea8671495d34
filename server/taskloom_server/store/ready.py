"""The ready tasks: which of them are best for a worker.

The cost of a claim does not grow with the number of tasks, nor of ready ones, nor of ready
ones that the worker may not take: each group of ready tasks (those that ask the same of a
worker) is a range of an index, in the order in which its tasks are to be taken, and only the
beginning of the range is read.
"""

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any

import apsw
from peewee import JOIN, Field

from taskloom_server.graph.workers import ClaimOrder
from taskloom_server.store.statements import Statement, arg
from taskloom_server.store.subtrees import subtree
from taskloom_server.store.tables import Tasks

_RANKS: dict[ClaimOrder, Field] = {
    ClaimOrder.PRIORITY: Tasks.priority,
    ClaimOrder.TEMPERATURE: Tasks.heat,
}
_FIRST = {
    order: Statement(
        Tasks.select(rank, Tasks.number, Tasks.id)
        .where(Tasks.ready_as == arg("group"))
        .order_by(rank.desc(), Tasks.number)
        .limit(arg("limit")),
        "group",
        "limit",
    )
    for order, rank in _RANKS.items()
}
_OF_ALL = Statement(
    Tasks.select(Tasks.ready_as, Tasks.id)
    .where(Tasks.ready_as.is_null(False))
    .order_by(Tasks.priority.desc(), Tasks.number)
    .limit(arg("limit")),
    "limit",
)
# Whoever may take tasks of more groups than this is likely to find one among the first of all.
_MANY_GROUPS = 4
_LOOK_AT = 16
# A scope of more than this is likely to be a good part of all, and to have some of these first.
_FEW_BELOW = 256
_BELOW: Any = subtree(arg("parent_id"))


def _tasks_below(*columns: Field) -> Any:
    """Of all tasks below one, from the subtree to its tasks.

    Told so by CROSS, for SQLite would look at all ready tasks of the graph instead.
    """
    below = _BELOW.select_from(*columns)
    return below.join(Tasks, JOIN.CROSS).where(Tasks.id == _BELOW.c.id)


_SOME_BELOW = {
    order: Statement(
        _tasks_below(Tasks.ready_as, rank, Tasks.number, Tasks.id).limit(arg("limit")),
        "parent_id",
        "limit",
    )
    for order, rank in _RANKS.items()
}
_FIRST_BELOW = {
    order: Statement(
        _tasks_below(Tasks.ready_as, Tasks.id)
        .where(Tasks.ready_as.is_null(False))
        .order_by(Tasks.ready_as < 0, rank.desc(), Tasks.number),
        "parent_id",
    )
    for order, rank in _RANKS.items()
}
_STATUSES_BELOW = Statement(_tasks_below(Tasks.status), "parent_id")
_PARENT_ID = Statement(
    Tasks.select(Tasks.parent_id).where((Tasks.id == arg("id")) & Tasks.deleted_at.is_null()), "id"
)


class ReadyTasks:
    """The ready tasks as one connection sees them."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def best(self, groups: Sequence[int], order: ClaimOrder, limit: int) -> list[str]:
        """The ids of the best ready tasks of these groups, best first.

        Those on which somebody works by an advisory claim come last.
        """
        if order is ClaimOrder.PRIORITY and limit == 1 and len(groups) > _MANY_GROUPS:
            wanted = frozenset(groups)
            for group, task_id in _OF_ALL.all(self._connection, _LOOK_AT):
                if group in wanted:
                    return [task_id]
        best = self._first(groups, order, limit)
        if len(best) < limit:
            best += self._first([-group for group in groups], order, limit - len(best))
        return best

    def _first(self, groups: Sequence[int], order: ClaimOrder, limit: int) -> list[str]:
        statement = _FIRST[order]
        found: list[tuple[float, int, str]] = []
        for group in groups:
            found += statement.all(self._connection, group, limit)
        found.sort(key=lambda entry: (-entry[0], entry[1]))
        return [task_id for _, _, task_id in found[:limit]]

    def best_below(
        self, parent_id: str, groups: Sequence[int], order: ClaimOrder, limit: int
    ) -> list[str]:
        """Likewise, among the descendants of a task.

        Costs as much as there are of them where they are few, or where those that are best for the
        worker lie elsewhere.
        """
        wanted = frozenset(groups)
        some = _SOME_BELOW[order].all(self._connection, parent_id, _FEW_BELOW)
        if len(some) < _FEW_BELOW:
            ready = [row for row in some if row[0] is not None and abs(row[0]) in wanted]
            ready.sort(key=lambda row: (row[0] < 0, -row[1], row[2]))
            return [row[3] for row in ready[:limit]]
        best = self.best(groups, order, _LOOK_AT)
        below = [task_id for task_id in best if self._is_below(task_id, parent_id)]
        if len(below) >= limit or len(best) < _LOOK_AT:
            return below[:limit]
        rows = _FIRST_BELOW[order].each(self._connection, parent_id)
        return list(islice((task_id for group, task_id in rows if abs(group) in wanted), limit))

    def _is_below(self, task_id: str, parent_id: str) -> bool:
        above: str | None = task_id
        while above is not None:
            row = _PARENT_ID.one(self._connection, above)
            above = row[0] if row is not None else None
            if above == parent_id:
                return True
        return False

    def any_below(self, parent_id: str, statuses: Collection[str]) -> bool:
        """Whether a descendant of a task has one of these statuses."""
        return any(row[0] in statuses for row in _STATUSES_BELOW.each(self._connection, parent_id))
