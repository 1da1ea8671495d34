"""A watch that outlives its connection: one unbroken sequence of messages over many streams.

What is kept for that is one number, the next revision to ask for, and the messages that cannot be
handed over yet. What the events mean is not known here.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from grpc import aio
from taskloom import v1

from taskloom_client.backoff import delays
from taskloom_client.errors import TaskloomError

if TYPE_CHECKING:
    from taskloom.v1.watch_service_pb2_grpc import WatchServiceAsyncStub

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


class Watch:
    """The messages of WatchTasks, each once and in order, for as long as somebody iterates.

        async with client.watch(start_revision=revision + 1) as watch:
            async for message in watch:
                ...

    A stream that breaks (the server restarts, the connection is lost) is resumed after the last
    revision that came whole, for ever, with growing pauses. Two things are held back until they
    are complete, so that a break in their midst is not seen either:
      * the parts of a revision of more than 500 events: they are handed over as one message;
      * the state that ``include_state`` asks for: its messages come when `synced` has come, and a
        state that was cut short is fetched anew.
    The first message is `created`; those of later streams are left out.

    Entering the watch waits for `created`, so that whatever happens from then on is in it. Until
    then every error is raised. After that, those that say that the watch cannot go on: HistoryLost
    where the history it needs is gone, and any refusal that no repetition will mend.

    For one reader at a time. A reader that is cancelled may come back: nothing is lost.
    """

    def __init__(self, stub: "WatchServiceAsyncStub", request: v1.WatchTasksRequest) -> None:
        self._stub = stub
        self._request = request
        self._created = False
        self._synced = not request.include_state
        self._next = request.start_revision
        self._parts: list[v1.WatchTasksResponse] = []
        self._complete: deque[v1.WatchTasksResponse] = deque()
        self._call: aio.UnaryStreamCall[v1.WatchTasksRequest, v1.WatchTasksResponse] | None = None
        self._messages: AsyncIterator[v1.WatchTasksResponse] | None = None
        self._pauses: Iterator[float] | None = None
        self._closed = asyncio.Event()
        self.incarnation = request.incarnation
        """Which life of the database is watched; known once the watch is entered."""
        self.revision = 0
        """How far the messages handed over go; 0 before the first that says so."""
        self.resumes = 0
        """How often the stream broke and was taken up again."""

    async def __aenter__(self) -> Self:
        while not self._created and not self._closed.is_set():
            await self._advance()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> v1.WatchTasksResponse:
        while not self._closed.is_set():
            if self._complete:
                message = self._complete.popleft()
                self.revision = max(self.revision, message.revision)
                return message
            await self._advance()
        raise StopAsyncIteration

    async def events(self) -> AsyncGenerator[v1.Event, None]:
        """The events alone, one after another; ``revision`` is that of the one at hand."""
        async for message in self:
            for event in message.events.events:
                yield event

    async def aclose(self) -> None:
        """End the watch; whoever waits for a message is told that there are no more."""
        self._closed.set()
        self._drop_stream()
        self._complete.clear()

    async def _advance(self) -> None:
        """Receive one message, or after a break wait and be ready to open the next stream."""
        try:
            if self._messages is None:
                self._call = self._stub.WatchTasks(self._next_request())
                self._messages = aiter(self._call)
            self._take(await anext(self._messages))
        except StopAsyncIteration:
            self._drop_stream()  # the server ended the stream in good order: it is going down
            await self._pause(0.0)
        except TaskloomError as error:
            self._drop_stream()
            if not (self._created and error.transient):
                self._closed.set()
                raise
            await self._pause(error.retry_delay.total_seconds() if error.retry_delay else 0.0)
        except asyncio.CancelledError:
            # Cancelling a read ends its call, so the next read has to resume. A call that
            # aclose() cancelled raises this as well, in a task that nobody cancelled.
            self._drop_stream()
            task = asyncio.current_task()
            if not self._closed.is_set() or (task is not None and task.cancelling()):
                raise

    def _next_request(self) -> v1.WatchTasksRequest:
        if not self._created:
            return self._request
        request = v1.WatchTasksRequest()
        request.CopyFrom(self._request)
        request.incarnation = self.incarnation
        if self._synced:
            request.include_state = False
            request.start_revision = self._next
        return request

    def _take(self, message: v1.WatchTasksResponse) -> None:
        """Sort a message: to be handed over, to be kept until its rest has come, or neither."""
        kind = message.WhichOneof("content")
        if kind == "created":
            if self._synced:
                self._next = max(self._next, message.revision + 1)
            if not self._created:
                self._created = True
                self.incarnation = message.created.incarnation
                self._complete.append(message)
            else:
                self.resumes += 1
            return
        self._pauses = None
        if not self._synced:
            self._parts.append(message)
            if kind != "synced":
                return
            self._synced = True
            self._complete.extend(self._parts)
            self._parts.clear()
        elif kind == "events":
            if message.events.more:
                self._parts.append(message)
                return
            if message.revision >= self._next:
                self._complete.append(_merged([*self._parts, message]))
            self._parts.clear()
        else:
            self._complete.append(message)
        self._next = max(self._next, message.revision + 1)

    def _drop_stream(self) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call = self._messages = None
        self._parts.clear()

    async def _pause(self, at_least: float) -> None:
        """Wait before the next stream; cut short when the watch is closed meanwhile."""
        if self._pauses is None:
            self._pauses = delays(_FIRST_PAUSE, _LONGEST_PAUSE)
        try:
            async with asyncio.timeout(max(next(self._pauses), at_least)):
                await self._closed.wait()
        except TimeoutError:
            return


def _merged(parts: Sequence[v1.WatchTasksResponse]) -> v1.WatchTasksResponse:
    """One message with the events of all parts and the revision of the last."""
    if len(parts) == 1:
        return parts[0]
    whole = v1.WatchTasksResponse(revision=parts[-1].revision)
    for part in parts:
        whole.events.events.extend(part.events.events)
    return whole
