"""Giving a task another id."""

from dataclasses import dataclass

from taskloom_server.coordinator import workers
from taskloom_server.coordinator.changes import change
from taskloom_server.coordinator.lookup import below, require_live_task
from taskloom_server.coordinator.tasks import check_etag
from taskloom_server.graph.errors import TaskExists
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Rename:
    """Another id for a task."""

    task_id: str
    new_task_id: str
    etag: int  # 0: not checked
    worker_id: str  # empty: a person
    reason: str


@dataclass(frozen=True, slots=True)
class Renamed:
    """The task under its new id."""

    task: Task
    revision: int


def rename_task(tx: Transaction, ask: Rename) -> Renamed:
    """Give a task another id, wherever it stands.

    Raises TaskNotFound, TaskDeleted, TaskExists, EtagMismatch, WorkerNotFound.
    """
    workers.sign_of_life(tx, ask.worker_id)
    task = require_live_task(tx, ask.task_id)
    check_etag(task, ask.etag)
    if ask.new_task_id == task.id:
        return Renamed(task, tx.seen)
    if tx.tasks.exists(ask.new_task_id):
        raise TaskExists(
            f"there is a task {ask.new_task_id!r} already", subjects=(ask.new_task_id,)
        )
    by = ask.worker_id or None
    # As they are before, for those who follow them by what is above them.
    moving = [(one, tx.tasks.ancestors(one.parent_id)) for one in below(tx, task)]
    tx.task_ids.rename(task.id, ask.new_task_id)
    renamed = change(tx, task._replace(id=ask.new_task_id), {})
    tx.tell_renamed(renamed, task, worker_id=by, reason=ask.reason)
    for one, was_below in moving[1:]:
        parent_id = renamed.id if one.parent_id == task.id else one.parent_id
        after = change(tx, one._replace(parent_id=parent_id), {})
        tx.tell_task(EventType.TASK_UPDATED, after, one, worker_id=by, was_below=was_below)
    tx.ask_again()  # who waits below the old id is told what became of it
    return Renamed(renamed, tx.seen)
