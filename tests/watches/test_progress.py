"""Bookmarked: the stream says how far it is when it has nothing else to say."""

from datetime import timedelta
from typing import TYPE_CHECKING

from taskloom import v1
from taskloom_client import Client

from tests.watches.life import Busy, create
from tests.watches.streams import until, watching

if TYPE_CHECKING:
    from tests.conftest import Server


async def test_progress_when_idle(server: "Server", client: Client) -> None:
    """While nothing happens the stream says how far it is, in the interval that was asked for."""
    task = await create(client, "t")
    async with watching(client, progress_interval=timedelta(seconds=1)) as stream:
        await anext(stream)
        progress = await anext(stream)
    assert progress.WhichOneof("content") == "progress"
    assert progress.revision == task.revision


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
