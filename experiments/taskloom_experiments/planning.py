"""What is to be run: a definition and the words of a command line, made into plans, run by run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskloom_experiments.agents import IDLE_S, WAIT_S, AgentSettings
from taskloom_experiments.definition import Definition
from taskloom_experiments.definition_parts import CallCosts
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.pulls import Pull
from taskloom_experiments.results import run_folder
from taskloom_experiments.templates import Template

DEFAULT_SPEED = 3600.0
"""An hour of simulated work a second: the tasks of the templates then take 0.05 to 1 s."""

SIMULATED_SPEED = 1.0
"""Of a simulation, in which time costs nothing: tasks take as long as they are estimated."""

_TIMEOUT_FACTOR = 10.0
_TIMEOUT_FLOOR_S = 60.0
_LEASE_S = 30.0
_LONGEST_LEASE_S = 3600.0


class PlanError(ExperimentError):
    """What was asked for cannot be run; the text is one sentence that says what to do."""


@dataclass(frozen=True)
class RunPlan:
    """One run. ``expected_s`` is the best possible time, ``timeout_s`` when it is given up.

    ``simulate`` is what calls cost in a simulation, None: it is made of processes.
    """

    name: str
    label: str
    folder: Path
    template: Template
    agents: int
    settings: AgentSettings
    expected_s: float
    timeout_s: float
    simulate: CallCosts | None = None

    @property
    def worker_ids(self) -> list[str]:
        """The agents' ids, all of one width, so that they sort as they count."""
        width = len(str(self.agents))
        return [f"agent-{number:0{width}}" for number in range(1, self.agents + 1)]


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
) -> tuple[RunPlan, ...]:
    """The runs of a definition, each by every way of pulling, in the order to make them.

    ``only`` names the runs to make, empty: all. ``tags`` are given to every agent, None: those of
    the run's ``agent_config``. ``flat``: the one run lies in ``output`` itself.
    ``simulate``: on a virtual clock, without processes.
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
    pulls = tuple(dict.fromkeys(pulls))
    # Slower than usual, agents rest longer between two looks, too, and need to be heard less often.
    pace = max(1.0, DEFAULT_SPEED / speed)
    floor_s = _TIMEOUT_FLOOR_S * pace
    plans = []
    for run in definition.runs:
        if only and run.name not in only:
            continue
        config = run.agent_config
        expected_s = template.best_seconds(run.agents, seed=seed, speed=speed)
        for pull in pulls:
            folder = run_folder(output, run.name, pull, by_several_ways=len(pulls) > 1)
            plans.append(
                RunPlan(
                    name=run.name,
                    label=f"{run.name} ({pull})",
                    folder=output if flat else folder,
                    template=template,
                    agents=run.agents,
                    settings=AgentSettings(
                        pull=pull,
                        seed=seed,
                        speed=speed,
                        workflow=config.workflow or definition.workflow,
                        tags=tuple(config.tags if tags is None else tags),
                        max_claims=config.max_claims or 1,
                        lease_s=min(_LEASE_S * pace, _LONGEST_LEASE_S),
                        idle_s=IDLE_S * pace,
                        wait_s=WAIT_S * pace,
                    ),
                    expected_s=expected_s,
                    timeout_s=timeout_s or round(floor_s + _TIMEOUT_FACTOR * expected_s),
                    simulate=definition.simulation if simulate else None,
                )
            )
    return tuple(plans)
