"""Claims: taking tasks, and ending, failing or returning them. The hot path."""

from dataclasses import dataclass
from typing import Unpack

from taskloom_server.coordinator import workers
from taskloom_server.coordinator.lookup import blocker_ids, open_child_ids, require_task
from taskloom_server.coordinator.transitions import move
from taskloom_server.graph.errors import (
    ChildrenOpen,
    ClaimLimit,
    ClaimLost,
    CoolingDown,
    DependenciesUnmet,
    DomainError,
    IllegalTransition,
    NotYet,
    Paused,
    TagsMissing,
    TaskClaimed,
    TaskDeleted,
)
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task, TaskChanges
from taskloom_server.graph.workers import Outcome, Worker, refusal
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a task that is named."""

    worker_id: str
    task_id: str
    lease_ms: int | None  # None: the worker's


@dataclass(frozen=True, slots=True)
class ClaimNext:
    """A claim of the best tasks there are."""

    worker_id: str
    max_tasks: int
    lease_ms: int | None
    parent_id: str  # empty: any task


@dataclass(frozen=True, slots=True)
class Claimed:
    """Tasks given, best first, or why none."""

    tasks: list[Task]
    outcome: Outcome
    retry_after_ms: int | None
    revision: int


@dataclass(frozen=True, slots=True)
class Held:
    """A verb about a task that the worker holds."""

    worker_id: str
    task_id: str
    claim_revision: int  # 0: not checked
    reason: str


@dataclass(frozen=True, slots=True)
class Fail(Held):
    """A failure: ``retry`` lets the task be tried again, once ``retry_delay_ms`` has passed."""

    retry: bool
    retry_delay_ms: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A task after its move, and the tasks that became ready by it."""

    task: Task
    unblocked: list[str]
    revision: int


def claim_task(tx: Transaction, ask: Claim) -> Moved | DomainError:
    """Give the worker the task that it names.

    Raises TaskNotFound and WorkerNotFound; returns every other refusal, so that the attempt
    is counted.
    """
    worker = workers.require(tx, ask.worker_id)
    task = require_task(tx, ask.task_id)
    if task.claimed and task.worker_id == worker.id:
        workflow = tx.workflows.get(task.workflow)
        if task.status != workflow.assign_state:
            tx.workers.lives(worker, tx.now)
            return Moved(tx.tasks.get(task.id) or task, [], tx.seen)
    if error := _refused(tx, worker, task):
        lost = task.worker_id not in (None, worker.id) and not task.ready
        tx.workers.tried(worker, tx.now, lost=lost)
        return error
    task = _take(tx, worker, task, ask.lease_ms)
    tx.workers.took(worker, tx.now, 1, task.status, task.phase)
    return Moved(task, [], tx.seen)


def claim_next(tx: Transaction, ask: ClaimNext) -> Claimed:
    """Give the worker up to ``max_tasks`` of the best tasks that it may take.

    Raises WorkerNotFound, and TaskNotFound for the scope. Want of work is an outcome, not an
    error.
    """
    worker = workers.require(tx, ask.worker_id)
    if ask.parent_id:
        require_task(tx, ask.parent_id)
    held = tx.tasks.held_count(worker.id)
    outcome = refusal(worker, held, tx.system.get().paused, tx.now)
    if outcome is None:
        groups = tx.requirements.admitting(worker.tags)
        limit = min(ask.max_tasks, worker.max_claims - held)
        if ask.parent_id:
            ids = tx.ready.best_below(ask.parent_id, groups, limit)
        else:
            ids = tx.ready.best(groups, limit)
        if ids:
            tasks = [_take(tx, worker, require_task(tx, id_), ask.lease_ms) for id_ in ids]
            tx.workers.took(worker, tx.now, len(tasks), tasks[-1].status, tasks[-1].phase)
            return Claimed(tasks, Outcome.CLAIMED, None, tx.seen)
        outcome = Outcome.ALL_DONE if _all_done(tx, ask.parent_id) else Outcome.NONE_READY
    tx.workers.lives(worker, tx.now)
    rest = None
    if outcome is Outcome.COOLING_DOWN and worker.cooling_until is not None:
        rest = worker.cooling_until - tx.now
    return Claimed([], outcome, rest, tx.seen)


def release(tx: Transaction, ask: Held) -> Moved:
    """Give a task back. Raises TaskNotFound, WorkerNotFound, ClaimLost, IllegalTransition."""
    worker, task = require_holder(tx, ask)
    workflow = tx.workflows.get(task.workflow)
    workflow.check_exit(task.id, task.status, workflow.initial_state)
    return _end(tx, worker, task, workflow.initial_state, EventType.TASK_RELEASED, ask.reason)


