"""Calls that do nothing: what gRPC, Python and our guard of all calls cost by themselves.

They are the benchmark's own service, served by the very process that is measured, behind the
server's guard as all of taskloom's services are; the same service on a bare server beside it
(``server``) tells what that costs.

Besides the unary no-op there is a stream of them: who listens is sent one empty message for each
call of Shout, as who watches is sent one for each event.
"""

import asyncio
import ctypes
import gc
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc import aio

SERVICE = "taskloom.load.v1.NoOpService"
_CALL = "Call"
_LISTEN = "Listen"
_SETTLE = "Settle"
_SHOUT = "Shout"

NoOp = aio.UnaryUnaryMultiCallable[Empty, Empty]
NoOpStream = aio.UnaryStreamMultiCallable[Empty, Empty]


def add_noop(server: aio.Server) -> None:
    """Serve the calls below; for ``serving(also=…)``."""
    echo = _Echo()
    serialization: dict[str, Any] = {
        "request_deserializer": Empty.FromString,
        "response_serializer": Empty.SerializeToString,
    }
    handlers = {
        _CALL: grpc.unary_unary_rpc_method_handler(_nothing, **serialization),
        _SETTLE: grpc.unary_unary_rpc_method_handler(_settle, **serialization),
        _SHOUT: grpc.unary_unary_rpc_method_handler(echo.shout, **serialization),
        _LISTEN: grpc.unary_stream_rpc_method_handler(echo.listen, **serialization),
    }
    server.add_registered_method_handlers(SERVICE, handlers)


def noop(channel: aio.Channel) -> NoOp:
    """The call that does nothing."""
    return _stub(channel, _CALL)


def settle(channel: aio.Channel) -> NoOp:
    """The call that lets the server's process give back the memory that it does not need.

    What is still resident then is held by something, and not by the allocator's thrift.
    """
    return _stub(channel, _SETTLE)


def shout(channel: aio.Channel) -> NoOp:
    """The call by which all who listen are sent a message."""
    return _stub(channel, _SHOUT)


def listen(channel: aio.Channel) -> NoOpStream:
    """The stream of such messages; the first, which comes at once, says that it is open."""
    return channel.unary_stream(
        f"/{SERVICE}/{_LISTEN}",
        request_serializer=Empty.SerializeToString,
        response_deserializer=Empty.FromString,
    )


def _stub(channel: aio.Channel, name: str) -> NoOp:
    return channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=Empty.SerializeToString,
        response_deserializer=Empty.FromString,
    )


class _Echo:
    """Wakes all streams at once, as cheaply as asyncio can: by one future that all wait for."""

    def __init__(self) -> None:
        self._said = 0
        self._next: asyncio.Future[None] | None = None

    async def shout(self, _request: Empty, _context: Any) -> Empty:
        self._said += 1
        if self._next is not None:
            self._next.set_result(None)
            self._next = None
        return Empty()

    async def listen(self, _request: Empty, _context: Any) -> AsyncIterator[Empty]:
        heard = self._said
        yield Empty()
        while True:
            while heard == self._said:
                if self._next is None:
                    self._next = asyncio.get_running_loop().create_future()
                await asyncio.shield(self._next)  # one that leaves must not take the others along
            heard += 1
            yield Empty()


async def _nothing(_request: Empty, _context: Any) -> Empty:
    return Empty()


async def _settle(_request: Empty, _context: Any) -> Empty:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
    return Empty()
