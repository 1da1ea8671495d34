"""File marks: saying, and asking, who is at work on which file."""

from dataclasses import dataclass

from taskloom_server.coordinator import workers
from taskloom_server.coordinator.admission import check_claim
from taskloom_server.coordinator.lookup import require_live_task
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import FileMark
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Mark:
    """Marks to be made."""

    worker_id: str
    paths: tuple[str, ...]
    task_id: str  # empty: for none
    claim_revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class Marked:
    """The marks made, and those of others on the same files."""

    marks: list[FileMark]
    conflicts: list[FileMark]
    revision: int


@dataclass(frozen=True, slots=True)
class Unmark:
    """Marks to be removed; no paths: all of the worker's, or all for the task."""

    worker_id: str
    paths: tuple[str, ...]
    task_id: str
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


def mark_files(tx: Transaction, ask: Mark) -> Marked:
    """Mark files. Raises WorkerNotFound, TaskNotFound, TaskDeleted, ClaimLost."""
    workers.sign_of_life(tx, ask.worker_id)
    if ask.task_id:
        task = require_live_task(tx, ask.task_id)
        check_claim(tx, task, ask.worker_id, ask.claim_revision)
    marks: list[FileMark] = []
    conflicts: list[FileMark] = []
    for path in dict.fromkeys(ask.paths):
        standing = tx.file_marks.on(path)
        mine = next((m for m in standing if m.worker_id == ask.worker_id), None)
        conflicts += (m for m in standing if m.worker_id != ask.worker_id)
        mark = FileMark(
            path,
            ask.worker_id,
            ask.task_id or None,
            ask.reason or None,
            mine.locked_at if mine else tx.now,
        )
        marks.append(mark)
        if mark != mine:
            tx.file_marks.put(mark, is_new=mine is None)
            tx.tell(
                EventType.FILE_MARKED,
                mark,
                task_id=mark.task_id,
                worker_id=mark.worker_id,
                reason=mark.reason,
            )
    return Marked(marks, conflicts, tx.seen)


def unmark_files(tx: Transaction, ask: Unmark) -> Unmarked:
    """Remove marks of a worker. Raises WorkerNotFound."""
    workers.sign_of_life(tx, ask.worker_id)
    paths = frozenset(ask.paths)
    removed = []
    for mark in tx.file_marks.by(ask.worker_id):
        if (paths and mark.file_path not in paths) or (ask.task_id not in ("", mark.task_id)):
            continue
        tx.file_marks.delete(mark, tx.now, ask.reason or None)
        tx.tell(
            EventType.FILE_UNMARKED,
            mark,
            task_id=mark.task_id,
            worker_id=mark.worker_id,
            reason=ask.reason,
        )
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
