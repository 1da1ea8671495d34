"""Resumable: taken up anywhere, a stream carries byte for byte what the unbroken one would have."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client

from tests.watches.life import claim, connect, create, live, live_on, update
from tests.watches.streams import (
    Message,
    events_of,
    heard,
    name_of,
    told,
    until,
    watching,
    wire,
)

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock


@dataclass(frozen=True)
class Lived:
    """A life that is over, and all that was told of it while it went on, ``created`` left out."""

    client: Client
    incarnation: str
    whole: list[Message]


@pytest.fixture(params=["memory", "table"])
async def lived(
    start_server: Callable[..., Any], request: pytest.FixtureRequest
) -> AsyncIterator[Lived]:
    """A life with every kind of event and a revision in three parts, which is still in the server's
    memory, or, after a restart, in its file alone.
    """
    async with AsyncExitStack() as stack:
        async with start_server() as server, Client(server.address) as client:
            stream = await stack.enter_async_context(watching(client, start_revision=1))
            incarnation = (await anext(stream)).created.incarnation
            await live(client)
            children = [v1.TaskNode(id=f"n{n}", title="n") for n in range(505)]
            tree = v1.TaskNode(id="tree", title="tree", children=children)
            await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=tree))
            await update(client, "n7", priority=1)
            whole = await until(stream, await connect(client, "eve"))
            if request.param == "memory":
                yield Lived(client, incarnation, whole)
                return
        async with start_server() as server, Client(server.address) as client:
            yield Lived(client, incarnation, whole)


async def test_cut_after_every_message(lived: Lived) -> None:
    """A stream cut after any message, and taken up after the revision last heard of, goes on byte
    for byte as the uncut one: also where the cut is between the parts of a revision, which
    then comes anew from its first part.
    """
    last = lived.whole[-1].revision
    assert sum(message.events.more for message in lived.whole) == 2
    for cut in range(len(lived.whole) + 1):
        async with watching(lived.client, start_revision=1) as stream:
            await anext(stream)
            messages = [await anext(stream) for _ in range(cut)]
        while messages and messages[-1].revision == 0:
            messages.pop()
        revision = messages[-1].revision if messages else 0
        messages += await heard(
            lived.client, last, start_revision=revision + 1, incarnation=lived.incarnation
        )
        assert wire(messages) == wire(lived.whole)


async def test_resume_at_every_revision(lived: Lived) -> None:
    """A stream that begins at any revision carries byte for byte what one from the first did."""
    by_revision: dict[int, list[bytes]] = {}
    parts: list[Message] = []
    for message in lived.whole:
        parts.append(message)
        if message.revision:
            by_revision[message.revision] = wire(parts)
            parts = []
    last = lived.whole[-1].revision
    assert list(by_revision) == list(range(1, last + 1))
    for start in by_revision:
        rest = [part for number in range(start, last + 1) for part in by_revision[number]]
        assert wire(await heard(lived.client, last, start_revision=start)) == rest


@pytest.mark.parametrize(
    "filter",
    [
        pytest.param(
            v1.WatchFilter(tags=["a", "z"], statuses=["pending", "completed"]), id="states and tags"
        ),
        pytest.param(v1.WatchFilter(subtree_of="root", statuses=["pending"]), id="subtree"),
        pytest.param(v1.WatchFilter(event_types=[v1.EVENT_TYPE_TASK_CREATED]), id="types"),
    ],
)
async def test_resume_of_a_filtered_stream(
    server: "Server", client: Client, filter: v1.WatchFilter
) -> None:
    """With a filter, too, what is told from a revision on does not hang on where one began."""
    await live(client)
    last = (await create(client, "end", parent_id="root", tags=["a"])).revision
    whole = await heard(client, last, start_revision=1, filter=filter)
    assert len(whole) > 3
    for start in range(1, last + 1):
        resumed = await heard(client, last, start_revision=start, filter=filter)
        assert wire(resumed) == wire(m for m in whole if m.revision >= start)


async def test_memory_and_table_tell_the_same(
    start_server: Callable[..., Any], clock: "TestClock"
) -> None:
    """What was told live, from memory, is told by a server that must read it from the table."""
    async with (
        start_server(clock=clock) as server,
        Client(server.address) as client,
        watching(client, start_revision=1) as stream,
    ):
        await anext(stream)
        await connect(client, "slow", lease=Duration(seconds=60))
        await create(client, "leased")
        await claim(client, "slow", "leased")
        clock.advance(61_000)
        await live(client)
        last = await live_on(client)
        from_memory = await until(stream, last)
    async with start_server(clock=clock) as server, Client(server.address) as client:
        from_table = await heard(client, last, start_revision=1)
    assert wire(from_table) == wire(from_memory)
    kinds = {name_of(event) for event in events_of(from_table)}
    everything = {name.removeprefix("EVENT_TYPE_") for name in v1.EventType.keys()}  # noqa: SIM118
    assert everything - kinds == {"UNSPECIFIED", "TASK_LISTED"}


async def test_far_behind_and_live_meet(server: "Server", client: Client) -> None:
    """A watch that begins further back than memory reaches goes over to it without a seam."""
    nodes = [v1.TaskNode(id=f"n{n}", title="n") for n in range(4_900)]
    await create(client, "early")
    for root in ("one", "two"):
        for node in nodes:
            node.id = f"{root}-{node.id}"
        tree = v1.TaskNode(id=root, title=root, children=nodes)
        await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=tree))
    # Each tree has some 9,800 events, so with the second the first is not in memory any more.
    async with watching(client, start_revision=1) as stream:
        await anext(stream)
        messages = await until(stream, 3)
        last = (await create(client, "late")).revision
        messages += await until(stream, last)
    # On either side of the seam, and on it.
    for start, parts in ((2, 41), (3, 21), (4, 1)):
        resumed = await heard(client, last, start_revision=start)
        assert wire(resumed) == wire(messages)[-parts:]
    assert [m.revision for m in messages if m.revision] == [1, 2, 3, 4]
    created = [id for name, id in told(messages) if name == "TASK_CREATED"]
    assert len(created) == len(set(created)) == 2 + 2 * 4_901
    assert (created[0], created[-1]) == ("early", "late")
