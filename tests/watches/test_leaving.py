"""Filtered: that a task stops matching is told, and that it comes back, and that it is deleted."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.watches.life import claim, connect, create, update
from tests.watches.streams import events_of, name_of, told, until, watching

if TYPE_CHECKING:
    from tests.conftest import Server


LEAVING: list[Any] = [
    pytest.param(v1.WatchFilter(statuses=["pending"]), {"status": "cancelled"}, id="status"),
    pytest.param(v1.WatchFilter(tags=["a"]), {"tags": v1.Tags(values=["b"])}, id="tags"),
    pytest.param(v1.WatchFilter(owner="ada"), {"assignee": ""}, id="owner"),
    pytest.param(v1.WatchFilter(phases=["design"]), {"phase": ""}, id="phase"),
]


@pytest.mark.parametrize(("filter", "change"), LEAVING)
async def test_leaving_the_filter(
    server: "Server", client: Client, filter: v1.WatchFilter, change: dict[str, Any]
) -> None:
    """A task that matches no more is told once more, as it is now, and then no longer."""
    await connect(client, "ada")
    await create(client, "t", tags=["a"], phase="design")
    if filter.owner:
        await update(client, "t", assignee="ada")
    async with watching(client, filter=filter) as stream:
        await anext(stream)
        stays = await update(client, "t", priority=1)
        leaves = await update(client, "t", **change)
        await update(client, "t", priority=2)  # not to be heard
        # Something that is heard, so that it is known that the above was not.
        await create(client, "u", tags=["a"], phase="design")
        last = await update(client, "u", priority=1)
        if filter.owner:
            last = await update(client, "u", assignee="ada")
        messages = await until(stream, last)
    about = [
        (message.revision, event.left_filter)
        for message in messages
        for event in message.events.events
        if event.task_id == "t"
    ]
    assert about == [(stays, False), (leaves, True)]
    left = next(event for event in events_of(messages) if event.left_filter)
    assert left.task.revision == leaves


async def test_leaving_is_told_whatever_the_type(server: "Server", client: Client) -> None:
    """That a task left the filter is told even where its event's type is not asked for."""
    await connect(client, "ada")
    await create(client, "t")
    filter = v1.WatchFilter(statuses=["pending"], event_types=[v1.EVENT_TYPE_TASK_UPDATED])
    async with watching(client, filter=filter) as stream:
        await anext(stream)
        await update(client, "t", priority=1)
        claimed = await claim(client, "ada", "t")
        messages = await until(stream, claimed.revision)
    assert [(name_of(e), e.left_filter) for e in events_of(messages)] == [
        ("TASK_UPDATED", False),
        ("TASK_CLAIMED", True),
    ]


async def test_leaving_the_subtree(server: "Server", client: Client) -> None:
    """A task that is taken out of the subtree is told as having left it."""
    for id, parent_id in (("root", ""), ("child", "root"), ("end", "root")):
        await create(client, id, parent_id=parent_id)
    async with watching(client, filter=v1.WatchFilter(subtree_of="root")) as stream:
        await anext(stream)
        unlink = v1.UnlinkTasksRequest(from_task_id="root", to_task_id="child")
        await client.tasks.UnlinkTasks(unlink)
        await update(client, "child", priority=1)  # not to be heard
        messages = await until(stream, await update(client, "end", priority=1))
    assert [(name_of(e), e.task_id, e.left_filter) for e in events_of(messages)] == [
        ("DEPENDENCY_REMOVED", "child", False),
        ("TASK_UPDATED", "child", True),
        ("TASK_UPDATED", "end", False),
    ]


async def test_leaving_the_subtree_with_the_parent(server: "Server", client: Client) -> None:
    """When a parent is taken out of the subtree, what is below it is told as having left, too."""
    for id, parent_id in (("root", ""), ("child", "root"), ("below", "child"), ("end", "root")):
        await create(client, id, parent_id=parent_id)
    async with watching(client, filter=v1.WatchFilter(subtree_of="root")) as stream:
        await anext(stream)
        unlink = v1.UnlinkTasksRequest(from_task_id="root", to_task_id="child")
        await client.tasks.UnlinkTasks(unlink)
        messages = await until(stream, await update(client, "end", priority=1))
    assert {e.task_id for e in events_of(messages) if e.left_filter} == {"child", "below"}


async def test_parent_that_completes_by_itself_was_never_ready(
    server: "Server", client: Client
) -> None:
    """A parent that ends with its last child was not among the ready tasks, and has not left."""
    await connect(client, "ada")
    await create(client, "root")
    await create(client, "child", parent_id="root")
    async with watching(client, filter=v1.WatchFilter(ready_for="ada")) as stream:
        await anext(stream)
        await claim(client, "ada", "child")
        done = await client.claims.CompleteTask(
            v1.CompleteTaskRequest(worker_id="ada", task_id="child")
        )
        await create(client, "end")
        messages = await until(stream, done.revision + 1)
    assert [(name_of(e), e.task_id, e.left_filter) for e in events_of(messages)] == [
        ("TASK_CLAIMED", "child", True),
        ("TASK_CREATED", "end", False),
    ]


async def test_matching_anew(server: "Server", client: Client) -> None:
    """A task that left the filter is told again once it matches again."""
    await create(client, "t", tags=["a"])
    async with watching(client, filter=v1.WatchFilter(tags=["a"])) as stream:
        await anext(stream)
        await update(client, "t", tags=v1.Tags())
        back = await update(client, "t", tags=v1.Tags(values=["a"]))
        messages = await until(stream, back)
    assert [event.left_filter for event in events_of(messages)] == [True, False]


@pytest.mark.parametrize(
    "filter",
    [
        v1.WatchFilter(),
        v1.WatchFilter(task_ids=["gone"]),
        v1.WatchFilter(statuses=["pending"]),
        v1.WatchFilter(tags=["a"]),
        v1.WatchFilter(subtree_of="gone"),
    ],
    ids=str,
)
async def test_deleted_is_told_as_deleted(
    server: "Server", client: Client, filter: v1.WatchFilter
) -> None:
    """A deleted task is told by TASK_DELETED with who and why, not as having left the filter."""
    await connect(client, "ada")
    await create(client, "gone", tags=["a"])
    async with watching(client, filter=filter) as stream:
        await anext(stream)
        request = v1.DeleteTaskRequest(task_id="gone", worker_id="ada", reason="a slip")
        deleted = await client.tasks.DeleteTask(request)
        [event] = events_of(await until(stream, deleted.revision))
    assert (name_of(event), event.left_filter) == ("TASK_DELETED", False)
    assert (event.worker_id, event.reason) == ("ada", "a slip")
    assert event.task.HasField("delete_time")
    assert (event.task.deleted_by, event.task.deleted_reason) == ("ada", "a slip")


async def test_a_deleted_subtree(server: "Server", client: Client) -> None:
    """A cascade tells each task below as deleted, in one revision, also within the subtree."""
    for id, parent_id in (("root", ""), ("child", "root"), ("below", "child")):
        await create(client, id, parent_id=parent_id)
    async with watching(client, filter=v1.WatchFilter(subtree_of="root")) as stream:
        await anext(stream)
        request = v1.DeleteTaskRequest(task_id="root", cascade=True)
        revision = (await client.tasks.DeleteTask(request)).revision
        [message] = await until(stream, revision)
    assert Counter(told([message])) == Counter(
        ("TASK_DELETED", id) for id in ("root", "child", "below")
    )
