"""Calls in short, and what came of them: shared by the tests beside this file."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client, TaskloomError


def duration(ms: int) -> Duration:
    """So many milliseconds."""
    return Duration(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


async def create(client: Client, id: str, **fields: Any) -> v1.Task:
    """A task of this id, which is its title as well."""
    answer = await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id, **fields))
    return answer.task


async def connect(client: Client, *ids: str, **fields: Any) -> None:
    """New workers, or old ones with another registration."""
    for id in ids:
        await client.workers.Connect(v1.ConnectRequest(worker_id=id, **fields))


async def claim(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    """A task that is claimed by name."""
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.ClaimTask(request)).task


async def claim_next(client: Client, worker: str, **fields: Any) -> v1.ClaimNextTaskResponse:
    """What ClaimNextTask answers."""
    return await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id=worker, **fields))


def ids(answer: v1.ClaimNextTaskResponse) -> list[str]:
    """The tasks that ClaimNextTask gave, best first."""
    return [task.id for task in answer.tasks]


async def complete(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    """A task that is completed."""
    request = v1.CompleteTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.CompleteTask(request)).task


async def fail(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    """A task at which its worker failed."""
    request = v1.FailTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.FailTask(request)).task


async def release(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    """A task that is given back."""
    request = v1.ReleaseTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.ReleaseTask(request)).task


async def update(client: Client, task: str, **fields: Any) -> v1.Task:
    """A task that is changed."""
    return (await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task, **fields))).task


async def heartbeat(client: Client, worker: str) -> v1.HeartbeatResponse:
    """A sign of life."""
    return await client.workers.Heartbeat(v1.HeartbeatRequest(worker_id=worker))


async def disconnect(client: Client, worker: str) -> v1.DisconnectResponse:
    """The end of a registration."""
    return await client.workers.Disconnect(v1.DisconnectRequest(worker_id=worker))


async def pause(client: Client, task: str = "", **fields: Any) -> v1.PauseResponse:
    """Stop new claims, of everything or below a task."""
    return await client.admin.Pause(v1.PauseRequest(task_id=task, **fields))


async def resume(client: Client, task: str = "", **fields: Any) -> int:
    """Let claims go on; the revision."""
    return (await client.admin.Resume(v1.ResumeRequest(task_id=task, **fields))).revision


async def show(client: Client, task: str) -> v1.Task:
    """A task as it is now."""
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def show_worker(client: Client, id: str) -> v1.Worker:
    """A worker as it is now."""
    answer = await client.workers.ListWorkers(v1.ListWorkersRequest(include_disconnected=True))
    return next(worker for worker in answer.workers if worker.id == id)


async def counters(client: Client, id: str) -> tuple[int, int, int]:
    """A worker's claim attempts, and of them the granted and the lost."""
    worker = await show_worker(client, id)
    return worker.claim_attempts, worker.claims_granted, worker.claims_lost


async def status(client: Client) -> v1.GetStatusResponse:
    """How the whole stands."""
    return await client.admin.GetStatus(v1.GetStatusRequest())


async def refusal(call: Awaitable[object]) -> TaskloomError:
    """The refusal with which a call ends."""
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


async def import_held(client: Client) -> tuple[Any, TaskloomError]:
    """An import that is inside of a server with room for one call, and how another is refused.

    A status that comes before the import keeps that out, which is then begun anew.
    """
    while True:
        held = client.admin.ImportSnapshot()
        while not held.done():
            try:
                await status(client)
            except TaskloomError as error:
                return held, error


async def event(
    client: Client, type: "v1.EventType.ValueType", task: str = "", since: int = 0
) -> v1.Event:
    """The first event of this type, about this task, after a revision: as soon as it comes."""
    only = v1.WatchFilter(event_types=[type], task_ids=[task] if task else [])
    async with asyncio.timeout(20), client.watch(only, start_revision=since + 1) as watch:
        async for found in watch.events():
            if found.type == type:
                return found
    raise AssertionError("the watch ended")


async def events(client: Client, first: int, last: int) -> list[tuple[str, str, int]]:
    """All events from one revision to another: name of the type, task, and revision of each."""
    found = []
    async with asyncio.timeout(20), client.watch(start_revision=first) as watch:
        async for message in watch:
            if first <= message.revision <= last:
                for each in message.events.events:
                    name = v1.EventType.Name(each.type).removeprefix("EVENT_TYPE_")
                    found.append((name, each.task_id, message.revision))
            if message.revision >= last and not message.HasField("created"):
                return found
    raise AssertionError("the watch ended")
