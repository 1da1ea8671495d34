"""Snapshot files, read: JSON, gzipped or not, checked row by row, a small part at a time.

How a file is laid out is in snapshot_layout, what a row may hold in snapshot_rows, and how a file
is written in snapshot_writing.
"""

import base64
import binascii
import gzip
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import IO, Any

from taskloom_server.graph.errors import InvalidField, InvalidSnapshot, SnapshotTooLarge
from taskloom_server.graph.snapshots import (
    ATTACHMENTS,
    DEPENDENCIES,
    HISTORY,
    MEDIA,
    TAG_TABLES,
    TASKS,
    Outline,
    Snapshot,
)
from taskloom_server.graph.tasks import Attachment, Dependency, Task, Transition, new_task
from taskloom_server.service import read
from taskloom_server.service.attachments import MAX_CONTENT, attachment_name, mime_type
from taskloom_server.service.snapshot_layout import (
    CHUNK,
    HASH,
    HEADER_HASH,
    OtherLayout,
    SnapshotText,
)
from taskloom_server.service.snapshot_rows import FORMS, Reading
from taskloom_server.store.media import Arriving
from taskloom_server.store.spool import Spool

SCHEMA_VERSION = 3
_HEADER = {
    "schema_version",
    "export_version",
    "exported_at",
    "exported_by",
    HASH,
    HEADER_HASH,
    "tables",
}
_ATTACHMENTS_AT_ONCE = 8  # whose contents may have a MiB each
_COLUMNS_OF_TASK = itemgetter(*Task._fields)
_COLUMNS_OF_TRANSITION = itemgetter(*Transition._fields)
_BLANK = new_task(
    id="", title="", description="", status="", workflow="", now=0, revision=0
)._asdict()
_METRICS = tuple(f"metric_{n}" for n in range(8))

