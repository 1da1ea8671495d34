"""The rows of a snapshot file: which columns, and what may stand in them.

A column that ``graph.tasks`` gains is in every snapshot by itself, unless ``NOT_IN_SNAPSHOTS``
names it; one whose values have bounds of their own is named here.
"""

from collections import Counter
from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, NotRequired, get_args, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
    with_config,
)
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict

from taskloom_server.graph.errors import InvalidSnapshot
from taskloom_server.graph.snapshots import (
    ATTACHMENTS,
    DEPENDENCIES,
    HISTORY,
    MEDIA,
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


class MediaRow(Row):
    """A piece of a content of the media folder; the pieces of one follow each other."""

    file_path: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    content: str  # base64


FORMS: dict[str, type[Row]] = {
    TASKS: TaskRow,
    DEPENDENCIES: DependencyRow,
    ATTACHMENTS: AttachmentRow,
    **dict.fromkeys(TAG_TABLES, TagRow),
    HISTORY: TransitionRow,
    MEDIA: MediaRow,
}


class Reading:
    """Checks the rows of a table, a dict each, and completes them by their defaults.

    Rows that are as they should be, which are nearly all, are checked as plain dicts in a quarter
    of the time that a model takes. Any other one is looked at by the model, which says what it is.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._form = form = FORMS[table]
        fields = form.model_fields
        self._defaults = {
            name: field.default for name, field in fields.items() if not field.is_required()
        }
        plain = TypedDict(  # type: ignore[misc]
            form.__name__, {name: _annotation(field) for name, field in fields.items()}
        )
        strictly = with_config(ConfigDict(extra="forbid", strict=True))
        self._plain = TypeAdapter(strictly(plain)).validator
        self._rows = 0
        self.unknown: Counter[str] = Counter()  # keys, and in how many rows they are

    def rows(self, rows: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The next rows, each with its place. Raises InvalidSnapshot."""
        validate = self._plain.validate_python
        for n, row in enumerate(rows, self._rows):
            place = f"tables.{self._table}[{n}]"
            try:
                read = validate(row)
            except ValidationError:
                read = self._look_at(place, row)
            yield place, self._defaults | read
        self._rows += len(rows)

    def _look_at(self, place: str, row: Any) -> dict[str, Any]:
        try:
            model = self._form.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in (place, *first["loc"]))
            raise InvalidSnapshot(f"{where}: {first['msg']}") from error
        self.unknown.update((model.model_extra or {}).keys())
        return {name: getattr(model, name) for name in self._form.model_fields}


def _annotation(field: FieldInfo) -> Any:
    kind: Any = field.rebuild_annotation()
    return kind if field.is_required() else NotRequired[kind]
