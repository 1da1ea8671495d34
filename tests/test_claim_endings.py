"""How claims end: given back, completed, failed; and assignments, which begin as claims do.

Claims that end by themselves are in test_leases.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import TestClock

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


async def create(client: Client, id: str, **fields: Any) -> v1.Task:
    """A new task."""
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def connect(client: Client, id: str, **fields: Any) -> None:
    """A new worker."""
    await client.workers.Connect(v1.ConnectRequest(worker_id=id, **fields))


async def claim(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    """A task that is claimed by name."""
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.ClaimTask(request)).task


async def claim_next(client: Client, worker: str, **fields: Any) -> v1.ClaimNextTaskResponse:
    """What ClaimNextTask answers."""
    return await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id=worker, **fields))


async def complete(client: Client, worker: str, task: str) -> v1.CompleteTaskResponse:
    """What CompleteTask answers."""
    return await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id=worker, task_id=task))


async def fail(client: Client, worker: str, task: str, **fields: Any) -> v1.FailTaskResponse:
    """What FailTask answers."""
    request = v1.FailTaskRequest(worker_id=worker, task_id=task, **fields)
    return await client.claims.FailTask(request)


async def release(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    """A task that is given back."""
    request = v1.ReleaseTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.ReleaseTask(request)).task


async def update(client: Client, task: str, **fields: Any) -> v1.Task:
    """A task that is changed."""
    request = v1.UpdateTaskRequest(task_id=task, **fields)
    return (await client.tasks.UpdateTask(request)).task


async def show(client: Client, task: str) -> v1.Task:
    """A task as it is now."""
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def show_worker(client: Client, id: str) -> v1.Worker:
    """A worker as it is now."""
    answer = await client.workers.ListWorkers(v1.ListWorkersRequest())
    return next(worker for worker in answer.workers if worker.id == id)


async def refusal(call: Awaitable[object]) -> TaskloomError:
    """The refusal with which a call ends."""
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


def subjects(error: TaskloomError) -> list[str]:
    """What a refusal's details say stands in the way."""
    assert {violation.type for violation in error.violations} == {error.reason}
    return [violation.subject for violation in error.violations]


# ReleaseTask, CompleteTask, FailTask


async def test_release_gives_the_task_to_anybody(client: Client) -> None:
    """A task that is given back is ready again, nobody's, and has spent no attempt."""
    await create(client, "task")
    await connect(client, "w")
    await connect(client, "other")
    await claim(client, "w", "task")
    task = await release(client, "w", "task", reason="not for me")
    assert (task.status, task.ready, task.worker_id) == ("pending", True, "")
    assert (task.attempts, task.claim_revision) == (0, 0)
    assert not task.HasField("lease_expire_time")
    assert not task.HasField("claim_time"), "nobody has it"
    history = await client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="task"))
    last = history.transitions[-1]
    assert (last.status, last.worker_id, last.reason) == ("pending", "w", "not for me")
    given = await claim_next(client, "other")
    assert [each.id for each in given.tasks] == ["task"]


async def test_complete_ends_the_task(timed_client: Client, clock: "TestClock") -> None:
    """A completed task keeps its last worker, and has neither claim nor lease."""
    await create(timed_client, "task")
    await connect(timed_client, "w")
    claimed = await claim(timed_client, "w", "task")
    clock.advance(5_000)
    answer = await complete(timed_client, "w", "task")
    task = answer.task
    assert (task.status, task.worker_id, task.ready) == ("completed", "w", False)
    assert task.claim_revision == 0
    assert not task.HasField("lease_expire_time")
    assert task.claim_time == claimed.claim_time
    assert task.complete_time.ToMilliseconds() == clock.now()
    assert task.attempts == 0
    assert task.revision == answer.revision
    worker = await show_worker(timed_client, "w")
    assert (worker.claims_held, worker.last_status) == (0, "completed")


