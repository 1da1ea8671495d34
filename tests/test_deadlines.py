"""Deadlines: the alarm, ten thousand leases that each end at their own time, and what that costs.

What becomes of a task whose lease ends is told in test_leases.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from taskloom import v1
from taskloom_client import Client
from taskloom_server.alarm import Alarm
from taskloom_server.workflow_files import SHIPPED

from tests.calls import claim, connect, create, duration, event, heartbeat, show, status
from tests.conftest import TestClock

if TYPE_CHECKING:
    from tests.conftest import Server

    StartServer: TypeAlias = Callable[..., AbstractAsyncContextManager[Server]]

LEASE = 40_000
EXPIRED = v1.EVENT_TYPE_TASK_LEASE_EXPIRED


# The alarm


@dataclass
class Bell:
    """What an alarm calls: notes when it was rung for whom, and answers when that is due next."""

    clock: TestClock
    rung: list[tuple[int, str]] = field(default_factory=list)
    next: dict[str, int] = field(default_factory=dict)

    async def meet(self, name: str) -> int | None:
        """See to what is due of this name."""
        self.rung.append((self.clock.now(), name))
        return self.next.pop(name, None)

    def take(self) -> list[tuple[int, str]]:
        """What was rung since it was asked last."""
        rung, self.rung = sorted(self.rung), []
        return rung


async def settle() -> None:
    """Let everything happen that needs no more time to pass."""
    for _ in range(50):
        await asyncio.sleep(0)


async def advance(clock: TestClock, ms: int) -> None:
    """Let so much time pass, and what is due by then happen."""
    clock.advance(ms)
    await settle()


@contextlib.asynccontextmanager
async def running(bell: Bell) -> AsyncIterator[Alarm]:
    """An alarm that runs."""
    alarm = Alarm(bell.clock, bell.meet)
    task = asyncio.create_task(alarm.run())
    await settle()
    yield alarm
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_alarm_rings_at_its_time() -> None:
    """Each name is rung for once, at its time and not a ms before; then it is forgotten."""
    clock = TestClock(0)
    bell = Bell(clock)
    async with running(bell) as alarm:
        for name, time in (("late", 200), ("early", 100), ("also", 100), ("", 150)):
            alarm.set(time, name)
        await advance(clock, 99)
        assert bell.take() == []
        await advance(clock, 1)
        assert bell.take() == [(100, "also"), (100, "early")]
        await advance(clock, 99)
        assert bell.take() == [(150 + 49, "")]
        await advance(clock, 1_000)
        assert bell.take() == [(1_199, "late")]
        await advance(clock, 1_000)
        assert bell.take() == []


async def test_alarm_keeps_the_earliest_time_of_a_name() -> None:
    """A later time of the same name is not kept, an earlier one wakes the alarm from its sleep."""
    clock = TestClock(0)
    bell = Bell(clock)
    async with running(bell) as alarm:
        alarm.set(500, "w")
        alarm.set(900, "w")
        alarm.set(None, "w")
        await settle()
        alarm.set(100, "w")
        await advance(clock, 100)
        assert bell.take() == [(100, "w")]
        await advance(clock, 10_000)
        assert bell.take() == []


async def test_alarm_rings_again_when_it_is_told_to() -> None:
    """What is answered to a ring is when to ring next, also where it is as late as once set."""
    clock = TestClock(0)
    bell = Bell(clock, next={"w": 500})
    async with running(bell) as alarm:
        alarm.set(500, "w")
        alarm.set(100, "w")
        await advance(clock, 100)
        assert bell.take() == [(100, "w")]
        await advance(clock, 399)
        assert bell.take() == []
        await advance(clock, 1)
        assert bell.take() == [(500, "w")]


async def test_alarm_that_is_overdue_rings_at_once() -> None:
    """A time that has passed already is seen to without any time passing."""
    clock = TestClock(1_000)
    bell = Bell(clock)
    async with running(bell) as alarm:
        for n in range(250):
            alarm.set(n, str(n))
        await settle()
        assert bell.take() == sorted((1_000, str(n)) for n in range(250))


async def test_alarm_is_set_while_it_rings() -> None:
    """What a ring itself brings about is not lost, be it past, or of the name that is rung for."""
    clock = TestClock(0)
    rung: list[str] = []

    async def meet(name: str) -> int | None:
        rung.append(name)
        if len(rung) == 1:
            alarm.set(50, "another")
            alarm.set(50, "first")
        return None

    alarm = Alarm(clock, meet)
    alarm.set(100, "first")
    task = asyncio.create_task(alarm.run())
    await advance(clock, 100)
    assert sorted(rung) == ["another", "first", "first"]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


moves = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from("abc"), st.integers(1, 50)),
    st.tuples(st.just("renew"), st.sampled_from("abc"), st.integers(1, 50)),
    st.tuples(st.just("pass"), st.just(""), st.integers(1, 40)),
)


@settings(deadline=None)
@given(sequence=st.lists(moves, max_size=30))
def test_alarm_is_never_late(sequence: list[tuple[str, str, int]]) -> None:
    """Leases that begin tell the alarm, renewals do not; each ends as soon as its time has come.

    It may ring for nothing, at the times that were once set and no more often.
    """

    async def run() -> None:
        clock = TestClock(0)
        ends: dict[str, int] = {}  # of leases that run
        ended: list[str] = []
        rung: Counter[str] = Counter()
        begun: Counter[str] = Counter()

        async def meet(name: str) -> int | None:
            rung[name] += 1
            if name in ends and ends[name] <= clock.now():
                del ends[name]
                ended.append(name)
            return ends.get(name)

        alarm = Alarm(clock, meet)
        task = asyncio.create_task(alarm.run())
        renewed: Counter[str] = Counter()
        for verb, name, ms in sequence:
            if verb == "begin" and name not in ends:
                ends[name] = clock.now() + ms
                alarm.set(ends[name], name)
                begun[name] += 1
            elif verb == "renew" and name in ends:
                ends[name] = max(ends[name], clock.now() + ms)
                renewed[name] += 1
            elif verb == "pass":
                for _ in range(ms):
                    await advance(clock, 1)
                    assert all(end > clock.now() for end in ends.values())
        for name in "abc":
            assert ended.count(name) + (name in ends) == begun[name]
            assert rung[name] <= begun[name] + renewed[name]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())


# Ten thousand leases


async def together(calls: Iterable[Any], at_once: int = 100) -> list[Any]:
    """The answers of many calls, so many at a time, in their order."""
    room = asyncio.Semaphore(at_once)

    async def one(call: Any) -> Any:
        async with room:
            return await call

    return await asyncio.gather(*map(one, calls))


async def many_tasks(client: Client, count: int) -> None:
    """So many ready tasks, made a few thousand at a time."""
    while count:
        size = min(count, 4_000)
        root = v1.TaskNode(title="root", children=[v1.TaskNode(title="leaf")] * size)
        await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
        count -= size


async def take(client: Client, worker: str, count: int) -> set[str]:
    """The ids of so many tasks that are given to the worker."""
    request = v1.ClaimNextTaskRequest(worker_id=worker, max_tasks=count)
    return {task.id for task in (await client.claims.ClaimNextTask(request)).tasks}


async def test_ten_thousand_leases_end_each_at_its_time(
    timed_client: Client, clock: TestClock
) -> None:
    """1,000 workers with 10 tasks each: every lease ends at its own ms, also where it was renewed.

    Each step of the clock is onto the next end; whatever ends at another time than its own is seen.
    """
    client = timed_client
    await many_tasks(client, 10_000)
    workers = {f"w{n}": LEASE + n % 40 for n in range(1_000)}
    start = clock.now()
    await together(
        connect(client, id, max_claims=10, lease=duration(lease)) for id, lease in workers.items()
    )
    taken = dict(zip(workers, await together(take(client, id, 10) for id in workers), strict=True))
    since = (await status(client)).revision
    clock.advance(LEASE // 2)
    renewed = [id for n, id in enumerate(workers) if n % 3 == 0]
    await together(heartbeat(client, id) for id in renewed)
    ends: dict[int, set[str]] = {}
    for id, lease in workers.items():
        end = start + lease + (LEASE // 2 if id in set(renewed) else 0)
        ends.setdefault(end, set()).update(taken[id])
    assert sum(map(len, ends.values())) == 10_000
    told: dict[int, set[str]] = {}
    only = v1.WatchFilter(event_types=[EXPIRED])
    async with client.watch(only, start_revision=since + 1) as watch:
        events = watch.events()
        for end in sorted(ends):
            clock.advance(end - clock.now())
            for _ in ends[end]:
                ended = await anext(events)
                told.setdefault(ended.time.ToMilliseconds(), set()).add(ended.task_id)
    assert told == ends
    assert (await status(client)).claimed_tasks == 0


# Those who cannot be helped


def _workflow(directory: Path, name: str, **changes: str) -> None:
    text = (SHIPPED / "swarm.yaml").read_text(encoding="utf-8")
    text = text.replace("name: swarm", f"name: {name}")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.yaml").write_text(text, encoding="utf-8")


def _time(ms: int) -> Timestamp:
    return Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


async def test_a_workflow_that_is_gone_stops_nobody_else(
    start_server: "StartServer", clock: TestClock, tmp_path: Path
) -> None:
    """Tasks of a workflow that is not loaded stay as they are; all others are seen to in time.

    Once the workflow is back, they are seen to as well.
    """
    _workflow(tmp_path / "workflows", "gone")
    db = tmp_path / "tasks.db"
    with_it: dict[str, Any] = {"db": db, "clock": clock, "workflow_dir": tmp_path / "workflows"}
    async with start_server(**with_it) as server, Client(server.address) as client:
        await connect(client, "w", "v", max_claims=5, lease=duration(LEASE))
        later = _time(clock.now() + LEASE)
        for id, workflow in (("stuck", "gone"), ("one", ""), ("two", "")):
            await create(client, id, workflow=workflow)
        for id, workflow in (("resting", "gone"), ("rested", "")):
            await create(client, id, workflow=workflow, not_before=later)
        for worker, id in (("w", "stuck"), ("w", "one"), ("v", "two")):
            await claim(client, worker, id)
    async with start_server(db=db, clock=clock) as server, Client(server.address) as client:
        clock.advance(LEASE)
        for id in ("one", "two"):
            assert (await event(client, EXPIRED, id)).time.ToMilliseconds() == clock.now()
        ready = await event(client, v1.EVENT_TYPE_TASK_READY, "rested")
        assert ready.time.ToMilliseconds() == clock.now()
        assert (await show(client, "stuck")).worker_id == "w"
    async with start_server(**with_it) as server, Client(server.address) as client:
        await event(client, EXPIRED, "stuck")
        await event(client, v1.EVENT_TYPE_TASK_READY, "resting")


async def test_nor_do_many_of_them(
    start_server: "StartServer", clock: TestClock, tmp_path: Path
) -> None:
    """However many tasks of such a workflow are due, one behind them becomes ready in time."""
    _workflow(tmp_path / "workflows", "gone")
    db = tmp_path / "tasks.db"
    leaf = v1.TaskNode(title="leaf", not_before=_time(clock.now() + 1_000))
    tree = v1.CreateTaskTreeRequest(
        workflow="gone", root=v1.TaskNode(title="root", children=[leaf] * 120)
    )
    with_it: dict[str, Any] = {"db": db, "clock": clock, "workflow_dir": tmp_path / "workflows"}
    async with start_server(**with_it) as server, Client(server.address) as client:
        await client.tasks.CreateTaskTree(tree)
        await create(client, "task", not_before=_time(clock.now() + 2_000))
    async with start_server(db=db, clock=clock) as server, Client(server.address) as client:
        clock.advance(2_000)
        async with asyncio.timeout(2):
            await event(client, v1.EVENT_TYPE_TASK_READY, "task")


@pytest.mark.parametrize("how", ["lease", "disconnect"])
async def test_what_one_end_frees_another_knows(
    start_server: "StartServer", clock: TestClock, tmp_path: Path, how: str
) -> None:
    """A worker loses a task and the one that blocks it: the blocker's end makes the other ready."""
    blocking = "blocking_states: [pending, assigned, working, waiting, failed]"
    _workflow(tmp_path / "workflows", "lax", **{blocking: "blocking_states: [working]"})
    lax: dict[str, Any] = {"workflow_dir": tmp_path / "workflows", "default_workflow": "lax"}
    async with start_server(clock=clock, **lax) as server, Client(server.address) as client:
        await connect(client, "w", max_claims=2, lease=duration(LEASE))
        for id in ("blocker", "task"):
            await create(client, id)
            await claim(client, "w", id)
        link = v1.LinkTasksRequest(from_task_id="blocker", to_task_id="task")
        await client.tasks.LinkTasks(link)
        if how == "lease":
            clock.advance(LEASE)
        else:
            await client.workers.Disconnect(v1.DisconnectRequest(worker_id="w"))
        type_ = EXPIRED if how == "lease" else v1.EVENT_TYPE_TASK_RELEASED
        told = await event(client, type_, "task")
        assert told.task.ready
        assert told.task == await show(client, "task")
