"""Tasks: creating, reading, changing and deleting them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from taskloom_server.coordinator import advisory, budgets, dependencies, marks, wip, workers
from taskloom_server.coordinator.admission import (
    check_admission,
    check_children,
    check_claim,
    check_start,
    claim_lost,
)
from taskloom_server.coordinator.changes import change, warmth
from taskloom_server.coordinator.claims import assign
from taskloom_server.coordinator.following import follow
from taskloom_server.coordinator.gates import noting, pass_gates, tell_forced
from taskloom_server.coordinator.lookup import below, require_live_task, require_task, workflow_for
from taskloom_server.coordinator.roles import check_right
from taskloom_server.coordinator.transitions import (
    advance,
    begin,
    count_child,
    let_go,
    move,
    set_phase,
)
from taskloom_server.graph import names
from taskloom_server.graph.errors import (
    ChildrenOpen,
    EtagMismatch,
    InvalidField,
    TaskClaimed,
    TaskExists,
)
from taskloom_server.graph.events import EventType
from taskloom_server.graph.steps import Step
from taskloom_server.graph.tasks import (
    BLOCKS,
    CONTAINS,
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_PRIORITY,
    Dependency,
    Task,
    TaskChanges,
    new_task,
)
from taskloom_server.graph.temperature import Activity, Heat, born, heat_of
from taskloom_server.graph.workflows import Right, Unknown, Workflow
from taskloom_server.store.listing import Filters, Order, key_of
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be; ``path`` is where in the request it stands, for errors."""

    id: str  # empty: made up
    title: str
    description: str = ""
    blocked_by: tuple[str, ...] = ()
    priority: int = DEFAULT_PRIORITY
    points: int | None = None
    time_estimate_ms: int | None = None
    phase: str = ""
    tags: tuple[str, ...] = ()
    needed_tags: tuple[str, ...] = ()
    wanted_tags: tuple[str, ...] = ()
    not_before: int | None = None
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    retry_delay_ms: int | None = None
    max_cost_usd: float | None = None
    max_subtree_attempts: int | None = None
    children: tuple["NewTask", ...] = ()
    path: str = ""


@dataclass(frozen=True, slots=True)
class CreateTasks:
    """A tree of tasks to be, under a parent or at the top."""

    root: NewTask
    parent_id: str
    workflow: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class Created:
    """The tasks of a tree, each before its children."""

    tasks: list[Task]
    revision: int
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """A task and all that hangs on it."""

    task: Task
    dependencies: list[Dependency]
    revision: int


@dataclass(frozen=True, slots=True)
class ListTasks:
    """A page of tasks, from the place ``after``."""

    filters: Filters
    heat: Heat | None
    qualified_for: str  # a worker's id; empty: any
    order: Order
    after: tuple[Any, ...] | None
    limit: int


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Tasks, and the place from which the next page goes on."""

    tasks: list[Task]
    next_after: tuple[Any, ...] | None
    revision: int


@dataclass(frozen=True, slots=True)
class UpdateTask:
    """Changes of a task; what is None stays."""

    task_id: str
    worker_id: str
    claim_revision: int
    etag: int
    reason: str
    changes: TaskChanges = field(default_factory=TaskChanges)
    status: str | None = None
    phase: str | None = None  # empty: no phase
    assignee: str | None = None  # empty: nobody
    force: bool = False  # past gates that may be forced
    workflow: str | None = None


@dataclass(frozen=True, slots=True)
class Updated:
    """A task after its change, and the tasks that became ready by it."""

    task: Task
    unblocked: list[str]
    revision: int
    step: Step | None = None  # what its workflow may have prompts for
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class DeleteTask:
    """The deletion of a task, and with ``cascade`` of all below it."""

    task_id: str
    worker_id: str
    reason: str
    cascade: bool
    force: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """The tasks that are deleted by this, and those that became ready by it."""

    deleted: list[str]
    unblocked: list[str]
    revision: int


def create_tasks(tx: Transaction, ask: CreateTasks) -> Created:
    """Add a tree of tasks, or a single one.

    Raises TaskExists, TaskNotFound, TaskDeleted, WorkflowNotFound, Cycle, ParentEnded,
    RoleForbids, InvalidField.
    """
    worker = workers.sign_of_life(tx, ask.worker_id)
    by = ask.worker_id or None
    workflow_name = ask.workflow
    parent = None
    if ask.parent_id:
        parent = require_live_task(tx, ask.parent_id, "parent")
        check_right(tx, worker, Right.CREATE_SUBTASKS, parent.workflow)
        dependencies.check_parent_open(tx, parent)
        workflow_name = workflow_name or parent.workflow
    workflow = tx.workflows.for_worker(workflow_name, worker.overlays if worker else ())
    if ask.parent_id or ask.root.children:  # what is below a new root is a subtask, too
        check_right(tx, worker, Right.CREATE_SUBTASKS, workflow.name)

    planned = _plan(tx, ask.root, ask.parent_id)
    ours = {one.id for one in planned}
    tasks = [
        _insert(tx, one, workflow, by, parent, unmet_blockers=_unmet(tx, one, ours, workflow))
        for one in planned
    ]
    for task in tasks:
        tx.tell_task(EventType.TASK_CREATED, task, None, worker_id=by)
    for one, task in zip(planned, tasks, strict=True):
        if one.parent_id:
            _link(tx, Dependency(one.parent_id, one.id, CONTAINS), task, by)
        for blocker in one.blockers:
            _link(tx, Dependency(blocker, one.id, BLOCKS), task, by)
    if any(one.blockers for one in planned):
        dependencies.check_acyclic(tx, [one.id for one in planned])
    if ask.parent_id and workflow.blocks(workflow.initial_state):
        count_child(tx, ask.parent_id, +1)
    for task in tasks:
        if task.max_cost_usd is not None or task.max_subtree_attempts is not None:
            budgets.set_limits(tx, task)
    return Created(tasks, tx.seen, tx.noted.warnings)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A node of a tree that has its id and its place."""

    node: NewTask
    id: str
    parent_id: str
    blockers: tuple[str, ...]


