"""Commotion: all that clients do with a server, on connections and streams that come and go.

A *part* is one round of something: a connection is opened, used, and closed or broken off. So a
server on which any number of rounds were played has to be as it was before. What is in the graph
stays about the same: ``sow`` keeps as many tasks ready as there were, ``reap`` removes for good
what has ended. Only agents that ask again and again (``poll``) name their requests, since answers
to those are kept for a day.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from google.protobuf.message import Message
from grpc import aio
from taskloom import v1
from taskloom_client import Agent, Client
from taskloom_client.durations import proto_duration

TAG = "soak"  # of what the agents work on
BASE = 50  # tasks that are only read and changed: nobody has the tag that they need
READY = 100
_BASE_TAG = "base"
_TASKS_A_ROUND = 5
_CALLS_A_ROUND = 5
_LONG = proto_duration(timedelta(minutes=5))
_GRACE = proto_duration(timedelta(seconds=1))
_CONTENTS = (100_000, 1_200_000)  # bytes: what is kept in the database, and what in a file
_CHUNK = 64 << 10
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))


@dataclass(frozen=True, slots=True)
class Stage:
    """Where it is played, and for how long what is broken off is let go on, at the most."""

    target: str
    linger_s: float = 1.0
    luck: random.Random = field(default_factory=lambda: random.Random(1))
    rounds: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Client]:
        """A connection of one's own, by which calls are sent as they are given."""
        channel = aio.insecure_channel(self.target, options=_OPTIONS)
        async with Client(self.target, channel=channel) as client:
            yield client

    @contextlib.asynccontextmanager
    async def a_while(self) -> AsyncIterator[None]:
        """What goes on in the context is cancelled after some time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.luck.uniform(0.1, 1) * self.linger_s):
                yield

    def base_task(self) -> str:
        """The id of one of the tasks that are there all the time."""
        return f"base-{self.luck.randrange(BASE)}"


class _Unnamed:
    """A connection by which requests go without their request_id."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return partial(self._method, getattr(self._channel, name))

    def _method(self, make: Callable[..., Any], path: str, **options: Any) -> Any:
        options["request_serializer"] = _serialize
        return make(path, **options)


def _serialize(request: Message) -> bytes:
    unnamed = type(request)()
    unnamed.CopyFrom(request)
    named = unnamed
    if isinstance(unnamed, v1.WorkRequest) and (content := unnamed.WhichOneof("content")):
        named = getattr(unnamed, content)
    if "request_id" in named.DESCRIPTOR.fields_by_name:
        named.ClearField("request_id")
    return unnamed.SerializeToString()


def _leave_unnamed(client: Client) -> None:
    """Let the calls of an agent be sent without request_id."""
    channel: Any = _Unnamed(client.channel)
    client.workers = v1.WorkerServiceStub(channel)
    client.tasks = v1.TaskServiceStub(channel)
    client.claims = v1.ClaimServiceStub(channel)


async def set_up(stage: Stage) -> None:
    """Create what is there all the time, and the first tasks to work on."""
    async with stage.connection() as client:
        for number in range(BASE):
            await client.tasks.CreateTask(
                v1.CreateTaskRequest(
                    id=f"base-{number}", title="Stay", needed_tags=["nobody"], tags=[_BASE_TAG]
                )
            )
    await sow(stage, 0)


async def sow(stage: Stage, _number: int) -> None:
    """As many tasks are ready again as there were in the beginning, every fourth with one after."""
    async with stage.connection() as client:
        page = await client.tasks.ListTasks(
            v1.ListTasksRequest(ready=True, tags_all=[TAG], page_size=READY)
        )
        for nth in range(READY - len(page.tasks)):
            request = v1.CreateTaskRequest(
                title="Write the parser",
                description="It reads what the printer writes.",
                needed_tags=[TAG],
                tags=[TAG, f"part-{stage.luck.randrange(20)}"],
            )
            created = await client.tasks.CreateTask(request)
            if nth % 4 == 0:
                request.blocked_by.append(created.task.id)
                await client.tasks.CreateTask(request)


