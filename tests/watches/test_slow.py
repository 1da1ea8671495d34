"""Slow consumers: who does not read costs a cursor, and slows nobody."""

from typing import TYPE_CHECKING

from taskloom_client import Client

from tests.watches.life import create, update
from tests.watches.streams import until, watching

if TYPE_CHECKING:
    from tests.conftest import Server


async def test_a_slow_watch_slows_nobody(server: "Server", client: Client) -> None:
    """Who does not read holds nobody up, and finds every revision there when he does."""
    await create(client, "a")
    async with watching(client) as slow:
        await anext(slow)
        for n in range(250):  # some 15 MB, far more than gRPC would keep for a reader
            last = await update(client, "a", description=f"{n}" + "x" * 60_000)
        messages = await until(slow, last)
    assert [message.revision for message in messages] == list(range(2, last + 1))