def _plan(tx: Transaction, root: NewTask, parent_id: str) -> list[_Planned]:
    """The nodes of a tree, each before its children. Raises TaskExists."""
    planned: list[_Planned] = []
    taken: set[str] = set()

    def visit(node: NewTask, parent_id: str) -> None:
        task_id = node.id
        if task_id and (task_id in taken or tx.tasks.exists(task_id)):
            raise TaskExists(
                f"{node.path}id: there is a task {task_id!r} already", subjects=(task_id,)
            )
        while not task_id or (not node.id and (task_id in taken or tx.tasks.exists(task_id))):
            task_id = names.task_name(node.title, tx.rng)
        taken.add(task_id)
        planned.append(_Planned(node, task_id, parent_id, tuple(dict.fromkeys(node.blocked_by))))
        for child in node.children:
            visit(child, task_id)

    visit(root, parent_id)
    return planned


def _unmet(tx: Transaction, one: _Planned, ours: set[str], workflow: Workflow) -> int:
    """How many of a new task's blockers hold it back. Raises TaskNotFound, TaskDeleted."""
    unmet = 0
    for blocker_id in one.blockers:
        if blocker_id in ours:
            unmet += workflow.blocks(workflow.initial_state)
            continue
        blocker = require_live_task(tx, blocker_id, f"blocker ({one.node.path}blocked_by)")
        unmet += tx.workflows.get(blocker.workflow).blocks(blocker.status)
    return unmet


def _link(tx: Transaction, dependency: Dependency, task: Task, by: str | None) -> None:
    tx.dependencies.insert(dependency)
    tx.tell(EventType.DEPENDENCY_ADDED, dependency, task_id=task.id, task=task, worker_id=by)


def _insert(
    tx: Transaction,
    one: _Planned,
    workflow: Workflow,
    by: str | None,
    parent: Task | None,
    *,
    unmet_blockers: int,
) -> Task:
    """``parent``: of the whole tree, whose pauses and budgets are over all of it."""
    node = one.node
    _check_phase(tx, workflow, node.phase, f"{node.path}phase")
    state = workflow.states[workflow.initial_state]
    task = new_task(
        id=one.id,
        title=node.title,
        description=node.description,
        status=workflow.initial_state,
        workflow=workflow.name,
        now=tx.now,
        revision=tx.revision,
    )._replace(
        tags=node.tags,
        needed_tags=node.needed_tags,
        wanted_tags=node.wanted_tags,
        phase=node.phase or None,
        priority=node.priority,
        parent_id=one.parent_id or None,
        points=node.points,
        time_estimate_ms=node.time_estimate_ms,
        not_before=_future(tx, node.not_before),
        max_attempts=node.max_attempts,
        retry_delay_ms=node.retry_delay_ms,
        unmet_blockers=unmet_blockers,
        open_children=len(node.children) if workflow.blocks(workflow.initial_state) else 0,
        claimable=1,
        paused=parent.paused if parent else 0,
        budgets=parent.budgets if parent else 0,
        max_cost_usd=node.max_cost_usd,
        max_subtree_attempts=node.max_subtree_attempts,
        requirement_id=tx.requirements.id_of(node.needed_tags, node.wanted_tags, workflow.name),
        state_since=tx.now if state.timed else None,
        heat=born(node.priority, tx.now, tx.weights).heat,
    )
    task = task._replace(ready_at=tx.now if task.ready else None, sequence_id=begin(tx, task, by))
    return tx.tasks.insert(task)


