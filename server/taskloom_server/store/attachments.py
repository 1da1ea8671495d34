"""``attachments``: what is kept with tasks."""

from collections.abc import Iterator

import apsw
from peewee import fn

from taskloom_server.graph.tasks import Attachment
from taskloom_server.store.statements import Row, Statement, arg
from taskloom_server.store.tables import Attachments

_SIZE = fn.COALESCE(Attachments.size, fn.LENGTH(fn.COALESCE(Attachments.content, b"")))
_INFO = (
    Attachments.task_id,
    Attachments.attachment_type,
    Attachments.sequence,
    Attachments.name,
    Attachments.mime_type,
    _SIZE,
    Attachments.created_at,
    Attachments.file_path,
)
_OF_TYPE = (Attachments.task_id == arg("task_id")) & (Attachments.attachment_type == arg("type"))
_LAST = Statement(
    Attachments.select(fn.MAX(Attachments.sequence)).where(_OF_TYPE), "task_id", "type"
)
_COLUMNS = (
    "task_id",
    "attachment_type",
    "sequence",
    "name",
    "mime_type",
    "content",
    "created_at",
    "file_path",
    "size",
)
_INSERT = Statement(
    Attachments.insert({getattr(Attachments, c): arg(c) for c in _COLUMNS}), *_COLUMNS
)
_GET = Statement(
    Attachments.select(*_INFO, Attachments.content).where(
        _OF_TYPE & (Attachments.sequence == arg("sequence"))
    ),
    "task_id",
    "type",
    "sequence",
)
_DELETE = Statement(
    Attachments.delete().where(_OF_TYPE & (Attachments.sequence == arg("sequence"))),
    "task_id",
    "type",
    "sequence",
)
_AFTER = (Attachments.attachment_type > arg("type")) | (
    (Attachments.attachment_type == arg("type")) & (Attachments.sequence > arg("sequence"))
)
_ORDER = (Attachments.attachment_type, Attachments.sequence)
_PAGE = Statement(
    Attachments.select(*_INFO)
    .where((Attachments.task_id == arg("task_id")) & _AFTER)
    .order_by(*_ORDER)
    .limit(arg("limit")),
    "task_id",
    "type",
    "sequence",
    "limit",
)
_PAGE_OF_TYPE = Statement(
    Attachments.select(*_INFO)
    .where(_OF_TYPE & (Attachments.sequence > arg("sequence")))
    .order_by(*_ORDER)
    .limit(arg("limit")),
    "task_id",
    "type",
    "sequence",
    "limit",
)
_ALL = Statement(
    Attachments.select(*_INFO, Attachments.content).order_by(Attachments.task_id, *_ORDER)
)


_OF_TASK = Statement(
    Attachments.select(*_INFO).where(Attachments.task_id == arg("task_id")).order_by(*_ORDER),
    "task_id",
)
_FILES = Statement(
    Attachments.select(Attachments.file_path).where(Attachments.file_path.is_null(False)).distinct()
)
_USED = Statement(
    Attachments.select(Attachments.file_path)
    .where((Attachments.file_path == arg("name")) & Attachments.file_path.is_null(False))
    .limit(1),
    "name",
)


def _attachment_of(row: Row) -> Attachment:
    return Attachment(*row)


class AttachmentTable:
    """``attachments`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def latest_sequence(self, task_id: str, attachment_type: str) -> int | None:
        """The number of the last of this type; None if there is none."""
        row = _LAST.one(self._connection, task_id, attachment_type)
        return row[0] if row else None

    def next_sequence(self, task_id: str, attachment_type: str) -> int:
        """The number after the last of this type."""
        latest = self.latest_sequence(task_id, attachment_type)
        return 0 if latest is None else latest + 1

    def insert(self, attachment: Attachment) -> None:
        """Add one, with its content."""
        _INSERT.run(
            self._connection,
            attachment.task_id,
            attachment.attachment_type,
            attachment.sequence,
            attachment.name,
            attachment.mime_type,
            attachment.content,
            attachment.created_at,
            attachment.file_path,
            attachment.size if attachment.file_path is not None else None,
        )

    def get(self, task_id: str, attachment_type: str, sequence: int) -> Attachment | None:
        """One, with its content."""
        row = _GET.one(self._connection, task_id, attachment_type, sequence)
        return _attachment_of(row) if row else None

    def delete(self, attachment: Attachment) -> None:
        """Remove one."""
        _DELETE.run(
            self._connection,
            attachment.task_id,
            attachment.attachment_type,
            attachment.sequence,
        )

    def page(
        self, task_id: str, only_type: str, after: tuple[str, int], limit: int
    ) -> list[Attachment]:
        """A task's attachments without contents, from the one after ``after``."""
        if only_type:
            rows = _PAGE_OF_TYPE.all(self._connection, task_id, only_type, after[1], limit)
        else:
            rows = _PAGE.all(self._connection, task_id, *after, limit)
        return [_attachment_of(row) for row in rows]

    def of_task(self, task_id: str) -> list[Attachment]:
        """All of a task, without contents."""
        return [_attachment_of(row) for row in _OF_TASK.all(self._connection, task_id)]

    def files(self) -> list[str]:
        """The files of the media folder that are referred to."""
        return [row[0] for row in _FILES.all(self._connection)]

    def refers_to(self, name: str) -> bool:
        """Whether an attachment's content is in this file of the media folder."""
        return _USED.one(self._connection, name) is not None

    def all(self) -> Iterator[Attachment]:
        """Every attachment with its content, in order."""
        return map(_attachment_of, _ALL.each(self._connection))