async def reap(stage: Stage, _number: int) -> None:
    """What has ended is removed for good; what failed is deleted first."""
    async with stage.connection() as client:
        ended = v1.ListTasksRequest(statuses=["completed", "failed"], page_size=1_000)
        for task in (await client.tasks.ListTasks(ended)).tasks:
            if task.status == "failed":
                await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id=task.id))
            await client.tasks.ObliterateTask(v1.ObliterateTaskRequest(task_id=task.id))


async def pull(way: str, stage: Stage, number: int) -> None:
    """An agent comes, does some tasks and leaves; it fails one, which is tried again."""
    client = Client(stage.target)
    if way != "poll":
        _leave_unnamed(client)
    async with (
        client,
        Agent(client, f"{way}-{number}", tags=[TAG], pull=way) as agent,
        contextlib.aclosing(agent.tasks()) as tasks,
    ):
        left = _TASKS_A_ROUND
        async for task in tasks:
            left -= 1
            if left == _TASKS_A_ROUND // 2:
                await task.fail("once more", retry=True)
            if left == 0:
                await task.complete()
                break


async def break_stream(stage: Stage, number: int) -> None:
    """A Work stream ends in the middle of the work; what it held is there when it comes again."""
    worker_id = f"breaker-{number}"
    async with stage.connection() as client:
        connect = v1.ConnectRequest(worker_id=worker_id, tags=[TAG], max_claims=4)
        await client.workers.Connect(connect)
        stream = client.claims.Work()
        start = v1.WorkStart(worker_id=worker_id, grace=_GRACE)
        await stream.write(v1.WorkRequest(start=start, credit=3))
        async with stage.a_while():
            async for message in stream:
                assert isinstance(message, v1.WorkResponse)
                held = message.started.held_tasks or message.assigned.tasks[:1]
                for task in held:
                    complete = v1.CompleteTaskRequest(
                        task_id=task.id, claim_revision=task.claim_revision
                    )
                    await stream.write(v1.WorkRequest(complete=complete))
        stream.cancel()


async def wait_in_vain(stage: Stage, number: int) -> None:
    """Claims wait for a task that never comes, in a call and in a stream, and are given up."""
    async with stage.connection() as client:
        worker_ids = [f"waiter-{number}-{nth}" for nth in range(_CALLS_A_ROUND)]
        for worker_id in worker_ids:
            await client.workers.Connect(v1.ConnectRequest(worker_id=worker_id))
        stream = client.claims.Work()
        start = v1.WorkStart(worker_id=worker_ids[0], grace=_GRACE)
        await stream.write(v1.WorkRequest(start=start, credit=1))
        async with stage.a_while(), asyncio.TaskGroup() as group:
            for worker_id in worker_ids[1:]:
                claim = v1.ClaimNextTaskRequest(worker_id=worker_id, wait=_LONG)
                group.create_task(_sent(client.claims.ClaimNextTask(claim)))
        stream.cancel()


async def watch(stage: Stage, number: int) -> None:
    """Watches are opened, read for a while and cancelled; one is never read."""
    async with stage.connection() as client:
        everything = v1.WatchTasksRequest(include_state=True)
        some = v1.WatchTasksRequest(filter=v1.WatchFilter(tags=[f"part-{number}"]))
        unread = client.watches.WatchTasks(everything)
        calls = [client.watches.WatchTasks(request) for request in (everything, some, everything)]
        async with stage.a_while(), asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(_read(call))
        if stage.luck.random() < 0.5:  # else the end of the connection ends them
            for call in (unread, *calls):
                call.cancel()


