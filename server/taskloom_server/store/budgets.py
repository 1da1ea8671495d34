"""``budgets``: what was spent of the budgets there are. The limits stand with the tasks."""

from typing import Any

import apsw
from peewee import fn

from taskloom_server.graph.budgets import Budget
from taskloom_server.store.statements import Row, Statement, arg
from taskloom_server.store.subtrees import subtree
from taskloom_server.store.tables import Budgets, Tasks

_SELECT = Budgets.select(
    Budgets.task_id,
    Tasks.max_cost_usd,
    Tasks.max_subtree_attempts,
    Budgets.cost_usd,
    Budgets.attempts,
    Budgets.is_spent,
).join(Tasks, on=(Tasks.id == Budgets.task_id))
_GET = Statement(_SELECT.where(Budgets.task_id == arg("task_id")), "task_id")
_SPENT = Statement(_SELECT.where(Budgets.is_spent == 1).order_by(Budgets.task_id))
_SPENDING = (Budgets.cost_usd, Budgets.attempts, Budgets.is_spent)
_PUT = Statement(
    Budgets.insert(
        {Budgets.task_id: arg("task_id"), **{f: arg(f.name) for f in _SPENDING}}
    ).on_conflict(conflict_target=[Budgets.task_id], update={f: arg(f.name) for f in _SPENDING}),
    "task_id",
    *(f.name for f in _SPENDING),
)
_DELETE = Statement(Budgets.delete().where(Budgets.task_id == arg("task_id")), "task_id")

# Deleted ones too: what they cost is spent.
_BELOW: Any = subtree(arg("top"), also_deleted=True)
_SUMS = Statement(
    Tasks.select(fn.TOTAL(Tasks.cost_usd), fn.COALESCE(fn.SUM(Tasks.attempts), 0)).where(
        (Tasks.id == arg("top")) | Tasks.id.in_(_BELOW.select_from(_BELOW.c.id))
    ),
    "top",
)


def _budget_of(row: Row) -> Budget:
    return Budget(row[0], row[1], row[2], row[3], row[4], bool(row[5]))


class BudgetTable:
    """``budgets`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def get(self, task_id: str) -> Budget | None:
        """The budget of this very task."""
        row = _GET.one(self._connection, task_id)
        return _budget_of(row) if row else None

    def spent(self) -> list[Budget]:
        """Those that are spent, by task."""
        return [_budget_of(row) for row in _SPENT.each(self._connection)]

    def put(self, budget: Budget) -> None:
        """Note what was spent, in place of what was noted before."""
        _PUT.run(
            self._connection,
            budget.task_id,
            budget.cost_usd,
            budget.attempts,
            int(budget.is_spent),
        )

    def delete(self, task_id: str) -> None:
        """Note that there is none any more."""
        _DELETE.run(self._connection, task_id)

    def sums(self, task_id: str) -> tuple[float, int]:
        """What a task and all below it cost in US dollars, and their failed attempts."""
        row = _SUMS.one(self._connection, task_id)
        assert row is not None
        return row[0], row[1]
