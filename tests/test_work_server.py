"""The Work stream: what ends it from the server's side, and what a restart makes of it."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.calls import (
    claim,
    connect,
    create,
    disconnect,
    duration,
    event,
    heartbeat,
    show,
    show_worker,
)
from tests.work_streams import WorkStream, opened, working

if TYPE_CHECKING:
    from tests.conftest import TestClock

LEASE = 60_000
GRACE = 10_000
"""Of every worker and stream here, in ms."""
EXPIRED = v1.EVENT_TYPE_TASK_LEASE_EXPIRED


async def ended(stream: WorkStream) -> TaskloomError:
    """The refusal that ends a stream, which must not be long in coming."""
    async with asyncio.timeout(3):
        return await stream.end()


async def reset(client: Client) -> None:
    """Delete everything."""
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))


@pytest.mark.parametrize("credit", [0, 1], ids=["without credit", "with credit"])
async def test_disconnect_ends_the_streams(client: Client, credit: int) -> None:
    """A worker that disconnects has no stream any more; those of others go on."""
    await connect(client, "w", "other")
    async with (
        working(client, "w", credit=credit) as first,
        working(client, "w", credit=credit) as second,
        working(client, "other", credit=1) as other,
    ):
        await other.waiting()
        await disconnect(client, "w")
        for stream in (first, second):
            error = await ended(stream)
            assert (error.code.name, error.reason) == ("NOT_FOUND", "WORKER_NOT_FOUND")
        await other.quiet()


@pytest.mark.parametrize("credit", [0, 1], ids=["without credit", "with credit"])
async def test_reset_ends_the_streams(client: Client, credit: int) -> None:
    """After a Reset nobody is connected, so every stream ends."""
    await connect(client, "w")
    async with working(client, "w", credit=credit) as stream:
        await reset(client)
        error = await ended(stream)
        assert (error.code.name, error.reason) == ("NOT_FOUND", "WORKER_NOT_FOUND")


async def test_scope_that_is_reset_ends_the_stream(client: Client) -> None:
    """A stream below a task that is gone for good ends, though its worker is back."""
    await connect(client, "w")
    await create(client, "top")
    async with working(client, "w", credit=1, parent_id="top") as stream:
        await stream.waiting()
        await reset(client)
        assert (await ended(stream)).reason in ("WORKER_NOT_FOUND", "TASK_NOT_FOUND")


async def test_no_grace_for_who_disconnected(timed_client: Client) -> None:
    """The break of a stream says nothing of a worker that has gone, nor when it is back."""
    await connect(timed_client, "w")
    async with working(timed_client, "w", credit=1) as stream:
        await disconnect(timed_client, "w")
        await ended(stream)
    await connect(timed_client, "other")  # behind what the server does of the end
    assert not (await show_worker(timed_client, "w")).HasField("grace_expire_time")
    await connect(timed_client, "w")
    await heartbeat(timed_client, "w")
    assert not (await show_worker(timed_client, "w")).HasField("grace_expire_time")


# The server stops


async def test_stop_ends_streams_at_once(
    start_server: Callable[..., Any], clock: "TestClock"
) -> None:
    """A server that stops tells every stream so, and waits for none: whatever it is doing."""
    async with AsyncExitStack() as stack:
        # Whoever waited for a stream would wait for its grace, a minute.
        server = await stack.enter_async_context(
            start_server(clock=clock, shutdown_grace_seconds=60)
        )
        client = Client(server.address)
        await connect(client, "idle", "waiting", "holding", lease=duration(LEASE))
        async with (
            working(client, "idle") as idle,
            working(client, "waiting", credit=1) as waiting,
            working(client, "holding", credit=1) as holding,
        ):
            await waiting.waiting()
            await holding.waiting()
            await create(client, "a")
            await waiting.assigned()
            await create(client, "b")
            await holding.assigned()
            async with asyncio.timeout(30):
                ends = [asyncio.create_task(each.end()) for each in (idle, waiting, holding)]
                await stack.aclose()
                for end in ends:
                    error = await end
                    assert (error.code.name, error.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
                    assert error.retry_delay is not None
        await client.close()


async def test_no_grace_runs_after_a_stop(
    start_server: Callable[..., Any], clock: "TestClock"
) -> None:
    """A claim outlives the server, for its lease, though the stream ended with the server."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(start_server(clock=clock))
        client = Client(server.address)
        await connect(client, "w", lease=duration(LEASE))
        await create(client, "a")
        await claim(client, "w", "a")
        async with working(client, "w", grace=duration(GRACE)) as stream:
            end = asyncio.create_task(stream.end())
            await stack.aclose()
            assert (await end).reason == "SHUTTING_DOWN"
        await client.close()
    async with start_server(clock=clock) as server, Client(server.address) as client:
        assert not (await show_worker(client, "w")).HasField("grace_expire_time")
        later = v1.CreateTaskRequest(id="later", title="x", needed_tags=["nobody-has-this"])
        later.not_before.FromMilliseconds(clock.now() + LEASE - 1)
        await client.tasks.CreateTask(later)
        clock.advance(LEASE - 1)
        await event(client, v1.EVENT_TYPE_TASK_READY, "later")
        assert (await show(client, "a")).worker_id == "w"
        clock.advance(1)
        assert "lease" in (await event(client, EXPIRED, "a")).reason


async def test_grace_outlives_the_server(
    start_server: Callable[..., Any], clock: "TestClock"
) -> None:
    """A grace that began before a restart goes on after it, and ends at its time."""
    async with start_server(clock=clock) as server, Client(server.address) as client:
        await connect(client, "w", lease=duration(LEASE))
        await create(client, "a")
        await claim(client, "w", "a")
        async with working(client, "w", grace=duration(GRACE)):
            pass
        while not (await show_worker(client, "w")).HasField("grace_expire_time"):
            pass
        clock.advance(1_000)
    async with start_server(clock=clock) as server, Client(server.address) as client:
        assert (await show_worker(client, "w")).HasField("grace_expire_time")
        clock.advance(GRACE - 1_001)
        assert (await show(client, "a")).worker_id == "w"
        clock.advance(1)
        assert "stream" in (await event(client, EXPIRED, "a")).reason


async def test_no_stream_begins_while_the_server_stops(start_server: Callable[..., Any]) -> None:
    """A stream that was opened, and not started, does not hold the server up either."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(start_server(shutdown_grace_seconds=60))
        client = Client(server.address)
        await connect(client, "w")
        async with opened(client) as stream:
            await stream.call.wait_for_connection()
            async with asyncio.timeout(5):
                end = asyncio.create_task(stream.end())
                await stack.aclose()
                # gRPC itself ends a call as CANCELLED that comes in the very instant of the stop.
                assert (await end).code.name in ("UNAVAILABLE", "CANCELLED")
        await client.close()
