"""What happens because its time has come: leases that end, tasks whose not_before passes."""

from itertools import islice

from taskloom_server.coordinator import advisory, marks
from taskloom_server.coordinator.claims import latest
from taskloom_server.coordinator.lookup import require_task
from taskloom_server.coordinator.transitions import became_due, move
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workers import Worker
from taskloom_server.store.transaction import Transaction

_AT_ONCE = 100  # tasks a verb, so that no claim waits long behind it


def meet_due(tx: Transaction, _: None) -> int | None:
    """Let the tasks be ready whose not_before has passed; when the next one's does, in Unix ms."""
    # A task whose workflow is not loaded any more stays as it is until it is.
    known = (task for task in tx.tasks.due(tx.now) if task.workflow in tx.workflows.by_name)
    due = list(islice(known, _AT_ONCE))
    for task in due:
        became_due(tx, task)
    return tx.now if len(due) == _AT_ONCE else tx.tasks.next_due(tx.now)


def end_leases(tx: Transaction, worker_id: str) -> int | None:
    """End the leases of a worker that have run out, and its locks; when the next may, in Unix ms.

    A task whose workflow is not loaded any more stays as it is until it is.
    """
    worker = tx.workers.get(worker_id)
    if worker is None:
        return None
    ended = 0
    following: list[int] = []
    for held in tx.tasks.held(worker_id):
        # Anew, for the end of another one may have changed it: its parent, its blocker.
        task = require_task(tx, held.id)
        if task.lease_expires_at is None or task.workflow not in tx.workflows.by_name:
            continue
        if task.lease_expires_at > tx.now or ended == _AT_ONCE:
            following.append(task.lease_expires_at)
        else:
            _expire(tx, task, worker)
            ended += 1
    for task_id in tx.advisory_claims.of(worker_id):
        task = require_task(tx, task_id)
        claim = task.advisory_claim(worker_id)
        if claim is None:
            continue
        if (until := advisory.lease_end(claim, worker)) > tx.now:
            following.append(until)
        else:
            advisory.end(tx, task, worker_id, _why(worker, tx.now))
    following += marks.end_locks(tx, worker, _why(worker, tx.now))
    return min(following, default=None)


def _expire(tx: Transaction, task: Task, worker: Worker) -> None:
    """Take a task from a worker that gives no sign of life any more."""
    workflow = tx.workflows.get(task.workflow)
    if task.status == workflow.assign_state != workflow.claim_state:
        _take_back(tx, task, worker, workflow.disconnect_state)
        return
    attempts = task.attempts + 1
    spent = attempts >= task.max_attempts
    delay = 0 if spent else task.retry_delay(attempts)
    not_before = latest(task.not_before, tx.now + delay if delay else None)
    if not_before is not None:
        tx.wake_at(not_before)
    move(
        tx,
        task,
        workflow.fail_state if spent else workflow.disconnect_state,
        EventType.TASK_FAILED if spent else EventType.TASK_LEASE_EXPIRED,
        by=None,
        reason=f"{_why(worker, tx.now)}, attempt {attempts} of {task.max_attempts}",
        is_activity=False,
        worker_id=task.worker_id if spent else None,
        claim_revision=None,
        lease_ms=None,
        lapsed_worker_id=task.worker_id,
        lapsed_claim_revision=task.claim_revision,
        attempts=attempts,
        not_before=not_before,
    )


def _take_back(tx: Transaction, task: Task, worker: Worker, to: str) -> None:
    """Take back what was assigned and never begun, which is no attempt."""
    move(
        tx,
        task,
        to,
        EventType.TASK_LEASE_EXPIRED,
        by=None,
        reason=f"{_why(worker, tx.now)} before it began the task",
        is_activity=False,
        worker_id=None,
        claim_revision=None,
        lease_ms=None,
    )


def _why(worker: Worker, now: int) -> str:
    if worker.grace_until is not None and worker.grace_until <= now:
        return f"the stream of worker {worker.id!r} broke, and it did not come back"
    return f"the lease of worker {worker.id!r} ran out"


def forget_answers(tx: Transaction, _: None) -> int:
    """Drop some of the remembered answers that are too old; how many went."""
    return tx.requests.forget(tx.now, limit=1000)
