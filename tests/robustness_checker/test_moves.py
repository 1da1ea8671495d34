"""Moves: what workflows allow, attempts, and what is shown as ready."""

import pytest
from taskloom import v1

from tests.robustness.story import Story


@pytest.mark.parametrize(
    ("begun", "status"),
    [(False, "completed"), (False, "failed"), (True, "cancelled"), (True, "assigned")],
)
def test_forbidden_transition(story: Story, begun: bool, status: str) -> None:
    """A task that moves where its workflow does not let it."""
    if begun:
        story.claim("ann", "t1")
    moved = story.moved(
        v1.EVENT_TYPE_TASK_MOVED, "t1", status=status, claim_revision=0, ready=False
    )
    story.happen(moved)
    assert story.broken() == {"transitions"}


def test_change_of_status_by_an_event_that_says_nothing_of_it(story: Story) -> None:
    """A task whose status changes with an event of another kind."""
    story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1", status="cancelled", ready=False))
    assert story.broken() == {"transitions"}


def test_attempt_that_is_not_counted(story: Story) -> None:
    """A lease that ran out without an attempt counted."""
    story.claim("ann", "t1")
    story.wait(1_000)
    story.expire("t1")
    assert story.judge() == []
    message = v1.WatchTasksResponse.FromString(story.messages[-1][1])
    message.events.events[0].task.attempts = 0
    story.messages[-1] = story.revision, message.SerializeToString()
    assert story.broken() == {"attempts"}


def test_attempt_that_nobody_began(story: Story) -> None:
    """A lease that ran out on an assigned task, and an attempt counted."""
    assigned = story.claimed("ann", "t1", status="assigned")
    assigned.type = v1.EVENT_TYPE_TASK_MOVED
    assigned.worker_id = ""
    story.happen(assigned)
    story.wait(1_000)
    story.expire("t1")
    assert story.judge() == []
    message = v1.WatchTasksResponse.FromString(story.messages[-1][1])
    message.events.events[0].task.attempts = 1
    story.messages[-1] = story.revision, message.SerializeToString()
    assert story.broken() == {"attempts"}


def test_task_that_is_ready_against_the_graph(story: Story) -> None:
    """A dependency that leaves the task it blocks ready."""
    edge = v1.Dependency(from_task_id="t2", to_task_id="t1", type=v1.DEPENDENCY_TYPE_FOLLOWS)
    story.happen(story.event(v1.EVENT_TYPE_DEPENDENCY_ADDED, dependency=edge))
    assert story.broken() == {"readiness"}
