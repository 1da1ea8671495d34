"""Ids: tasks that are renamed, deleted, brought back and removed for good."""

from taskloom import v1

from tests.robustness.story import Story


def test_renamed_task_is_the_same_task(story: Story) -> None:
    """A claim, marks and an attachment go on under the new id; the old one is free."""
    story.attach("t1", "note")
    claim = story.claim("ann", "t1")
    kept = story.mark("ann", "a.py", "t1")
    story.rename("t1", "t9")
    story.create("t1")
    kept.task_id = "t9"
    story.unmark(kept)
    story.complete("ann", "t9", claim)
    story.claim_next("bob", "t2")
    assert story.judge() == []


def test_event_under_an_old_id(story: Story) -> None:
    """A task that is told of under the id that it had."""
    story.rename("t1", "t9")
    gone = story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t9")
    gone.task_id = "t1"
    story.happen(gone)
    assert "ids" in story.broken()


def test_answer_under_an_old_id(story: Story) -> None:
    """A read that shows a task under the id that it had."""
    old = v1.Task()
    old.CopyFrom(story.images["t1"])
    story.rename("t1", "t9")
    answer = v1.GetTaskResponse(task=old, revision=story.revision)
    story.call("GetTask", v1.GetTaskRequest(task_id="t1"), answer)
    assert story.broken() == {"ids", "reads"}


def test_two_tasks_of_one_id(story: Story) -> None:
    """A task that is given the id of another."""
    story.happen(*story.renamed("t1", "t2"))
    assert "ids" in story.broken()


def test_rename_without_what_follows(story: Story) -> None:
    """A task that has another id, and is not told of under it."""
    story.rename("t1", "t9")
    message = v1.WatchTasksResponse.FromString(story.messages[-1][1])
    del message.events.events[1]
    story.messages[-1] = story.revision, message.SerializeToString()
    assert "acknowledged" in story.broken()


def test_deleted_child_of_a_renamed_task(story: Story) -> None:
    """What is deleted below a renamed task goes with it, untold, and can be removed for good."""
    created = v1.EVENT_TYPE_TASK_CREATED
    story.happen(
        story.moved(created, "p", status="pending", max_cost_usd=1.0),
        story.moved(created, "c", status="pending", ready=True, parent_id="p"),
    )
    story.delete("c")
    story.images["p"].ready = True
    told = v1.WatchTasksResponse.FromString(story.messages[-1][1])
    told.events.events.append(story.moved(v1.EVENT_TYPE_TASK_READY, "p"))
    told.events.events[1].task.revision = story.revision
    story.images["p"].revision = story.revision
    story.messages[-1] = story.revision, told.SerializeToString()
    story.rename("p", "q")
    story.obliterate("c")
    story.update("q")
    assert story.judge() == []


def test_deleted_child_that_is_unlinked(story: Story) -> None:
    """What is deleted and then taken out of its parent has none any more."""
    edge = v1.Dependency(from_task_id="p", to_task_id="c", type=v1.DEPENDENCY_TYPE_CONTAINS)
    created = v1.EVENT_TYPE_TASK_CREATED
    story.happen(
        story.moved(created, "p", status="pending"),
        story.moved(created, "c", status="pending", ready=True, parent_id="p"),
        story.event(v1.EVENT_TYPE_DEPENDENCY_ADDED, dependency=edge),
    )
    tag = story.next_tag
    gone = [
        story.moved(v1.EVENT_TYPE_TASK_DELETED, id_, reason=tag, ready=False) for id_ in ("c", "p")
    ]
    for event in gone:
        event.task.delete_time.FromMilliseconds(story.now)
        story.images[event.task.id].delete_time.FromMilliseconds(story.now)
    deleted = v1.DeleteTaskResponse(deleted_task_ids=["c", "p"], revision=story.happen(*gone))
    story.call("DeleteTask", v1.DeleteTaskRequest(task_id="p", reason=tag, cascade=True), deleted)
    removed = story.event(v1.EVENT_TYPE_DEPENDENCY_REMOVED, dependency=edge)
    story.happen(removed)
    shown = story.images["c"]
    stale = v1.GetTaskResponse(revision=story.revision)
    stale.task.CopyFrom(shown)
    shown.parent_id, shown.revision = "", story.revision
    shown.update_time.CopyFrom(removed.time)
    answer = v1.GetTaskResponse(task=shown, revision=story.revision)
    call = story.call("GetTask", v1.GetTaskRequest(task_id="c"), answer)
    assert story.judge() == []
    story.answer(call, stale)
    assert "reads" in story.broken()


def test_stale_claim_under_a_new_id(story: Story) -> None:
    """A claim that ended is stale under whatever id."""
    old = story.claim("ann", "t1")
    story.wait(1_000)
    story.expire("t1")
    story.claim("bob", "t1")
    story.rename("t1", "t9")
    story.complete("ann", "t9", old)
    assert story.broken() == {"fencing"}


def test_metrics_go_with_a_task(story: Story) -> None:
    """What was logged under an old id counts for the task, and not for who has the id now."""
    for tokens in (5, 12):
        metrics = v1.Metrics(tokens_in=tokens)
        story.images["t1"].metrics.CopyFrom(metrics)
        event = story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1")
        asked = v1.Metrics(tokens_in=5 if tokens == 5 else 7)
        story.call(
            "LogMetrics",
            v1.LogMetricsRequest(task_id="t1", metrics=asked),
            v1.LogMetricsResponse(metrics=metrics, revision=story.happen(event)),
        )
        if tokens == 5:
            assert story.judge() == []
    story.rename("t1", "t9")
    story.create("t1")
    assert story.judge() == []
    story.images["t9"].metrics.tokens_in = 5
    story.update("t9")
    assert story.broken() == {"acknowledged"}


def test_restored_task(story: Story) -> None:
    """A deleted task is back as it was, and not in another state."""
    story.delete("t1")
    story.restore("t1")
    assert story.judge() == []
    story.delete("t1")
    story.restore("t1", status="completed", ready=False)
    assert story.broken() == {"transitions"}


def test_restored_task_that_is_not_there(story: Story) -> None:
    """A task that is deleted although somebody was told that it is back."""
    story.delete("t1")
    story.restore("t1")
    story.messages[-1] = story.revision, story.messages[-2][1]
    assert "acknowledged" in story.broken()


def test_task_that_was_removed_for_good(story: Story) -> None:
    """A task of which one hears after it is gone; its id may be another's."""
    story.delete("t1")
    story.obliterate("t1")
    assert story.judge() == []
    story.create("t1")
    assert story.judge() == []
    story.delete("t2")
    story.obliterate("t2")
    gone = v1.Dependency(from_task_id="t1", to_task_id="t2", type=v1.DEPENDENCY_TYPE_SEE_ALSO)
    story.happen(story.event(v1.EVENT_TYPE_DEPENDENCY_REMOVED, dependency=gone))
    assert story.broken() == {"ids"}


def test_task_that_goes_without_an_answer_that_says_so(story: Story) -> None:
    """A removal that took more with it than it told."""
    story.delete("t1")
    story.obliterate("t1")
    answer = story.calls[-1].answer
    answer.task_ids.append("t2")
    story.answer(story.calls[-1], answer)
    assert story.broken() == {"acknowledged"}


def test_trial_that_leaves_something(story: Story) -> None:
    """A task of a snapshot that was imported on trial only."""
    call = story.create("dry-1")
    assert call.answer
    assert "ids" in story.broken()
