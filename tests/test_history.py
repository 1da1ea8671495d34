"""Time and history: how long a task was worked, and the rows that say what became of it."""

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import TestClock


@pytest.fixture
async def worker(client: Client) -> str:
    """A worker that may hold many tasks."""
    request = v1.ConnectRequest(worker_id="w", max_claims=100)
    return (await client.workers.Connect(request)).worker.id


async def _create(client: Client, id: str, **fields: Any) -> v1.Task:
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def _claim(client: Client, task: str, worker: str = "w") -> v1.Task:
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task)
    return (await client.claims.ClaimTask(request)).task


async def _complete(client: Client, task: str) -> list[str]:
    """Complete a held task; what it freed."""
    request = v1.CompleteTaskRequest(worker_id="w", task_id=task)
    return sorted((await client.claims.CompleteTask(request)).unblocked_task_ids)


async def _release(client: Client, task: str) -> v1.Task:
    request = v1.ReleaseTaskRequest(worker_id="w", task_id=task)
    return (await client.claims.ReleaseTask(request)).task


async def _move(client: Client, task: str, status: str) -> list[str]:
    """Move a task as a person; what it freed."""
    request = v1.UpdateTaskRequest(task_id=task, status=status)
    return sorted((await client.tasks.UpdateTask(request)).unblocked_task_ids)


async def _show(client: Client, task: str) -> v1.Task:
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def _refusal(call: Awaitable[object]) -> TaskloomError:
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


async def test_time_is_counted_while_worked(timed_client: Client, clock: "TestClock") -> None:
    """time_actual is the sum of all stays in timed states, without the one that still lasts."""
    client = timed_client
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", lease=Duration(seconds=3_600)))
    created = clock.now()
    await _create(client, "task")
    clock.advance(1_000)
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="task", assignee="w"))
    clock.advance(2_000)
    assert (await _claim(client, "task")).time_actual.ToMilliseconds() == 0
    clock.advance(10_500)
    assert (await _show(client, "task")).time_actual.ToMilliseconds() == 0
    assert (await _release(client, "task")).time_actual.ToMilliseconds() == 10_500
    clock.advance(20_000)
    await _claim(client, "task")
    await _complete(client, "task")
    await _move(client, "task", "pending")
    await _claim(client, "task")
    clock.advance(300)
    await _complete(client, "task")
    task = await _show(client, "task")
    assert task.time_actual.ToMilliseconds() == 10_800
    assert task.start_time.ToMilliseconds() == created + 3_000, "when work first began"
    assert task.complete_time.ToMilliseconds() == clock.now()


async def test_lost_time_counts(timed_client: Client, clock: "TestClock") -> None:
    """The time until a lease ran out was worked as well, as far as anybody knows."""
    client = timed_client
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", lease=Duration(seconds=60)))
    await _create(client, "task")
    await _claim(client, "task")
    clock.advance(60_000)
    filter_ = v1.WatchFilter(event_types=[v1.EVENT_TYPE_TASK_LEASE_EXPIRED])
    async with asyncio.timeout(10), client.watch(filter_, start_revision=1) as watch:
        event = await anext(watch.events())
    assert event.task.time_actual.ToMilliseconds() == 60_000
    clock.advance(60_000)
    assert (await _show(client, "task")).time_actual.ToMilliseconds() == 60_000


async def _transitions(client: Client, task: str, page_size: int = 0) -> list[v1.Transition]:
    request = v1.ListTransitionsRequest(task_id=task, page_size=page_size)
    transitions: list[v1.Transition] = []
    while True:
        page = await client.tasks.ListTransitions(request)
        assert page_size == 0 or len(page.transitions) <= page_size
        transitions += page.transitions
        if not page.next_page_token:
            return transitions
        request.page_token = page.next_page_token


async def test_history_has_no_gaps(timed_client: Client, clock: "TestClock") -> None:
    """Every transition is a row that the next one closes; the latest is open."""
    client = timed_client
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    await client.workers.Connect(v1.ConnectRequest(worker_id="lead"))
    start = clock.now()
    await _create(client, "task", worker_id="lead", phase="design")
    clock.advance(1_000)
    await _claim(client, "task")
    clock.advance(1_000)
    phase = v1.UpdateTaskRequest(
        task_id="task", worker_id="w", phase="implement", reason="designed"
    )
    await client.tasks.UpdateTask(phase)
    clock.advance(1_000)
    done = v1.CompleteTaskRequest(worker_id="w", task_id="task", reason="all green")
    await client.claims.CompleteTask(done)
    clock.advance(1_000)
    await client.tasks.UpdateTask(
        v1.UpdateTaskRequest(task_id="task", status="pending", phase="review", reason="not so")
    )
    rows = await _transitions(client, "task")
    told = [
        (
            row.worker_id,
            row.status if row.HasField("status") else None,
            row.phase if row.HasField("phase") else None,
            row.reason,
        )
        for row in rows
    ]
    assert told == [
        ("lead", "pending", "design", ""),
        ("w", "working", None, ""),
        ("w", None, "implement", "designed"),
        ("w", "completed", None, "all green"),
        ("", "pending", "review", "not so"),
    ]
    begins = [row.start_time.ToMilliseconds() for row in rows]
    assert begins == [start + n * 1_000 for n in range(5)]
    assert [row.end_time.ToMilliseconds() for row in rows[:-1]] == begins[1:]
    assert not rows[-1].HasField("end_time")
    ids = [row.id for row in rows]
    assert ids == sorted(set(ids))
    assert await _transitions(client, "task", page_size=2) == rows


async def test_history_tells_that_a_phase_is_none(client: Client, worker: str) -> None:
    """A transition to no phase is told from one that left the phase as it was."""
    await _create(client, "task", phase="design")
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="task", phase=""))
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="task", phase="review"))
    await client.tasks.UpdateTask(
        v1.UpdateTaskRequest(task_id="task", phase="", status="cancelled")
    )
    rows = await _transitions(client, "task")
    phases = [row.phase if row.HasField("phase") else None for row in rows]
    assert phases == ["design", "", "review", ""]
    assert (await _show(client, "task")).phase == ""


async def test_history_of_what_is_not_there(client: Client, worker: str) -> None:
    """Nobody's history is TASK_NOT_FOUND; a deleted task's is kept."""
    assert (await _refusal(_transitions(client, "nothing"))).reason == "TASK_NOT_FOUND"
    await _create(client, "task")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="task"))
    assert [row.status for row in await _transitions(client, "task")] == ["pending"]


async def test_history_page_of_another_task(client: Client, worker: str) -> None:
    """A page token is of no use for another task's history."""
    for id in ("a", "b"):
        await _create(client, id)
        await _claim(client, id)
    request = v1.ListTransitionsRequest(task_id="a", page_size=1)
    token = (await client.tasks.ListTransitions(request)).next_page_token
    other = v1.ListTransitionsRequest(task_id="b", page_size=1, page_token=token)
    error = await _refusal(client.tasks.ListTransitions(other))
    assert (error.reason, error.field_violations[0].field) == ("INVALID_FIELD", "page_token")
