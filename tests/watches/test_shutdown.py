"""The server goes: what its watches are told."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError, Unavailable

from tests.watches.life import create, update
from tests.watches.streams import (
    Message,
    Stream,
    all_of,
    heard,
    told,
    until,
    watching,
    watching_slowly,
)


async def test_shutdown_ends_watches(start_server: Callable[..., Any]) -> None:
    """A server that stops ends its watches as UNAVAILABLE, and says where to resume."""
    async with AsyncExitStack() as stack:
        async with start_server() as server:
            client = await stack.enter_async_context(Client(server.address))
            await create(client, "a")
            idle = await stack.enter_async_context(watching(client, start_revision=1))
            await until(idle, 1)
            future = await stack.enter_async_context(watching(client, start_revision=50))
            await anext(future)
        for stream, revision in ((idle, 1), (future, 49)):
            with pytest.raises(TaskloomError) as caught:
                await anext(stream)
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
            assert caught.value.reason == "SHUTTING_DOWN"
            assert caught.value.metadata["revision"] == str(revision)
            assert caught.value.retry_delay is not None
        async with start_server() as server, Client(server.address) as client:
            task = await create(client, "b")
            messages = await heard(client, task.revision, start_revision=2)
    assert told(messages) == [("TASK_CREATED", "b")]


@pytest.mark.parametrize("small", [0, 250], ids=["a few", "more than is read at a time"])
async def test_what_was_answered_is_told_before_the_end(
    start_server: Callable[..., Any], small: int
) -> None:
    """A watch whose reader reads is told, before it ends, of every verb that was answered before
    the server stopped, also where it was held up until then.
    """
    messages: list[Message] = []

    async def read_after(other: Stream, stream: Stream) -> None:
        with pytest.raises(Unavailable, match="SHUTTING_DOWN"):
            await all_of(other, [])
        await all_of(stream, messages)

    async with AsyncExitStack() as stack:
        async with start_server(shutdown_grace_seconds=20.0) as server:
            client = await stack.enter_async_context(Client(server.address))
            await create(client, "a")
            slow = await stack.enter_async_context(watching_slowly(server.address))
            await anext(slow)
            no_task = v1.WatchFilter(task_ids=["none"])
            idle = await stack.enter_async_context(watching(client, filter=no_task))
            await anext(idle)
            for n in range(6):  # more than a connection takes that is not read from
                last = await update(client, "a", description=f"{n}" + "x" * 60_000)
            for n in range(small):
                last = await update(client, "a", description=f"{n}")
            reading = asyncio.create_task(read_after(idle, slow))
        with pytest.raises(Unavailable) as caught:
            await reading
    assert caught.value.reason == "SHUTTING_DOWN"
    assert caught.value.metadata["revision"] == str(last)
    assert [message.revision for message in messages] == list(range(2, last + 1))
