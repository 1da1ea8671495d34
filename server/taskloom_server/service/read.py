"""Checking the fields of requests: what is not of its form is refused here, by name."""

import unicodedata
from collections.abc import Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom.v1 import task_pb2

from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.tasks import DEFAULT_MAX_ATTEMPTS, DEFAULT_PRIORITY, LOCK_PREFIX
from taskloom_server.graph.workers import ClaimOrder

MAX_ID = 128
MAX_TITLE = 1_000
MAX_DESCRIPTION = 64 << 10  # bytes
MAX_REASON = 4_000
MAX_TAGS = 64
MAX_BLOCKERS = 1_000
MAX_PATHS = 1_000
MAX_PATH = 1_024
DAY_MS = 24 * 3600 * 1000


def identifier(field: str, value: str, *, optional: bool = False) -> str:
    """An id: 1 to 128 characters, none of them blank or a control character."""
    if not value:
        if optional:
            return ""
        raise InvalidField(field, "is required")
    if len(value) > MAX_ID:
        raise InvalidField(field, f"has {len(value)} characters; at most {MAX_ID} are allowed")
    if value.isascii() and value.isprintable() and " " not in value:
        return value  # as nearly all: a tenth of the time
    for character in value:
        # Separators, and everything that prints as nothing or as a puzzle.
        if unicodedata.category(character)[0] in "ZC":
            raise InvalidField(
                field,
                f"contains {character!a}; blanks and control characters are not allowed",
            )
    return value


def text(field: str, value: str, limit: int, *, required: bool = False) -> str:
    """Free text of at most ``limit`` characters."""
    if required and not value.strip():
        raise InvalidField(field, "is required")
    if len(value) > limit:
        raise InvalidField(field, f"has {len(value)} characters; at most {limit:,} are allowed")
    return value


def description(field: str, value: str) -> str:
    """A description of at most 64 KiB."""
    if len(value) * 4 <= MAX_DESCRIPTION:  # of UTF-8 a character takes no more
        return value
    size = len(value.encode())
    if size > MAX_DESCRIPTION:
        raise InvalidField(field, f"has {size} bytes; at most {MAX_DESCRIPTION} are allowed")
    return value


def identifiers(field: str, values: Sequence[str], limit: int) -> tuple[str, ...]:
    """Distinct ids, at most ``limit`` of them."""
    if len(values) > limit:
        raise InvalidField(field, f"has {len(values)} entries; at most {limit:,} are allowed")
    return tuple(
        dict.fromkeys(identifier(f"{field}[{n}]", value) for n, value in enumerate(values))
    )


def tags(field: str, values: Sequence[str]) -> tuple[str, ...]:
    """Distinct tags, sorted."""
    if not values:
        return ()
    return tuple(sorted(identifiers(field, values, MAX_TAGS)))


def paths(field: str, values: Sequence[str]) -> tuple[str, ...]:
    """Paths to be marked, and locks; at most 1,000 of 1 to 1,024 characters."""
    if len(values) > MAX_PATHS:
        raise InvalidField(field, f"has {len(values)} entries; at most {MAX_PATHS:,} are allowed")
    for n, path in enumerate(values):
        text(f"{field}[{n}]", path, MAX_PATH, required=True)
        if "\0" in path:
            raise InvalidField(f"{field}[{n}]", "contains a NUL character")
        if path.startswith(LOCK_PREFIX) and not path.removeprefix(LOCK_PREFIX).strip():
            raise InvalidField(f"{field}[{n}]", "names no resource after 'lock:'")
    return tuple(values)


def whole(field: str, value: int, low: int, high: int) -> int:
    """A number within bounds, both included."""
    if not low <= value <= high:
        raise InvalidField(field, f"is {value}; it must be from {low} to {high:,}")
    return value


def priority(field: str, message: Any) -> int:
    """A task's priority; the default where it is absent."""
    if not message.HasField("priority"):
        return DEFAULT_PRIORITY
    return whole(field, message.priority, 0, 10)


def points(field: str, message: Any) -> int | None:
    """A task's points; None where they are absent."""
    if not message.HasField("points"):
        return None
    return whole(field, message.points, 0, 2**31 - 1)


def max_attempts(field: str, value: int) -> int:
    """How many attempts a task is given; 0 means the default."""
    return whole(field, value, 0, 1_000) or DEFAULT_MAX_ATTEMPTS


def revision(field: str, value: int) -> int:
    """A revision, a claim revision or an etag."""
    if value < 0:
        raise InvalidField(field, "must not be negative")
    return value


def duration_ms(
    field: str, message: Message, name: str, *, low: int, high: int, default: int | None
) -> int | None:
    """A duration in ms; the default where it is absent or zero."""
    if not message.HasField(name):
        return default
    value: Duration = getattr(message, name)
    if not value.seconds and not value.nanos:
        return default
    valid = 0 <= value.seconds <= 315_576_000_000 and 0 <= value.nanos < 10**9
    ms = value.ToMilliseconds() if valid else -1
    if not low <= ms <= high:
        raise InvalidField(field, f"must be from {low / 1000:g} s to {high / 1000:g} s, or absent")
    return ms or default  # less than a millisecond is none


def lease_ms(field: str, message: Message) -> int | None:
    """The length of a lease, a field of this name; None where it is absent or zero."""
    return duration_ms(field, message, "lease", low=1_000, high=7 * DAY_MS, default=None)


def claim_order(field: str, value: int) -> ClaimOrder:
    """Which task is the best one; by priority where that is not said."""
    match value:
        case task_pb2.ORDER_BY_UNSPECIFIED | task_pb2.ORDER_BY_PRIORITY:
            return ClaimOrder.PRIORITY
        case task_pb2.ORDER_BY_TEMPERATURE:
            return ClaimOrder.TEMPERATURE
    raise InvalidField(field, "must be ORDER_BY_PRIORITY, ORDER_BY_TEMPERATURE or absent")


def time_ms(field: str, message: Message, name: str) -> int | None:
    """A time in Unix ms; None where it is absent."""
    if not message.HasField(name):
        return None
    value: Timestamp = getattr(message, name)
    if not (-62_135_596_800 <= value.seconds <= 253_402_300_799 and 0 <= value.nanos < 10**9):
        raise InvalidField(field, "is not a time between the years 1 and 9999")
    return value.ToMilliseconds()
