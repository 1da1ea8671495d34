"""Times before which a task cannot be taken: what the server does by itself once they have passed.

The clock is the test's. After it was moved, a test waits for the event that must follow.
"""

from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    complete,
    connect,
    create,
    duration,
    event,
    pause,
    resume,
    show,
    update,
)

if TYPE_CHECKING:
    from tests.conftest import TestClock


def _time(ms: int) -> Timestamp:
    return Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


async def test_a_task_becomes_ready_when_its_time_comes(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A task is ready by itself, with an event, once its not_before has passed."""
    await connect(timed_client, "w")
    task = await create(timed_client, "task", not_before=_time(clock.now() + 5_000))
    assert not task.ready
    assert not task.HasField("ready_time")
    status = await timed_client.admin.GetStatus(v1.GetStatusRequest())
    assert (status.ready_tasks, status.delayed_tasks) == (0, 1)
    clock.advance(5_000)
    told = await event(timed_client, v1.EVENT_TYPE_TASK_READY, "task")
    assert told.task.ready
    assert not told.task.HasField("not_before")
    assert told.task.ready_time.ToMilliseconds() == clock.now()
    request = v1.ClaimNextTaskRequest(worker_id="w")
    answer = await timed_client.claims.ClaimNextTask(request)
    assert [task.id for task in answer.tasks] == ["task"]


async def test_a_failed_task_is_ready_after_its_retry_delay(
    timed_client: Client, clock: "TestClock"
) -> None:
    """What was failed with a retry_delay comes back by itself after it."""
    await connect(timed_client, "w")
    await create(timed_client, "task")
    await claim(timed_client, "w", "task")
    request = v1.FailTaskRequest(
        worker_id="w", task_id="task", retry=True, retry_delay=duration(5_000)
    )
    failed = await timed_client.claims.FailTask(request)
    clock.advance(5_000)
    told = await event(timed_client, v1.EVENT_TYPE_TASK_READY, "task", failed.revision)
    assert (told.task.ready, told.task.attempts) == (True, 1)


async def test_a_blocked_task_is_not_ready_when_its_time_comes(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A task needs both: its time, and its blockers ended, whichever comes last."""
    await connect(timed_client, "w")
    await create(timed_client, "blocker")
    await create(
        timed_client, "task", not_before=_time(clock.now() + 5_000), blocked_by=["blocker"]
    )
    await create(
        timed_client, "later", not_before=_time(clock.now() + 9_000), blocked_by=["blocker"]
    )
    clock.advance(5_000)
    told = await event(timed_client, v1.EVENT_TYPE_TASK_UPDATED, "task")
    assert not told.task.ready
    await claim(timed_client, "w", "blocker")
    done = v1.CompleteTaskRequest(worker_id="w", task_id="blocker")
    answer = await timed_client.claims.CompleteTask(done)
    assert list(answer.unblocked_task_ids) == ["task"]
    clock.advance(4_000)
    await event(timed_client, v1.EVENT_TYPE_TASK_READY, "later", answer.revision)


async def test_a_time_that_is_put_off(timed_client: Client, clock: "TestClock") -> None:
    """Another not_before is waited for instead of the one before."""
    await create(timed_client, "task", not_before=_time(clock.now() + 5_000))
    await create(timed_client, "other", not_before=_time(clock.now() + 5_000))
    await update(timed_client, "task", not_before=_time(clock.now() + 9_000))
    clock.advance(5_000)
    await event(timed_client, v1.EVENT_TYPE_TASK_READY, "other")
    assert not (await show(timed_client, "task")).ready
    clock.advance(4_000)
    await event(timed_client, v1.EVENT_TYPE_TASK_READY, "task")


async def test_a_time_that_is_taken_away(timed_client: Client, clock: "TestClock") -> None:
    """A not_before in the past is none: the task is ready at once, and is told so."""
    await create(timed_client, "task", not_before=_time(clock.now() + 5_000))
    request = v1.UpdateTaskRequest(task_id="task", not_before=_time(clock.now()))
    answer = await timed_client.tasks.UpdateTask(request)
    assert answer.task.ready
    assert not answer.task.HasField("not_before")
    assert list(answer.unblocked_task_ids) == ["task"]
    told = await event(timed_client, v1.EVENT_TYPE_TASK_READY, "task")
    assert told.task == answer.task


async def test_a_time_that_is_set(timed_client: Client, clock: "TestClock") -> None:
    """A ready task that is given a not_before is blocked, and told so, until it has passed."""
    task = await create(timed_client, "task")
    assert task.ready
    task = await update(timed_client, "task", not_before=_time(clock.now() + 1_000))
    assert not task.ready
    told = await event(timed_client, v1.EVENT_TYPE_TASK_BLOCKED, "task")
    assert told.task == task
    clock.advance(1_000)
    await event(timed_client, v1.EVENT_TYPE_TASK_READY, "task")


async def test_a_reopened_parent_waits_to_be_worked_when_its_time_comes(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A parent whose children had ended when it was reopened is ready after its not_before.

    It does not complete by itself: who reopened it wants it worked.
    """
    await connect(timed_client, "w")
    await create(timed_client, "parent")
    await create(timed_client, "child", parent_id="parent")
    await claim(timed_client, "w", "child")
    await complete(timed_client, "w", "child")
    reopened = await update(timed_client, "parent", status="pending")
    assert reopened.ready
    later = await update(timed_client, "parent", not_before=_time(clock.now() + 5_000))
    clock.advance(5_000)
    told = await event(timed_client, v1.EVENT_TYPE_TASK_READY, "parent", later.revision)
    assert told.task.status == "pending"
    assert (await show(timed_client, "parent")).ready


async def test_a_reopened_parent_waits_to_be_worked_when_its_pause_ends(
    timed_client: Client,
) -> None:
    """Likewise after a pause."""
    await connect(timed_client, "w")
    await create(timed_client, "parent")
    await create(timed_client, "child", parent_id="parent")
    await claim(timed_client, "w", "child")
    await complete(timed_client, "w", "child")
    await update(timed_client, "parent", status="pending")
    await pause(timed_client, "parent")
    await resume(timed_client, "parent")
    parent = await show(timed_client, "parent")
    assert (parent.status, parent.ready) == ("pending", True)
