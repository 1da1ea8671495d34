"""The ready tasks: which of them are best for a worker.

The cost of a claim does not grow with the number of tasks, nor of ready ones, nor of ready
ones that the worker may not take: each group of ready tasks (those that ask the same of a
worker) is a range of an index, in the order in which its tasks are to be taken, and only the
beginning of the range is read.
"""

from collections.abc import Sequence
from itertools import islice

import apsw
from peewee import Field

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


_BELOW = subtree(arg("parent_id"))
_FIRST_BELOW = {
    order: Statement(
        Tasks.select(Tasks.ready_as, Tasks.id)
        .join(_BELOW, on=(_BELOW.c.id == Tasks.id))  # type: ignore[attr-defined]
        .where(Tasks.ready_as.is_null(False))
        .order_by(Tasks.ready_as < 0, rank.desc(), Tasks.number)
        .with_cte(_BELOW),
        "parent_id",
    )
    for order, rank in _RANKS.items()
}
_OPEN_BELOW = Statement(
    Tasks.select(Tasks.status)
    .distinct()
    .join(_BELOW, on=(_BELOW.c.id == Tasks.id))  # type: ignore[attr-defined]
    .with_cte(_BELOW),
    "parent_id",
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
        """Likewise, among the descendants of a task. Costs as much as there are of them."""
        wanted = frozenset(groups)
        rows = _FIRST_BELOW[order].each(self._connection, parent_id)
        return list(islice((task_id for group, task_id in rows if abs(group) in wanted), limit))

    def statuses_below(self, parent_id: str) -> set[str]:
        """The statuses that occur among the descendants of a task."""
        return {row[0] for row in _OPEN_BELOW.each(self._connection, parent_id)}
