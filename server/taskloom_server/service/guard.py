"""What surrounds every call: the cap on calls at once, refusals as statuses, no leaks.

An exception that nobody foresaw is logged here and told to the client as INTERNAL without its
text, since grpc.aio would send that.

Handlers are wrapped when they are added to the server, once for all calls, and not found anew and
passed through an interceptor with every call.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

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

_MAY_WAIT = frozenset(
    ("/taskloom.v1.ClaimService/ClaimNextTask", "/taskloom.v1.FileService/MarkFiles")
)
_TOLD_TO_MANY = "/taskloom.v1.WatchService/WatchTasks"
_IN_CROWDS = frozenset(
    (
        "/taskloom.v1.ClaimService/ClaimNextTask",
        "/taskloom.v1.ClaimService/ClaimTask",
        "/taskloom.v1.ClaimService/CompleteTask",
        "/taskloom.v1.ClaimService/Work",
        "/taskloom.v1.WatchService/WatchTasks",
        "/taskloom.v1.WorkerService/Heartbeat",
    )
)
_COME_BACK_MS = 1000
_LARGE = 64 << 10  # bytes of an answer: more than gRPC takes at once for one who does not read
_KEPT, _KEPT_SIZE = 64, 16 << 10  # messages whose bytes are kept, and of how many bytes

_log = structlog.get_logger("service")


@dataclass(slots=True, eq=False)
class _Kind:
    """What is counted together."""

    name: str  # as a person would call it
    limit: int
    error: type[TooManyCalls | TooManyWatches] = TooManyCalls
    inside: int = 0


class Guard:
    """Lets calls in, up to a number of each kind, until it is closed.

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
        self._calls = _Kind("calls under way", max_calls)
        self._waits = _Kind("claims waiting and streams of work", max_waits)
        transfers = _Kind("attachments coming and going", max_transfers)
        self._of_method = {
            "/taskloom.v1.WorkerService/Heartbeat": _Kind("heartbeats under way", max_calls),
            "/taskloom.v1.WatchService/WatchTasks": _Kind(
                "watches open", max_watches, TooManyWatches
            ),
            "/taskloom.v1.ClaimService/Work": self._waits,
            "/taskloom.v1.AttachmentService/UploadAttachment": transfers,
            "/taskloom.v1.AttachmentService/DownloadAttachment": transfers,
        }
        self._unread = Unread(max_unread)
        self.closed = False

    def before(self, server: aio.Server) -> aio.Server:
        """The server, as far as it takes handlers: those that come by here are behind the guard."""
        return cast("aio.Server", _Door(server, self._wrap))

    def _wrap(self, handler: Any, method: str) -> Any:
        may_wait = method in _MAY_WAIT
        usual = self._of_method.get(method, self._calls)
        waits = self._waits
        behavior = handler.unary_unary or handler.stream_unary
        stream_behavior = handler.unary_stream or handler.stream_stream
        serialization: dict[str, Any] = {
            "request_deserializer": (
                handler.request_deserializer
                if handler.request_streaming
                else _decoding(handler.request_deserializer)
            ),
            "response_serializer": _encoding_once() if method == _TOLD_TO_MANY else _encode,
        }

        async def guarded_answer(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
            try:
                if isinstance(request, DomainError):
                    raise request
                kind = waits if may_wait and request.HasField("wait") else usual
                self._enter(kind)
                try:
                    response = await behavior(request, context)
                finally:
                    kind.inside -= 1
                asked: Any = type(request)
                if _only_reads(asked) and (size := response.ByteSize()) > _LARGE:
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
            usual.inside -= 1

        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(guarded_answer, **serialization)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(guarded_answer, **serialization)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(guarded_stream, **serialization)
        return grpc.stream_stream_rpc_method_handler(guarded_stream, **serialization)

    def _enter(self, kind: _Kind) -> None:
        if self.closed:
            raise ShuttingDown("the server is shutting down", retry_after_ms=_COME_BACK_MS)
        if kind.inside >= kind.limit:
            raise kind.error(
                f"the server has {kind.limit} {kind.name}, its limit", retry_after_ms=_COME_BACK_MS
            )
        kind.inside += 1


def _as_it_is(handler: Any, _method: str) -> Any:
    return handler


class _Door:
    """Takes handlers as ``add_..._to_server`` gives them, and hands them on, wrapped.

    Generated code registers each method with grpc.aio, which lets calls of each in on their own,
    one in a few turns of the loop, and waits for all of these anew with every call. With the sixty
    of this server that was an eighth of a call that does nothing. So only those that come in crowds
    are registered; the others are found by their names, and let in one after the other.
    """

    def __init__(self, server: aio.Server, wrap: Callable[[Any, str], Any] = _as_it_is) -> None:
        self._server = server
        self._wrap = wrap

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """They come by the other way, too, which names their methods."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add the handlers of a service, by the names of their methods."""
        behind = {name: self._wrap(one, f"/{service}/{name}") for name, one in handlers.items()}
        generic = grpc.method_handlers_generic_handler(service, behind)
        self._server.add_generic_rpc_handlers((generic,))
        crowds = {name: one for name, one in behind.items() if f"/{service}/{name}" in _IN_CROWDS}
        self._server.add_registered_method_handlers(service, crowds)


def _encode(response: Message) -> bytes:
    """Equal answers as equal bytes: the entries of a map would come in any order else."""
    return response.SerializeToString(deterministic=True)


def _encoding_once() -> Callable[[Message], bytes]:
    """Encode likewise, and a message that is told to many once. It must not change any more."""
    done: OrderedDict[int, tuple[Message, bytes]] = OrderedDict()

    def encode(response: Message) -> bytes:
        known = done.get(id(response))
        if known is not None and known[0] is response:
            return known[1]
        contents = _encode(response)
        if len(contents) <= _KEPT_SIZE:
            done[id(response)] = response, contents
            if len(done) > _KEPT:
                done.popitem(last=False)
        return contents

    return encode


def beside(server: aio.Server) -> aio.Server:
    """The server, likewise, for handlers that go by no guard."""
    return cast("aio.Server", _Door(server))


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
