"""Letting a task follow another workflow."""

from taskloom_server.coordinator.admission import claimed_by_other
from taskloom_server.coordinator.changes import change
from taskloom_server.coordinator.lookup import require_task
from taskloom_server.coordinator.transitions import begin, hold_back, let_go
from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task, TaskChanges
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
    status = to.initial_state if task.status == workflow.initial_state else task.status
    _check(task, to, status, ended=task.completed_at is not None)
    worked_ms = 0 if task.state_since is None else max(0, tx.now - task.state_since)
    changes: TaskChanges = {
        "workflow": to.name,
        "status": status,
        "claimable": int(to.begins(status)),
        "requirement_id": tx.requirements.id_of(task.needed_tags, task.wanted_tags, to.name),
        "time_actual_ms": task.time_actual_ms + worked_ms,
        "state_since": tx.now if to.states[status].timed else None,
    }
    moves = status != task.status
    if moves:
        changes["sequence_id"] = begin(tx, task._replace(status=status), by, reason)
    after = change(tx, task, changes)
    told = EventType.TASK_MOVED if moves else EventType.TASK_UPDATED
    tx.tell_task(told, after, task, worker_id=by, reason=reason)
    blocked, blocks = workflow.blocks(task.status), to.blocks(status)
    if blocks and not blocked:
        hold_back(tx, after)
    elif blocked and not blocks:
        let_go(tx, after)
    return require_task(tx, task.id)


def _check(task: Task, to: Workflow, status: str, *, ended: bool) -> None:
    """Raise InvalidField unless the task is, in the other workflow, what it is in its own."""
    state = to.states.get(status)
    if state is None:
        raise InvalidField("workflow", f"{to.name!r} has no state {status!r}, which the task is in")
    if ended != state.terminal:
        ends = "ends" if state.terminal else "does not end"
        raise InvalidField("workflow", f"a task that is {status!r} {ends} in {to.name!r}")
    needs_worker = status in (to.claim_state, to.assign_state) or state.parked
    if needs_worker:
        raise InvalidField("workflow", f"{status!r} needs a worker in {to.name!r}")
    if task.phase and task.phase not in to.phases and to.unknown_phase is Unknown.REJECT:
        raise InvalidField("workflow", f"{to.name!r} has no phase {task.phase!r}")
