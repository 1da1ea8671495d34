"""The definitions of push, hybrid and relay that ship: they load, and say what they are to show."""

from pathlib import Path

import pytest
from taskloom_experiments import preflight
from taskloom_experiments.definition import load_definition
from taskloom_experiments.planning import plan_runs
from taskloom_experiments.pulls import PULLS
from taskloom_experiments.templates import read_template

DEFINITIONS = Path(__file__).resolve().parents[2] / "experiments/definitions"
NAMES = ("pure-push", "hybrid", "relay", "push-pull-hybrid")


@pytest.mark.parametrize("name", NAMES)
def test_definition_can_be_run(name: str, tmp_path: Path) -> None:
    """Its workflows and queries are there, nothing in it is without a result, each run is one."""
    definition = load_definition(DEFINITIONS / f"{name}.yaml")
    preflight.check(definition)
    assert definition.name == name
    assert not definition.warnings
    assert definition.template is not None
    plans = plan_runs(definition, read_template(definition.template), tmp_path, pulls=PULLS)
    assert [plan.name for plan in plans] == [run.name for run in definition.runs]


@pytest.mark.parametrize("name", NAMES)
def test_every_task_can_be_taken_by_somebody(name: str) -> None:
    """Each task of the template has the tags of some agent of every run."""
    definition = load_definition(DEFINITIONS / f"{name}.yaml")
    assert definition.template is not None
    needed = read_template(definition.template).tags
    for run in definition.runs:
        skills = {tag for group in run.fleet for tag in group.tags}
        assert skills.intersection(needed), run.name
        if run.mode == "relay":
            assert skills >= set(needed), run.name


def test_modes_are_compared_with_comparable_fleets() -> None:
    """Of each size there is every mode, with as many who work and alike coordinators."""
    definition = load_definition(DEFINITIONS / "push-pull-hybrid.yaml")
    by_size: dict[int, list[str]] = {}
    for run in definition.runs:
        by_size.setdefault(run.agents, []).append(run.mode)
    assert by_size.keys() == {2, 4, 8}
    assert all(modes == ["pull", "pull", "push", "hybrid"] for modes in by_size.values())
    costs = {run.coordinator.costs for run in definition.runs if run.coordinator}
    assert len(costs) == 1
