"""Calls at a given rate, as they come: an open loop, in which nobody waits for anybody else.

Operations begin at random times (a Poisson process), and each latency counts from the time at
which its operation was to begin. The rates are shares of the most that a closed loop came to just
before, from low to high, up to the *knee*: the highest rate of the sweep at which, as at all rates
below, no more than 3 % of what was to begin in a period was not done a tenth of a second after its
end (in one of two tries: a machine may have its hiccup). Beyond it the queue grows for as long as
the load lasts. Then the load stands at 70 % of the knee. Beside each rate goes the no-op call, at
as many calls a second.
"""

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from taskloom_experiments.load.generators import Generators, LoadFailed, Period, generating
from taskloom_experiments.load.graphs import Graph, lay_out
from taskloom_experiments.load.measured import Curve, Figure, Measured, median_of
from taskloom_experiments.load.orders import Order
from taskloom_experiments.load.rounds import NOOP, Rounds, interleave
from taskloom_experiments.load.serving import serving

TAIL_BAR = 10.0
SHARES = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
_NOT_DONE = 0.03
_AT = 0.7
_CLAIM, _CALLS, _FIRST = "claim", 2, "ClaimNextTask"


@dataclass(frozen=True, slots=True)
class RateSettings:
    """``agents``: of the closed loop; in the open one they are the workers, in turn."""

    agents: int = 64
    tasks: int = 200_000
    rounds: int = 4
    seconds: float = 5.0
    processes: int = 2
    connections: int = 8


async def measure_rates(settings: RateSettings, folder: Path, kept: Path) -> Measured:
    """Claim + complete at rising rates, and at 70 % of the knee. Raises LoadFailed."""
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
        full = Order(_CLAIM, settings.seconds / 2, settings.agents)
        closed = [await generators.carry_out(full) for _ in range(3)]
        peak = statistics.median(period.rate for period in closed[1:])
        swept = await _sweep(generators, settings, peak)
        held = [rate for rate, claims, _ in swept if _holds(claims)]
        if not held:
            raise LoadFailed(
                f"not even {swept[0][0]:.0f} a second were kept up; the machine does something else"
            )
        knee = held[-1]
        steady = await _stand(generators, settings, _AT * knee)
    return _told(settings, peak, knee, swept, steady)


async def _sweep(
    generators: Generators, settings: RateSettings, peak: float
) -> list[tuple[float, Period, Period]]:
    """Of each rate up to the first that is too high: the rate, the claims, the no-ops."""
    swept = []
    for number, part in enumerate(SHARES):
        rate = part * peak
        seconds, agents = settings.seconds, settings.agents
        noops = await generators.carry_out(Order(NOOP, seconds, agents, _CALLS * rate, number))
        claims = await generators.carry_out(Order(_CLAIM, seconds, agents, rate, number))
        if not _holds(claims):
            claims = await generators.carry_out(Order(_CLAIM, seconds, agents, rate, number))
        swept.append((rate, claims, noops))
        if not _holds(claims):
            break
    return swept


def _holds(period: Period) -> bool:
    due = period.count + period.unfinished
    return due - period.in_time <= _NOT_DONE * due


async def _stand(generators: Generators, settings: RateSettings, rate: float) -> Rounds:
    orders = {NOOP: _CALLS * rate, _CLAIM: rate}
    return await interleave(
        {
            name: (generators, Order(name, settings.seconds, settings.agents, one))
            for name, one in orders.items()
        },
        settings.rounds,
    )


def _told(
    settings: RateSettings,
    peak: float,
    knee: float,
    swept: list[tuple[float, Period, Period]],
    steady: Rounds,
) -> Measured:
    latencies = steady.latencies()
    claim, noop = latencies[_FIRST], latencies["no-op"]
    curves = [
        Curve(
            "latency by rate",
            f"{label}, {name}",
            tuple(
                (rate, (claims, noops)[which].percentile_us(call, percent) / 1_000)
                for rate, claims, noops in swept
            ),
        )
        for which, label, call in ((0, "claim", _FIRST), (1, "no-op", "no-op"))
        for percent, name in ((50, "p50"), (99, "p99"), (99.9, "p99.9"))
    ]
    at = f"at {100 * _AT:.0f} % of the knee"
    cpu = [claims.cpu_us / (_CALLS * noops.cpu_us) for _, claims, noops in swept]
    return Measured(
        "claim + complete by rate, open loop",
        asdict(settings),
        (
            Figure(f"claim p99.9 / p50 {at}", claim.p999_us / claim.p50_us, "x", TAIL_BAR),
            Figure("no-op p99.9 / p50 beside it", noop.p999_us / noop.p50_us, "x"),
            Figure("claim p99 / no-op p99", claim.p99_us / noop.p99_us, "x"),
            Figure("claim p50 / no-op p50", claim.p50_us / noop.p50_us, "x"),
            steady.cpu(_CLAIM, _CALLS, f"server CPU / 2 no-ops {at}"),
            median_of("server CPU / 2 no-ops, over all rates", cpu, "x"),
            Figure("knee", knee, "a second"),
            Figure("knee / peak of the closed loop", knee / peak, "x"),
        ),
        latencies,
        (*curves, Curve("latency by rate", "knee", ((knee, 0.0),))),
    )