async def look_and_change(stage: Stage, _number: int) -> None:
    """Lists, searches, counts, queries in SQL; and changes of tasks that stay."""
    async with stage.connection() as client:
        for _ in range(_CALLS_A_ROUND):
            await client.tasks.UpdateTask(
                v1.UpdateTaskRequest(
                    task_id=stage.base_task(),
                    priority=stage.luck.randint(0, 10),
                    description=f"Seen with {stage.luck.random()}",
                )
            )
            await client.tasks.GetTask(v1.GetTaskRequest(task_id=stage.base_task()))
        await client.tasks.ListTasks(v1.ListTasksRequest(ready=True, page_size=50))
        await client.tasks.SearchTasks(v1.SearchTasksRequest(query="parser OR seen"))
        await client.admin.GetStatus(v1.GetStatusRequest())
        await client.admin.Query(v1.QueryRequest(sql="SELECT count(*) FROM tasks"))


async def visit(stage: Stage, number: int) -> None:
    """Connections are opened, workers come and go."""
    for nth in range(_CALLS_A_ROUND):
        worker_id = f"visitor-{number}-{nth}"
        async with stage.connection() as client:
            await client.workers.Connect(v1.ConnectRequest(worker_id=worker_id))
            await client.workers.Heartbeat(v1.HeartbeatRequest(worker_id=worker_id))
            await client.workers.Disconnect(v1.DisconnectRequest(worker_id=worker_id))


async def attach(stage: Stage, number: int) -> None:
    """Contents come as a call and as a stream, are read in part, and are removed."""
    async with stage.connection() as client:
        task_id = f"base-{number}"
        note = v1.AttachRequest(task_id=task_id, type="note", name="a", content=b"It works.")
        small = await client.attachments.Attach(note)
        content = stage.luck.randbytes(stage.luck.choice(_CONTENTS))
        large = await client.upload(task_id, "build", content)
        download = client.attachments.DownloadAttachment(
            v1.DownloadAttachmentRequest(task_id=task_id, type="build")
        )
        await download.read()
        download.cancel()
        async with stage.a_while():
            await client.upload(task_id, "build", _endless(stage.luck.randbytes(_CHUNK)))
        for attachment in (small.attachment, large):
            await client.attachments.Detach(
                v1.DetachRequest(
                    task_id=task_id, type=attachment.type, sequence=attachment.sequence
                )
            )


async def export(stage: Stage, _number: int) -> None:
    """A snapshot is asked for, and not read to its end."""
    async with stage.connection() as client:
        call = client.admin.ExportSnapshot(v1.ExportSnapshotRequest())
        await call.read()
        call.cancel()


async def _sent(call: Awaitable[object]) -> None:
    await call


async def _read(call: AsyncIterable[object]) -> None:
    async for _ in call:
        pass


async def _endless(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk
    await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of round, and how many play it at once."""

    play: Callable[[Stage, int], Awaitable[None]]
    players: int


PARTS = {
    "sow": Part(sow, 1),
    "reap": Part(reap, 1),
    **{f"pull by {way}": Part(partial(pull, way), 2) for way in ("next", "stream", "watch")},
    "pull by poll": Part(partial(pull, "poll"), 1),
    "break a stream": Part(break_stream, 3),
    "wait in vain": Part(wait_in_vain, 4),
    "watch": Part(watch, 6),
    "look and change": Part(look_and_change, 2),
    "visit": Part(visit, 2),
    "attach": Part(attach, 2),
    "export": Part(export, 1),
}


async def play(stage: Stage, *, rounds: int | None = None, rest_s: float = 0.0) -> None:
    """Play all parts at once, each so many rounds, or for ever; up to twice ``rest_s`` between."""

    async def keep_on(name: str, part: Part, number: int) -> None:
        done = 0
        while done != rounds:
            await part.play(stage, number)
            done += 1
            stage.rounds[name] += 1
            await asyncio.sleep(stage.luck.uniform(0, 2 * rest_s))

    async with asyncio.TaskGroup() as group:
        for name, part in PARTS.items():
            for number in range(part.players):
                group.create_task(keep_on(name, part, number), name=f"{name} {number}")
