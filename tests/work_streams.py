"""A Work stream as it is on the wire: shared by the tests beside this file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

from grpc import aio
from taskloom import v1
from taskloom_client import Client, TaskloomError
from taskloom_client.errors import from_rpc_error

Outcome: TypeAlias = "v1.ClaimOutcome.ValueType"


class WorkStream:
    """One call of Work, message by message."""

    def __init__(self, client: Client) -> None:
        self._target = client.target
        self.call: aio.StreamStreamCall[v1.WorkRequest, v1.WorkResponse] = client.claims.Work()

    async def send(self, **message: Any) -> None:
        """Send one message. If the stream has ended, it is for ``read`` to say why."""
        with suppress(aio.AioRpcError, asyncio.InvalidStateError):
            await self.call.write(v1.WorkRequest(**message))

    async def read(self) -> v1.WorkResponse | None:
        """The next message; None: the stream has ended well. Raises TaskloomError."""
        try:
            message = await self.call.read()
        except aio.AioRpcError as error:
            raise from_rpc_error(error, target=self._target, method="Work", timeout=None) from error
        return message if isinstance(message, v1.WorkResponse) else None

    async def hear(self, kind: str) -> v1.WorkResponse:
        """The next message, which is of this kind."""
        message = await self.read()
        assert message is not None, f"the stream ended, where {kind!r} should have come"
        assert message.WhichOneof("content") == kind, message
        return message

    async def ask(self, **message: Any) -> v1.WorkResponse:
        """The answer to a message, if it is the next that comes."""
        await self.send(call_id=77, **message)
        answer = await self.read()
        assert answer is not None
        assert answer.call_id == 77, answer
        return answer

    async def assigned(self) -> list[str]:
        """The tasks that the next message assigns."""
        return [task.id for task in (await self.hear("assigned")).assigned.tasks]

    async def take(self, count: int) -> list[v1.Task]:
        """So many tasks, in whatever messages they come, past what else is said."""
        tasks: list[v1.Task] = []
        while len(tasks) < count:
            message = await self.read()
            assert message is not None, f"the stream ended after {len(tasks)} tasks"
            tasks += message.assigned.tasks
        return tasks

    async def waiting(self) -> Outcome:
        """Why there is nothing, which is said next."""
        return (await self.hear("waiting")).waiting.outcome

    async def quiet(self) -> None:
        """Nothing more is said than the answer to a sign of life."""
        assert (await self.ask(heartbeat=v1.HeartbeatRequest())).HasField("alive")

    async def finish(self) -> None:
        """End the stream as agreed."""
        await self.send(drain=v1.WorkDrain())
        await self.call.done_writing()
        while await self.read() is not None:
            pass

    async def end(self) -> TaskloomError:
        """The refusal that ends the stream, past what is said before."""
        try:
            while await self.read() is not None:
                pass
        except TaskloomError as error:
            return error
        raise AssertionError("the stream ended well")


@asynccontextmanager
async def opened(client: Client) -> AsyncIterator[WorkStream]:
    """A stream on which nothing is sent yet. If it lasts, it breaks at the end of the context."""
    stream = WorkStream(client)
    try:
        async with asyncio.timeout(30):
            yield stream
    finally:
        stream.call.cancel()


@asynccontextmanager
async def working(
    client: Client, worker_id: str, credit: int = 0, **start: Any
) -> AsyncIterator[WorkStream]:
    """A stream that has started, with so much credit."""
    async with opened(client) as stream:
        await stream.send(start=v1.WorkStart(worker_id=worker_id, **start), credit=credit)
        await stream.hear("started")
        yield stream
