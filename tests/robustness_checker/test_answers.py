"""Answers: what was acknowledged stands, once, and what was read was so."""

from taskloom import v1

from tests.robustness.recording import Attempt
from tests.robustness.story import Story


def test_lost_write(story: Story) -> None:
    """A completion that was answered, and that history does not know of."""
    story.complete("ann", "t1", story.claim("ann", "t1"))
    story.messages.pop()
    assert story.broken() == {"acknowledged"}


def test_write_that_became_another(story: Story) -> None:
    """An answer that shows a task other than history does."""
    call = story.create("t3")
    answer = call.answer
    answer.task.priority = 9
    story.answer(call, answer)
    assert story.broken() == {"acknowledged"}


def test_two_answers_under_one_request_id(story: Story) -> None:
    """A repeated call that is answered otherwise than at first."""
    call = story.create("t3")
    ask = v1.CreateTaskRequest(id="t3", title=call.tag, request_id="r")
    call.request = ask.SerializeToString()
    first = call.attempts[0].answer
    story.repeat(call, first)
    assert story.judge() == []
    story.repeat(call, first + b"\x78\x01")
    assert story.broken() == {"acknowledged"}


def test_call_that_took_effect_twice(story: Story) -> None:
    """A repeated call that was done again."""
    call = story.create("t3")
    story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t3", reason=call.tag))
    assert story.broken() == {"once"}


def test_refused_call_that_took_effect(story: Story) -> None:
    """A call that was refused, and done."""
    call = story.refused(
        "UpdateTask", v1.UpdateTaskRequest(task_id="t1"), "ABORTED", "ETAG_MISMATCH"
    )
    story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1", reason=call.tag))
    assert story.broken() == {"once"}


def test_claim_that_nobody_asked_for(story: Story) -> None:
    """A task that is given to a worker who did not call."""
    story.happen(story.claimed("ann", "t1"))
    assert story.broken() == {"once"}


def test_claim_of_which_the_answer_was_lost(story: Story) -> None:
    """A call that found nothing, was made again and then cut may have been given a task."""
    ask = v1.ClaimNextTaskRequest(worker_id="ann", request_id="r")
    call = story.call("ClaimNextTask", ask, v1.ClaimNextTaskResponse(revision=story.revision))
    story.happen(story.claimed("ann", "t1"))
    assert story.broken() == {"once"}
    first = call.attempts[0]
    call.attempts.append(Attempt(first.start, first.end, "UNAVAILABLE", "", "", b""))
    assert story.judge() == []


def test_effect_of_a_claim_of_which_the_answer_was_lost(story: Story) -> None:
    """The marks of such a claim are made at another revision than the answer of before."""
    tag = story.next_tag
    ask = v1.ClaimNextTaskRequest(worker_id="ann", files=["a"], mark_reason=tag, request_id="r")
    call = story.call("ClaimNextTask", ask, v1.ClaimNextTaskResponse(revision=story.revision))
    first = call.attempts[0]
    call.attempts.append(Attempt(first.start, first.end, "UNAVAILABLE", "", "", b""))
    claimed = story.claimed("ann", "t1")
    mark = v1.FileMark(path="a", worker_id="ann", task_id="t1", reason=tag)
    marked = story.event(v1.EVENT_TYPE_FILE_MARKED, worker="ann", reason=tag, file_mark=mark)
    story.happen(claimed, marked)
    assert story.judge() == []
    call.attempts.pop()
    assert "once" in story.broken()


def test_metrics_that_count_twice(story: Story) -> None:
    """A sum that is more than what was reported."""
    event = story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1")
    event.task.metrics.tokens_in = 10
    revision = story.happen(event)
    story.call(
        "LogMetrics",
        v1.LogMetricsRequest(task_id="t1", metrics=v1.Metrics(tokens_in=5)),
        v1.LogMetricsResponse(metrics=event.task.metrics, revision=revision),
    )
    assert story.broken() == {"acknowledged"}


def test_read_of_another_moment(story: Story) -> None:
    """A read that shows a task as it was not at the revision that it tells."""
    image = v1.Task()
    image.CopyFrom(story.images["t1"])
    image.status = "working"
    story.call(
        "GetTask",
        v1.GetTaskRequest(task_id="t1"),
        v1.GetTaskResponse(task=image, revision=story.revision),
        agent="ann",
    )
    assert story.broken() == {"reads"}


def test_marks_of_another_moment(story: Story) -> None:
    """A list of marks that leaves one out, or has one that is gone."""
    one = story.mark("ann", "a.py")
    ask, answer = v1.ListFileMarksRequest(), v1.ListFileMarksResponse(revision=story.revision)
    answer.marks.append(one)
    call = story.call("ListFileMarks", ask, answer)
    assert story.judge() == []
    story.answer(call, v1.ListFileMarksResponse(revision=story.revision))
    assert story.broken() == {"reads"}
    story.answer(call, answer)
    story.unmark(one)
    answer.revision = story.revision
    story.answer(call, answer)
    assert story.broken() == {"reads"}


def test_attachments_of_another_task(story: Story) -> None:
    """A list of attachments that are not those of the task, under the id that it has."""
    one = story.attach("t1", "note").answer.attachment
    story.rename("t1", "t9")
    ask = v1.ListAttachmentsRequest(task_id="t9")
    answer = v1.ListAttachmentsResponse(revision=story.revision)
    call = story.call("ListAttachments", ask, answer)
    assert story.broken() == {"reads"}
    answer.attachments.append(one)
    answer.attachments[0].task_id = "t9"
    story.answer(call, answer)
    assert story.judge() == []


def test_gates_told_wrongly(story: Story) -> None:
    """A worker that is told that no gate keeps a task, where one does."""
    story.create("s1", workflow="sprint")
    story.claim("ann", "s1")
    story.park("ann", "s1", "review")
    ask = v1.CheckGatesRequest(task_id="s1", worker_id="ann")
    answer = v1.CheckGatesResponse(passes=False, revision=story.revision)
    call = story.call("CheckGates", ask, answer)
    assert story.judge() == []
    answer.passes = True
    story.answer(call, answer)
    assert story.broken() == {"reads"}


def test_costs_told_wrongly(story: Story) -> None:
    """A sum of what a task and all below it cost that is another."""
    story.images["t1"].metrics.cost_usd = 2.0
    story.update("t1")
    ask = v1.GetMetricsRequest(task_id="t1", recursive=True)
    answer = v1.GetMetricsResponse(revision=story.revision, attempts=0)
    call = story.call("GetMetrics", ask, answer)
    assert story.broken() == {"reads"}
    answer.metrics.cost_usd = 2.0
    story.answer(call, answer)
    assert story.judge() == []
