"""Letting a task follow another workflow."""

from taskloom_server.coordinator.admission import claimed_by_other
from taskloom_server.coordinator.changes import change
from taskloom_server.coordinator.transitions import hold_back, let_go, move
from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workflows import Unknown, Workflow
from taskloom_server.store.transaction import Transaction


def follow(tx: Transaction, task: Task, name: str, by: str | None, reason: str) -> Task:
    """Put a task that nobody holds under another workflow.

    It stays in its status, or goes from the initial state of the one to that of the other. Raises
    WorkflowNotFound, TaskClaimed, and InvalidField where the other workflow does not know it so.
    """
    to = tx.workflows.get(name)
    if to.name == task.workflow:
        return task
    if task.claimed or task.advisory_claims:
        raise claimed_by_other(task)
    workflow = tx.workflows.get(task.workflow)
    initial = task.status == workflow.initial_state
    _check(task, workflow, to, to.initial_state if initial else task.status)
    before = task
    claimable = int(not initial and task.status == to.initial_state) or task.claimable
    task = change(tx, task, {"workflow": to.name, "claimable": claimable})
    tx.tell_task(EventType.TASK_UPDATED, task, before, worker_id=by, reason=reason)
    blocked, blocks = workflow.blocks(task.status), to.blocks(task.status)
    if initial and task.status != to.initial_state:
        # Both initial states hold back what waits, so the move itself turns nothing.
        if blocks != blocked:
            (hold_back if blocks else let_go)(tx, task)
        return move(tx, task, to.initial_state, EventType.TASK_MOVED, by=by, reason=reason)
    if blocks != blocked:
        (hold_back if blocks else let_go)(tx, task)
    return task


def _check(task: Task, workflow: Workflow, to: Workflow, status: str) -> None:
    """Raise InvalidField unless the task is, in the other workflow, what it is in its own."""
    state, now = to.states.get(status), workflow.states.get(task.status)
    if state is None:
        raise InvalidField("workflow", f"{to.name!r} has no state {status!r}, which the task is in")
    if now is not None and now.terminal != state.terminal:
        ends = "ends" if state.terminal else "does not end"
        raise InvalidField("workflow", f"a task that is {status!r} {ends} in {to.name!r}")
    needs_worker = status in (to.claim_state, to.assign_state) or state.parked
    if needs_worker:
        raise InvalidField("workflow", f"{status!r} needs a worker in {to.name!r}")
    if task.phase and task.phase not in to.phases and to.unknown_phase is Unknown.REJECT:
        raise InvalidField("workflow", f"{to.name!r} has no phase {task.phase!r}")
