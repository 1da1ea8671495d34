"""Watchers: clients that listen to the history, from anywhere in it, fast, slowly or not at all.

Each keeps of every message its revision and a digest of its bytes, which are compared later with
those of a stream that nothing disturbed.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Any

from grpc import aio
from taskloom import v1

from tests.robustness.agents import Board
from tests.robustness.recording import VERBS, Stream, now_ms
from tests.robustness.verbs import BASE
from tests.robustness.wire import refusal_of

KEEPER = "keeper"  # a worker that is connected from the first to the last, and does nothing
FILTERS = (
    v1.WatchFilter(),
    v1.WatchFilter(
        event_types=[
            v1.EVENT_TYPE_TASK_CLAIMED,
            v1.EVENT_TYPE_TASK_COMPLETED,
            v1.EVENT_TYPE_TASK_FAILED,
            v1.EVENT_TYPE_TASK_LEASE_EXPIRED,
        ]
    ),
    v1.WatchFilter(statuses=["working"]),
    v1.WatchFilter(tags=["red"]),
    v1.WatchFilter(subtree_of=BASE),
    v1.WatchFilter(owner="a0.1"),
    v1.WatchFilter(assignee="a0.2"),
    v1.WatchFilter(ready_for=KEEPER),
)


def digest_of(message: bytes) -> bytes:
    """What is kept of a message."""
    return blake2b(message, digest_size=8).digest()


class Watcher:
    """One client that watches, one stream after the other."""

    def __init__(self, name: str, channel: aio.Channel, board: Board) -> None:
        self.name = name
        self.resumes = 0
        self.stalls = 0
        self._board = board
        self._rng = random.Random(f"{board.seed}/{name}")
        self._open: Any = channel.unary_stream(VERBS["WatchTasks"].path)
        self._reached = 0
        self._incarnation = ""

    async def run(self) -> None:
        """Watch until cancelled."""
        filter_ = self._rng.choice(FILTERS[1:])
        while True:
            if self._rng.random() < 0.3:
                filter_ = self._rng.choice(FILTERS) if self._rng.random() < 0.6 else FILTERS[0]
            await self._watch(self._request(filter_))

    def _request(self, filter_: v1.WatchFilter) -> v1.WatchTasksRequest:
        rng = self._rng
        request = v1.WatchTasksRequest(filter=filter_)
        request.progress_interval.FromSeconds(1)
        dice = rng.random()
        if dice < 0.6 and self._reached:
            request.start_revision = self._reached + 1
            request.incarnation = self._incarnation
        elif dice < 0.75:
            # Anywhere, but not all too far back: everybody's time is limited.
            low = max(1, self._board.revision - 3000)
            request.start_revision = rng.randrange(low, self._board.revision + 50)
        elif dice < 0.85:
            request.include_state = True
        return request

    async def _watch(self, request: v1.WatchTasksRequest) -> None:
        rng = self._rng
        stream = Stream(self.name, request.SerializeToString(), start=now_ms())
        self.resumes += 1
        call = self._open(stream.request, wait_for_ready=True)
        try:
            async for message in self._at_some_pace(call, rng.choice((200, 1000, 5000))):
                _note(stream, message)
            stream.code = "LEFT"
        except aio.AioRpcError as error:
            stream.code = error.code().name
            stream.reason, _ = refusal_of(error)
        except asyncio.CancelledError:
            stream.code = "LEFT"
            raise
        finally:
            call.cancel()
            stream.end = now_ms()
            self._board.recorder.add(stream)
            if stream.reached is not None:
                self._reached = stream.reached
                self._incarnation = stream.incarnation
        if not stream.told:
            await asyncio.sleep(rng.uniform(0.02, 0.1))

    async def _at_some_pace(self, call: Any, most: int) -> AsyncIterator[bytes]:
        """Messages as they come, but for the pauses of this reader, until it has had enough."""
        rng = self._rng
        stall_at = rng.choice((5, 50, 300, 0, 0))
        slow = rng.random() < 0.2
        for count in range(most):
            message = await call.read()
            if message is aio.EOF:
                code = await call.code()
                raise aio.AioRpcError(
                    code,
                    await call.initial_metadata(),
                    await call.trailing_metadata(),
                    await call.details(),
                )
            yield message
            if stall_at and count == stall_at:
                self.stalls += 1
                await asyncio.sleep(rng.uniform(0.2, 3.0))
            elif slow:
                await asyncio.sleep(0.005)


def _note(stream: Stream, contents: bytes) -> None:
    """Keep of a message what will be compared."""
    message = v1.WatchTasksResponse.FromString(contents)
    kind = message.WhichOneof("content")
    begun = stream.created is not None
    if kind == "created":
        if begun:
            stream.disorder = "created came twice"
        stream.created = message.revision
        stream.incarnation = message.created.incarnation
        if not stream.ask.include_state:
            stream.reached = message.revision
        return
    if not begun:
        stream.disorder = f"{kind} came before created"
    if stream.ask.include_state and stream.synced is None:
        if kind == "synced":
            stream.synced = stream.reached = message.revision
        elif kind == "events":
            stream.listed.append(contents)
        else:
            stream.disorder = f"{kind} came before synced"
        return
    reached = stream.reached or 0
    if kind == "events":
        if message.revision <= reached:
            stream.disorder = f"revision {message.revision} came after {reached}"
        stream.told.append((message.revision, digest_of(contents)))
    elif kind == "progress":
        if message.revision < reached:
            stream.disorder = f"progress went from {reached} to {message.revision}"
    else:
        stream.disorder = f"{kind} came in the middle"
    stream.reached = message.revision
