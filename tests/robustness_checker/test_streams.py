"""Work streams: what they tell is true, and what they do not tell of is undone."""

from typing import Any

import pytest
from taskloom import v1

from tests.robustness.story import Story


def _assigned(story: Story, *task_ids: str) -> v1.WorkResponse:
    tasks = [story.images[task_id] for task_id in task_ids]
    return v1.WorkResponse(revision=story.revision, assigned=v1.WorkAssigned(tasks=tasks))


def test_assignment_by_a_stream(story: Story) -> None:
    """A claim that a Work stream tells of is explained by it; one that it does not tell of is not
    if the stream ended as agreed, unless it is given back or was made before the stream began."""
    started = v1.WorkResponse(revision=story.revision, started=v1.WorkStarted())
    talk = story.talk("ann", started)
    story.happen(story.claimed("ann", "t1"))
    talk.told.append((story.now, _assigned(story, "t1").SerializeToString()))
    assert story.judge() == []
    del talk.told[1:]
    talk.__dict__.pop("messages")
    talk.ended_well = True
    story.happen(
        story.moved(
            v1.EVENT_TYPE_TASK_RELEASED,
            "t1",
            status="pending",
            worker_id="",
            claim_revision=0,
            ready=True,
        )
    )
    assert story.judge() == []
    story.happen(story.claimed("ann", "t1"))
    story.wait(1_000)
    story.expire("t1")
    assert story.broken() == {"streams"}
    talk.told.clear()  # it may not have begun when the task was given: to one before it
    talk.__dict__.pop("messages")
    assert story.judge() == []


@pytest.mark.parametrize(("after", "blamed"), [(50, False), (1_500, True)])
def test_untold_claim_that_somebody_else_ends(story: Story, after: int, blamed: bool) -> None:
    """A claim that was not told of, and not undone, but ended by somebody else: at once or late."""
    talk = story.talk("ann", v1.WorkResponse(revision=story.revision, started=v1.WorkStarted()))
    talk.end = story.now + 2_000
    talk.ended_well = True
    story.happen(story.claimed("ann", "t1"))
    story.wait(after)
    tag = story.next_tag
    free: dict[str, Any] = {
        "status": "pending",
        "worker_id": "",
        "claim_revision": 0,
        "ready": True,
    }
    event = story.moved(v1.EVENT_TYPE_TASK_RELEASED, "t1", reason=tag, **free)
    revision = story.happen(event)
    story.call(
        "UpdateTask",
        v1.UpdateTaskRequest(task_id="t1", assignee="", reason=tag),
        v1.UpdateTaskResponse(task=event.task, revision=revision),
    )
    assert ("streams" in story.broken()) == blamed


def test_stream_that_tells_of_other_claims(story: Story) -> None:
    """A Work stream that does not begin with what its worker holds."""
    story.claim("ann", "t1")
    started = v1.WorkStarted(held_tasks=[story.images["t1"]])
    talk = story.talk("ann", v1.WorkResponse(revision=story.revision, started=started))
    assert story.judge() == []
    del started.held_tasks[:]
    told = v1.WorkResponse(revision=story.revision, started=started).SerializeToString()
    talk.told = [(story.now, told)]
    talk.__dict__.pop("messages")
    assert story.broken() == {"streams"}