async def test_complete_says_what_it_freed(client: Client) -> None:
    """The answer lists just the tasks that became ready, and the parents' dependents with them."""
    await connect(client, "w")
    await create(client, "parent")
    await create(client, "task", parent_id="parent")
    await create(client, "next", blocked_by=["task"])
    await create(client, "still-blocked", blocked_by=["task", "next"])
    await create(client, "after-parent", blocked_by=["parent"])
    await claim(client, "w", "task")
    answer = await complete(client, "w", "task")
    assert sorted(answer.unblocked_task_ids) == ["after-parent", "next"]


@pytest.mark.parametrize("ending", [complete, fail, release])
async def test_the_end_of_work_removes_its_marks(
    client: Client, ending: Callable[..., Awaitable[object]]
) -> None:
    """File marks made for a task go with the work on it; the worker's other marks stay."""
    await create(client, "task")
    await connect(client, "w")
    await claim(client, "w", "task")
    for path, task in (("a.py", "task"), ("b.py", "")):
        request = v1.MarkFilesRequest(worker_id="w", paths=[path], task_id=task)
        await client.files.MarkFiles(request)
    await ending(client, "w", "task")
    marks = await client.files.ListFileMarks(v1.ListFileMarksRequest())
    assert [mark.path for mark in marks.marks] == ["b.py"]


async def test_complete_twice(client: Client) -> None:
    """A completion that is sent again is CLAIM_LOST, unless it has the request_id of the first."""
    await create(client, "task")
    await connect(client, "w")
    await claim(client, "w", "task")
    request = v1.CompleteTaskRequest(worker_id="w", task_id="task", request_id="once")
    first = await client.claims.CompleteTask(request)
    assert await client.claims.CompleteTask(request) == first
    error = await refusal(complete(client, "w", "task"))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "CLAIM_LOST")


async def test_fail_without_retry(client: Client) -> None:
    """A failed task counts an attempt, keeps its worker, and frees nothing."""
    await create(client, "task")
    await create(client, "next", blocked_by=["task"])
    await connect(client, "w")
    await claim(client, "w", "task")
    answer = await fail(client, "w", "task", reason="no idea")
    task = answer.task
    assert (task.status, task.worker_id, task.attempts) == ("failed", "w", 1)
    assert (task.claim_revision, task.ready) == (0, False)
    assert task.HasField("complete_time")
    assert not answer.unblocked_task_ids
    history = await client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="task"))
    assert history.transitions[-1].reason == "no idea"


async def test_fail_with_retry(client: Client) -> None:
    """With retry the task goes back for anybody, until max_attempts are spent: then it fails."""
    await create(client, "task", max_attempts=3)
    await connect(client, "w")
    for attempt in (1, 2):
        await claim(client, "w", "task")
        task = (await fail(client, "w", "task", retry=True)).task
        assert (task.status, task.worker_id, task.attempts) == ("pending", "", attempt)
        assert task.ready
    await claim(client, "w", "task")
    task = (await fail(client, "w", "task", retry=True)).task
    assert (task.status, task.attempts) == ("failed", 3)


async def test_five_attempts_unless_told_otherwise(client: Client) -> None:
    """A task whose max_attempts nobody set has five."""
    assert (await create(client, "task")).max_attempts == 5


async def test_fail_with_a_delay(timed_client: Client, clock: "TestClock") -> None:
    """With retry_delay the task goes back, but cannot be taken before that has passed."""
    await create(timed_client, "task")
    await connect(timed_client, "w")
    await claim(timed_client, "w", "task")
    answer = await fail(timed_client, "w", "task", retry=True, retry_delay=Duration(seconds=60))
    assert (answer.task.status, answer.task.ready) == ("pending", False)
    assert answer.task.not_before.ToMilliseconds() == clock.now() + 60_000
    assert (await claim_next(timed_client, "w")).outcome == v1.CLAIM_OUTCOME_NONE_READY
    assert (await refusal(claim(timed_client, "w", "task"))).reason == "NOT_YET"


