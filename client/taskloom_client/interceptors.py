"""What every call goes through: a deadline, a request id, and errors as exceptions.

One interceptor a kind of call, because each further one costs a call some microseconds, and
because grpc.aio registers an interceptor for the first kind it implements and no other. Retries
are not here: gRPC does them by itself, below, from the service config of the channel.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import TypedDict, TypeVar, cast

import grpc
from google.protobuf.message import Message
from grpc import aio
from taskloom import v1

from taskloom_client.errors import TaskloomError, connection_broke, from_rpc_error
from taskloom_client.request_ids import new_request_id

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


GivenUp = Callable[[v1.ClaimNextTaskRequest], None]


def interceptors(
    target: str, timeout: float | None, given_up: GivenUp = lambda _: None
) -> list[aio.ClientInterceptor]:
    """The interceptors of a channel to ``target``.

    ``timeout`` is the deadline, in seconds, of unary calls that are given none; None: no deadline.
    ``given_up`` is told of every ClaimNextTask under a request_id that was made up here of which
    nobody knows what it was given: it was cancelled, or failed without an answer.
    """
    return [_UnaryUnary(target, timeout, given_up), _UnaryStream(target), _StreamUnary(target)]


# After these nobody knows whether the call has changed anything.
_UNKNOWN_ENDS = frozenset(
    (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    )
)


def with_request_id(request: _Request) -> _Request:
    """``request``, or where its ``request_id`` is empty, a copy of it with a fresh one.

    A request without such a field, as those that only read, is given back as it is.
    """
    if not isinstance(request, Message) or "request_id" not in request.DESCRIPTOR.fields_by_name:
        return request
    if getattr(request, "request_id"):  # noqa: B009 - the field is known to be there, not to mypy
        return request
    named = type(request)()
    named.CopyFrom(request)
    setattr(named, "request_id", new_request_id())  # noqa: B010 - likewise
    return named


class _UnaryUnary(aio.UnaryUnaryClientInterceptor):
    def __init__(self, target: str, timeout: float | None, given_up: GivenUp) -> None:
        self._target = target
        self._timeout = timeout
        self._given_up = given_up

    async def intercept_unary_unary(
        self,
        continuation: Callable[
            [aio.ClientCallDetails, _Request], Awaitable[aio.UnaryUnaryCall[_Request, _Response]]
        ],
        client_call_details: aio.ClientCallDetails,
        request: _Request,
    ) -> aio.UnaryUnaryCall[_Request, _Response]:
        details = client_call_details
        if details.timeout is None:
            details = _with_timeout(details, self._timeout)
        named = with_request_id(request)
        call = await continuation(details, named)
        try:
            await call
        except asyncio.CancelledError:
            self._note_given_up(request, named)
            raise
        except aio.AioRpcError as error:
            if error.code() in _UNKNOWN_ENDS:
                self._note_given_up(request, named)
            raise _translated(error, self._target, details) from error
        return call

    def _note_given_up(self, request: object, named: object) -> None:
        if named is not request and isinstance(named, v1.ClaimNextTaskRequest):
            self._given_up(named)


class _UnaryStream(aio.UnaryStreamClientInterceptor):
    def __init__(self, target: str) -> None:
        self._target = target

    async def intercept_unary_stream(
        self,
        continuation: Callable[
            [aio.ClientCallDetails, _Request], Awaitable[aio.UnaryStreamCall[_Request, _Response]]
        ],
        client_call_details: aio.ClientCallDetails,
        request: _Request,
    ) -> AsyncIterator[_Response]:
        call = await continuation(client_call_details, with_request_id(request))
        return self._messages(call, client_call_details)

    async def _messages(
        self, call: aio.UnaryStreamCall[_Request, _Response], details: aio.ClientCallDetails
    ) -> AsyncIterator[_Response]:
        try:
            async for message in call:
                yield message
        except aio.AioRpcError as error:
            raise _translated(error, self._target, details) from error


class _StreamUnary(aio.StreamUnaryClientInterceptor):
    def __init__(self, target: str) -> None:
        self._target = target

    async def intercept_stream_unary(
        self,
        continuation: Callable[
            [aio.ClientCallDetails, AsyncIterable[_Request] | Iterable[_Request]],
            Awaitable[aio.StreamUnaryCall[_Request, _Response]],
        ],
        client_call_details: aio.ClientCallDetails,
        request_iterator: AsyncIterable[_Request] | Iterable[_Request],
    ) -> aio.StreamUnaryCall[_Request, _Response]:
        requests = Requests(request_iterator)
        call = await continuation(client_call_details, requests)
        # Not awaited here, as a unary call is: write() waits for this coroutine to be done.
        translating = _TranslatingCall(call, requests, self._target, client_call_details)
        return cast("aio.StreamUnaryCall[_Request, _Response]", translating)


class _TranslatingCall:
    """A call whose failure is a TaskloomError; in everything else it is the call it wraps."""

    def __init__(
        self,
        call: "aio.StreamUnaryCall[_Request, _Response]",
        requests: "Requests[_Request]",
        target: str,
        details: aio.ClientCallDetails,
    ) -> None:
        self._call = call
        self._requests = requests
        self._target = target
        self._details = details
        self._given_up = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._call, name)

    def cancel(self) -> bool:
        self._given_up = True
        return self._call.cancel()

    def __await__(self) -> Generator[object, None, object]:
        try:
            return (yield from self._call.__await__())
        except aio.AioRpcError as error:
            raise _translated(error, self._target, self._details) from error
        except asyncio.CancelledError:
            # grpc.aio gives up a call by itself where a message could not be had, or written.
            awaiting = asyncio.current_task()
            if self._given_up or (awaiting is not None and awaiting.cancelling()):
                raise
            if self._requests.failure is not None:
                raise self._requests.failure from None
            raise connection_broke(**_origin(self._target, self._details)) from None


class Requests(AsyncIterable[_Request]):
    """The messages of an import or upload, with a request id in the options where it was empty."""

    def __init__(self, given: AsyncIterable[_Request] | Iterable[_Request]) -> None:
        self._given = given
        self.failure: Exception | None = None  # what the caller's iterator raised

    async def __aiter__(self) -> AsyncIterator[_Request]:
        try:
            if isinstance(self._given, AsyncIterable):
                async for request in self._given:
                    yield _options_named(request)
            else:
                for request in self._given:
                    yield _options_named(request)
        except Exception as failure:
            self.failure = failure
            raise


def _options_named(request: _Request) -> _Request:
    if isinstance(request, v1.ImportSnapshotRequest) and request.HasField("options"):
        named = v1.ImportSnapshotRequest(options=with_request_id(request.options))
        return cast("_Request", named)
    if isinstance(request, v1.UploadAttachmentRequest) and request.HasField("options"):
        upload = v1.UploadAttachmentRequest(options=with_request_id(request.options))
        return cast("_Request", upload)
    return request


def _with_timeout(details: aio.ClientCallDetails, timeout: float | None) -> aio.ClientCallDetails:
    return aio.ClientCallDetails(
        details.method, timeout, details.metadata, details.credentials, details.wait_for_ready
    )


class _Origin(TypedDict):
    target: str
    method: str
    timeout: float | None


def _translated(
    error: aio.AioRpcError, target: str, details: aio.ClientCallDetails
) -> TaskloomError:
    return from_rpc_error(error, **_origin(target, details))


def _origin(target: str, details: aio.ClientCallDetails) -> _Origin:
    # grpc.aio hands the method over as bytes, whatever the stubs say.
    method = cast("str | bytes", details.method)
    path = method.decode() if isinstance(method, bytes) else method
    return _Origin(target=target, method=path.rpartition("/")[2], timeout=details.timeout)
