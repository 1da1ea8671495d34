"""Fan-out: one writer, and all who watch hear of it; against as many streams of no-op messages.

A watch of everything and a stream of the benchmark's own service (``noop``) for each watcher are
open all the time. In turn, a task is created, and a call made that lets the server send one empty
message to each stream. The time is from before the call until the last has it, so that the event's
has a whole durable write in it.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from google.protobuf.empty_pb2 import Empty
from taskloom import v1
from taskloom_client import Client

from taskloom_experiments.load.crowd import Crowd, crowd
from taskloom_experiments.load.latencies import Latencies
from taskloom_experiments.load.measured import Curve, Figure, Measured, median_of
from taskloom_experiments.load.noop import shout
from taskloom_experiments.load.serving import Served, serving
from taskloom_experiments.load.waiting_agents import CrowdSettings

BAR = 2.0


@dataclass(frozen=True, slots=True)
class FanOutSettings:
    """How many watch, one number after the other; so many events and calls a round."""

    watchers: tuple[int, ...] = (1, 10, 100, 1_000)
    rounds: int = 5
    events: int = 10
    processes: int = 2
    connections: int = 20


@dataclass(frozen=True, slots=True)
class _Told:
    """What a round came to: how long each telling took, and processor time for one."""

    took_ns: list[int]
    cpu_us: float

    @property
    def median_ns(self) -> float:
        return statistics.median(self.took_ns)


async def measure_fanout(settings: FanOutSettings, folder: Path, _kept: Path) -> Measured:
    """Events against no-op messages, with more and more who hear them."""
    figures: list[Figure] = []
    latencies, curves = {}, {"event": [], "no-op message": []}  # type: ignore[var-annotated]
    for number in settings.watchers:
        place = folder / str(number)
        place.mkdir()
        events, messages = await _with(settings, number, place)
        last = number == settings.watchers[-1]
        pairs = list(zip(events, messages, strict=True))
        times = [one.median_ns / other.median_ns for one, other in pairs]
        figures.append(
            median_of(
                f"{number:,}: event / no-op message, all have it", times, "x", BAR if last else None
            )
        )
        cpu = [one.cpu_us / other.cpu_us for one, other in pairs]
        figures.append(median_of(f"{number:,}: server CPU", cpu, "x"))
        each = [one.cpu_us / number for one in events]
        figures.append(median_of(f"{number:,}: server CPU, event and watcher", each, "µs"))
        for what, told in (("event", events), ("no-op message", messages)):
            samples = Latencies(took for one in told for took in one.took_ns)
            latencies[f"{what}, {number:,} have it"] = samples.summary()
            curves[what].append((float(number), samples.percentile(50) / 1e6))
    return Measured(
        "one event to all who watch",
        asdict(settings),
        tuple(figures),
        latencies,
        tuple(Curve("time to tell all", what, tuple(points)) for what, points in curves.items()),
    )


async def _with(
    settings: FanOutSettings, number: int, folder: Path
) -> tuple[list[_Told], list[_Told]]:
    connections = min(settings.connections, number)
    parts = min(settings.processes, connections)
    async with serving(folder) as server, Client(server.target) as client:

        def those(way: str) -> CrowdSettings:
            return CrowdSettings(server.target, way, number, connections)

        async def create() -> object:
            return await client.tasks.CreateTask(v1.CreateTaskRequest(title="Tell all"))

        async def call() -> object:
            return await shout(client.channel)(Empty())

        async with (
            crowd(those("watch, all"), parts, folder / "watchers.log") as watchers,
            crowd(those("listen"), parts, folder / "listeners.log") as listeners,
        ):
            for one in (watchers, listeners):
                await one.connected()
                await one.wait()
            events, messages = [], []
            for turn in range(settings.rounds + 1):
                told = await _tell(settings, server, watchers, number, create)
                heard = await _tell(settings, server, listeners, number, call)
                if turn:
                    events.append(told)
                    messages.append(heard)
    return events, messages


async def _tell(
    settings: FanOutSettings,
    server: Served,
    crowd: Crowd,
    number: int,
    tell: Callable[[], Awaitable[object]],
) -> _Told:
    took, cpu = [], server.cpu_seconds()
    for _ in range(settings.events):
        began = time.monotonic_ns()
        telling = asyncio.ensure_future(tell())
        received = [await crowd.received() for _ in range(number)]
        await telling
        took.append(max(one.received_ns for one in received) - began)
    return _Told(took, (server.cpu_seconds() - cpu) * 1e6 / settings.events)
