"""WatchTasks: what a watch tells, in which order, and that it leaves out and repeats nothing.

How the client resumes by itself is tested in client/test_watch.py; here it is the service's
word that is taken, message by message.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

Message: TypeAlias = v1.WatchTasksResponse
Stream: TypeAlias = AsyncIterator[Message]
Told: TypeAlias = tuple[str, str]
"""An event by its type's name, without the prefix, and its task's id."""

DAY_MS = 24 * 3600 * 1000


@asynccontextmanager
async def watching(client: Client, **request: Any) -> AsyncIterator[Stream]:
    """A watch by the bare call, as it is on the wire; it ends with the context."""
    call = client.watches.WatchTasks(v1.WatchTasksRequest(**request))
    try:
        async with asyncio.timeout(30):
            yield aiter(call)
    finally:
        call.cancel()


async def until(stream: Stream, revision: int) -> list[Message]:
    """The messages up to the one that says that the stream is so far, included."""
    messages = []
    async for message in stream:
        messages.append(message)
        if message.revision >= revision:
            return messages
    raise AssertionError(f"the watch ended before revision {revision}")


async def heard(client: Client, revision: int, **request: Any) -> list[Message]:
    """The messages of a watch of its own, without `created`, up to a revision."""
    async with watching(client, **request) as stream:
        created = await anext(stream)
        assert created.WhichOneof("content") == "created"
        return await until(stream, revision) if created.revision < revision else []


def events_of(messages: Iterable[Message]) -> list[v1.Event]:
    """The events alone, in order."""
    return [event for message in messages for event in message.events.events]


def told(messages: Iterable[Message]) -> list[Told]:
    """The events of messages by type and task."""
    return [(name_of(event), event.task_id) for event in events_of(messages)]


def name_of(event: v1.Event) -> str:
    """The name of an event's type, without its prefix."""
    return v1.EventType.Name(event.type).removeprefix("EVENT_TYPE_")


def wire(messages: Iterable[Message]) -> list[bytes]:
    """The messages about revisions as bytes; what a resumed stream must repeat exactly."""
    return [
        message.SerializeToString(deterministic=True)
        for message in messages
        if message.WhichOneof("content") == "events"
    ]


async def revision_of(client: Client) -> int:
    """The revision that the graph is at."""
    return (await client.admin.GetStatus(v1.GetStatusRequest())).revision


async def create(client: Client, id: str, **fields: Any) -> v1.Task:
    """A task of this id, which is its title as well."""
    answer = await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id, **fields))
    return answer.task


async def update(client: Client, task_id: str, **fields: Any) -> int:
    """Change a task; the revision."""
    return (await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task_id, **fields))).revision


async def claim(client: Client, worker_id: str, task_id: str) -> v1.Task:
    """Claim a task."""
    request = v1.ClaimTaskRequest(worker_id=worker_id, task_id=task_id)
    return (await client.claims.ClaimTask(request)).task


async def complete(client: Client, worker_id: str, task_id: str) -> int:
    """Complete a task; the revision."""
    request = v1.CompleteTaskRequest(worker_id=worker_id, task_id=task_id, reason="dône ✓")
    return (await client.claims.CompleteTask(request)).revision


async def connect(client: Client, worker_id: str, **fields: Any) -> int:
    """Connect a worker; the revision."""
    request = v1.ConnectRequest(worker_id=worker_id, max_claims=10, **fields)
    return (await client.workers.Connect(request)).revision


