"""Marks and locks as such: placing them, lifting them, and when a lock ends by itself.

Who may mark what, and when marks go with a task or a worker, is for the verbs to say.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from taskloom_server.graph.errors import FileLocked
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import FileMark, Task, is_lock
from taskloom_server.graph.workers import Worker
from taskloom_server.store.transaction import Transaction


def locks_of_others(tx: Transaction, worker_id: str, paths: Sequence[str]) -> list[FileMark]:
    """The locks among these paths that another worker holds."""
    return [
        mark
        for path in dict.fromkeys(paths)
        if is_lock(path)
        for mark in tx.file_marks.on(path)
        if mark.worker_id != worker_id
    ]


def locked(marks: Sequence[FileMark]) -> FileLocked:
    """The refusal that names these locks, and who holds the first one, since when and why."""
    first = marks[0]
    since = datetime.fromtimestamp(first.locked_at / 1000, UTC).isoformat(timespec="milliseconds")
    task = f" for task {first.task_id!r}" if first.task_id else ""
    why = f": {first.reason}" if first.reason else ""
    return FileLocked(
        f"{first.file_path!r} is held by worker {first.worker_id!r} since {since}{task}{why}",
        subjects=[mark.file_path for mark in marks],
        metadata={
            "holder": first.worker_id,
            "since": since,
            "task_id": first.task_id or "",
            # Metadata has little room; who wants all of a long reason lists the marks.
            "reason": (first.reason or "")[:200],
        },
    )


def place(
    tx: Transaction, worker: Worker, paths: Sequence[str], task_id: str | None, reason: str
) -> tuple[list[FileMark], list[FileMark], list[FileMark]]:
    """Mark the paths, of which no lock is another's.

    The marks, those of them that are new, and those of others on the same paths.
    """
    marks: list[FileMark] = []
    new: list[FileMark] = []
    conflicts: list[FileMark] = []
    for path in dict.fromkeys(paths):
        standing = tx.file_marks.on(path)
        mine = next((m for m in standing if m.worker_id == worker.id), None)
        conflicts += (m for m in standing if m.worker_id != worker.id)
        since = mine.locked_at if mine else tx.now
        mark = FileMark(path, worker.id, task_id, reason or None, since)
        marks.append(mark)
        if mine is None:
            new.append(mark)
        if mark != mine:
            tx.file_marks.put(mark, is_new=mine is None)
            tx.tell(
                EventType.FILE_MARKED,
                mark,
                task_id=mark.task_id,
                worker_id=mark.worker_id,
                reason=mark.reason,
            )
    if any(mark.is_lock for mark in marks):
        tx.lease_ends_at(worker.id, worker.lease_end(tx.now, tx.now + worker.lease_ms))
    return marks, new, conflicts


def lift(
    tx: Transaction,
    mark: FileMark,
    reason: str,
    *,
    told: str | None = None,
    task: Task | None = None,
) -> None:
    """Remove a mark. ``told``: the reason in the event, if not this one; ``task``: the mark's."""
    tx.file_marks.delete(mark, tx.now, reason or None)
    tx.tell(
        EventType.FILE_UNMARKED,
        mark,
        task_id=mark.task_id,
        task=task,
        worker_id=mark.worker_id,
        reason=reason if told is None else told,
    )
    if mark.is_lock:
        tx.ask_for_lock_again(mark.file_path)


def stand_alone(tx: Transaction, task_id: str) -> None:
    """Locks for a task whose lease stands still go by their workers' signs of life from now on."""
    for mark in tx.file_marks.for_task(task_id):
        if mark.is_lock:
            tx.lease_ends_at(mark.worker_id, tx.now)  # when they end is looked up then


def end_locks(tx: Transaction, worker: Worker, why: str) -> list[int]:
    """End the worker's locks that outlived its silence; when the others will, in Unix ms.

    A lock for a task goes with the worker's claim on it, as long as that has a lease.
    """
    following = []
    for mark in tx.file_marks.locks_by(worker.id):
        task = tx.tasks.get(mark.task_id) if mark.task_id else None
        if task is not None and _has_lease(task, worker.id):
            continue
        silent_from = max(mark.locked_at, worker.last_heartbeat)
        ends_at = worker.lease_end(mark.locked_at, silent_from + worker.lease_ms)
        if ends_at > tx.now:
            following.append(ends_at)
        else:
            lift(tx, mark, why)
    return following


def _has_lease(task: Task, worker_id: str) -> bool:
    """Whether the worker has a claim on the task that ends by itself."""
    held = task.claimed and task.worker_id == worker_id and task.lease_expires_at is not None
    return held or task.advisory_claim(worker_id) is not None
