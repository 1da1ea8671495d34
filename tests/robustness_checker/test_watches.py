"""Watches: every event once, in order, in the same bytes."""

from typing import Any

import pytest

from tests.robustness.story import Story
from tests.robustness.watchers import digest_of


def _drop(told: list[Any]) -> None:
    del told[1]


def _repeat(told: list[Any]) -> None:
    told.insert(1, told[1])


def _swap(told: list[Any]) -> None:
    told[0], told[1] = told[1], told[0]


def _change(told: list[Any]) -> None:
    told[1] = told[1][0], digest_of(b"something else")


def _add(told: list[Any]) -> None:
    told.append((99, digest_of(b"")))


@pytest.mark.parametrize("spoil", [_drop, _repeat, _swap, _change, _add])
def test_watch_that_was_told_otherwise(story: Story, spoil: Any) -> None:
    """A watch that misses a revision, hears of one twice, out of order, in other bytes, or of one
    that is not there."""
    stream = story.watch(1, 4)
    assert story.judge() == []
    spoil(stream.told)
    assert story.broken() == {"watches"}


def test_watch_that_began_elsewhere(story: Story) -> None:
    """A watch that was resumed after another revision than it asked for."""
    story.watch(2, 4).created = 2
    assert story.broken() == {"watches"}
