"""A call that does nothing: what gRPC, Python and our interceptors cost by themselves.

It is the benchmark's own service, served by the very process that is measured. Its package begins
with ``taskloom.``, so that the server's interceptors treat it as one of theirs.
"""

import ctypes
import gc
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc import aio

SERVICE = "taskloom.load.v1.NoOpService"
_CALL = "Call"
_SETTLE = "Settle"

NoOp = aio.UnaryUnaryMultiCallable[Empty, Empty]


def add_noop(server: aio.Server) -> None:
    """Serve the calls below; for ``serving(also=…)``."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            behavior,
            request_deserializer=Empty.FromString,
            response_serializer=Empty.SerializeToString,
        )
        for name, behavior in ((_CALL, _nothing), (_SETTLE, _settle))
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def noop(channel: aio.Channel) -> NoOp:
    """The call that does nothing."""
    return _stub(channel, _CALL)


def settle(channel: aio.Channel) -> NoOp:
    """The call that lets the server's process give back the memory that it does not need.

    What is still resident then is held by something, and not by the allocator's thrift.
    """
    return _stub(channel, _SETTLE)


def _stub(channel: aio.Channel, name: str) -> NoOp:
    return channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=Empty.SerializeToString,
        response_deserializer=Empty.FromString,
    )


async def _nothing(_request: Empty, _context: Any) -> Empty:
    return Empty()


async def _settle(_request: Empty, _context: Any) -> Empty:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
    return Empty()
