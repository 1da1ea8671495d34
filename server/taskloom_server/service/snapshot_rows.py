"""The rows of a snapshot file: which columns, and what may stand in them.

A column that ``graph.tasks`` gains is in every snapshot by itself, unless ``NOT_IN_SNAPSHOTS``
names it; one whose values have bounds of their own is named here.
"""

from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from taskloom_server.graph.snapshots import (
    ATTACHMENTS,
    DEPENDENCIES,
    HISTORY,
    NOT_IN_SNAPSHOTS,
    TAG_TABLES,
    TASKS,
)
from taskloom_server.graph.tasks import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_PRIORITY,
    Task,
    new_task,
)
from taskloom_server.service import read
from taskloom_server.service.attachments import MAX_UPLOAD

_Int = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
# What a Timestamp and a Duration can show: the years 1 to 9999, and 10,000 years.
_Time = Annotated[int, Field(ge=-62_135_596_800_000, le=253_402_300_799_999)]
_Duration = Annotated[int, Field(ge=0, le=315_576_000_000_000)]
_Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Metrics = Annotated[list[_Count], Field(max_length=8)]


class Row(BaseModel):
    """Keys that are not known are kept apart, to be warned of."""

    model_config = ConfigDict(extra="allow", strict=True)


class _TaskRow(Row):
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


_FORMS: dict[type, Any] = {
    int: _Int,
    float: Annotated[float, Field(allow_inf_nan=False)],
    str: str,
}
_BLANK = new_task(id="", title="", description="", status="", workflow="", now=0, revision=0)


def _others() -> dict[str, tuple[Any, Any]]:
    """The columns of a task that are not named above, with their form and their default."""
    others: dict[str, tuple[Any, Any]] = {}
    for name, hint in get_type_hints(Task).items():
        if name in NOT_IN_SNAPSHOTS or name in _TaskRow.model_fields:
            continue
        kinds = set(get_args(hint) or (hint,))
        [kind] = kinds - {NoneType}  # one of another form is to be named above
        form = _FORMS[kind]
        if kind is int and name.endswith("_at"):
            form = _Time
        elif kind is int and name.endswith("_ms"):
            form = _Duration
        others[name] = (form | None if NoneType in kinds else form, getattr(_BLANK, name))
    return others


OTHER_TASK_COLUMNS = tuple(_others())
TaskRow = create_model("TaskRow", __base__=_TaskRow, **_others())  # type: ignore[call-overload]
TASK_COLUMNS = tuple(TaskRow.model_fields)


class DependencyRow(Row):
    """A row of ``dependencies``."""

    from_task_id: str
    to_task_id: str
    dep_type: Literal["blocks", "follows", "contains", "duplicate", "see-also", "relates-to"]


class AttachmentRow(Row):
    """A row of ``attachments``."""

    task_id: str
    attachment_type: str
    sequence: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    name: str | None = None
    mime_type: str | None = None
    content: str | None = None
    content_encoding: Literal["utf-8", "base64"] = "utf-8"
    # Of content kept in the media folder, which is not in the file: its name there, and its size.
    file_path: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    size: Annotated[int, Field(ge=0, le=MAX_UPLOAD)] | None = None
    created_at: _Time = 0


class TagRow(Row):
    """A row of a table of tags."""

    task_id: str
    tag: str


class TransitionRow(Row):
    """A row of ``task_sequence``."""

    id: _Count | None = None
    task_id: str
    worker_id: str | None = None
    status: str | None = None
    phase: str | None = None
    reason: str | None = None
    timestamp: _Time
    end_timestamp: _Time | None = None


FORMS: dict[str, type[Row]] = {
    TASKS: TaskRow,
    DEPENDENCIES: DependencyRow,
    ATTACHMENTS: AttachmentRow,
    **dict.fromkeys(TAG_TABLES, TagRow),
    HISTORY: TransitionRow,
}
