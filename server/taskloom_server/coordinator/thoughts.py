"""Thoughts: what workers say that they think, for others to read."""

from dataclasses import dataclass

from taskloom_server.coordinator import workers
from taskloom_server.coordinator.admission import Held, require_holder
from taskloom_server.coordinator.changes import change
from taskloom_server.coordinator.lookup import require_task
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workers import Worker
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Think:
    """A thought, on a task that the worker holds or on all of them."""

    worker_id: str
    task_id: str  # empty: all that it holds
    claim_revision: int  # 0: not checked
    thought: str  # empty: none any more


@dataclass(frozen=True, slots=True)
class Thought:
    """Who thinks, how many tasks it holds, and those that carry the thought."""

    worker: Worker
    held: int
    task_ids: list[str]
    revision: int


def set_thought(tx: Transaction, ask: Think) -> Thought:
    """Note what a worker thinks. Raises WorkerNotFound, TaskNotFound, TaskDeleted, ClaimLost."""
    worker = workers.require(tx, ask.worker_id)
    thought = ask.thought or None
    tx.workers.lives(worker, tx.now)  # first, so that the tasks are told with the leases they have
    tasks = _thought_of(tx, worker, ask)
    new = [task for task in tasks if task.current_thought != thought]
    if thought != worker.current_thought:
        tx.workers.think(worker, thought, tx.now)
    alive = workers.require(tx, worker.id)
    if thought != worker.current_thought:
        tx.tell(EventType.WORKER_THOUGHT, alive, worker_id=worker.id)
    for task in new:
        after = change(tx, task, {"current_thought": thought})
        tx.tell_task(EventType.TASK_UPDATED, after, task, worker_id=worker.id)
    return Thought(
        alive.seen_at(tx.now),
        tx.tasks.held_count(worker.id),
        [task.id for task in tasks],
        tx.seen,
    )


def _thought_of(tx: Transaction, worker: Worker, ask: Think) -> list[Task]:
    """The tasks that a thought is about."""
    if ask.task_id:
        held = Held(worker.id, ask.task_id, ask.claim_revision, "")
        return [require_holder(tx, held, also_beside=True)[1]]
    beside = tx.advisory_claims.of(worker.id)
    held_ids = [task.id for task in tx.tasks.held(worker.id)]
    return [require_task(tx, task_id) for task_id in dict.fromkeys((*held_ids, *beside))]
