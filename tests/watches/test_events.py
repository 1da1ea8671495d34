"""What events carry: the object as it was afterwards, who, why and when."""

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client

from tests.watches.life import claim, connect, create, update
from tests.watches.streams import events_of, heard, name_of, told, until, watching

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock


DAY_MS = 24 * 3600 * 1000


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
