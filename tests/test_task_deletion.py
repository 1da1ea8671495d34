"""DeleteTask: softly, alone or with all below it, and what becomes of those that are left."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import TestClock


async def create(client: Client, id: str, **fields: Any) -> v1.Task:
    """A new task."""
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def connect(client: Client, id: str, **fields: Any) -> None:
    """A new worker."""
    await client.workers.Connect(v1.ConnectRequest(worker_id=id, **fields))


async def claim(client: Client, worker: str, task: str) -> v1.Task:
    """A task that is claimed by name."""
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task)
    return (await client.claims.ClaimTask(request)).task


async def complete(client: Client, worker: str, task: str, reason: str = "") -> None:
    """Claim a task and complete it."""
    await claim(client, worker, task)
    request = v1.CompleteTaskRequest(worker_id=worker, task_id=task, reason=reason)
    await client.claims.CompleteTask(request)


async def update(client: Client, task: str, **fields: Any) -> v1.UpdateTaskResponse:
    """What UpdateTask answers."""
    return await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task, **fields))


async def delete(client: Client, task: str, **fields: Any) -> v1.DeleteTaskResponse:
    """What DeleteTask answers."""
    return await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id=task, **fields))


async def show(client: Client, task: str) -> v1.Task:
    """A task as it is now."""
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def listed(client: Client, **filters: Any) -> list[str]:
    """The ids of the tasks that pass the filters."""
    answer = await client.tasks.ListTasks(v1.ListTasksRequest(**filters))
    return [task.id for task in answer.tasks]


async def refusal(call: Awaitable[object]) -> TaskloomError:
    """The refusal with which a call ends."""
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


def subjects(error: TaskloomError) -> list[str]:
    """What a refusal's details say stands in the way."""
    assert {violation.type for violation in error.violations} == {error.reason}
    return [violation.subject for violation in error.violations]


def time(ms: int) -> Timestamp:
    """Unix ms as a Timestamp."""
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


async def test_deletion_is_soft(timed_client: Client, clock: "TestClock") -> None:
    """A deleted task vanishes from lists and claims, and is still shown: when, by whom, why."""
    await connect(timed_client, "w")
    await create(timed_client, "a")
    clock.advance(5)
    answer = await delete(timed_client, "a", worker_id="w", reason="not needed")
    assert list(answer.deleted_task_ids) == ["a"]

    task = await show(timed_client, "a")
    assert task.delete_time == time(clock.now())
    assert (task.deleted_by, task.deleted_reason) == ("w", "not needed")
    assert task.revision == answer.revision
    assert not task.ready
    assert await listed(timed_client) == []
    assert await listed(timed_client, include_deleted=True) == ["a"]
    assert (await refusal(claim(timed_client, "w", "a"))).reason == "TASK_DELETED"
    none = await timed_client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="w"))
    assert none.outcome == v1.CLAIM_OUTCOME_ALL_DONE


async def test_deleting_a_deleted_task_changes_nothing(client: Client) -> None:
    """The second deletion is answered, empty, and leaves who and why as they were."""
    await create(client, "a")
    first = await delete(client, "a", reason="first")
    again = await delete(client, "a", reason="second")
    assert (list(again.deleted_task_ids), again.revision) == ([], first.revision)
    assert (await show(client, "a")).deleted_reason == "first"


async def test_a_deleted_blocker_blocks_no_longer(client: Client) -> None:
    """What a deleted task blocked, whatever its status, becomes ready and is listed."""
    await connect(client, "w")
    await create(client, "open")
    await create(client, "failed")
    await create(client, "a", blocked_by=["open"])
    await create(client, "b", blocked_by=["failed"])
    await create(client, "c", blocked_by=["failed", "open"])
    await claim(client, "w", "failed")
    await update(client, "failed", status="failed")
    assert list((await delete(client, "failed")).unblocked_task_ids) == ["b"]
    assert list((await delete(client, "open")).unblocked_task_ids) == ["a", "c"]
    assert await listed(client, ready=True) == ["a", "b", "c"]


async def test_children_keep_a_task_from_deletion(client: Client) -> None:
    """A task with children is deleted only with cascade, which takes all below it along."""
    await create(client, "top")
    await create(client, "left", parent_id="top")
    await create(client, "right", parent_id="top")
    await create(client, "leaf", parent_id="left")
    await create(client, "waits", blocked_by=["leaf"])
    error = await refusal(delete(client, "top"))
    assert error.reason == "CHILDREN_OPEN"
    assert subjects(error) == ["left", "right"]

    answer = await delete(client, "top", cascade=True)
    assert sorted(answer.deleted_task_ids) == ["leaf", "left", "right", "top"]
    assert answer.deleted_task_ids[0] == "top"
    assert list(answer.unblocked_task_ids) == ["waits"]
    assert await listed(client) == ["waits"]
    for id in answer.deleted_task_ids:
        assert (await show(client, id)).revision == answer.revision


