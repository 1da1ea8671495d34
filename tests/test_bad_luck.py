"""Bad luck: clients that open thousands of streams, never read, send too much, or come too often.

What was answered stays, what is refused is told why and when to come back, others are served
meanwhile, and when the load goes all is as before.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio
from taskloom import v1
from taskloom_client import Client, TaskloomError
from taskloom_client.errors import from_rpc_error

from tests.calls import connect, create

CROWD = 4_000
"""More at once than gRPC lets wait before it cuts some off by itself: 3,000 at the most."""
ROOM = 100
"""How many the server is set to take."""
FEW = 30
"""Likewise, where one client has to come faster than it is answered."""
PAGE = 30 * 40_000
"""Bytes of a page of the tasks of ``plant``, about."""

Opening = Callable[[aio.Channel], Any]


@asynccontextmanager
async def connections(address: str, count: int) -> AsyncIterator[list[aio.Channel]]:
    """Connections of their own, without a client's interceptors, whose windows do not grow."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(aio.insecure_channel(address, options))
            for _ in range(count)
        ]


def refusal(error: aio.AioRpcError) -> TaskloomError:
    """What a refusal says."""
    return from_rpc_error(error, target="", method="", timeout=None)


async def ended(call: Any) -> str:
    """The reason for which a call was refused, to come back later; empty when it goes on."""
    try:
        assert await call.read() is not aio.EOF
    except aio.AioRpcError as error:
        return told_to_come_back(error)
    return ""


def told_to_come_back(error: aio.AioRpcError) -> str:
    """The reason of a refusal that must be one for want of room, and say when there is some."""
    refused = refusal(error)
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED, error
    assert refused.retry_delay, error
    assert refused.transient
    return refused.reason


async def work(client: Client, task_id: str) -> None:
    """Everything that an agent needs, start to end; raises what it is refused."""
    await create(client, task_id)
    claimed = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="other"))
    assert [task.id for task in claimed.tasks] == [task_id]
    await client.workers.Heartbeat(v1.HeartbeatRequest(worker_id="other"))
    request = v1.CompleteTaskRequest(worker_id="other", task_id=task_id)
    await client.claims.CompleteTask(request)


def watch(channel: aio.Channel) -> Any:
    """A watch that tells nothing but that it was created."""
    return v1.WatchServiceStub(channel).WatchTasks(v1.WatchTasksRequest())


def work_stream(channel: aio.Channel) -> Any:
    """A Work stream of a worker that has no credit."""

    async def start() -> AsyncIterator[v1.WorkRequest]:
        yield v1.WorkRequest(start=v1.WorkStart(worker_id="crowd"))
        await asyncio.Event().wait()

    return v1.ClaimServiceStub(channel).Work(start())


@pytest.mark.parametrize(
    ("opening", "reason", "count"),
    [
        pytest.param(watch, "TOO_MANY_WATCHES", 1, id="watches on one connection"),
        pytest.param(watch, "TOO_MANY_WATCHES", 40, id="watches on many connections"),
        pytest.param(work_stream, "TOO_MANY_CALLS", 1, id="Work streams"),
    ],
)
async def test_a_crowd_of_streams(
    start_server: Callable[..., Any], opening: Opening, reason: str, count: int
) -> None:
    """Of thousands of streams at once as many are served as there is room for, and each other one
    is told to come back; others work on. When they go there is as much room as before.
    """
    async with (
        start_server(max_watches=ROOM, max_waits=ROOM) as server,
        Client(server.address) as client,
    ):
        await connect(client, "other", "crowd")
        ends = await crowd(server.address, count, opening, work(client, "t"))
        assert Counter(ends) == {"": ROOM, reason: CROWD - ROOM}
        await room_again(client, server.address, opening)


async def crowd(
    address: str, count: int, opening: Opening, meanwhile: Coroutine[Any, Any, None]
) -> list[str]:
    """How each stream of a crowd ended, on so many connections; all are gone afterwards."""
    async with connections(address, count) as channels:
        calls = [opening(channels[n % count]) for n in range(CROWD)]
        ends = await asyncio.gather(*map(ended, calls))
        await meanwhile
        for call in calls:
            call.cancel()
    return ends


async def room_again(client: Client, address: str, opening: Opening) -> None:
    """Return once there is room for as many as before: the server has noticed who went."""
    while True:
        async with connections(address, 1) as (channel,):
            calls = [opening(channel) for _ in range(ROOM)]
            full = any(await asyncio.gather(*map(ended, calls)))
            for call in calls:
                call.cancel()
        if not full:
            return
        await client.admin.GetStatus(v1.GetStatusRequest())


async def plant(client: Client) -> None:
    """Tasks of which a page is a large answer."""
    for n in range(30):
        await create(client, f"long{n}", description="x" * 40_000, needed_tags=["nobody"])


