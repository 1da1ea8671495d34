"""Watchers while others work: what they cost those, on a server with watches beside one without.

``idle``: a thousand watches of which none matches anything. ``mixed``: claims, creations, updates
and lists, while each of a thousand watches follows a hundredth of the tasks that are created.
"""

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path

from taskloom_experiments.load.crowd import crowd
from taskloom_experiments.load.generators import generating
from taskloom_experiments.load.graphs import Graph, lay_out
from taskloom_experiments.load.measured import Measured, median_of
from taskloom_experiments.load.orders import Order
from taskloom_experiments.load.rounds import NOOP, interleave
from taskloom_experiments.load.serving import serving
from taskloom_experiments.load.waiting_agents import CrowdSettings

IDLE_BAR = 0.9
_WITH, _WITHOUT = "with watches", "without"


@dataclass(frozen=True, slots=True)
class WatchedSettings:
    """What is done while how many watch, and how: ``way`` is of ``ways_to_wait.WAYS``."""

    operation: str = "claim"
    way: str = "watch, idle"
    calls: int = 2
    bar: float | None = IDLE_BAR
    watches: int = 1_000
    agents: int = 64
    tasks: int = 100_000
    rounds: int = 9
    seconds: float = 1.0
    processes: int = 2
    connections: int = 8


async def measure_watched(settings: WatchedSettings, folder: Path, kept: Path) -> Measured:
    """The operation on both servers in turn, each beside its no-op."""
    graph, turns = Graph(settings.tasks), {}
    async with contextlib.AsyncExitStack() as stack:
        for name in (_WITH, _WITHOUT):
            place = folder / name
            place.mkdir()
            await lay_out(graph, kept, place)
            server = await stack.enter_async_context(serving(place))
            if name == _WITH:
                watchers = CrowdSettings(server.target, settings.way, settings.watches, 20)
                watching = await stack.enter_async_context(
                    crowd(watchers, settings.processes, place / "watchers.log")
                )
                await watching.connected()
                await watching.wait()
            generators = await stack.enter_async_context(
                generating(
                    server,
                    place,
                    workers=settings.agents,
                    number=settings.processes,
                    connections=settings.connections,
                    tags=graph.tags,
                    tasks=graph.tasks,
                )
            )
            for operation in (NOOP, settings.operation):
                order = Order(operation, settings.seconds, settings.agents)
                turns[f"{operation} {name}"] = (generators, order)
        rounds = await interleave(turns, settings.rounds)

    def in_noops(name: str, *, cpu: bool) -> list[float]:
        turn, base = f"{settings.operation} {name}", f"{NOOP} {name}"
        return rounds.ratios(lambda one: one.cpu_us if cpu else one.rate, turn, base)

    def against(*, cpu: bool) -> list[float]:
        both = zip(in_noops(_WITH, cpu=cpu), in_noops(_WITHOUT, cpu=cpu), strict=True)
        return [one / other for one, other in both]

    watches = f"{settings.watches:,} watches"
    return Measured(
        f"{settings.operation} with {watches} ({settings.way}), closed loop",
        asdict(settings),
        (
            median_of("throughput / without", against(cpu=False), "x", settings.bar, at_least=True),
            median_of("server CPU / without", against(cpu=True), "x"),
            *(
                figure
                for name in (_WITH, _WITHOUT)
                for figure in rounds.absolute(f"{settings.operation} {name}", name)
            ),
        ),
    )