async def test_a_cascade_tells_of_deletions_alone(client: Client) -> None:
    """What goes with its children neither becomes ready nor completes on the way."""
    await connect(client, "w")
    await create(client, "top")
    await create(client, "barren", parent_id="top")
    await create(client, "leaf", parent_id="barren")
    await create(client, "done", parent_id="top")
    await complete(client, "w", "done")
    answer = await delete(client, "top", cascade=True)
    async with client.watch(start_revision=answer.revision) as watch:
        async for message in watch:
            if events := list(message.events.events):
                break
    assert [event.type for event in events] == [v1.EVENT_TYPE_TASK_DELETED] * 4
    assert sorted(event.task_id for event in events) == ["barren", "done", "leaf", "top"]
    assert (await show(client, "top")).status == "pending"


async def test_cascade_passes_over_what_was_deleted_before(client: Client) -> None:
    """A cascade lists the tasks that it deleted, not those that were deleted already."""
    await create(client, "top")
    await create(client, "old", parent_id="top")
    await create(client, "new", parent_id="top")
    await delete(client, "old", reason="before")
    answer = await delete(client, "top", cascade=True)
    assert sorted(answer.deleted_task_ids) == ["new", "top"]
    assert (await show(client, "old")).deleted_reason == "before"


async def test_a_claim_keeps_a_task_from_deletion(client: Client) -> None:
    """A claimed task is deleted only by force, and then its holder is told."""
    await connect(client, "w")
    await create(client, "top")
    await create(client, "leaf", parent_id="top")
    await claim(client, "w", "leaf")
    for id, cascade in (("leaf", False), ("top", True)):
        error = await refusal(delete(client, id, cascade=cascade))
        assert error.reason == "TASK_CLAIMED"
        assert error.metadata == {"holder": "w", "task_id": "leaf"}
    await delete(client, "top", cascade=True, force=True)
    task = await show(client, "leaf")
    assert task.claim_revision == 0
    assert not task.HasField("lease_expire_time")
    request = v1.CompleteTaskRequest(worker_id="w", task_id="leaf")
    assert (await refusal(client.claims.CompleteTask(request))).reason == "TASK_DELETED"
    assert (await client.admin.GetStatus(v1.GetStatusRequest())).claimed_tasks == 0


async def test_a_parent_goes_on_without_its_deleted_child(client: Client) -> None:
    """A parent whose only child is deleted is ready; one whose other children ended completes."""
    await connect(client, "w")
    await create(client, "barren")
    await create(client, "only", parent_id="barren")
    await create(client, "parent")
    await create(client, "done", parent_id="parent")
    await create(client, "last", parent_id="parent")
    await complete(client, "w", "done")
    assert list((await delete(client, "only")).unblocked_task_ids) == ["barren"]
    assert list((await delete(client, "last")).unblocked_task_ids) == []
    assert (await show(client, "barren")).ready
    assert (await show(client, "parent")).status == "completed"


async def test_a_deleted_task_never_falls_due(timed_client: Client, clock: "TestClock") -> None:
    """When the not_before of a deleted task passes, nothing happens to it."""
    due = clock.now() + 1_000
    await create(timed_client, "gone", not_before=time(due))
    await create(timed_client, "there", not_before=time(due))
    deleted = await delete(timed_client, "gone")
    async with timed_client.watch(start_revision=deleted.revision + 1) as watch:
        clock.advance(2_000)
        told = [event async for message in _until(watch, "there") for event in message]
    assert [(event.task_id, event.type) for event in told] == [("there", v1.EVENT_TYPE_TASK_READY)]
    assert (await show(timed_client, "gone")).revision == deleted.revision


async def _until(watch: Any, task: str) -> Any:
    """The events of each message, up to the first that is about the task."""
    async for message in watch:
        yield list(message.events.events)
        if any(event.task_id == task for event in message.events.events):
            return


async def test_marks_for_a_deleted_task_go(client: Client) -> None:
    """The file marks that were made for a task are removed with it, others stay."""
    await connect(client, "w")
    await create(client, "a")
    for path, task in (("a.py", "a"), ("b.py", "")):
        mark = v1.MarkFilesRequest(worker_id="w", paths=[path], task_id=task)
        await client.files.MarkFiles(mark)
    await delete(client, "a")
    answer = await client.files.ListFileMarks(v1.ListFileMarksRequest())
    assert [mark.path for mark in answer.marks] == ["b.py"]
