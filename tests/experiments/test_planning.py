"""From a definition and a command line to the runs: how many, where, how long at best."""

import gzip
import json
from pathlib import Path

import pytest
from taskloom_experiments.definition import Definition, plain_definition
from taskloom_experiments.planned_runs import AgentConfig, Coordinator, PlannedRun
from taskloom_experiments.planning import PlanError, RunPlan, plan_runs
from taskloom_experiments.progress import time_left
from taskloom_experiments.templates import Template, TemplateError, read_template

SNAPSHOT = {
    "schema_version": 3,
    "tables": {
        "tasks": [
            {"id": "root", "time_estimate_ms": 9_000_000},
            {"id": "left", "time_estimate_ms": 600_000, "needed_tags": ["code"]},
            {"id": "right", "time_estimate_ms": 600_000},
            {"id": "join", "time_estimate_ms": None, "wanted_tags": ["lead"]},
        ],
        "dependencies": [
            {"from_task_id": "root", "to_task_id": name, "dep_type": "contains"}
            for name in ("left", "right", "join")
        ]
        + [
            {"from_task_id": name, "to_task_id": "join", "dep_type": "blocks"}
            for name in ("left", "right")
        ],
        "task_wanted_tags": [{"task_id": "left", "tag": "rust"}],
    },
}


@pytest.fixture
def template_file(tmp_path: Path) -> Path:
    """A template of three tasks under a root."""
    file = tmp_path / "three.json"
    file.write_text(json.dumps(SNAPSHOT))
    return file


@pytest.fixture
def template(template_file: Path) -> Template:
    """It, read."""
    return read_template(template_file)


@pytest.fixture
def definition(template_file: Path) -> Definition:
    """Two runs, of one and of twelve agents."""
    plain = plain_definition(template_file, "swarm", 1)
    runs = (
        PlannedRun(name="one", agents=1, agent_config=AgentConfig(tags=("code",), max_claims=2)),
        PlannedRun(name="many", agents=12, agent_config=AgentConfig(workflow="other")),
    )
    return Definition(**{**plain.__dict__, "runs": runs})


def test_every_run_is_made_by_every_way_of_pulling(
    definition: Definition, template: Template, tmp_path: Path
) -> None:
    """Two runs by two ways are four, in four folders, run by run."""
    plans = plan_runs(definition, template, tmp_path, pulls=("poll", "next"))
    folders = [plan.folder.name for plan in plans]
    assert folders == ["one-poll", "one-next", "many-poll", "many-next"]


def test_more_than_fits_into_memory_is_not_planned(
    definition: Definition, template: Template, tmp_path: Path
) -> None:
    """Agents of all runs and repeats are counted before any is made."""
    runs = (PlannedRun(name="crowd", agents=10_000),)
    crowd = Definition(**{**definition.__dict__, "runs": runs})
    with pytest.raises(PlanError, match="2,000,000 agents, and at most 1,000,000 are planned"):
        plan_runs(crowd, template, tmp_path, pulls=("poll", "next"), repeat=100)


def test_one_way_of_pulling_leaves_the_names_alone(
    definition: Definition, template: Template, tmp_path: Path
) -> None:
    """With one way of pulling a run's folder is its name."""
    plans = plan_runs(definition, template, tmp_path, pulls=("next",), only=("many",))
    assert [plan.folder for plan in plans] == [tmp_path / "many"]


def test_agents_are_configured_by_their_run(
    definition: Definition, template: Template, tmp_path: Path
) -> None:
    """Tags, limit and workflow are the run's, the definition's where the run says nothing."""
    one, many = plan_runs(definition, template, tmp_path, pulls=("next",), seed=5, speed=9)
    settings = one.fleet["agent-1"]
    assert (settings.tags, settings.max_claims, settings.workflow) == (
        ("code",),
        2,
        "swarm",
    )
    settings = many.fleet["agent-12"]
    assert (settings.workflow, settings.seed, settings.speed) == ("other", 5, 9)


def test_agents_ids_sort_as_they_count(
    definition: Definition, template: Template, tmp_path: Path
) -> None:
    """The ninth of twelve comes before the tenth."""
    many = plan_runs(definition, template, tmp_path, pulls=("next",), only=("many",))[0]
    assert list(many.fleet) == sorted(many.fleet)
    assert many.agents == len(many.fleet) == 12


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"only": ("few",)}, "no run 'few'"),
        ({"speed": 0.0}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"timeout_s": 0.0}, "timeout"),
    ],
)
def test_what_cannot_be_run_is_refused(
    definition: Definition, template: Template, tmp_path: Path, wrong: dict[str, object], told: str
) -> None:
    """A run that is not there, a speed or a timeout of nothing: one sentence, before any start."""
    with pytest.raises(PlanError, match=told):
        plan_runs(definition, template, tmp_path, pulls=("next",), **wrong)  # type: ignore[arg-type]


