"""Leases: how late they end, with ten thousand of them open and some work going on.

All leases are held by workers of whom nothing is heard any more; some hundred of them end at known
times, spread out. What is late is compared by the server's clock (the event's time) and by this
process's (when the event came), which is the same clock on the same machine, to the millisecond.

Beside it, what the machine does to anybody: how late a timer of this process comes that needs
nobody else, and how long the disk takes to sync a little. A lease ends in a transaction of its
own, which waits for the one before, and so for its sync.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from taskloom import v1
from taskloom_client import Client, Watch
from taskloom_client.durations import proto_duration

from taskloom_experiments.load.disk import syncing
from taskloom_experiments.load.latencies import Latencies
from taskloom_experiments.load.measured import Figure, Measured
from taskloom_experiments.load.serving import serving

BAR_MS = 100.0
_AT_ONCE = 64
_LONG = timedelta(hours=1)
_LATEST_S = 60.0
_TIMER_NS = 20_000_000
_SYNC_EVERY_S = 0.1
_HELD_TAG = "held"
_WORK_TAG = "work"
_EXPIRED = v1.EVENT_TYPE_TASK_LEASE_EXPIRED


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Who holds how many leases, how many of them end, and what goes on meanwhile.

    The leases that end last ``soonest_s``, and up to ``spread_s`` longer.
    ``busy_workers`` each make, claim and complete a task and then rest ``rest_s``; heartbeats come
    from the holders of long leases at ``heartbeats_s`` a second.
    """

    workers: int = 10_000
    claims_each: int = 1
    ending: int = 500
    soonest_s: float = 3.0
    spread_s: float = 20.0
    busy_workers: int = 4
    rest_s: float = 0.1
    heartbeats_s: float = 33.0
    seed: int = 1


async def measure_leases(settings: LeaseSettings, folder: Path) -> Measured:
    """Measure it with a server of its own, whose files lie in ``folder``."""
    luck = random.Random(settings.seed)
    async with serving(folder) as server, Client(server.target) as client:
        await _hold(client, settings)
        async with client.watch(v1.WatchFilter(event_types=[_EXPIRED])) as watch:
            due = await _hold_briefly(client, settings, luck)
            used, waited = server.cpu_seconds(), server.waited_seconds()
            began = time.monotonic()
            lateness, arrival = Latencies(), Latencies()
            others = [f"holder-{n}" for n in range(settings.ending, settings.workers)]
            bare, disk = Latencies(), Latencies()
            load = [_work(client, number, settings) for number in range(settings.busy_workers)]
            if others:
                load.append(_heartbeats(client, others, settings.heartbeats_s, luck))
            with syncing(folder) as sync:
                machine = (_timers(bare), _syncs(sync, disk))
                async with _beside(*machine, *load), asyncio.timeout(_LATEST_S):
                    await _ends(watch, due, lateness, arrival)
            percent = 100 / (time.monotonic() - began)
            used, waited = server.cpu_seconds() - used, server.waited_seconds() - waited
    worst = lateness.percentile(100) / 1e6
    return Measured(
        scenario=f"leases, {settings.workers:,} workers with {settings.claims_each}",
        settings=asdict(settings),
        figures=(
            Figure("latest end of a lease, after its time", worst, "ms", BAR_MS),
            Figure("p99 of the ends", lateness.percentile(99) / 1e6, "ms"),
            Figure("earliest", lateness.percentile(0) / 1e6, "ms"),
            Figure("server CPU meanwhile", percent * used, "% of a core"),
            Figure("server waited for a core meanwhile", percent * waited, "% of the time"),
        ),
        latencies={
            "end of a lease": lateness.summary(),
            "event of it received": arrival.summary(),
            "a timer that needs nobody": bare.summary(),
            "a sync of the disk": disk.summary(),
        },
    )