def _future(tx: Transaction, not_before: int | None) -> int | None:
    """A not_before that has not passed; the server will see to it when it does."""
    if not_before is None or not_before <= tx.now:
        return None
    tx.wake_at(not_before)
    return not_before


def _check_phase(tx: Transaction, workflow: Workflow, phase: str, path: str) -> None:
    """Refuse, or warn of, a phase that the workflow does not list. Raises InvalidField."""
    if not phase or phase in workflow.phases or workflow.unknown_phase is Unknown.ALLOW:
        return
    problem = (
        f"workflow {workflow.name!r} has no phase {phase!r}; it has "
        f"{', '.join(workflow.phases) or 'none'}"
    )
    if workflow.unknown_phase is Unknown.REJECT:
        raise InvalidField(path, problem)
    if not any(told.endswith(problem) for told in tx.noted.warnings):  # once in a tree
        tx.warn(f"{path}: {problem}")


def get_task(tx: Transaction, task_id: str) -> Shown:
    """One task, deleted or not. Raises TaskNotFound."""
    task = require_task(tx, task_id)
    return Shown(task, tx.dependencies.of(task_id), tx.seen)


def list_tasks(tx: Transaction, ask: ListTasks) -> TaskPage:
    """The tasks that pass all filters. Raises TaskNotFound and WorkerNotFound."""
    filters = ask.filters
    if filters.parent_id:
        require_task(tx, filters.parent_id, "parent")
    if ask.qualified_for:
        worker = workers.require(tx, ask.qualified_for)
        groups = tx.requirements.admitting(worker.tags)
        filters = replace(filters, requirement_ids=tuple(groups))
    if ask.heat is not None:
        low, high = ask.heat.value
        filters = replace(
            filters,
            heat_from=None if low is None else heat_of(low, tx.now),
            heat_below=None if high is None else heat_of(high, tx.now),
        )
    found = tx.listing.page(filters, ask.order, ask.after, ask.limit + 1)
    shown = found[: ask.limit]
    more = len(found) > ask.limit
    return TaskPage(shown, key_of(shown[-1], ask.order) if more else None, tx.seen)


