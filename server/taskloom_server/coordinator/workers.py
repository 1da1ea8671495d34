"""Workers: connecting, signs of life, disconnecting."""

from collections.abc import Sequence
from dataclasses import dataclass

from taskloom_server.coordinator import advisory, marks, transitions
from taskloom_server.coordinator.lookup import require_task, workflow_for
from taskloom_server.coordinator.roles import check_keeps_gates, role_name
from taskloom_server.graph import names
from taskloom_server.graph.errors import OverlayUnfit, WorkerNotFound
from taskloom_server.graph.events import EventType
from taskloom_server.graph.steps import Start, Step
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workers import Worker
from taskloom_server.graph.workflows import Workflow
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Connect:
    """A registration that is asked for."""

    worker_id: str  # empty: one is made up
    workflow: str
    tags: tuple[str, ...]
    max_claims: int
    lease_ms: int
    cool_down_ms: int
    overlays: tuple[str, ...] = ()  # none: those it had on the same workflow


@dataclass(frozen=True, slots=True)
class Connected:
    """A registration, and what the worker still holds from an earlier one."""

    worker: Worker
    held: list[Task]
    held_count: int  # of those that count
    incarnation: str
    revision: int
    role: str  # empty: none
    steps: Sequence[Start | Step]  # what its workflow may have prompts for
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The end of a registration that is asked for."""

    worker_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker, how many tasks it holds, and until when it holds all of them at least."""

    worker: Worker
    held: int
    lease_expires_at: int | None
    over_budget: list[str]  # of what it holds: what is not renewed
    revision: int
    role: str  # empty: none


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A registration that has ended, and the tasks that are free by it."""

    worker: Worker
    released: list[str]
    revision: int
    role: str  # empty: none


@dataclass(frozen=True, slots=True)
class LostStream:
    """The end of a worker's last stream, and how long it has to come back."""

    worker_id: str
    grace_ms: int


@dataclass(frozen=True, slots=True)
class ListWorkers:
    """A page of workers, by id, from the one after ``after``."""

    after: str
    limit: int
    include_disconnected: bool
    stale_ms: int = 0  # only those that were silent so long
    tags: frozenset[str] = frozenset()  # only those that have all of these


@dataclass(frozen=True, slots=True)
class WorkerPage:
    """Workers, each with how many tasks it holds and its role; where the next page goes on."""

    workers: list[tuple[Worker, int, str]]
    now: int
    next_after: tuple[str] | None
    revision: int


def require(tx: Transaction, worker_id: str) -> Worker:
    """The connected worker of this id. Raises WorkerNotFound."""
    worker = tx.workers.get(worker_id)
    if worker is None or worker.disconnected_at is not None:
        what = "has disconnected" if worker else "is unknown"
        raise WorkerNotFound(f"worker {worker_id!r} {what}; connect first", subjects=(worker_id,))
    return worker


def sign_of_life(tx: Transaction, worker_id: str) -> Worker | None:
    """Note that a worker lives, if the call names one. Raises WorkerNotFound."""
    if not worker_id:
        return None
    worker = require(tx, worker_id)
    tx.workers.lives(worker, tx.now)
    return worker._replace(last_heartbeat=tx.now)