def complete(tx: Transaction, ask: Held) -> Moved:
    """End a task well.

    Raises TaskNotFound, WorkerNotFound, ClaimLost, ChildrenOpen, IllegalTransition. Work of
    a claim whose lease ran out is accepted as long as nobody took the task since.
    """
    worker, task = require_holder(tx, ask, also_lapsed=True)
    workflow = tx.workflows.get(task.workflow)
    if task.claimed:
        workflow.check_exit(task.id, task.status, workflow.complete_state)
    check_children(tx, task)
    done = workflow.complete_state
    return _end(tx, worker, task, done, EventType.TASK_COMPLETED, ask.reason)


def fail(tx: Transaction, ask: Fail) -> Moved:
    """Say that the work failed; the task is tried again, or fails for good.

    Raises TaskNotFound, WorkerNotFound, ClaimLost, IllegalTransition.
    """
    worker, task = require_holder(tx, ask)
    workflow = tx.workflows.get(task.workflow)
    workflow.check_exit(task.id, task.status, workflow.fail_state)
    attempts = task.attempts + 1
    if not ask.retry or attempts >= task.max_attempts:
        failed = EventType.TASK_FAILED
        return _end(tx, worker, task, workflow.fail_state, failed, ask.reason, attempts=attempts)
    not_before = tx.now + ask.retry_delay_ms if ask.retry_delay_ms else None
    if not_before is not None:
        tx.wake_at(not_before)
    return _end(
        tx,
        worker,
        task,
        workflow.initial_state,
        EventType.TASK_RELEASED,
        ask.reason,
        attempts=attempts,
        not_before=not_before,
    )


def assign(tx: Transaction, task: Task, worker: Worker, by: str | None, reason: str) -> Task:
    """Hand a free task to a worker, who begins it with a claim.

    Raises TaskClaimed, TagsMissing, IllegalTransition.
    """
    if task.claimed:
        raise _claimed_by_other(task)
    workflow = tx.workflows.get(task.workflow)
    workflow.check_exit(task.id, task.status, workflow.assign_state)
    if missing := _missing_tags(task, worker):
        raise missing
    return _hold(tx, worker, task, workflow.assign_state, EventType.TASK_MOVED, None, by, reason)


def require_holder(
    tx: Transaction, ask: Held, *, also_lapsed: bool = False
) -> tuple[Worker, Task]:
    """The worker and the task that it holds.

    Raises WorkerNotFound, TaskNotFound, TaskDeleted, and ClaimLost unless the worker holds
    the task by the claim that it shows.
    """
    worker = workers.require(tx, ask.worker_id)
    task = require_task(tx, ask.task_id)
    if task.deleted_at is not None:
        raise TaskDeleted(f"task {task.id!r} is deleted", subjects=(task.id,))
    if task.claimed:
        holder, current = task.worker_id, task.claim_revision
    elif also_lapsed and task.claimable:
        holder, current = task.lapsed_worker_id, task.lapsed_claim_revision
    else:
        holder, current = None, None
    if holder == worker.id and ask.claim_revision in (0, current):
        return worker, task
    raise claim_lost(task, worker.id, ask.claim_revision)


def check_claim(tx: Transaction, task: Task, worker_id: str, claim_revision: int) -> None:
    """Raise ClaimLost if a claim is shown, and is not the one that holds the task."""
    if claim_revision and (
        task.claim_revision != claim_revision or (worker_id and task.worker_id != worker_id)
    ):
        raise claim_lost(task, worker_id, claim_revision)


def claim_lost(task: Task, worker_id: str, claim_revision: int) -> ClaimLost:
    """The refusal of a claim that is not the task's, saying what became of the task."""
    if task.claimed and task.worker_id == worker_id:
        what = f"you hold it by claim {task.claim_revision}, not {claim_revision}"
    elif task.claimed:
        what = f"worker {task.worker_id!r} holds it now"
    else:
        what = f"nobody holds it; it is {task.status!r}"
    return ClaimLost(
        f"claim of task {task.id!r} is lost: {what}",
        subjects=(task.id,),
        metadata={"holder": task.worker_id or "" if task.claimed else "", "status": task.status},
    )


def check_children(tx: Transaction, task: Task) -> None:
    """Raise ChildrenOpen while children hold the task's completion back."""
    if task.open_children:
        ids = open_child_ids(tx, task.id)
        raise ChildrenOpen(
            f"task {task.id!r} has open children: {', '.join(ids)}", subjects=ids
        )


def _end(
    tx: Transaction,
    worker: Worker,
    task: Task,
    to: str,
    type_: EventType,
    reason: str,
    **changes: Unpack[TaskChanges],
) -> Moved:
    """End the worker's claim by putting the task into another state."""
    changes["worker_id"] = None if type_ is EventType.TASK_RELEASED else worker.id
    ended = move(tx, task, to, type_, by=worker.id, reason=reason, **changes)
    rests_until = tx.now + worker.cool_down_ms if worker.cool_down_ms else None
    tx.workers.moved(worker, tx.now, to, ended.phase, rests_until)
    return Moved(ended, tx.unblocked(), tx.seen)


