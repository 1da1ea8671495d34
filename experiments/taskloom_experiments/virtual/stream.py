"""A call with streams in a simulation, and the context that a handler is given.

What goes over a stream arrives in its order, each message a way after it was sent.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NoReturn

import grpc
from grpc import aio

from taskloom_experiments.virtual.costs import Desk, Ways

_APART_S = 1e-9  # between two messages at the least, for timers of one moment have no order


class Ended(Exception):
    """A handler ended its call with a status."""

    def __init__(
        self, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, Any]]
    ) -> None:
        super().__init__(details)
        self._code = code
        self._details = details
        self._metadata = metadata

    def as_rpc_error(self) -> aio.AioRpcError:
        """As a client of gRPC gets it."""
        metadata = aio.Metadata(*self._metadata)
        return aio.AioRpcError(self._code, aio.Metadata(), metadata, self._details)


async def until(when: float) -> None:
    """Return when the loop's time is that."""
    loop = asyncio.get_running_loop()
    if when <= loop.time():
        return
    waiter = loop.create_future()
    timer = loop.call_at(when, _end, waiter)
    try:
        await waiter
    except asyncio.CancelledError:
        timer.cancel()
        raise


def _end(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


class Call:
    """The context of a call: what of gRPC's a handler uses. ``deadline`` in the loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline: float | None = None) -> None:
        self._loop = loop
        self._deadline = deadline
        self._callbacks: list[Callable[[Any], None]] = []
        self._done = False

    def time_remaining(self) -> float | None:
        """Seconds until the deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    async def abort(
        self, code: grpc.StatusCode, details: str = "", metadata: Sequence[tuple[str, Any]] = ()
    ) -> NoReturn:
        """End the call with this status."""
        raise Ended(code, details, metadata)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call it with this when the call is over."""
        self._callbacks.append(callback)

    def done(self) -> bool:
        """Whether the end could be told to the caller."""
        return self._done

    def end(self, *, told: bool) -> None:
        """The call is over."""
        self._done = told
        for callback in self._callbacks:
            callback(self)
        self._callbacks.clear()


class Stream:
    """A call with a stream of answers, and of requests where the method takes one."""

    def __init__(
        self,
        ways: Ways,
        desk: Desk,
        translated: Callable[[Ended], Exception],
        on_end: Callable[["Stream"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.context = Call(self._loop)
        self._ways = ways
        self._desk = desk
        self._translated = translated
        self._on_end = on_end
        self._serving: asyncio.Task[None] | None = None
        self._answers: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._answer_due = 0.0
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._request_due = 0.0
        self._over = False  # as the caller sees it

    def begin(self, handler: Callable[[], AsyncIterator[Any]]) -> None:
        """Let the handler begin, once the call has come there."""
        self._serving = asyncio.create_task(self._serve(handler))

    async def _serve(self, handler: Callable[[], AsyncIterator[Any]]) -> None:
        told = False
        try:
            await until(self._loop.time() + self._ways.next())
            await until(self._desk.turn(self._loop.time()))
            async for message in handler():
                self._deliver(message)
            self._deliver(aio.EOF)
            told = True
        except Ended as ended:
            self._deliver(ended)
            told = True
        finally:
            self.context.end(told=told)
            self._on_end(self)

    def _deliver(self, answer: Any) -> None:
        due = self._loop.time() + self._desk.server_s + self._ways.next()
        self._answer_due = max(due, self._answer_due + _APART_S)
        self._loop.call_at(self._answer_due, self._arrive, answer)

    def _arrive(self, answer: Any) -> None:
        self._answers.append(answer)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def requests(self) -> AsyncIterator[Any]:
        """What the caller writes, as the handler gets it."""
        while (request := await self._requests.get()) is not aio.EOF:
            await until(self._desk.turn(self._loop.time()))
            yield request

    async def write(self, request: Any) -> None:
        """Send a message."""
        self._send(request)

    async def done_writing(self) -> None:
        """Send no more."""
        self._send(aio.EOF)

    def _send(self, request: Any) -> None:
        if self._over:
            raise asyncio.InvalidStateError("the call is over")
        due = self._loop.time() + self._ways.next()
        self._request_due = max(due, self._request_due + _APART_S)
        self._loop.call_at(self._request_due, self._requests.put_nowait, request)

    async def read(self) -> Any:
        """The next answer, EOF when there are no more. Raises what ended the call."""
        while not self._answers:
            if self._over:
                raise asyncio.CancelledError
            self._reader = self._loop.create_future()
            try:
                await self._reader
            except asyncio.CancelledError:
                self.cancel()
                raise
        answer = self._answers.popleft()
        if isinstance(answer, Ended):
            self._over = True
            raise self._translated(answer)
        if answer is aio.EOF:
            self._over = True
        return answer

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Any:
        if (answer := await self.read()) is aio.EOF:
            raise StopAsyncIteration
        return answer

    def cancel(self) -> bool:
        """End the call; the server hears of it a way later. False: it is over."""
        if self._over:
            return False
        self._over = True
        if self._reader is not None:
            self._reader.cancel()
        if self._serving is not None:
            self._loop.call_at(self._loop.time() + self._ways.next(), self._serving.cancel)
        return True

    def cut(self) -> None:
        """End the call as the end of its caller's process does; the server sees it at once."""
        self._over = True
        if self._serving is not None:
            self._serving.cancel()

    async def close(self) -> None:
        """End it on both sides, now."""
        self.cut()
        if self._serving is not None:
            await asyncio.wait([self._serving])