async def live(client: Client) -> int:
    """A short life with every kind of event in it; the revision at its end."""
    await connect(client, "ada", tags=["rust", "πthon"])
    await connect(client, "bob")
    node = v1.TaskNode(
        id="root",
        title="Root ✓",
        tags=["top"],
        children=[
            v1.TaskNode(id="left", title="Left", tags=["a"], phase="design", points=3),
            v1.TaskNode(id="right", title="Right", blocked_by=["left"], needed_tags=["rust"]),
        ],
    )
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=node))
    await create(client, "lone", description="ünï\n\t\x01 code", priority=9, wanted_tags=["rust"])
    await create(client, "poison", max_attempts=2)
    left = await claim(client, "ada", "left")
    await client.files.MarkFiles(
        v1.MarkFilesRequest(worker_id="ada", paths=["a.py", "b.py"], task_id="left", reason="edit")
    )
    await client.attachments.Attach(
        v1.AttachRequest(worker_id="ada", task_id="left", type="note", content=b"\x00\xff")
    )
    await client.tasks.LogMetrics(
        v1.LogMetricsRequest(
            worker_id="ada",
            task_id="left",
            claim_revision=left.claim_revision,
            metrics=v1.Metrics(tokens_in=2**40, cost_usd=0.1),
        )
    )
    await complete(client, "ada", "left")
    for _ in range(2):
        await claim(client, "bob", "poison")
        await client.claims.FailTask(
            v1.FailTaskRequest(worker_id="bob", task_id="poison", reason="ouch", retry=True)
        )
    await claim(client, "ada", "lone")
    await client.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="ada", task_id="lone"))
    await update(client, "lone", assignee="ada", reason="you know it")
    await update(client, "lone", assignee="")
    await update(client, "lone", title="Lone", phase="review", tags=v1.Tags(values=["z", "y"]))
    await client.tasks.LinkTasks(
        v1.LinkTasksRequest(
            from_task_id="right", to_task_id="lone", type=v1.DEPENDENCY_TYPE_FOLLOWS
        )
    )
    await client.tasks.UnlinkTasks(v1.UnlinkTasksRequest(from_task_id="right", to_task_id="lone"))
    await client.admin.Pause(v1.PauseRequest(by="eve", reason="lunch"))
    await client.admin.Resume(v1.ResumeRequest(by="eve", reason="back"))
    await update(client, "poison", status="pending", reason="try again")
    await update(client, "poison", status="cancelled", reason="or not")
    await client.attachments.Detach(v1.DetachRequest(task_id="left", type="note", sequence=0))
    await claim(client, "ada", "right")
    await client.files.MarkFiles(v1.MarkFilesRequest(worker_id="bob", paths=["c.py"]))
    await client.files.UnmarkFiles(v1.UnmarkFilesRequest(worker_id="bob"))
    await client.tasks.DeleteTask(
        v1.DeleteTaskRequest(task_id="lone", worker_id="bob", reason="no more")
    )
    answer = await client.workers.Disconnect(v1.DisconnectRequest(worker_id="ada", reason="bye"))
    return answer.revision


# Where a watch begins.


async def test_created_comes_first(server: "Server", client: Client) -> None:
    """The first message is `created`, with the incarnation and the revision before the stream."""
    await create(client, "a")
    connected = await client.workers.Connect(v1.ConnectRequest())
    for start, expected in ((0, 2), (1, 0), (2, 1), (9, 8)):
        async with watching(client, start_revision=start) as stream:
            first = await anext(stream)
        assert first.WhichOneof("content") == "created"
        assert first.created.incarnation == connected.incarnation
        assert first.revision == expected


async def test_from_a_revision(server: "Server", client: Client) -> None:
    """A watch from a revision tells all revisions from that one on, each once and in order."""
    last = await live(client)
    for start in (1, 2, last // 2, last):
        messages = await heard(client, last, start_revision=start)
        assert [message.revision for message in messages] == list(range(start, last + 1))


async def test_from_now(server: "Server", client: Client) -> None:
    """A watch from now tells what happens after `created`, and nothing from before."""
    await create(client, "before")
    async with watching(client) as stream:
        created = await anext(stream)
        task = await create(client, "after")
        [message] = await until(stream, task.revision)
    assert created.revision == task.revision - 1
    assert told([message]) == [("TASK_CREATED", "after")]


async def test_from_a_revision_to_come(server: "Server", client: Client) -> None:
    """A watch from a revision yet to come waits for it, and tells nothing of what is before."""
    first = await create(client, "a")
    start = first.revision + 3
    async with watching(client, start_revision=start) as stream:
        await anext(stream)
        for id in ("b", "c", "d", "e"):
            await create(client, id)
        messages = await until(stream, start + 1)
    assert told(messages) == [("TASK_CREATED", "d"), ("TASK_CREATED", "e")]
    assert messages[0].revision == start


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


# No gap, no overlap.


class Busy:
    """Clients that write as fast as they can, until they are told to stop."""

    def __init__(self, client: Client, writers: int) -> None:
        self._client = client
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._write(n)) for n in range(writers)]
        self._written = 0
        self._progress = asyncio.Condition()

    async def _write(self, writer: int) -> None:
        n = 0
        while not self._stop.is_set():
            id = f"w{writer}-{n}"
            await create(self._client, id, tags=[f"tag{n % 3}"])
            await update(self._client, id, priority=n % 5)
            if n % 4 == 3:
                await self._client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id=id))
            n += 1
            async with self._progress:
                self._written += 1
                self._progress.notify_all()

    async def written(self, more: int) -> None:
        """Return once so many more tasks have been written."""
        goal = self._written + more
        async with self._progress:
            await self._progress.wait_for(lambda: self._written >= goal)

    async def stop(self) -> None:
        """Let the writers finish what they are at."""
        self._stop.set()
        await asyncio.gather(*self._tasks)


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


