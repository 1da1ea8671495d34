"""Bookmarked: the stream says how far it is when it has nothing else to say."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.watches.life import Busy, create
from tests.watches.streams import Message, heard, until, watching, wire

if TYPE_CHECKING:
    from tests.conftest import Server


async def test_progress_when_idle(server: "Server", client: Client) -> None:
    """Once nothing happens any more the stream says so, in the interval that was asked for.

    It does not say it again and again: at rest a watch costs a message in 30 s.
    """
    async with watching(client, progress_interval=timedelta(seconds=1)) as stream:
        await anext(stream)
        task = await create(client, "t")
        await anext(stream)
        progress = await anext(stream)
        assert progress.WhichOneof("content") == "progress"
        assert progress.revision == task.revision
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await anext(stream)


async def test_progress_when_all_is_filtered_away(server: "Server", client: Client) -> None:
    """Progress goes on where others write without pause and nothing of it matches."""
    filter = v1.WatchFilter(task_ids=["none"])
    busy = Busy(client, writers=2)
    second = timedelta(seconds=1)
    async with watching(client, filter=filter, progress_interval=second) as stream:
        created = await anext(stream)
        progress = await anext(stream)
        await busy.stop()
    assert progress.WhichOneof("content") == "progress"
    assert progress.revision > created.revision


async def test_progress_is_a_place_to_resume(server: "Server", client: Client) -> None:
    """After a progress message nothing up to its revision is told any more."""
    second = timedelta(seconds=1)
    await create(client, "t")
    async with watching(client, progress_interval=second, start_revision=1) as stream:
        messages = [await anext(stream) for _ in range(3)]
        task = await create(client, "u")
        messages += await until(stream, task.revision)
    assert [m.WhichOneof("content") for m in messages] == [
        "created",
        "events",
        "progress",
        "events",
    ]
    assert [message.revision for message in messages] == [0, 1, 1, 2]


async def test_progress_tells_of_what_was_filtered_away(server: "Server", client: Client) -> None:
    """Where nothing matches any more, progress goes up to the last revision there is."""
    filter = v1.WatchFilter(tags=["mine"])
    async with watching(client, filter=filter, progress_interval=timedelta(seconds=1)) as stream:
        await anext(stream)
        for n in range(20):
            last = (await create(client, f"other{n}")).revision
        messages = await until(stream, last)
    assert {message.WhichOneof("content") for message in messages} == {"progress"}
    assert messages[-1].revision == last


async def test_progress_is_in_the_order_of_events(server: "Server", client: Client) -> None:
    """Events are never of a revision that a progress message has passed, and the other way round.

    While others write without pause, and for each message that is a place to resume.
    """
    filter = v1.WatchFilter(tags=["mine"])
    busy = Busy(client, writers=2)
    messages: list[Message] = []
    mine = []
    second = timedelta(seconds=1)
    async with watching(client, filter=filter, progress_interval=second) as stream:
        await anext(stream)
        for n in range(3):
            messages.append(await anext(stream))
            assert messages[-1].WhichOneof("content") == "progress"
            mine.append((await create(client, f"mine{n}", tags=["mine"])).revision)
            messages += await until(stream, mine[-1])
        await busy.stop()
    events = [message for message in messages if message.HasField("events")]
    assert [message.revision for message in events] == mine
    far = 0
    for message in messages:
        assert message.revision > far if message.HasField("events") else message.revision >= far
        far = message.revision
        if far < mine[-1]:
            rest = await heard(client, mine[-1], start_revision=far + 1, filter=filter)
            assert wire(rest) == wire(each for each in events if each.revision > far)
