"""File marks and locks: saying, and asking, who is at work on which file."""

from dataclasses import dataclass

from taskloom_server.coordinator import marks, workers
from taskloom_server.coordinator.admission import check_claim
from taskloom_server.coordinator.lookup import require_live_task, require_task
from taskloom_server.graph.errors import FileLocked
from taskloom_server.graph.tasks import FileMark
from taskloom_server.store.transaction import Transaction
from taskloom_server.store.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Mark:
    """Marks to be made."""

    worker_id: str
    paths: tuple[str, ...]
    task_id: str  # empty: for none
    claim_revision: int
    reason: str
    wait_until: int = 0  # Unix ms; until then it waits for locks


@dataclass(frozen=True, slots=True)
class Marked:
    """The marks made, those of others on the same files, and which of those made are new.

    ``task_number``: of the task that they are for, if any; it keeps that whatever its id is.
    """

    marks: list[FileMark]
    conflicts: list[FileMark]
    revision: int
    new: list[FileMark]
    task_number: int | None


@dataclass(frozen=True, slots=True)
class Unmark:
    """Marks to be removed; no paths: all of the worker's, or all for the task."""

    worker_id: str
    paths: tuple[str, ...]
    task_id: str
    claim_revision: int  # 0: not checked
    reason: str


@dataclass(frozen=True, slots=True)
class Unmarked:
    """The paths that are not marked any more."""

    paths: list[str]
    revision: int


@dataclass(frozen=True, slots=True)
class ListMarks:
    """A page of marks, from the one after ``after``; empty filters let all pass."""

    worker_id: str
    task_id: str
    paths: tuple[str, ...]
    after: tuple[str, str]
    limit: int


@dataclass(frozen=True, slots=True)
class MarkPage:
    """Marks, and the place from which the next page goes on."""

    marks: list[FileMark]
    next_after: tuple[str, str] | None
    revision: int


def mark_files(tx: Transaction, ask: Mark) -> Marked | Waiting | FileLocked:
    """Mark files, and take locks: all that are asked for, or none.

    Raises WorkerNotFound, TaskNotFound, TaskDeleted, ClaimLost. Waits, or returns FileLocked so
    that the sign of life is kept, while another worker holds one of the locks.
    """
    worker = workers.require(tx, ask.worker_id)
    if not tx.again:
        tx.workers.lives(worker, tx.now)
    task = require_live_task(tx, ask.task_id) if ask.task_id else None
    if task is not None:
        check_claim(tx, task, ask.worker_id, ask.claim_revision)
    if others := marks.locks_of_others(tx, worker.id, ask.paths):
        if tx.now >= ask.wait_until:
            return marks.locked(others)
        tx.wake_at(ask.wait_until)
        return Waiting.for_locks(worker, [mark.file_path for mark in others], ask.wait_until)
    made, new, conflicts = marks.place(tx, worker, ask.paths, ask.task_id or None, ask.reason)
    return Marked(made, conflicts, tx.seen, new, task and task.number)


def give_back(tx: Transaction, marked: Marked) -> None:
    """Lift the marks of a call whose caller had gone when it was answered."""
    task = tx.tasks.numbered(marked.task_number) if marked.task_number else None
    for made in marked.new:
        mark = made._replace(task_id=task and task.id)
        if mark in tx.file_marks.on(mark.file_path):
            marks.lift(tx, mark, "the caller had gone before it was told")


def unmark_files(tx: Transaction, ask: Unmark) -> Unmarked:
    """Remove marks of a worker. Raises WorkerNotFound, TaskNotFound, ClaimLost."""
    workers.sign_of_life(tx, ask.worker_id)
    if ask.claim_revision:
        check_claim(tx, require_task(tx, ask.task_id), ask.worker_id, ask.claim_revision)
    paths = frozenset(ask.paths)
    removed = []
    for mark in tx.file_marks.by(ask.worker_id):
        if (paths and mark.file_path not in paths) or (ask.task_id not in ("", mark.task_id)):
            continue
        marks.lift(tx, mark, ask.reason)
        removed.append(mark.file_path)
    return Unmarked(removed, tx.seen)


def list_marks(tx: Transaction, ask: ListMarks) -> MarkPage:
    """Marks by path and worker."""
    found = tx.file_marks.page(
        ask.after,
        ask.limit + 1,
        worker_id=ask.worker_id,
        task_id=ask.task_id,
        paths=ask.paths,
    )
    shown = found[: ask.limit]
    place = (shown[-1].file_path, shown[-1].worker_id) if len(found) > ask.limit else None
    return MarkPage(shown, place, tx.seen)