def test_best_time_follows_the_graph(template: Template) -> None:
    """One agent works everything, many no faster than the longest chain; roots are no work."""
    one = template.best_seconds(1, seed=1, speed=60)
    many = template.best_seconds(12, seed=1, speed=60)
    assert 20 < one < 60
    assert one / 2 < many < one


def test_timeout_is_generous(definition: Definition, template: Template, tmp_path: Path) -> None:
    """Unless said otherwise a run may take far longer than it must."""
    plan = plan_runs(definition, template, tmp_path, pulls=("next",))[0]
    assert plan.timeout_s > 60 + 5 * plan.expected_s


def test_template_says_which_tags_it_asks_for(template: Template) -> None:
    """Whoever has them may take every task; they stand in rows or in tables of their own."""
    assert template.tags == ("code", "lead", "rust")


def test_gzipped_template_is_the_same(template: Template, tmp_path: Path) -> None:
    """Gzip is told by the first bytes, not by the name."""
    file = tmp_path / "three"
    file.write_bytes(gzip.compress(json.dumps(SNAPSHOT).encode()))
    assert read_template(file).estimates_ms == template.estimates_ms


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"tables": {}}', gzip.compress(b"{}", mtime=0)[:9]]
)
def test_what_is_no_template_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty, cut or strange file is refused by one sentence that names it."""
    file = tmp_path / "broken.json"
    file.write_bytes(content)
    with pytest.raises(TemplateError, match=r"broken\.json: is not a snapshot"):
        read_template(file)


def test_missing_template_is_refused(tmp_path: Path) -> None:
    """So is one that is not there."""
    with pytest.raises(TemplateError, match="cannot be read"):
        read_template(tmp_path / "nowhere.json")


def test_time_left_starts_at_the_best_and_goes_over_to_the_pace() -> None:
    """The first guess is the best possible time; when that is over, it is the pace alone."""
    assert time_left(10, 2, 0, 40) == 8
    assert time_left(10, 5, 10, 40) == (5 + 15) / 2
    assert time_left(10, 30, 20, 40) == 30
    assert time_left(10, 30, 40, 40) == 0
    assert time_left(0, 30, 20, 40) == 30
    assert time_left(10, 30, 0, 0) is None


def test_flat_run_lies_in_the_output_itself(
    definition: Definition, template: Template, tmp_path: Path
) -> None:
    """The plain command line's one run has no folder below the one that was named."""
    plan: RunPlan = plan_runs(
        definition, template, tmp_path, pulls=("poll",), only=("one",), flat=True
    )[0]
    assert plan.folder == tmp_path


def test_modes_differ_in_how_agents_get_their_tasks(
    definition: Definition, template: Template, tmp_path: Path
) -> None:
    """Push and hybrid are made once, by assignment; a run may fix its way of pulling."""
    runs = (
        PlannedRun(name="push", mode="push", agents=2, coordinator=Coordinator(decision_s=3)),
        PlannedRun(name="hybrid", mode="hybrid", agents=1, coordinator=Coordinator()),
        PlannedRun(name="relay", mode="relay", agents=1),
        PlannedRun(name="fixed", agents=1, pull="watch"),
    )
    changed = Definition(**{**definition.__dict__, "runs": runs})
    plans = plan_runs(changed, template, tmp_path, pulls=("poll", "next"), speed=60)
    assert [(plan.label, plan.pull) for plan in plans] == [
        ("push (push)", "assigned"),
        ("hybrid (hybrid)", "assigned"),
        ("relay (relay)", "next"),
        ("fixed (watch)", "watch"),
    ]
    push, hybrid, *_ = plans
    assert push.coordinator is not None
    assert push.coordinator.costs.decision_s == 3
    assert [settings.max_claims for settings in push.fleet.values()] == [1, 1]
    assert [settings.max_claims for settings in hybrid.fleet.values()] == [2]


def test_lease_is_simulated_and_never_less_than_a_second(
    definition: Definition, template: Template, tmp_path: Path
) -> None:
    """No server gives a shorter one; without a word it is half a minute at the usual speed."""
    runs = tuple(
        PlannedRun(name=f"lease-{index}", agents=1, agent_config=AgentConfig(lease_s=lease_s))
        for index, lease_s in enumerate((600.0, 5.0, None))
    )
    changed = Definition(**{**definition.__dict__, "runs": runs})
    plans = plan_runs(changed, template, tmp_path, pulls=("next",), speed=60)
    assert [plan.fleet["agent-1"].lease_s for plan in plans] == [10, 1, 1_800]
