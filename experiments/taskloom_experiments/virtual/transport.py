"""What stands in for gRPC in a simulation: the server's handlers, called by the generated stubs.

The handlers are those that a server has, behind the same guard and with the same table from
refusals to statuses; messages are handed over as they are. What a call costs is in ``costs``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, NoReturn

import grpc
from grpc import aio
from taskloom_client.errors import TaskloomError, from_rpc_error
from taskloom_client.interceptors import Requests, with_request_id

from taskloom_experiments.virtual.costs import Desk, Ways
from taskloom_experiments.virtual.stream import Call, Ended, Stream, until

TARGET = "the simulated server"


class _Asked(NamedTuple):
    """What a generic handler is asked by."""

    method: str
    invocation_metadata: tuple[()] = ()


class Handlers:
    """Takes a server's handlers as the guard gives them, and finds them by their methods."""

    def __init__(self) -> None:
        self._generic: list[grpc.GenericRpcHandler] = []
        self._of_method: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Remember the handlers of a service."""
        self._generic += handlers

    def add_registered_method_handlers(self, _service: str, _handlers: object) -> None:
        """They come by the other way, too."""

    def __getitem__(self, method: str) -> Any:
        if method not in self._of_method:
            asked: Any = _Asked(method)
            found = (one.service(asked) for one in self._generic)
            self._of_method[method] = next(one for one in found if one is not None)
        return self._of_method[method]


class Channel(aio.Channel):
    """One agent's connection to the handlers, on which generated stubs are made.

    ``ways`` and ``desk`` say what calls cost, ``timeout`` is the deadline of those that are given
    none. Errors are those of the client's interceptors.
    """

    def __init__(
        self, handlers: Handlers, ways: Ways, desk: Desk, timeout: float | None = 30.0
    ) -> None:
        self._handlers = handlers
        self._ways = ways
        self._desk = desk
        self._timeout = timeout
        self._streams: set[Stream] = set()
        self._cut = False

    def cut(self) -> None:
        """Break the connection, as the end of a process does: nothing passes any more."""
        self._cut = True
        for stream in list(self._streams):
            stream.cut()

    def unary_unary(  # type: ignore[override]
        self, method: str, *_: object, **__: object
    ) -> Callable[..., Awaitable[Any]]:
        """A method that is called once and answers once."""
        name = method.rpartition("/")[2]

        async def call(
            request: Any,
            *,
            timeout: float | None = None,  # noqa: ASYNC109 - as generated stubs have it
            **_: object,
        ) -> Any:
            given = self._timeout if timeout is None else timeout
            handler = self._handlers[method].unary_unary
            return await self._call(name, handler, with_request_id(request), given)

        return call

    def stream_unary(  # type: ignore[override]
        self, method: str, *_: object, **__: object
    ) -> Callable[..., Awaitable[Any]]:
        """A method that takes messages and answers once; they come all at once."""
        name = method.rpartition("/")[2]

        async def call(
            requests: Any,
            *,
            timeout: float | None = None,  # noqa: ASYNC109 - as generated stubs have it
            **_: object,
        ) -> Any:
            handler = self._handlers[method].stream_unary
            return await self._call(name, handler, Requests(requests), timeout)

        return call

    def unary_stream(  # type: ignore[override]
        self, method: str, *_: object, **__: object
    ) -> Callable[..., Stream]:
        """A method that answers with a stream of messages."""
        name = method.rpartition("/")[2]

        def call(request: Any, **_: object) -> Stream:
            def translated(ended: Ended) -> Exception:
                return self._translated(ended, name, None)

            stream = self._stream(translated)
            handler = self._handlers[method].unary_stream
            stream.begin(lambda: handler(with_request_id(request), stream.context))
            return stream

        return call

    def stream_stream(  # type: ignore[override]
        self, method: str, *_: object, **__: object
    ) -> Callable[..., Stream]:
        """A method with messages both ways."""

        def call(**_: object) -> Stream:
            stream = self._stream(Ended.as_rpc_error)
            handler = self._handlers[method].stream_stream
            stream.begin(lambda: handler(stream.requests(), stream.context))
            return stream

        return call

    async def _call(
        self,
        name: str,
        handler: Callable[[Any, Any], Awaitable[Any]],
        request: Any,
        timeout: float | None,  # noqa: ASYNC109 - the call's, which the server is told
    ) -> Any:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        await until(loop.time() + self._ways.next())
        if self._cut:
            raise _unreachable()
        now = loop.time()
        turn = self._desk.turn(now)
        if turn > now:
            if deadline is not None and turn > deadline:
                await until(deadline)
                late = Ended(grpc.StatusCode.DEADLINE_EXCEEDED, "", ())
                raise self._translated(late, name, timeout)
            await until(turn)
        answer = error = None
        try:
            answer = await handler(request, Call(loop, deadline))
        except Ended as ended:
            error = ended
        await until(loop.time() + self._desk.server_s + self._ways.next())
        if self._cut:
            raise _unreachable()
        if error is not None:
            raise self._translated(error, name, timeout)
        return answer

    def _stream(self, translated: Callable[[Ended], Exception]) -> Stream:
        if self._cut:
            raise _unreachable()
        stream = Stream(self._ways, self._desk, translated, self._streams.discard)
        self._streams.add(stream)
        return stream

    def _translated(self, ended: Ended, name: str, timeout: float | None) -> TaskloomError:
        return from_rpc_error(ended.as_rpc_error(), target=TARGET, method=name, timeout=timeout)

    async def close(self, grace: float | None = None) -> None:
        """End all streams."""
        for stream in list(self._streams):
            await stream.close()

    async def channel_ready(self) -> None:
        """It always is."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As long as it is not closed, it is connected."""
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: object) -> NoReturn:
        """There is none."""
        await asyncio.Event().wait()
        raise AssertionError

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _unreachable() -> TaskloomError:
    return TaskloomError("the agent was killed", code=grpc.StatusCode.ABORTED)
