"""request_id: for 24 hours the same id again brings the first answer again and changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc import aio
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.snapshot_calls import headless

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

DAY_MS = 24 * 3600 * 1000
SERVICE_OF = {
    method.name: service.full_name
    for name in ("Worker", "Task", "Claim", "File", "Attachment", "Admin")
    for service in [descriptor_pool.Default().FindServiceByName(f"taskloom.v1.{name}Service")]
    for method in service.methods
}
SNAPSHOT = b"""{"schema_version": 3, "tables": {
    "tasks": [{"id": "imported", "title": "x", "tags": ["t"]}, {"id": "another", "title": "y"}],
    "dependencies": [{"from_task_id": "imported", "to_task_id": "another", "dep_type": "blocks"}],
    "attachments": [{"task_id": "imported", "attachment_type": "note", "content": "z"}]
}}"""

# Of each mutation, two requests: the second differs in contents only. On a graph of tasks a to d,
# of which worker w, with an overlay, holds b; a blocks c; a.py is marked by w; a has a note.
CASES: dict[str, tuple[Message, Message]] = {
    "Connect": (v1.ConnectRequest(), v1.ConnectRequest(tags=["x"])),
    "Disconnect": (
        v1.DisconnectRequest(worker_id="w"),
        v1.DisconnectRequest(worker_id="w", reason="why"),
    ),
    "AddOverlay": (
        v1.AddOverlayRequest(worker_id="w", overlay="careful"),
        v1.AddOverlayRequest(worker_id="w", overlay="tdd"),
    ),
    "RemoveOverlay": (
        v1.RemoveOverlayRequest(worker_id="w", overlay="tdd"),
        v1.RemoveOverlayRequest(worker_id="w", overlay="careful"),
    ),
    "CreateTask": (v1.CreateTaskRequest(title="x"), v1.CreateTaskRequest(title="y")),
    "CreateTaskTree": (
        v1.CreateTaskTreeRequest(root=v1.TaskNode(title="x", children=[v1.TaskNode(title="z")])),
        v1.CreateTaskTreeRequest(root=v1.TaskNode(title="x", children=[v1.TaskNode(title="y")])),
    ),
    "UpdateTask": (
        v1.UpdateTaskRequest(task_id="a", status="cancelled"),
        v1.UpdateTaskRequest(task_id="a", status="cancelled", reason="why"),
    ),
    "DeleteTask": (v1.DeleteTaskRequest(task_id="a"), v1.DeleteTaskRequest(task_id="d")),
    "LinkTasks": (
        v1.LinkTasksRequest(from_task_id="c", to_task_id="d"),
        v1.LinkTasksRequest(from_task_id="d", to_task_id="c"),
    ),
    "UnlinkTasks": (
        v1.UnlinkTasksRequest(from_task_id="a", to_task_id="c"),
        v1.UnlinkTasksRequest(from_task_id="a", to_task_id="c", type=v1.DEPENDENCY_TYPE_BLOCKS),
    ),
    "SignalTask": (
        v1.SignalTaskRequest(task_id="a"),
        v1.SignalTaskRequest(task_id="a", type=v1.SIGNAL_TYPE_BREAKTHROUGH),
    ),
    "BoostTask": (
        v1.BoostTaskRequest(task_id="a", boost=0.5),
        v1.BoostTaskRequest(task_id="a", boost=0.25),
    ),
    "LogMetrics": (
        v1.LogMetricsRequest(task_id="a", metrics=v1.Metrics(tokens_in=1, cost_usd=0.25)),
        v1.LogMetricsRequest(task_id="a", metrics=v1.Metrics(tokens_in=2, cost_usd=0.25)),
    ),
    "SetThought": (
        v1.SetThoughtRequest(worker_id="w", thought="hm"),
        v1.SetThoughtRequest(worker_id="w", task_id="b", thought="hm"),
    ),
    "UpdateTasks": (
        v1.UpdateTasksRequest(updates=[v1.UpdateTaskRequest(task_id="a", status="cancelled")]),
        v1.UpdateTasksRequest(updates=[v1.UpdateTaskRequest(task_id="a", priority=1)]),
    ),
    "RenameTask": (
        v1.RenameTaskRequest(task_id="a", new_task_id="x"),
        v1.RenameTaskRequest(task_id="a", new_task_id="y"),
    ),
    "RestoreTask": (
        v1.RestoreTaskRequest(task_id="gone"),
        v1.RestoreTaskRequest(task_id="gone", cascade=True),
    ),
    "ObliterateTask": (
        v1.ObliterateTaskRequest(task_id="a"),
        v1.ObliterateTaskRequest(task_id="d"),
    ),
    "RelinkTasks": (
        v1.RelinkTasksRequest(
            remove=[v1.Dependency(from_task_id="a", to_task_id="c")],
            add=[v1.Dependency(from_task_id="d", to_task_id="c")],
        ),
        v1.RelinkTasksRequest(remove=[v1.Dependency(from_task_id="a", to_task_id="c")]),
    ),
    "ClaimTask": (
        v1.ClaimTaskRequest(worker_id="w", task_id="a"),
        v1.ClaimTaskRequest(worker_id="w", task_id="d"),
    ),
    "ClaimNextTask": (
        v1.ClaimNextTaskRequest(worker_id="w"),
        v1.ClaimNextTaskRequest(worker_id="w", lease=Duration(seconds=9)),
    ),
    "ReleaseTask": (
        v1.ReleaseTaskRequest(worker_id="w", task_id="b"),
        v1.ReleaseTaskRequest(worker_id="w", task_id="b", reason="why"),
    ),
    "CompleteTask": (
        v1.CompleteTaskRequest(worker_id="w", task_id="b"),
        v1.CompleteTaskRequest(worker_id="w", task_id="b", reason="why"),
    ),
    "FailTask": (
        v1.FailTaskRequest(worker_id="w", task_id="b", retry=True),
        v1.FailTaskRequest(worker_id="w", task_id="b", retry=False),
    ),
    "MarkFiles": (
        v1.MarkFilesRequest(worker_id="w", paths=["b.py"]),
        v1.MarkFilesRequest(worker_id="w", paths=["b.py", "c.py"]),
    ),
    "UnmarkFiles": (
        v1.UnmarkFilesRequest(worker_id="w", paths=["a.py"]),
        v1.UnmarkFilesRequest(worker_id="w"),
    ),
    "Attach": (
        v1.AttachRequest(task_id="a", type="note", content=b"x"),
        v1.AttachRequest(task_id="a", type="note", content=b"y"),
    ),
    "Detach": (
        v1.DetachRequest(task_id="a", type="note", sequence=0),
        v1.DetachRequest(task_id="a", type="note", sequence=1),
    ),
    "Pause": (v1.PauseRequest(by="me"), v1.PauseRequest(by="you")),
    "Resume": (v1.ResumeRequest(by="me"), v1.ResumeRequest(by="you")),
    "Reset": (v1.ResetRequest(confirm="reset"), v1.ResetRequest(confirm="reset")),
    "ImportSnapshot": (
        v1.ImportOptions(),
        v1.ImportOptions(mode=v1.IMPORT_MODE_TEMPLATE),
    ),
}
# A Reset is always the same request.
WITH_OTHER_CONTENTS = [name for name in CASES if name != "Reset"]


async def call(channel: aio.Channel, method: str, request: Any, request_id: str) -> bytes:
    """The answer to a request under a request_id, byte for byte."""
    named = type(request)()
    named.CopyFrom(request)
    named.request_id = request_id
    path = f"/{SERVICE_OF[method]}/{method}"
    if method == "ImportSnapshot":
        stream: aio.StreamUnaryMultiCallable[Any, bytes] = channel.stream_unary(path)
        messages = [
            v1.ImportSnapshotRequest(options=named),
            v1.ImportSnapshotRequest(chunk=SNAPSHOT[:100]),
            v1.ImportSnapshotRequest(chunk=SNAPSHOT[100:]),
        ]
        return await stream(iter([each.SerializeToString() for each in messages]), timeout=10)
    unary: aio.UnaryUnaryMultiCallable[Any, bytes] = channel.unary_unary(path)
    return await unary(named.SerializeToString(), timeout=10)


async def prepare(client: Client) -> None:
    """The graph that the cases speak of."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", overlays=["tdd"], max_claims=9))
    for id in ("a", "b", "c", "d"):
        blockers = ["a"] if id == "c" else []
        created = v1.CreateTaskRequest(id=id, title=id, blocked_by=blockers)
        await client.tasks.CreateTask(created)
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="b"))
    await client.files.MarkFiles(v1.MarkFilesRequest(worker_id="w", paths=["a.py"]))
    note = v1.AttachRequest(task_id="a", type="note", content=b"x")
    await client.attachments.Attach(note)
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="gone", title="gone"))
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))


