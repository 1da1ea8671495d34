"""What happens because its time has come: leases that end, tasks whose not_before passes."""

from taskloom_server.coordinator.transitions import became_due, move
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.store.transaction import Transaction


def meet_deadlines(tx: Transaction, _: None) -> int | None:
    """Do all that is due by now; when the next is due, in Unix ms."""
    for task in tx.tasks.expired(tx.now):
        _expire(tx, task)
    for task in tx.tasks.due(tx.now):
        became_due(tx, task)
    return tx.tasks.next_deadline()


def _expire(tx: Transaction, task: Task) -> None:
    """Take a task from a worker that gives no sign of life any more."""
    workflow = tx.workflows.get(task.workflow)
    attempts = task.attempts + 1
    spent = attempts >= task.max_attempts
    move(
        tx,
        task,
        workflow.fail_state if spent else workflow.disconnect_state,
        EventType.TASK_FAILED if spent else EventType.TASK_LEASE_EXPIRED,
        by=None,
        reason=(
            f"the lease of worker {task.worker_id!r} ran out, "
            f"attempt {attempts} of {task.max_attempts}"
        ),
        worker_id=task.worker_id if spent else None,
        claim_revision=None,
        lease_ms=None,
        lapsed_worker_id=task.worker_id,
        lapsed_claim_revision=task.claim_revision,
        attempts=attempts,
    )


def forget_answers(tx: Transaction, _: None) -> int:
    """Drop some of the remembered answers that are too old; how many went."""
    return tx.requests.forget(tx.now, limit=1000)
