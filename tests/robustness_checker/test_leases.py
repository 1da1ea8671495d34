"""Leases: none ends before its time, and none long after it."""

from dataclasses import replace

from taskloom import v1

from tests.robustness.story import Story


def test_lease_that_ends_too_soon(story: Story) -> None:
    """A lease that ends although its worker gave a sign of life, by whatever call."""
    story.claim("ann", "t1")
    story.wait(500)
    story.found_nothing("ann", v1.CLAIM_OUTCOME_LIMIT_REACHED)
    story.wait(600)
    story.expire("t1")
    assert story.broken() == {"leases"}


def test_lease_that_ends_on_the_millisecond(story: Story) -> None:
    """A lease counts from the whole millisecond in which the server heard of its worker."""
    story.claim("ann", "t1")
    story.wait(500)
    story.found_nothing("ann", v1.CLAIM_OUTCOME_LIMIT_REACHED)
    attempts = story.calls[-1].attempts
    heard = attempts[0].start
    attempts[0] = replace(attempts[0], start=heard + 0.6)
    story.now = int(heard) + 1_000
    story.expire("t1")
    assert story.judge() == []


def test_lease_that_does_not_end(story: Story) -> None:
    """A claim that lasts on although its worker is silent; not where the server was stopped."""
    claim = story.claim("ann", "t1")
    start = story.now
    story.wait(60_000)
    end = story.now
    story.complete("ann", "t1", claim)
    assert story.broken() == {"leases"}
    story.idle.append((start, end))
    assert story.judge() == []


def test_lease_of_a_parked_task_does_not_run(story: Story) -> None:
    """A lease that ends while its task is parked."""
    story.claim("ann", "t1")
    story.park("ann", "t1")
    story.wait(60_000)
    assert story.judge() == []
    story.expire("t1")
    assert story.broken() == {"leases"}


def test_lease_that_runs_on_from_where_a_task_is_parked_no_more(story: Story) -> None:
    """A lease that does not begin anew when its task is parked no more."""
    story.claim("ann", "t1")
    story.park("ann", "t1")
    story.wait(60_000)
    story.park("ann", "t1", "working")
    story.wait(500)
    story.expire("t1")
    assert story.broken() == {"leases"}


def test_claims_end_before_the_grace(story: Story) -> None:
    """A claim that ends sooner after a stream broke than its grace; and one of a stream that
    there was not."""
    reason = "the stream of worker 'ann' broke"
    story.claim("ann", "t1")
    story.wait(700)
    story.expire("t1", reason)
    assert story.broken() == {"leases"}
    story.talk("ann", grace=0.9)
    assert story.broken() == {"leases"}
    story.talk("ann", grace=0.6)
    assert story.judge() == []


def test_advisory_claim_that_ends_too_soon(story: Story) -> None:
    """An advisory claim that ends before its lease does."""
    story.share("ann", "t1")
    story.wait(500)
    event = story.moved(
        v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED, "t1", worker="ann", reason="the lease of worker 'ann'"
    )
    del event.task.advisory_claims[:]
    story.happen(event)
    assert story.broken() == {"leases"}


def test_lock_goes_with_the_claim_that_it_is_for(story: Story) -> None:
    """A lock that was given to who waited for it, which is no sign of life, ends with his claim
    on the task; another one of his has a lease of its own."""
    story.share("ann", "t1")
    story.wait(600)
    mark = story.mark("ann", "lock:gpu", "t1")
    story.wait(410)
    reason = "the lease of worker 'ann' ran out"
    type_ = v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED
    event = story.moved(type_, "t1", worker="ann", reason=reason)
    del event.task.advisory_claims[:]
    lifted = v1.EVENT_TYPE_FILE_UNMARKED
    story.happen(event, story.event(lifted, worker="ann", reason=reason, file_mark=mark))
    assert story.judge() == []
    story.unmark(story.mark("ann", "lock:cpu", "t1"), reason)
    assert story.broken() == {"leases"}
