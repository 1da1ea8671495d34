"""Admission: who may take a task, and who holds it."""

from dataclasses import dataclass, field

from taskloom_server.coordinator import budgets, roles, wip, workers
from taskloom_server.coordinator.lookup import blocker_ids, open_child_ids, require_live_task
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
)
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workers import Outcome, Pause, Worker, refusal
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Held:
    """A verb about a task that the worker holds."""

    worker_id: str
    task_id: str
    claim_revision: int  # 0: not checked
    reason: str
    force: bool = field(default=False, kw_only=True)  # past gates, where the verb has to pass any


def require_holder(
    tx: Transaction, ask: Held, *, also_lapsed: bool = False, also_beside: bool = False
) -> tuple[Worker, Task]:
    """The worker and the task that it holds, exclusively or, if nobody does, by an advisory claim.

    Raises WorkerNotFound, TaskNotFound, TaskDeleted, and ClaimLost unless the worker holds
    the task by the claim that it shows. ``also_beside``: an advisory claim will do beside the
    exclusive one of another.
    """
    worker = workers.require(tx, ask.worker_id)
    task = require_live_task(tx, ask.task_id)
    claim = task.advisory_claim(worker.id)
    if task.claimed and not (also_beside and claim and task.worker_id != worker.id):
        holder, current = task.worker_id, task.claim_revision
    elif claim:
        holder, current, *_ = claim
    elif also_lapsed:
        holder, current = task.lapsed_worker_id, task.lapsed_claim_revision
    else:
        holder, current = None, None
    if holder == worker.id and ask.claim_revision in (0, current):
        return worker, task
    raise claim_lost(task, worker.id, ask.claim_revision)


def check_claim(tx: Transaction, task: Task, worker_id: str, claim_revision: int) -> None:
    """Raise ClaimLost if a claim is shown, and is not one by which the task is held."""
    if not claim_revision:
        return
    if task.claim_revision == claim_revision and worker_id in ("", task.worker_id):
        return
    if any(c[1] == claim_revision and worker_id in ("", c[0]) for c in task.advisory_claims):
        return
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
        raise ChildrenOpen(f"task {task.id!r} has open children: {', '.join(ids)}", subjects=ids)


def check_admission(
    tx: Transaction, worker: Worker, task: Task, *, advisory: bool = False
) -> DomainError | None:
    """Why this worker may not take this task now; None when it may.

    What is wrong with the task comes first: another task may do where another moment will
    not. An ``advisory`` claim moves no task, so that no limit of a state keeps it.
    """
    workflow = tx.workflows.get(task.workflow)
    mine = task.claimed and task.worker_id == worker.id
    if task.claimed and not mine:
        return claimed_by_other(task)
    if not mine and not workflow.begins(task.status):
        return IllegalTransition(
            f"task {task.id!r} is {task.status!r}; only {workflow.initial_state!r} tasks can be "
            "claimed",
            subjects=(workflow.initial_state,),
            metadata={"status": task.status, "worker_id": task.worker_id or ""},
        )
    error = (
        (None if mine else roles.claim_refusal(tx, worker, task.workflow))
        or missing_tags(task, worker)
        or check_start(tx, task)
        or check_not_paused(tx, task)
        or budgets.check_within(tx, task)
    )
    if error is None and not advisory:
        error = wip.refusal(tx, workflow, task, workflow.claim_state)
    if error is not None:
        return error
    return _check_worker(tx, worker, held_beside(tx, worker, task))


def held_beside(tx: Transaction, worker: Worker, task: Task) -> int:
    """How many tasks the worker holds, as far as they count when it wants to take this one.

    What is assigned to it is held already: to begin it there must be room among those begun. What
    it works on by an advisory claim it only takes over.
    """
    held = tx.tasks.held_count(worker.id)
    if task.claimed and task.worker_id == worker.id:
        return held - sum(
            one.status == tx.workflows.get(one.workflow).assign_state
            for one in tx.tasks.held(worker.id)
        )
    return held - (task.advisory_claim(worker.id) is not None)


def _check_worker(tx: Transaction, worker: Worker, held: int) -> DomainError | None:
    """Why this worker, which holds so many, may take no task just now; None when it may."""
    paused = tx.system.get().paused
    match refusal(worker, held, paused, tx.now):
        case Outcome.PAUSED:
            assert paused is not None
            return Paused(f"claims are paused {by_whom(paused)}; wait for resume")
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
        return DependenciesUnmet(f"task {task.id!r} is blocked by {', '.join(ids)}", subjects=ids)
    if task.open_children:
        ids = open_child_ids(tx, task.id)
        return ChildrenOpen(f"task {task.id!r} has open children: {', '.join(ids)}", subjects=ids)
    if task.not_before is not None and task.not_before > tx.now:
        wait = task.not_before - tx.now
        return NotYet(
            f"task {task.id!r} cannot start for {wait / 1000:g} s still", retry_after_ms=wait
        )
    return None


def check_not_paused(tx: Transaction, task: Task) -> Paused | None:
    """Why the task, or one above it, is not to be worked on for now; None when it is."""
    for pause in pauses_over(tx, task):
        return Paused(
            f"task {task.id!r} is paused, as is all below {pause.task_id!r}, {by_whom(pause)}; "
            "wait for resume",
            subjects=(pause.task_id or "",),
        )
    return None


def pauses_over(tx: Transaction, task: Task) -> list[Pause]:
    """The pauses of a task and of those above it, the nearest first."""
    if not task.paused:
        return []
    line = (task.id, *tx.tasks.ancestors(task.parent_id))
    return [pause for task_id in line if (pause := tx.pauses.get(task_id))]


def by_whom(pause: Pause) -> str:
    """Such as "by ada because the build is red"."""
    why = f" because {pause.reason}" if pause.reason else ""
    return f"by {pause.by or 'somebody'}{why}"


def claimed_by_other(task: Task) -> TaskClaimed:
    """The refusal of a task that another worker has."""
    return TaskClaimed(
        f"task {task.id!r} is held by worker {task.worker_id!r}",
        subjects=(task.worker_id or "",),
        metadata={"holder": task.worker_id or "", "task_id": task.id},
    )


def missing_tags(task: Task, worker: Worker) -> TagsMissing | None:
    """Why the worker's tags do not do for the task; None when they do."""
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