def connect(tx: Transaction, ask: Connect) -> Connected:
    """Register a worker, or renew and change its registration.

    Raises WorkflowNotFound, OverlayNotFound, OverlayUnfit, and RoleForbids where a worker that
    may not force would lose gates that its overlays bring.
    """
    workflow = tx.workflows.get(ask.workflow)
    worker_id = ask.worker_id
    while not worker_id or (not ask.worker_id and tx.workers.get(worker_id)):
        worker_id = names.worker_name(tx.rng)
    known = tx.workers.get(worker_id)
    base = known or Worker(
        tags=(),
        overlays=(),
        id=worker_id,
        max_claims=1,
        registered_at=tx.now,
        last_heartbeat=tx.now,
        disconnected_at=None,
        workflow=workflow.name,
        last_status=None,
        last_phase=None,
        lease_ms=0,
        cool_down_ms=0,
        cooling_until=None,
        claim_attempts=0,
        claims_granted=0,
        claims_lost=0,
        grace_until=None,
    )
    overlays = ask.overlays
    if overlays:
        check_overlays(tx, workflow.name, overlays)
    elif base.workflow == workflow.name:
        overlays = base.overlays
    if known is not None and known.disconnected_at is None:
        check_keeps_gates(tx, known, overlays, known)
    laid_over = tx.workflows.for_worker(workflow.name, overlays)
    worker = base.seen_at(tx.now)._replace(
        tags=tuple(sorted(set(ask.tags))),
        overlays=overlays,
        max_claims=_max_claims(tx, laid_over, ask),
        last_heartbeat=tx.now,
        disconnected_at=None,
        workflow=workflow.name,
        lease_ms=ask.lease_ms,
        cool_down_ms=ask.cool_down_ms,
        grace_until=None,
    )
    tx.workers.put(worker)
    if ask.lease_ms < base.lease_ms:
        tx.lease_ends_at(worker.id, tx.now + ask.lease_ms)  # its locks may go sooner
    tx.ask_worker_again(worker.id)  # who waits for it goes by the tags that it had
    tx.tell(EventType.WORKER_CONNECTED, worker, worker_id=worker.id)
    return _connected(tx, worker)


def check_overlays(tx: Transaction, workflow_name: str, overlays: tuple[str, ...]) -> None:
    """Raise unless these overlays fit the workflow, and the tasks that there are.

    Raises WorkflowNotFound, OverlayNotFound, OverlayUnfit.
    """
    laid_over = tx.workflows.get(workflow_name, overlays)
    workflow = tx.workflows.get(workflow_name)
    for state in workflow.states.values():
        if state.name in laid_over.states or state.terminal:
            continue
        if count := tx.tasks.count_in(workflow.name, state.name):
            first = tx.tasks.ids_in(workflow.name, state.name)[0]
            are = "1 task is" if count == 1 else f"{count} tasks are"
            raise OverlayUnfit(
                f"overlays {', '.join(overlays)} remove state {state.name!r} of workflow "
                f"{workflow.name!r}, which is in use: {are} in it, such as {first!r}; move them "
                "to another state first",
                subjects=(state.name,),
                where=("remove", "states"),
            )


def _max_claims(tx: Transaction, workflow: Workflow, ask: Connect) -> int:
    """How many tasks the worker may hold: what it asks for, or the fewer that its role allows."""
    role = workflow.role_of(ask.tags)
    if role is None or role.max_claims is None or role.max_claims >= ask.max_claims:
        return ask.max_claims
    tx.warn(
        f"max_claims: role {role.name!r} may hold {role.max_claims} at once, not {ask.max_claims}"
    )
    return role.max_claims


def _connected(tx: Transaction, worker: Worker) -> Connected:
    held = tx.tasks.held(worker.id)
    known, overlays = tx.workflows.by_name, worker.overlays
    steps: list[Start | Step] = []
    if worker.workflow in known:
        steps.append(Start(tx.workflows.for_worker(worker.workflow, overlays), worker))
    for task in held:
        if task.workflow in known:
            steps.append(Step(workflow_for(tx, task, worker), task, worker))
    return Connected(
        worker,
        held,
        tx.tasks.held_count(worker.id),
        tx.incarnation,
        tx.seen,
        role_name(tx, worker),
        steps,
        tx.noted.warnings,
    )


def heartbeat(tx: Transaction, worker_id: str) -> Seen:
    """Note that the worker lives. Raises WorkerNotFound."""
    worker = require(tx, worker_id)
    tx.workers.lives(worker, tx.now)
    held = tx.tasks.held_count(worker_id)
    shortest, over_budget = _leases(tx, worker_id)
    expires_at = None if shortest is None else tx.now + shortest
    alive = worker.seen_at(tx.now)._replace(last_heartbeat=tx.now, grace_until=None)
    return Seen(alive, held, expires_at, over_budget, tx.seen, role_name(tx, worker))


