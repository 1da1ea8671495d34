"""Changes: several at once, dependencies in the place of others, thoughts, overlays."""

from taskloom import v1

from tests.robustness.recording import Call
from tests.robustness.story import Story


def _update_both(story: Story, *, at_once: bool = True, both: bool = True) -> Call:
    """Somebody changes both tasks in one call."""
    tag = story.next_tag
    events = [
        story.moved(v1.EVENT_TYPE_TASK_UPDATED, task_id, reason=tag, title=tag)
        for task_id in ("t1", "t2")
    ]
    if at_once:
        revision = story.happen(*events[: 1 + both])
    else:
        revision = [story.happen(event) for event in events][-1]
    updates = [v1.UpdateTaskRequest(task_id=id_, title=tag, reason=tag) for id_ in ("t1", "t2")]
    return story.call(
        "UpdateTasks",
        v1.UpdateTasksRequest(updates=updates),
        v1.UpdateTasksResponse(tasks=[event.task for event in events], revision=revision),
    )


def test_changes_of_one_call(story: Story) -> None:
    """Two tasks are changed in one revision."""
    _update_both(story)
    assert story.judge() == []


def test_half_of_the_changes(story: Story) -> None:
    """A call of which one change was made, and the other was not."""
    _update_both(story, both=False)
    assert story.broken() == {"acknowledged"}


def test_changes_one_after_the_other(story: Story) -> None:
    """A call whose changes could be seen apart."""
    _update_both(story, at_once=False)
    assert "once" in story.broken()


def test_refused_changes_of_which_some_are_made(story: Story) -> None:
    """A call that was refused for one of its changes, and made another."""
    updates = [v1.UpdateTaskRequest(task_id=id_, worker_id="ann") for id_ in ("t1", "never")]
    ask = v1.UpdateTasksRequest(updates=updates)
    call = Call(len(story.calls) + 1, "ann", "UpdateTasks", ask.SerializeToString())
    refused = v1.UpdateTaskRequest(worker_id="ann")
    call.attempts = story.refused("UpdateTask", refused, "NOT_FOUND", "TASK_NOT_FOUND").attempts
    story.calls[-1] = call
    story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1", reason=call.tag))
    assert story.broken() == {"once"}


def test_stale_claim_among_several_changes(story: Story) -> None:
    """A change by a claim that ended, among others that are in order."""
    old = story.claim("ann", "t1")
    story.wait(1_000)
    story.expire("t1")
    call = _update_both(story)
    ask = call.ask
    ask.updates[0].worker_id, ask.updates[0].claim_revision = "ann", old
    call.request = ask.SerializeToString()
    assert story.broken() == {"fencing"}


def test_dependencies_in_the_place_of_others(story: Story) -> None:
    """A dependency that was to come in another's place, and did not."""
    edge = v1.Dependency(from_task_id="t2", to_task_id="t1", type=v1.DEPENDENCY_TYPE_SEE_ALSO)
    added = story.event(v1.EVENT_TYPE_DEPENDENCY_ADDED, dependency=edge)
    ask = v1.RelinkTasksRequest(add=[edge])
    answer = v1.RelinkTasksResponse(added=[edge], revision=story.happen(added))
    call = story.call("RelinkTasks", ask, answer)
    assert story.judge() == []
    other = v1.Dependency(from_task_id="t1", to_task_id="t2", type=v1.DEPENDENCY_TYPE_SEE_ALSO)
    call.request = v1.RelinkTasksRequest(add=[edge, other]).SerializeToString()
    call.__dict__.pop("ask")
    assert story.broken() == {"acknowledged"}


def test_thought_is_a_sign_of_life(story: Story) -> None:
    """A lease that ends although its worker said what it thinks."""
    story.claim("ann", "t1")
    story.wait(700)
    call = story.think("ann", "hm", "t1")
    story.wait(1_000)
    story.expire("t1")
    assert story.judge() == []
    story.claim("bob", "t2")
    story.wait(700)
    story.think("bob", "hm", "t2")
    story.wait(600)
    story.expire("t2")
    assert call.answer
    assert story.broken() == {"leases"}


def test_repeated_thought_is_a_sign_of_life(story: Story) -> None:
    """A lease that ends although its worker thought again what it thought before."""
    story.claim("ann", "t1")
    said = story.think("ann", "hm", "t1")
    story.wait(700)
    again = story.call("SetThought", said.ask, said.answer)
    assert again.answer
    story.wait(600)
    story.expire("t1")
    assert story.broken() == {"leases"}


def test_thought_that_nobody_sees(story: Story) -> None:
    """A thought that was acknowledged, and stands nowhere."""
    story.claim("ann", "t1")
    call = story.think("ann", "hm", "t1")
    ask = call.ask
    ask.thought = "ah"
    call.request = ask.SerializeToString()
    assert story.broken() == {"acknowledged"}


def test_thought_about_the_task_of_another(story: Story) -> None:
    """A thought on a task that the worker does not hold."""
    story.claim("ann", "t1")
    story.think("bob", "hm", "t1")
    assert "fencing" in story.broken()


def test_overlay_that_does_not_lie(story: Story) -> None:
    """An overlay that was laid upon a worker's workflow, and is not there."""
    image = v1.Worker(id="ann", overlays=["careful"], max_claims=1)
    event = story.event(v1.EVENT_TYPE_WORKER_UPDATED, worker="ann")
    event.worker.CopyFrom(image)
    ask = v1.AddOverlayRequest(worker_id="ann", overlay="careful")
    answer = v1.AddOverlayResponse(worker=image, revision=story.happen(event))
    call = story.call("AddOverlay", ask, answer)
    assert story.judge() == []
    call.request = v1.AddOverlayRequest(worker_id="ann", overlay="tdd").SerializeToString()
    call.__dict__.pop("ask")
    assert story.broken() == {"acknowledged"}
