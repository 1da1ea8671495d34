"""Snapshot files: JSON, gzipped or not, checked row by row, and written byte for byte alike."""

import base64
import binascii
import gzip
import io
import zlib
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taskloom_server import __version__
from taskloom_server.coordinator.snapshots import Snapshot
from taskloom_server.graph.errors import InvalidField, InvalidSnapshot, SnapshotTooLarge
from taskloom_server.graph.tasks import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_PRIORITY,
    Attachment,
    Dependency,
    Task,
    Transition,
    new_task,
)
from taskloom_server.service import read
from taskloom_server.service.attachments import MAX_CONTENT

SCHEMA_VERSION = 3
MAX_BYTES = 256 << 20  # unpacked

_Int = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
# What a Timestamp and a Duration can show: the years 1 to 9999, and 10,000 years.
_Time = Annotated[int, Field(ge=-62_135_596_800_000, le=253_402_300_799_999)]
_Duration = Annotated[int, Field(ge=0, le=315_576_000_000_000)]
_Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Metrics = Annotated[list[_Count], Field(max_length=8)]


class _Row(BaseModel):
    """Keys that are not known are kept apart, to be warned of."""

    model_config = ConfigDict(extra="allow", strict=True)


class _TaskRow(_Row):
    id: str
    title: str
    description: str | None = None
    status: str = ""
    phase: str | None = None
    priority: _Int = DEFAULT_PRIORITY
    worker_id: str | None = None
    claimed_at: _Time | None = None
    needed_tags: list[str] | None = None
    wanted_tags: list[str] | None = None
    tags: list[str] | None = None
    points: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    time_estimate_ms: _Duration | None = None
    time_actual_ms: _Duration | None = None
    started_at: _Time | None = None
    completed_at: _Time | None = None
    current_thought: str | None = None
    metrics: _Metrics | None = None
    cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    deleted_at: _Time | None = None
    deleted_by: str | None = None
    deleted_reason: str | None = None
    created_at: _Time = 0
    updated_at: _Time = 0
    # taskloom's own
    workflow: str = ""
    not_before: _Time | None = None
    attempts: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    max_attempts: Annotated[int, Field(ge=1, le=1_000)] = DEFAULT_MAX_ATTEMPTS
    ready_at: _Time | None = None
    state_since: _Time | None = None
    lease_ms: Annotated[int, Field(ge=1_000, le=7 * read.DAY_MS)] | None = None
    parked_lease_ms: Annotated[int, Field(ge=1_000, le=7 * read.DAY_MS)] | None = None
    retry_delay_ms: Annotated[int, Field(ge=1, le=read.DAY_MS)] | None = None
    activity: _Share = 0.0
    breakthrough: _Share = 0.0
    boost: _Share = 0.0
    active_at: _Time | None = None
    progressed_at: _Time | None = None
    max_cost_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_subtree_attempts: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class _DependencyRow(_Row):
    from_task_id: str
    to_task_id: str
    dep_type: Literal["blocks", "follows", "contains", "duplicate", "see-also", "relates-to"]


class _AttachmentRow(_Row):
    task_id: str
    attachment_type: str
    sequence: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    name: str | None = None
    mime_type: str | None = None
    content: str | None = None
    content_encoding: Literal["utf-8", "base64"] = "utf-8"
    file_path: None = None  # content outside the database is not taken
    created_at: _Time = 0


class _TagRow(_Row):
    task_id: str
    tag: str


class _TransitionRow(_Row):
    id: _Count | None = None
    task_id: str
    worker_id: str | None = None
    status: str | None = None
    phase: str | None = None
    reason: str | None = None
    timestamp: _Time
    end_timestamp: _Time | None = None


