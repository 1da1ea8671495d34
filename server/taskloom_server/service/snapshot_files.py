"""Snapshot files: JSON, gzipped or not, checked row by row, and written byte for byte alike.

What a row may hold is in snapshot_rows.
"""

import base64
import binascii
import gzip
import hashlib
import io
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from taskloom_server import __version__
from taskloom_server.graph.errors import InvalidField, InvalidSnapshot, SnapshotTooLarge
from taskloom_server.graph.snapshots import TABLES, TAG_TABLES, Snapshot
from taskloom_server.graph.tasks import Attachment, Dependency, Task, Transition, new_task
from taskloom_server.service import read
from taskloom_server.service.attachments import MAX_CONTENT
from taskloom_server.service.snapshot_rows import (
    FORMS,
    OTHER_TASK_COLUMNS,
    TASK_COLUMNS,
    AttachmentRow,
    DependencyRow,
    Row,
    TagRow,
    TaskRow,
    TransitionRow,
)

SCHEMA_VERSION = 3
MAX_BYTES = 256 << 20  # unpacked
HASH = "content_sha256"
# From here on a file's bytes are what its hash is of. No string holds a line's end as it is.
_HASHED_FROM = b'\n  "tables": '

_HEADER = {"schema_version", "export_version", "exported_at", "exported_by", HASH, "tables"}
_AnyRow = TypeVar("_AnyRow", bound=Row)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A snapshot, what was tolerated in its file, and whether a hash says that it is whole."""

    snapshot: Snapshot
    warnings: list[str]
    verified: bool


def parse(contents: bytes, chosen: frozenset[str] | None = None) -> Parsed:
    """The snapshot in a file, or of it the tables that are chosen.

    Raises InvalidSnapshot naming table, row and column, and SnapshotTooLarge.
    """
    text = _unpack(contents)
    document = _read_json(text)
    warnings: list[str] = []
    _check_header(document, warnings)
    verified = _check_hash(document, text)
    del text
    tables: dict[str, list[Any]] = document["tables"]
    for name in tables.keys() - FORMS.keys():
        warnings.append(f"tables.{name}: unknown table, left out")
    if chosen is not None:
        for name in sorted(chosen - tables.keys()):
            warnings.append(f"tables.{name}: is chosen, and not in the file")
        tables = {name: rows for name, rows in tables.items() if name in chosen}

    def rows(table: str, form: type[_AnyRow]) -> list[_AnyRow]:
        return _read_rows(table, tables.get(table), form, warnings)

    tag_rows = {table: rows(table, TagRow) for table in TAG_TABLES}
    tags: dict[str, dict[str, list[str]]] = {}
    for table, column in TAG_TABLES.items():
        by_task: dict[str, list[str]] = defaultdict(list)
        for tag_row in tag_rows[table]:
            by_task[tag_row.task_id].append(tag_row.tag)
        tags[column] = by_task
    task_rows = rows("tasks", TaskRow)
    tasks = [_task(n, row, tags, warnings) for n, row in enumerate(task_rows)]
    ids = {task.id for task in tasks}
    for table, table_rows in tag_rows.items():
        for n, row in enumerate(table_rows):
            if row.task_id not in ids:
                raise InvalidSnapshot(
                    f"tables.{table}[{n}].task_id: there is no task {row.task_id!r}"
                )
    snapshot = Snapshot(
        tasks=tasks,
        dependencies=[
            Dependency(row.from_task_id, row.to_task_id, row.dep_type)
            for row in rows("dependencies", DependencyRow)
        ],
        attachments=[
            _attachment(n, row, warnings)
            for n, row in enumerate(rows("attachments", AttachmentRow))
        ],
        transitions=[
            Transition(
                n + 1 if row.id is None else row.id,
                row.task_id,
                row.worker_id,
                row.status,
                row.phase,
                row.reason,
                row.timestamp,
                row.end_timestamp,
            )
            for n, row in enumerate(rows("task_sequence", TransitionRow))
        ],
        tables=frozenset(table for table in tables if table in FORMS),
    )
    return Parsed(snapshot, warnings, verified)


def _unpack(contents: bytes) -> bytes:
    if contents[:2] != b"\x1f\x8b":
        return contents
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(contents)) as file:
            unpacked = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidSnapshot(f"the gzip file is damaged or truncated: {error}") from error
    if len(unpacked) > MAX_BYTES:
        raise SnapshotTooLarge(f"the snapshot unpacks to more than {MAX_BYTES:,} bytes")
    return unpacked


def _read_json(text: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidSnapshot(f"the snapshot is not whole JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidSnapshot("the snapshot is not a JSON object")
    return document


def _check_header(document: dict[str, Any], warnings: list[str]) -> None:
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InvalidSnapshot(
            f"schema_version is {version!r}; this server reads version {SCHEMA_VERSION}"
        )
    if not isinstance(document.get("tables"), dict):
        raise InvalidSnapshot("tables is missing or not an object")
    for name in document.keys() - _HEADER:
        warnings.append(f"{name}: unknown key, left out")


def _check_hash(document: dict[str, Any], text: bytes) -> bool:
    """Whether the file has a hash. Raises InvalidSnapshot if it says that the file is another."""
    said = document.get(HASH)
    if said is None:
        return False
    start = text.find(_HASHED_FROM)
    is_that = hashlib.sha256(memoryview(text)[start + 1 :]).hexdigest() if start >= 0 else None
    if said != is_that:
        raise InvalidSnapshot(
            f"{HASH} is {str(said)[:64]!r}, and the contents have {is_that or 'another form'}: the "
            f"file was damaged or changed since its export; to take it as it is, remove {HASH}"
        )
    return True


def _read_rows(table: str, rows: Any, form: type[_AnyRow], warnings: list[str]) -> list[_AnyRow]:
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise InvalidSnapshot(f"tables.{table} is not an array")
    unknown: Counter[str] = Counter()
    read_rows = []
    for n, row in enumerate(rows):
        try:
            checked = form.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in (f"tables.{table}[{n}]", *first["loc"]))
            raise InvalidSnapshot(f"{where}: {first['msg']}") from error
        unknown.update((checked.model_extra or {}).keys())
        read_rows.append(checked)
    for key, times in sorted(unknown.items()):
        warnings.append(f"tables.{table}: unknown key {key!r} left out, in {times} rows")
    return read_rows


def _task(
    n: int, row: TaskRow, tag_tables: dict[str, dict[str, list[str]]], warnings: list[str]
) -> Task:
    path = f"tables.tasks[{n}]"

    def tags(column: str) -> tuple[str, ...]:
        listed: list[str] | None = getattr(row, column)
        return read.tags(column, tag_tables[column].get(row.id, []) if listed is None else listed)

    priority = min(max(row.priority, 0), 10)
    if priority != row.priority:
        warnings.append(f"{path}.priority: {row.priority} put into the range, {priority}")
    metrics = [*(row.metrics or ()), *[0] * 8][:8]
    if row.metrics is not None and len(row.metrics) < len(metrics):
        warnings.append(f"{path}.metrics: has {len(row.metrics)} of 8, the others are 0")
    try:
        return new_task(
            id=read.identifier("id", row.id),
            title=read.text("title", row.title, read.MAX_TITLE, required=True),
            description=read.description("description", row.description or ""),
            status=row.status,
            workflow=row.workflow,
            now=row.created_at,
            revision=0,
        )._replace(
            tags=tags("tags"),
            needed_tags=tags("needed_tags"),
            wanted_tags=tags("wanted_tags"),
            phase=row.phase or None,
            priority=priority,
            worker_id=read.identifier("worker_id", row.worker_id or "", optional=True) or None,
            claimed_at=row.claimed_at,
            points=row.points,
            time_estimate_ms=row.time_estimate_ms,
            time_actual_ms=row.time_actual_ms or 0,
            started_at=row.started_at,
            completed_at=row.completed_at,
            current_thought=row.current_thought,
            **{f"metric_{i}": value for i, value in enumerate(metrics)},
            cost_usd=row.cost_usd,
            deleted_at=row.deleted_at,
            deleted_by=row.deleted_by,
            deleted_reason=row.deleted_reason,
            updated_at=row.updated_at,
            not_before=row.not_before,
            attempts=row.attempts,
            max_attempts=row.max_attempts,
            ready_at=row.ready_at,
            state_since=row.state_since,
            lease_ms=row.lease_ms,
            parked_lease_ms=row.parked_lease_ms,
            retry_delay_ms=row.retry_delay_ms,
            activity=row.activity,
            breakthrough=row.breakthrough,
            boost=row.boost,
            max_cost_usd=row.max_cost_usd,
            max_subtree_attempts=row.max_subtree_attempts,
            **{column: getattr(row, column) for column in OTHER_TASK_COLUMNS},
            active_at=row.updated_at if row.active_at is None else row.active_at,
            progressed_at=row.updated_at if row.progressed_at is None else row.progressed_at,
        )
    except InvalidField as error:
        raise InvalidSnapshot(f"{path}.{error}") from error


def _attachment(n: int, row: AttachmentRow, warnings: list[str]) -> Attachment:
    path = f"tables.attachments[{n}]"
    if row.file_path is not None:
        if row.content or row.size is None:
            raise InvalidSnapshot(f"{path}: a row with file_path has a size, and no content")
        warnings.append(
            f"{path}: its content is not in the snapshot but in file {row.file_path} of the media "
            "folder; copy that, too"
        )
    content = (row.content or "").encode()
    if row.content_encoding == "base64":
        try:
            content = base64.b64decode(content, validate=True)
        except binascii.Error as error:
            raise InvalidSnapshot(f"{path}.content: is not base64") from error
    if len(content) > MAX_CONTENT:
        raise InvalidSnapshot(f"{path}.content: is larger than {MAX_CONTENT:,} bytes")
    try:
        type_ = read.identifier("attachment_type", row.attachment_type)
    except InvalidField as error:
        raise InvalidSnapshot(f"{path}.{error}") from error
    return Attachment(
        task_id=row.task_id,
        attachment_type=type_,
        sequence=row.sequence,
        name=row.name or "",
        mime_type=row.mime_type or "text/plain",
        size=row.size if row.file_path is not None and row.size is not None else len(content),
        created_at=row.created_at,
        file_path=row.file_path,
        content=content if row.file_path is None else None,
    )


def render(snapshot: Snapshot, exported_at: int, *, gzipped: bool) -> bytes:
    """A snapshot as a file. Equal snapshots are equal files but for ``exported_at``."""
    tables: dict[str, list[dict[str, Any]]] = {
        "tasks": [_render_task(task) for task in snapshot.tasks],
        "dependencies": [dependency._asdict() for dependency in snapshot.dependencies],
        "attachments": [_render_attachment(one) for one in snapshot.attachments],
        **{
            table: [
                {"task_id": task.id, "tag": tag}
                for task in snapshot.tasks
                for tag in getattr(task, column)
            ]
            for table, column in TAG_TABLES.items()
        },
        "task_sequence": [transition._asdict() for transition in snapshot.transitions],
    }
    # The hash stands before what it is of, so the two are written apart and put together.
    body = _lines({"tables": {name: tables[name] for name in TABLES if name in snapshot.tables}})
    body = body.removeprefix(b"{")
    header = {
        "schema_version": SCHEMA_VERSION,
        "export_version": __version__,
        "exported_at": datetime.fromtimestamp(exported_at / 1000, UTC).isoformat(),
        "exported_by": "taskloom",
        HASH: hashlib.sha256(memoryview(body)[1:]).hexdigest(),
    }
    text = _lines(header).removesuffix(b"\n}\n") + b"," + body
    # No time stamp in the gzip header: the one in the file's header is enough.
    return gzip.compress(text, mtime=0) if gzipped else text


def _lines(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _render_task(task: Task) -> dict[str, Any]:
    return {column: getattr(task, column) for column in TASK_COLUMNS}


def _render_attachment(attachment: Attachment) -> dict[str, Any]:
    if attachment.file_path is not None:
        return {
            "task_id": attachment.task_id,
            "attachment_type": attachment.attachment_type,
            "sequence": attachment.sequence,
            "name": attachment.name,
            "mime_type": attachment.mime_type,
            "content": None,
            "content_encoding": "utf-8",
            "file_path": attachment.file_path,
            "size": attachment.size,
            "created_at": attachment.created_at,
        }
    content = attachment.content or b""
    try:
        text, encoding = content.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = base64.b64encode(content).decode(), "base64"
    return {
        "task_id": attachment.task_id,
        "attachment_type": attachment.attachment_type,
        "sequence": attachment.sequence,
        "name": attachment.name,
        "mime_type": attachment.mime_type,
        "content": text,
        "content_encoding": encoding,
        "file_path": None,
        "created_at": attachment.created_at,
    }
