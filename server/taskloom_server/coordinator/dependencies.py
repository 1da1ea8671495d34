"""Dependencies: linking and unlinking tasks, and what that does to readiness."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from taskloom_server.coordinator import budgets, workers
from taskloom_server.coordinator.changes import change
from taskloom_server.coordinator.lookup import below, require_live_task, require_task
from taskloom_server.coordinator.pauses import shift_paused
from taskloom_server.coordinator.roles import check_right
from taskloom_server.coordinator.transitions import (
    advance,
    count_blocker,
    count_child,
    rolling_up_later,
)
from taskloom_server.graph import cycles
from taskloom_server.graph.errors import Cycle, DependencyNotFound, ParentEnded, ParentExists
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import CONTAINS, START_BLOCKING, Dependency, Task
from taskloom_server.graph.workers import Worker
from taskloom_server.graph.workflows import Right
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Link:
    """A dependency that is to be, or not to be; an empty type: all there are."""

    from_task_id: str
    to_task_id: str
    dep_type: str
    worker_id: str  # empty: a person


@dataclass(frozen=True, slots=True)
class Linked:
    """A dependency; ``created`` is false where it was there already."""

    dependency: Dependency
    created: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The dependencies that are gone, and the tasks that became ready by it."""

    removed: list[Dependency]
    unblocked: list[str]
    revision: int


@dataclass(frozen=True, slots=True)
class Relink:
    """Dependencies that are to go, and others that are to be."""

    remove: tuple[Dependency, ...]
    add: tuple[Dependency, ...]
    worker_id: str  # empty: a person


@dataclass(frozen=True, slots=True)
class Relinked:
    """The dependencies that are gone, those that are new, and the tasks that became ready by it."""

    removed: list[Dependency]
    added: list[Dependency]
    unblocked: list[str]
    revision: int


def link_tasks(tx: Transaction, ask: Link) -> Linked:
    """Add a dependency.

    Raises TaskNotFound, TaskDeleted, Cycle, ParentExists, ParentEnded, RoleForbids.
    """
    worker = workers.sign_of_life(tx, ask.worker_id)
    from_task = require_live_task(tx, ask.from_task_id, "task (from)")
    to_task = require_live_task(tx, ask.to_task_id, "task (to)")
    if ask.dep_type == CONTAINS:
        _check_subtask(tx, worker, from_task, to_task)
    dependency = Dependency(from_task.id, to_task.id, ask.dep_type)
    created = add(tx, dependency, by=ask.worker_id or None)
    return Linked(dependency, created, tx.seen)


def unlink_tasks(tx: Transaction, ask: Link) -> Unlinked:
    """Remove a dependency, or all from the one to the other. Raises TaskNotFound."""
    workers.sign_of_life(tx, ask.worker_id)
    require_task(tx, ask.from_task_id, "task (from)")
    require_task(tx, ask.to_task_id, "task (to)")
    removed = [
        dependency
        for dependency in tx.dependencies.between(ask.from_task_id, ask.to_task_id)
        if ask.dep_type in ("", dependency.dep_type)
    ]
    for dependency in removed:
        _remove(tx, dependency, by=ask.worker_id or None)
    return Unlinked(removed, tx.unblocked(), tx.seen)


