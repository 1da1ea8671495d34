"""Overlays of workers: laid over the workflow that they connected to, one upon the other."""

from dataclasses import dataclass

from taskloom_server.coordinator import workers
from taskloom_server.coordinator.roles import check_keeps_gates, role_name
from taskloom_server.graph.errors import OverlayUnfit
from taskloom_server.graph.events import EventType
from taskloom_server.graph.overlays import MAX_OVERLAYS
from taskloom_server.graph.workers import Worker
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ChangeOverlay:
    """An overlay that a worker is to have, or not to have."""

    worker_id: str
    overlay: str
    by: str | None = None  # the worker that wants it; empty: a person; None: the worker itself


@dataclass(frozen=True, slots=True)
class Changed:
    """The worker as it is then, and how many tasks it holds."""

    worker: Worker
    held: int
    role: str
    revision: int


def add(tx: Transaction, ask: ChangeOverlay) -> Changed:
    """Lay an overlay over those that the worker has; one that it has already stays in its place.

    Raises WorkerNotFound, WorkflowNotFound, OverlayNotFound, OverlayUnfit, RoleForbids.
    """
    worker = workers.require(tx, ask.worker_id)
    if ask.overlay in worker.overlays:
        return _put(tx, ask, worker, worker.overlays)
    if len(worker.overlays) >= MAX_OVERLAYS:
        raise OverlayUnfit(
            f"worker {worker.id!r} has {MAX_OVERLAYS} overlays, which is as many as there can be; "
            "remove one first",
            subjects=worker.overlays,
        )
    overlays = (*worker.overlays, ask.overlay)
    workers.check_overlays(tx, worker.workflow, overlays)
    return _put(tx, ask, worker, overlays)


def remove(tx: Transaction, ask: ChangeOverlay) -> Changed:
    """Take an overlay from a worker; one that it does not have is no error.

    Raises WorkerNotFound, and RoleForbids for one that brings gates, where who takes it away may
    not force.
    """
    worker = workers.require(tx, ask.worker_id)
    left = tuple(name for name in worker.overlays if name != ask.overlay)
    return _put(tx, ask, worker, left)


def _put(tx: Transaction, ask: ChangeOverlay, worker: Worker, overlays: tuple[str, ...]) -> Changed:
    by = worker if ask.by is None else workers.sign_of_life(tx, ask.by)
    check_keeps_gates(tx, worker, overlays, by)
    changed = worker.seen_at(tx.now)._replace(
        overlays=overlays, last_heartbeat=tx.now, grace_until=None
    )
    if overlays == worker.overlays:
        tx.workers.lives(worker, tx.now)
    else:
        tx.workers.put(changed)
        tx.tell(EventType.WORKER_UPDATED, changed, worker_id=worker.id)
        tx.ask_worker_again(worker.id)
    held = tx.tasks.held_count(worker.id)
    return Changed(changed, held, role_name(tx, changed), tx.seen)
