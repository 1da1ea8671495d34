"""What every call goes through: request ids, retries, deadlines, connections."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import aio
from taskloom import v1
from taskloom_client import Client, TaskloomError, Unavailable

if TYPE_CHECKING:
    from tests.client.conftest import Refuse, ScriptedServer

Context = aio.ServicerContext[Any, Any]


async def test_retries_keep_the_request_id(
    scripted: "ScriptedServer", scripted_client: Client, refuse: "Refuse"
) -> None:
    """A call that meets UNAVAILABLE is repeated, by one request_id that was made up for it."""

    async def create(request: v1.CreateTaskRequest, context: Context) -> v1.CreateTaskResponse:
        if len(scripted.requests) < 3:
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        return v1.CreateTaskResponse(revision=7)

    scripted.answers["CreateTask"] = create
    request = v1.CreateTaskRequest(title="x")
    answer = await scripted_client.tasks.CreateTask(request)
    assert answer.revision == 7
    assert len(scripted.requests) == 3
    assert len({each.request_id for each in scripted.requests}) == 1
    assert len(scripted.requests[0].request_id) == 36
    assert request == v1.CreateTaskRequest(title="x"), "the caller's message is the caller's"


async def test_every_call_has_its_own_request_id(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """The same message sent twice is two requests; an id of the caller's own is left alone."""

    async def create(request: v1.CreateTaskRequest, context: Context) -> v1.CreateTaskResponse:
        return v1.CreateTaskResponse()

    scripted.answers["CreateTask"] = create
    request = v1.CreateTaskRequest(title="x")
    await scripted_client.tasks.CreateTask(request)
    await scripted_client.tasks.CreateTask(request)
    await scripted_client.tasks.CreateTask(v1.CreateTaskRequest(request_id="mine"))
    first, second, third = (each.request_id for each in scripted.requests)
    assert first != second
    assert third == "mine"


@pytest.mark.parametrize("code", [grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL])
async def test_only_unavailable_is_retried(
    scripted: "ScriptedServer", scripted_client: Client, refuse: "Refuse", code: grpc.StatusCode
) -> None:
    """A refusal that is not UNAVAILABLE is raised at once."""

    async def status(request: v1.GetStatusRequest, context: Context) -> None:
        await refuse(context, code, "WHATEVER")

    scripted.answers["GetStatus"] = status
    with pytest.raises(TaskloomError):
        await scripted_client.admin.GetStatus(v1.GetStatusRequest())
    assert len(scripted.requests) == 1


async def test_deadlines(scripted: "ScriptedServer") -> None:
    """A unary call has the client's deadline, or its own where it is given one."""
    left: list[float] = []

    async def status(request: v1.GetStatusRequest, context: Context) -> v1.GetStatusResponse:
        left.append(context.time_remaining())
        return v1.GetStatusResponse()

    scripted.answers["GetStatus"] = status
    async with Client(scripted.address, timeout=300) as client:
        await client.admin.GetStatus(v1.GetStatusRequest())
        await client.admin.GetStatus(v1.GetStatusRequest(), timeout=100)
    assert 200 < left[0] < 302
    assert 50 < left[1] < 102, "gRPC rounds up what is left"


async def test_streams_have_no_deadline(scripted: "ScriptedServer") -> None:
    """A stream may last; the client's deadline is for unary calls."""
    left: list[float | None] = []

    async def export(
        request: v1.ExportSnapshotRequest, context: Context
    ) -> AsyncIterator[v1.ExportSnapshotResponse]:
        left.append(context.time_remaining())
        yield v1.ExportSnapshotResponse(chunk=b"{}")

    scripted.answers["ExportSnapshot"] = export
    async with Client(scripted.address, timeout=300) as client:
        chunks = [
            each.chunk async for each in client.admin.ExportSnapshot(v1.ExportSnapshotRequest())
        ]
    assert chunks == [b"{}"]
    assert left == [None]


async def test_a_late_answer_is_a_sentence(scripted: "ScriptedServer") -> None:
    """A call that is not answered in time says which, and how long it waited."""
    forever = asyncio.Event()

    async def status(request: v1.GetStatusRequest, context: Context) -> None:
        await forever.wait()

    scripted.answers["GetStatus"] = status
    async with Client(scripted.address, timeout=0.2) as client:
        with pytest.raises(TaskloomError) as caught:
            await client.admin.GetStatus(v1.GetStatusRequest())
    assert str(caught.value) == "GetStatus was not answered within 0.2 s (DEADLINE_EXCEEDED)"
    assert caught.value.transient


async def test_no_server_is_a_sentence(scripted: "ScriptedServer") -> None:
    """Where nobody listens the call raises Unavailable, and says where that was."""
    await scripted.stop()
    async with Client(scripted.address) as client:
        with pytest.raises(Unavailable) as caught:
            await client.admin.GetStatus(v1.GetStatusRequest())
    assert str(caught.value).startswith(f"the server at {scripted.address} cannot be reached: ")
    assert "\n" not in str(caught.value)


