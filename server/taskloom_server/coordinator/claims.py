"""Claims: taking tasks, and ending, failing or returning them. The hot path."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

from taskloom_server.coordinator import advisory, budgets, marks, wip, workers
from taskloom_server.coordinator.admission import (
    Held,
    check_admission,
    check_children,
    claimed_by_other,
    missing_tags,
    require_holder,
)
from taskloom_server.coordinator.changes import change
from taskloom_server.coordinator.gates import noting, pass_gates, tell_forced
from taskloom_server.coordinator.lookup import require_live_task, require_task, workflow_for
from taskloom_server.coordinator.roles import barred, check_right, may
from taskloom_server.coordinator.transitions import move
from taskloom_server.graph.errors import DomainError
from taskloom_server.graph.events import EventType
from taskloom_server.graph.steps import Step
from taskloom_server.graph.tasks import FileMark, Task, TaskChanges
from taskloom_server.graph.workers import ClaimOrder, Outcome, Worker, refusal
from taskloom_server.graph.workflows import Right
from taskloom_server.store.transaction import Transaction
from taskloom_server.store.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a task that is named."""

    worker_id: str
    task_id: str
    lease_ms: int | None  # None: the worker's
    advisory: bool = False
    files: tuple[str, ...] = ()  # to be marked for the task
    mark_reason: str = ""


