"""Marks and locks: one holder, marks with their claim, and none on what has ended."""

from taskloom import v1

from tests.robustness.recording import Call
from tests.robustness.story import Story

LOCK = "lock:git"


def test_lock_with_two_holders(story: Story) -> None:
    """A lock that is given to one worker while another has it; a file both may mark."""
    held = story.mark("ann", LOCK)
    story.mark("ann", "a.py")
    story.mark("bob", "a.py")
    story.unmark(held)
    story.mark("bob", LOCK)
    assert story.judge() == []
    story.mark("ann", LOCK)
    assert story.broken() == {"marks"}


def _claims_with(story: Story, *paths: str, marked: bool = True) -> Call:
    """A worker claims a task with files; the call."""
    tag = story.next_tag
    event = story.claimed("ann", "t1")
    marks = [v1.FileMark(path=path, worker_id="ann", task_id="t1", reason=tag) for path in paths]
    told = [
        story.event(v1.EVENT_TYPE_FILE_MARKED, worker="ann", reason=tag, file_mark=mark)
        for mark in marks
    ]
    ask = v1.ClaimTaskRequest(worker_id="ann", task_id="t1", files=paths, mark_reason=tag)
    revision = story.happen(event, *(told if marked else ()))
    return story.call("ClaimTask", ask, v1.ClaimTaskResponse(task=event.task, revision=revision))


def test_claim_without_its_files(story: Story) -> None:
    """A claim that was answered, and whose files are not marked."""
    _claims_with(story, "a.py", LOCK, marked=False)
    assert story.broken() == {"marks"}


def test_claim_with_its_files(story: Story) -> None:
    """A claim whose files are marked with it; and one that does not tell of others on them."""
    _claims_with(story, "a.py", LOCK)
    assert story.judge() == []


def test_claim_that_does_not_tell_of_conflicts(story: Story) -> None:
    """A claim that says nothing of the marks that others have on its files."""
    story.mark("bob", "a.py")
    _claims_with(story, "a.py")
    assert story.broken() == {"marks"}


def test_files_without_their_claim(story: Story) -> None:
    """A claim that came to nothing, and whose files are marked all the same."""
    call = _claims_with(story, "a.py")
    message = v1.WatchTasksResponse.FromString(story.messages[-1][1])
    del message.events.events[0]
    story.messages[-1] = story.revision, message.SerializeToString()
    call.attempts[0] = story.refused("ClaimTask", call.ask, "DEADLINE_EXCEEDED", "").attempts[0]
    story.calls.pop()
    call.__dict__.pop("answers", None)
    assert story.broken() == {"marks"}


def test_marks_that_outlive_their_task(story: Story) -> None:
    """A mark for a task that stays when the task has ended, or is given back."""
    claim = story.claim("ann", "t1")
    kept = story.mark("ann", "a.py", "t1")
    story.complete("ann", "t1", claim)
    assert story.broken() == {"marks"}
    message = v1.WatchTasksResponse.FromString(story.messages[-1][1])
    gone = story.event(v1.EVENT_TYPE_FILE_UNMARKED, worker="ann", file_mark=kept)
    message.events.events.append(gone)
    story.messages[-1] = story.revision, message.SerializeToString()
    assert story.judge() == []


def test_marks_of_who_works_on(story: Story) -> None:
    """A mark of one who works on a task by an advisory claim stays when its holder lets go."""
    story.share("bob", "t1")
    story.mark("bob", "a.py", "t1")
    story.claim("ann", "t1")
    story.wait(1_000)
    story.expire("t1")
    assert story.judge() == []


def test_lock_that_goes_too_soon(story: Story) -> None:
    """A lock that ends for its worker's silence although the worker was heard of."""
    held = story.mark("ann", LOCK)
    story.wait(500)
    story.found_nothing("ann", v1.CLAIM_OUTCOME_COOLING_DOWN)
    story.wait(1_000)
    story.unmark(held, "the lease of worker 'ann' ran out")
    assert story.judge() == []
    held = story.mark("ann", LOCK)
    story.wait(500)
    story.found_nothing("ann", v1.CLAIM_OUTCOME_COOLING_DOWN)
    story.wait(600)
    story.unmark(held, "the lease of worker 'ann' ran out")
    assert story.broken() == {"leases"}


def test_task_that_is_given_while_its_locks_are_held(story: Story) -> None:
    """A worker that is given a task although another has a lock that it asked for."""
    story.mark("bob", LOCK)
    call = story.claim_next("ann", "t1")
    call.request = v1.ClaimNextTaskRequest(worker_id="ann", files=[LOCK]).SerializeToString()
    assert "best first" in story.broken()


def test_locks_that_are_told_to_be_held(story: Story) -> None:
    """A worker that is told that its locks are held: if they are, and by whom."""
    held = story.mark("bob", LOCK)
    call = story.found_nothing("ann", v1.CLAIM_OUTCOME_FILES_LOCKED)
    call.request = v1.ClaimNextTaskRequest(worker_id="ann", files=[LOCK]).SerializeToString()
    answer = call.answer
    answer.conflicts.append(held)
    story.answer(call, answer)
    assert story.judge() == []
    call.request = v1.ClaimNextTaskRequest(worker_id="ann").SerializeToString()
    call.__dict__.pop("ask")
    assert story.broken() == {"best first"}