async def everything(client: Client) -> list[Any]:
    """All there is to see: the export but for its header, workers, marks, and the revision."""
    answers = client.admin.ExportSnapshot(v1.ExportSnapshotRequest())
    exported = b"".join([answer.chunk async for answer in answers])
    every = v1.ListWorkersRequest(include_disconnected=True)
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    return [
        headless(exported),
        list((await client.workers.ListWorkers(every)).workers),
        list((await client.files.ListFileMarks(v1.ListFileMarksRequest())).marks),
        (status.revision, status.incarnation, status.paused),
    ]


@pytest.fixture
async def channel(timed_server: "Server") -> AsyncIterator[aio.Channel]:
    """A connection for calls of bytes."""
    async with aio.insecure_channel(timed_server.address) as channel:
        yield channel


def test_every_mutation_is_here() -> None:
    """The cases are all calls whose request, or whose first message, has a request_id."""
    having = {
        name
        for name in SERVICE_OF
        if "request_id" in getattr(v1, f"{name}Request").DESCRIPTOR.fields_by_name
    }
    assert having | {"ImportSnapshot"} == CASES.keys()


@pytest.mark.parametrize("method", CASES)
async def test_a_repeated_request_has_one_effect(
    timed_client: Client, clock: "TestClock", channel: aio.Channel, method: str
) -> None:
    """The same request under the same id is answered byte for byte alike, and changes nothing."""
    await prepare(timed_client)
    before = await everything(timed_client)
    first = await call(channel, method, CASES[method][0], "r")
    after = await everything(timed_client)
    assert (after == before) == (method == "Resume"), "there is an effect to be had"
    clock.advance(1_000)
    again = await call(channel, method, CASES[method][0], "r")
    assert again == first
    assert await everything(timed_client) == after


