"""What is to be run: a definition and the words of a command line, made into plans, run by run."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taskloom_experiments.agent_settings import (
    DEFAULT_LEASE_S,
    AgentSettings,
    CoordinatorSettings,
)
from taskloom_experiments.definition import Definition
from taskloom_experiments.definition_parts import CallCosts
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.modes import Mode
from taskloom_experiments.pace import DEFAULT_SPEED, pace
from taskloom_experiments.planned_runs import AgentGroup, PlannedRun
from taskloom_experiments.pulls import Pull
from taskloom_experiments.results import run_folder
from taskloom_experiments.templates import Template

MOST_REPEATS = 1_000
MOST_PLANNED = 1_000_000
"""Agents in all runs together: each has its settings in memory."""

_TIMEOUT_FACTOR = 10.0
_TIMEOUT_FLOOR_S = 60.0
_LONGEST_LEASE_S = 3600.0


class PlanError(ExperimentError):
    """What was asked for cannot be run; the text is one sentence that says what to do."""


@dataclass(frozen=True)
class RunPlan:
    """One run. ``expected_s`` is the best possible time, ``timeout_s`` when it is given up.

    ``fleet`` is how each agent works, by its id; ``coordinator`` hands out tasks, where one does.
    ``workflow`` is that of the tasks.
    ``simulate`` is what calls cost in a simulation, None: it is made of processes.
    ``repeats`` and ``swept`` are as in ``RunRecord``.
    """

    name: str
    label: str
    folder: Path
    template: Template
    mode: Mode
    pull: Pull
    seed: int
    speed: float
    workflow: str
    fleet: Mapping[str, AgentSettings]
    coordinator: CoordinatorSettings | None
    expected_s: float
    timeout_s: float
    simulate: CallCosts | None = None
    repeats: str = ""
    swept: Mapping[str, str] = field(default_factory=dict)

    @property
    def agents(self) -> int:
        """How many work; the coordinator does not."""
        return len(self.fleet)


def plan_runs(
    definition: Definition,
    template: Template,
    output: Path,
    *,
    pulls: Sequence[Pull],
    only: Sequence[str] = (),
    speed: float = DEFAULT_SPEED,
    seed: int = 1,
    timeout_s: float | None = None,
    tags: Sequence[str] | None = None,
    flat: bool = False,
    simulate: bool = False,
    repeat: int = 1,
    swept: Mapping[str, str] | None = None,
) -> tuple[RunPlan, ...]:
    """The runs of a definition, in the order to make them.

    A run of the mode pull that fixes no way of pulling is made by each of ``pulls``. ``only`` names
    the runs to make, empty: all. ``tags`` are given to every agent, None: those of the definition.
    ``flat``: the one run lies in ``output`` itself.
    ``simulate``: on a virtual clock, without processes. ``repeat``: all of them so many times, one
    round after the other, so that whatever changes on the machine meanwhile meets them all alike;
    each round has a seed of its own, ``seed`` and those after it. ``swept`` is for the record.
    Raises PlanError and RunRecordError.
    """
    if not speed > 0:
        raise PlanError(f"the speed is {speed:g}; it must be above 0")
    if timeout_s is not None and not timeout_s > 0:
        raise PlanError(f"the timeout is {timeout_s:g} s; it must be above 0")
    names = [run.name for run in definition.runs]
    for name in only:
        if name not in names:
            raise PlanError(f"there is no run '{name}' in {definition.name}: {', '.join(names)}")
    if not 1 <= repeat <= MOST_REPEATS:
        raise PlanError(f"--repeat is {repeat}; ask for 1 to {MOST_REPEATS}")
    pulls = tuple(dict.fromkeys(pulls))
    floor_s = _TIMEOUT_FLOOR_S * pace(speed)
    plans: list[RunPlan] = []
    chosen = [run for run in definition.runs if not only or run.name in only]
    planned = repeat * sum(run.agents * (1 if run.fixed_pull else len(pulls)) for run in chosen)
    if planned > MOST_PLANNED:
        raise PlanError(
            f"all runs together have {planned:,} agents, and at most {MOST_PLANNED:,} are planned "
            "at once; ask for fewer runs (--run) or a smaller --repeat"
        )
    for number, run in itertools.product(range(repeat), chosen):
        name = run.name if repeat == 1 else f"{run.name}-r{number + 1:0{len(str(repeat))}}"
        drawn = seed + number
        expected_s = template.best_seconds(run.agents, seed=drawn, speed=speed)
        ways = (run.fixed_pull,) if run.fixed_pull else pulls
        for pull in ways:
            folder = run_folder(output, name, pull, by_several_ways=len(ways) > 1)
            plans.append(
                RunPlan(
                    name=name,
                    label=f"{name} ({pull if run.mode == 'pull' else run.mode})",
                    folder=output if flat and repeat == 1 else folder,
                    template=template,
                    mode=run.mode,
                    pull=pull,
                    seed=drawn,
                    speed=speed,
                    workflow=_workflow_of_tasks(run, definition),
                    fleet=_fleet(run, definition, pull, seed=drawn, speed=speed, tags=tags),
                    coordinator=_coordinator(run, definition, speed),
                    expected_s=expected_s,
                    timeout_s=timeout_s or round(floor_s + _TIMEOUT_FACTOR * expected_s),
                    simulate=definition.simulation if simulate else None,
                    repeats=run.name if repeat > 1 or swept else "",
                    swept=swept or {},
                )
            )
    folders = [plan.folder for plan in plans]
    if twice := [place for index, place in enumerate(folders) if place in folders[:index]]:
        raise PlanError(f"two runs would lie in {twice[0]}; rename one of them")
    return tuple(plans)


def _workflow_of_tasks(run: PlannedRun, definition: Definition) -> str:
    """The workflow that tasks are imported with: the coordinator's, else the first group's."""
    coordinating = run.coordinator.workflow if run.coordinator else None
    return coordinating or run.fleet[0].workflow or definition.workflow


def _fleet(
    run: PlannedRun,
    definition: Definition,
    pull: Pull,
    *,
    seed: int,
    speed: float,
    tags: Sequence[str] | None,
) -> dict[str, AgentSettings]:
    return {
        worker_id: AgentSettings(
            pull=pull,
            seed=seed,
            speed=speed,
            workflow=group.workflow or definition.workflow,
            tags=tuple(group.tags if tags is None else tags),
            max_claims=group.max_claims or run.least_claims,
            lease_s=_lease_s(group, speed),
            mode=run.mode,
            behaviour=group.behaviour,
            decomposition=run.parts,
        )
        for group in run.fleet
        for worker_id in _worker_ids(group)
    }


def _worker_ids(group: AgentGroup) -> list[str]:
    """The ids of a group, all of one width, so that they sort as they count."""
    width = len(str(group.count))
    return [f"{group.name}-{number:0{width}}" for number in range(1, group.count + 1)]


def _lease_s(group: AgentGroup, speed: float) -> float:
    """The lease in real seconds; no server gives one of less than a second."""
    if group.lease_s is None:
        return _usual_lease_s(speed)
    return max(1.0, group.lease_s / speed)


def _usual_lease_s(speed: float) -> float:
    return min(DEFAULT_LEASE_S * pace(speed), _LONGEST_LEASE_S)


def _coordinator(
    run: PlannedRun, definition: Definition, speed: float
) -> CoordinatorSettings | None:
    if run.coordinator is None:
        return None
    return CoordinatorSettings(
        speed=speed,
        workflow=run.coordinator.workflow or definition.workflow,
        tags=run.coordinator.tags,
        costs=run.coordinator.costs,
        lease_s=_usual_lease_s(speed),
    )
