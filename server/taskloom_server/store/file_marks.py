"""``file_locks`` and ``claim_sequence``: the file marks that stand, and their history."""

from collections.abc import Sequence

import apsw

from taskloom_server.graph.tasks import LOCK_PREFIX, FileMark
from taskloom_server.store.statements import Statement, arg
from taskloom_server.store.tables import ClaimSequence, FileLocks

_FIELDS = tuple(getattr(FileLocks, name) for name in FileMark._fields)
_PUT = Statement(
    FileLocks.insert({f: arg(f.name) for f in _FIELDS}).on_conflict(
        conflict_target=[FileLocks.file_path, FileLocks.worker_id],
        update={FileLocks.task_id: arg("task_id"), FileLocks.reason: arg("reason")},
    ),
    *FileMark._fields,
)
_DELETE = Statement(
    FileLocks.delete().where(
        (FileLocks.file_path == arg("file_path")) & (FileLocks.worker_id == arg("worker_id"))
    ),
    "file_path",
    "worker_id",
)
_ON = Statement(
    FileLocks.select(*_FIELDS)
    .where(FileLocks.file_path == arg("file_path"))
    .order_by(FileLocks.worker_id),
    "file_path",
)
_ORDER = (FileLocks.file_path, FileLocks.worker_id)
_BY = Statement(
    FileLocks.select(*_FIELDS).where(FileLocks.worker_id == arg("worker_id")).order_by(*_ORDER),
    "worker_id",
)
_FOR = Statement(
    FileLocks.select(*_FIELDS).where(FileLocks.task_id == arg("task_id")).order_by(*_ORDER),
    "task_id",
)
# As a range, which an index finds.
_IS_LOCK = (FileLocks.file_path >= LOCK_PREFIX) & (
    FileLocks.file_path < LOCK_PREFIX[:-1] + chr(ord(LOCK_PREFIX[-1]) + 1)
)
_LOCKS_BY = Statement(
    FileLocks.select(*_FIELDS)
    .where((FileLocks.worker_id == arg("worker_id")) & _IS_LOCK)
    .order_by(*_ORDER),
    "worker_id",
)
_LOCK_HOLDERS = Statement(FileLocks.select(FileLocks.worker_id).where(_IS_LOCK).distinct())
_OPEN = (
    (ClaimSequence.file_path == arg("file_path"))
    & (ClaimSequence.worker_id == arg("worker_id"))
    & (ClaimSequence.event == "claimed")
    & ClaimSequence.end_timestamp.is_null()
)
_LOG_FIELDS = ("file_path", "worker_id", "task_id", "event", "reason", "timestamp", "end_timestamp")
_LOG = Statement(
    ClaimSequence.insert({getattr(ClaimSequence, name): arg(name) for name in _LOG_FIELDS}),
    *_LOG_FIELDS,
)
_CLOSE = Statement(
    ClaimSequence.update({ClaimSequence.end_timestamp: arg("now")}).where(_OPEN),
    "now",
    "file_path",
    "worker_id",
)


class FileMarkTable:
    """``file_locks`` and ``claim_sequence`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def put(self, mark: FileMark, *, is_new: bool) -> None:
        """Make a mark, or give one another task and reason."""
        _PUT.run(self._connection, *mark)
        if is_new:
            _LOG.run(
                self._connection,
                mark.file_path,
                mark.worker_id,
                mark.task_id,
                "claimed",
                mark.reason,
                mark.locked_at,
                None,
            )

    def delete(self, mark: FileMark, now: int, reason: str | None) -> None:
        """Remove a mark, and say so in the history."""
        _DELETE.run(self._connection, mark.file_path, mark.worker_id)
        _CLOSE.run(self._connection, now, mark.file_path, mark.worker_id)
        _LOG.run(
            self._connection,
            mark.file_path,
            mark.worker_id,
            mark.task_id,
            "released",
            reason,
            now,
            now,
        )

    def on(self, file_path: str) -> list[FileMark]:
        """Everybody's marks on a file."""
        return [FileMark(*row) for row in _ON.all(self._connection, file_path)]

    def by(self, worker_id: str) -> list[FileMark]:
        """A worker's marks."""
        return [FileMark(*row) for row in _BY.all(self._connection, worker_id)]

    def locks_by(self, worker_id: str) -> list[FileMark]:
        """A worker's locks."""
        return [FileMark(*row) for row in _LOCKS_BY.all(self._connection, worker_id)]

    def lock_holders(self) -> list[str]:
        """The workers that hold locks."""
        return [row[0] for row in _LOCK_HOLDERS.all(self._connection)]

    def for_task(self, task_id: str) -> list[FileMark]:
        """The marks that were made for a task."""
        return [FileMark(*row) for row in _FOR.all(self._connection, task_id)]

    def page(
        self,
        after: tuple[str, str],
        limit: int,
        *,
        worker_id: str,
        task_id: str,
        paths: Sequence[str],
    ) -> list[FileMark]:
        """Marks by path and worker, from the one after ``after``; empty filters let all pass."""
        place = (FileLocks.file_path > after[0]) | (
            (FileLocks.file_path == after[0]) & (FileLocks.worker_id > after[1])
        )
        query = FileLocks.select(*_FIELDS).where(place).order_by(*_ORDER).limit(limit)
        if worker_id:
            query = query.where(FileLocks.worker_id == worker_id)
        if task_id:
            query = query.where(FileLocks.task_id == task_id)
        if paths:
            query = query.where(FileLocks.file_path.in_(list(paths)))
        return [FileMark(*row) for row in Statement(query).all(self._connection)]
