"""Filtered: which events pass, in memory and on the table."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.watches.life import claim, connect, create, live, update
from tests.watches.streams import Message, Told, events_of, heard, told, watching, wire

if TYPE_CHECKING:
    from tests.conftest import Server


async def end(client: Client) -> int:
    """Do something of which every filter of FILTERS lets an event pass; the last revision."""
    await create(client, "the-end", parent_id="root", tags=["a", "top"], phase="design")
    await connect(client, "ada", tags=["rust"])
    await update(client, "the-end", assignee="ada")
    await update(client, "the-end", assignee="")
    await claim(client, "bob", "the-end")
    return (await client.admin.Pause(v1.PauseRequest(reason="the-end"))).revision


async def until_the_end(client: Client, filter: v1.WatchFilter) -> list[Message]:
    """What a filter lets pass of all that was, before its end."""
    asked = v1.WatchFilter()
    asked.CopyFrom(filter)
    if filter.task_ids:
        asked.task_ids.append("the-end")
    messages = []
    async with watching(client, start_revision=1, filter=asked) as stream:
        await anext(stream)
        async for message in stream:
            if any("the-end" in (event.task_id, event.reason) for event in events_of([message])):
                break
            messages.append(message)
    return messages


@pytest.fixture
async def lived(server: "Server", client: Client) -> int:
    """The revision after a life in which everything happened, with an end for every filter."""
    await live(client)
    return await end(client)


FILTERS: list[Any] = [
    pytest.param(
        v1.WatchFilter(task_ids=["right"]),
        [
            ("TASK_CREATED", "right"),
            ("TASK_READY", "right"),
            ("TASK_CLAIMED", "right"),
            ("TASK_RELEASED", "right"),
        ],
        id="ids",
    ),
    pytest.param(
        v1.WatchFilter(statuses=["working"], task_ids=["left", "lone"]),
        [
            ("TASK_CLAIMED", "left"),
            ("TASK_UPDATED", "left"),
            ("TASK_COMPLETED", "left"),  # left the filter
            ("TASK_CLAIMED", "lone"),
            ("TASK_RELEASED", "lone"),  # likewise
        ],
        id="statuses",
    ),
    pytest.param(
        v1.WatchFilter(tags=["y", "top"]),
        [
            ("TASK_CREATED", "root"),
            ("TASK_UPDATED", "lone"),  # given the tag
            ("TASK_BLOCKED", "lone"),
            ("TASK_READY", "lone"),
            ("TASK_DELETED", "lone"),
        ],
        id="tags",
    ),
    pytest.param(
        v1.WatchFilter(owner="bob"),
        [
            ("TASK_CLAIMED", "poison"),
            ("TASK_RELEASED", "poison"),
            ("TASK_CLAIMED", "poison"),
            ("TASK_FAILED", "poison"),
            ("TASK_MOVED", "poison"),
        ],
        id="owner",
    ),
    pytest.param(
        v1.WatchFilter(assignee="ada"),
        [
            ("TASK_MOVED", "lone"),
            ("TASK_RELEASED", "lone"),  # left the filter
        ],
        id="assignee",
    ),
    pytest.param(
        v1.WatchFilter(ready_for="ada", tags=["a", "z"]),
        [
            ("TASK_CREATED", "left"),
            ("TASK_CLAIMED", "left"),  # left the filter
            ("TASK_UPDATED", "lone"),  # given the tag
            ("TASK_BLOCKED", "lone"),  # left the filter
            ("TASK_READY", "lone"),
            ("TASK_DELETED", "lone"),
        ],
        id="ready for",
    ),
    pytest.param(
        v1.WatchFilter(subtree_of="root", statuses=["pending"]),
        [
            ("TASK_CREATED", "root"),
            ("TASK_CREATED", "left"),
            ("TASK_CREATED", "right"),
            ("TASK_CLAIMED", "left"),
            ("TASK_READY", "right"),
            ("TASK_CLAIMED", "right"),
            ("TASK_RELEASED", "right"),
        ],
        id="subtree",
    ),
    pytest.param(
        v1.WatchFilter(phases=["design", "review"]),
        [
            ("TASK_CREATED", "left"),
            ("TASK_CLAIMED", "left"),
            ("TASK_UPDATED", "left"),
            ("TASK_COMPLETED", "left"),
            ("TASK_UPDATED", "lone"),
            ("TASK_BLOCKED", "lone"),
            ("TASK_READY", "lone"),
            ("TASK_DELETED", "lone"),
        ],
        id="phases",
    ),
    pytest.param(
        v1.WatchFilter(
            event_types=[v1.EVENT_TYPE_PAUSED, v1.EVENT_TYPE_RESUMED, v1.EVENT_TYPE_TASK_READY]
        ),
        [
            ("TASK_READY", "right"),
            ("TASK_READY", "lone"),
            ("PAUSED", ""),
            ("RESUMED", ""),
        ],
        id="event types",
    ),
    pytest.param(
        v1.WatchFilter(
            event_types=[v1.EVENT_TYPE_TASK_CLAIMED], owner="bob", task_ids=["left", "poison"]
        ),
        [
            ("TASK_CLAIMED", "poison"),
            ("TASK_RELEASED", "poison"),  # left the filter
            ("TASK_CLAIMED", "poison"),
            ("TASK_MOVED", "poison"),  # likewise
        ],
        id="several at once",
    ),
]


@pytest.mark.parametrize(("filter", "expected"), FILTERS)
async def test_filters(
    client: Client, lived: int, filter: v1.WatchFilter, expected: list[Told]
) -> None:
    """A filter lets the events pass that match all of its fields, in order, and no other."""
    messages = await until_the_end(client, filter)
    # What hangs on the tasks passes with them: see test_filter_on_things_of_a_task.
    things = ("DEPENDENCY_", "FILE_", "ATTACHMENT_")
    assert [one for one in told(messages) if not one[0].startswith(things)] == expected
    # And each event is the very one that everybody hears.
    everything = {m.revision: events_of([m]) for m in await heard(client, lived, start_revision=1)}
    for message in messages:
        for event in events_of([message]):
            event.left_filter = False
            assert event in everything[message.revision]


async def test_filters_in_memory_and_on_the_table(start_server: Callable[..., Any]) -> None:
    """Each filter lets the same pass of what is in memory as of what is read from the table."""
    filters = [param.values[0] for param in FILTERS]
    heard_by: list[list[list[bytes]]] = []
    for lives in (True, False):
        async with start_server() as server, Client(server.address) as client:
            if lives:
                await live(client)
                await end(client)
            heard_by.append([wire(await until_the_end(client, each)) for each in filters])
    from_memory, from_table = heard_by
    assert from_table == from_memory
    assert all(from_memory)


async def test_filter_on_things_of_no_task(client: Client, lived: int) -> None:
    """A filter that looks at tasks lets no event pass that is about none; another one does."""
    about_tasks = v1.WatchFilter(statuses=["pending", "working", "completed", "cancelled"])
    messages = await heard(client, lived - 1, start_revision=1, filter=about_tasks)
    assert not {"PAUSED", "WORKER_CONNECTED"} & {name for name, _ in told(messages)}
    messages = await heard(client, lived, start_revision=1)
    assert {"PAUSED", "WORKER_CONNECTED"} <= {name for name, _ in told(messages)}


async def test_filter_on_things_of_a_task(client: Client, lived: int) -> None:
    """What hangs on a task (attachments, marks, dependencies) passes a filter of its id."""
    filter = v1.WatchFilter(task_ids=["left", "the-end"])
    messages = await heard(client, lived - 1, start_revision=1, filter=filter)
    about = {name for name, _ in told(messages)}
    assert {"ATTACHMENT_ADDED", "FILE_MARKED", "DEPENDENCY_ADDED"} <= about
