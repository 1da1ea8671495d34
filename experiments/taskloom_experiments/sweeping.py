"""Sweeps: the runs of a definition again and again, with one thing changed from value to value.

    agents       how many work
    decision_s   how long the coordinator thinks about each task, in simulated seconds
    crash_rate   how often an agent crashes, an hour of its life
    template     which graph is worked: files, relative to the current folder

Of each mode and way of pulling one run is taken: the one with the most agents, unless runs are
named. A run that the change does not touch, as a pull has no coordinator, is made once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from taskloom_experiments.definition import Definition
from taskloom_experiments.planned_runs import MOST_AGENTS, AgentConfig, PlannedRun
from taskloom_experiments.planning import PlanError

KEYS = ("agents", "decision_s", "crash_rate", "template")

_AWAY_S = 60.0
_LEASE_S = 300.0


@dataclass(frozen=True)
class Sweep:
    """What is changed, and its values as they were written, numbers from the least upwards."""

    key: str
    values: tuple[str, ...]


def read_sweep(text: str) -> Sweep:
    """Read ``decision_s=0,0.5,1``. Raises PlanError."""
    key, _, listed = text.partition("=")
    key = key.strip()
    if key not in KEYS:
        raise PlanError(f"--over {text}: no sweep is over '{key}'; there are {', '.join(KEYS)}")
    values = [value.strip() for value in listed.split(",") if value.strip()]
    if key != "template":
        values.sort(key=lambda value: _number(key, value))
        alike = [one for one, other in pairwise(values) if _number(key, one) == _number(key, other)]
    else:
        names = [_short(key, value) for value in values]  # by which folders are named
        alike = [one for index, one in enumerate(names) if one in names[:index]]
    if alike:
        raise PlanError(f"--over {text}: {alike[0]} stands twice; leave one of them out")
    if len(values) < 2:
        raise PlanError(f"--over {text}: a sweep has two values or more, as in {key}=1,2")
    return Sweep(key, tuple(values))


def swept(
    definition: Definition, sweep: Sweep, only: Sequence[str] = ()
) -> tuple[tuple[str, Definition], ...]:
    """The definition by value, with the runs that are to be made at that value.

    The value is empty of the runs that the change does not touch. Raises PlanError.
    """
    chosen = _chosen(definition, only)
    if sweep.key == "template":
        return tuple(
            (value, replace(definition, template=_file(value), runs=_named(chosen, sweep, value)))
            for value in sweep.values
        )
    touched = [run for run in chosen if _changed(run, sweep.key, sweep.values) is not None]
    if not touched:
        raise PlanError(f"no run of {definition.name} has a {sweep.key} to be changed")
    found = []
    if untouched := tuple(run for run in chosen if run not in touched):
        found.append(("", replace(definition, runs=untouched)))
    for value in sweep.values:
        changed = [_changed(run, sweep.key, (value,)) for run in touched]
        runs = _named([run for run in changed if run is not None], sweep, value)
        found.append((value, replace(definition, runs=runs)))
    return tuple(found)


def _chosen(definition: Definition, only: Sequence[str]) -> list[PlannedRun]:
    names = [run.name for run in definition.runs]
    for name in only:
        if name not in names:
            raise PlanError(f"there is no run '{name}' in {definition.name}: {', '.join(names)}")
    of_each: dict[tuple[str, str | None], PlannedRun] = {}
    for run in definition.runs:
        if only and run.name not in only:
            continue
        way = (run.mode, run.fixed_pull)
        if only and way in of_each:
            raise PlanError(
                f"{of_each[way].name} and {run.name} are of one mode and pull alike; name one"
            )
        if way not in of_each or run.agents > of_each[way].agents:
            of_each[way] = run
    return list(of_each.values())


def _named(runs: Sequence[PlannedRun], sweep: Sweep, value: str) -> tuple[PlannedRun, ...]:
    """By mode and pull and value: the number of agents in a run's own name may be changed."""
    told = _short(sweep.key, value)
    return tuple(
        run.model_copy(
            update={
                "name": "-".join(
                    [run.mode, *([run.pull] if run.pull else []), sweep.key, told.replace(" ", "-")]
                )
            }
        )
        for run in runs
    )


def _changed(run: PlannedRun, key: str, values: Sequence[str]) -> PlannedRun | None:
    """A run with the first of the values; None where it has nothing of the kind."""
    value = _number(key, values[0])
    if key == "agents":
        if run.groups:
            raise PlanError(f"{run.name} has groups, of which no sweep says which are to grow")
        return run.model_copy(update={"agents": int(value)})
    if key == "decision_s":
        if run.coordinator is None:
            return None
        coordinator = run.coordinator.model_copy(update={"decision_s": value})
        return run.model_copy(update={"coordinator": coordinator})
    if run.groups:
        groups = tuple(group.model_copy(update=_crashing(group, value)) for group in run.groups)
        return run.model_copy(update={"groups": groups})
    config = run.agent_config.model_copy(update=_crashing(run.agent_config, value))
    return run.model_copy(update={"agent_config": config})


def _crashing(config: AgentConfig, rate: float) -> dict[str, float | None]:
    """Who crashes comes back, and what it held is free before long, if nothing else is said."""
    away = _AWAY_S if config.restart_after is None else config.restart_after
    lease = _LEASE_S if config.lease_s is None else config.lease_s
    return {"crash_rate": rate, "restart_after": away if rate else None, "lease_s": lease}


def _short(key: str, value: str) -> str:
    """A value as names have it: of a template that of its file."""
    return Path(value).name.split(".")[0] if key == "template" else value


def _number(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise PlanError(f"--over {key}: '{value}' is no number") from error
    least = 1 if key == "agents" else 0
    if not least <= number <= 1e6 or (key == "agents" and number > MOST_AGENTS):
        raise PlanError(f"--over {key}: {value} is out of range; write {least} or more")
    if key == "agents" and number != int(number):
        raise PlanError(f"--over {key}: {value} agents are not possible; write a whole number")
    return number


def _file(value: str) -> Path:
    if not (file := Path(value)).is_file():
        raise PlanError(f"--over template: there is no file {value}")
    return file.resolve()