@pytest.mark.parametrize("method", WITH_OTHER_CONTENTS)
async def test_an_id_belongs_to_its_contents(
    timed_client: Client, channel: aio.Channel, method: str
) -> None:
    """Another request under an id that was used is refused, and changes nothing."""
    await prepare(timed_client)
    await call(channel, method, CASES[method][0], "r")
    after = await everything(timed_client)
    with pytest.raises(aio.AioRpcError) as caught:
        await call(channel, method, CASES[method][1], "r")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "request_id 'r'" in (caught.value.details() or "")
    assert await everything(timed_client) == after


async def test_the_reason_of_a_reused_id(timed_client: Client) -> None:
    """The refusal of an id with other contents is REQUEST_ID_REUSED."""
    await timed_client.tasks.CreateTask(v1.CreateTaskRequest(title="x", request_id="r"))
    with pytest.raises(TaskloomError) as caught:
        await timed_client.tasks.CreateTask(v1.CreateTaskRequest(title="y", request_id="r"))
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_an_id_belongs_to_its_call(timed_client: Client, channel: aio.Channel) -> None:
    """The id of one call is none for another, though their fields are equal."""
    await prepare(timed_client)
    await call(channel, "ReleaseTask", CASES["ReleaseTask"][0], "r")
    with pytest.raises(aio.AioRpcError) as caught:
        await call(channel, "CompleteTask", CASES["CompleteTask"][0], "r")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_imports_bytes_are_its_contents(timed_client: Client) -> None:
    """The same import options with another file are other contents."""

    async def bring_in(file: bytes) -> v1.ImportSnapshotResponse:
        options = v1.ImportOptions(request_id="r")
        messages = [
            v1.ImportSnapshotRequest(options=options),
            v1.ImportSnapshotRequest(chunk=file),
        ]
        return await timed_client.admin.ImportSnapshot(iter(messages))

    first = await bring_in(SNAPSHOT)
    assert await bring_in(SNAPSHOT) == first
    with pytest.raises(TaskloomError, match="REQUEST_ID_REUSED"):
        await bring_in(SNAPSHOT.replace(b"imported", b"imposter"))


async def test_answers_survive_a_restart(
    start_server: Callable[..., Any], clock: "TestClock"
) -> None:
    """What was answered before a restart is answered after it, for every mutation."""
    for method, (request, _) in CASES.items():
        async with (
            start_server(clock=clock) as server,
            Client(server.address) as client,
            aio.insecure_channel(server.address) as channel,
        ):
            await client.admin.Reset(v1.ResetRequest(confirm="reset"))
            await prepare(client)
            first = await call(channel, method, request, "r")
            after = await everything(client)
        async with (
            start_server(clock=clock) as server,
            Client(server.address) as client,
            aio.insecure_channel(server.address) as channel,
        ):
            assert await call(channel, method, request, "r") == first, method
            assert await everything(client) == after, method


async def test_an_answer_is_remembered_for_a_day(timed_client: Client, clock: "TestClock") -> None:
    """For 24 hours the first answer comes again, whatever became of the task; then no more."""
    request = v1.CreateTaskRequest(id="a", title="x", request_id="r")
    first = await timed_client.tasks.CreateTask(request)
    await timed_client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="a"))
    clock.advance(DAY_MS - 1)
    assert await timed_client.tasks.CreateTask(request) == first
    clock.advance(1)
    with pytest.raises(TaskloomError, match="TASK_EXISTS"):
        await timed_client.tasks.CreateTask(request)


async def test_a_forgotten_id_may_be_used_anew(timed_client: Client, clock: "TestClock") -> None:
    """After 24 hours an id is as good as new, and belongs to its new contents for another day."""
    for title in ("x", "y"):
        request = v1.CreateTaskRequest(title=title, request_id="r")
        first = await timed_client.tasks.CreateTask(request)
        assert first.task.title == title
        clock.advance(DAY_MS - 1)
        assert await timed_client.tasks.CreateTask(request) == first
        clock.advance(1)


