"""Which scenarios there are, about how long each takes, and what is measured for it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from taskloom_experiments.load.calls import (
    CallSettings,
    measure_agents,
    measure_calls,
    measure_interceptors,
)
from taskloom_experiments.load.fanout import FanOutSettings, measure_fanout
from taskloom_experiments.load.graphs import Graph
from taskloom_experiments.load.idle import IdleSettings, measure_idle
from taskloom_experiments.load.leases import LeaseSettings, measure_leases
from taskloom_experiments.load.measured import Measured
from taskloom_experiments.load.rates import RateSettings, measure_rates
from taskloom_experiments.load.sizes import CLAIM_BAR, LIST_BAR, SizeSettings, measure_sizes
from taskloom_experiments.load.snapshots import SnapshotSettings, measure_snapshots
from taskloom_experiments.load.startup import StartSettings, measure_start
from taskloom_experiments.load.store import (
    DependentsSettings,
    StoreSettings,
    measure_dependents,
    measure_store,
)
from taskloom_experiments.load.wakeup import WakeUpSettings, measure_wakeup
from taskloom_experiments.load.watched import WatchedSettings, measure_watched

# With a folder for its files, and one in which graphs are kept.
Measurement = Callable[[Path, Path], Awaitable[Measured]]

MOST_AGENTS = 256
TASKS = 100_000
SIZES = (1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be chosen for all scenarios that have it: agents, sizes, and how long they look."""

    agents: int = 64
    sizes: tuple[int, ...] = ()  # empty: each scenario's own
    rounds: int = 9
    seconds: float = 1.0

    @property
    def tasks(self) -> int:
        """The size for a scenario that has one."""
        return max(self.sizes, default=TASKS)


@dataclass(frozen=True, slots=True)
class Scenario:
    """``minutes``: about, on two cores, with the graphs made."""

    about: str
    minutes: float
    measurements: Callable[[Choice], Sequence[Measurement]]


def _calls(operation: str, choice: Choice) -> list[Measurement]:
    return [
        partial(
            measure_calls,
            CallSettings(
                operation,
                choice.agents,
                choice.tasks,
                rounds=choice.rounds,
                seconds=choice.seconds,
            ),
        )
    ]


def _interceptors(choice: Choice) -> list[Measurement]:
    settings = CallSettings(
        "noop", choice.agents, 1_000, rounds=choice.rounds, seconds=choice.seconds
    )
    return [partial(measure_interceptors, settings)]


