"""Claims: one holder, only whom the rules admit, and the best task."""

from taskloom import v1

from tests.robustness.story import Story


def test_true_history_is_accepted(story: Story) -> None:
    """Claims, completions, a lease that ran out, late work and watches, all as they ought to be."""
    claim = story.claim("ann", "t1")
    story.complete("ann", "t1", claim)
    story.claim_next("bob", "t2")
    late = story.revision
    story.wait(1_000)
    story.expire("t2")
    story.complete("bob", "t2", late)
    story.found_nothing("ann", v1.CLAIM_OUTCOME_ALL_DONE)
    story.watch(1, story.revision)
    story.watch(3, 5)
    assert story.judge() == []


def test_second_holder(story: Story) -> None:
    """A task that is given to one worker while another holds it."""
    story.claim("ann", "t1")
    story.happen(story.claimed("bob", "t1"))
    assert "exclusive" in story.broken()


def test_claim_of_blocked_task(story: Story) -> None:
    """A task that is given away although another blocks it."""
    edge = v1.Dependency(from_task_id="t2", to_task_id="t1", type=v1.DEPENDENCY_TYPE_BLOCKS)
    story.happen(
        story.event(v1.EVENT_TYPE_DEPENDENCY_ADDED, dependency=edge),
        story.moved(v1.EVENT_TYPE_TASK_BLOCKED, "t1", ready=False),
    )
    assert story.judge() == []
    story.claim("ann", "t1")
    assert story.broken() == {"admission"}


def test_claim_while_paused(story: Story) -> None:
    """A task that is given away while claims are paused."""
    story.happen(story.event(v1.EVENT_TYPE_PAUSED))
    story.claim("ann", "t1")
    assert story.broken() == {"admission"}


def test_claim_beyond_the_limit(story: Story) -> None:
    """A worker that is given more tasks than it may hold."""
    story.claim("ann", "t1")
    story.claim("ann", "t2")
    assert story.broken() == {"admission"}


def test_claim_below_a_pause(story: Story) -> None:
    """A task that is given away, and shown as ready, although its subtree is paused."""
    story.happen(v1.Event(type=v1.EVENT_TYPE_PAUSED, task_id="t1"))
    story.claim("ann", "t1")
    assert story.broken() == {"admission", "readiness"}


def test_not_the_best(story: Story) -> None:
    """A worker that is given another task than the first of the best."""
    story.claim_next("ann", "t2")
    assert story.broken() == {"best first"}


def test_left_waiting_beside_a_ready_task(story: Story) -> None:
    """A worker that is told that nothing is ready when something is."""
    story.found_nothing("ann", v1.CLAIM_OUTCOME_NONE_READY)
    assert story.broken() == {"best first"}


def test_task_on_which_somebody_works_is_given_before_others(story: Story) -> None:
    """A worker that is given a task with an advisory claim on it, where there is one without."""
    story.share("bob", "t1")
    assert story.judge() == []
    story.claim_next("ann", "t1")
    assert story.broken() == {"best first"}


def test_not_the_hottest(story: Story) -> None:
    """A worker that asks for the hottest task, and is given another."""
    story.happen(story.moved(v1.EVENT_TYPE_TASK_SIGNALED, "t2", temperature=0.9))
    call = story.claim_next("ann", "t1")
    call.request = v1.ClaimNextTaskRequest(
        worker_id="ann", order_by=v1.ORDER_BY_TEMPERATURE
    ).SerializeToString()
    assert story.broken() == {"best first"}
