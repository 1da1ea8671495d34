"""Periods of load in turn, so that what the machine does meanwhile happens to all of them alike.

A ratio is taken within a round, between periods that followed one another, and what is told is the
median of the rounds. Every second round goes backwards, so that none is always the first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from taskloom_experiments.load.generators import Generators, LoadFailed, Period
from taskloom_experiments.load.histogram import Histogram
from taskloom_experiments.load.latencies import Summary
from taskloom_experiments.load.measured import Figure, median_of
from taskloom_experiments.load.orders import Order

NOOP = "noop"
Turns = Mapping[str, tuple[Generators, Order]]


@dataclass(frozen=True, slots=True)
class Rounds:
    """What came of all rounds: of each turn its periods, in the order of rounds."""

    periods: Mapping[str, list[Period]]

    def ratios(
        self, of: Callable[[Period], float], turn: str, base: str, times: float = 1.0
    ) -> list[float]:
        """Of each round: something of a turn, ``times`` over, by the same of another turn.

        Raises LoadFailed where there is nothing to divide by.
        """
        if not all(map(of, self.periods[base])):
            raise LoadFailed(f"a turn of {base} was too short to be measured; give it --seconds")
        return [
            times * of(one) / of(other)
            for one, other in zip(self.periods[turn], self.periods[base], strict=True)
        ]

    def throughput(
        self, turn: str, calls: float, name: str, bar: float | None = None, base: str = NOOP
    ) -> Figure:
        """Operations a second against a base's, if each is worth so many of its calls."""
        ratios = self.ratios(lambda period: period.rate, turn, base, calls)
        return median_of(name, ratios, "x", bar, at_least=True)

    def cpu(
        self, turn: str, calls: float, name: str, bar: float | None = None, base: str = NOOP
    ) -> Figure:
        """The server's processor time for an operation against so many of a base's."""
        ratios = self.ratios(lambda period: period.cpu_us, turn, base, 1 / calls)
        return median_of(name, ratios, "x", bar)

    def absolute(self, turn: str, what: str) -> tuple[Figure, Figure]:
        """Operations a second, and processor time for each, as they were."""
        periods = self.periods[turn]
        return (
            median_of(f"{what}, throughput", [one.rate for one in periods], "a second"),
            median_of(f"{what}, server CPU", [one.cpu_us for one in periods], "µs"),
        )

    def latencies(self, suffix: str = "") -> dict[str, Summary]:
        """By call, of all rounds together."""
        together: dict[str, Histogram] = {}
        for periods in self.periods.values():
            for period in periods:
                for call, histogram in period.latencies.items():
                    together.setdefault(call, Histogram()).add(histogram.encode())
        return {call + suffix: histogram.summary() for call, histogram in together.items()}


async def interleave(turns: Turns, rounds: int) -> Rounds:
    """Carry all turns out, round by round, after one that does not count. Raises LoadFailed."""
    periods: dict[str, list[Period]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        order = list(turns) if number % 2 else list(turns)[::-1]
        for name in order:
            generators, what = turns[name]
            period = await generators.carry_out(what)
            if number:
                periods[name].append(period)
    return Rounds(periods)
