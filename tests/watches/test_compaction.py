"""Compacted: history that is gone is said to be gone, and never silently skipped.

What is compacted, and when, is tested in ../test_compaction.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, HistoryLost

from tests.watches.life import create, update
from tests.watches.streams import all_of, heard, until, watching, watching_slowly, wire

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

LAST = 1_601


async def fill(client: Client) -> None:
    """Write LAST revisions of some 2 KB, all but the first of them updates of one task."""

    async def write(writer: int) -> None:
        for n in range(100):
            await update(client, "a", description=f"{writer}-{n}" + "x" * 2_000)

    await create(client, "a")
    await asyncio.gather(*(write(writer) for writer in range(16)))


async def compact(client: Client, clock: "TestClock") -> int:
    """Let time pass until most of the history is gone; the oldest revision kept."""
    oldest = 0
    while oldest < 1_200:
        clock.advance(60_000)
        oldest = (await client.admin.GetStatus(v1.GetStatusRequest())).oldest_revision
    return oldest


@pytest.fixture
async def restarted(
    start_server: Callable[..., Any], clock: "TestClock"
) -> AsyncIterator["Server"]:
    """A server with a history that is in its file and not in its memory, most of it to go."""
    async with start_server(clock=clock) as server, Client(server.address) as client:
        await fill(client)
    async with start_server(clock=clock, history_revisions=50) as server:
        yield server


async def test_compaction_while_a_watch_reads(restarted: "Server", clock: "TestClock") -> None:
    """A watch that is overtaken tells each revision up to where it knows them, and then that the
    rest is gone: it does not go on behind the gap.
    """
    async with (
        Client(restarted.address) as client,
        watching_slowly(restarted.address, start_revision=1) as stream,
    ):
        await anext(stream)
        messages = await until(stream, 1)
        oldest = await compact(client, clock)
        with pytest.raises(HistoryLost) as caught:
            await all_of(stream, messages)
    assert caught.value.code is grpc.StatusCode.OUT_OF_RANGE
    assert caught.value.reason == "REVISION_COMPACTED"
    assert caught.value.metadata["oldest_revision"] == str(oldest)
    revisions = [message.revision for message in messages]
    assert revisions == list(range(1, revisions[-1] + 1))
    assert revisions[-1] < oldest - 1


async def test_history_begins_at_the_oldest_revision(
    restarted: "Server", clock: "TestClock"
) -> None:
    """From the oldest revision kept a stream is what it was before; from any earlier one there is
    no stream.
    """
    async with Client(restarted.address) as client:
        whole = await heard(client, LAST, start_revision=1)
        oldest = await compact(client, clock)
        kept = await heard(client, LAST, start_revision=oldest)
        assert wire(kept) == wire(whole)[oldest - 1 :]
        for start in (oldest - 1, oldest // 2, 1):
            async with watching(client, start_revision=start) as stream:
                assert (await anext(stream)).HasField("created")
                with pytest.raises(HistoryLost) as caught:
                    await anext(stream)
            assert caught.value.reason == "REVISION_COMPACTED"
            assert caught.value.metadata["oldest_revision"] == str(oldest)


async def test_compaction_is_not_noticed_by_those_who_keep_up(
    restarted: "Server", clock: "TestClock"
) -> None:
    """Watches of what is not gone go on over a compaction without a gap, filtered or not, and one
    that begins with the state needs no history.
    """
    async with (
        Client(restarted.address) as client,
        watching(client) as live,
        watching(client, start_revision=LAST - 20) as near,
        watching(client, filter=v1.WatchFilter(task_ids=["a"])) as filtered,
    ):
        for stream in (live, near, filtered):
            await anext(stream)
        await compact(client, clock)
        for n in range(5):
            last = await update(client, "a", priority=n)
        for stream, first in ((live, LAST + 1), (near, LAST - 20), (filtered, LAST + 1)):
            messages = await until(stream, last)
            assert [message.revision for message in messages] == list(range(first, last + 1))
        async with watching(client, include_state=True) as stream:
            messages = await until(stream, 1)
        assert messages[-1].revision == last


async def test_a_client_is_told_that_it_came_too_late(
    start_server: Callable[..., Any], clock: "TestClock"
) -> None:
    """The client's watch, whose next revision went while nobody read it, ends by HistoryLost."""
    async with start_server(clock=clock) as server:
        client = Client(server.address)
        watch = client.watch()
        assert (await anext(watch)).HasField("created")
        reading = asyncio.create_task(anext(watch, None))
        await create(client, "first")
        assert await reading is not None
        reading = asyncio.create_task(anext(watch, None))
        await asyncio.sleep(0)
        reading.cancel()  # which gives up the stream as well, to be resumed by the next reader
        await fill(client)
    address = server.address
    async with start_server(clock=clock, history_revisions=50, listen=address), client:
        async with Client(address) as other:
            oldest = await compact(other, clock)
        with pytest.raises(HistoryLost) as caught:
            await anext(watch)
    assert watch.revision == 1
    assert caught.value.reason == "REVISION_COMPACTED"
    assert caught.value.metadata["oldest_revision"] == str(oldest)
