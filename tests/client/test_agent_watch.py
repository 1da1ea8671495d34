"""Agents by watch: what they know, in which order they try it, and what waiting costs them."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from taskloom import v1
from taskloom_client import Agent, Client

if TYPE_CHECKING:
    from tests.client.conftest import Answer, Refuse, Relay, ScriptedServer

Context = aio.ServicerContext[Any, Any]


async def _create(client: Client, id: str, *blocked_by: str, priority: int = 5) -> None:
    await client.tasks.CreateTask(
        v1.CreateTaskRequest(id=id, title=id, blocked_by=blocked_by, priority=priority)
    )


async def _claim(client: Client, worker_id: str, task_id: str) -> None:
    await client.workers.Connect(v1.ConnectRequest(worker_id=worker_id))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id=worker_id, task_id=task_id))


async def _complete(client: Client, worker_id: str, task_id: str) -> None:
    await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id=worker_id, task_id=task_id))


async def _calls_made(client: Client, agent: Agent, calls: int) -> None:
    while agent.counters.calls < calls:
        await client.admin.GetStatus(v1.GetStatusRequest())


async def test_waiting_makes_no_calls(client: Client) -> None:
    """An agent that has seen that there is something to wait for waits for the stream alone."""
    await _create(client, "first")
    await _claim(client, "other", "first")
    await _create(client, "second", "first")
    async with Agent(client, "w", pull="watch") as agent:
        waiting = asyncio.create_task(anext(agent.tasks()))
        await _calls_made(client, agent, 4)  # Connect, the watch, two to see what is left
        await _complete(client, "other", "first")
        assert (await waiting).id == "second"
        assert agent.counters.calls == 5
        assert agent.counters.claims_tried == 1


async def test_being_held_back_is_waited_out(client: Client) -> None:
    """While claims are paused an agent tries once, and waits to be told that they go on."""
    await _create(client, "a")
    await client.admin.Pause(v1.PauseRequest(by="test"))
    async with Agent(client, "w", pull="watch", idle_interval=0.001) as agent:
        waiting = asyncio.create_task(anext(agent.tasks()))
        await _calls_made(client, agent, 5)  # Connect, watch, claim, and two to wait for resume
        await client.admin.Resume(v1.ResumeRequest(by="test"))
        assert (await waiting).id == "a"
        assert (agent.counters.claims_tried, agent.counters.claims_refused) == (2, 0)


async def test_a_paused_subtree_is_not_known(client: Client) -> None:
    """What is paused with its subtree is not tried; when it goes on it is known again."""
    await _create(client, "top")
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="a", parent_id="top"))
    await client.admin.Pause(v1.PauseRequest(by="test", task_id="top"))
    async with Agent(client, "w", pull="watch") as agent:
        waiting = asyncio.create_task(anext(agent.tasks()))
        await _calls_made(client, agent, 4)
        await client.admin.Resume(v1.ResumeRequest(by="test", task_id="top"))
        assert (await waiting).id == "a"
        assert agent.counters.claims_tried == 1


async def test_idle_through_a_reset(client: Client) -> None:
    """An agent that waits while everything is deleted connects again, and hears of what comes."""
    await _create(client, "held")
    await _claim(client, "other", "held")
    async with Agent(client, "w", pull="watch") as agent:
        waiting = asyncio.create_task(anext(agent.tasks()))
        await _calls_made(client, agent, 4)
        await client.admin.Reset(v1.ResetRequest(confirm="reset"))
        await _create(client, "a")
        assert (await waiting).id == "a"


async def test_a_broken_watch_is_resumed(client: Client, relay: "Relay") -> None:
    """What became ready while the connection was broken is heard of when it is well again."""
    await _create(client, "held")
    await _claim(client, "other", "held")
    async with Client(relay.address) as remote, Agent(remote, "w", pull="watch") as agent:
        waiting = asyncio.create_task(anext(agent.tasks()))
        await _calls_made(client, agent, 4)
        relay.muted = True
        await _create(client, "a")
        relay.cut()
        assert (await waiting).id == "a"


def _event(
    type: "v1.EventType.ValueType", id: str, priority: int, made: int, *, left: bool = False
) -> v1.Event:
    task = v1.Task(id=id, priority=priority, create_time=Timestamp(seconds=made))
    return v1.Event(type=type, task_id=id, task=task, left_filter=left)


def _serve(scripted: "ScriptedServer", watch: "Answer", status: "Answer", claim: "Answer") -> None:
    """Answer all that an agent by watch asks."""

    async def connect(request: v1.ConnectRequest, context: Context) -> v1.ConnectResponse:
        return v1.ConnectResponse(worker=v1.Worker(id="w"))

    async def nothing(request: Any, context: Context) -> Any:
        return getattr(v1, type(request).__name__.replace("Request", "Response"))()

    scripted.answers |= {"WatchTasks": watch, "GetStatus": status, "ClaimTask": claim}
    scripted.answers |= {"Connect": connect, "ListTasks": nothing, "Disconnect": nothing}


def _message(revision: int, kind: str, *events: v1.Event) -> v1.WatchTasksResponse:
    message = v1.WatchTasksResponse(revision=revision)
    getattr(message, kind).SetInParent()
    if events:
        message.events.events.extend(events)
    return message


async def test_tries_the_best_it_knows_of(
    scripted: "ScriptedServer", scripted_client: Client, refuse: "Refuse"
) -> None:
    """It claims by priority, then age; beaten to one it counts that, and tries the next."""
    looked = asyncio.Event()
    claims: list[str] = []

    async def watch(
        request: v1.WatchTasksRequest, context: Context
    ) -> AsyncIterator[v1.WatchTasksResponse]:
        assert (request.filter.ready_for, request.include_state) == ("w", True)
        yield _message(1, "created")
        yield _message(1, "synced")
        await looked.wait()
        created, updated = v1.EVENT_TYPE_TASK_CREATED, v1.EVENT_TYPE_TASK_UPDATED
        events = [
            _event(created, "gone", priority=9, made=1),
            _event(created, "raised", priority=1, made=5),
            _event(created, "young", priority=5, made=4),
            _event(created, "old", priority=5, made=3),
            _event(updated, "raised", priority=7, made=5),
            _event(v1.EVENT_TYPE_TASK_BLOCKED, "gone", priority=9, made=1, left=True),
            v1.Event(type=v1.EVENT_TYPE_ATTACHMENT_ADDED, task_id="old"),
        ]
        yield _message(2, "events", *events)
        await asyncio.Event().wait()

    async def status(request: v1.GetStatusRequest, context: Context) -> v1.GetStatusResponse:
        looked.set()
        return v1.GetStatusResponse(claimed_tasks=1)

    async def claim(request: v1.ClaimTaskRequest, context: Context) -> v1.ClaimTaskResponse:
        claims.append(request.task_id)
        if request.task_id != "young":
            await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "TASK_CLAIMED")
        return v1.ClaimTaskResponse(task=v1.Task(id=request.task_id, claim_revision=3))

    _serve(scripted, watch, status, claim)
    async with Agent(scripted_client, "w", pull="watch") as agent:
        assert (await anext(agent.tasks())).id == "young"
        assert claims == ["raised", "old", "young"]
        counters = agent.counters
        assert (counters.claims_tried, counters.claims_granted, counters.claims_refused) == (
            3,
            1,
            2,
        )


async def test_looks_only_when_something_has_changed(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """What is left to wait for is looked at as the waiting begins, and once after each change."""
    looks = asyncio.Queue[int]()
    sent = 0

    async def watch(
        request: v1.WatchTasksRequest, context: Context
    ) -> AsyncIterator[v1.WatchTasksResponse]:
        nonlocal sent
        yield _message(5, "created")
        yield _message(5, "synced")
        assert await looks.get() == 0
        for sent in (5, 5, 6):
            await asyncio.sleep(0.03)  # for those who would look too soon
            yield _message(sent, "progress")
        assert await looks.get() == 6
        yield _message(7, "events", _event(v1.EVENT_TYPE_TASK_READY, "a", priority=5, made=1))
        await asyncio.Event().wait()

    async def status(request: v1.GetStatusRequest, context: Context) -> v1.GetStatusResponse:
        looks.put_nowait(sent)
        return v1.GetStatusResponse(claimed_tasks=1)

    async def claim(request: v1.ClaimTaskRequest, context: Context) -> v1.ClaimTaskResponse:
        return v1.ClaimTaskResponse(task=v1.Task(id=request.task_id, claim_revision=3))

    _serve(scripted, watch, status, claim)
    async with Agent(scripted_client, "w", pull="watch") as agent:
        assert (await anext(agent.tasks())).id == "a"
        assert agent.counters.empty_polls == 2
