"""Fencing: a stale claim does nothing, and one that holds is not refused."""

from taskloom import v1

from tests.robustness.story import Story


def test_stale_claim_that_does_something(story: Story) -> None:
    """A worker that completes a task by a claim that ended, after another took it."""
    old = story.claim("ann", "t1")
    story.wait(1_000)
    story.expire("t1")
    story.claim("bob", "t1")
    story.complete("ann", "t1", old)
    assert story.broken() == {"fencing"}


def test_stale_claim_that_logs(story: Story) -> None:
    """A worker that reports metrics by a claim that ended."""
    old = story.claim("ann", "t1")
    story.wait(1_000)
    story.expire("t1")
    metrics = v1.Metrics(tokens_in=5)
    event = story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1", worker="ann")
    event.task.metrics.CopyFrom(metrics)
    revision = story.happen(event)
    story.call(
        "LogMetrics",
        v1.LogMetricsRequest(worker_id="ann", task_id="t1", claim_revision=old, metrics=metrics),
        v1.LogMetricsResponse(metrics=metrics, revision=revision),
    )
    assert story.broken() == {"fencing"}


def test_claim_that_is_refused_though_it_holds(story: Story) -> None:
    """A holder that is told that its claim is lost."""
    claim = story.claim("ann", "t1")
    story.wait(200)
    ask = v1.CompleteTaskRequest(worker_id="ann", task_id="t1", claim_revision=claim)
    story.refused("CompleteTask", ask, "ABORTED", "CLAIM_LOST")
    assert story.broken() == {"fencing"}


def test_thought_that_changed_nothing(story: Story) -> None:
    """A thought that was there already is judged by the claim that was made just before."""
    claim = story.claim("ann", "t2")
    story.think("ann", "hm", "t2")
    story.complete("ann", "t2", claim)
    claim = story.claim("ann", "t1")
    for shown, is_stale in ((claim, False), (claim - 1, True)):
        ask = v1.SetThoughtRequest(worker_id="ann", task_id="t1", claim_revision=shown)
        story.call("SetThought", ask, v1.SetThoughtResponse(revision=claim))
        assert ("fencing" in story.broken()) == is_stale
