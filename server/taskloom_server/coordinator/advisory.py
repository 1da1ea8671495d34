"""Advisory claims: a worker's word that it works on a task, which keeps nobody else from it."""

from taskloom_server.coordinator import marks
from taskloom_server.coordinator.changes import change
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import AdvisoryClaim, Task
from taskloom_server.graph.workers import Worker
from taskloom_server.store.transaction import Transaction


def make(tx: Transaction, worker: Worker, task: Task, lease_ms: int) -> Task:
    """Note that the worker works on the task. Its token is the revision that makes it."""
    tx.lease_ends_at(worker.id, worker.lease_end(tx.now, tx.now + lease_ms))
    claim: AdvisoryClaim = (worker.id, tx.revision, tx.now, lease_ms)
    tx.advisory_claims.insert(worker.id, task.id)
    made = change(tx, task, {"advisory_claims": (*task.advisory_claims, claim)})
    tx.tell_task(EventType.ADVISORY_CLAIM_MADE, made, task, worker_id=worker.id)
    return made


def end(
    tx: Transaction, task: Task, worker_id: str, reason: str, *, works_on: bool = False
) -> Task:
    """Note that the worker works on the task no more; the files it marked for it are free.

    ``works_on``: it does so by another claim.
    """
    tx.advisory_claims.delete(worker_id, task.id)
    left = tuple(claim for claim in task.advisory_claims if claim[0] != worker_id)
    ended = change(tx, task, {"advisory_claims": left})
    tx.tell_task(EventType.ADVISORY_CLAIM_ENDED, ended, task, worker_id=worker_id, reason=reason)
    for mark in () if works_on else tx.file_marks.for_task(task.id):
        if mark.worker_id == worker_id:
            marks.lift(tx, mark, reason, task=ended)
    tx.ask_worker_again(worker_id)
    return ended


def end_all(tx: Transaction, task: Task, reason: str) -> Task:
    """Nobody works on the task any more."""
    for worker_id, *_ in task.advisory_claims:
        task = end(tx, task, worker_id, reason)
    return task


def lease_end(claim: AdvisoryClaim, worker: Worker) -> int:
    """When the claim ends unless its worker gives a sign of life, in Unix ms."""
    _, _, since, lease_ms = claim
    return worker.lease_end(since, max(since, worker.last_heartbeat) + lease_ms)
