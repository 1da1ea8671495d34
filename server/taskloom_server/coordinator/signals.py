"""Signals and boosts: what people and workers say about how much a task calls for attention."""

from dataclasses import dataclass

from taskloom_server.coordinator import workers
from taskloom_server.coordinator.admission import check_claim
from taskloom_server.coordinator.changes import change, warmth
from taskloom_server.coordinator.lookup import require_live_task
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.temperature import Activity
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Signal:
    """Progress with a task, or a breakthrough."""

    task_id: str
    worker_id: str  # empty: a person
    claim_revision: int  # 0: not checked
    breakthrough: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Boost:
    """How much attention somebody wants for a task, from 0 to 1."""

    task_id: str
    worker_id: str  # empty: a person
    boost: float
    reason: str


@dataclass(frozen=True, slots=True)
class Signaled:
    """The task, warmer by it."""

    task: Task
    revision: int


def signal_task(tx: Transaction, ask: Signal) -> Signaled:
    """Note progress or a breakthrough.

    Raises TaskNotFound, TaskDeleted, WorkerNotFound, ClaimLost.
    """
    workers.sign_of_life(tx, ask.worker_id)
    task = require_live_task(tx, ask.task_id)
    check_claim(tx, task, ask.worker_id, ask.claim_revision)
    activity = Activity(progress=True, breakthrough=ask.breakthrough)
    return _warm(tx, task, activity, EventType.TASK_SIGNALED, ask)


def boost_task(tx: Transaction, ask: Boost) -> Signaled:
    """Note how much attention is wanted. Raises TaskNotFound, TaskDeleted, WorkerNotFound."""
    workers.sign_of_life(tx, ask.worker_id)
    task = require_live_task(tx, ask.task_id)
    return _warm(tx, task, Activity(boost=ask.boost), EventType.TASK_BOOSTED, ask)


def _warm(
    tx: Transaction, task: Task, activity: Activity, type_: EventType, ask: Signal | Boost
) -> Signaled:
    warmer = change(tx, task, warmth(tx, task, activity, task.priority))
    tx.tell_task(type_, warmer, task, worker_id=ask.worker_id or None, reason=ask.reason)
    return Signaled(warmer, tx.seen)
