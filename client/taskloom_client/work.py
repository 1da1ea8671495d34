"""A worker's part in the Work stream: calls that are answered on it, and all else that it tells.

What is kept here is what one stream does not outlive: the calls that have no answer yet, and how
to begin anew. What an assigned task is to anybody is not known here.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypeAlias

import grpc
from grpc import aio
from taskloom import v1

from taskloom_client.backoff import delays
from taskloom_client.errors import TaskloomError, from_refusal, from_rpc_error
from taskloom_client.interceptors import with_request_id

if TYPE_CHECKING:
    from taskloom.v1.claim_service_pb2_grpc import ClaimServiceAsyncStub

_Stream: TypeAlias = aio.StreamStreamCall[v1.WorkRequest, v1.WorkResponse]
_Outgoing: TypeAlias = "asyncio.Queue[v1.WorkRequest | None]"

_log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


class Listener(Protocol):
    """Somebody who is told of the messages of a stream in the very moment when they pass."""

    def received(self, message: v1.WorkResponse | None) -> None:
        """Take a message that answers no call; None when none will come any more."""

    def sent(self, message: v1.WorkRequest) -> None:
        """Take note of a message, which may be a repeated one."""


class _Call(NamedTuple):
    message: v1.WorkRequest
    answer: "asyncio.Future[v1.WorkResponse]"


class Work:
    """What the server assigns to a worker, and the verbs of a claim holder, on one stream.

        async with client.work("me") as work:
            async for message in work:
                if message.HasField("started"):
                    work.grant(2)
                for task in message.assigned.tasks:
                    ...
                    done = v1.CompleteTaskRequest(task_id=task.id, claim_revision=...)
                    await work.complete(done, credit=1)

    Iterating brings the messages that answer no call, as they come: ``started`` first, and
    ``assigned`` and ``waiting`` after it.

    A stream that breaks is begun anew, for ever, with growing pauses, and then ``started`` comes
    again. It says what the worker holds by now: what it works on and is not among these is lost to
    it, and what it does not know was assigned in the moment of the break. Calls without an answer
    are repeated with the same request_id. Credit is not: grant it after each ``started``.

    Entering it waits for the first ``started``, and raises whatever comes instead. Later only that
    is raised which no new stream would mend, by the iteration and by every call under way.
    """

    def __init__(
        self,
        stub: "ClaimServiceAsyncStub",
        start: v1.WorkStart,
        *,
        target: str,
        timeout: float | None,
        listener: Listener | None = None,
    ) -> None:
        """``timeout`` is for each call, in seconds. A ``listener`` is told instead of iterating."""
        self._stub = stub
        self._start = start
        self._target = target
        self._timeout = timeout
        self._listener = listener
        self._messages: asyncio.Queue[v1.WorkResponse | None] = asyncio.Queue()
        self._call_ids = itertools.count(1)
        self._unanswered: dict[int, _Call] = {}
        self._running: asyncio.Task[None] | None = None
        self._outgoing: _Outgoing | None = None
        self._begun = asyncio.Event()  # or known not to begin
        self._finishing = False
        self._break: TaskloomError | None = None
        self.error: TaskloomError | None = None
        """Why there will be no more streams; None while there may be one."""
        self.credit = 0
        """How many more tasks may be assigned on the present stream."""
        self.streams = 0
        """How many streams have started."""

    async def __aenter__(self) -> Self:
        self.open()
        try:
            await self._begun.wait()
            if self.streams == 0 and self._break is not None:
                raise self._break
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> v1.WorkResponse:
        message = await self._messages.get()
        if message is not None:
            return message
        self._messages.put_nowait(None)
        if self.error is not None and self.error.code is not grpc.StatusCode.CANCELLED:
            raise copy(self.error)
        raise StopAsyncIteration

    async def tasks(self) -> AsyncGenerator[v1.Task, None]:
        """The tasks that are assigned, alone, one after another."""
        async for message in self:
            for task in message.assigned.tasks:
                yield task

    def open(self) -> None:
        """Begin, and wait for nothing: entering it does this as well."""
        self._running = asyncio.create_task(self._run(), name=f"work of {self._start.worker_id}")

    def grant(self, credit: int) -> None:
        """Take so many more tasks. Does nothing while there is no stream."""
        self._send(v1.WorkRequest(credit=credit))

    async def complete(
        self, request: v1.CompleteTaskRequest, *, credit: int = 0
    ) -> v1.CompleteTaskResponse:
        """CompleteTask, and ``credit`` with it. The worker of a request is always the stream's.

        Raises TaskloomError, as the call does; the same is true of the other verbs.
        """
        message = v1.WorkRequest(complete=with_request_id(request), credit=credit)
        message.complete.worker_id = ""
        return (await self._call(message)).completed

    async def fail(self, request: v1.FailTaskRequest, *, credit: int = 0) -> v1.FailTaskResponse:
        """FailTask, and ``credit`` with it."""
        message = v1.WorkRequest(fail=with_request_id(request), credit=credit)
        message.fail.worker_id = ""
        return (await self._call(message)).failed

    async def release(
        self, request: v1.ReleaseTaskRequest, *, credit: int = 0
    ) -> v1.ReleaseTaskResponse:
        """ReleaseTask, and ``credit`` with it."""
        message = v1.WorkRequest(release=with_request_id(request), credit=credit)
        message.release.worker_id = ""
        return (await self._call(message)).released

    async def heartbeat(self) -> v1.HeartbeatResponse:
        """Heartbeat."""
        return (await self._call(v1.WorkRequest(heartbeat=v1.HeartbeatRequest()))).alive

    async def drain(self) -> None:
        """Take all credit back. What was assigned until then has been received on return."""
        await self._call(v1.WorkRequest(drain=v1.WorkDrain()))

    async def finish(self) -> None:
        """End the stream in good order, once the calls under way are answered. Drain it first.

        What the worker holds stays its own. A stream that is closed without this has broken, as
        the server sees it. Raises TaskloomError when the server does not end it in time.
        """
        self._finishing = True
        if self._outgoing is not None:
            self._outgoing.put_nowait(None)
        if self._running is not None:
            _, unended = await asyncio.wait([self._running], timeout=self._timeout)
            await self.aclose()
            if unended:
                raise self._not_in_time("the end")

    async def aclose(self, error: TaskloomError | None = None) -> None:
        """End it at once. Calls under way raise ``error``, or that the stream was closed."""
        self._end(error or _closed())
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _call(self, message: v1.WorkRequest) -> v1.WorkResponse:
        """Send a message, and wait for its answer, over as many streams as that takes."""
        if self.error is not None:
            raise copy(self.error)
        message.call_id = next(self._call_ids)
        self._send(message)
        # What is repeated on another stream, or waits for one, carries no credit.
        repeated = v1.WorkRequest()
        repeated.CopyFrom(message)
        repeated.credit = 0
        answer: asyncio.Future[v1.WorkResponse] = asyncio.get_running_loop().create_future()
        self._unanswered[message.call_id] = _Call(repeated, answer)
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            raise self._not_in_time(message.WhichOneof("content") or "credit") from None
        finally:
            del self._unanswered[message.call_id]

    def _send(self, message: v1.WorkRequest) -> None:
        if self._outgoing is not None:
            self._put(self._outgoing, message)
            self.credit += message.credit

    def _put(self, outgoing: _Outgoing, message: v1.WorkRequest) -> None:
        outgoing.put_nowait(message)
        if self._listener is not None:
            self._listener.sent(message)

    def _receive(self, message: v1.WorkResponse | None) -> None:
        if self._listener is not None:
            self._listener.received(message)
        else:
            self._messages.put_nowait(message)

    async def _run(self) -> None:
        """Stream after stream, until one ends that is the last."""
        try:
            pauses = delays(_FIRST_PAUSE, _LONGEST_PAUSE)
            while True:
                streams, advised = self.streams, 0.0
                try:
                    await self._stream()
                    if self._finishing:
                        return
                except TaskloomError as error:
                    self._break = error
                    self._begun.set()
                    if not error.transient:
                        self._end(error)
                        return
                    advised = error.retry_delay.total_seconds() if error.retry_delay else 0.0
                if self.streams > streams:
                    pauses = delays(_FIRST_PAUSE, _LONGEST_PAUSE)
                await asyncio.sleep(max(next(pauses), advised))
        except Exception as error:
            # The channel was closed, or there is a defect here: whoever waits is to know.
            _log.warning("the work stream of %s failed", self._start.worker_id, exc_info=True)
            self._end(TaskloomError(f"{type(error).__name__}: {error}"))
        finally:
            self._end(_closed())

    async def _stream(self) -> None:
        """One stream, from its start to its end."""
        call = self._stub.Work()
        outgoing: asyncio.Queue[v1.WorkRequest | None] = asyncio.Queue()
        self._put(outgoing, v1.WorkRequest(start=self._start))
        writing = asyncio.create_task(_write(call, outgoing))
        try:
            while isinstance(message := await call.read(), v1.WorkResponse):
                if message.HasField("started"):
                    self._begin(outgoing, message)
                else:
                    self._take(message)
        except aio.AioRpcError as error:
            raise from_rpc_error(error, target=self._target, method="Work", timeout=None) from error
        finally:
            self._outgoing = None
            self.credit = 0
            call.cancel()
            writing.cancel()
            await asyncio.wait([writing])

    def _begin(self, outgoing: _Outgoing, started: v1.WorkResponse) -> None:
        """Go on, on a new stream, where the last one ended."""
        self._outgoing = outgoing
        self._break = None
        self.streams += 1
        self._begun.set()
        self._receive(started)
        for call in list(self._unanswered.values()):
            self._send(call.message)
        if self._finishing:
            outgoing.put_nowait(None)

    def _take(self, message: v1.WorkResponse) -> None:
        if message.HasField("assigned"):
            self.credit -= len(message.assigned.tasks)
        if message.HasField("drained"):
            self.credit = 0
        if not message.call_id:
            self._receive(message)
        elif (call := self._unanswered.get(message.call_id)) and not call.answer.done():
            if message.HasField("refused"):
                call.answer.set_exception(from_refusal(message.refused))
            else:
                call.answer.set_result(message)

    def _end(self, error: TaskloomError) -> None:
        """There will be no more streams: tell everybody who waits."""
        if self.error is not None:
            return
        self.error = error
        self._begun.set()
        for call in self._unanswered.values():
            if not call.answer.done():
                call.answer.set_exception(copy(error))
        self._receive(None)

    def _not_in_time(self, what: str) -> TaskloomError:
        if self._break is not None:
            return copy(self._break)
        return TaskloomError(
            f"{what} was not answered within {self._timeout:g} s",
            code=grpc.StatusCode.DEADLINE_EXCEEDED,
        )


async def _write(call: _Stream, outgoing: _Outgoing) -> None:
    # When the stream is broken, reading from it says by what.
    with suppress(aio.AioRpcError, asyncio.InvalidStateError):
        while (message := await outgoing.get()) is not None:
            await call.write(message)
        await call.done_writing()


def _closed() -> TaskloomError:
    return TaskloomError("the work stream was closed", code=grpc.StatusCode.CANCELLED)
