"""What calls cost by the graph: its size, its ready share, what its tasks ask, its shape.

Each graph has a server of its own; all of them run at once, and only the one that is called does
anything. What is compared between graphs is the server's processor time for an operation, each in
no-op calls of the same server. ``turn`` claims the best task and gives it back, so that a graph
stays as it is; ``claim-any`` does so with ready tasks from anywhere in the file, so that not only
the pages of the best are read and written; ``list`` asks for a page of 50 that are ready.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from taskloom_experiments.load.generators import generating
from taskloom_experiments.load.graphs import Graph, lay_out
from taskloom_experiments.load.measured import Curve, Figure, Measured, median_of
from taskloom_experiments.load.orders import Order
from taskloom_experiments.load.rounds import NOOP, Rounds, interleave
from taskloom_experiments.load.serving import serving

CLAIM_BAR = 1.15
LIST_BAR = 1.3
_TOLD = {
    "turn": "claim + release",
    "claim-any": "claim of any + release",
    "claim": "claim + complete",
    "list": "ListTasks, 50 ready",
}
# Few tell as much of the cost as many: a list may take seconds; of few tasks, many would take the
# same, and a refusal is cheaper than a claim.
_AT_MOST = {"list": 4, "claim-any": 8}


@dataclass(frozen=True, slots=True)
class SizeSettings:
    """Which graphs, each by the value that makes it different.

    The others are compared with the first. ``bars``: how much dearer the last one's operations
    may be.
    """

    by: str
    graphs: Mapping[float, Graph]
    operations: Sequence[str] = ("turn", "claim-any", "list")
    bars: Mapping[str, float] = field(default_factory=dict)
    agents: int = 64
    rounds: int = 5
    seconds: float = 1.0
    processes: int = 2
    connections: int = 8


async def measure_sizes(settings: SizeSettings, folder: Path, kept: Path) -> Measured:
    """The operations on all graphs in turn."""
    turns = {}
    async with contextlib.AsyncExitStack() as stack:
        for value, graph in settings.graphs.items():
            place = folder / graph.name
            place.mkdir()
            await lay_out(graph, kept, place)
            agents = max(1, min(settings.agents, int(graph.tasks * graph.ready) // 2))
            server = await stack.enter_async_context(serving(place))
            generators = await stack.enter_async_context(
                generating(
                    server,
                    place,
                    workers=agents,
                    number=settings.processes,
                    connections=settings.connections,
                    tags=graph.tags,
                    tasks=graph.tasks,
                    ready=graph.ready,
                )
            )
            for operation in (NOOP, *settings.operations):
                number = min(agents, _AT_MOST.get(operation, agents))
                order = Order(operation, settings.seconds, number)
                turns[f"{operation} {value}"] = (generators, order)
        rounds = await interleave(turns, settings.rounds)
    described = asdict(settings) | {"graphs": [asdict(one) for one in settings.graphs.values()]}
    return Measured(
        f"cost by {settings.by}",
        described,
        tuple(_figures(settings, rounds)),
        curves=_curves(settings, rounds),
    )


def _in_noops(rounds: Rounds, operation: str, value: float) -> list[float]:
    return rounds.ratios(lambda one: one.cpu_us, f"{operation} {value}", f"{NOOP} {value}")


def _figures(settings: SizeSettings, rounds: Rounds) -> list[Figure]:
    figures = []
    first, *others = settings.graphs
    for operation in settings.operations:
        told = _TOLD[operation]
        base = _in_noops(rounds, operation, first)
        figures.append(median_of(f"{told}, {_show(first)}: server CPU", base, "no-ops"))
        for value in others:
            these = _in_noops(rounds, operation, value)
            ratios = [one / other for one, other in zip(these, base, strict=True)]
            bar = settings.bars.get(operation) if value == others[-1] else None
            name = f"{told}, {_show(value)} against {_show(first)}: server CPU"
            figures.append(median_of(name, ratios, "x", bar))
    return figures


def _curves(settings: SizeSettings, rounds: Rounds) -> tuple[Curve, ...]:
    return tuple(
        Curve(
            f"cost by {settings.by}",
            _TOLD[operation],
            tuple(
                (value, median_of("", _in_noops(rounds, operation, value), "").value)
                for value in settings.graphs
            ),
        )
        for operation in settings.operations
    )


def _show(value: float) -> str:
    return f"{value:,g}" if value < 1 else f"{value:,.0f}"
