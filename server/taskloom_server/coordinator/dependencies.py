"""Dependencies: linking and unlinking tasks, and what that does to readiness."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from taskloom_server.coordinator import workers
from taskloom_server.coordinator.changes import change
from taskloom_server.coordinator.lookup import below, require_live_task, require_task
from taskloom_server.coordinator.roles import Right, check_right
from taskloom_server.coordinator.transitions import count_blocker, count_child, shift_paused
from taskloom_server.graph import cycles
from taskloom_server.graph.errors import Cycle, ParentEnded, ParentExists
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import CONTAINS, START_BLOCKING, Dependency, Task
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


def link_tasks(tx: Transaction, ask: Link) -> Linked:
    """Add a dependency.

    Raises TaskNotFound, TaskDeleted, Cycle, ParentExists, ParentEnded, RoleForbids.
    """
    worker = workers.sign_of_life(tx, ask.worker_id)
    if ask.dep_type == CONTAINS:
        check_right(tx, worker, Right.CREATE_SUBTASKS)
    from_task = require_live_task(tx, ask.from_task_id, "task (from)")
    to_task = require_live_task(tx, ask.to_task_id, "task (to)")
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
        child = _set_parent(tx, to_task, from_task_id, by)
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
        to_task = _set_parent(tx, to_task, None, by)
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


def _set_parent(tx: Transaction, task: Task, parent_id: str | None, by: str | None) -> Task:
    """Put a task below another parent, or none; all below it are told of, too."""
    parent = tx.tasks.get(parent_id) if parent_id else None
    paused = (parent.paused if parent else 0) + (tx.pauses.get(task.id) is not None)
    if paused != task.paused:
        shift_paused(tx, task, paused - task.paused)
        task = require_task(tx, task.id)
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