_TAG_TABLES = {
    "task_tags": "tags",
    "task_needed_tags": "needed_tags",
    "task_wanted_tags": "wanted_tags",
}
_TABLES: dict[str, type[_Row]] = {
    "tasks": _TaskRow,
    "dependencies": _DependencyRow,
    "attachments": _AttachmentRow,
    **dict.fromkeys(_TAG_TABLES, _TagRow),
    "task_sequence": _TransitionRow,
}
_HEADER = {"schema_version", "export_version", "exported_at", "exported_by", "tables"}
_AnyRow = TypeVar("_AnyRow", bound=_Row)


def parse(contents: bytes) -> tuple[Snapshot, list[str]]:
    """The snapshot in a file, and what was tolerated in it.

    Raises InvalidSnapshot naming table, row and column, and SnapshotTooLarge.
    """
    document = _read_json(_unpack(contents))
    warnings: list[str] = []
    _check_header(document, warnings)
    tables: dict[str, list[Any]] = document["tables"]
    for name in tables.keys() - _TABLES.keys():
        warnings.append(f"tables.{name}: unknown table, left out")

    def rows(table: str, form: type[_AnyRow]) -> list[_AnyRow]:
        return _read_rows(table, tables.get(table), form, warnings)

    tag_rows = {table: rows(table, _TagRow) for table in _TAG_TABLES}
    tags: dict[str, dict[str, list[str]]] = {}
    for table, column in _TAG_TABLES.items():
        by_task: dict[str, list[str]] = defaultdict(list)
        for tag_row in tag_rows[table]:
            by_task[tag_row.task_id].append(tag_row.tag)
        tags[column] = by_task
    task_rows = rows("tasks", _TaskRow)
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
            for row in rows("dependencies", _DependencyRow)
        ],
        attachments=[
            _attachment(n, row) for n, row in enumerate(rows("attachments", _AttachmentRow))
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
            for n, row in enumerate(rows("task_sequence", _TransitionRow))
        ],
    )
    return snapshot, warnings


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
    n: int, row: _TaskRow, tag_tables: dict[str, dict[str, list[str]]], warnings: list[str]
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
            active_at=row.updated_at if row.active_at is None else row.active_at,
            progressed_at=row.updated_at if row.progressed_at is None else row.progressed_at,
            max_cost_usd=row.max_cost_usd,
            max_subtree_attempts=row.max_subtree_attempts,
        )
    except InvalidField as error:
        raise InvalidSnapshot(f"{path}.{error}") from error


def _attachment(n: int, row: _AttachmentRow) -> Attachment:
    path = f"tables.attachments[{n}]"
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
        size=len(content),
        created_at=row.created_at,
        content=content,
    )


_TASK_COLUMNS = tuple(name for name in _TaskRow.model_fields if name != "metrics")


def render(snapshot: Snapshot, exported_at: int, *, gzipped: bool) -> bytes:
    """A snapshot as a file. Equal snapshots are equal files but for ``exported_at``."""
    tag_rows = {
        table: [
            {"task_id": task.id, "tag": tag}
            for task in snapshot.tasks
            for tag in getattr(task, column)
        ]
        for table, column in _TAG_TABLES.items()
    }
    document = {
        "schema_version": SCHEMA_VERSION,
        "export_version": __version__,
        "exported_at": datetime.fromtimestamp(exported_at / 1000, UTC).isoformat(),
        "exported_by": "taskloom",
        "tables": {
            "tasks": [_render_task(task) for task in snapshot.tasks],
            "dependencies": [dependency._asdict() for dependency in snapshot.dependencies],
            "attachments": [_render_attachment(one) for one in snapshot.attachments],
            **tag_rows,
            "task_sequence": [transition._asdict() for transition in snapshot.transitions],
        },
    }
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    # No time stamp in the gzip header: the one in the file's header is enough.
    return gzip.compress(text, mtime=0) if gzipped else text


def _render_task(task: Task) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in _TASK_COLUMNS:
        if column == "cost_usd":
            row["metrics"] = task.metrics
        row[column] = getattr(task, column)
    return row


def _render_attachment(attachment: Attachment) -> dict[str, Any]:
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
