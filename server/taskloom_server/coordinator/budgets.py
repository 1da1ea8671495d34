"""Budgets: counting what is spent, and holding back the tasks whose budget is.

A budget is for a task and all below it. What was spent of it is added up as it is logged; when
it is spent, it counts on each of these tasks like a pause, and leases on them are renewed no more.
"""

from taskloom_server.coordinator.changes import change
from taskloom_server.coordinator.lookup import require_task
from taskloom_server.coordinator.pauses import shift_paused
from taskloom_server.graph.budgets import Budget
from taskloom_server.graph.errors import BudgetExceeded
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.store.transaction import Transaction


def spend(tx: Transaction, task: Task, *, cost_usd: float = 0.0, attempts: int = 0) -> Task:
    """Count what was spent on a task in the budgets over it; the task, held back if they are."""
    turned = False
    for budget in over(tx, task):
        after = budget._replace(
            cost_usd=budget.cost_usd + cost_usd, attempts=budget.attempts + attempts
        )
        tx.budgets.put(after)
        turned |= _settle(tx, after)
    return require_task(tx, task.id) if turned else task


def set_limits(tx: Transaction, task: Task) -> Task:
    """Make, change or end a task's budget by the limits it has now; the task as it is then."""
    known = tx.budgets.get(task.id)
    limited = task.max_cost_usd is not None or task.max_subtree_attempts is not None
    if limited:
        if known is None:
            tx.tasks.shift_budgets(task.id, +1)
        recount(tx, [task.id])
    elif known is not None:
        if known.is_spent:
            _free(tx, known)
        tx.budgets.delete(task.id)
        tx.tasks.shift_budgets(task.id, -1)
    return require_task(tx, task.id)


def recount(tx: Transaction, task_ids: list[str]) -> None:
    """Add up anew what was spent of the budgets of these tasks, as far as they have one."""
    for task_id in task_ids:
        task = require_task(tx, task_id)
        if task.max_cost_usd is None and task.max_subtree_attempts is None:
            continue
        known = tx.budgets.get(task_id)
        cost_usd, attempts = tx.budgets.sums(task_id)
        budget = Budget(
            task_id,
            task.max_cost_usd,
            task.max_subtree_attempts,
            cost_usd,
            attempts,
            is_spent=known is not None and known.is_spent,
        )
        tx.budgets.put(budget)
        _settle(tx, budget)


def over(tx: Transaction, task: Task) -> list[Budget]:
    """The budgets of a task and of those above it, the nearest first."""
    if not task.budgets:
        return []
    line = (task.id, *tx.tasks.ancestors(task.parent_id))
    return [budget for task_id in line if (budget := tx.budgets.get(task_id))]


def spent_over(tx: Transaction, task: Task) -> list[Budget]:
    """Those of them that are spent."""
    if not task.paused:
        return []
    return [budget for budget in over(tx, task) if budget.is_spent]


def check_within(tx: Transaction, task: Task) -> BudgetExceeded | None:
    """Why no more is to be spent on the task; None when it may."""
    for budget in spent_over(tx, task):
        whose = "its budget" if budget.task_id == task.id else f"the budget of {budget.task_id!r}"
        spent, limit = budget.spending
        return BudgetExceeded(
            f"task {task.id!r} is over budget: {budget} are spent of {whose}; raise it, or go "
            "on with another task",
            subjects=(budget.task_id,),
            metadata={
                "budget_task_id": budget.task_id,
                "budget": budget.exceeded,
                "spent": spent,
                "limit": limit,
            },
        )
    return None


def _settle(tx: Transaction, budget: Budget) -> bool:
    """Hold back the tasks of a budget that is spent by now, or let them go; whether either."""
    if bool(budget.exceeded) == budget.is_spent:
        return False
    if budget.exceeded:
        _use_up(tx, budget)
    else:
        _free(tx, budget)
    return True


def _use_up(tx: Transaction, budget: Budget) -> None:
    tx.budgets.put(budget._replace(is_spent=True))
    top = require_task(tx, budget.task_id)
    tx.tell(EventType.BUDGET_SPENT, None, task_id=top.id, task=top, reason=f"{budget}")
    shift_paused(tx, top, +1)
    for task in tx.tasks.held_below(top.id):
        if task.lease_until is None:
            _stop_renewing(tx, task)


def _free(tx: Transaction, budget: Budget) -> None:
    tx.budgets.put(budget._replace(is_spent=False))
    top = require_task(tx, budget.task_id)
    tx.tell(EventType.BUDGET_FREED, None, task_id=top.id, task=top, reason=f"{budget}")
    shift_paused(tx, top, -1)
    for task in tx.tasks.held_below(top.id):
        renew_within(tx, task)


def renew_within(tx: Transaction, task: Task) -> None:
    """Let a lease be renewed again, and give it whole, unless another budget is spent."""
    if task.lease_until is None or task.lease_ms is None or spent_over(tx, task):
        return
    if holder := tx.workers.get(task.worker_id or ""):
        tx.lease_ends_at(holder.id, holder.lease_end(tx.now, tx.now + task.lease_ms))
    renewed = change(tx, task, {"lease_until": None, "lease_since": tx.now})
    tx.tell_task(EventType.TASK_UPDATED, renewed, task, reason="within budget again")


def moved(tx: Transaction, task: Task, parents: list[Task | None], shift: int) -> None:
    """Count a task and all below it in other budgets, for it has another parent.

    ``parents``: the one before and the one it has now. ``shift``: so many more budgets are over it.
    """
    if shift:
        tx.tasks.shift_budgets(task.id, shift)
    affected: dict[str, None] = {}
    for parent in parents:
        if parent is not None and parent.budgets:
            affected |= dict.fromkeys((parent.id, *tx.tasks.ancestors(parent.parent_id)))
    recount(tx, list(affected))
    for held in tx.tasks.held_below(task.id):
        if held.lease_until is not None:
            renew_within(tx, held)
        elif spent_over(tx, held):
            _stop_renewing(tx, held)


def _stop_renewing(tx: Transaction, task: Task) -> None:
    held = change(tx, task, {"lease_until": task.lease_expires_at})
    why = "over budget: the lease is not renewed any more"
    tx.tell_task(EventType.TASK_UPDATED, held, task, reason=why)
