"""Slow consumers: a watch costs the server a cursor, and what it is just sending.

Measured as what the server's process occupies, with bounds far from what is measured and far from
what it would be if it grew with the lag, the state or the log.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeAlias

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.watches.life import adopt, create, orphan, update
from tests.watches.streams import until, watching, watching_slowly

if TYPE_CHECKING:
    from tests.conftest import ServerProcess

StartProcess: TypeAlias = Callable[..., Awaitable["ServerProcess"]]
CHILDREN = 125


async def plant(client: Client) -> None:
    """A tree of CHILDREN tasks of 8 KB, 1 MB in all, and a task apart."""
    text = "x" * 8_000
    nodes = [v1.TaskNode(id=f"n{n}", title="n", description=text) for n in range(CHILDREN)]
    root = v1.TaskNode(id="root", title="root", children=nodes)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    await create(client, "top")


async def move(client: Client, times: int) -> int:
    """Move the tree below the task and out again, so often; the last revision.

    Each time is two revisions with an event for each task of the tree, 2 MB in all.
    """
    revision = 0
    for _ in range(times):
        await adopt(client, "top", "root")
        revision = await orphan(client, "top", "root")
    return revision


async def memory(server: "ServerProcess") -> int:
    """What the server's process occupies, in bytes."""
    command = ("ps", "-o", "rss=", "-p", str(server.process.pid))
    ps = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await ps.communicate()
    return int(out) * 1024


@pytest.mark.parametrize("behind", [0, 38], ids=["from now", "from the past"])
async def test_memory_does_not_grow_with_the_lag(start_process: StartProcess, behind: int) -> None:
    """Ten watches that nobody reads fall 50 MB behind each, and the server does not grow by a fifth
    of that.

    Those from the past begin so many revisions back, each somewhere else, so that what one is
    stuck in no other is.
    """
    server = await start_process()
    async with Client(server.address) as client, AsyncExitStack() as stack:
        await plant(client)
        revision = await move(client, 24)  # more than what is kept for everybody
        before = await memory(server)
        slow = []
        for _ in range(10):
            start = revision - behind + 1 if behind else 0
            watch = watching_slowly(server.address, start_revision=start)
            slow.append(await stack.enter_async_context(watch))
            await anext(slow[-1])
            if behind:
                await move(client, 4)
        revision = await move(client, 25)
        assert await memory(server) - before < 100e6
        # They were stuck, not lost.
        lag = sum(message.ByteSize() for message in await until(slow[-1], revision))
        assert lag > 50e6


async def test_the_state_that_came_first_is_not_kept(start_process: StartProcess) -> None:
    """A hundred watches that began with a state of 1 MB and are idle occupy less than half of what
    their states do.
    """
    server = await start_process()
    async with Client(server.address) as client, AsyncExitStack() as stack:
        await plant(client)

        async def watch() -> None:
            stream = await stack.enter_async_context(watching(client, include_state=True))
            await until(stream, 1)

        for _ in range(5):
            await watch()
        before = await memory(server)
        for _ in range(100):
            await watch()
        assert await memory(server) - before < 50e6


async def test_recent_events_are_kept_by_size(start_process: StartProcess) -> None:
    """What is kept for watches that keep up is bounded by its size, not by its number alone."""
    server = await start_process()
    async with Client(server.address) as client:
        await create(client, "a")
        for n in range(400):
            await update(client, "a", description=f"{n}" + "x" * 60_000)
        before = await memory(server)
        for n in range(1_000):  # 60 MB
            await update(client, "a", description=f"{n}" + "x" * 60_000)
        assert await memory(server) - before < 30e6
