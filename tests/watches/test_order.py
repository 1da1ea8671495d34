"""Ordered, unique, complete and atomic: every revision once, in order, and each in one piece."""

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.watches.life import Busy, claim, complete, connect, create, revision_of, update
from tests.watches.streams import Message, Told, events_of, heard, told, until, watching, wire

if TYPE_CHECKING:
    from tests.conftest import Server


async def test_everybody_hears_the_same(server: "Server", client: Client) -> None:
    """Watches begun at any time while others write tell each revision once, in equal bytes."""
    async with AsyncExitStack() as stack:
        busy = Busy(client, writers=4)
        streams = []
        for start in (1, 1, 40, 0, 0):
            await busy.written(15)
            stream = await stack.enter_async_context(watching(client, start_revision=start))
            streams.append((await anext(stream), stream))
        await busy.stop()
        last = await revision_of(client)
        whole = wire(await heard(client, last, start_revision=1))
        assert len(whole) == last
        for created, stream in streams:
            messages = await until(stream, last)
            assert wire(messages) == whole[created.revision :]


async def test_the_stream_is_what_was_answered(server: "Server", client: Client) -> None:
    """Each answered verb is one revision of the stream, all its events and no other in it.

    However many are committed at once, and nothing else is told.
    """
    await create(client, "top")
    await create(client, "gate", parent_id="top")

    async def write(writer: int) -> dict[int, list[Told]]:
        answered = {}
        for n in range(12):
            id = f"w{writer}-{n}"
            request = v1.CreateTaskRequest(id=id, title=id, parent_id="top", blocked_by=["gate"])
            revision = (await client.tasks.CreateTask(request)).revision
            answered[revision] = [
                ("TASK_CREATED", id),
                ("DEPENDENCY_ADDED", id),
                ("DEPENDENCY_ADDED", id),
            ]
            revision = await update(client, id, priority=1)
            answered[revision] = [("TASK_UPDATED", id)]
        return answered

    async with watching(client) as stream:
        created = await anext(stream)
        written = await asyncio.gather(*(write(writer) for writer in range(12)))
        answered = {revision: told for each in written for revision, told in each.items()}
        assert len(answered) == 12 * 12 * 2
        messages = await until(stream, max(answered))
    assert [message.revision for message in messages] == sorted(answered)
    assert messages[0].revision == created.revision + 1
    for message in messages:
        assert told([message]) == answered[message.revision]
        assert not message.events.more


async def test_nothing_comes_between_the_parts(server: "Server", client: Client) -> None:
    """The parts of a large revision follow each other, whatever else is committed meanwhile."""

    async def plant(root: str) -> None:
        children = [v1.TaskNode(id=f"{root}-{n}", title="n") for n in range(600)]
        node = v1.TaskNode(id=root, title=root, children=children)
        await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=node))

    async with watching(client) as stream:
        await anext(stream)
        busy = Busy(client, writers=4)
        await asyncio.gather(*(plant(f"tree{n}") for n in range(5)))
        await busy.stop()
        messages = await until(stream, await revision_of(client))
    parts: list[Message] = []
    large: list[str] = []
    for message in messages:
        assert message.WhichOneof("content") == "events"
        assert (message.revision == 0) == message.events.more
        parts.append(message)
        if not message.events.more:
            trees = {event.task_id.partition("-")[0] for event in events_of(parts)}
            assert len(trees) == 1
            if len(parts) > 1:
                assert len(events_of(parts)) == 1 + 2 * 600
                large += trees
            parts.clear()
    assert sorted(large) == [f"tree{n}" for n in range(5)]


async def test_events_of_one_verb_come_together(server: "Server", client: Client) -> None:
    """All events of one verb share a revision and come in one message, in their order."""
    await connect(client, "ada")
    await create(client, "top")
    await create(client, "first", parent_id="top")
    await create(client, "second", blocked_by=["first"])
    await claim(client, "ada", "first")
    mark = v1.MarkFilesRequest(worker_id="ada", paths=["x"], task_id="first")
    before = (await client.files.MarkFiles(mark)).revision
    revision = await complete(client, "ada", "first")
    assert revision == before + 1
    [message] = await heard(client, revision, start_revision=revision)
    assert told([message]) == [
        ("TASK_COMPLETED", "first"),
        ("FILE_UNMARKED", "first"),
        ("TASK_READY", "second"),
        ("TASK_COMPLETED", "top"),
    ]


async def test_large_revisions_are_split(server: "Server", client: Client) -> None:
    """A revision of more than 500 events comes in parts; only the last says its number."""
    children = [v1.TaskNode(id=f"n{n}", title="n") for n in range(700)]
    root = v1.TaskNode(id="root", title="root", children=children)
    async with watching(client) as stream:
        await anext(stream)
        await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
        parts = await until(stream, 1)
    assert [len(part.events.events) for part in parts] == [500, 500, 401]
    assert [part.events.more for part in parts] == [True, True, False]
    assert [part.revision for part in parts] == [0, 0, 1]
    ids = [child.id for child in children]
    assert told(parts) == [
        ("TASK_CREATED", "root"),
        *(("TASK_CREATED", id) for id in ids),
        *(("DEPENDENCY_ADDED", id) for id in ids),
    ]
    assert wire(await heard(client, 1, start_revision=1)) == wire(parts)


@pytest.mark.parametrize(("count", "parts"), [(500, [500]), (501, [500, 1])])
async def test_no_part_is_empty(
    server: "Server", client: Client, count: int, parts: list[int]
) -> None:
    """A revision of just as many events as fit is one message; one event more makes it two."""
    children = [v1.TaskNode(id=f"n{n}", title="n") for n in range(count)]
    root = v1.TaskNode(id="root", title="root", children=children)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    filter = v1.WatchFilter(event_types=[v1.EVENT_TYPE_DEPENDENCY_ADDED])
    messages = await heard(client, 1, start_revision=1, filter=filter)
    assert [len(message.events.events) for message in messages] == parts
    assert [message.events.more for message in messages] == [True, False][-len(parts) :]
    assert [message.revision for message in messages] == [0, 1][-len(parts) :]


async def test_what_changes_nothing_is_no_revision(server: "Server", client: Client) -> None:
    """Calls that change nothing, and calls that are refused, make no revision and no event."""
    await connect(client, "ada")
    await connect(client, "bob")
    task = await create(client, "t")
    await claim(client, "ada", "t")
    before = await revision_of(client)
    await update(client, "t", title=task.title)
    await client.admin.Resume(v1.ResumeRequest())
    await client.workers.Heartbeat(v1.HeartbeatRequest(worker_id="ada"))
    await claim(client, "ada", "t")
    with pytest.raises(TaskloomError, match="TASK_CLAIMED"):
        await claim(client, "bob", "t")
    with pytest.raises(TaskloomError, match="TASK_EXISTS"):
        await create(client, "t")
    assert await revision_of(client) == before
