"""Locks: a free one waits for nobody, and goes to the one who waits longest."""

from dataclasses import replace

from google.protobuf.duration_pb2 import Duration
from taskloom import v1

from tests.robustness.recording import Attempt, Call, tag_of
from tests.robustness.story import Story

LOCK = "lock:git"


def _waits(story: Story, worker: str) -> Call:
    """A worker waits for a lock, as a later call of his is answered: for a minute, in vain, or
    until the story gives it to him."""
    story.wait(100)
    wait = Duration(seconds=60)
    number = len(story.calls) + 1
    ask = v1.MarkFilesRequest(worker_id=worker, paths=[LOCK], wait=wait, reason=tag_of(number))
    call = story.refused("MarkFiles", ask, "FAILED_PRECONDITION", "FILE_LOCKED")
    asked = story.now - 15
    call.attempts[0] = replace(call.attempts[0], start=asked, end=asked + 60_000)
    story.wait(100)
    story.found_nothing(worker, v1.CLAIM_OUTCOME_COOLING_DOWN)
    return call


def _is_given(story: Story, call: Call) -> None:
    """He who waited has the lock now."""
    mark = story.mark(call.worker_id, LOCK, reason=call.tag)
    answer = v1.MarkFilesResponse(marks=[mark], revision=story.revision)
    start = call.attempts[0].start
    call.attempts = [Attempt(start, story.now, "OK", "", "", answer.SerializeToString())]


def test_lock_that_goes_on(story: Story) -> None:
    """A lock goes to who waits longest, and then to the other."""
    held = story.mark("cleo", LOCK)
    first, second = _waits(story, "ann"), _waits(story, "bob")
    for call in (first, second):
        story.unmark(held)
        _is_given(story, call)
        held = v1.FileMark(path=LOCK, worker_id=call.worker_id)
    assert story.judge() == []


def test_lock_for_who_came_later(story: Story) -> None:
    """A lock that is given to one while another waits longer for it."""
    held = story.mark("cleo", LOCK)
    _waits(story, "ann")
    later = _waits(story, "bob")
    story.unmark(held)
    _is_given(story, later)
    assert story.broken() == {"locks"}


def test_lock_that_stays_free(story: Story) -> None:
    """A lock that nobody has, though somebody waits for it."""
    held = story.mark("cleo", LOCK)
    _waits(story, "ann")
    story.unmark(held)
    for _ in range(49):
        story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t2"))
    assert story.judge() == []
    story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t2"))
    assert story.broken() == {"locks"}
