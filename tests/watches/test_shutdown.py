"""The server goes: what its watches are told."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from taskloom_client import Client, TaskloomError

from tests.watches.life import create
from tests.watches.streams import heard, told, until, watching


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
