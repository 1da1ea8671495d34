"""What surrounds every call: the cap on calls at once, refusals as statuses, no leaks.

An exception that nobody foresaw is logged here and told to the client as INTERNAL without its
text, since grpc.aio would send that.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from enum import Enum
from functools import cache
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from grpc import aio

from taskloom_server.graph.errors import (
    DomainError,
    InvalidField,
    ShuttingDown,
    TooManyCalls,
    TooManyWatches,
)
from taskloom_server.service.errors import code_of, message_of, trailing_metadata
from taskloom_server.service.unread import Unread
from taskloom_server.store.ledger import WriterStopped

_OURS = "/taskloom."
_MAY_WAIT = frozenset(
    ("/taskloom.v1.ClaimService/ClaimNextTask", "/taskloom.v1.FileService/MarkFiles")
)
_COME_BACK_MS = 1000
_LARGE = 64 << 10  # bytes of an answer: more than gRPC takes at once for one who does not read

_log = structlog.get_logger("service")


class _Kind(Enum):
    """What is counted together; the value is how a person would call it."""

    CALL = "calls under way"
    HEARTBEAT = "heartbeats under way"
    WATCH = "watches open"
    WAIT = "claims waiting and streams of work"
    TRANSFER = "attachments coming and going"


_OF_METHOD = {
    "/taskloom.v1.WorkerService/Heartbeat": _Kind.HEARTBEAT,
    "/taskloom.v1.WatchService/WatchTasks": _Kind.WATCH,
    "/taskloom.v1.ClaimService/Work": _Kind.WAIT,
    "/taskloom.v1.AttachmentService/UploadAttachment": _Kind.TRANSFER,
    "/taskloom.v1.AttachmentService/DownloadAttachment": _Kind.TRANSFER,
}


class Gate(aio.ServerInterceptor):
    """Lets calls of taskloom's services in, up to a number of each kind, until it is closed.

    Watches, claims that wait with streams of work, transfers of attachments, heartbeats, and all
    other calls are counted apart, so that neither watches nor idle agents can keep claims out, no
    flood can make leases end, and what the transfers hold in memory is bounded. So is what is
    held of large answers that are not read.
    """

    def __init__(
        self,
        *,
        max_calls: int,
        max_watches: int,
        max_waits: int,
        max_transfers: int,
        max_unread: int,
    ) -> None:
        """``max_unread`` is in bytes."""
        self._limits = {
            _Kind.CALL: max_calls,
            _Kind.HEARTBEAT: max_calls,
            _Kind.WATCH: max_watches,
            _Kind.WAIT: max_waits,
            _Kind.TRANSFER: max_transfers,
        }
        self._unread = Unread(max_unread)
        self._inside = dict.fromkeys(_Kind, 0)
        self._handlers: dict[str, Any] = {}
        self.closed = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap a method's handler, once for each method."""
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            handler = await continuation(handler_call_details)
            if handler is not None and method.startswith(_OURS):
                handler = self._wrap(handler, method)
                self._handlers[method] = handler
        return handler

    def _wrap(self, handler: Any, method: str) -> Any:
        may_wait = method in _MAY_WAIT
        usual = _OF_METHOD.get(method, _Kind.CALL)
        behavior = handler.unary_unary or handler.stream_unary
        stream_behavior = handler.unary_stream or handler.stream_stream
        serialization: dict[str, Any] = {
            "request_deserializer": (
                handler.request_deserializer
                if handler.request_streaming
                else _decoding(handler.request_deserializer)
            ),
            "response_serializer": _encode,
        }

        async def answer(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
            if isinstance(request, DomainError):
                raise request
            kind = _Kind.WAIT if may_wait and request.HasField("wait") else usual
            self._enter(kind)
            try:
                return await behavior(request, context)
            finally:
                self._inside[kind] -= 1

        async def guarded_answer(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
            try:
                response = await answer(request, context)
                kind: Any = type(request)
                if _only_reads(kind) and (size := response.ByteSize()) > _LARGE:
                    self._unread.hold(context, size)
                return response
            except Exception as error:
                await _abort(context, method, error)

        async def guarded_stream(
            request: Any, context: aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            try:
                if isinstance(request, DomainError):
                    raise request
                self._enter(usual)
            except DomainError as error:
                await _abort(context, method, error)
            # Generators are not closed when their call is cancelled, so not in a `finally`.
            context.add_done_callback(left)  # type: ignore[arg-type]
            try:
                async for message in stream_behavior(request, context):
                    yield message
                    del message  # or it would be kept until the next one comes
            except Exception as error:
                await _abort(context, method, error)

        def left(_: Any) -> None:  # called with the context, whatever the stubs say
            self._inside[usual] -= 1

        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(guarded_answer, **serialization)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(guarded_answer, **serialization)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(guarded_stream, **serialization)
        return grpc.stream_stream_rpc_method_handler(guarded_stream, **serialization)

    def _enter(self, kind: "_Kind") -> None:
        if self.closed:
            raise ShuttingDown("the server is shutting down", retry_after_ms=_COME_BACK_MS)
        limit = self._limits[kind]
        if self._inside[kind] >= limit:
            error = TooManyWatches if kind is _Kind.WATCH else TooManyCalls
            raise error(
                f"the server has {limit} {kind.value}, its limit", retry_after_ms=_COME_BACK_MS
            )
        self._inside[kind] += 1


def _encode(response: Message) -> bytes:
    """Equal answers as equal bytes: the entries of a map would come in any order else."""
    return response.SerializeToString(deterministic=True)


@cache
def _only_reads(request: Hashable) -> bool:
    """Whether calls with such requests change nothing, and may be refused after they were made.

    Found out once, for it is asked with every call.
    """
    assert isinstance(request, type)
    return issubclass(request, Message) and "request_id" not in request.DESCRIPTOR.fields_by_name


def _decoding(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Let the refusal of a request that cannot be read stand in its place.

    An exception would be told to the client as UNKNOWN, text and all, before a handler of ours
    is asked.
    """

    def decode(contents: bytes) -> Any:
        try:
            return deserialize(contents)
        except DecodeError as error:
            return _unreadable(error)

    return decode


def _unreadable(error: DecodeError) -> InvalidField:
    why = str(error).rpartition(": ")[2]
    if "MaxDepth" in why:
        why = "messages in it are nested more than 100 deep"
    return InvalidField("request", f"cannot be read: {why}")


async def _abort(context: aio.ServicerContext[Any, Any], method: str, error: Exception) -> None:
    """End the call with the status of what was raised."""
    if isinstance(error, aio.AbortError | aio.UsageError):
        raise error
    if isinstance(error, WriterStopped):
        error = ShuttingDown("the server is shutting down", retry_after_ms=_COME_BACK_MS)
    if isinstance(error, DecodeError):  # of a message within a stream
        error = _unreadable(error)
    if isinstance(error, DomainError):
        await context.abort(code_of(error), message_of(error), trailing_metadata(error))
    _log.error("unforeseen error", method=method, exc_info=error)
    await context.abort(
        grpc.StatusCode.INTERNAL,
        "an internal error; the server's log tells more. Retry with the same request_id at most "
        "once, then report it.",
    )
