"""The Work stream: many tasks, many streams, and clients that send and do not read."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from grpc import aio
from taskloom import v1
from taskloom_client import Client

from tests.calls import connect, create, refusal, show_worker, status
from tests.work_streams import WorkStream, working

if TYPE_CHECKING:
    from tests.conftest import Server

FLOOD = 20_000
"""Messages of a client that does not read: more than the connection holds, by far."""
REPORTS = 5_000
"""Likewise, of such that are as long as these."""
REPORT = v1.CompleteTaskRequest(task_id="nowhere", reason="x" * 4_000)
"""A message of some size, which is answered by a refusal."""
UNDERWAY = 256
"""Messages that a stream has in work at the most."""


async def plant(client: Client, count: int) -> list[str]:
    """So many tasks that are ready."""
    nodes = [v1.TaskNode(id=f"t{n}", title="x") for n in range(count)]
    root = v1.TaskNode(id="root", title="root", children=nodes)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    return [node.id for node in nodes]


async def complete_all(stream: WorkStream, credit: int) -> list[str]:
    """Complete what is assigned, one for one, until there is no more; the tasks in their order."""
    done: list[str] = []
    await stream.send(credit=credit)
    while (message := await stream.read()) is not None:
        for task in message.assigned.tasks:
            request = v1.CompleteTaskRequest(task_id=task.id, claim_revision=task.claim_revision)
            await stream.send(complete=request, credit=1)
        if message.HasField("completed"):
            done.append(message.completed.task.id)
        assert not message.HasField("refused"), message
        if message.waiting.outcome == v1.CLAIM_OUTCOME_ALL_DONE:
            await stream.send(drain=v1.WorkDrain())
            await stream.call.done_writing()
    return done


async def test_a_thousand_through_one_stream(client: Client) -> None:
    """Each task is assigned once, best first, however many go through a stream."""
    await connect(client, "w", max_claims=60)
    tasks = await plant(client, 1_000)
    async with asyncio.timeout(100), working(client, "w") as stream:
        assert await complete_all(stream, credit=50) == tasks
    now = await status(client)
    assert dict(now.tasks_by_status) == {"completed": 1_001}
    worker = await show_worker(client, "w")
    assert (worker.claim_attempts, worker.claims_granted, worker.claims_lost) == (1_000, 1_000, 0)


async def test_a_thousand_through_many_streams(client: Client) -> None:
    """Streams share the tasks: each goes to one, none is refused, and all have their part."""
    tasks = await plant(client, 1_000)
    crew = [f"w{n}" for n in range(16)]
    await connect(client, *crew)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(working(client, worker)) for worker in crew]
        shares = await asyncio.gather(*(complete_all(stream, credit=1) for stream in streams))
    given = Counter(task for share in shares for task in share)
    assert given == Counter(tasks)
    assert all(shares)
    workers = (await client.workers.ListWorkers(v1.ListWorkersRequest())).workers
    assert sum(worker.claims_lost for worker in workers) == 0


@asynccontextmanager
async def narrow(address: str) -> AsyncIterator[Any]:
    """A stream on a connection whose windows do not grow: some 64 KB each way, then it stands."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with aio.insecure_channel(address, options) as channel:
        call = v1.ClaimServiceStub(channel).Work()
        await call.write(v1.WorkRequest(start=v1.WorkStart(worker_id="w")))
        yield call
        call.cancel()


class Flood:
    """Messages sent one after another, and nothing read."""

    def __init__(self, call: Any, count: int = FLOOD, **message: Any) -> None:
        self._call = call
        self._count = count
        self._message = message
        self.sent = 0
        self.sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        for n in range(self._count):
            await self._call.write(v1.WorkRequest(call_id=n + 1, **self._message))
            self.sent += 1

    async def stands(self, client: Client) -> None:
        """Return once nothing more is sent while others are served many times, or all is."""
        before = -1
        while before < self.sent < self._count:
            before = self.sent
            for _ in range(200):
                await status(client)


async def warm_up(client: Client) -> None:
    """Have everything made that is made once, for whoever is first to need it."""
    await connect(client, "w")
    await status(client)
    ask = v1.CompleteTaskRequest()
    ask.CopyFrom(REPORT)
    ask.worker_id = "w"
    await refusal(client.claims.CompleteTask(ask))


def objects() -> int:
    """How many objects there are, of client and server."""
    gc.collect()
    return len(gc.get_objects())


async def test_who_does_not_read_is_not_read_from(server: "Server", client: Client) -> None:
    """The server takes no more from a client that does not take its answers than it may hold.

    Once the client reads, every message is answered, in order.
    """
    await warm_up(client)
    async with narrow(server.address) as call:
        before = objects()
        flood = Flood(call, REPORTS, complete=REPORT)
        await flood.stands(client)
        assert flood.sent < REPORTS
        assert objects() - before < 40 * UNDERWAY
        assert len(asyncio.all_tasks()) < UNDERWAY + 50, "what is in work is bounded"
        answers = [await call.read() for _ in range(1 + REPORTS)]
        assert [answer.call_id for answer in answers] == list(range(REPORTS + 1))
        await flood.sending


async def test_who_does_not_read_cannot_flood_by_drains(server: "Server", client: Client) -> None:
    """Nor does the server hold answers without end to messages so short that many come through."""
    await warm_up(client)
    async with narrow(server.address) as call:
        before = objects()
        flood = Flood(call, drain=v1.WorkDrain())
        await flood.stands(client)
        flood.sending.cancel()
        assert objects() - before < 40 * UNDERWAY


async def test_slow_stream_slows_nobody(server: "Server", client: Client) -> None:
    """While one stream stands, others are given tasks and answered."""
    await connect(client, "w", "other")
    async with narrow(server.address) as call:
        flood = Flood(call, heartbeat=v1.HeartbeatRequest())
        await flood.stands(client)
        async with working(client, "other", credit=1) as stream:
            await stream.waiting()
            await create(client, "a")
            assert await stream.assigned() == ["a"]
        flood.sending.cancel()
