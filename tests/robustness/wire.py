"""One channel to the server, and calls on it that are attempted once and timed.

Nothing is retried here, and no byte is translated: what was sent and what was answered is kept
as it was on the wire.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from tests.robustness.recording import OK, VERBS, Attempt, now_ms

_CHUNK = 256 << 10  # bytes
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, to be cut by itself
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_time_ms", 30_000),
]


def connect(address: str) -> aio.Channel:
    """A channel that shares its connection with no other."""
    return aio.insecure_channel(address, options=OPTIONS)


class Wire:
    """Calls by the name of their verb."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel
        self._calls: dict[str, Any] = {}

    async def attempt(
        self,
        verb: str,
        request: bytes,
        seconds: float,
        *,
        content: bytes = b"",
        give_up_after: float | None = None,
    ) -> Attempt:
        """Send a call once, with this deadline. ``give_up_after``: cancel it after so long."""
        is_streamed = VERBS[verb].is_streamed
        multi = self._calls.get(verb)
        if multi is None:
            kind = self._channel.stream_unary if is_streamed else self._channel.unary_unary
            multi = self._calls[verb] = kind(VERBS[verb].path)
        start = now_ms()
        sent: Any = _messages(verb, request, content) if is_streamed else request
        call = multi(sent, timeout=seconds, wait_for_ready=True)
        timer = None
        if give_up_after is not None:
            timer = asyncio.get_running_loop().call_later(give_up_after, call.cancel)
        try:
            answer = await call
        except aio.AioRpcError as error:
            return _failed(start, error)
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
            return Attempt(start, now_ms(), "CANCELLED", "", "given up by the client", b"")
        finally:
            if timer is not None:
                timer.cancel()
        return Attempt(start, now_ms(), OK, "", "", answer)


async def _messages(verb: str, request: bytes, content: bytes) -> AsyncIterator[bytes]:
    """What a stream of requests carries: what is asked, and the content in chunks."""
    yield request
    make: Any = VERBS[verb].request
    for place in range(0, len(content), _CHUNK):
        yield make(chunk=content[place : place + _CHUNK]).SerializeToString()


def _failed(start: float, error: aio.AioRpcError) -> Attempt:
    reason, metadata = refusal_of(error)
    return Attempt(
        start,
        now_ms(),
        error.code().name,
        reason,
        error.details() or "",
        b"",
        metadata.get("holder", ""),
    )


def refusal_of(error: grpc.RpcError) -> tuple[str, dict[str, str]]:
    """The reason and the metadata of the ErrorInfo; empty where there is none."""
    assert isinstance(error, aio.AioRpcError)
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason, dict(info.metadata)
    return "", {}
