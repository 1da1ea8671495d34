"""What a scenario gives back: figures, some against a bar, latencies, and curves to be drawn."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskloom_experiments.load.latencies import Summary


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; ``bar`` is the most that it may be, None where nothing is asked of it.

    ``at_least``: the bar is the least, instead. ``spread``: the least and the most of the rounds
    of which the figure is the median.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    at_least: bool = False
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where there is none."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "bar": self.bar,
            "at_least": self.at_least,
            "met": self.met,
            "spread": self.spread,
        }


def median_of(
    name: str,
    rounds: Sequence[float],
    unit: str,
    bar: float | None = None,
    *,
    at_least: bool = False,
) -> Figure:
    """The median of rounds, with their spread."""
    spread = (min(rounds), max(rounds))
    return Figure(name, statistics.median(rounds), unit, bar, at_least, spread)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart; ``chart`` is of ``charts.CHARTS``."""

    chart: str
    label: str
    points: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"chart": self.chart, "label": self.label, "points": self.points}


@dataclass(frozen=True, slots=True)
class Measured:
    """One scenario, measured once, with the settings it was measured by."""

    scenario: str
    settings: Mapping[str, Any]
    figures: tuple[Figure, ...]
    latencies: Mapping[str, Summary] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "scenario": self.scenario,
            "settings": dict(self.settings),
            "figures": [figure.to_dict() for figure in self.figures],
            "latencies": {name: one.to_dict() for name, one in self.latencies.items()},
            "curves": [curve.to_dict() for curve in self.curves],
        }
