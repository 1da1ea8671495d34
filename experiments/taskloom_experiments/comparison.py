"""Several runs side by side: what scaling they show, what targets they met, which criteria hold.

Runs are compared within a series: the runs of one template by one way of pulling. Asking whether
four agents did more than one makes sense there, and nowhere else.
"""

from collections import ChainMap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from taskloom_experiments.analysis import Run
from taskloom_experiments.catalogue import METRICS, Unit, agents_of_throughput
from taskloom_experiments.criteria import Condition, Outcome, evaluate
from taskloom_experiments.definition import Definition
from taskloom_experiments.definition_parts import Criterion, Measurement
from taskloom_experiments.pulls import Pull
from taskloom_experiments.targets import Target, Verdict, judge, parse_target

FURTHER = "further figures"


@dataclass(frozen=True)
class Series:
    """Runs that differ in their number of agents, fewest first, and in nothing else that is known.

    The label is what tells it from the other series, "all runs" where there is one only.
    """

    label: str
    pull: Pull | None
    runs: tuple[Run, ...]

    @property
    def single(self) -> Run | None:
        """The run with one agent, which the others are compared with."""
        return next((run for run in self.runs if run.agents == 1), None)

    def throughput(self, agents: int) -> float | None:
        """Tasks per hour with so many agents, the mean where there are several such runs."""
        rates = [self.rate(run) for run in self.runs if run.agents == agents]
        known = [rate for rate in rates if rate is not None]
        return fmean(known) if known else None

    def rate(self, run: Run) -> float | None:
        """A run's tasks per hour, comparable within the series: simulated where speeds differ."""
        speeds = {other.speed for other in self.runs}
        comparable = len(speeds) == 1 or None in speeds
        return run.figures.get("tasks_per_hour" if comparable else "simulated_tasks_per_hour")


