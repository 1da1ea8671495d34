"""How values are typed and shown: durations, moments, addresses, numbers of a kind.

What cannot be read raises typer.BadParameter with the end of a sentence; typer completes it with
the name of the option.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from google.protobuf import duration_pb2, timestamp_pb2
from typer import BadParameter

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_LONGEST = timedelta(days=36_500)

_HOST = re.compile(r"\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+")


def parse_duration(text: str) -> timedelta:
    """Read 90s, 15m, 2h, 1d, 250ms, 1.5h or 1h30m."""
    seconds, end = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != end:
            break
        seconds += float(part[1]) * _UNIT_SECONDS[part[2]]
        end = part.end()
    if end == 0 or end != len(text):
        raise BadParameter(f"'{text}' is not a duration such as 90s, 15m, 2h or 1d")
    if seconds > _LONGEST.total_seconds():
        raise BadParameter(f"'{text}' is longer than 100 years")
    return timedelta(seconds=seconds)


def parse_timeout(text: str) -> float:
    """Read a duration, or a bare number of seconds, that is longer than nothing: in seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = parse_duration(text).total_seconds()
    if not math.isfinite(seconds) or seconds <= 0:
        raise BadParameter(f"'{text}' is not a time to wait")
    return seconds


def parse_moment(text: str) -> datetime:
    """Read a moment such as 2026-05-01T09:00, in local time unless it has a zone; or 2h from now.

    ``now`` is this machine's present.
    """
    now = datetime.now(UTC)
    if text == "now":
        return now
    try:
        return now + parse_duration(text)
    except BadParameter:
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadParameter(
            f"'{text}' is neither a time such as 2026-05-01T09:00 nor a duration from now"
        ) from None


def parse_moment_past(text: str) -> datetime:
    """Read a moment that has passed: as ``parse_moment`` does, but 2h is 2 hours ago."""
    try:
        return datetime.now(UTC) - parse_duration(text)
    except BadParameter:
        return parse_moment(text)


def parse_number(text: str) -> int:
    """Read a number that is not negative and that a 32-bit field can hold."""
    return _whole(text, 2**31 - 1)


def parse_revision(text: str) -> int:
    """Read a revision, as the server gives them out."""
    return _whole(text, 2**63 - 1)


def _whole(text: str, largest: int) -> int:
    text = str(text)  # typer hands defaults over as well
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > largest:
        raise BadParameter(f"'{text}' is not a number from 0 to {largest:,}")
    return int(text)


def parse_address(text: str) -> str:
    """Read HOST:PORT; an IPv6 host stands in brackets."""
    host, colon, port = text.rpartition(":")
    if not (colon and _HOST.fullmatch(host) and re.fullmatch(r"[0-9]{1,5}", port)):
        raise BadParameter(f"'{text}' is not HOST:PORT, such as 127.0.0.1:50051")
    if not 1 <= int(port) <= 65_535:
        raise BadParameter(f"'{text}' has no port between 1 and 65535")
    return text


def to_duration(duration: timedelta | None) -> "Duration | None":
    """The message for a duration that was typed; None, which leaves its field absent, for none."""
    if duration is None:
        return None
    message = duration_pb2.Duration()
    message.FromTimedelta(duration)
    return message


def to_timestamp(moment: datetime | None) -> "Timestamp | None":
    """The message for a moment that was typed; None, which leaves its field absent, for none."""
    if moment is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def show_duration(duration: "Duration | timedelta") -> str:
    """Such as 250ms, 45s, 1m 30s, 2h, 1d 4h: the two largest units that say something."""
    span = duration if isinstance(duration, timedelta) else duration.ToTimedelta()
    milliseconds = round(span.total_seconds() * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    left = milliseconds // 1000
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def show_temperature(temperature: float) -> str:
    """Such as "0.72, hot"."""
    heat = "hot" if temperature >= 0.7 else "cold" if temperature < 0.3 else "warm"
    return f"{show_degrees(temperature)}, {heat}"


def show_degrees(temperature: float) -> str:
    """Such as "0.72"; rounded down, so that 0.70 is hot and what is warm is less."""
    return f"{math.floor(temperature * 100 + 1e-9) / 100:.2f}"


def show_moment(moment: "Timestamp") -> str:
    """In local time, to the second."""
    return local_time(moment).strftime("%Y-%m-%d %H:%M:%S")


def moment_of(message: "Message", field: str) -> str:
    """The moment in that field; empty where it is absent."""
    return show_moment(getattr(message, field)) if message.HasField(field) else ""


def duration_of(message: "Message", field: str) -> str:
    """The duration in that field; empty where it is absent, or nothing."""
    duration = getattr(message, field)
    return show_duration(duration) if duration.ListFields() else ""


def local_time(moment: "Timestamp") -> datetime:
    """As a datetime of this machine's zone."""
    return moment.ToDatetime(UTC).astimezone()


def count(number: int, noun: str, plural: str = "") -> str:
    """Such as "1 task" or "3 tasks"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
