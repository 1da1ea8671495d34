"""Wake-up: from the end of a task's last blocker to its receipt by an agent that waited for it.

A driver claims a blocker, rests a moment, and completes it; the one task behind it goes to the
agent that has waited longest. That agent makes a no-op call on its own connection, among the same
calls that wait, ends the task and waits again. One after the other, so that all agents wait.

Three times are told. *From the call*: from when the driver begins to send CompleteTask until the
agent's program has the task; so a whole durable call is within it. *From the answer*: from when
the driver's program has the answer, which the server sends together with the task; it may be
negative. The instant of the commit, which is the blocker's end, is seen by nobody outside. It lies
between the two, before the answer by less than a whole no-op call takes; so the time *from the
commit* is at most that from the answer plus that of the no-op call, and the bar is held to this.

Before each completion the driver writes eight KiB to a file beside the database and has them
synced, so that it can be told how much of a durable call is the disk's.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from taskloom import v1
from taskloom_client import Client

from taskloom_experiments.load.crowd import Crowd, crowd
from taskloom_experiments.load.disk import syncing
from taskloom_experiments.load.latencies import Latencies
from taskloom_experiments.load.measured import Figure, Measured
from taskloom_experiments.load.serving import serving
from taskloom_experiments.load.waiting_agents import CrowdSettings
from taskloom_experiments.load.ways_to_wait import AGENT_TAG

BAR = 3.0
_DRIVER = "driver"
_AT_ONCE = 32
_PAUSE_S = (0.001, 0.004)


@dataclass(frozen=True, slots=True)
class WakeUpSettings:
    """How many agents wait, in which way, and how often one of them is woken."""

    way: str = "claim"
    agents: int = 64
    processes: int = 2
    connections: int = 8
    samples: int = 2_000
    warm_up: int = 100


async def measure_wakeup(settings: WakeUpSettings, folder: Path) -> Measured:
    """Measure it with a server and agents of its own, all of whose files lie in ``folder``."""
    async with serving(folder) as server, Client(server.target) as client:
        number = settings.warm_up + settings.samples
        await _make_pairs(client, number)
        waiting = CrowdSettings(
            server.target, settings.way, settings.agents, settings.connections, returns=True
        )
        async with crowd(waiting, settings.processes, folder / "agents.log") as sleepers:
            await sleepers.connected()
            await sleepers.wait()
            samples = _Samples()
            with syncing(folder) as sync:
                for index in range(number):
                    if index == settings.warm_up:
                        samples = _Samples()
                    await _wake(client, sleepers, index, samples, sync)
    return _told(settings, samples)


class _Samples:
    def __init__(self) -> None:
        self.from_call = Latencies()
        self.from_answer = Latencies()
        self.from_commit = Latencies()  # at most
        self.complete = Latencies()
        self.noop = Latencies()
        self.sync = Latencies()
        self.sync_and_noop = Latencies()
        self.woken: set[str] = set()


async def _make_pairs(client: Client, number: int) -> None:
    """Pairs of a blocker, which is the driver's, and a task behind it, which is the agents'."""
    await client.workers.Connect(v1.ConnectRequest(worker_id=_DRIVER, tags=[_DRIVER]))
    free = asyncio.Semaphore(_AT_ONCE)

    async def make(index: int) -> None:
        async with free:
            await client.tasks.CreateTask(
                v1.CreateTaskRequest(id=f"blocker-{index}", title="Block", needed_tags=[_DRIVER])
            )
            await client.tasks.CreateTask(
                v1.CreateTaskRequest(
                    id=f"task-{index}",
                    title="Wake",
                    needed_tags=[AGENT_TAG],
                    blocked_by=[f"blocker-{index}"],
                )
            )

    await asyncio.gather(*map(make, range(number)))


async def _wake(
    client: Client, sleepers: Crowd, index: int, samples: _Samples, sync: Callable[[], int]
) -> None:
    blocker = f"blocker-{index}"
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id=_DRIVER, task_id=blocker))
    sync_ns = sync()
    await asyncio.sleep(random.uniform(*_PAUSE_S))
    request = v1.CompleteTaskRequest(worker_id=_DRIVER, task_id=blocker)
    called = time.monotonic_ns()
    await client.claims.CompleteTask(request)
    answered = time.monotonic_ns()
    received = await sleepers.received()
    if received.task_id != f"task-{index}":
        raise RuntimeError(f"task-{index} was made ready, and {received.task_id} came")
    samples.from_call.record(received.received_ns - called)
    samples.from_answer.record(received.received_ns - answered)
    samples.from_commit.record(received.received_ns - answered + received.noop_ns)
    samples.complete.record(answered - called)
    samples.noop.record(received.noop_ns)
    samples.sync.record(sync_ns)
    samples.sync_and_noop.record(sync_ns + received.noop_ns)
    samples.woken.add(received.worker_id)


def _told(settings: WakeUpSettings, samples: _Samples) -> Measured:
    def ratio(latencies: Latencies, percent: float, base: Latencies = samples.noop) -> float:
        return latencies.percentile(percent) / base.percentile(percent)

    return Measured(
        scenario=f"wake-up by {settings.way}",
        settings=asdict(settings),
        figures=(
            Figure(
                "p99 from the commit / no-op, at most", ratio(samples.from_commit, 99), "x", BAR
            ),
            Figure("p99 from the answer / no-op", ratio(samples.from_answer, 99), "x"),
            Figure("p99 from the call / no-op", ratio(samples.from_call, 99), "x"),
            Figure("p50 from the call / no-op", ratio(samples.from_call, 50), "x"),
            Figure(
                "p99 from the call / no-op and a sync of the disk",
                ratio(samples.from_call, 99, samples.sync_and_noop),
                "x",
            ),
            Figure(
                "p50 from the call / no-op and a sync of the disk",
                ratio(samples.from_call, 50, samples.sync_and_noop),
                "x",
            ),
            Figure("agents that were woken", len(samples.woken), "agents"),
        ),
        latencies={
            "no-op call": samples.noop.summary(),
            "wake-up, from the call": samples.from_call.summary(),
            "wake-up, from the commit, at most": samples.from_commit.summary(),
            "wake-up, from the answer": samples.from_answer.summary(),
            "a sync of the disk": samples.sync.summary(),
            "the driver's CompleteTask": samples.complete.summary(),
        },
    )
