"""The client's watch on a real server: cut anywhere, its reader cannot tell.

What it does with each kind of break is tested with a scripted server, in ../client/test_watch.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio
from taskloom import v1
from taskloom.v1 import watch_service_pb2_grpc
from taskloom_client import Client, Watch

from tests.watches.life import create, live, update
from tests.watches.streams import Message

if TYPE_CHECKING:
    from tests.conftest import Server


class Relay(watch_service_pb2_grpc.WatchServiceServicer):
    """Passes watches on to a server; the first is cut after so many messages."""

    def __init__(self, client: Client, cut: int) -> None:
        self._client = client
        self._cut: int | None = cut

    async def WatchTasks(
        self, request: v1.WatchTasksRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Message]:
        """See watch_service.proto."""
        left, self._cut = self._cut, None
        call = self._client.watches.WatchTasks(request)
        context.add_done_callback(lambda _: call.cancel())  # type: ignore[arg-type]
        messages = aiter(call)
        while left != 0:
            yield await anext(messages)
            left = None if left is None else left - 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")


@asynccontextmanager
async def relayed(client: Client, cut: int) -> AsyncIterator[Client]:
    """A client by way of a Relay."""
    server = aio.server()
    watch_service_pb2_grpc.add_WatchServiceServicer_to_server(Relay(client, cut), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Client(f"127.0.0.1:{port}") as through:
            yield through
    finally:
        await server.stop(None)


async def read(watch: Watch, revision: int) -> list[bytes]:
    """The messages up to a revision, as bytes."""
    messages = []
    while watch.revision < revision:
        messages.append((await anext(watch)).SerializeToString(deterministic=True))
    return messages


async def plant(client: Client, count: int) -> int:
    """A tree whose creation is a revision of 2 * count + 1 events; the revision."""
    children = [v1.TaskNode(id=f"n{n}", title="n") for n in range(count)]
    root = v1.TaskNode(id="tree", title="tree", children=children)
    return (await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))).revision


async def test_cut_after_every_message(server: "Server", client: Client) -> None:
    """A watch that was cut after any message on the wire, also between the parts of a revision,
    is read in the same bytes as one that was not.
    """
    await live(client)
    await plant(client, 505)
    last = await update(client, "n7", priority=1)
    async with asyncio.timeout(60), client.watch(start_revision=1) as watch:
        whole = await read(watch, last)
    assert len(whole) == 1 + last

    async def cut_after(messages: int) -> None:
        async with relayed(client, messages) as through, through.watch(start_revision=1) as watch:
            assert await read(watch, last) == whole
            assert watch.resumes == 1

    on_the_wire = 1 + last + 2
    async with asyncio.timeout(60):
        await asyncio.gather(*(cut_after(messages) for messages in range(1, on_the_wire)))


async def test_cut_in_the_state(server: "Server", client: Client) -> None:
    """A watch that begins with the state is read as if it were not cut, wherever it is cut: the
    state whole and once, and after it every revision.
    """
    last = await plant(client, 1_100)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(60))
        clients = [await stack.enter_async_context(relayed(client, cut)) for cut in range(1, 8)]
        watches = [
            await stack.enter_async_context(each.watch(include_state=True))
            for each in (client, *clients)
        ]
        states = await asyncio.gather(*(read(watch, last) for watch in watches))
        for n in range(3):
            last = (await create(client, f"later{n}")).revision
        rests = await asyncio.gather(*(read(watch, last) for watch in watches))
        assert [watch.resumes for watch in watches] == [0, *(1 for _ in clients)]
    assert len(states[0]) == 1 + 3 + 1
    assert all(state == states[0] for state in states)
    assert len(rests[0]) == 3
    assert all(rest == rests[0] for rest in rests)
