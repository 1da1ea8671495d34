"""How an agent waits: in ClaimNextTask, in a Work stream, with a watch, or as the client's agents.

Each way calls ``agent.waits()`` once the server is known to have the agent in line, or as near to
that as it can tell, and ``agent.tell()`` for each task or event that reached it.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from google.protobuf.empty_pb2 import Empty
from taskloom import v1
from taskloom_client import Agent, Client
from taskloom_client.durations import proto_duration

from taskloom_experiments.load.graphs import GATE_TAG
from taskloom_experiments.load.noop import listen, noop

AGENT_TAG = "agent"
LEASE = timedelta(hours=1)
_WAIT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Received:
    """What reached an agent: the task, when by the monotonic clock, and a no-op call beside it."""

    worker_id: str
    task_id: str
    received_ns: int
    noop_ns: int = 0


@dataclass(frozen=True, slots=True)
class WaitingAgent:
    """An agent on a connection on which others may be, too.

    ``progress_s``: how often its watch is told how far it is, None for the server's default.

    One that ``returns`` makes a no-op call when it is given a task, ends the task and waits again,
    with pauses of so many seconds before and after the call; another one keeps the task.
    """

    client: Client
    worker_id: str
    progress_s: float | None
    returns: bool
    pause_s: tuple[float, float]
    waits: Callable[[], None]
    tell: Callable[[Received], None]

    async def received(self, task: v1.Task, received_ns: int) -> Received:
        """Do what is done with a task before it is ended; what there is to tell."""
        if not self.returns:
            return Received(self.worker_id, task.id, received_ns)
        call = noop(self.client.channel)
        await self._pause()
        began = time.monotonic_ns()
        await call(Empty())
        took = time.monotonic_ns() - began
        await self._pause()
        return Received(self.worker_id, task.id, received_ns, took)

    async def _pause(self) -> None:
        await asyncio.sleep(random.uniform(*self.pause_s))


async def wait_by_claim(agent: WaitingAgent) -> None:
    """Wait in ClaimNextTask, again and again."""
    claims = agent.client.claims
    request = v1.ClaimNextTaskRequest(
        worker_id=agent.worker_id,
        wait=proto_duration(_WAIT),
        wait_when_done=True,
    )
    call = asyncio.ensure_future(claims.ClaimNextTask(request))
    await asyncio.sleep(0)  # the call goes out
    # On the same connection: when it is answered, the claim before it has been looked at.
    await agent.client.workers.Heartbeat(v1.HeartbeatRequest(worker_id=agent.worker_id))
    agent.waits()
    while True:
        answer = await call
        received_ns = time.monotonic_ns()
        told = [await agent.received(task, received_ns) for task in answer.tasks]
        if told and agent.returns:
            await claims.CompleteTask(
                v1.CompleteTaskRequest(worker_id=agent.worker_id, task_id=told[0].task_id)
            )
        if not told or agent.returns:
            call = asyncio.ensure_future(claims.ClaimNextTask(request))
            await asyncio.sleep(0)
        for one in told:  # when the next call is out, so that who reads it finds the agent in line
            agent.tell(one)
        if told and not agent.returns:
            return


async def wait_by_stream(agent: WaitingAgent) -> None:
    """Wait in a Work stream, with credit for one task at a time."""
    stream = agent.client.claims.Work()
    start = v1.WorkStart(worker_id=agent.worker_id)
    await stream.write(v1.WorkRequest(start=start, credit=1))
    waits, given = False, None
    async for message in stream:
        received_ns = time.monotonic_ns()
        content = message.WhichOneof("content")
        if content == "waiting" and not waits:
            waits = True
            agent.waits()
        elif content == "assigned":
            given = await agent.received(message.assigned.tasks[0], received_ns)
            if agent.returns:
                complete = v1.CompleteTaskRequest(task_id=given.task_id)
                await stream.write(v1.WorkRequest(complete=complete, credit=1))
            else:
                agent.tell(given)
        elif content == "completed" and given is not None:
            agent.tell(given)
        elif content == "refused":
            raise RuntimeError(f"{agent.worker_id}: {message.refused.message}")


async def wait_by_watch(agent: WaitingAgent) -> None:
    """Wait with a watch of everything, and tell of the tasks that become ready."""
    every = None if agent.progress_s is None else timedelta(seconds=agent.progress_s)
    async with agent.client.watch(progress_interval=every) as watch:
        agent.waits()
        async for event in watch.events():
            if event.type == v1.EVENT_TYPE_TASK_CREATED:
                agent.tell(Received(agent.worker_id, event.task_id, time.monotonic_ns()))


async def wait_as_client(pull: str, agent: WaitingAgent) -> None:
    """Wait as an agent of taskloom_client that pulls so, with all that it does meanwhile."""
    async with Agent(
        agent.client, agent.worker_id, tags=[AGENT_TAG], lease=LEASE, pull=pull
    ) as real:
        agent.waits()
        async for held in real.tasks():
            agent.tell(Received(agent.worker_id, held.task.id, time.monotonic_ns()))
            await asyncio.Event().wait()  # at work on it for ever
    raise RuntimeError(f"{agent.worker_id} went home instead of waiting")


async def wait_by_stub(
    filter_of: Callable[[str], v1.WatchFilter], tells: bool, agent: WaitingAgent
) -> None:
    """Wait with a watch by the bare stub; of what comes it tells, or only reads it."""
    request = v1.WatchTasksRequest(filter=filter_of(agent.worker_id))
    async for message in agent.client.watches.WatchTasks(request):
        content = message.WhichOneof("content")
        if content == "created":
            agent.waits()
        elif content == "events" and tells:
            event = message.events.events[0]
            if event.type == v1.EVENT_TYPE_TASK_CREATED:
                agent.tell(Received(agent.worker_id, event.task_id, time.monotonic_ns()))


def _nothing(_worker_id: str) -> v1.WatchFilter:
    return v1.WatchFilter(tags=[GATE_TAG])


def _a_part(worker_id: str) -> v1.WatchFilter:
    """A hundredth of the tasks that ``operations.create`` makes."""
    return v1.WatchFilter(tags=[f"part-{int(worker_id.rpartition('-')[2]) % 100}"])


def _all(_worker_id: str) -> v1.WatchFilter:
    return v1.WatchFilter()


async def wait_by_listening(agent: WaitingAgent) -> None:
    """Wait for messages of the benchmark's own service, and tell of each."""
    stream = listen(agent.client.channel)(Empty())
    first = True
    async for _ in stream:
        if first:
            agent.waits()
        else:
            agent.tell(Received(agent.worker_id, "", time.monotonic_ns()))
        first = False


WAYS: dict[str, Callable[[WaitingAgent], Awaitable[None]]] = {
    "claim": wait_by_claim,
    "stream": wait_by_stream,
    "watch": wait_by_watch,
    "watch, all": partial(wait_by_stub, _all, True),
    "watch, idle": partial(wait_by_stub, _nothing, False),
    "watch, part": partial(wait_by_stub, _a_part, False),
    "listen": wait_by_listening,
    "agent, next": partial(wait_as_client, "next"),
    "agent, stream": partial(wait_as_client, "stream"),
    "agent, watch": partial(wait_as_client, "watch"),
}
