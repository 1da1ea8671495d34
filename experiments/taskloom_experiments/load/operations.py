"""What a load generator can do over and over: one operation of one worker each.

An operation is called with the time at which it was to begin, by the monotonic clock, and records
how long each of its calls took: the first one from that time, the others from when they are sent.
All by the generated stubs, on a channel without interceptors, so that a no-op call and a claim cost
the generator the same; and all with a request_id, as the client sends them.

A session is a stream instead, held until a given time.
"""

import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc import aio
from taskloom import v1

from taskloom_experiments.load.histogram import Histogram
from taskloom_experiments.load.noop import NoOp, noop

_LOOKED_AT = 20  # tasks of a list, of which one is chosen


class OutOfTasks(Exception):
    """There was nothing to claim any more."""

    def __init__(self) -> None:
        super().__init__("the graph ran out of ready tasks; give it more with --tasks")


class Record:
    """What is noted of an order: latencies by call, and refusals that belong to the game."""

    def __init__(self) -> None:
        self.latencies: dict[str, Histogram] = {}
        self.lost = 0

    def since(self, began_ns: int, call: str) -> int:
        """Record how long a call took, until now, which is returned."""
        now = time.monotonic_ns()
        if call not in self.latencies:
            self.latencies[call] = Histogram()
        self.latencies[call].record(now - began_ns)
        return now


class Stubs:
    """A connection, with the stubs on it."""

    def __init__(self, channel: aio.Channel, bare: NoOp) -> None:
        self.workers = v1.WorkerServiceStub(channel)
        self.tasks = v1.TaskServiceStub(channel)
        self.claims = v1.ClaimServiceStub(channel)
        self.noop = noop(channel)
        self.bare = bare


@dataclass(frozen=True, slots=True)
class Hand:
    """One worker, as a generator plays it. ``tasks`` and ``ready``: as in ``Station``."""

    stubs: Stubs
    worker_id: str
    tags: Sequence[str]
    tasks: int
    ready: float
    luck: random.Random
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def request_id(self) -> str:
        """One that nobody used before."""
        return f"{self.worker_id}.{time.monotonic_ns():x}.{next(self._numbers)}"

    def any_task(self) -> str:
        """The id of one of the tasks that were there in the beginning."""
        return f"task-{self.luck.randint(1, self.tasks)}"

    def any_ready(self) -> str:
        """The id of one of those that were ready in the beginning."""
        nth = self.luck.randrange(max(1, int(self.tasks * self.ready)))
        return f"task-{int(nth / self.ready) + 1}"


Operation = Callable[[Hand, int, Record], Awaitable[None]]
Session = Callable[[Hand, int, Record], Awaitable[int]]


async def call_noop(hand: Hand, began: int, record: Record) -> None:
    """A call that does nothing, behind the guard of all calls."""
    await hand.stubs.noop(Empty())
    record.since(began, "no-op")


async def call_bare(hand: Hand, began: int, record: Record) -> None:
    """The same on the bare server."""
    await hand.stubs.bare(Empty())
    record.since(began, "no-op, bare")


async def _take(hand: Hand, began: int, record: Record) -> tuple[v1.Task, int]:
    answer = await hand.stubs.claims.ClaimNextTask(
        v1.ClaimNextTaskRequest(worker_id=hand.worker_id, request_id=hand.request_id())
    )
    now = record.since(began, "ClaimNextTask")
    if not answer.tasks:
        raise OutOfTasks
    return answer.tasks[0], now


async def _complete(hand: Hand, task: v1.Task, began: int, record: Record) -> None:
    await hand.stubs.claims.CompleteTask(
        v1.CompleteTaskRequest(
            worker_id=hand.worker_id,
            task_id=task.id,
            claim_revision=task.claim_revision,
            request_id=hand.request_id(),
        )
    )
    record.since(began, "CompleteTask")


async def _give_back(hand: Hand, task: v1.Task, began: int, record: Record) -> None:
    await hand.stubs.claims.ReleaseTask(
        v1.ReleaseTaskRequest(
            worker_id=hand.worker_id,
            task_id=task.id,
            claim_revision=task.claim_revision,
            request_id=hand.request_id(),
        )
    )
    record.since(began, "ReleaseTask")


async def claim(hand: Hand, began: int, record: Record) -> None:
    """ClaimNextTask and CompleteTask: two calls, one task."""
    task, now = await _take(hand, began, record)
    await _complete(hand, task, now, record)


async def turn(hand: Hand, began: int, record: Record) -> None:
    """ClaimNextTask and ReleaseTask, after which the graph is as it was."""
    task, now = await _take(hand, began, record)
    await _give_back(hand, task, now, record)


