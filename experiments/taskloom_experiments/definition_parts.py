"""The parts of an experiment definition, checked as strictly as they are used.

Each is one entry of the file: a measurement, a criterion, a chart. Runs are in ``planned_runs``;
reading the file and putting the parts together is in ``definition``.
"""

import difflib
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from taskloom_experiments.catalogue import (
    METRICS,
    SERIES_MEASUREMENTS,
    Metric,
    metric_named,
    synonyms,
)
from taskloom_experiments.criteria import Condition, ConditionError, parse_condition

ChartKind = Literal["throughput", "timeline", "completion", "contention", "pulls"]

DrawnKind = ChartKind | Literal["medians", "sweep"]
"""What is drawn: as a definition asks, or of runs that were repeated."""


class Part(BaseModel):
    """A part of the file that is used: every key is known, every type as written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CallCosts(Part):
    """What calls cost in a simulation, in real seconds: see ``virtual.costs``.

    ``call_s`` is the way there and back at the median, ``server_s`` the turn at the server between,
    ``commit_s`` what a change waits for the disk beside, ``spread`` the standard deviation of the
    logarithm of a way. The defaults were measured between processes of one machine.
    """

    call_s: Annotated[float, Field(ge=0, le=3600)] = 0.0022
    server_s: Annotated[float, Field(ge=0, le=3600)] = 0.0004
    commit_s: Annotated[float, Field(ge=0, le=3600)] = 0.002
    spread: Annotated[float, Field(ge=0, le=5)] = 0.3


DEFAULT_COSTS = CallCosts()


class Measurement(Part):
    """One figure asked for: by a ``query`` run as it stands, or by a ``derivation``.

    A ``derivation`` of one word is the name of a figure (see ``catalogue``), one of several is the
    formula in words: then, and beside a query, the measurement's own name says which figure it is.
    ``group`` is the heading it stands under.
    """

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    query: str | None = None
    derivation: str | None = None
    target: str | None = None
    notes: str = ""
    group: str = ""

    @property
    def metric(self) -> Metric | None:
        """The figure that taskloom computes for it; None where it computes none."""
        return metric_named(self.figure)

    @property
    def is_series(self) -> bool:
        """Whether it is a list over time, which is charted."""
        return self.figure in SERIES_MEASUREMENTS

    @property
    def figure(self) -> str:
        """What it asks for, by name: a figure, or a list over time, or what only a query knows."""
        return self.derivation if self.derivation and _is_name(self.derivation) else self.name

    @field_validator("derivation")
    @classmethod
    def _is_known(cls, text: str | None) -> str | None:
        known = [*METRICS, *synonyms(), *SERIES_MEASUREMENTS]
        if text and _is_name(text) and text not in known:
            close = difflib.get_close_matches(text, known, n=1)
            instead = f"did you mean '{close[0]}'?" if close else "write the formula in words"
            raise ValueError(f"no figure is called '{text}'; {instead}")
        return text

    @model_validator(mode="after")
    def _measures_something(self) -> "Measurement":
        if not (self.query or self.derivation or self.metric or self.is_series):
            raise ValueError("says no way to measure it; give it a query or a derivation")
        return self


def _is_name(derivation: str) -> bool:
    return derivation.isidentifier()


class Criterion(Part):
    """A condition for success; one that is not required is advisory."""

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    condition: str
    required: bool = False

    @field_validator("condition")
    @classmethod
    def _can_be_evaluated(cls, text: str) -> str:
        try:
            parse_condition(text)
        except ConditionError as error:
            raise ValueError(f"'{text}' {error}") from error
        return text

    def parsed(self) -> Condition:
        """The condition, ready to be evaluated."""
        return parse_condition(self.condition)


@dataclass(frozen=True)
class KnownChart:
    """A chart that taskloom draws, and how a definition asks for it.

    ``y`` is None where there are several figures, a panel each.
    """

    title: str
    types: tuple[str, ...]
    x: str
    y: str | None


KNOWN_CHARTS: dict[ChartKind, KnownChart] = {
    "throughput": KnownChart(
        "Throughput vs Agent Count", ("line",), "agent_count", "tasks_per_hour"
    ),
    "timeline": KnownChart("Task Distribution Heatmap", ("heatmap",), "task_id", "worker_id"),
    "completion": KnownChart(
        "Cumulative Completion Timeline", ("area", "line"), "elapsed_time", "cumulative_completed"
    ),
    "contention": KnownChart("Claim Contention Rate", ("bar",), "agent_count", "failed_claim_pct"),
    "pulls": KnownChart("Costs of Pulling", ("bars", "bar"), "agent_count", None),
}


class Chart(Part):
    """A chart to draw; title and type together name one of those that taskloom draws."""

    title: str
    type: str
    x: str | None = None
    y: str | None = None
    series: str | None = None
    description: str = ""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "Chart":
        kind = self._find()
        if kind is None:
            known = "; ".join(f"'{one.title}' ({one.types[0]})" for one in KNOWN_CHARTS.values())
            raise ValueError(
                f"there is no chart '{self.title}' of type '{self.type}'; taskloom draws {known}"
            )
        for axis in ("x", "y"):
            drawn = getattr(KNOWN_CHARTS[kind], axis)
            if getattr(self, axis) not in (None, drawn):
                instead = f"write {axis}: {drawn}" if drawn else "leave it out"
                raise ValueError(f"'{self.title}' draws {drawn or 'several'} on {axis}; {instead}")
        return self

    def _find(self) -> ChartKind | None:
        for kind, known in KNOWN_CHARTS.items():
            if self.title.casefold() == known.title.casefold() and self.type in known.types:
                return kind
        return None

    @property
    def kind(self) -> ChartKind:
        """Which of those it is."""
        kind = self._find()
        assert kind is not None, "checked when it was read"
        return kind