def page(channel: aio.Channel) -> Any:
    """A page of tasks, called so that it need not be read."""
    call: aio.UnaryStreamMultiCallable[Any, Any] = channel.unary_stream(
        "/taskloom.v1.TaskService/ListTasks",
        request_serializer=v1.ListTasksRequest.SerializeToString,
        response_deserializer=v1.ListTasksResponse.FromString,
    )
    return call(v1.ListTasksRequest(page_size=1_000))


def state(channel: aio.Channel) -> Any:
    """A watch that tells the state first."""
    return v1.WatchServiceStub(channel).WatchTasks(v1.WatchTasksRequest(include_state=True))


@pytest.mark.parametrize("opening", [page, state])
async def test_who_does_not_read(start_server: Callable[..., Any], opening: Opening) -> None:
    """Of large answers that nobody reads no more is held than was set; who asks for one more is
    told to come back, and all else goes on. When they are given up, whoever asks is answered.
    """
    async with (
        start_server(max_unread_mib=16) as server,
        Client(server.address) as client,
    ):
        await connect(client, "other")
        await plant(client)
        async with connections(server.address, 1) as (channel,):
            calls = [opening(channel) for _ in range(100)]
            refused = rounds = 0
            while refused < 100 - (16 << 20) // PAGE:  # so many must be refused at the least
                rounds += 1
                await work(client, f"t{rounds}")
                refused = sum(call.done() for call in calls)
            assert refused < 100, "what there is room for is held for its reader"
            for call in calls:
                if call.done():
                    assert await ended(call) == "TOO_MANY_CALLS"
                call.cancel()
        async with connections(server.address, 1) as (channel,):
            while await ended(opening(channel)):  # until the server has noticed
                pass
            for _ in range(30):  # who reads is served, one after another, as often as he likes
                call = opening(channel)
                assert await ended(call) == ""
                if opening is state:
                    while (await call.read()).WhichOneof("content") != "synced":
                        pass
                call.cancel()


async def test_messages_of_megabytes(start_server: Callable[..., Any]) -> None:
    """A message of 4 MB is refused for what is wrong in it, one beyond gRPC's limit for its size;
    others are served meanwhile, and nothing is stored.
    """
    async with start_server() as server, Client(server.address) as client:
        await connect(client, "other")

        async def refused(mib: int) -> tuple[grpc.StatusCode, bool, str]:
            request = v1.CreateTaskRequest(title="x", description="x" * (mib << 20))
            with pytest.raises(TaskloomError) as caught:
                await big.tasks.CreateTask(request)
            error = caught.value
            where = " ".join(violation.field for violation in error.field_violations)
            return error.code, error.transient, where

        async with Client(server.address) as big:
            sizes = [4, 9] * 12
            sending = asyncio.gather(*map(refused, sizes))
            for n in range(10):
                await work(client, f"t{n}")
            expected = {
                4: (grpc.StatusCode.INVALID_ARGUMENT, False, "description"),
                9: (grpc.StatusCode.RESOURCE_EXHAUSTED, False, ""),
            }
            assert await sending == [expected[size] for size in sizes]
        tasks = (await client.tasks.ListTasks(v1.ListTasksRequest(page_size=1_000))).tasks
        assert {task.id for task in tasks} == {f"t{n}" for n in range(10)}


async def test_a_rate_far_too_high(start_process: Callable[..., Any]) -> None:
    """Of thousands of calls at once each is done or told to come back; heartbeats are not kept
    out by them. Done is what was answered, and nothing else; then all is served at once.
    """
    server = await start_process(env={"TASKLOOM_MAX_CALLS": str(FEW)})  # which no client slows
    async with Client(server.address) as client:
        await connect(client, "other")
        done = set()
        refused = 0

        async def call(tasks: Any, task_id: str) -> None:
            nonlocal refused
            try:
                await tasks.CreateTask(v1.CreateTaskRequest(id=task_id, title="x"))
            except aio.AioRpcError as error:
                told_to_come_back(error)
                refused += 1
            else:
                done.add(task_id)

        async with connections(server.address, 4) as channels:
            stubs: list[Any] = [v1.TaskServiceStub(channel) for channel in channels]
            flood = asyncio.gather(*(call(stubs[n % 4], f"t{n}") for n in range(CROWD)))
            await until_over(client, flood)
            await flood
            assert refused
            assert len(done) + refused == CROWD
            await asyncio.gather(*(call(stubs[n % 4], f"after{n}") for n in range(FEW)))
            assert len(done) + refused == CROWD + FEW
            assert {f"after{n}" for n in range(FEW)} <= done
        assert set(await all_tasks(client)) == done


async def until_over(client: Client, flood: "asyncio.Future[Any]") -> None:
    """Heartbeats, one after another, until the flood is over; each must be answered."""
    while not flood.done():
        await client.workers.Heartbeat(v1.HeartbeatRequest(worker_id="other"))


async def all_tasks(client: Client) -> list[str]:
    """The ids of all tasks."""
    found: list[str] = []
    token = ""
    while True:
        request = v1.ListTasksRequest(page_size=1_000, page_token=token)
        answer = await client.tasks.ListTasks(request)
        found += [task.id for task in answer.tasks]
        token = answer.next_page_token
        if not token:
            return found