@dataclass(frozen=True, slots=True)
class ClaimNext:
    """A claim of the best tasks there are."""

    worker_id: str
    max_tasks: int
    lease_ms: int | None
    parent_id: str  # empty: any task
    wait_until: int = 0  # Unix ms; until then it waits for a task
    waits_while: frozenset[Outcome] = frozenset()  # what else than a task it does not answer
    order: ClaimOrder = ClaimOrder.PRIORITY
    advisory: bool = False
    asked: bool = True  # by the worker just now, and not by the server on its behalf
    files: tuple[str, ...] = ()  # to be marked for the task, which is then one
    mark_reason: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Tasks given, best first, or why none; and the marks of others on the files asked for.

    ``held``: what the worker holds, where that is why it is given nothing.
    """

    tasks: list[Task]
    outcome: Outcome
    retry_after_ms: int | None
    revision: int
    steps: Sequence[Step] = ()
    conflicts: Sequence[FileMark] = ()
    held: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Fail(Held):
    """A failure: ``retry`` lets the task be tried again, once its delay has passed."""

    retry: bool
    retry_delay_ms: int | None  # None: the task's own


@dataclass(frozen=True, slots=True)
class Moved:
    """A task after its move, and the tasks that became ready by it.

    ``conflicts``: the marks of others on the files that were asked for with a claim.
    """

    task: Task
    unblocked: list[str]
    revision: int
    step: Step | None = None  # what its workflow may have prompts for
    warnings: Sequence[str] = ()
    conflicts: Sequence[FileMark] = ()


def claim_task(tx: Transaction, ask: Claim) -> Moved | DomainError:
    """Give the worker the task that it names.

    Raises TaskNotFound, TaskDeleted and WorkerNotFound; returns every other refusal, so that
    the attempt is counted.
    """
    worker = workers.require(tx, ask.worker_id)
    task = require_live_task(tx, ask.task_id)
    mine = task.claimed and task.worker_id == worker.id
    locks = marks.locks_of_others(tx, worker.id, ask.files)
    if mine and not _is_assigned(tx, task):
        if locks:
            tx.workers.lives(worker, tx.now)
            return marks.locked(locks)
        if task.lease_until is not None and (spent := budgets.check_within(tx, task)):
            tx.workers.lives(worker, tx.now)
            return spent
        task = _renew(tx, worker, task, ask.lease_ms)
        conflicts = _mark(tx, worker, task, ask)
        step = Step(workflow_for(tx, task, worker), task, worker)
        return Moved(task, [], tx.seen, step, conflicts=conflicts)
    if mine:
        ask = replace(ask, advisory=False)  # what is assigned to it is begun
    has_advisory = task.advisory_claim(worker.id) is not None and not task.claimed
    if has_advisory and ask.advisory:
        tx.workers.lives(worker, tx.now)
        if locks:
            return marks.locked(locks)
        conflicts = _mark(tx, worker, task, ask)
        return Moved(task, [], tx.seen, conflicts=conflicts)
    if error := check_admission(tx, worker, task, advisory=ask.advisory):
        lost = task.worker_id not in (None, worker.id) and not task.ready
        tx.workers.tried(worker, tx.now, lost=lost)
        return error
    if locks:
        tx.workers.tried(worker, tx.now, lost=False)
        return marks.locked(locks)
    before, task = task, _give(tx, worker, task, ask)
    conflicts = _mark(tx, worker, task, ask)
    _note_taken(tx, worker, [task], ask)
    return Moved(task, [], tx.seen, _taken(tx, worker, before, task), conflicts=conflicts)


def claim_next(tx: Transaction, ask: ClaimNext) -> Claimed | Waiting:
    """Give the worker up to ``max_tasks`` of the best tasks that it may take, or let it wait.

    Raises WorkerNotFound, and TaskNotFound for the scope. Want of work is an outcome, not an
    error.
    """
    worker = workers.require(tx, ask.worker_id)
    if ask.parent_id:
        require_task(tx, ask.parent_id)
    held = tx.tasks.held_count(worker.id)
    outcome = refusal(worker, held, tx.system.get().paused, tx.now)
    if outcome is None and not may(tx, worker, Right.CLAIM, worker.workflow):
        outcome = _of_assigned(tx, worker, ask.parent_id)
    locks: list[FileMark] = []
    if outcome is None and (locks := marks.locks_of_others(tx, worker.id, ask.files)):
        outcome = Outcome.ALL_DONE if _all_done(tx, ask.parent_id) else Outcome.FILES_LOCKED
    cannot = outcome is not None
    if outcome is None:
        limit = min(ask.max_tasks, worker.max_claims - held)
        steps, full = _give_best(tx, worker, ask, limit)
        if steps:
            tasks = [step.task for step in steps]
            conflicts = _mark(tx, worker, tasks[0], ask)
            _note_taken(tx, worker, tasks, ask)
            return Claimed(tasks, Outcome.CLAIMED, None, tx.seen, steps, conflicts)
        if full:
            outcome = Outcome.WIP_LIMIT
        else:
            outcome = Outcome.ALL_DONE if _all_done(tx, ask.parent_id) else Outcome.NONE_READY
    if ask.asked and not tx.again:
        tx.workers.lives(worker, tx.now)
    rest = None
    if outcome is Outcome.COOLING_DOWN and worker.cooling_until is not None:
        rest = worker.cooling_until - tx.now
    if outcome not in ask.waits_while or tx.now >= ask.wait_until:
        tells = outcome in (Outcome.LIMIT_REACHED, Outcome.ASSIGNED)
        held_ids = _held_ids(tx, worker.id) if tells else ()
        return Claimed([], outcome, rest, tx.seen, conflicts=locks, held=held_ids)
    again_at = ask.wait_until if rest is None else min(ask.wait_until, tx.now + rest)
    tx.wake_at(again_at)
    return Waiting(
        worker.id,
        worker.tags,
        ask.parent_id,
        again_at,
        cannot=cannot,
        shares=ask.advisory,
        when_done=Outcome.ALL_DONE in ask.waits_while,
        locks=tuple(mark.file_path for mark in locks),
    )


def _held_ids(tx: Transaction, worker_id: str) -> list[str]:
    """What counts of what a worker holds, by claims of either mode."""
    alone = [task.id for task in tx.tasks.held(worker_id) if task.parked_lease_ms is None]
    return [*alone, *tx.advisory_claims.of(worker_id)]


def _of_assigned(tx: Transaction, worker: Worker, parent_id: str) -> Outcome:
    """Why there is nothing for a worker that begins only what is assigned to it."""
    if any(_waits_to_begin(tx, task) for task in tx.tasks.held(worker.id)):
        return Outcome.ASSIGNED
    return Outcome.ALL_DONE if _all_done(tx, parent_id) else Outcome.ROLE_FORBIDS


def _waits_to_begin(tx: Transaction, task: Task) -> bool:
    workflow = tx.workflows.by_name.get(task.workflow)
    return workflow is not None and (task.status == workflow.assign_state != workflow.claim_state)


def _give_best(
    tx: Transaction, worker: Worker, ask: ClaimNext, limit: int
) -> tuple[list[Step], set[str]]:
    """Give the worker the best ready tasks, best first; and the workflows with no room for more.

    Of a workflow whose claim state is full the best are passed over, however many there are, and
    likewise of one that is not loaded any more.
    """
    given: list[Step] = []
    full: set[str] = set()
    gone = barred(tx, worker)
    while len(given) < limit:
        passed_over = len(full) + len(gone)
        for id_ in _best(tx, worker, ask, limit - len(given), full | gone):
            task = require_task(tx, id_)
            workflow = tx.workflows.by_name.get(task.workflow)
            if workflow is None:
                gone.add(task.workflow)
            elif not ask.advisory and wip.is_full(tx, workflow, workflow.claim_state):
                full.add(workflow.name)
            else:
                given.append(_taken(tx, worker, task, _give(tx, worker, task, ask)))
        if len(full) + len(gone) == passed_over:
            break
    return given, full


def _taken(tx: Transaction, worker: Worker, before: Task, after: Task) -> Step:
    """A worker takes up a task."""
    workflow = workflow_for(tx, after, worker)
    return Step(workflow, after, worker, (before.status, before.phase), takes_up=True)


def _best(
    tx: Transaction, worker: Worker, ask: ClaimNext, limit: int, without: Collection[str]
) -> list[str]:
    """The best ready tasks that the worker may take, best first, of all but some workflows.

    An advisory claim leaves a task ready, so those that the worker has are passed over.
    """
    groups = tx.requirements.admitting(worker.tags, without)
    has = frozenset(tx.advisory_claims.of(worker.id)) if ask.advisory else frozenset()
    wanted = limit + len(has)
    if ask.parent_id:
        ids = tx.ready.best_below(ask.parent_id, groups, ask.order, wanted)
    else:
        ids = tx.ready.best(groups, ask.order, wanted)
    return [id_ for id_ in ids if id_ not in has][:limit]


def give_back(tx: Transaction, claimed: Claimed) -> None:
    """Undo a claim whose caller had gone when it was answered: as if it had not been made."""
    gone = "the caller had gone before it was told"
    for given in claimed.tasks:
        task = tx.tasks.numbered(given.number)  # it may have another id by now
        if task is None:
            continue
        for claim in given.advisory_claims:
            if not given.claimed and claim[1] == given.revision and claim in task.advisory_claims:
                task = advisory.end(tx, task, claim[0], gone)
        if task.claimed and task.claim_revision == given.claim_revision:
            move(
                tx,
                task,
                tx.workflows.get(task.workflow).initial_state,
                EventType.TASK_RELEASED,
                by=None,
                reason=gone,
                is_activity=False,
                worker_id=None,
            )


def release(tx: Transaction, ask: Held) -> Moved:
    """Give a task back. Raises TaskNotFound, WorkerNotFound, ClaimLost, IllegalTransition."""
    worker, task = require_holder(tx, ask, also_beside=True)
    if not task.claimed or task.worker_id != worker.id:
        task = advisory.end(tx, task, worker.id, ask.reason or "the worker let go")
        tx.workers.lives(worker, tx.now)
        return Moved(task, [], tx.seen)
    workflow = workflow_for(tx, task, worker)
    workflow.check_exit(task.id, task.status, workflow.initial_state)
    to = workflow.initial_state
    released = EventType.TASK_RELEASED
    return _end(tx, worker, task, to, type_=released, reason=ask.reason, rests=False)


def complete(tx: Transaction, ask: Held) -> Moved:
    """End a task well.

    Raises TaskNotFound, WorkerNotFound, ClaimLost, ChildrenOpen, IllegalTransition,
    GateUnsatisfied, RoleForbids. Work of a claim whose lease ran out is accepted as long as
    nobody took the task since.
    """
    worker, task = require_holder(tx, ask, also_lapsed=True)
    if ask.force:
        check_right(tx, worker, Right.FORCE, task.workflow)
    task = _take_over(tx, worker, task)
    workflow = workflow_for(tx, task, worker)
    if task.claimed:
        workflow.check_exit(task.id, task.status, workflow.complete_state)
    check_children(tx, task)
    completed, done = EventType.TASK_COMPLETED, workflow.complete_state
    # What was worked on until its lease ran out stands elsewhere by now.
    leaving = task.status if task.claimed else workflow.claim_state
    forced = pass_gates(tx, workflow, task, done, task.phase, force=ask.force, leaving=leaving)
    reason = noting(ask.reason, forced)
    moved = _end(tx, worker, task, done, type_=completed, reason=reason, leaving=leaving)
    if forced:
        tell_forced(tx, moved.task, worker.id, forced)
    return moved


def fail(tx: Transaction, ask: Fail) -> Moved:
    """Say that the work failed; the task is tried again, or fails for good.

    Raises TaskNotFound, WorkerNotFound, ClaimLost, IllegalTransition.
    """
    worker, task = require_holder(tx, ask)
    task = _take_over(tx, worker, task)
    workflow = workflow_for(tx, task, worker)
    workflow.check_exit(task.id, task.status, workflow.fail_state)
    attempts = task.attempts + 1
    if not ask.retry or attempts >= task.max_attempts:
        return _end(
            tx,
            worker,
            task,
            workflow.fail_state,
            type_=EventType.TASK_FAILED,
            reason=ask.reason,
            attempts=attempts,
        )
    delay = task.retry_delay(attempts) if ask.retry_delay_ms is None else ask.retry_delay_ms
    not_before = latest(task.not_before, tx.now + delay if delay else None)
    if not_before is not None:
        tx.wake_at(not_before)
    return _end(
        tx,
        worker,
        task,
        workflow.initial_state,
        type_=EventType.TASK_RELEASED,
        reason=ask.reason,
        attempts=attempts,
        not_before=not_before,
    )


def assign(tx: Transaction, task: Task, worker: Worker, by: str | None, reason: str) -> Task:
    """Hand a free task to a worker, who begins it with a claim.

    Raises TaskClaimed, TagsMissing, BudgetExceeded, IllegalTransition, WipLimit.
    """
    if task.claimed:
        raise claimed_by_other(task)
    workflow = tx.workflows.get(task.workflow)
    workflow.check_exit(task.id, task.status, workflow.assign_state)
    error = (
        missing_tags(task, worker)
        or budgets.check_within(tx, task)
        or wip.refusal(tx, workflow, task, workflow.assign_state)
    )
    if error:
        raise error
    tx.lease_ends_at(worker.id, worker.lease_end(tx.now, tx.now + worker.lease_ms))
    if not may(tx, worker, Right.CLAIM, worker.workflow):
        tx.ask_worker_again(worker.id)  # it waits for nothing else
    return move(
        tx,
        task,
        workflow.assign_state,
        EventType.TASK_MOVED,
        by=by,
        reason=reason,
        **_claim(tx, worker, task, worker.lease_ms),
    )


def _end(
    tx: Transaction,
    worker: Worker,
    task: Task,
    to: str,
    *,
    type_: EventType,
    reason: str,
    rests: bool = True,
    leaving: str = "",
    **changes: Unpack[TaskChanges],
) -> Moved:
    """End the worker's claim by putting the task into another state.

    ``leaving``: the state that it leaves by that, where that is not where it stands.
    """
    changes["worker_id"] = None if type_ is EventType.TASK_RELEASED else worker.id
    ended = move(tx, task, to, type_, by=worker.id, reason=reason, **changes)
    rests_until = worker.cooling_until
    if rests:
        rests_until = tx.now + worker.cool_down_ms if worker.cool_down_ms else None
    tx.workers.moved(worker, tx.now, to, ended.phase, rests_until)
    left = leaving or task.status, task.phase
    step = Step(workflow_for(tx, ended, worker), ended, worker, left)
    return Moved(ended, tx.unblocked(), tx.seen, step, tx.noted.warnings)


def _mark(
    tx: Transaction, worker: Worker, task: Task, ask: Claim | ClaimNext
) -> Sequence[FileMark]:
    """Mark the files of a claim, of which no lock is another's; the marks of others on them."""
    if not ask.files:
        return ()
    _, _, conflicts = marks.place(tx, worker, ask.files, task.id, ask.mark_reason)
    return conflicts