def update_task(tx: Transaction, ask: UpdateTask) -> Updated:
    """Change the fields that are named, and only those.

    Raises TaskNotFound, WorkerNotFound, TaskDeleted, EtagMismatch, ClaimLost,
    IllegalTransition, DependenciesUnmet, ChildrenOpen, TaskClaimed, GateUnsatisfied, WipLimit,
    RoleForbids, WorkflowNotFound, InvalidField.
    """
    worker = workers.sign_of_life(tx, ask.worker_id)
    by = ask.worker_id or None
    task = found = require_live_task(tx, ask.task_id)
    follows = task.workflow if ask.workflow is None else tx.workflows.get(ask.workflow).name
    for name in dict.fromkeys((task.workflow, follows)):
        if ask.assignee:
            check_right(tx, worker, Right.ASSIGN, name)
        if ask.force or follows != task.workflow:  # to leave a workflow is to leave its gates
            check_right(tx, worker, Right.FORCE, name)
    check_etag(task, ask.etag)
    check_claim(tx, task, ask.worker_id, ask.claim_revision)
    if ask.workflow is not None:
        task = follow(tx, task, ask.workflow, by, ask.reason)
    workflow = workflow_for(tx, task, worker)
    if ask.phase is not None:
        _check_phase(tx, workflow, ask.phase, "phase")

    changes = TaskChanges(**ask.changes)
    if "not_before" in changes:
        changes["not_before"] = _future(tx, changes["not_before"])
    if "needed_tags" in changes or "wanted_tags" in changes:
        changes["requirement_id"] = tx.requirements.id_of(
            changes.get("needed_tags", task.needed_tags),
            changes.get("wanted_tags", task.wanted_tags),
            workflow.name,
        )
    moves = ask.status is not None and ask.status != task.status
    phase = task.phase if ask.phase is None else ask.phase or None
    forced = ""
    if moves or phase != task.phase:
        to = ask.status or task.status
        if moves:
            _check_move(tx, task, to, workflow=workflow, ask=ask)
        forced = pass_gates(tx, workflow, task, to, phase, force=ask.force)
        ask = replace(ask, reason=noting(ask.reason, forced))
    if phase != task.phase:
        if moves:
            changes["phase"] = phase
        else:
            changes |= set_phase(tx, task, phase, by, ask.reason)
    if moves:
        assert ask.status is not None
        task = _move(tx, task, ask.status, workflow=workflow, ask=ask, changes=changes)
    elif any(getattr(task, column) != value for column, value in changes.items()):
        changes |= warmth(tx, task, Activity(), changes.get("priority", task.priority))
        before, task = task, change(tx, task, changes)
        tx.tell_task(EventType.TASK_UPDATED, task, before, worker_id=by, reason=ask.reason)
        if task.ready != before.ready:  # a not_before was set, or taken away
            turned = EventType.TASK_READY if task.ready else EventType.TASK_BLOCKED
            tx.tell_task(turned, task, before, worker_id=by, reason=ask.reason)
            if task.ready:
                task = advance(tx, task)
    if ask.assignee is not None:
        task = _assign(tx, task, ask.assignee, workflow, ask)
    if "max_cost_usd" in changes or "max_subtree_attempts" in changes:
        task = budgets.set_limits(tx, task)
    tell_forced(tx, task, by, forced)
    # What an assignment has to say is for the assignee.
    told = tx.workers.get(ask.assignee) if ask.assignee else worker
    step = Step(workflow, task, told, (found.status, found.phase))
    return Updated(task, tx.unblocked(), tx.seen, step, tx.noted.warnings)


def check_etag(task: Task, etag: int) -> None:
    """Raise EtagMismatch if a revision of the task is shown, and is not the one it has."""
    if etag and etag != task.revision:
        raise EtagMismatch(
            f"task {task.id!r} is at revision {task.revision}, not {etag}; read it again",
            metadata={"revision": str(task.revision)},
        )


def _check_move(
    tx: Transaction, task: Task, to: str, *, workflow: Workflow, ask: UpdateTask
) -> None:
    """Refuse to put a task into a state where it may not go, or the caller may not send it."""
    workflow.check_exit(task.id, task.status, to)
    if task.claimed and ask.worker_id and task.worker_id != ask.worker_id:
        raise claim_lost(task, ask.worker_id, ask.claim_revision)
    state = workflow.states[to]
    if to == workflow.complete_state:
        check_children(tx, task)
    goes_on = task.claimed and task.parked_lease_ms is not None
    if to == workflow.claim_state and task.claimed and ask.worker_id and not goes_on:
        # To begin what one was assigned is to claim it, and judged alike.
        error = check_admission(tx, workers.require(tx, ask.worker_id), task)
        if error is not None:
            raise error
    if not task.claimed and (to in (workflow.claim_state, workflow.assign_state) or state.parked):
        raise InvalidField(
            "status",
            f"{to!r} needs a worker: use ClaimTask to take the task, or assignee to assign it",
        )
    if state.timed and not goes_on and (error := check_start(tx, task)):
        raise error
    goes_back = workflow.begins(to) or to == workflow.disconnect_state
    if not goes_back and (full := wip.refusal(tx, workflow, task, to)):
        raise full


