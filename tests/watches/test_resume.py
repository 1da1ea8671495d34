"""Resumable: taken up anywhere, a stream carries byte for byte what the unbroken one would have."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client

from tests.watches.life import claim, connect, create, live
from tests.watches.streams import events_of, heard, name_of, told, until, watching, wire

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock


async def test_resume_at_every_revision(server: "Server", client: Client) -> None:
    """A stream resumed at any revision carries byte for byte what the unbroken one did."""
    async with watching(client, start_revision=1) as unbroken:
        await anext(unbroken)
        last = await live(client)
        whole = wire(await until(unbroken, last))
    assert len(whole) == last
    for start in range(1, last + 1):
        assert wire(await heard(client, last, start_revision=start)) == whole[start - 1 :]


async def test_resume_of_a_filtered_stream(server: "Server", client: Client) -> None:
    """With a filter, too, what is told from a revision on does not hang on where one began."""
    filter = v1.WatchFilter(tags=["a", "z"], statuses=["pending", "completed"])
    last = await live(client)
    await create(client, "end", tags=["a"])
    whole = await heard(client, last + 1, start_revision=1, filter=filter)
    assert len(whole) > 3
    for start in range(1, last + 2):
        resumed = await heard(client, last + 1, start_revision=start, filter=filter)
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
        last = await live(client)
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
    assert [m.revision for m in messages if m.revision] == [1, 2, 3, 4]
    created = [id for name, id in told(messages) if name == "TASK_CREATED"]
    assert len(created) == len(set(created)) == 2 + 2 * 4_901
    assert (created[0], created[-1]) == ("early", "late")
