"""The Work stream: assignments out, ends and signs of life in, over one call.

Three things go on at once: what the worker sends is read and submitted in its order, tasks are
claimed for it as far as its credit goes, and what there is to say is sent. Every verb is one that
a unary call would run; here is only what makes a stream of them.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message
from taskloom.v1 import claim_service_pb2 as pb

from taskloom_server.coordinator import claims, workers
from taskloom_server.graph.errors import (
    DomainError,
    InvalidField,
    ShuttingDown,
    WorkerNotFound,
)
from taskloom_server.graph.events import EventType
from taskloom_server.graph.workers import Outcome
from taskloom_server.service import read, show
from taskloom_server.service.calls import Calls
from taskloom_server.service.errors import code_of, message_of
from taskloom_server.service.prompts import prompts
from taskloom_server.store.ledger import Committed, WriterStopped

_MAX_CREDIT = 1_000
_MAX_TASKS = 100  # of one assignment
_MAX_UNDERWAY = 256  # messages that are not answered yet; who sends more waits
_DEFAULT_GRACE_MS = 30_000
_CUT_SHOWS_AFTER_S = 0.1

Call = Callable[[Any, Any], Awaitable[Message]]

# Each kind of call, and what its answer is called.
_ANSWERS = {
    "complete": "completed",
    "fail": "failed",
    "release": "released",
    "heartbeat": "alive",
}


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """What is to be sent, an error that ends the stream, or None: it ends well.

    ``is_answer``: to a message that is counted as under way. ``claimed``: what it assigns.
    """

    response: pb.WorkResponse | Exception | None
    is_answer: bool = False
    claimed: claims.Claimed | None = None


class OpenStreams:
    """All Work streams of the server, so that it knows when a worker has lost its last one."""

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self._streams: set[WorkStream] = set()
        self._of_worker: Counter[str] = Counter()
        self._closed = False

    def enter(self, stream: "WorkStream") -> None:
        """A stream has begun."""
        self._streams.add(stream)
        self._of_worker[stream.worker_id] += 1

    def leave(self, stream: "WorkStream") -> bool:
        """A stream has ended; whether its worker has no other one, and the server not ended it."""
        if stream not in self._streams:
            return False
        self._streams.remove(stream)
        self._of_worker[stream.worker_id] -= 1
        if self._of_worker[stream.worker_id]:
            return False
        del self._of_worker[stream.worker_id]
        return not self._closed

    def notice(self, committed: Committed) -> None:
        """End the streams of workers that are connected no more."""
        for revision in committed.revisions:
            for event in revision.events:
                if event.type is EventType.WORKER_DISCONNECTED:
                    self._end_gone(event.worker_id)
        if committed.incarnation != self._incarnation:
            self._incarnation = committed.incarnation
            self._end_gone(None)

    def _end_gone(self, worker_id: str | None) -> None:
        """End the streams of a worker, or all of them."""
        for stream in self._streams:
            if worker_id in (None, stream.worker_id):
                what = "is unknown since the reset" if worker_id is None else "has disconnected"
                gone = f"worker {stream.worker_id!r} {what}; connect first"
                stream.end(WorkerNotFound(gone, subjects=(stream.worker_id,)))

    def close(self) -> None:
        """End them all: the server is going."""
        self._closed = True
        for stream in self._streams:
            stream.end(ShuttingDown("the server is shutting down", retry_after_ms=1000))


class WorkStream:
    """One stream. ``responses`` runs it; ``close`` is to be called when the call is over."""

    def __init__(self, calls: Calls, streams: OpenStreams, verbs: dict[str, Call]) -> None:
        """``verbs``: the unary calls that its messages stand for, by kind."""
        self._calls = calls
        self._streams = streams
        self._verbs = verbs
        self._outgoing: asyncio.Queue[_Outgoing] = asyncio.Queue()
        self._underway = asyncio.Semaphore(_MAX_UNDERWAY)
        self._tasks: set[asyncio.Task[None]] = set()
        self._assigning: asyncio.Task[None] | None = None
        self._credit = 0
        self._granted = asyncio.Event()
        self._asked = False  # for tasks, since the last claim
        self._drained = False
        self._well = False  # it ends as agreed
        self._grace_ms = _DEFAULT_GRACE_MS
        self.worker_id = ""

    async def responses(
        self, requests: AsyncIterator[pb.WorkRequest]
    ) -> AsyncIterator[pb.WorkResponse]:
        """What the worker is told, until it closes its side. Raises what ends the stream."""
        self._spawn(self._read(requests))
        while (outgoing := await self._outgoing.get()).response is not None:
            if isinstance(outgoing.response, Exception):
                raise outgoing.response
            yield outgoing.response
            if outgoing.is_answer:
                self._underway.release()

    def end(self, error: Exception) -> None:
        """End the stream with this, after what is to be sent before."""
        self._outgoing.put_nowait(_Outgoing(error))

    def close(self, *, cut: bool) -> None:
        """Stop what goes on, and undo what was assigned and not sent.

        If the stream was its worker's last and broke, a grace begins. ``cut``: its end could not
        be told to the worker; to the reader of requests that looks like the worker's own.
        """
        broke = cut or not self._well
        for task in self._tasks:
            task.cancel()
        while not self._outgoing.empty():
            claimed = self._outgoing.get_nowait().claimed
            if claimed is not None:
                self._calls.write_unheard(claims.give_back, claimed)
        if self._streams.leave(self) and broke:
            lost = workers.LostStream(self.worker_id, self._grace_ms)
            self._calls.write_unheard(workers.lose_stream, lost)

    def _send(self, response: pb.WorkResponse) -> None:
        self._outgoing.put_nowait(_Outgoing(response))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let something go on beside; what it raises ends the stream."""

        async def guarded() -> None:
            try:
                await work
            except WriterStopped:
                self.end(ShuttingDown("the server is shutting down", retry_after_ms=1000))
            except Exception as error:
                self.end(error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # cancelled before it began, it never would
        return task

    async def _read(self, requests: AsyncIterator[pb.WorkRequest]) -> None:
        async for request in requests:
            if not 0 <= request.credit <= _MAX_CREDIT - self._credit:
                raise InvalidField(
                    "credit",
                    f"is {request.credit}; beside the {self._credit} that are open it must be "
                    f"from 0 to {_MAX_CREDIT - self._credit:,}",
                )
            kind = request.WhichOneof("content")
            if (kind == "start") == bool(self.worker_id):
                raise InvalidField("start", "must come in the first message, and only there")
            if kind == "start":
                await self._start(request)
            elif kind == "drain":
                await self._underway.acquire()
                self._drain(request.call_id)
            elif kind is not None:
                await self._underway.acquire()
                self._spawn(self._answer(kind, request))
            if request.credit and not self._drained:
                self._credit += request.credit
                self._asked = True
                self._granted.set()
        if not self.worker_id:
            raise InvalidField("start", "must come first, and the stream was closed without it")
        if self._drained:
            # gRPC tells of a cut as of a side that was closed, and a moment later as a cut.
            await asyncio.sleep(_CUT_SHOWS_AFTER_S)
        self._well = self._drained
        for _ in range(_MAX_UNDERWAY):  # all that came before is answered yet
            await self._underway.acquire()
        self._outgoing.put_nowait(_Outgoing(None))

    async def _start(self, request: pb.WorkRequest) -> None:
        start = request.start
        worker_id = read.identifier("start.worker_id", start.worker_id)
        grace_ms = read.duration_ms(
            "start.grace", start, "grace", low=1_000, high=read.DAY_MS, default=_DEFAULT_GRACE_MS
        )
        ask = claims.ClaimNext(
            worker_id=worker_id,
            max_tasks=_MAX_TASKS,
            lease_ms=read.lease_ms("start.lease", start),
            parent_id=read.identifier("start.parent_id", start.parent_id, optional=True),
            order=read.claim_order("start.order_by", start.order_by),
        )
        self.worker_id = worker_id
        self._grace_ms = grace_ms or _DEFAULT_GRACE_MS
        # Counted before it is asked for, lest another one that breaks meanwhile be the last.
        self._streams.enter(self)
        begun = await self._calls.write_anew(workers.begin_stream, worker_id)
        started = pb.WorkStarted(
            worker=show.worker(begun.worker, begun.held_count, begun.role),
            held_tasks=show.tasks(begun.held),
            incarnation=begun.incarnation,
            prompts=prompts(begun.steps),
        )
        self._send(
            pb.WorkResponse(started=started, call_id=request.call_id, revision=begun.revision)
        )
        self._assigning = self._spawn(self._assign(ask))

    def _drain(self, call_id: int) -> None:
        """Assign nothing more. What was claimed in this very moment is given back unheard."""
        self._drained = True
        self._credit = 0
        if self._assigning is not None:
            self._assigning.cancel()
        drained = pb.WorkResponse(drained=pb.WorkDrained(), call_id=call_id)
        self._outgoing.put_nowait(_Outgoing(drained, is_answer=True))

    async def _answer(self, kind: str, request: pb.WorkRequest) -> None:
        """Make one call, and send its answer or its refusal."""
        call = getattr(request, kind)
        response = pb.WorkResponse(call_id=request.call_id)
        try:
            if call.worker_id not in ("", self.worker_id):
                raise InvalidField(f"{kind}.worker_id", "is not the stream's; leave it out")
            call.worker_id = self.worker_id
            answer: Any = await self._verbs[kind](call, None)
            getattr(response, _ANSWERS[kind]).CopyFrom(answer)
            response.revision = answer.revision
        except DomainError as error:
            response.refused.CopyFrom(_refused(error))
        self._outgoing.put_nowait(_Outgoing(response, is_answer=True))

    async def _assign(self, ask: claims.ClaimNext) -> None:
        """Claim tasks as far as the credit goes. Cancelled when it is taken back."""
        while True:
            while not self._credit:
                self._granted.clear()
                await self._granted.wait()
            # Only what answers a message of the worker is a sign of its life.
            asked, self._asked = replace(ask, asked=self._asked), False
            claimed = await self._claim(asked, waits_while=None)
            while not claimed.tasks:
                waiting = pb.WorkWaiting(
                    outcome=show.OUTCOMES[claimed.outcome],
                    retry_after=show.duration(claimed.retry_after_ms),
                )
                self._send(pb.WorkResponse(waiting=waiting, revision=claimed.revision))
                known = claimed.outcome
                while not claimed.tasks and claimed.outcome is known:
                    claimed = await self._claim(replace(ask, asked=False), waits_while=known)
            self._credit -= len(claimed.tasks)
            assigned = pb.WorkAssigned(
                tasks=show.tasks(claimed.tasks), prompts=prompts(claimed.steps)
            )
            response = pb.WorkResponse(assigned=assigned, revision=claimed.revision)
            self._outgoing.put_nowait(_Outgoing(response, claimed=claimed))

    async def _claim(self, ask: claims.ClaimNext, waits_while: Outcome | None) -> claims.Claimed:
        """Claim at once, or wait while this is the outcome."""
        asked = replace(ask, max_tasks=min(self._credit, _MAX_TASKS))
        if waits_while is not None:
            asked = replace(
                asked,
                wait_until=self._calls.now() + read.DAY_MS,
                waits_while=frozenset((waits_while,)),
            )
        return await self._calls.write_anew(claims.claim_next, asked, undo=claims.give_back)


def _refused(error: DomainError) -> pb.WorkRefused:
    number: int = code_of(error).value[0]
    return pb.WorkRefused(
        code=number,
        reason=error.reason,
        message=message_of(error),
        metadata=error.metadata,
        subjects=error.subjects,
        retry_delay=show.duration(error.retry_after_ms),
    )