async def _ends(watch: Watch, due: dict[str, int], lateness: Latencies, arrival: Latencies) -> None:
    """Follow the ends of the leases until all those that are due have come."""
    async for event in watch.events():
        now_ms = time.time_ns() // 1_000_000
        expected_ms = due.pop(event.task_id)
        lateness.record((event.time.ToMilliseconds() - expected_ms) * 1_000_000)
        arrival.record((now_ms - expected_ms) * 1_000_000)
        if not due:
            return


async def _in_parallel(jobs: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run them all, some at a time."""
    todo = iter(jobs)

    async def hand() -> None:
        for job in todo:
            await job()

    await asyncio.gather(*(hand() for _ in range(_AT_ONCE)))


async def _hold(client: Client, settings: LeaseSettings) -> None:
    """Connect the holders, and give them all their long leases."""

    async def make(number: int) -> None:
        await client.tasks.CreateTask(
            v1.CreateTaskRequest(id=f"held-{number}", title="Hold", needed_tags=[_HELD_TAG])
        )

    async def hold(number: int) -> None:
        worker_id = f"holder-{number}"
        await client.workers.Connect(
            v1.ConnectRequest(
                worker_id=worker_id,
                tags=[_HELD_TAG],
                max_claims=settings.claims_each,
                lease=proto_duration(_LONG),
            )
        )
        if wanted := settings.claims_each - (number < settings.ending):
            await client.claims.ClaimNextTask(
                v1.ClaimNextTaskRequest(worker_id=worker_id, max_tasks=wanted)
            )

    tasks = settings.workers * settings.claims_each
    await _in_parallel(partial(make, number) for number in range(tasks))
    await _in_parallel(partial(hold, number) for number in range(settings.workers))


async def _hold_briefly(
    client: Client, settings: LeaseSettings, luck: random.Random
) -> dict[str, int]:
    """Give each of the first workers one short lease; when those end, in Unix ms, by task."""
    due: dict[str, int] = {}

    async def hold(number: int) -> None:
        lease = timedelta(seconds=settings.soonest_s + luck.uniform(0, settings.spread_s))
        answer = await client.claims.ClaimNextTask(
            v1.ClaimNextTaskRequest(worker_id=f"holder-{number}", lease=proto_duration(lease))
        )
        (task,) = answer.tasks
        due[task.id] = task.lease_expire_time.ToMilliseconds()

    await _in_parallel(partial(hold, number) for number in range(settings.ending))
    return due


@contextlib.asynccontextmanager
async def _beside(*coroutines: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Let them go on until the context is left."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        endings = await asyncio.gather(*tasks, return_exceptions=True)
    for ending in endings:
        if isinstance(ending, Exception):
            raise ending  # a load that failed was none


async def _timers(lateness: Latencies) -> None:
    while True:
        due = time.monotonic_ns() + _TIMER_NS
        await asyncio.sleep(_TIMER_NS / 1e9)
        lateness.record(time.monotonic_ns() - due)


async def _syncs(sync: Callable[[], int], latencies: Latencies) -> None:
    while True:
        latencies.record(await asyncio.to_thread(sync))
        await asyncio.sleep(_SYNC_EVERY_S)


async def _work(client: Client, number: int, settings: LeaseSettings) -> None:
    """Make a task, claim one, complete it, rest; again and again."""
    worker_id = f"busy-{number}"
    await client.workers.Connect(v1.ConnectRequest(worker_id=worker_id, tags=[_WORK_TAG]))
    while True:
        await client.tasks.CreateTask(v1.CreateTaskRequest(title="Work", needed_tags=[_WORK_TAG]))
        answer = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id=worker_id))
        for task in answer.tasks:
            await client.claims.CompleteTask(
                v1.CompleteTaskRequest(worker_id=worker_id, task_id=task.id)
            )
        await asyncio.sleep(settings.rest_s)


async def _heartbeats(
    client: Client, worker_ids: list[str], a_second: float, luck: random.Random
) -> None:
    while True:
        request = v1.HeartbeatRequest(worker_id=luck.choice(worker_ids))
        await client.workers.Heartbeat(request)
        await asyncio.sleep(1 / a_second)