async def test_repeating_does_not_prolong(timed_client: Client, clock: "TestClock") -> None:
    """The day begins with the first answer, not with the last repetition."""
    request = v1.AttachRequest(task_id="a", type="note", request_id="r")
    await timed_client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="x"))
    await timed_client.attachments.Attach(request)
    clock.advance(DAY_MS // 2)
    assert (await timed_client.attachments.Attach(request)).attachment.sequence == 0
    clock.advance(DAY_MS // 2)
    assert (await timed_client.attachments.Attach(request)).attachment.sequence == 1


async def test_duplicates_at_the_same_time_have_one_effect(timed_client: Client) -> None:
    """Of many equal requests at once one is carried out, and all are given its answer."""
    request = v1.CreateTaskRequest(title="x", request_id="r")
    answers = await asyncio.gather(*(timed_client.tasks.CreateTask(request) for _ in range(50)))
    assert all(answer == answers[0] for answer in answers)
    listed = await timed_client.tasks.ListTasks(v1.ListTasksRequest())
    assert list(listed.tasks) == [answers[0].task]
    assert answers[0].revision == listed.revision == 1


async def test_claims_repeated_at_once_give_one_task(timed_client: Client) -> None:
    """ClaimNextTask repeated under one id gives the same task, not a task each."""
    await prepare(timed_client)
    request = v1.ClaimNextTaskRequest(worker_id="w", request_id="r")
    answers = await asyncio.gather(*(timed_client.claims.ClaimNextTask(request) for _ in range(20)))
    assert {task.id for answer in answers for task in answer.tasks} == {"a"}
    status = await timed_client.admin.GetStatus(v1.GetStatusRequest())
    assert status.claimed_tasks == 2, "the one from before, and one more"


async def test_a_refusal_is_judged_anew(timed_client: Client) -> None:
    """A refused call is not remembered: what was in the way may be gone the next time."""
    await prepare(timed_client)
    blocked = v1.ClaimTaskRequest(worker_id="w", task_id="c", request_id="blocked")
    missing = v1.LinkTasksRequest(from_task_id="a", to_task_id="e", request_id="missing")
    with pytest.raises(TaskloomError, match="DEPENDENCIES_UNMET"):
        await timed_client.claims.ClaimTask(blocked)
    with pytest.raises(TaskloomError, match="TASK_NOT_FOUND"):
        await timed_client.tasks.LinkTasks(missing)
    await timed_client.tasks.CreateTask(v1.CreateTaskRequest(id="e", title="e"))
    assert (await timed_client.tasks.LinkTasks(missing)).created
    update = v1.UpdateTaskRequest(task_id="a", status="cancelled")
    await timed_client.tasks.UpdateTask(update)
    claimed = await timed_client.claims.ClaimTask(blocked)
    assert claimed.task.worker_id == "w"


async def test_a_refused_request_leaves_its_id_free(timed_client: Client) -> None:
    """The id of a refused request may be used for another one."""
    wrong = v1.CreateTaskRequest(title="x", parent_id="nobody", request_id="r")
    with pytest.raises(TaskloomError, match="TASK_NOT_FOUND"):
        await timed_client.tasks.CreateTask(wrong)
    right = v1.CreateTaskRequest(title="x", request_id="r")
    assert (await timed_client.tasks.CreateTask(right)).task.title == "x"


async def test_an_outcome_without_a_task_is_not_remembered(timed_client: Client) -> None:
    """Who was told that there is nothing to claim may ask again by the same request_id."""
    await timed_client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    request = v1.ClaimNextTaskRequest(worker_id="w", request_id="r")
    first = await timed_client.claims.ClaimNextTask(request)
    assert first.outcome == v1.CLAIM_OUTCOME_ALL_DONE
    await timed_client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="x"))
    given = await timed_client.claims.ClaimNextTask(request)
    assert [task.id for task in given.tasks] == ["a"]
    assert await timed_client.claims.ClaimNextTask(request) == given


async def test_a_reset_forgets_all_answers_but_its_own(timed_client: Client) -> None:
    """After a Reset the ids used before are new; that of the Reset itself is known."""
    create = v1.CreateTaskRequest(id="a", title="x", request_id="r")
    before = await timed_client.tasks.CreateTask(create)
    reset = v1.ResetRequest(confirm="reset", request_id="reset")
    first = await timed_client.admin.Reset(reset)
    after = await timed_client.tasks.CreateTask(create)
    assert after.revision > before.revision
    assert await timed_client.admin.Reset(reset) == first
    shown = await timed_client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))
    assert shown.task == after.task