async def test_cancelling_a_call_cancels_it_at_the_server(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """A caller that gives up takes its call along."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def status(request: v1.GetStatusRequest, context: Context) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    scripted.answers["GetStatus"] = status

    async def ask() -> None:
        await scripted_client.admin.GetStatus(v1.GetStatusRequest())

    asking = asyncio.create_task(ask())
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await ended.wait()


def _import(received: list[v1.ImportSnapshotRequest]) -> Any:
    async def answer(
        requests: AsyncIterator[v1.ImportSnapshotRequest], context: Context
    ) -> v1.ImportSnapshotResponse:
        received.extend([request async for request in requests])
        return v1.ImportSnapshotResponse(revision=3)

    return answer


async def test_streamed_import_is_named(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """An import's options get a request_id, and nothing else of the stream is touched."""
    received: list[v1.ImportSnapshotRequest] = []
    scripted.answers["ImportSnapshot"] = _import(received)
    options = v1.ImportSnapshotRequest(options=v1.ImportOptions(mode=v1.IMPORT_MODE_RESTORE))
    chunk = v1.ImportSnapshotRequest(chunk=b"{}")
    answer = await scripted_client.admin.ImportSnapshot(iter([options, chunk]))
    assert answer.revision == 3
    assert received[0].options.mode == v1.IMPORT_MODE_RESTORE
    assert len(received[0].options.request_id) == 36
    assert received[1] == chunk
    assert not options.options.request_id


async def test_import_can_be_written(scripted: "ScriptedServer", scripted_client: Client) -> None:
    """The stream of an import can be written to, message by message."""
    received: list[v1.ImportSnapshotRequest] = []
    scripted.answers["ImportSnapshot"] = _import(received)
    call = scripted_client.admin.ImportSnapshot()
    await call.write(v1.ImportSnapshotRequest(options=v1.ImportOptions()))
    await call.write(v1.ImportSnapshotRequest(chunk=b"{}"))
    await call.done_writing()
    assert (await call).revision == 3
    assert [each.WhichOneof("content") for each in received] == ["options", "chunk"]
    assert received[0].options.request_id


async def test_refused_import_is_an_exception(
    scripted: "ScriptedServer", scripted_client: Client, refuse: "Refuse"
) -> None:
    """A streamed request that is refused raises as a unary one does."""

    async def answer(requests: AsyncIterator[v1.ImportSnapshotRequest], context: Context) -> None:
        await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SNAPSHOT", "row 7 is odd")

    scripted.answers["ImportSnapshot"] = answer
    chunk = v1.ImportSnapshotRequest(chunk=b"x")
    with pytest.raises(TaskloomError, match="row 7 is odd") as caught:
        await scripted_client.admin.ImportSnapshot(iter([chunk]))
    assert caught.value.reason == "INVALID_SNAPSHOT"


async def test_refused_stream_is_an_exception(
    scripted: "ScriptedServer", scripted_client: Client, refuse: "Refuse"
) -> None:
    """A stream that breaks off raises where it is read."""

    async def export(
        request: v1.ExportSnapshotRequest, context: Context
    ) -> AsyncIterator[v1.ExportSnapshotResponse]:
        yield v1.ExportSnapshotResponse(chunk=b"{")
        await refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")

    scripted.answers["ExportSnapshot"] = export
    messages = aiter(scripted_client.admin.ExportSnapshot(v1.ExportSnapshotRequest()))
    assert (await anext(messages)).chunk == b"{"
    with pytest.raises(TaskloomError) as caught:
        await anext(messages)
    assert caught.value.reason == "TOO_MANY_CALLS"


async def test_ready_waits_for_the_server(scripted: "ScriptedServer") -> None:
    """A client that is there before its server is ready as soon as that is."""
    await scripted.stop()
    async with Client(scripted.address) as client:
        waiting = asyncio.create_task(client.ready(20))
        await scripted.start()
        await waiting


async def test_ready_gives_up(scripted: "ScriptedServer") -> None:
    """Where no server comes, waiting for one ends as asked."""
    await scripted.stop()
    async with Client(scripted.address) as client:
        with pytest.raises(Unavailable, match=f"no server answered at {scripted.address}"):
            await client.ready(0.2)


async def test_loopback_goes_through_no_proxy(
    scripted: "ScriptedServer", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in the environment is not asked for a server on the same machine."""

    async def status(request: v1.GetStatusRequest, context: Context) -> v1.GetStatusResponse:
        return v1.GetStatusResponse(version="here")

    scripted.answers["GetStatus"] = status
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    async with Client(scripted.address) as client:
        assert (await client.admin.GetStatus(v1.GetStatusRequest())).version == "here"


def test_a_client_needs_a_loop() -> None:
    """A client made outside of a running loop says so, and not something about a channel."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        Client()


def test_the_client_stands_alone() -> None:
    """Importing the client takes nothing but gRPC and protobuf along; the rest is the CLI's."""
    script = """
import sys
import google.protobuf, grpc.aio
before = {name.partition(".")[0] for name in sys.modules}
import taskloom_client
print(*{name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert set(run.stdout.split()) == {"taskloom", "taskloom_client"}
