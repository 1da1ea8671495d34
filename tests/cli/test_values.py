"""How values are typed and shown."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskloom_client.cli.values import (
    count,
    parse_address,
    parse_duration,
    parse_moment,
    parse_timeout,
    show_duration,
    show_temperature,
)
from typer import BadParameter


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1d", 86_400),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("0s", 0),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """A duration is a number and a unit, or several of them."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "5x", "-5s", "s", "1h 30m", "1h30", "5ss", "٣s", "9e9d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else is refused, in a sentence that shows how to write one."""
    with pytest.raises(BadParameter, match="such as 90s, 15m, 2h or 1d"):
        parse_duration(text)


def test_durations_beyond_all_reason_are_refused() -> None:
    """A duration that no message could carry is refused before it is tried."""
    with pytest.raises(BadParameter, match="100 years"):
        parse_duration("9999999999999d")


@given(st.integers(0, 3_000_000_000))
def test_durations_are_shown_as_they_can_be_typed(milliseconds: int) -> None:
    """What is shown can be typed again, and is off by less than its smaller unit."""
    duration = timedelta(milliseconds=milliseconds)
    again = parse_duration(show_duration(duration).replace(" ", ""))
    assert again <= duration
    assert duration - again < max(timedelta(seconds=1), duration / 24)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (0.25, "250ms"), (45, "45s"), (90, "1m 30s"), (7200, "2h"), (100_800, "1d 4h")],
)
def test_durations_are_shown_briefly(seconds: float, shown: str) -> None:
    """Two units at most."""
    assert show_duration(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("temperature", "shown"),
    [(1, "1.00, hot"), (0.7, "0.70, hot"), (0.6999, "0.69, warm"), (0.29, "0.29, cold")],
)
def test_temperatures_are_shown_rounded_down(temperature: float, shown: str) -> None:
    """The number never says hot where the word says warm."""
    assert show_temperature(temperature) == shown


def test_timeouts_may_be_bare_seconds() -> None:
    """A timeout is a duration, or a number of seconds, and never nothing."""
    assert parse_timeout("5") == 5
    assert parse_timeout("2m") == 120
    for text in ("0", "-1", "nan", "inf", "0s", "soon"):
        with pytest.raises(BadParameter):
            parse_timeout(text)


def test_moments_are_local_times_or_durations_from_now() -> None:
    """A moment has a zone, or is local; or it is as far from now as a duration says."""
    zoned = parse_moment("2026-05-01T09:00:00+02:00")
    assert zoned == datetime(2026, 5, 1, 7, tzinfo=UTC)
    assert parse_moment("2026-05-01T09:00") == datetime(2026, 5, 1, 9).astimezone()
    soon = parse_moment("2h") - datetime.now(UTC)
    assert timedelta(hours=1.9) < soon <= timedelta(hours=2)
    assert abs(parse_moment("now") - datetime.now(UTC)) < timedelta(minutes=1)
    for text in ("", "tomorrow", "2026-13-01", "0001-01-01T00:00+14:00"):
        with pytest.raises(BadParameter):
            parse_moment(text)


@pytest.mark.parametrize("text", ["localhost:50051", "10.0.0.1:1", "[::1]:65535", "a-b.c:80"])
def test_addresses_are_host_and_port(text: str) -> None:
    """A host, a colon, a port; brackets around IPv6."""
    assert parse_address(text) == text


@pytest.mark.parametrize(
    "text", ["", "localhost", ":80", "localhost:", "a:b", "a:0", "a:65536", "::1:80", "a b:80"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Anything else would only fail later, and less clearly."""
    with pytest.raises(BadParameter):
        parse_address(text)


def test_counts_agree_with_their_nouns() -> None:
    """One task, and two tasks."""
    assert (count(1, "task"), count(2000, "task")) == ("1 task", "2,000 tasks")
