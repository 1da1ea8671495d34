"""Bytes on the wire: what is no message is an invalid request, never a hang or an INTERNAL.

Messages whose fields are not of their form are in test_bad_input.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import Server

SERVICES = ["Worker", "Task", "Claim", "Watch", "File", "Attachment", "Admin"]
PATHS = {
    method.name: f"/{service.full_name}/{method.name}"
    for name in SERVICES
    for service in [descriptor_pool.Default().FindServiceByName(f"taskloom.v1.{name}Service")]
    for method in service.methods
}
INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def raw_refusal(call: Awaitable[object] | aio.UnaryStreamCall[Any, Any]) -> aio.AioRpcError:
    """The status with which a call of bytes ends."""
    awaitable = call.read() if isinstance(call, aio.UnaryStreamCall) else call
    with pytest.raises(aio.AioRpcError) as caught:
        await awaitable
    return caught.value


def check_unreadable(error: aio.AioRpcError) -> None:
    """The refusal is the server's own, and tells nothing of how the server is made."""
    assert error.code() is INVALID
    assert "DecodeError" not in (error.details() or "")
    status = rpc_status.from_call(error)
    assert status is not None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.reason, info.domain) == ("INVALID_FIELD", "taskloom")
    assert [violation.field for violation in bad.field_violations] == ["request"]


def bytes_call(
    channel: aio.Channel, method: str
) -> Callable[[bytes], Awaitable[object] | aio.UnaryStreamCall[Any, Any]]:
    """A call that sends bytes as they are."""
    path = PATHS[method]
    if method == "ImportSnapshot":
        stream: aio.StreamUnaryMultiCallable[Any, Any] = channel.stream_unary(path)
        return lambda contents: stream(iter([contents]), timeout=10)
    if method in ("ExportSnapshot", "WatchTasks"):
        listen: aio.UnaryStreamMultiCallable[Any, Any] = channel.unary_stream(path)
        return lambda contents: listen(contents, timeout=10)
    unary: aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(path)
    return lambda contents: unary(contents, timeout=10)


@pytest.fixture
async def channel(server: "Server") -> AsyncIterator[aio.Channel]:
    """A connection for calls of bytes."""
    async with aio.insecure_channel(server.address) as channel:
        yield channel


async def test_bytes_that_are_no_message(channel: aio.Channel) -> None:
    """To every call, bytes that are no message at all are an invalid request."""
    for method in PATHS:
        send = bytes_call(channel, method)
        for garbage in (b"\xff\xff\xff", b"\x0a\x05ab", b"\x08", b"\x0b", b"\x00"):
            check_unreadable(await raw_refusal(send(garbage)))


async def test_text_that_is_not_utf8(channel: aio.Channel) -> None:
    """In every text field of every call, bytes that are not UTF-8 are an invalid request.

    So are halves of characters: what Python calls a lone surrogate has no form on the wire.
    """
    for method in PATHS:
        send = bytes_call(channel, method)
        for field in getattr(v1, f"{method}Request").DESCRIPTOR.fields:
            if field.type != field.TYPE_STRING:
                continue
            tag = bytes([field.number << 3 | 2]) if field.number < 16 else None
            if tag is None:
                tag = bytes([field.number << 3 & 127 | 130, field.number >> 4])
            for text in (b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"):
                contents = tag + bytes([len(text)]) + text
                check_unreadable(await raw_refusal(send(contents)))


async def test_an_empty_message_is_a_request(channel: aio.Channel) -> None:
    """No bytes at all are a message without fields: each call answers or says what it lacks."""
    for method in PATHS.keys() - {"ImportSnapshot", "ExportSnapshot", "WatchTasks"}:
        call = bytes_call(channel, method)(b"")
        assert isinstance(call, aio.UnaryUnaryCall)
        assert await call.code() in (grpc.StatusCode.OK, INVALID), method


async def test_fields_of_the_future_are_passed_over(channel: aio.Channel) -> None:
    """A field that this server does not know does not spoil a request."""
    contents = v1.GetWorkflowRequest(name="swarm").SerializeToString() + b"\xc2\x3e\x01x"
    call = bytes_call(channel, "GetWorkflow")(contents)
    assert isinstance(call, aio.UnaryUnaryCall)
    answer = v1.GetWorkflowResponse.FromString(await call)
    assert answer.workflow.name == "swarm"


async def test_a_lone_surrogate_cannot_be_sent() -> None:
    """Half a character is refused by the client's own message, before anything is sent."""
    with pytest.raises(UnicodeEncodeError):
        v1.CreateTaskRequest(title="\ud800")


async def test_a_message_that_is_too_large(client: Client) -> None:
    """A message beyond 8 MiB is RESOURCE_EXHAUSTED, and the connection goes on."""
    request = v1.CreateTaskRequest(title="x", description="x" * (8 << 20))
    with pytest.raises(TaskloomError) as caught:
        await client.tasks.CreateTask(request)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not caught.value.transient, "it will not fit the next time"
    assert (await client.admin.GetStatus(v1.GetStatusRequest())).revision == 0


async def test_a_call_that_there_is_not(channel: aio.Channel) -> None:
    """A method that the server does not have is UNIMPLEMENTED."""
    call: aio.UnaryUnaryMultiCallable[Any, Any]
    call = channel.unary_unary("/taskloom.v1.TaskService/DoEverything")
    error = await raw_refusal(call(b"", timeout=10))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