def _give(tx: Transaction, worker: Worker, task: Task, ask: Claim | ClaimNext) -> Task:
    """Give the worker a task in the mode that it asks for."""
    if ask.advisory:
        return advisory.make(tx, worker, task, ask.lease_ms or worker.lease_ms)
    return _take(tx, worker, task, ask.lease_ms)


def latest(one: int | None, other: int | None) -> int | None:
    """The later of two times, of which there may be none."""
    return max((time for time in (one, other) if time is not None), default=None)


def _note_taken(tx: Transaction, worker: Worker, tasks: list[Task], ask: Claim | ClaimNext) -> None:
    """Count what the worker was given, and what it moved by that."""
    moved = None if ask.advisory else tasks[-1]
    status = moved.status if moved else worker.last_status
    phase = moved.phase if moved else worker.last_phase
    # That somebody who waits is given something is no sign of its life.
    lives = not tx.again and (isinstance(ask, Claim) or ask.asked)
    tx.workers.took(worker, tx.now if lives else None, len(tasks), status, phase)


def _take_over(tx: Transaction, worker: Worker, task: Task) -> Task:
    """The task, taken exclusively by one who works on it by an advisory claim.

    So whoever ends a task has had it, whatever keeps others from beginning it by now. Raises
    IllegalTransition where somebody moved it to where no work begins.
    """
    if task.claimed or task.advisory_claim(worker.id) is None:
        return task
    workflow = tx.workflows.get(task.workflow)
    workflow.check_exit(task.id, task.status, workflow.claim_state)
    return _take(tx, worker, task, None)