def _move(
    tx: Transaction,
    task: Task,
    to: str,
    *,
    workflow: Workflow,
    ask: UpdateTask,
    changes: TaskChanges,
) -> Task:
    """Put a task into the state that was asked for."""
    state = workflow.states[to]
    if workflow.begins(to):
        type_ = EventType.TASK_RELEASED if task.claimed else EventType.TASK_MOVED
        changes["worker_id"] = None
        if not task.claimed and not workflow.begins(task.status):
            changes["attempts"] = 0  # reopened, it is given all its chances again
    else:
        type_ = {
            workflow.complete_state: EventType.TASK_COMPLETED,
            workflow.fail_state: EventType.TASK_FAILED,
            workflow.cancel_state: EventType.TASK_CANCELLED,
        }.get(to, EventType.TASK_MOVED)
    if to == workflow.fail_state:
        changes["attempts"] = task.attempts + 1
    moved = move(tx, task, to, type_, by=ask.worker_id or None, reason=ask.reason, **changes)
    if ask.worker_id:
        worker = workers.require(tx, ask.worker_id)
        rests_until = worker.cooling_until
        if state.terminal and task.claimed:
            rests_until = tx.now + worker.cool_down_ms if worker.cool_down_ms else None
        tx.workers.moved(worker, tx.now, to, moved.phase, rests_until)
    return moved


def _assign(
    tx: Transaction, task: Task, assignee: str, workflow: Workflow, ask: UpdateTask
) -> Task:
    by = ask.worker_id or None
    if assignee:
        if task.claimed and task.worker_id == assignee:
            return task
        return assign(tx, task, workers.require(tx, assignee), by, ask.reason)
    if not task.claimed:
        return task
    if ask.worker_id and task.worker_id != ask.worker_id:
        raise claim_lost(task, ask.worker_id, ask.claim_revision)
    to = workflow.initial_state
    workflow.check_exit(task.id, task.status, to)
    released = EventType.TASK_RELEASED
    return move(tx, task, to, released, by=by, reason=ask.reason, worker_id=None)


def delete_task(tx: Transaction, ask: DeleteTask) -> Deleted:
    """Delete a task softly, and with ``cascade`` all below it.

    Raises TaskNotFound, ChildrenOpen where there are children and no ``cascade``,
    TaskClaimed where something is claimed and no ``force``, and RoleForbids where there is.
    """
    worker = workers.sign_of_life(tx, ask.worker_id)
    by = ask.worker_id or None
    task = require_task(tx, ask.task_id)
    doomed = list(below(tx, task)) if task.deleted_at is None else [task]
    if ask.force:
        for workflow in dict.fromkeys(one.workflow for one in doomed):
            check_right(tx, worker, Right.FORCE, workflow)
    if task.deleted_at is not None:
        return Deleted([], [], tx.seen)
    if len(doomed) > 1 and not ask.cascade:
        children = [t.id for t in tx.tasks.children(task.id)]
        raise ChildrenOpen(
            f"task {task.id!r} has children: {', '.join(children)}; say cascade to delete them too",
            subjects=children,
        )
    if not ask.force:
        for one in doomed:
            if one.claimed:
                raise TaskClaimed(
                    f"task {one.id!r} is held by worker {one.worker_id!r}; say force to delete it "
                    "all the same",
                    subjects=(one.worker_id or "",),
                    metadata={"holder": one.worker_id or "", "task_id": one.id},
                )
    for one in reversed(doomed):  # children first, so that no parent rolls up on the way
        _delete(tx, require_task(tx, one.id), by, ask.reason, keeps_parent=one.id != task.id)
    deleted = [one.id for one in doomed]
    unblocked = [id_ for id_ in tx.unblocked() if id_ not in deleted]
    return Deleted(deleted, unblocked, tx.seen)


def _delete(
    tx: Transaction, task: Task, by: str | None, reason: str, *, keeps_parent: bool
) -> None:
    """``keeps_parent``: the parent goes, too, and need not be told."""
    gone = change(
        tx,
        task,
        {
            "deleted_at": tx.now,
            "deleted_by": by,
            "deleted_reason": reason or None,
            "claim_revision": None,
            "lease_ms": None,
            "lease_since": None,
            "parked_lease_ms": None,
            "lease_until": None,
            "delete_revision": tx.revision,
            "claimable": 0,
        },
    )
    tx.tell_task(EventType.TASK_DELETED, gone, task, worker_id=by, reason=reason)
    workflow = tx.workflows.get(task.workflow)
    wip.note_left(tx, workflow, workflow.states.get(task.status))
    if task.claimed and task.worker_id:
        tx.ask_worker_again(task.worker_id)
    gone = advisory.end_all(tx, gone, "the task was deleted")
    for mark in tx.file_marks.for_task(task.id):
        marks.lift(tx, mark, "the task was deleted", told=reason)
    if workflow.blocks(task.status):
        let_go(tx, gone._replace(parent_id=None) if keeps_parent else gone)