async def test_a_slow_watch_slows_nobody(server: "Server", client: Client) -> None:
    """Who does not read holds nobody up, and finds every revision there when he does."""
    await create(client, "a")
    async with watching(client) as slow:
        await anext(slow)
        for n in range(250):  # some 15 MB, far more than gRPC would keep for a reader
            last = await update(client, "a", description=f"{n}" + "x" * 60_000)
        messages = await until(slow, last)
    assert [message.revision for message in messages] == list(range(2, last + 1))


# Revisions are atomic, and streams resume exactly.


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


# Filters.


async def end(client: Client) -> int:
    """Do something of which every filter of FILTERS lets an event pass; the last revision."""
    await create(client, "the-end", parent_id="root", tags=["a", "top"], phase="design")
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


async def test_lease_expiry_is_told(
    timed_server: "Server", timed_client: Client, clock: "TestClock"
) -> None:
    """The server's own doing is told like anybody's: a lease that ran out, and why."""
    await connect(timed_client, "ada", lease=Duration(seconds=60))
    await create(timed_client, "t")
    claimed = await claim(timed_client, "ada", "t")
    async with watching(timed_client, filter=v1.WatchFilter(owner="ada")) as stream:
        await anext(stream)
        clock.advance(60_000)
        [event] = events_of(await until(stream, claimed.revision + 1))
    assert (name_of(event), event.worker_id) == ("TASK_LEASE_EXPIRED", "")
    assert (event.task.status, event.previous_status) == ("pending", "working")
    assert event.left_filter
    assert "ada" in event.reason


