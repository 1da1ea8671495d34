"""What the command line does about experiments: run one, compare runs.

Each command prints what was found and where it lies on standard output, and how it goes on standard
error; wrong input is one sentence there. It returns the exit code of the process, as of ``exits``.

Single steps of a run are in ``step_commands``.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import grpc
from taskloom_client import TaskloomError

from taskloom_experiments import preflight
from taskloom_experiments.compare import Report, compare
from taskloom_experiments.definition import Definition, load_definition, plain_definition
from taskloom_experiments.exits import FAILED, OK, PARTIAL, ending, refuse, tell
from taskloom_experiments.experiment import Conducted, conduct
from taskloom_experiments.formatting import duration, listed, plural
from taskloom_experiments.made_templates import make_template, write_template
from taskloom_experiments.pace import DEFAULT_SPEED, SIMULATED_SPEED
from taskloom_experiments.planning import (
    PlanError,
    RunPlan,
    plan_runs,
)
from taskloom_experiments.progress import Teller
from taskloom_experiments.pulls import AGENTS_CHOOSE, DEFAULT_PULL, PULLS, Pull
from taskloom_experiments.results import claimed_output, default_output
from taskloom_experiments.sweeping import read_sweep, swept
from taskloom_experiments.templates import Template, read_template
from taskloom_experiments.terminal import print_comparison

DEFAULT_WORKFLOW = "swarm"
DEFAULT_AGENTS = 4

# What the server answers to a template or a workflow that cannot be used.
_REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_ABOUT_TEMPLATES = ("INVALID_SNAPSHOT", "CYCLE", "SNAPSHOT_TOO_LARGE")


@ending
def run_command(
    definition: Path | None,
    *,
    output: Path | None,
    speed: float | None,
    seed: int,
    pull: Sequence[str],
    runs: Sequence[str],
    template: Path | None,
    workflow: str | None,
    agents: int | None,
    timeout: float | None,
    charts: bool,
    simulate: bool = False,
    repeat: int = 1,
) -> int:
    """Run an experiment: a definition, or without one a single run of a template.

    A definition is run by all ways of pulling unless ``pull`` says which; a template by polling,
    the protocol of the reference, and its agents may take every task. ``runs`` names the runs to
    make, empty: all. ``output`` None is a new folder below results/, ``speed`` None DEFAULT_SPEED,
    of a simulation (``simulate``) SIMULATED_SPEED, ``timeout`` (seconds a run) None a minute and
    ten times the best possible time. ``repeat``: every run so many times, by ``seed`` and those
    after it, of which the report then gives medians.
    """
    teller = Teller()
    chosen, graph = _chosen(definition, template, workflow, agents)
    preflight.check_tags(chosen, graph, runs)
    pulls = _pulls(pull) or (PULLS if definition else (DEFAULT_PULL,))
    usual = SIMULATED_SPEED if simulate else DEFAULT_SPEED
    folder = output or default_output(chosen.name, datetime.now())
    plans = plan_runs(
        chosen,
        graph,
        folder,
        pulls=pulls,
        only=runs,
        speed=usual if speed is None else speed,
        seed=seed,
        timeout_s=timeout,
        tags=None if definition else ("worker", *graph.tags),
        flat=definition is None and len(pulls) == 1,
        simulate=simulate,
        repeat=repeat,
    )
    with claimed_output(folder, [plan.folder for plan in plans]) as kept:
        for warning in chosen.warnings:
            teller.say(f"warning: {warning}")
        if kept:
            names = listed([place.name for place in kept])
            teller.say(f"kept as it was, and not in the report: {names}")
        teller.say(_announcement(chosen, plans, folder))
        return _exit_code(conduct(chosen, plans, folder, teller, charts=charts), graph)


@ending
def sweep_command(
    definition: Path,
    *,
    over: str,
    output: Path | None,
    runs: Sequence[str],
    template: Path | None,
    seed: int,
    repeat: int,
    charts: bool,
) -> int:
    """Simulate a definition's runs from value to value of one thing, as ``over`` says.

    ``template`` is worked instead of the definition's. The exit code is as of ``run_command``.
    """
    teller = Teller()
    sweep = read_sweep(over)
    chosen = load_definition(definition)
    if template is not None:
        if not template.is_file():
            raise PlanError(f"--template {template}: there is no such file; name a template")
        chosen = replace(chosen, template=template.resolve())
    preflight.check(chosen)
    folder = output or default_output(f"{chosen.name}-{sweep.key}", datetime.now())
    plans: list[RunPlan] = []
    for value, part in swept(chosen, sweep, runs):
        if part.template is None:
            raise PlanError(f"{chosen.name} names no template, so there is nothing to run")
        graph = read_template(part.template)
        preflight.check_tags(part, graph)
        plans += plan_runs(
            part,
            graph,
            folder,
            pulls=PULLS,
            speed=SIMULATED_SPEED,
            seed=seed,
            simulate=True,
            repeat=repeat,
            swept={sweep.key: value},
        )
    plans.sort(key=lambda plan: plan.seed)  # round by round, as repeats are
    with claimed_output(folder, [plan.folder for plan in plans]) as kept:
        if kept:
            names = listed([place.name for place in kept])
            teller.say(f"kept as it was, and not in the report: {names}")
        teller.say(_announcement(chosen, plans, folder))
        done = conduct(chosen, plans, folder, teller, charts=charts)
        return _exit_code(done, plans[0].template)


@ending
def compare_command(
    databases: Sequence[Path],
    *,
    labels: Sequence[str],
    charts: bool,
    output: Path,
    definition: Path | None,
) -> int:
    """Compare runs by their databases, made by whomever. The exit code is as of ``run_command``.

    ``output`` is what the files' names begin with, or a folder that is there. ``definition`` None
    measures everything that taskloom computes, and asks only that all tasks ended.
    """
    chosen = load_definition(definition) if definition else None
    report = compare(databases, labels, output, charts, chosen)
    _show(report)
    return _verdict(report)


@ending
def template_command(tasks: int, shape: str, seed: int, output: Path) -> int:
    """Make up a template; see ``made_templates``."""
    content = make_template(tasks, shape, seed)
    write_template(content, output)
    print(f"{output} holds {plural(tasks, 'task')} to be worked, {shape}")
    return OK


def _chosen(
    definition: Path | None, template: Path | None, workflow: str | None, agents: int | None
) -> tuple[Definition, Template]:
    if definition is None:
        if template is None:
            raise PlanError("there is nothing to run; name a definition or a template")
        chosen = plain_definition(
            template,
            DEFAULT_WORKFLOW if workflow is None else workflow,
            DEFAULT_AGENTS if agents is None else agents,
        )
    elif (template, workflow, agents) != (None, None, None):
        raise PlanError("a definition says template, workflow and agents itself; leave them out")
    else:
        chosen = load_definition(definition)
    preflight.check(chosen)
    if chosen.template is None:
        raise PlanError(f"{chosen.name} names no template, so there is nothing to run")
    return chosen, read_template(chosen.template)


def _pulls(names: Sequence[str]) -> tuple[Pull, ...]:
    for name in names:
        if name not in PULLS:
            raise PlanError(f"no way of pulling is called '{name}'; there are {', '.join(PULLS)}")
    return tuple(names)


def _exit_code(done: Conducted, template: Template) -> int:
    code = PARTIAL
    if done.report:
        _show(done.report)
        code = _verdict(done.report)
    if isinstance(done.error, TaskloomError) and done.error.code in _REFUSALS:
        about = f"{template.file}: " if done.error.reason in _ABOUT_TEMPLATES else ""
        code = refuse(f"{about}{done.error}")
    elif done.error:
        tell(done.error)
        code = PARTIAL
    elif not done.whole:
        code = PARTIAL
    return 128 + done.signal if done.signal else code


def _verdict(report: Report) -> int:
    comparison = report.comparison
    if any(run.partial for run in comparison.runs):
        return PARTIAL
    deciding = {run.pull for run in comparison.runs if run.pull} - AGENTS_CHOOSE
    return OK if comparison.required_hold(deciding) else FAILED


def _show(report: Report) -> None:
    print_comparison(report.comparison)
    print(f"report: {report.file}")
    for chart in report.charts:
        print(f"chart: {chart}")


def _announcement(definition: Definition, plans: Sequence[RunPlan], folder: Path) -> str:
    expected_ms = 1000 * sum(plan.expected_s for plan in plans)
    what = "simulated run" if plans[0].simulate else "run"
    return (
        f"{definition.name}: {plural(len(plans), what)}, {plans[0].speed:g} times as fast as "
        f"estimated, seed {plans[0].seed}, into {folder}: {duration(expected_ms)} at best"
    )