def relink_tasks(tx: Transaction, ask: Relink) -> Relinked:
    """Remove dependencies and add others; parents roll up by what comes of it only.

    Raises TaskNotFound, TaskDeleted, DependencyNotFound, Cycle, ParentExists, ParentEnded,
    RoleForbids.
    """
    worker = workers.sign_of_life(tx, ask.worker_id)
    by = ask.worker_id or None
    for n, dependency in enumerate((*ask.remove, *ask.add)):
        from_task = require_task(tx, dependency.from_task_id, "task (from)")
        to_task = require_task(tx, dependency.to_task_id, "task (to)")
        if n >= len(ask.remove) and dependency.dep_type == CONTAINS:
            _check_subtask(tx, worker, from_task, to_task)
    was_ready = {d.to_task_id for d in (*ask.remove, *ask.add) if _is_ready(tx, d.to_task_id)}
    was_ready |= {d.from_task_id for d in ask.remove if _is_ready(tx, d.from_task_id)}
    with rolling_up_later(tx):
        for dependency in ask.remove:
            from_task_id, to_task_id, dep_type = dependency
            if dependency not in tx.dependencies.between(from_task_id, to_task_id):
                raise DependencyNotFound(
                    f"{from_task_id!r} {dep_type} {to_task_id!r} is not there (any more)",
                    subjects=(from_task_id, to_task_id),
                )
            _remove(tx, dependency, by)
        added = []
        for dependency in ask.add:
            require_live_task(tx, dependency.from_task_id, "task (from)")
            require_live_task(tx, dependency.to_task_id, "task (to)")
            if add(tx, dependency, by):
                added.append(dependency)
    unblocked = [
        id_ for id_ in dict.fromkeys(tx.unblocked()) if id_ not in was_ready and _is_ready(tx, id_)
    ]
    return Relinked(list(ask.remove), added, unblocked, tx.seen)


def _check_subtask(tx: Transaction, worker: Worker | None, parent: Task, child: Task) -> None:
    """Raise RoleForbids unless the worker may put a task below another one."""
    for workflow in dict.fromkeys((parent.workflow, child.workflow)):
        check_right(tx, worker, Right.CREATE_SUBTASKS, workflow)


def _is_ready(tx: Transaction, task_id: str) -> bool:
    task = tx.tasks.get(task_id)
    return task is not None and task.ready


def add(tx: Transaction, dependency: Dependency, by: str | None) -> bool:
    """Add a dependency between tasks that are there; False if it was there already.

    Raises Cycle, ParentExists, ParentEnded.
    """
    from_task_id, to_task_id, dep_type = dependency
    between = tx.dependencies.between(from_task_id, to_task_id)
    if dependency in between:
        return False
    check_cycle(tx, dependency)
    from_task = require_task(tx, from_task_id)
    to_task = require_task(tx, to_task_id)
    if dep_type == CONTAINS:
        _check_parent(tx, from_task, to_task)
    tx.dependencies.insert(dependency)
    tx.tell(EventType.DEPENDENCY_ADDED, dependency, task_id=to_task_id, worker_id=by)
    blocks = tx.workflows.get(from_task.workflow).blocks(from_task.status)
    if dep_type == CONTAINS:
        child = set_parent(tx, to_task, from_task_id, by)
        if tx.workflows.get(child.workflow).blocks(child.status):
            count_child(tx, from_task_id, +1)
    elif dep_type in START_BLOCKING and blocks and not _starts_blocked(between):
        count_blocker(tx, to_task, +1)
    return True


def _remove(tx: Transaction, dependency: Dependency, by: str | None) -> None:
    from_task_id, to_task_id, dep_type = dependency
    tx.dependencies.delete(dependency)
    tx.tell(EventType.DEPENDENCY_REMOVED, dependency, task_id=to_task_id, worker_id=by)
    from_task, to_task = require_task(tx, from_task_id), require_task(tx, to_task_id)
    if dep_type == CONTAINS:
        to_task = set_parent(tx, to_task, None, by)
    if from_task.deleted_at is not None or to_task.deleted_at is not None:
        return  # its end counts for nothing any more
    if dep_type == CONTAINS:
        if tx.workflows.get(to_task.workflow).blocks(to_task.status):
            count_child(tx, from_task_id, -1)
    elif (
        dep_type in START_BLOCKING
        and tx.workflows.get(from_task.workflow).blocks(from_task.status)
        and not _starts_blocked(tx.dependencies.between(from_task_id, to_task_id))
    ):
        count_blocker(tx, to_task, -1)


