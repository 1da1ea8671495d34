"""How many watches there may be at once, apart from how many calls."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.calls import import_held
from tests.watches.life import create, update
from tests.watches.streams import Stream, watching


async def refusal_of(stream: Stream) -> str:
    """The reason for which a watch is refused; empty when it is not."""
    try:
        await anext(stream)
    except TaskloomError as error:
        return error.reason
    return ""


async def open_when_there_is_room(stack: AsyncExitStack, client: Client, **request: Any) -> None:
    """Open a watch, as often as it takes for the server to notice that another one went."""
    reason = "TOO_MANY_WATCHES"
    while reason:
        assert reason == "TOO_MANY_WATCHES"
        stream = await stack.enter_async_context(watching(client, **request))
        reason = await refusal_of(stream)


@pytest.mark.parametrize("start", [0, 1], ids=["idle", "stuck in sending"])
async def test_cancelled_watches_make_room(start_server: Callable[..., Any], start: int) -> None:
    """A watch that its client gave up makes room for another one, and nothing else does."""
    async with start_server(max_watches=1) as server, Client(server.address) as client:
        await create(client, "a")
        for n in range(120 * start):  # more than a stream keeps for a reader who does not come
            await update(client, "a", description=f"{n}" + "x" * 60_000)
        for _ in range(4):
            async with AsyncExitStack() as stack:
                await open_when_there_is_room(stack, client, start_revision=start)
                async with watching(client) as second:
                    with pytest.raises(TaskloomError) as caught:
                        await anext(second)
                assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert caught.value.reason == "TOO_MANY_WATCHES"
                assert caught.value.retry_delay


async def test_refused_watches_take_no_room(start_server: Callable[..., Any]) -> None:
    """Watches that were refused leave the limit where it was: neither tighter nor wider."""
    async with start_server(max_watches=1) as server, Client(server.address) as client:
        for _ in range(5):
            async with watching(client, start_revision=-1) as bad:
                assert await refusal_of(bad) in {"INVALID_FIELD", "TOO_MANY_WATCHES"}
        async with AsyncExitStack() as stack:
            await open_when_there_is_room(stack, client)
            for _ in range(5):
                async with watching(client) as refused:
                    assert await refusal_of(refused) == "TOO_MANY_WATCHES"


async def test_calls_go_on_when_watches_are_many(start_server: Callable[..., Any]) -> None:
    """Watches at their limit keep no other call out."""
    async with (
        start_server(max_watches=3, max_calls=1) as server,
        Client(server.address) as client,
        AsyncExitStack() as stack,
    ):
        for _ in range(3):
            stream = await stack.enter_async_context(watching(client))
            await anext(stream)
        for n in range(10):
            await create(client, f"t{n}")


async def refusal_of_status(client: Client) -> TaskloomError | None:
    """Why GetStatus is refused; None when it is not."""
    try:
        await client.admin.GetStatus(v1.GetStatusRequest())
    except TaskloomError as error:
        return error
    return None


async def test_watches_go_on_when_calls_are_many(start_server: Callable[..., Any]) -> None:
    """Calls at their limit keep no watch out, and are themselves told to come back."""
    async with start_server(max_calls=1) as server, Client(server.address) as client:
        held, error = await import_held(client)
        refused: TaskloomError | None = error
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.reason == "TOO_MANY_CALLS"
        assert error.retry_delay
        async with watching(client, include_state=True) as stream:
            assert await refusal_of(stream) == ""
        held.cancel()
        while refused is not None:  # until the server has noticed
            assert refused.reason == "TOO_MANY_CALLS"
            refused = await refusal_of_status(client)