async def claim_any(hand: Hand, began: int, record: Record) -> None:
    """ClaimTask of any ready task in the file, and ReleaseTask; another worker may be first."""
    request = v1.ClaimTaskRequest(
        worker_id=hand.worker_id, task_id=hand.any_ready(), request_id=hand.request_id()
    )
    try:
        answer = await hand.stubs.claims.ClaimTask(request)
    except aio.AioRpcError as error:
        _of_the_game(error, record)
        record.since(began, "ClaimTask")
        return
    now = record.since(began, "ClaimTask")
    await _give_back(hand, answer.task, now, record)


async def choose(hand: Hand, began: int, record: Record) -> None:
    """ListTasks, ClaimTask of one of them, and CompleteTask, as agents do who choose themselves."""
    page = await hand.stubs.tasks.ListTasks(
        v1.ListTasksRequest(
            ready=True, qualified_for_worker_id=hand.worker_id, page_size=_LOOKED_AT
        )
    )
    now = record.since(began, "ListTasks")
    if not page.tasks:
        raise OutOfTasks
    request = v1.ClaimTaskRequest(
        worker_id=hand.worker_id,
        task_id=hand.luck.choice(page.tasks).id,
        request_id=hand.request_id(),
    )
    try:
        answer = await hand.stubs.claims.ClaimTask(request)
    except aio.AioRpcError as error:
        _of_the_game(error, record)
        record.since(now, "ClaimTask")
        return
    now = record.since(now, "ClaimTask")
    await _complete(hand, answer.task, now, record)


def _of_the_game(error: aio.AioRpcError, record: Record) -> None:
    """Let pass that another worker was first."""
    if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
        raise error
    record.lost += 1


async def list_ready(hand: Hand, began: int, record: Record) -> None:
    """ListTasks: a page of 50 that are ready."""
    await hand.stubs.tasks.ListTasks(v1.ListTasksRequest(ready=True, page_size=50))
    record.since(began, "ListTasks")


async def create(hand: Hand, began: int, record: Record) -> None:
    """CreateTask of a task that this fleet may do, with two tags of its own."""
    await hand.stubs.tasks.CreateTask(
        v1.CreateTaskRequest(
            title="Write the parser",
            description="It reads what the printer writes.",
            needed_tags=hand.tags,
            tags=["code", f"part-{hand.luck.randrange(100)}"],
            request_id=hand.request_id(),
        )
    )
    record.since(began, "CreateTask")


async def update(hand: Hand, began: int, record: Record) -> None:
    """UpdateTask: another priority and description for a task anywhere in the file."""
    await hand.stubs.tasks.UpdateTask(
        v1.UpdateTaskRequest(
            task_id=hand.any_task(),
            priority=hand.luck.randint(0, 10),
            description=f"Seen at {began}",
            request_id=hand.request_id(),
        )
    )
    record.since(began, "UpdateTask")


_MIXTURE: tuple[Operation, ...] = (*(claim,) * 5, *(create,) * 2, *(update,) * 2, list_ready)


async def mixed(hand: Hand, began: int, record: Record) -> None:
    """Of ten: five claims with completions, two creations, two updates, a page of ready tasks."""
    await hand.luck.choice(_MIXTURE)(hand, began, record)


async def work(hand: Hand, until_ns: int, record: Record) -> int:
    """A Work stream with credit for one task at a time; how many were completed."""
    stream = hand.stubs.claims.Work()
    began, count = time.monotonic_ns(), 0
    await stream.write(v1.WorkRequest(start=v1.WorkStart(worker_id=hand.worker_id), credit=1))
    async for message in stream:
        content = message.WhichOneof("content")
        if content == "assigned":
            record.since(began, "next task")
            began = time.monotonic_ns()
            (task,) = message.assigned.tasks
            complete = v1.CompleteTaskRequest(
                task_id=task.id,
                claim_revision=task.claim_revision,
                request_id=hand.request_id(),
            )
            more = began < until_ns
            await stream.write(v1.WorkRequest(complete=complete, credit=int(more)))
            if not more:
                await stream.done_writing()
        elif content == "completed":
            count += 1
        elif content == "waiting":
            raise OutOfTasks
        elif content == "refused":
            raise RuntimeError(message.refused.message)
    return count


OPERATIONS: dict[str, Operation] = {
    "noop": call_noop,
    "bare": call_bare,
    "claim": claim,
    "turn": turn,
    "claim-any": claim_any,
    "choose": choose,
    "list": list_ready,
    "create": create,
    "update": update,
    "mixed": mixed,
}
SESSIONS: dict[str, Session] = {"work": work}