def set_parent(tx: Transaction, task: Task, parent_id: str | None, by: str | None) -> Task:
    """Put a task below another parent, or none; all below it are told of, too."""
    above = [tx.tasks.get(id_) if id_ else None for id_ in (task.parent_id, parent_id)]
    paused_before, paused = (parent.paused if parent else 0 for parent in above)
    if paused != paused_before:
        for one in shift_paused(tx, task, paused - paused_before):
            advance(tx, one)
        task = require_task(tx, task.id)
    child = _put_below(tx, task, parent_id, by)
    budgets_before, budgets_over = (parent.budgets if parent else 0 for parent in above)
    if budgets_before or budgets_over:
        budgets.moved(tx, child, above, budgets_over - budgets_before)
        child = require_task(tx, child.id)
    return child


def _put_below(tx: Transaction, task: Task, parent_id: str | None, by: str | None) -> Task:
    if task.deleted_at is not None:  # that was told, and nothing is told of it after that
        return change(tx, task, {"parent_id": parent_id})
    moving = [(one, tx.tasks.ancestors(one.parent_id)) for one in below(tx, task)]
    child = change(tx, task, {"parent_id": parent_id})
    tx.tell_task(EventType.TASK_UPDATED, child, task, worker_id=by)
    for one, was_below in moving[1:]:
        after = change(tx, one, {})
        tx.tell_task(EventType.TASK_UPDATED, after, one, worker_id=by, was_below=was_below)
    return child


def _starts_blocked(dependencies: list[Dependency]) -> bool:
    """A blocker is counted once, though it may block and be followed."""
    return any(dependency.dep_type in START_BLOCKING for dependency in dependencies)


def check_cycle(tx: Transaction, dependency: Dependency) -> None:
    """Raise Cycle if the dependency would close one, naming the tasks along it."""
    arrow = cycles.arrow(*dependency)
    if arrow is None:
        if dependency.from_task_id == dependency.to_task_id:
            raise Cycle(
                f"task {dependency.to_task_id!r} cannot depend on itself",
                subjects=(dependency.to_task_id,),
            )
        return
    start, end = arrow
    path = cycles.find_path(tx.dependencies.waiting_for, end, start)
    if path is not None:
        ring = [start, *path]
        raise Cycle(
            f"{dependency.dep_type} from {dependency.from_task_id!r} to "
            f"{dependency.to_task_id!r} would close a cycle: {' -> '.join(ring)}",
            subjects=ring,
        )


def check_acyclic(tx: Transaction, task_ids: Iterable[str]) -> None:
    """Raise Cycle if one of these tasks waits for itself, naming the tasks along the cycle.

    One walk for a whole tree of new tasks: one for each of its dependencies took a minute.
    """
    waits_for: dict[str, list[str]] = {}
    found = deque(task_ids)
    seen = set(found)
    while found:
        task_id = found.popleft()
        for waiting in tx.dependencies.waiting_for(task_id):
            waits_for.setdefault(waiting, []).append(task_id)
            if waiting not in seen:
                seen.add(waiting)
                found.append(waiting)
    ring = cycles.find_cycle(waits_for)
    if ring is not None:
        raise Cycle(f"tasks would wait for each other: {' -> '.join(ring)}", subjects=ring)


def _check_parent(tx: Transaction, parent: Task, child: Task) -> None:
    if child.parent_id is not None:
        raise ParentExists(
            f"task {child.id!r} has a parent already, {child.parent_id!r}; unlink it first",
            subjects=(child.parent_id,),
        )
    check_parent_open(tx, parent)


def check_parent_open(tx: Transaction, parent: Task) -> None:
    """Raise ParentEnded if a task has ended and so takes no more children."""
    state = tx.workflows.get(parent.workflow).states.get(parent.status)
    if state is not None and state.terminal:
        raise ParentEnded(
            f"task {parent.id!r} is {parent.status!r} and takes no more children; reopen it first",
            subjects=(parent.id,),
            metadata={"status": parent.status},
        )
