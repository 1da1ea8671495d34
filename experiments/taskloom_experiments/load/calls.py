"""Calls at full speed: a closed loop, in which each agent calls again as soon as it is answered.

So it tells the most that the server can do, and what that costs it; its latencies are those of a
queue which is as long as there are agents, and no promise to anybody (``rates`` has those).
Each operation goes in turn with the no-op call of the same server, by the same agents.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from taskloom_experiments.load.generators import generating
from taskloom_experiments.load.graphs import Graph, lay_out
from taskloom_experiments.load.measured import Curve, Measured
from taskloom_experiments.load.orders import Order
from taskloom_experiments.load.rounds import NOOP, interleave
from taskloom_experiments.load.serving import serving


@dataclass(frozen=True, slots=True)
class Compared:
    """What is asked of an operation: it is compared with so many no-op calls.

    Bars are of its throughput, at least, and of the server's processor time, at most.
    """

    about: str
    calls: int
    throughput_bar: float | None = None
    cpu_bar: float | None = None


OPERATIONS = {
    "claim": Compared("claim + complete, unary", 2, 0.80, 1.5),
    "work": Compared("claim + complete, Work stream", 2),
    "choose": Compared("list + claim + complete", 3),
    "create": Compared("CreateTask", 1),
    "update": Compared("UpdateTask", 1),
}
WORK_BAR = 2.2
BARE_BAR = 1.15
AGENTS = (1, 4, 16, 64, 256)


@dataclass(frozen=True, slots=True)
class CallSettings:
    """Which operation, by how many agents, on how many tasks; and how long it is looked at."""

    operation: str = "claim"
    agents: int = 64
    tasks: int = 100_000
    rounds: int = 9
    seconds: float = 1.0
    processes: int = 2
    connections: int = 8


async def measure_calls(settings: CallSettings, folder: Path, kept: Path) -> Measured:
    """One operation against the no-op call; a server in ``folder``, the graph from ``kept``."""
    compared = OPERATIONS[settings.operation]
    graph = Graph(settings.tasks)
    await lay_out(graph, kept, folder)
    async with (
        serving(folder) as server,
        generating(
            server,
            folder,
            workers=settings.agents,
            number=settings.processes,
            connections=settings.connections,
            tags=graph.tags,
            tasks=graph.tasks,
        ) as generators,
    ):
        rounds = await interleave(
            {
                name: (generators, Order(name, settings.seconds, settings.agents))
                for name in (NOOP, settings.operation)
            },
            settings.rounds,
        )
    operation, calls = settings.operation, compared.calls
    base = "a no-op" if calls == 1 else f"{calls} no-ops"
    figures = [
        rounds.throughput(operation, calls, f"throughput / {base}", compared.throughput_bar),
        rounds.cpu(operation, calls, f"server CPU / {base}", compared.cpu_bar),
        *rounds.absolute(operation, "operation"),
        *rounds.absolute(NOOP, "no-op"),
    ]
    if operation == "work":
        figures[0] = rounds.throughput(operation, 2, "tasks a second / two unary no-ops", WORK_BAR)
    return Measured(
        f"{compared.about}, {settings.agents} agents, closed loop",
        asdict(settings),
        tuple(figures),
        rounds.latencies(),
    )


async def measure_interceptors(settings: CallSettings, folder: Path, kept: Path) -> Measured:
    """The no-op call behind the guard against the one on a bare server beside it."""
    await lay_out(Graph(1_000), kept, folder)
    async with (
        serving(folder) as server,
        generating(
            server,
            folder,
            workers=settings.agents,
            number=settings.processes,
            connections=settings.connections,
        ) as generators,
    ):
        rounds = await interleave(
            {
                name: (generators, Order(name, settings.seconds, settings.agents))
                for name in (NOOP, "bare")
            },
            settings.rounds,
        )
    return Measured(
        f"no-op through all interceptors, {settings.agents} agents, closed loop",
        asdict(settings),
        (
            rounds.cpu(NOOP, 1, "server CPU / on a bare server", BARE_BAR, base="bare"),
            rounds.throughput(NOOP, 1, "throughput / on a bare server", base="bare"),
            *rounds.absolute(NOOP, "no-op"),
            *rounds.absolute("bare", "no-op on a bare server"),
        ),
        rounds.latencies(),
    )


async def measure_agents(settings: CallSettings, folder: Path, kept: Path) -> Measured:
    """Claim + complete and the no-op by 1 to 256 agents, or up to those of ``settings``."""
    numbers = [number for number in AGENTS if number < settings.agents] + [settings.agents]
    graph = Graph(settings.tasks)
    await lay_out(graph, kept, folder)
    async with (
        serving(folder) as server,
        generating(
            server,
            folder,
            workers=settings.agents,
            number=settings.processes,
            connections=settings.connections,
            tags=graph.tags,
        ) as generators,
    ):
        rounds = await interleave(
            {
                f"{name} {number}": (generators, Order(name, settings.seconds, number))
                for number in numbers
                for name in (NOOP, "claim")
            },
            settings.rounds,
        )
    figures = [
        rounds.throughput(
            f"claim {number}", 2, f"throughput / 2 no-ops, agents: {number}", base=f"noop {number}"
        )
        for number in numbers
    ]
    curves = []
    for name, label, calls in (("noop", "two no-op calls", 2), ("claim", "claim + complete", 1)):
        rates = [rounds.absolute(f"{name} {number}", "")[0].value / calls for number in numbers]
        points = tuple(zip(map(float, numbers), rates, strict=True))
        curves.append(Curve("throughput by agents", label, points))
    return Measured(
        "claim + complete by number of agents, closed loop",
        asdict(settings),
        tuple(figures),
        curves=tuple(curves),
    )