def _take(tx: Transaction, worker: Worker, task: Task, lease_ms: int | None) -> Task:
    workflow = tx.workflows.get(task.workflow)
    lease_ms = lease_ms or worker.lease_ms
    tx.lease_ends_at(worker.id, worker.lease_end(tx.now, tx.now + lease_ms))
    return move(
        tx,
        task,
        workflow.claim_state,
        EventType.TASK_CLAIMED,
        by=worker.id,
        **_claim(tx, worker, task, lease_ms),
    )


def _claim(tx: Transaction, worker: Worker, task: Task, lease_ms: int) -> TaskChanges:
    """The columns of a claim. Its token is the revision that makes it."""
    return {
        "worker_id": worker.id,
        "claimed_at": tx.now,
        "claim_revision": task.claim_revision or tx.revision,
        "lease_ms": lease_ms,
        "lease_since": tx.now,
    }


def _is_assigned(tx: Transaction, task: Task) -> bool:
    """Whether a held task waits for its worker to begin it."""
    return task.status == tx.workflows.get(task.workflow).assign_state


def _renew(tx: Transaction, worker: Worker, task: Task, lease_ms: int | None) -> Task:
    """Claiming what one holds renews the lease, and may give it another length."""
    tx.workers.lives(worker, tx.now)
    if lease_ms is None or lease_ms == task.lease_ms or task.lease_ms is None:
        return require_task(tx, task.id)
    tx.lease_ends_at(worker.id, tx.now + lease_ms)
    renewed = change(tx, task, {"lease_ms": lease_ms})
    tx.tell_task(EventType.TASK_UPDATED, renewed, task, worker_id=worker.id)
    return renewed


def _all_done(tx: Transaction, parent_id: str) -> bool:
    still_open = tx.workflows.open_statuses
    if parent_id:
        return not tx.ready.any_below(parent_id, still_open)
    return not tx.tasks.any_with_status(still_open)