async def test_reopened_task_has_all_its_attempts(client: Client) -> None:
    """A failed task that a person reopens is given all its chances again."""
    await create(client, "task", max_attempts=1)
    await connect(client, "w")
    await claim(client, "w", "task")
    await fail(client, "w", "task")
    task = await update(client, "task", status="pending")
    assert (task.attempts, task.ready, task.worker_id) == (0, True, "")


@pytest.mark.parametrize(
    ("status", "verb"), [("completed", complete), ("failed", fail), ("pending", release)]
)
async def test_update_ends_a_task_as_the_verb_does(
    timed_client: Client, status: str, verb: Callable[..., Awaitable[object]]
) -> None:
    """A holder who ends a task by UpdateTask does all that the verb for it does."""
    client = timed_client
    for worker in ("by-verb", "by-update"):
        await connect(client, worker, cool_down=Duration(seconds=30))
        await create(client, f"{worker}-task", priority=5)
        await claim(client, worker, f"{worker}-task")
        marks = v1.MarkFilesRequest(worker_id=worker, paths=["a.py"], task_id=f"{worker}-task")
        await client.files.MarkFiles(marks)
    await verb(client, "by-verb", "by-verb-task")
    await update(client, "by-update-task", worker_id="by-update", status=status)

    expected, actual = await show(client, "by-verb-task"), await show(client, "by-update-task")
    for task in (expected, actual):
        task.worker_id = task.worker_id and "w"
        task.id = task.title = "task"
        task.revision = 0
    assert actual == expected
    assert not (await client.files.ListFileMarks(v1.ListFileMarksRequest())).marks
    workers = [await show_worker(client, id) for id in ("by-verb", "by-update")]
    for each in workers:
        each.id = "w"
    assert workers[1] == workers[0]


