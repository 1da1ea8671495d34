"""A real gRPC server whose answers a test writes down, for what the client does all by itself.

What client and service do together is tested against the real service, in test_agent, and where
the way between them is to break, over a relay.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status
from taskloom_client import Client

if TYPE_CHECKING:
    from tests.conftest import Server

Answer = Callable[[Any, aio.ServicerContext[Any, Any]], Any]
"""A coroutine function for a unary answer, an async generator function for a stream."""


@dataclass
class ScriptedServer:
    """A server that answers the methods it was given; ``requests`` is what it was asked."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    _server: aio.Server | None = None

    @property
    def address(self) -> str:
        """Where it listens, also after a restart."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen: at a free port the first time, at the same one from then on."""
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([_Handlers(self)])
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Go away at once, cutting every call."""
        if self._server is not None:
            await self._server.stop(None)


class _Handlers(grpc.GenericRpcHandler):
    """Looks answers up by the method's bare name; messages are found by gRPC's naming habit."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        from taskloom import v1

        method = handler_call_details.method.rpartition("/")[2]
        answer = self._server.answers.get(method)
        if answer is None:
            return None
        read = getattr(v1, f"{method}Request").FromString
        write = getattr(v1, f"{method}Response").SerializeToString
        if method == "ImportSnapshot":
            return grpc.stream_unary_rpc_method_handler(answer, read, write)
        if method in {"WatchTasks", "ExportSnapshot"}:
            return grpc.unary_stream_rpc_method_handler(self._recorded_stream(answer), read, write)
        return grpc.unary_unary_rpc_method_handler(self._recorded(answer), read, write)

    def _recorded(self, answer: Answer) -> Answer:
        async def recorded(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
            self._server.requests.append(request)
            return await answer(request, context)

        return recorded

    def _recorded_stream(self, answer: Answer) -> Answer:
        async def recorded(
            request: Any, context: aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            self._server.requests.append(request)
            async for message in answer(request, context):
                yield message

        return recorded


Refuse = Callable[..., Awaitable[None]]


@pytest.fixture
def refuse() -> Refuse:
    """Abort a call the way the service does: ``await refuse(context, code, reason, ...)``."""

    async def refuse(
        context: aio.ServicerContext[Any, Any],
        code: grpc.StatusCode,
        reason: str,
        message: str = "no",
        *details: Message,
        metadata: dict[str, str] | None = None,
        retry_delay: timedelta | None = None,
    ) -> None:
        status = status_pb2.Status(code=code.value[0], message=message)
        info = error_details_pb2.ErrorInfo(reason=reason, domain="taskloom", metadata=metadata)
        status.details.add().Pack(info)
        if retry_delay is not None:
            delay = Duration()
            delay.FromTimedelta(retry_delay)
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        for detail in details:
            status.details.add().Pack(detail)
        await context.abort_with_status(rpc_status.to_status(status))

    return refuse


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    """A started server that knows no method yet."""
    server = ScriptedServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def scripted_client(scripted: ScriptedServer) -> AsyncIterator[Client]:
    """A client of the scripted server."""
    async with Client(scripted.address) as client, asyncio.timeout(30):
        yield client


class Relay:
    """A way to a server over TCP, which can be cut, and on which answers can be late or lost."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._writers: set[asyncio.StreamWriter] = set()
        self._listening: asyncio.Server | None = None
        self.muted = False
        """What the server sends gets lost; to be followed by a cut."""
        self._passing = asyncio.Event()
        self._passing.set()

    async def start(self) -> None:
        """Listen at a free port."""
        self._listening = await asyncio.start_server(self._connect, "127.0.0.1", 0)

    @property
    def address(self) -> str:
        """Where it listens."""
        assert self._listening is not None
        return f"127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    def hold_back(self) -> None:
        """Let nothing that the server sends arrive, until ``let_pass``."""
        self._passing.clear()

    def let_pass(self) -> None:
        """Let what was held back arrive."""
        self._passing.set()

    def cut(self) -> None:
        """Break all connections there are. New ones are well again."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self.muted = False

    async def stop(self) -> None:
        """Break all connections, and let nobody come back."""
        assert self._listening is not None
        self._listening.close()
        self.cut()

    async def _connect(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        from_server, to_server = await asyncio.open_connection(self._host, self._port)
        self._writers |= {to_client, to_server}
        with suppress(ConnectionError, OSError):
            await asyncio.gather(
                self._pass_on(from_client, to_server),
                self._pass_on(from_server, to_client, is_answer=True),
            )

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        while data := await source.read(65_536):
            if is_answer:
                await self._passing.wait()
            if not (is_answer and self.muted):
                sink.write(data)
                await sink.drain()
        sink.close()


@pytest.fixture
async def relay(server: "Server") -> AsyncIterator[Relay]:
    """A way to ``server``."""
    relay = Relay(server.address)
    await relay.start()
    yield relay
    await relay.stop()
