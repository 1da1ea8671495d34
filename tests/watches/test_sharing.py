"""What is told to many is made once."""

from contextlib import AsyncExitStack

import pytest
from taskloom import v1
from taskloom_client import Client
from taskloom_server.coordinator import watches
from taskloom_server.graph.events import Revision

from tests.watches.life import connect, create
from tests.watches.streams import watching

ALIKE = 20


async def test_those_who_watch_alike_are_told_from_one_making(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revision goes through a filter once, however many have it, and once for each other one."""
    made: list[tuple[str, int]] = []
    passing = watches.passing

    def counted(watched: watches.Watched, revision: Revision) -> list[watches.Passed]:
        made.append(("".join(watched.tags), revision.number))
        return passing(watched, revision)

    monkeypatch.setattr(watches, "passing", counted)
    async with AsyncExitStack() as stack:
        streams = []
        for tag in [""] * ALIKE + ["red"] * ALIKE:
            only = v1.WatchFilter(tags=[tag] if tag else [])
            streams.append(await stack.enter_async_context(watching(client, filter=only)))
            await anext(streams[-1])
        await create(client, "a", tags=["red"])
        told = [await anext(stream) for stream in streams]
    number = told[0].revision
    assert sorted(made) == [("", number), ("red", number)]
    assert all(message == told[0] for message in told)
    assert [event.task_id for event in told[0].events.events] == ["a"]


async def test_those_with_the_same_tags_watch_alike(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is ready for workers goes through a filter once for all who have the same tags."""
    made: list[frozenset[str]] = []
    passing = watches.passing

    def counted(watched: watches.Watched, revision: Revision) -> list[watches.Passed]:
        made.append(watched.worker_tags)
        return passing(watched, revision)

    monkeypatch.setattr(watches, "passing", counted)
    async with AsyncExitStack() as stack:
        streams = []
        for n in range(2 * ALIKE):
            worker_id, tags = f"w{n}", ["red"] if n % 2 else ["red", "blue"]
            await connect(client, worker_id, tags=tags)
            only = v1.WatchFilter(ready_for=worker_id)
            streams.append(await stack.enter_async_context(watching(client, filter=only)))
            await anext(streams[-1])
        await create(client, "a", needed_tags=["red"])
        told = [await anext(stream) for stream in streams]
    assert sorted(map(len, made)) == [1, 2]
    assert all([event.task_id for event in one.events.events] == ["a"] for one in told)