def _agents(choice: Choice) -> list[Measurement]:
    most = max(choice.agents, MOST_AGENTS)
    rounds = max(1, choice.rounds // 3)
    settings = CallSettings("claim", most, choice.tasks, rounds=rounds, seconds=choice.seconds)
    return [partial(measure_agents, settings)]


def _store(choice: Choice) -> list[Measurement]:
    settings = StoreSettings(choice.agents, choice.tasks, rounds=choice.rounds)
    return [partial(measure_store, settings)]


def _dependents(_choice: Choice) -> list[Measurement]:
    return [partial(measure_dependents, DependentsSettings())]


def _rates(choice: Choice) -> list[Measurement]:
    settings = RateSettings(
        choice.agents,
        max(choice.sizes, default=2 * TASKS),
        rounds=max(1, choice.rounds // 2),
        seconds=5 * choice.seconds,
    )
    return [partial(measure_rates, settings)]


def _graphs(choice: Choice, settings: SizeSettings) -> Measurement:
    rounds = max(1, choice.rounds // 2)
    chosen = replace(settings, agents=choice.agents, rounds=rounds, seconds=choice.seconds)
    return partial(measure_sizes, chosen)


def _sizes(choice: Choice) -> list[Measurement]:
    graphs = {float(tasks): Graph(tasks, ready=0.1) for tasks in choice.sizes or SIZES}
    bars = {"turn": CLAIM_BAR, "claim-any": CLAIM_BAR, "list": LIST_BAR}
    return [_graphs(choice, SizeSettings("tasks", graphs, bars=bars))]


def _shares(choice: Choice) -> list[Measurement]:
    graphs = {share: Graph(choice.tasks, ready=share) for share in (0.01, 0.1, 0.5, 1.0)}
    return [_graphs(choice, SizeSettings("ready share", graphs))]


def _requirements(choice: Choice) -> list[Measurement]:
    graphs = {
        float(number): Graph(choice.tasks, requirements=number) for number in (1, 10, 50, 200)
    }
    bars = {"turn": CLAIM_BAR}
    return [_graphs(choice, SizeSettings("tag requirements", graphs, ("turn", "list"), bars))]


def _shapes(choice: Choice) -> list[Measurement]:
    shapes = ("flat", "chains", "fan-in")
    graphs = {float(n): Graph(choice.tasks, 0.5, 1, shape) for n, shape in enumerate(shapes, 1)}
    settings = SizeSettings("shape (1 flat, 2 chains, 3 fan-in)", graphs, ("claim",))
    return [_graphs(choice, settings)]


def _start(choice: Choice) -> list[Measurement]:
    return [partial(measure_start, StartSettings(max(choice.sizes, default=SIZES[-1])))]


def _watched(settings: WatchedSettings, choice: Choice) -> list[Measurement]:
    chosen = replace(
        settings,
        agents=choice.agents,
        tasks=choice.tasks,
        rounds=choice.rounds,
        seconds=choice.seconds,
    )
    return [partial(measure_watched, chosen)]


def _fanout(_choice: Choice) -> list[Measurement]:
    return [partial(measure_fanout, FanOutSettings())]


def _wakeup(_choice: Choice) -> list[Measurement]:
    settings = (WakeUpSettings("claim"), WakeUpSettings("stream"))
    return [_without_graph(partial(measure_wakeup, one)) for one in settings]


def _idle(_choice: Choice) -> list[Measurement]:
    # As a fleet is: every agent has a connection of its own. A minute has all keepalives in it.
    fleet = partial(IdleSettings, connections=1_000, rest_s=60)
    settings = (
        IdleSettings("claim"),
        IdleSettings("stream"),
        IdleSettings("watch"),
        fleet("claim"),
        fleet("stream"),
        fleet("watch"),
        fleet("watch", progress_s=60),
        IdleSettings("agent, next", at_rest_s=70),
        IdleSettings("agent, stream", at_rest_s=70),
        IdleSettings("agent, watch", at_rest_s=70),
    )
    return [_without_graph(partial(measure_idle, one)) for one in settings]


def _leases(_choice: Choice) -> list[Measurement]:
    settings = (
        LeaseSettings(workers=1_000, claims_each=10),
        LeaseSettings(workers=10_000, claims_each=1),
    )
    return [_without_graph(partial(measure_leases, one)) for one in settings]


def _snapshots(_choice: Choice) -> list[Measurement]:
    return [_without_graph(partial(measure_snapshots, SnapshotSettings()))]


def _without_graph(measure: Callable[[Path], Awaitable[Measured]]) -> Measurement:
    return lambda folder, _kept: measure(folder)


SCENARIOS: dict[str, Scenario] = {
    "claim": Scenario("claim + complete by unary calls", 0.5, partial(_calls, "claim")),
    "work": Scenario("claim + complete by a Work stream", 0.5, partial(_calls, "work")),
    "choose": Scenario("list, claim one, complete", 0.5, partial(_calls, "choose")),
    "create": Scenario("CreateTask", 0.5, partial(_calls, "create")),
    "update": Scenario("UpdateTask", 0.5, partial(_calls, "update")),
    "interceptors": Scenario("a no-op behind the guard and on a bare server", 0.5, _interceptors),
    "agents": Scenario("claim + complete by 1 to 256 agents", 1, _agents),
    "rates": Scenario("claim + complete by rate, up to the knee", 3, _rates),
    "sizes": Scenario("claims and lists at 1,000 to 1,000,000 tasks", 2, _sizes),
    "shares": Scenario("the same, with 1 % to 100 % of them ready", 2, _shares),
    "requirements": Scenario("the same, with 1 to 200 tag requirements", 1.5, _requirements),
    "shapes": Scenario("claims of flat graphs, chains and wide fan-in", 0.5, _shapes),
    "start": Scenario("to the first answered call, 1,000,000 tasks", 0.5, _start),
    "watches": Scenario(
        "claims while 1,000 watch in vain", 1, partial(_watched, WatchedSettings())
    ),
    "mixed": Scenario(
        "calls of all kinds while 1,000 watch",
        1,
        partial(_watched, WatchedSettings("mixed", "watch, part", 1, None)),
    ),
    "fanout": Scenario("one event to 1 to 1,000 who watch", 1, _fanout),
    "store": Scenario("claim + complete without gRPC", 0.5, _store),
    "dependents": Scenario("the end of what 10,000 tasks wait for", 0.5, _dependents),
    "wakeup": Scenario("from the last blocker's end to who waits", 1, _wakeup),
    "idle": Scenario("what those cost who wait", 9, _idle),
    "leases": Scenario("how late leases end", 1.5, _leases),
    "snapshots": Scenario("import and export of 100,000 tasks", 1, _snapshots),
}