async def test_a_task_that_becomes_due_is_told(
    timed_server: "Server", timed_client: Client, clock: "TestClock"
) -> None:
    """When a task's not_before passes, the stream says that it is ready, at that time."""
    due = clock.now() + DAY_MS
    not_before = {"seconds": due // 1000}
    task = await create(timed_client, "t", not_before=not_before)
    async with watching(timed_client) as stream:
        await anext(stream)
        clock.advance(DAY_MS)
        [event] = events_of(await until(stream, task.revision + 1))
    assert name_of(event) == "TASK_READY"
    assert event.time.ToMilliseconds() == due
    assert event.task.ready
    assert not event.task.HasField("not_before")


# What events carry.


async def test_events_carry_the_object(server: "Server", client: Client) -> None:
    """An event carries the task exactly as it is read at that revision, and what it was."""
    await connect(client, "ada")
    await create(client, "t", phase="design", points=2)
    claimed = await claim(client, "ada", "t")
    [message] = await heard(client, claimed.revision, start_revision=claimed.revision)
    [event] = events_of([message])
    assert event.task == claimed
    assert event.task == (await client.tasks.GetTask(v1.GetTaskRequest(task_id="t"))).task
    assert (event.worker_id, event.task_id) == ("ada", "t")
    assert event.previous_status == "pending"
    assert event.time == claimed.claim_time
    updated = await update(client, "t", priority=1)
    [event] = events_of(await heard(client, updated, start_revision=updated))
    assert event.previous_status == ""


async def test_events_about_workers(server: "Server", client: Client) -> None:
    """Connecting and disconnecting are told with the worker; what it held is given back first."""
    connected = await client.workers.Connect(
        v1.ConnectRequest(worker_id="ada", tags=["rust"], max_claims=3)
    )
    await create(client, "t")
    await claim(client, "ada", "t")
    await client.files.MarkFiles(v1.MarkFilesRequest(worker_id="ada", paths=["x"]))
    gone = await client.workers.Disconnect(v1.DisconnectRequest(worker_id="ada", reason="lunch"))
    messages = await heard(client, gone.revision, start_revision=connected.revision)
    [first] = events_of(messages[:1])
    assert (name_of(first), first.worker_id, first.task_id) == ("WORKER_CONNECTED", "ada", "")
    assert first.worker == connected.worker
    released, unmarked, last = events_of(messages[-1:])
    assert (name_of(released), released.task_id) == ("TASK_RELEASED", "t")
    assert (name_of(unmarked), unmarked.file_mark.path) == ("FILE_UNMARKED", "x")
    assert (name_of(last), last.reason) == ("WORKER_DISCONNECTED", "lunch")
    assert last.worker == gone.worker


async def test_events_about_files(server: "Server", client: Client) -> None:
    """Marks are told with path, worker, task and reason, when they are made and when they go."""
    await connect(client, "ada")
    await create(client, "t")
    marked = await client.files.MarkFiles(
        v1.MarkFilesRequest(worker_id="ada", paths=["a", "b"], task_id="t", reason="edit")
    )
    gone = await client.files.UnmarkFiles(
        v1.UnmarkFilesRequest(worker_id="ada", paths=["b"], reason="done")
    )
    messages = await heard(client, gone.revision, start_revision=marked.revision)
    assert told(messages) == [("FILE_MARKED", "t"), ("FILE_MARKED", "t"), ("FILE_UNMARKED", "t")]
    events = events_of(messages)
    assert [event.file_mark for event in events[:2]] == list(marked.marks)
    assert (events[2].file_mark.path, events[2].reason) == ("b", "done")


async def test_events_about_attachments(server: "Server", client: Client) -> None:
    """Attachments are told with everything but their content."""
    await create(client, "t")
    request = v1.AttachRequest(task_id="t", type="note", name="n", content=b"secret")
    attached = await client.attachments.Attach(request)
    gone = await client.attachments.Detach(v1.DetachRequest(task_id="t", type="note"))
    events = events_of(await heard(client, gone.revision, start_revision=attached.revision))
    assert [name_of(event) for event in events] == ["ATTACHMENT_ADDED", "ATTACHMENT_REMOVED"]
    for event in events:
        assert event.attachment == attached.attachment
        assert (event.attachment.content, event.attachment.size) == (b"", 6)


async def test_events_about_dependencies(server: "Server", client: Client) -> None:
    """A dependency is told with its ends and type, before what it does to readiness."""
    await create(client, "a")
    await create(client, "b")
    link = v1.LinkTasksRequest(from_task_id="a", to_task_id="b")
    linked = await client.tasks.LinkTasks(link)
    unlink = v1.UnlinkTasksRequest(from_task_id="a", to_task_id="b")
    unlinked = await client.tasks.UnlinkTasks(unlink)
    messages = await heard(client, unlinked.revision, start_revision=linked.revision)
    assert told(messages) == [
        ("DEPENDENCY_ADDED", "b"),
        ("TASK_BLOCKED", "b"),
        ("DEPENDENCY_REMOVED", "b"),
        ("TASK_READY", "b"),
    ]
    assert events_of(messages)[0].dependency == linked.dependency
    assert events_of(messages)[2].dependency == linked.dependency


async def test_events_about_pauses(server: "Server", client: Client) -> None:
    """Pause and resume are told with the reason."""
    paused = await client.admin.Pause(v1.PauseRequest(by="eve", reason="lunch"))
    resumed = await client.admin.Resume(v1.ResumeRequest(by="eve", reason="back"))
    messages = await heard(client, resumed.revision, start_revision=paused.revision)
    assert [(name_of(e), e.reason) for e in events_of(messages)] == [
        ("PAUSED", "lunch"),
        ("RESUMED", "back"),
    ]


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


# Progress.


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


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"start_revision": 1, "include_state": True}, "include_state"),
        ({"start_revision": -1}, "start_revision"),
        ({"progress_interval": timedelta(milliseconds=999)}, "progress_interval"),
        ({"progress_interval": timedelta(hours=1, milliseconds=1)}, "progress_interval"),
        ({"progress_interval": timedelta(seconds=-5)}, "progress_interval"),
        ({"filter": v1.WatchFilter(event_types=[77])}, "filter.event_types"),  # type: ignore[list-item]
        ({"filter": v1.WatchFilter(event_types=[0])}, "filter.event_types"),  # type: ignore[list-item]
        ({"filter": v1.WatchFilter(statuses=["a b"])}, "filter.statuses[0]"),
        ({"filter": v1.WatchFilter(task_ids=["x" * 129])}, "filter.task_ids[0]"),
        ({"filter": v1.WatchFilter(subtree_of="\u200b")}, "filter.subtree_of"),
    ],
)
async def test_bad_requests(
    server: "Server", client: Client, request_: dict[str, Any], field: str
) -> None:
    """A request that cannot be meant is refused before the first message, the field named."""
    async with watching(client, **request_) as stream:
        with pytest.raises(TaskloomError) as caught:
            await anext(stream)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in caught.value.field_violations] == [field]


