"""Runs that were made several times, put together: what differs within a variant is the seed."""

from collections.abc import Sequence
from dataclasses import dataclass

from taskloom_experiments.analysis import Run
from taskloom_experiments.bootstrap import Interval, median_interval
from taskloom_experiments.hypotheses import PULLING, Observed

_WAYS = (*PULLING, "push", "hybrid", "relay")

_INDEPENDENT = 0.05
"""Tasks are called independent where no larger part of them waits for others."""


@dataclass(frozen=True)
class Variant:
    """A run of a definition, with all its repeats in the order in which they were made.

    ``way`` is how its agents got their tasks: a way of pulling, or the mode where that is not pull.
    """

    name: str
    way: str
    agents: int
    runs: tuple[Run, ...]

    def interval(self, figure: str) -> Interval | None:
        """The median of a figure over the repeats that have it; None where none has."""
        values = [run.figures[figure] for run in self.runs if figure in run.figures]
        return median_interval(values) if values else None

    @property
    def whole(self) -> "Variant":
        """It without the repeats that were cut short, whose figures compare with nothing."""
        runs = tuple(run for run in self.runs if not run.partial)
        return Variant(self.name, self.way, self.agents, runs)

    def observed(self) -> Observed:
        """Its figures by seed."""
        by_seed = {run.record.seed: run.figures for run in self.runs if run.record}
        waiting = [
            run.figures.get("dependent_count", 0) / max(1, run.figures.get("total_count", 1))
            for run in self.runs
        ]
        independent = max(waiting, default=0) <= _INDEPENDENT
        return Observed(self.name, self.way, self.agents, independent, by_seed)


def variants(runs: Sequence[Run]) -> tuple[Variant, ...]:
    """The runs that were repeated, pulls first, then by agents and value; empty where none was."""
    groups: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Run]] = {}
    for run in runs:
        if run.record and run.record.repeats:
            swept = tuple(run.record.swept.items())
            groups.setdefault((run.record.repeats, run.pull or "", swept), []).append(run)
    several = {name for name, way, _ in groups if (name, way) != (name, _first(groups, name))}
    found = [
        Variant(f"{name} ({way})" if name in several else name, way, mine[0].agents, tuple(mine))
        for (name, way, _), mine in groups.items()
    ]
    return tuple(sorted(found, key=_place))


def _place(variant: Variant) -> tuple[int, int, float]:
    """Where it stands: in the same order whether it was just run or is compared later."""
    record = variant.runs[0].record
    swept = next(iter(record.swept.values()), "") if record else ""
    try:
        value = float(swept or "-inf")
    except ValueError:  # files stay as they were named
        value = 0.0
    return _WAYS.index(variant.way) if variant.way in _WAYS else len(_WAYS), variant.agents, value


def _first(groups: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Run]], name: str) -> str:
    """The way by which the run of this name was made first."""
    return next(way for other, way, _ in groups if other == name)