Scratch = Callable[[], IO[bytes]]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A snapshot, what was tolerated in its file, and whether a hash says that it is whole.

    ``files``: the attachments whose contents are in the media folder, by file: where the first
    stands, and the size. Which of them have come with the snapshot, ``Arriving`` knows.
    """

    snapshot: Snapshot
    warnings: list[str]
    verified: bool
    files: dict[str, tuple[str, int]]


def parse(
    file: IO[bytes],
    chosen: frozenset[str] | None,
    *,
    limit: int,
    scratch: Scratch,
    arriving: Arriving,
) -> Parsed:
    """The snapshot in a file, or of it the tables that are chosen.

    Its rows are put aside in files made by ``scratch``, contents for the media folder in
    ``arriving``. ``limit``: of the file, unpacked, in bytes.

    Raises InvalidSnapshot naming table, row and column, and SnapshotTooLarge.
    """
    text = _unpacked(file, limit, scratch)
    warnings: list[str] = []
    _check_header(text.header, warnings)
    verified = _check_hashes(text)
    try:
        return _parse(text, chosen, warnings, scratch, arriving, verified=verified)
    except OtherLayout as error:
        text.read_whole(error)
        arriving.begin_anew()
        return _parse(text, chosen, warnings, scratch, arriving, verified=verified)


def _parse(
    text: SnapshotText,
    chosen: frozenset[str] | None,
    warnings: list[str],
    scratch: Scratch,
    arriving: Arriving,
    *,
    verified: bool,
) -> Parsed:
    warnings = list(warnings)
    rows = _Rows(warnings, scratch, arriving)
    readings: dict[str, Reading] = {}
    unknown: dict[str, None] = {}
    for table, block in text.blocks():
        if table not in FORMS:
            unknown[table] = None
        elif chosen is None or (ATTACHMENTS if table == MEDIA else table) in chosen:
            reading = readings.setdefault(table, Reading(table))
            rows.add[table](reading.rows(block))
    arriving.finish()
    for table in unknown:
        warnings.append(f"tables.{table}: unknown table, left out")
    for table in sorted((chosen or frozenset()) - readings.keys()):
        warnings.append(f"tables.{table}: is chosen, and not in the file")
    for table, reading in readings.items():
        for key, times in sorted(reading.unknown.items()):
            warnings.append(f"tables.{table}: unknown key {key!r} left out, in {times} rows")
    return Parsed(rows.snapshot(frozenset(readings) - {MEDIA}), warnings, verified, rows.files)


def _unpacked(file: IO[bytes], limit: int, scratch: Scratch) -> SnapshotText:
    file.seek(0)
    if file.read(2) != b"\x1f\x8b":
        return SnapshotText(file, file.seek(0, 2))
    file.seek(0)
    unpacked = scratch()
    size = 0
    try:
        for chunk in _inflate(file):
            size += len(chunk)
            if size > limit:
                raise SnapshotTooLarge(f"the snapshot unpacks to more than {limit:,} bytes")
            unpacked.write(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidSnapshot(f"the gzip file is damaged or truncated: {error}") from error
    return SnapshotText(unpacked, size)


def _inflate(file: IO[bytes]) -> Iterator[bytes]:
    """The contents of a gzip file, which may have several members."""
    with gzip.GzipFile(fileobj=file, mode="rb") as packed:
        while chunk := packed.read(CHUNK):
            yield chunk


def _check_header(header: dict[str, Any], warnings: list[str]) -> None:
    version = header.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InvalidSnapshot(
            f"schema_version is {version!r}; this server reads version {SCHEMA_VERSION}"
        )
    if "tables" in header:
        raise InvalidSnapshot("tables is missing or not an object")
    for name in header.keys() - _HEADER:
        warnings.append(f"{name}: unknown key, left out")


def _check_hashes(text: SnapshotText) -> bool:
    """Whether the file has a hash. Raises InvalidSnapshot if one says that the file is another."""
    said = {name: told for name in (HASH, HEADER_HASH) if (told := text.header.get(name))}
    if not said:
        return False
    found = text.hashes()
    for name, told in said.items():
        if told != found[name]:
            _check_is_json(text)
            raise InvalidSnapshot(
                f"{name} is {str(told)[:64]!r}, and the contents have "
                f"{found[name] or 'another form'}: the file was damaged or changed since its "
                f"export; to take it as it is, remove {' and '.join(said)}"
            )
    return HASH in said


def _check_is_json(text: SnapshotText) -> None:
    """Raise InvalidSnapshot for a file of which to say that it is another says too little."""
    try:
        for _ in text.blocks():
            pass
    except OtherLayout as error:
        text.read_whole(error)


class _Rows:
    """The rows that were read so far; ``add`` has for each table who takes its next ones."""

    def __init__(self, warnings: list[str], scratch: Scratch, arriving: Arriving) -> None:
        self._warnings = warnings
        self._arriving = arriving
        self._tasks: Spool[Task] = Spool(self._tagged, scratch())
        self._outlines: list[Outline] = []
        self._ids: dict[str, str] = {}  # each once, so that what names a task costs no other text
        self._dependencies: list[Dependency] = []
        self._attachments: Spool[Attachment] = Spool(
            Attachment._make, scratch(), _ATTACHMENTS_AT_ONCE
        )
        self._transitions: Spool[Transition] = Spool(Transition._make, scratch())
        # By table and task: the place of the first row, and the tags; and by column and task.
        self._tag_rows: dict[str, dict[str, tuple[str, list[str]]]] = defaultdict(dict)
        self._tags: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
        self._untagged: set[str] = set()  # tables whose tags are not in all rows of tasks
        self.files: dict[str, tuple[str, int]] = {}
        self.add: dict[str, Callable[[Iterator[tuple[str, dict[str, Any]]]], None]] = {
            TASKS: self._add_tasks,
            DEPENDENCIES: self._add_dependencies,
            ATTACHMENTS: self._add_attachments,
            **{table: partial(self._add_tags, table) for table in TAG_TABLES},
            HISTORY: self._add_transitions,
            MEDIA: self._add_media,
        }

    def snapshot(self, tables: frozenset[str]) -> Snapshot:
        """All of them together. Raises InvalidSnapshot for tags that are none, or of no task."""
        for table, column in TAG_TABLES.items():
            for task_id, (place, tags) in self._tag_rows[table].items():
                if task_id not in self._ids:
                    raise InvalidSnapshot(f"{place}.task_id: there is no task {task_id!r}")
                try:
                    self._tags[column][task_id] = read.tags(column, tags)
                except InvalidField as error:
                    n = next(n for n, one in enumerate(self._outlines) if one.id == task_id)
                    raise InvalidSnapshot(f"tables.tasks[{n}].{error}") from error
        return Snapshot(
            tasks=self._tasks,
            outlines=self._outlines,
            dependencies=self._dependencies,
            attachments=self._attachments,
            transitions=self._transitions,
            tables=tables,
        )

    def _tagged(self, values: Iterable[Any]) -> Task:
        """A task as it was put aside, with the tags that stand in tables of their own."""
        task = Task._make(values)
        if None not in task[:3]:
            return task
        # A named tuple's changes cannot be made of a dict, for the type checker.
        told: dict[str, Any] = {
            column: self._tags[column].get(task.id, ())
            for column in TAG_TABLES.values()
            if getattr(task, column) is None
        }
        return task._replace(**told)

    def _add_tasks(self, rows: Iterator[tuple[str, dict[str, Any]]]) -> None:
        for place, row in rows:
            self._tasks.append(_task(place, row, self._warnings))
            id_ = row["id"]
            self._ids.setdefault(id_, id_)
            for table, column in TAG_TABLES.items():
                if row[column] is None:
                    self._untagged.add(table)
            deleted = row["deleted_at"] is not None
            self._outlines.append(Outline(id_, row["workflow"], row["status"], deleted))

    def _add_dependencies(self, rows: Iterator[tuple[str, dict[str, Any]]]) -> None:
        ids = self._ids
        for _, row in rows:
            from_, to = row["from_task_id"], row["to_task_id"]
            self._dependencies.append(
                Dependency(ids.get(from_, from_), ids.get(to, to), row["dep_type"])
            )

    def _add_attachments(self, rows: Iterator[tuple[str, dict[str, Any]]]) -> None:
        for place, row in rows:
            attachment = _attachment(place, row)
            self._attachments.append(tuple(attachment))
            if (name := attachment.file_path) is not None:
                first, size = self.files.setdefault(name, (place, attachment.size))
                if size != attachment.size:
                    raise InvalidSnapshot(f"{place}.size: is another than in {first}")

    def _add_tags(self, table: str, rows: Iterator[tuple[str, dict[str, Any]]]) -> None:
        # Where all tasks told their tags, these say the same again.
        known = self._ids if self._ids and table not in self._untagged else ()
        by_task = self._tag_rows[table]
        for place, row in rows:
            if row["task_id"] not in known:
                by_task.setdefault(row["task_id"], (place, []))[1].append(row["tag"])

    def _add_transitions(self, rows: Iterator[tuple[str, dict[str, Any]]]) -> None:
        for _, row in rows:
            if row["id"] is None:
                row["id"] = len(self._transitions) + 1
            self._transitions.append(_COLUMNS_OF_TRANSITION(row))

    def _add_media(self, rows: Iterator[tuple[str, dict[str, Any]]]) -> None:
        for place, row in rows:
            self._arriving.append(place, row["file_path"], _unbased(place, row["content"]))


def _task(place: str, row: dict[str, Any], warnings: list[str]) -> tuple[Any, ...]:
    """The values of a task, of which those of tags are None where the row does not tell them."""
    priority = min(max(row["priority"], 0), 10)
    if priority != row["priority"]:
        warnings.append(f"{place}.priority: {row['priority']} put into the range, {priority}")
    metrics = row["metrics"]
    if metrics is not None and len(metrics) < len(_METRICS):
        warnings.append(f"{place}.metrics: has {len(metrics)} of 8, the others are 0")
    task = _BLANK | row
    try:
        read.identifier("id", row["id"])
        read.text("title", row["title"], read.MAX_TITLE, required=True)
        task["description"] = read.description("description", row["description"] or "")
        for column in TAG_TABLES.values():
            if row[column] is not None:  # else it stays None until the tables of tags are read
                task[column] = read.tags(column, row[column])
        task["worker_id"] = (
            read.identifier("worker_id", row["worker_id"] or "", optional=True) or None
        )
    except InvalidField as error:
        raise InvalidSnapshot(f"{place}.{error}") from error
    if metrics:
        task.update(zip(_METRICS, metrics, strict=False))
    task["priority"] = priority
    task["phase"] = row["phase"] or None
    task["time_actual_ms"] = row["time_actual_ms"] or 0
    if row["active_at"] is None:
        task["active_at"] = row["updated_at"]
    if row["progressed_at"] is None:
        task["progressed_at"] = row["updated_at"]
    values: tuple[Any, ...] = _COLUMNS_OF_TASK(task)
    return values


def _attachment(place: str, row: dict[str, Any]) -> Attachment:
    file_path, content = row["file_path"], (row["content"] or "").encode()
    if file_path is not None and (content or row["size"] is None):
        raise InvalidSnapshot(f"{place}: a row with file_path has a size, and no content")
    if row["content_encoding"] == "base64":
        content = _unbased(place, row["content"] or "")
    if len(content) > MAX_CONTENT:
        raise InvalidSnapshot(f"{place}.content: is larger than {MAX_CONTENT:,} bytes")
    try:
        type_ = read.identifier("attachment_type", row["attachment_type"])
        name = attachment_name("name", row["name"] or "")
        mime = mime_type("mime_type", row["mime_type"] or "")
    except InvalidField as error:
        raise InvalidSnapshot(f"{place}.{error}") from error
    return Attachment(
        task_id=row["task_id"],
        attachment_type=type_,
        sequence=row["sequence"],
        name=name,
        mime_type=mime or "text/plain",
        size=len(content) if file_path is None else row["size"],
        created_at=row["created_at"],
        file_path=file_path,
        content=content if file_path is None else None,
    )


def _unbased(place: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidSnapshot(f"{place}.content: is not base64") from error
