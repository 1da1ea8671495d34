"""Waiting: a ready task waits for nobody, and goes to who waits longest."""

from dataclasses import replace

from taskloom import v1

from tests.robustness.recording import Call
from tests.robustness.story import Story


def _waits(story: Story, worker: str) -> Call:
    """A worker asks for a task, and stands in line as a later call of his is answered."""
    asked = story.now
    story.wait(100)
    metrics = v1.Metrics(tokens_in=1)
    event = story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1")
    event.task.metrics.MergeFrom(v1.Metrics(tokens_in=event.task.metrics.tokens_in + 1))
    revision = story.happen(event)
    story.wait(100)
    story.call(
        "LogMetrics",
        v1.LogMetricsRequest(worker_id=worker, task_id="t1", metrics=metrics),
        v1.LogMetricsResponse(metrics=event.task.metrics, revision=revision),
    )
    call = story.found_nothing(worker, v1.CLAIM_OUTCOME_ALL_DONE)
    call.attempts[0] = replace(call.attempts[0], start=asked, end=story.now + 60_000)
    return call


def _is_told_that_there_is_nothing(story: Story, call: Call) -> None:
    """He who waited is answered only now."""
    outcome = v1.CLAIM_OUTCOME_ALL_DONE
    story.answer(call, v1.ClaimNextTaskResponse(outcome=outcome, revision=story.revision))


def test_task_for_who_came_later(story: Story) -> None:
    """A task that is given to one worker while another waits for such a one, longer than he."""
    for task_id in ("t1", "t2"):
        story.complete("ann", task_id, story.claim("ann", task_id))
    wait = _waits(story, "ann")
    story.wait(100)
    story.create("t3")
    claim = story.claim_next("bob", "t3").answer.revision
    story.complete("bob", "t3", claim)
    _is_told_that_there_is_nothing(story, wait)
    assert story.broken() == {"waiting"}


def test_task_that_is_ready_beside_who_waits(story: Story) -> None:
    """A task that stays ready while a worker waits for such a one."""
    for task_id in ("t1", "t2"):
        story.complete("ann", task_id, story.claim("ann", task_id))
    wait = _waits(story, "ann")
    story.create("t3")
    for _ in range(120):
        story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t2"))
    story.complete("bob", "t3", story.claim("bob", "t3"))
    _is_told_that_there_is_nothing(story, wait)
    assert story.broken() == {"waiting"}


def test_task_for_who_had_no_room_before(story: Story) -> None:
    """A task stays ready beside one who waits but holds another, and is then given to him."""
    story.complete("ann", "t1", story.claim("ann", "t1"))
    held = story.claim("ann", "t2")
    story.create("t4")
    story.complete("bob", "t4", story.claim("bob", "t4"))
    wait = _waits(story, "ann")
    story.create("t3")
    for _ in range(49):
        story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t4"))
    story.complete("ann", "t2", held)
    given = story.claimed("ann", "t3")
    revision = story.happen(given)
    answer = v1.ClaimNextTaskResponse(
        tasks=[given.task], outcome=v1.CLAIM_OUTCOME_CLAIMED, revision=revision
    )
    story.answer(wait, answer)
    assert story.broken() == set()
