"""Slow consumers: who does not read slows nobody.

gRPC's own flow control holds the server up once a reader's window is full. That window, and what
the kernel keeps beside it, grow to some 5 MB, and stay at 90 KB for one of `watching_slowly`; so
much of a lag is on its way, and the rest is in the log alone. See test_memory.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from taskloom_client import Client

from tests.watches.life import create, update
from tests.watches.streams import until, watching, watching_slowly, wire

if TYPE_CHECKING:
    from tests.conftest import Server


async def test_a_slow_watch_slows_nobody(server: "Server", client: Client) -> None:
    """A hundred who read have everything while one has not read any of it, who finds it there
    when he does, in the same bytes.
    """
    await create(client, "a")
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(watching_slowly(server.address))
        await anext(slow)
        fast = [await stack.enter_async_context(watching(client)) for _ in range(100)]
        for stream in fast:
            await anext(stream)
        for n in range(100):  # 10 times as much as the slow one has a window for
            last = await update(client, "a", description=f"{n}" + "x" * 10_000)
        heard = await asyncio.gather(*(until(stream, last) for stream in fast))
        whole = wire(heard[0])
        assert len(whole) == 100
        assert all(wire(messages) == whole for messages in heard)
        assert wire(await until(slow, last)) == whole


async def test_a_slow_watch_slows_no_neighbour(server: "Server", client: Client) -> None:
    """Who reads one of two watches of one connection is not held up by the other, nor are calls."""
    await create(client, "a")
    async with watching(client) as slow, watching(client) as fast:
        await anext(slow)
        await anext(fast)
        for n in range(250):  # some 15 MB, thrice as much as gRPC keeps for a reader
            last = await update(client, "a", description=f"{n}" + "x" * 60_000)
        heard = await until(fast, last)
        assert len(heard) == 250
        assert wire(await until(slow, last)) == wire(heard)