def _take(tx: Transaction, worker: Worker, task: Task, lease_ms: int | None) -> Task:
    workflow = tx.workflows.get(task.workflow)
    state = workflow.claim_state
    return _hold(tx, worker, task, state, EventType.TASK_CLAIMED, lease_ms, worker.id, "")


def _hold(
    tx: Transaction,
    worker: Worker,
    task: Task,
    state: str,
    type_: EventType,
    lease_ms: int | None,
    by: str | None,
    reason: str,
) -> Task:
    lease = lease_ms or worker.lease_ms
    tx.wake_at(tx.now + lease)
    return move(
        tx,
        task,
        state,
        type_,
        by=by,
        reason=reason,
        worker_id=worker.id,
        claimed_at=tx.now,
        claim_revision=task.claim_revision or tx.revision,
        lease_ms=lease,
    )


def _all_done(tx: Transaction, parent_id: str) -> bool:
    still_open = tx.workflows.open_statuses
    if parent_id:
        return tx.ready.statuses_below(parent_id).isdisjoint(still_open)
    return not tx.tasks.any_with_status(still_open)


def _refused(tx: Transaction, worker: Worker, task: Task) -> DomainError | None:
    """Why this worker may not take this task now; None when it may.

    What is wrong with the task comes first: another task may do where another moment will
    not.
    """
    workflow = tx.workflows.get(task.workflow)
    if task.deleted_at is not None:
        return TaskDeleted(f"task {task.id!r} is deleted", subjects=(task.id,))
    mine = task.claimed and task.worker_id == worker.id
    if task.claimed and not mine:
        return _claimed_by_other(task)
    if not mine and task.status != workflow.initial_state:
        return IllegalTransition(
            f"task {task.id!r} is {task.status!r}; only {workflow.initial_state!r} tasks can be "
            "claimed",
            subjects=(workflow.initial_state,),
            metadata={"status": task.status, "worker_id": task.worker_id or ""},
        )
    if error := _missing_tags(task, worker):
        return error
    if error := check_start(tx, task):
        return error
    held = sum(t.status == workflow.claim_state for t in tx.tasks.held(worker.id))
    paused = tx.system.get().paused
    match refusal(worker, held, paused, tx.now):
        case Outcome.PAUSED:
            assert paused is not None
            why = f" because {paused.reason}" if paused.reason else ""
            return Paused(f"claims are paused by {paused.by or 'somebody'}{why}; wait for resume")
        case Outcome.LIMIT_REACHED:
            return ClaimLimit(
                f"worker {worker.id!r} holds {held} tasks of at most {worker.max_claims}",
                metadata={"max_claims": str(worker.max_claims)},
            )
        case Outcome.COOLING_DOWN:
            rest = (worker.cooling_until or tx.now) - tx.now
            return CoolingDown(
                f"worker {worker.id!r} rests for {rest / 1000:g} s still", retry_after_ms=rest
            )
    return None


def check_start(tx: Transaction, task: Task) -> DomainError | None:
    """Why work on the task cannot start yet, whoever would do it; None when it can."""
    if task.unmet_blockers:
        ids = blocker_ids(tx, task.id)
        return DependenciesUnmet(
            f"task {task.id!r} is blocked by {', '.join(ids)}", subjects=ids
        )
    if task.open_children:
        ids = open_child_ids(tx, task.id)
        return ChildrenOpen(f"task {task.id!r} has open children: {', '.join(ids)}", subjects=ids)
    if task.not_before is not None and task.not_before > tx.now:
        wait = task.not_before - tx.now
        return NotYet(
            f"task {task.id!r} cannot start for {wait / 1000:g} s still", retry_after_ms=wait
        )
    return None


def _claimed_by_other(task: Task) -> TaskClaimed:
    return TaskClaimed(
        f"task {task.id!r} is held by worker {task.worker_id!r}",
        subjects=(task.worker_id or "",),
        metadata={"holder": task.worker_id or "", "task_id": task.id},
    )


def _missing_tags(task: Task, worker: Worker) -> TagsMissing | None:
    have = frozenset(worker.tags)
    if missing := [tag for tag in task.needed_tags if tag not in have]:
        return TagsMissing(
            f"worker {worker.id!r} lacks tags that task {task.id!r} needs: {', '.join(missing)}",
            subjects=missing,
        )
    if task.wanted_tags and have.isdisjoint(task.wanted_tags):
        return TagsMissing(
            f"worker {worker.id!r} has none of the tags that task {task.id!r} wants: "
            f"{', '.join(task.wanted_tags)}",
            subjects=task.wanted_tags,
        )
    return None
