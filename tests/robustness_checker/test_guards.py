"""Guards: roles, and gates on states and phases."""

import pytest
from taskloom import v1

from tests.robustness.story import Story


@pytest.mark.parametrize(("tags", "blamed"), [((), True), (("lead",), False)])
def test_assignment_by_a_worker(story: Story, tags: tuple[str, ...], blamed: bool) -> None:
    """A task that a worker hands out although its role does not let it."""
    story.connect("max", tags=tags, workflow="hierarchical")
    story.create("h1", workflow="hierarchical")
    tag = story.next_tag
    changes = {
        "status": "assigned",
        "worker_id": "ann",
        "claim_revision": story.revision + 1,
        "ready": False,
    }
    event = story.moved(v1.EVENT_TYPE_TASK_MOVED, "h1", worker="max", reason=tag, **changes)
    story.call(
        "UpdateTask",
        v1.UpdateTaskRequest(task_id="h1", worker_id="max", assignee="ann", reason=tag),
        v1.UpdateTaskResponse(task=event.task, revision=story.happen(event)),
    )
    assert story.broken() == ({"roles"} if blamed else set())


@pytest.mark.parametrize(("tags", "blamed"), [((), True), (("coordinator",), False)])
def test_subtask_by_a_worker(story: Story, tags: tuple[str, ...], blamed: bool) -> None:
    """A subtask that a worker makes although its role does not let it."""
    story.connect("max", tags=tags)
    story.create("p1", workflow="push")
    call = story.create("s", parent_id="p1")
    story.happen(story.moved(v1.EVENT_TYPE_TASK_BLOCKED, "p1", ready=False))
    ask = v1.CreateTaskRequest(id="s", title=call.tag, parent_id="p1", worker_id="max")
    call.request = ask.SerializeToString()
    # That its parent is held back is told late in this story.
    assert story.broken() - {"readiness"} == ({"roles"} if blamed else set())


def _in_review(story: Story) -> int:
    """A task of a sprint is worked and shown; its claim."""
    story.create("s1", workflow="sprint")
    claim = story.claim("ann", "s1")
    story.park("ann", "s1", "review")
    return claim


def test_gate_that_is_passed_without_its_attachment(story: Story) -> None:
    """A task that leaves a state although what its gate asks is missing."""
    story.complete("ann", "s1", _in_review(story))
    assert story.broken() == {"gates"}


def test_gate_that_is_satisfied(story: Story) -> None:
    """A task that leaves a state with what its gate asks."""
    claim = _in_review(story)
    story.attach("s1", "review")
    story.complete("ann", "s1", claim)
    assert story.judge() == []


@pytest.mark.parametrize(("told", "asked"), [(True, True), (False, True), (True, False)])
def test_force(story: Story, told: bool, asked: bool) -> None:
    """A task goes past a gate by force: if somebody said so, and if it is told."""
    story.connect("ann", tags=("planner",))  # who may force
    claim = _in_review(story)
    call = story.complete("ann", "s1", claim)
    ask = v1.CompleteTaskRequest(
        worker_id="ann", task_id="s1", claim_revision=claim, reason=call.tag, force=asked
    )
    call.request = ask.SerializeToString()
    if told:
        message = v1.WatchTasksResponse.FromString(story.messages[-1][1])
        [ended] = message.events.events
        ended.reason += "; forced past gate 'review'"
        forced = message.events.events.add(
            type=v1.EVENT_TYPE_GATE_FORCED, task_id="s1", time=ended.time, worker_id="ann"
        )
        forced.task.CopyFrom(ended.task)
        story.messages[-1] = story.revision, message.SerializeToString()
    assert story.broken() == (set() if told and asked else {"gates"})


def test_gate_of_an_overlay(story: Story) -> None:
    """A gate that an overlay lays before its worker, and before nobody else."""
    story.connect("max", overlays=["careful"])
    story.complete("ann", "t1", story.claim("ann", "t1"))
    assert story.judge() == []
    story.complete("max", "t2", story.claim("max", "t2"))
    assert story.broken() == {"gates"}


def test_gate_of_a_phase(story: Story) -> None:
    """A task that leaves a phase although what its gate asks is missing, by whatever verb."""
    story.create("s1", workflow="sprint", phase="retrospect")
    story.update("s1", phase="plan")
    assert story.broken() == {"gates"}