@dataclass(frozen=True)
class Cell:
    """One figure of one run: its value, or why there is none, and what the target says of it."""

    value: float | None
    missing: str = ""
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Row:
    """One figure across the runs, in their order.

    ``metric`` is the figure shown: the one its target speaks of, else the measurement's own.
    """

    group: str
    measurement: str
    metric: str
    unit: Unit
    target: Target | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class CriterionVerdict:
    """Whether a criterion holds for a series; ``by_run`` is (label, outcome, why) of each run."""

    criterion: Criterion
    series: Series
    outcome: Outcome
    detail: str
    by_run: tuple[tuple[str, Outcome, str], ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The runs of an experiment, and all that can be said of them together."""

    definition: Definition
    runs: tuple[Run, ...]
    series: tuple[Series, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[CriterionVerdict, ...]

    def required_hold(self, pulls: Collection[Pull] = ()) -> bool:
        """Whether every required criterion passes; of the series by these ways of pulling, if any.

        "Cannot tell" does not pass, and nothing is proved where no such run was made.
        """
        asked = [series for series in self.series if not pulls or series.pull in pulls]
        return bool(asked) and all(
            verdict.outcome == "pass"
            for verdict in self.verdicts
            if verdict.criterion.required and verdict.series in asked
        )


def compare_runs(runs: Sequence[Run], definition: Definition) -> Comparison:
    """Put runs side by side; their order stays, and labels that are not unique are made so."""
    labelled = _with_unique_labels(runs)
    scaled = {
        run.label: _with_scaling(run, series) for series in _series(labelled) for run in series.runs
    }
    ordered = tuple(scaled[run.label] for run in labelled)
    groups = _series(ordered)
    return Comparison(
        definition=definition,
        runs=ordered,
        series=groups,
        rows=tuple(_rows(ordered, groups, definition.measurements)),
        verdicts=tuple(
            _verdict(criterion, series)
            for criterion in definition.success_criteria
            for series in groups
        ),
    )


def _with_unique_labels(runs: Sequence[Run]) -> tuple[Run, ...]:
    labels = [run.label for run in runs]
    found: list[Run] = []
    for run in runs:
        label = run.label
        if labels.count(label) > 1 and run.pull:
            label = f"{label} ({run.pull})"
        taken = {other.label for other in found}
        unique, number = label, 2
        while unique in taken:
            unique, number = f"{label} ({number})", number + 1
        found.append(replace(run, label=unique))
    return tuple(found)


def _series(runs: Sequence[Run]) -> tuple[Series, ...]:
    keys = [(run.record.template if run.record else None, run.pull) for run in runs]
    several_templates = len({template for template, _ in keys}) > 1
    several_pulls = len({pull for _, pull in keys}) > 1
    found = []
    for template, pull in dict.fromkeys(keys):
        members = [run for run, key in zip(runs, keys, strict=True) if key == (template, pull)]
        told = (
            [Path(template).name if template else "template not known"] if several_templates else []
        )
        told += [pull or "pull not known"] if several_pulls else []
        label = ", ".join(told) or "all runs"
        members.sort(key=lambda run: run.agents)
        found.append(Series(label, pull, tuple(members)))
    return tuple(found)


def _with_scaling(run: Run, series: Series) -> Run:
    alone, rate = series.throughput(1), series.rate(run)
    if alone and rate and run.agents:
        efficiency = rate / (run.agents * alone)
        return replace(run, figures={**run.figures, "scaling_efficiency": efficiency})
    why = "no run with one agent to compare with" if not alone else "no agent completed a task"
    return replace(run, missing={**run.missing, "scaling_efficiency": why})


def _rows(
    runs: Sequence[Run], groups: Sequence[Series], measurements: Sequence[Measurement]
) -> list[Row]:
    series_of = {run.label: series for series in groups for run in series.runs}
    rows = [_row(runs, series_of, measurement) for measurement in measurements]
    shown = {row.metric for row in rows}
    rows += [
        Row(FURTHER, name, name, metric.unit, None, tuple(_cell(run, name) for run in runs))
        for name, metric in METRICS.items()
        if name not in shown
    ]
    return rows


def _row(runs: Sequence[Run], series_of: Mapping[str, Series], measurement: Measurement) -> Row:
    own = measurement.metric
    metric = own.name if own else measurement.figure
    target = (
        parse_target(measurement.target, measurement.name, metric) if measurement.target else None
    )
    if target and target.clauses:
        metric = target.clauses[0].metric
    cells = []
    for run in runs:
        verdict = _judged(target, run, series_of[run.label]) if target else None
        cells.append(replace(_cell(run, metric), verdict=verdict))
    unit = METRICS[metric].unit if metric in METRICS else "number"
    return Row(measurement.group, measurement.name, metric, unit, target, tuple(cells))


def _judged(target: Target, run: Run, series: Series) -> Verdict:
    alone = series.single.names if series.single else None
    verdict = judge(target, run.agents, run.names, alone)
    best = _at_best(run, series)
    if verdict.judgement == "missed" and {clause.metric for clause in target.clauses} <= set(best):
        at_best = judge(target, run.agents, {**run.names, **best}, alone)
        verdict = replace(verdict, out_of_reach=at_best.judgement == "missed")
    return verdict


def _at_best(run: Run, series: Series) -> dict[str, float]:
    """The figures that depend on the schedule, as the best possible one would have them.

    What a target asks for beyond these is asked of the graph, not of the coordination.
    """
    found = {}
    if (floor := run.figures.get("idle_time_floor")) is not None:
        found["idle_time_ratio"] = floor
    if best := run.figures.get("best_tasks_per_hour"):
        found["throughput_per_agent"] = best / run.agents
        alone = series.single and series.single.figures.get("tasks_per_hour")
        if alone:
            found["scaling_efficiency"] = best / (run.agents * alone)
    return found


def _cell(run: Run, metric: str) -> Cell:
    return Cell(run.names.get(metric), run.missing.get(metric, ""))


def _verdict(criterion: Criterion, series: Series) -> CriterionVerdict:
    condition = criterion.parsed()
    over_runs, not_there = _over_runs(condition, series)
    if not condition.asks_single_runs:
        outcome, detail = evaluate(condition, over_runs, not_there)
        return CriterionVerdict(criterion, series, outcome, detail)
    by_run = tuple(
        (
            run.label,
            *evaluate(
                condition, ChainMap(over_runs, dict(run.names)), {**run.missing, **not_there}
            ),
        )
        for run in series.runs
    )
    outcomes = {outcome for _, outcome, _ in by_run}
    worst: Outcome = next(
        (outcome for outcome in ("fail", "cannot tell") if outcome in outcomes), "pass"
    )
    deciding = [f"{label}: {why}" for label, outcome, why in by_run if outcome == worst]
    if worst == "pass":
        detail = f"in each of {len(by_run)} runs" if len(by_run) > 1 else by_run[0][2]
    else:
        detail = "; ".join(deciding)
    return CriterionVerdict(criterion, series, worst, detail, by_run)


def _over_runs(condition: Condition, series: Series) -> tuple[dict[str, float], dict[str, str]]:
    """The figures over several runs that a condition names, and those that are not there."""
    figures, missing = {}, {}
    for name in condition.names:
        if agents := agents_of_throughput(name):
            throughput = series.throughput(agents)
            if throughput is None:
                word = "agent" if agents == 1 else "agents"
                missing[name] = f"there is no run with {agents} {word} that completed a task"
            else:
                figures[name] = throughput
    return figures, missing
