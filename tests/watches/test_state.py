"""The state first: the tasks that match, `synced`, and then events, without gap or overlap."""

from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from taskloom import v1
from taskloom_client import Client

from tests.watches.life import Busy, create, live, revision_of
from tests.watches.streams import events_of, name_of, told, until, watching

if TYPE_CHECKING:
    from tests.conftest import Server


async def test_state_first(server: "Server", client: Client) -> None:
    """With include_state the tasks that are not deleted come first, then `synced`, then events."""
    await live(client)
    shown = {task.id: task for task in (await client.tasks.ListTasks(v1.ListTasksRequest())).tasks}
    async with watching(client, include_state=True) as stream:
        created = await anext(stream)
        state = await until(stream, 1)
        task = await create(client, "new")
        after = await until(stream, task.revision)
    assert (created.WhichOneof("content"), created.revision) == ("created", 0)
    assert [m.WhichOneof("content") for m in state] == ["events", "synced"]
    assert state[0].revision == 0
    assert {event.task_id: event.task for event in events_of(state)} == shown
    assert "lone" not in shown
    assert {name_of(event) for event in events_of(state)} == {"TASK_LISTED"}
    assert state[-1].revision == task.revision - 1
    assert told(after) == [("TASK_CREATED", "new")]


async def test_state_is_filtered(server: "Server", client: Client) -> None:
    """The state that comes first holds the tasks that match the filter, and only those."""
    await live(client)
    for filter, expected in (
        (v1.WatchFilter(statuses=["completed", "cancelled"]), {"left", "poison"}),
        (v1.WatchFilter(tags=["a", "top"]), {"root", "left"}),
        (v1.WatchFilter(owner="ada"), {"left"}),
        (v1.WatchFilter(subtree_of="root"), {"root", "left", "right"}),
        (v1.WatchFilter(task_ids=["right", "lone"]), {"right"}),
        (v1.WatchFilter(phases=["design"]), {"left"}),
        (v1.WatchFilter(phases=["design"], subtree_of="right"), set()),
    ):
        async with watching(client, include_state=True, filter=filter) as stream:
            messages = await until(stream, 1)
        assert {event.task_id for event in events_of(messages)} == expected, filter


async def test_state_of_an_empty_graph(server: "Server", client: Client) -> None:
    """Where there is no task, `synced` follows `created`, and revision 1 is told after it."""
    async with watching(client, include_state=True) as stream:
        assert (await anext(stream)).WhichOneof("content") == "created"
        synced = await anext(stream)
        assert (synced.WhichOneof("content"), synced.revision) == ("synced", 0)
        await create(client, "a")
        assert told([await anext(stream)]) == [("TASK_CREATED", "a")]


async def test_state_of_many_tasks(server: "Server", client: Client) -> None:
    """A large state comes in several messages, all with revision 0, each task once."""
    nodes = [v1.TaskNode(id=f"n{n}", title="n") for n in range(1_100)]
    root = v1.TaskNode(id="root", title="root", children=nodes)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    async with watching(client, include_state=True) as stream:
        await anext(stream)
        messages = await until(stream, 1)
    assert [message.revision for message in messages] == [0, 0, 0, 1]
    assert Counter(event.task_id for event in events_of(messages)) == Counter(
        ["root", *(node.id for node in nodes)]
    )
    assert not any(message.events.more for message in messages)


async def test_no_gap_and_no_overlap_after_the_state(server: "Server", client: Client) -> None:
    """State and events fit together seamlessly, however fast others write meanwhile."""
    async with AsyncExitStack() as stack:
        busy = Busy(client, writers=6)
        streams = []
        for _ in range(6):
            await busy.written(15)
            streams.append(await stack.enter_async_context(watching(client, include_state=True)))
            await anext(streams[-1])
        await busy.stop()
        last = await revision_of(client)
        listed = await client.tasks.ListTasks(v1.ListTasksRequest(page_size=1_000))
        assert not listed.next_page_token
        for stream in streams:
            state = await until(stream, 1)
            synced = state[-1].revision
            assert state[-1].WhichOneof("content") == "synced"
            assert all(event.task.revision <= synced for event in events_of(state))
            after = await until(stream, last) if synced < last else []
            assert [message.revision for message in after] == list(range(synced + 1, last + 1))
            # What a reader has who only applied what he was told is what there is.
            known = {event.task_id: event.task for event in events_of(state)}
            for event in events_of(after):
                known[event.task_id] = event.task
                if event.type == v1.EVENT_TYPE_TASK_DELETED:
                    del known[event.task_id]
            assert known == {task.id: task for task in listed.tasks}