@pytest.mark.parametrize("verb", [complete, fail, release])
async def test_verbs_of_a_holder_without_a_task(
    client: Client, verb: Callable[..., Awaitable[object]]
) -> None:
    """Ending what is not there is TASK_NOT_FOUND, what is deleted TASK_DELETED."""
    await connect(client, "w")
    error = await refusal(verb(client, "w", "nothing"))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    await create(client, "task")
    await claim(client, "w", "task")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="task", force=True))
    error = await refusal(verb(client, "w", "task"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "TASK_DELETED")


async def test_complete_with_open_children(client: Client) -> None:
    """A task that was given children while it was worked cannot complete before they end."""
    await create(client, "parent")
    await connect(client, "w", max_claims=2)
    held = await claim(client, "w", "parent")
    await create(client, "child", parent_id="parent")
    error = await refusal(complete(client, "w", "parent"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "CHILDREN_OPEN")
    assert subjects(error) == ["child"]
    assert (await show(client, "parent")).claim_revision == held.claim_revision
    await claim(client, "w", "child")
    await complete(client, "w", "child")
    assert (await complete(client, "w", "parent")).task.status == "completed"


# Assignment


async def test_assigned_task_begins_with_its_claim(client: Client) -> None:
    """An assignment holds the task for one worker, whose ClaimTask begins it."""
    await create(client, "task")
    await connect(client, "w")
    await connect(client, "other")
    assigned = await update(client, "task", assignee="w")
    assert (assigned.status, assigned.worker_id) == ("assigned", "w")
    assert assigned.claim_revision == assigned.revision
    assert not assigned.ready
    assert not assigned.HasField("start_time")
    error = await refusal(claim(client, "other", "task"))
    assert (error.reason, error.metadata["holder"]) == ("TASK_CLAIMED", "w")
    assert (await claim_next(client, "other")).outcome == v1.CLAIM_OUTCOME_NONE_READY
    begun = await claim(client, "w", "task")
    assert (begun.status, begun.worker_id) == ("working", "w")
    assert begun.claim_revision == assigned.claim_revision
    assert begun.HasField("start_time")
    worker = await show_worker(client, "w")
    assert (worker.claim_attempts, worker.claims_granted) == (1, 1)
    assert (await complete(client, "w", "task")).task.status == "completed"


async def test_assigned_task_is_begun_before_it_is_ended(client: Client) -> None:
    """Completing what was assigned and not begun is ILLEGAL_TRANSITION, listing the exits."""
    await create(client, "task")
    await connect(client, "w")
    await update(client, "task", assignee="w")
    for verb in (complete, fail):
        error = await refusal(verb(client, "w", "task"))
        assert (error.code, error.reason) == (FAILED_PRECONDITION, "ILLEGAL_TRANSITION")
        assert subjects(error) == ["working", "pending", "cancelled"]
    assert (await release(client, "w", "task")).ready


async def test_assigned_task_starts_when_it_can(client: Client) -> None:
    """A blocked task may be assigned, and begun once it is blocked no longer."""
    await create(client, "blocker")
    await create(client, "task", blocked_by=["blocker"])
    await connect(client, "w")
    await connect(client, "other")
    await update(client, "task", assignee="w")
    assert (await refusal(claim(client, "w", "task"))).reason == "DEPENDENCIES_UNMET"
    begins = update(client, "task", worker_id="w", status="working")
    assert (await refusal(begins)).reason == "DEPENDENCIES_UNMET"
    await claim(client, "other", "blocker")
    await complete(client, "other", "blocker")
    assert (await claim(client, "w", "task")).status == "working"


async def test_assignment_counts_as_held(client: Client) -> None:
    """What is assigned counts under max_claims; beginning it needs no further room."""
    await create(client, "assigned")
    await create(client, "free")
    await connect(client, "w", max_claims=1)
    await update(client, "assigned", assignee="w")
    assert (await show_worker(client, "w")).claims_held == 1
    assert (await refusal(claim(client, "w", "free"))).reason == "CLAIM_LIMIT"
    assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_LIMIT_REACHED
    assert (await claim(client, "w", "assigned")).status == "working"


async def test_assigned_beyond_the_limit(client: Client) -> None:
    """A worker that was assigned more than its max_claims begins them one after another."""
    await connect(client, "w", max_claims=1)
    for id in ("one", "two"):
        await create(client, id)
        await update(client, id, assignee="w")
    await claim(client, "w", "one")
    assert (await refusal(claim(client, "w", "two"))).reason == "CLAIM_LIMIT"
    await complete(client, "w", "one")
    assert (await claim(client, "w", "two")).status == "working"


async def test_assignment_is_taken_back(client: Client) -> None:
    """An empty assignee makes the task anybody's again; where nobody has it, nothing happens."""
    await create(client, "task")
    await connect(client, "w")
    await update(client, "task", assignee="w")
    freed = await update(client, "task", assignee="")
    assert (freed.status, freed.worker_id, freed.ready) == ("pending", "", True)
    assert await update(client, "task", assignee="") == freed


async def test_only_free_tasks_are_assigned(client: Client) -> None:
    """Assigning what another worker has is TASK_CLAIMED; what has ended, ILLEGAL_TRANSITION."""
    await create(client, "task", needed_tags=["rust"])
    await connect(client, "holder", tags=["rust"])
    await connect(client, "w", tags=["rust"])
    await connect(client, "untagged")
    assert (await refusal(update(client, "task", assignee="untagged"))).reason == "TAGS_MISSING"
    assert (await refusal(update(client, "task", assignee="nobody"))).reason == "WORKER_NOT_FOUND"
    held = await claim(client, "holder", "task")
    error = await refusal(update(client, "task", assignee="w"))
    assert (error.reason, error.metadata["holder"]) == ("TASK_CLAIMED", "holder")
    assert await show(client, "task") == held
    await complete(client, "holder", "task")
    error = await refusal(update(client, "task", assignee="w"))
    assert error.reason == "ILLEGAL_TRANSITION"