def _leases(tx: Transaction, worker_id: str) -> tuple[int | None, list[str]]:
    """The shortest lease of all that the worker holds, in either mode, in ms; None: none runs.

    Then the tasks whose leases are not renewed, since they are over budget.
    """
    shortest, fixed = tx.tasks.leases(worker_id)
    over_budget = (
        [task.id for task in tx.tasks.held(worker_id) if task.lease_until is not None]
        if fixed
        else []
    )
    leases = [shortest]
    for task_id in tx.advisory_claims.of(worker_id):
        claim = require_task(tx, task_id).advisory_claim(worker_id)
        leases.append(claim and claim[3])
    return min((lease for lease in leases if lease is not None), default=None), over_budget


def disconnect(tx: Transaction, ask: Disconnect) -> Disconnected:
    """End a registration: its tasks are free at once, its file marks gone.

    Raises WorkerNotFound when nobody ever connected under this id.
    """
    worker = tx.workers.get(ask.worker_id)
    if worker is None:
        raise WorkerNotFound(
            f"worker {ask.worker_id!r} is unknown: nobody connected under this id",
            subjects=(ask.worker_id,),
        )
    if worker.disconnected_at is not None:
        return Disconnected(worker, [], tx.seen, role_name(tx, worker))
    reason = ask.reason or "the worker disconnected"
    held = tx.tasks.held(worker.id)
    for one in held:
        # Anew, for the move of another one may have changed it: its parent, its blocker.
        task = require_task(tx, one.id)
        workflow = tx.workflows.get(task.workflow)
        transitions.move(
            tx,
            task,
            workflow.disconnect_state,
            EventType.TASK_RELEASED,
            by=worker.id,
            reason=reason,
            worker_id=None,
            claim_revision=None,
            lease_ms=None,
        )
    for task_id in tx.advisory_claims.of(worker.id):
        advisory.end(tx, require_task(tx, task_id), worker.id, reason)
    for mark in tx.file_marks.by(worker.id):
        marks.lift(tx, mark, reason)
    worker = worker._replace(
        last_heartbeat=tx.now, disconnected_at=tx.now, cooling_until=None, grace_until=None
    )
    tx.workers.put(worker)
    tx.ask_worker_again(worker.id)
    tx.tell(EventType.WORKER_DISCONNECTED, worker, worker_id=worker.id, reason=ask.reason)
    return Disconnected(worker, [task.id for task in held], tx.seen, role_name(tx, worker))


def begin_stream(tx: Transaction, worker_id: str) -> Connected:
    """What a worker holds as it begins a stream of work. Raises WorkerNotFound."""
    worker = require(tx, worker_id)
    tx.workers.lives(worker, tx.now)
    alive = worker.seen_at(tx.now)._replace(last_heartbeat=tx.now, grace_until=None)
    return _connected(tx, alive)


def lose_stream(tx: Transaction, ask: LostStream) -> None:
    """Let the worker's claims end soon, because its stream broke, unless it comes back."""
    worker = tx.workers.get(ask.worker_id)
    if worker is None or worker.disconnected_at is not None:
        return
    until = tx.now + ask.grace_ms
    tx.workers.give_grace(worker.id, until)
    tx.lease_ends_at(worker.id, until)


def list_workers(tx: Transaction, ask: ListWorkers) -> WorkerPage:
    """The workers that pass the filters, by id."""
    found = tx.workers.page(
        ask.after,
        ask.limit + 1,
        also_disconnected=ask.include_disconnected,
        heard_until=tx.now - ask.stale_ms if ask.stale_ms else 2**63 - 1,
        tags=ask.tags,
    )
    shown = found[: ask.limit]
    return WorkerPage(
        [
            (worker.seen_at(tx.now), tx.tasks.held_count(worker.id), role_name(tx, worker))
            for worker in shown
        ],
        tx.now,
        (shown[-1].id,) if len(found) > ask.limit else None,
        tx.seen,
    )
