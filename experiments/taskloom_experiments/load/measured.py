"""What a scenario gives back: figures, some against a bar, and latencies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskloom_experiments.load.latencies import Summary


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; ``bar`` is the most that it may be, None where nothing is asked of it."""

    name: str
    value: float
    unit: str
    bar: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where there is none."""
        return None if self.bar is None else self.value <= self.bar

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "bar": self.bar,
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class Measured:
    """One scenario, measured once, with the settings it was measured by."""

    scenario: str
    settings: Mapping[str, Any]
    figures: tuple[Figure, ...]
    latencies: Mapping[str, Summary] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "scenario": self.scenario,
            "settings": dict(self.settings),
            "figures": [figure.to_dict() for figure in self.figures],
            "latencies": {name: one.to_dict() for name, one in self.latencies.items()},
        }
