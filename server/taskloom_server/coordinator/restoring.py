"""Deleted tasks: bringing them back, and removing them for good."""

from collections.abc import Iterator
from dataclasses import dataclass

from taskloom_server.coordinator import budgets, dependencies, workers
from taskloom_server.coordinator.attachments import drop_files
from taskloom_server.coordinator.changes import change
from taskloom_server.coordinator.lookup import blocker_ids, open_child_ids, require_task
from taskloom_server.coordinator.tasks import DeleteTask, delete_task
from taskloom_server.coordinator.transitions import begin, hold_back, move, rolling_up_later
from taskloom_server.graph.errors import ChildrenOpen, TaskDeleted
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workflows import Workflow
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Restore:
    """The return of a deleted task, and with ``cascade`` of what went with it."""

    task_id: str
    worker_id: str  # empty: a person
    reason: str
    cascade: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """The tasks that are back, each before its children."""

    tasks: list[Task]
    revision: int


@dataclass(frozen=True, slots=True)
class Obliterate:
    """The removal of a task for good, and with ``cascade`` of all below it."""

    task_id: str
    worker_id: str  # empty: a person
    reason: str
    cascade: bool
    force: bool


@dataclass(frozen=True, slots=True)
class Obliterated:
    """The tasks that are gone, and those that became ready by it."""

    task_ids: list[str]
    unblocked: list[str]
    revision: int


def restore_task(tx: Transaction, ask: Restore) -> Restored:
    """Bring a deleted task back.

    Raises TaskNotFound, WorkerNotFound, TaskDeleted for its parent, ParentEnded, Cycle.
    """
    workers.sign_of_life(tx, ask.worker_id)
    task = require_task(tx, ask.task_id)
    if task.deleted_at is None:
        return Restored([], tx.seen)
    workflow = tx.workflows.get(task.workflow)
    if task.parent_id is not None:
        parent = require_task(tx, task.parent_id, "parent")
        if parent.deleted_at is not None:
            raise TaskDeleted(
                f"parent {parent.id!r} is deleted; restore it first, with cascade to have all back",
                subjects=(parent.id,),
            )
        if workflow.blocks(task.status):
            dependencies.check_parent_open(tx, parent)
    returning = [task, *(_deleted_with(tx, task) if ask.cascade else ())]
    with rolling_up_later(tx):
        for one in returning:
            _restore(tx, require_task(tx, one.id), ask)
    dependencies.check_acyclic(tx, [one.id for one in returning])
    return Restored([require_task(tx, one.id) for one in returning], tx.seen)


def _deleted_with(tx: Transaction, task: Task) -> Iterator[Task]:
    """What was deleted below a task together with it, each before its children."""
    gone = [one for one in tx.tasks.all_below(task.id) if one.deleted_at is not None]
    children: dict[str | None, list[Task]] = {}
    for one in gone:
        children.setdefault(one.parent_id, []).append(one)
    stack = [task]
    while stack:
        parent = stack.pop()
        together = [
            one
            for one in children.get(parent.id, ())
            if (one.delete_revision, one.deleted_at) == (task.delete_revision, task.deleted_at)
        ]
        yield from together
        stack += together


def _restore(tx: Transaction, task: Task, ask: Restore) -> None:
    workflow = tx.workflows.get(task.workflow)
    by = ask.worker_id or None
    gone_at = task.deleted_at or tx.now
    worked_ms = max(0, gone_at - task.state_since) if task.state_since is not None else 0
    not_before = task.not_before if task.not_before and task.not_before > tx.now else None
    if not_before is not None:
        tx.wake_at(not_before)
    if task.sequence_id is not None:
        tx.transitions.close(task.sequence_id, gone_at)
    back = change(
        tx,
        task,
        {
            "deleted_at": None,
            "deleted_by": None,
            "deleted_reason": None,
            "delete_revision": None,
            "unmet_blockers": len(blocker_ids(tx, task.id)),
            "open_children": len(open_child_ids(tx, task.id)),
            "claimable": int(workflow.begins(task.status)),
            "not_before": not_before,
            "time_actual_ms": task.time_actual_ms + worked_ms,
            "state_since": None if task.state_since is None else tx.now,
            "sequence_id": begin(tx, task, by, ask.reason or "restored", closes=False),
        },
    )
    tx.tell_task(EventType.TASK_RESTORED, back, None, worker_id=by, reason=ask.reason)
    if workflow.blocks(back.status):
        hold_back(tx, back)
    if _needs_worker(workflow, back):
        to = workflow.disconnect_state
        why = ask.reason or "restored, and nobody holds it"
        move(tx, back, to, EventType.TASK_MOVED, by=by, reason=why, worker_id=None)


def _needs_worker(workflow: Workflow, task: Task) -> bool:
    """Whether a task that nobody holds is in a state in which somebody must."""
    state = workflow.states.get(task.status)
    return task.status in (workflow.claim_state, workflow.assign_state) or (
        state is not None and state.parked
    )


def obliterate_task(tx: Transaction, ask: Obliterate) -> Obliterated:
    """Remove a task and every row about it.

    Raises TaskNotFound, WorkerNotFound, ChildrenOpen, TaskClaimed.
    """
    task = require_task(tx, ask.task_id)
    doomed = tx.tasks.all_below(task.id)
    if len(doomed) > 1 and not ask.cascade:
        children = [one.id for one in doomed if one.parent_id == task.id]
        raise ChildrenOpen(
            f"task {task.id!r} has children, maybe deleted ones: {', '.join(children)}; say "
            "cascade to obliterate them too",
            subjects=children,
        )
    by = ask.worker_id or None
    for one in (task, *doomed):  # what is live is deleted first, with all that follows from it
        if require_task(tx, one.id).deleted_at is None:
            delete = DeleteTask(
                one.id, ask.worker_id, ask.reason, cascade=ask.cascade, force=ask.force
            )
            delete_task(tx, delete)
    workers.sign_of_life(tx, ask.worker_id)
    above = tx.tasks.ancestors(task.parent_id)
    ids = [one.id for one in doomed]
    for one in doomed:
        last = require_task(tx, one.id)
        _cut(tx, last, by)
        tx.tell(
            EventType.TASK_OBLITERATED,
            None,
            task_id=one.id,
            task=last,
            worker_id=by,
            reason=ask.reason,
        )
    for task_id in ids:
        drop_files(tx, task_id)
        tx.task_ids.remove(task_id)
    if task.budgets:
        budgets.recount(tx, list(above))
    gone = frozenset(ids)
    unblocked = [id_ for id_ in dict.fromkeys(tx.unblocked()) if id_ not in gone]
    return Obliterated(ids, unblocked, tx.seen)


def _cut(tx: Transaction, task: Task, by: str | None) -> None:
    """Remove the dependencies of a task that is deleted, so that they are told of once."""
    for dependency in tx.dependencies.touching(task.id):
        tx.dependencies.delete(dependency)
        tx.tell(
            EventType.DEPENDENCY_REMOVED, dependency, task_id=dependency.to_task_id, worker_id=by
        )
