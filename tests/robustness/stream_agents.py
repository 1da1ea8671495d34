"""Agents that work over a Work stream: assigned, not asking, and reporting on the same stream.

Each is an agent as any other beside it, with the same worker's id, for what the stream has no
message for, and to repeat by itself what a broken stream did not answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc import aio
from taskloom import v1

from tests.robustness.agents import Agent
from tests.robustness.recording import OK, VERBS, Attempt, Call, Talk, now_ms, tag_of
from tests.robustness.verbs.choice import BASE, seconds
from tests.robustness.wire import refusal_of

_ANSWER_SECONDS = 10.0
_ANSWERS = {
    "CompleteTask": "completed",
    "FailTask": "failed",
    "ReleaseTask": "released",
    "Heartbeat": "alive",
}
_FIELDS = {"CompleteTask": "complete", "FailTask": "fail", "ReleaseTask": "release"}
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class _Broken(Exception):
    """The stream is no more, or does not answer."""


class StreamAgent:
    """One that works so, one stream after the other."""

    def __init__(self, agent: Agent, channel: aio.Channel) -> None:
        self.talks = 0
        self._agent = agent
        self._open: Any = channel.stream_stream(
            VERBS["Work"].path,
            request_serializer=v1.WorkRequest.SerializeToString,
            response_deserializer=v1.WorkResponse.FromString,
        )

    async def run(self, choose: Callable[[Agent], Callable[[Agent], Awaitable[None]]]) -> None:
        """Work until the quota is spent; ``choose``: what is done beside."""
        agent = self._agent
        while agent.board.open:
            if not agent.connected:
                await self._connect()
                continue
            self.talks += 1
            conversation = _Conversation(agent, self._open(wait_for_ready=True))
            try:
                await conversation.work(choose)
            finally:
                await conversation.close()
            if agent.rng.random() < 0.05:
                await asyncio.sleep(agent.rng.uniform(0.5, 2.5))  # longer than the grace, maybe

    async def _connect(self) -> None:
        agent, rng = self._agent, self._agent.rng
        request = v1.ConnectRequest(
            worker_id=agent.id,
            tags=[tag for tag in ("red", "green", "blue") if rng.random() < 0.8],
            max_claims=rng.randrange(1, 6),
            lease=seconds(rng.choice((1.5, 3.0, 4.0))),
        )
        answer = await agent.call("Connect", request)
        agent.connected = answer is not None


class _Conversation:
    """One stream: what was sent on it and waits for an answer, and what it told."""

    def __init__(self, agent: Agent, call: Any) -> None:
        self._agent = agent
        self._call = call
        self._talk = Talk(agent.id, b"", start=now_ms())
        self._under_way: dict[int, tuple[Call, float, asyncio.Future[None]]] = {}
        self._news = asyncio.Event()
        self._credit = 0
        self._assigned = 0
        self._drained = False
        self._reader: asyncio.Task[None] | None = None

    async def work(self, choose: Callable[[Agent], Callable[[Agent], Awaitable[None]]]) -> None:
        """Take part for a while, and end it one way or the other."""
        agent, rng = self._agent, self._agent.rng
        start = v1.WorkStart(worker_id=agent.id, grace=seconds(rng.choice((1.0, 1.0, 2.0))))
        if rng.random() < 0.1:
            start.parent_id = BASE
        if rng.random() < 0.2:
            start.order_by = v1.ORDER_BY_TEMPERATURE
        if rng.random() < 0.2:
            start.lease.CopyFrom(seconds(2.0))
        self._talk.start_message = start.SerializeToString()
        try:
            self._credit = rng.randrange(1, 5)
            await self._send(v1.WorkRequest(start=start, credit=self._credit))
            self._reader = asyncio.create_task(self._read())
            for _ in range(rng.choice((5, 30, 100))):
                if self._reader.done() or not agent.board.open:
                    break
                await self._act(choose)
            await self._finish(rng.random() if agent.board.open else 0.0)
        except (_Broken, aio.AioRpcError, asyncio.InvalidStateError):
            return

    async def _act(self, choose: Callable[[Agent], Callable[[Agent], Awaitable[None]]]) -> None:
        """Do one thing: report on a task, live, want more, wait for more, or something beside."""
        agent, rng = self._agent, self._agent.rng
        if self._credit - self._assigned < 2 and rng.random() < 0.7:
            more = rng.randrange(1, 4)
            self._credit += more
            await self._send(v1.WorkRequest(credit=more))
        dice = rng.random()
        if agent.held and dice < 0.7:
            await self._report(*agent.a_claim(), waits=rng.random() < 0.6)
        elif dice < 0.8:
            await self._report("", 0, waits=True)
        elif dice < 0.9:
            await choose(agent)(agent)
        else:
            self._news.clear()
            try:
                async with asyncio.timeout(0.2):
                    await self._news.wait()
            except TimeoutError:
                return

    async def _report(self, task_id: str, claim: int, *, waits: bool) -> None:
        """Make a call on the stream: how a task ended, or that one lives if none is named."""
        agent, rng = self._agent, self._agent.rng
        number = agent.board.number()
        verb = "Heartbeat"
        if task_id:
            verb = rng.choices(("CompleteTask", "FailTask", "ReleaseTask"), (8, 1, 1))[0]
        request: Any = VERBS[verb].request(worker_id=agent.id)
        message = v1.WorkRequest(call_id=number)
        if task_id:
            request.task_id, request.claim_revision = task_id, claim
            request.reason = tag_of(number)
            if rng.random() < 0.9:
                request.request_id = f"{agent.board.seed}/{tag_of(number)}"
            if verb == "FailTask":
                request.retry = rng.random() < 0.7
            sent = getattr(message, _FIELDS[verb])
            sent.CopyFrom(request)
            if rng.random() < 0.5:
                sent.worker_id = ""  # the stream's
        else:
            message.heartbeat.SetInParent()
        call = Call(number, agent.id, verb, request.SerializeToString(deterministic=True))
        answered = asyncio.get_running_loop().create_future()
        self._under_way[number] = call, now_ms(), answered
        await self._send(message)
        agent.ended(task_id)
        if waits:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await answered
            except TimeoutError:
                raise _Broken from None

    async def _finish(self, dice: float) -> None:
        """Drain and go; or go without a word, at once or after having been silent."""
        if self._reader is None or self._reader.done():
            return
        if dice < 0.5:
            self._talk.drain_sent = now_ms()
            await self._send(v1.WorkRequest(drain=v1.WorkDrain()))
            async with asyncio.timeout(_ANSWER_SECONDS):
                while not self._drained:
                    self._news.clear()
                    waits = {self._reader, asyncio.ensure_future(self._news.wait())}
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                    if self._reader.done():
                        return
            for task_id in list(self._agent.held):
                await self._report(task_id, self._agent.held[task_id], waits=True)
            await self._call.done_writing()
            async with asyncio.timeout(_ANSWER_SECONDS):
                await asyncio.wait({self._reader})
            self._talk.ended_well = self._reader.done() and self._talk.code == OK
        elif dice < 0.6:
            await self._call.done_writing()
            await asyncio.wait({self._reader}, timeout=1.0)
        elif dice < 0.7:
            await asyncio.sleep(self._agent.rng.uniform(0.2, 2.5))

    async def _send(self, message: v1.WorkRequest) -> None:
        board = self._agent.board
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._call.write(message)
        except (TimeoutError, asyncio.InvalidStateError):
            raise _Broken from None
        if message.WhichOneof("content") is not None:
            board.made_call()

    async def _read(self) -> None:
        try:
            while (response := await self._call.read()) is not aio.EOF:
                self._hear(response)
            code = await self._call.code()
            self._talk.code = code.name
            if code is not grpc.StatusCode.OK:
                raise aio.AioRpcError(
                    code,
                    aio.Metadata(),
                    await self._call.trailing_metadata() or aio.Metadata(),
                    await self._call.details(),
                )
        except aio.AioRpcError as error:
            self._talk.code = error.code().name
            self._talk.text = error.details() or ""
            self._talk.reason, _ = refusal_of(error)
            self._agent.board.endings[self._talk.reason or self._talk.code] += 1
            if self._talk.reason == "WORKER_NOT_FOUND":
                self._agent.connected = False
        finally:
            self._news.set()
            for _, _, answered in self._under_way.values():
                if not answered.done():
                    answered.set_exception(_Broken())
                    answered.exception()  # it is no matter if nobody waits

    def _hear(self, response: v1.WorkResponse) -> None:
        agent, talk = self._agent, self._talk
        kind = response.WhichOneof("content")
        if kind in ("started", "assigned", "waiting", "drained"):
            talk.told.append((now_ms(), response.SerializeToString()))
        if kind == "started":
            for task in response.started.held_tasks:
                agent.took(task)
        elif kind == "assigned":
            self._assigned += len(response.assigned.tasks)
            if self._assigned > self._credit:
                talk.disorder = f"{self._assigned} tasks were assigned for {self._credit} credits"
            if self._drained:
                talk.disorder = "a task was assigned after drained"
            for task in response.assigned.tasks:
                agent.took(task)
        elif kind == "waiting":
            if response.waiting.outcome in (v1.CLAIM_OUTCOME_NONE_READY, v1.CLAIM_OUTCOME_ALL_DONE):
                agent.board.hunger += 1
        elif kind == "drained":
            self._drained = True
        else:
            self._hear_answer(kind, response)
        agent.board.revision = max(agent.board.revision, response.revision)
        self._news.set()

    def _hear_answer(self, kind: str | None, response: v1.WorkResponse) -> None:
        call, start, answered = self._under_way.pop(response.call_id)
        endings = self._agent.board.endings
        if kind == "refused":
            refused = response.refused
            code, reason = _CODES[refused.code], refused.reason
            call.attempts.append(Attempt(start, now_ms(), code, reason, refused.message, b""))
            endings[reason] += 1
        else:
            if kind != _ANSWERS[call.verb]:
                self._talk.disorder = f"{call.verb} was answered with {kind}"
            answer = getattr(response, kind or "").SerializeToString(deterministic=True)
            call.attempts.append(Attempt(start, now_ms(), OK, "", "", answer))
            endings[OK] += 1
        self._agent.board.recorder.add(call)
        if not answered.done():
            answered.set_result(None)

    async def close(self) -> None:
        """End the stream, and repeat by unary calls what it did not answer, or give it up."""
        self._call.cancel()
        if self._reader is not None:
            await asyncio.wait({self._reader})
        self._talk.end = now_ms()
        self._talk.code = self._talk.code or "LEFT"
        agent = self._agent
        agent.board.recorder.add(self._talk)
        for call, start, _ in self._under_way.values():
            call.attempts.append(Attempt(start, now_ms(), "UNAVAILABLE", "", "stream broke", b""))
            agent.board.endings["UNAVAILABLE"] += 1
            may_repeat = call.verb != "Heartbeat" and call.ask.request_id
            if may_repeat and agent.rng.random() < 0.8:
                await agent.repeat(call)
            else:
                agent.board.recorder.add(call)