async def test_subtree_of_nothing(server: "Server", client: Client) -> None:
    """A watch below a task that is not there is refused, with the task named."""
    for include_state in (False, True):
        filter = v1.WatchFilter(subtree_of="nowhere")
        async with watching(client, filter=filter, include_state=include_state) as stream:
            with pytest.raises(TaskloomError, match="nowhere") as caught:
                await anext(stream)
        assert caught.value.reason == "TASK_NOT_FOUND"


# The ends of watches.


async def test_reset_ends_watches(server: "Server", client: Client) -> None:
    """Reset ends every watch with INCARNATION_CHANGED, idle or behind, and names the new one."""
    await create(client, "t")
    async with (
        watching(client) as idle,
        watching(client, include_state=True) as stated,
        watching(client, start_revision=99) as early,
    ):
        for stream in (idle, stated, early):
            await anext(stream)
        await until(stated, 1)
        reset = await client.admin.Reset(v1.ResetRequest(confirm="reset"))
        for stream in (idle, stated, early):
            with pytest.raises(TaskloomError) as caught:
                await anext(stream)
            assert caught.value.code is grpc.StatusCode.OUT_OF_RANGE
            assert caught.value.reason == "INCARNATION_CHANGED"
            assert caught.value.metadata["incarnation"] == reset.incarnation


async def test_resume_in_another_incarnation(server: "Server", client: Client) -> None:
    """Resuming with the incarnation of before is refused; with the new one it is not."""
    await create(client, "t")
    async with watching(client) as stream:
        old = (await anext(stream)).created.incarnation
    reset = await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    assert reset.incarnation != old
    for state in (True, False):
        async with watching(client, include_state=state, incarnation=old) as stream:
            with pytest.raises(TaskloomError, match="INCARNATION_CHANGED"):
                await anext(stream)
        new = reset.incarnation
        async with watching(client, include_state=state, incarnation=new) as stream:
            assert (await anext(stream)).created.incarnation == new


async def test_history_before_a_reset_is_gone(server: "Server", client: Client) -> None:
    """A start before a Reset is refused with the oldest revision kept, from which one can start."""
    last = await live(client)
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    for start in (1, last):
        async with watching(client, start_revision=start) as stream:
            with pytest.raises(TaskloomError) as caught:
                await until(stream, last)
        assert caught.value.code is grpc.StatusCode.OUT_OF_RANGE
        assert caught.value.reason == "REVISION_COMPACTED"
        assert caught.value.metadata["oldest_revision"] == str(last + 1)
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert status.oldest_revision == last + 1
    await create(client, "anew")
    messages = await heard(client, last + 1, start_revision=last + 1)
    assert told(messages) == [("TASK_CREATED", "anew")]


async def test_history_before_a_reset_is_gone_with_others_writing(
    server: "Server", client: Client
) -> None:
    """However closely a Reset follows other writes, nothing from before it is told after it."""
    requests = [v1.CreateTaskRequest(id=f"t{n}", title="t") for n in range(60)]
    before, reset, after = await asyncio.gather(
        asyncio.gather(*(client.tasks.CreateTask(request) for request in requests[:30])),
        client.admin.Reset(v1.ResetRequest(confirm="reset")),
        asyncio.gather(*(client.tasks.CreateTask(request) for request in requests[30:])),
    )
    created = [*before, *after]
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    kept = {answer.task.id for answer in created if answer.revision > reset.revision}
    assert status.oldest_revision == reset.revision + 1
    last = (await create(client, "end")).revision
    messages = await heard(client, last, start_revision=status.oldest_revision)
    assert {id for _, id in told(messages)} == kept | {"end"}


async def test_shutdown_ends_watches(start_server: Callable[..., Any]) -> None:
    """A server that stops ends its watches as UNAVAILABLE, and says where to resume."""
    async with AsyncExitStack() as stack:
        async with start_server() as server:
            client = await stack.enter_async_context(Client(server.address))
            await create(client, "a")
            idle = await stack.enter_async_context(watching(client, start_revision=1))
            await until(idle, 1)
            future = await stack.enter_async_context(watching(client, start_revision=50))
            await anext(future)
        for stream, revision in ((idle, 1), (future, 49)):
            with pytest.raises(TaskloomError) as caught:
                await anext(stream)
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
            assert caught.value.reason == "SHUTTING_DOWN"
            assert caught.value.metadata["revision"] == str(revision)
            assert caught.value.retry_delay is not None
        async with start_server() as server, Client(server.address) as client:
            task = await create(client, "b")
            messages = await heard(client, task.revision, start_revision=2)
    assert told(messages) == [("TASK_CREATED", "b")]


