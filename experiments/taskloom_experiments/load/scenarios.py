"""Which scenarios there are, about how long each takes, and what is measured for it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from taskloom_experiments.load.calls import (
    CallSettings,
    measure_agents,
    measure_calls,
    measure_interceptors,
)
from taskloom_experiments.load.idle import IdleSettings, measure_idle
from taskloom_experiments.load.leases import LeaseSettings, measure_leases
from taskloom_experiments.load.measured import Measured
from taskloom_experiments.load.store import (
    DependentsSettings,
    StoreSettings,
    measure_dependents,
    measure_store,
)
from taskloom_experiments.load.wakeup import WakeUpSettings, measure_wakeup

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


def _without_graph(measure: Callable[[Path], Awaitable[Measured]]) -> Measurement:
    return lambda folder, _kept: measure(folder)


SCENARIOS: dict[str, Scenario] = {
    "claim": Scenario("claim + complete by unary calls", 0.5, partial(_calls, "claim")),
    "work": Scenario("claim + complete by a Work stream", 0.5, partial(_calls, "work")),
    "choose": Scenario("list, claim one, complete", 0.5, partial(_calls, "choose")),
    "create": Scenario("CreateTask", 0.5, partial(_calls, "create")),
    "update": Scenario("UpdateTask", 0.5, partial(_calls, "update")),
    "interceptors": Scenario("a no-op with and without interceptors", 0.5, _interceptors),
    "agents": Scenario("claim + complete by 1 to 256 agents", 1, _agents),
    "store": Scenario("claim + complete without gRPC", 0.5, _store),
    "dependents": Scenario("the end of what 10,000 tasks wait for", 0.5, _dependents),
    "wakeup": Scenario("from the last blocker's end to who waits", 1, _wakeup),
    "idle": Scenario("what those cost who wait", 9, _idle),
    "leases": Scenario("how late leases end", 1.5, _leases),
}