async def test_the_incarnation_outlives_a_restart(start_server: Callable[..., Any]) -> None:
    """A restart of the server is no new incarnation: watches resume across it."""
    seen: list[str] = []
    for _ in range(2):
        async with start_server() as server, Client(server.address) as client:
            incarnation = seen[0] if seen else ""
            async with watching(client, incarnation=incarnation) as stream:
                seen.append((await anext(stream)).created.incarnation)
    assert seen[0] == seen[1] != ""


# Limits.


async def refusal_of(stream: Stream) -> str:
    """The reason for which a watch is refused; empty when it is not."""
    try:
        await anext(stream)
    except TaskloomError as error:
        return error.reason
    return ""


async def open_when_there_is_room(stack: AsyncExitStack, client: Client, **request: Any) -> None:
    """Open a watch, as often as it takes for the server to notice that another one went."""
    reason = "TOO_MANY_WATCHES"
    while reason:
        assert reason == "TOO_MANY_WATCHES"
        stream = await stack.enter_async_context(watching(client, **request))
        reason = await refusal_of(stream)


@pytest.mark.parametrize("start", [0, 1], ids=["idle", "stuck in sending"])
async def test_cancelled_watches_make_room(start_server: Callable[..., Any], start: int) -> None:
    """A watch that its client gave up makes room for another one, and nothing else does."""
    async with start_server(max_watches=1) as server, Client(server.address) as client:
        await create(client, "a")
        for n in range(120 * start):  # more than a stream keeps for a reader who does not come
            await update(client, "a", description=f"{n}" + "x" * 60_000)
        for _ in range(4):
            async with AsyncExitStack() as stack:
                await open_when_there_is_room(stack, client, start_revision=start)
                async with watching(client) as second:
                    with pytest.raises(TaskloomError) as caught:
                        await anext(second)
                assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert caught.value.reason == "TOO_MANY_WATCHES"
                assert caught.value.retry_delay


async def test_refused_watches_take_no_room(start_server: Callable[..., Any]) -> None:
    """Watches that were refused leave the limit where it was: neither tighter nor wider."""
    async with start_server(max_watches=1) as server, Client(server.address) as client:
        for _ in range(5):
            async with watching(client, start_revision=-1) as bad:
                assert await refusal_of(bad) in {"INVALID_FIELD", "TOO_MANY_WATCHES"}
        async with AsyncExitStack() as stack:
            await open_when_there_is_room(stack, client)
            for _ in range(5):
                async with watching(client) as refused:
                    assert await refusal_of(refused) == "TOO_MANY_WATCHES"


async def test_calls_go_on_when_watches_are_many(start_server: Callable[..., Any]) -> None:
    """Watches at their limit keep no other call out."""
    async with (
        start_server(max_watches=3, max_calls=1) as server,
        Client(server.address) as client,
        AsyncExitStack() as stack,
    ):
        for _ in range(3):
            stream = await stack.enter_async_context(watching(client))
            await anext(stream)
        for n in range(10):
            await create(client, f"t{n}")


async def refusal_of_status(client: Client) -> TaskloomError | None:
    """Why GetStatus is refused; None when it is not."""
    try:
        await client.admin.GetStatus(v1.GetStatusRequest())
    except TaskloomError as error:
        return error
    return None


async def test_watches_go_on_when_calls_are_many(start_server: Callable[..., Any]) -> None:
    """Calls at their limit keep no watch out, and are themselves told to come back."""
    first = asyncio.Event()

    async def endless() -> AsyncIterator[v1.ImportSnapshotRequest]:
        yield v1.ImportSnapshotRequest(options=v1.ImportOptions())
        first.set()
        await asyncio.Event().wait()

    async with start_server(max_calls=1) as server, Client(server.address) as client:
        call = client.admin.ImportSnapshot(endless())
        await first.wait()
        refused = None
        while refused is None:  # until the import has arrived
            refused = await refusal_of_status(client)
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.reason == "TOO_MANY_CALLS"
        assert refused.retry_delay
        async with watching(client, include_state=True) as stream:
            assert await refusal_of(stream) == ""
        call.cancel()
        while refused is not None:  # until the server has noticed
            assert refused.reason == "TOO_MANY_CALLS"
            refused = await refusal_of_status(client)
