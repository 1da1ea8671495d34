"""Repeats and sweeps: which runs they are, and what their reports say."""

import json
from pathlib import Path
from typing import Any

import pytest
from taskloom_experiments.commands import compare_command, run_command, sweep_command
from taskloom_experiments.definition import Definition, load_definition
from taskloom_experiments.planning import PlanError, RunPlan, plan_runs
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.sweeping import read_sweep, swept
from taskloom_experiments.templates import read_template

DEFINITION = """
experiment: {name: small, description: Six tasks}
workflow: swarm
template: six.json
runs:
  - {name: pull-2, mode: pull, pull: next, agents: 2}
  - name: push-2
    mode: push
    agents: 2
    agent_config: {workflow: push, tags: [worker]}
    coordinator: {workflow: push, decision_s: 5}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A definition of two runs, of six independent tasks."""
    tasks = [
        {"id": f"t{n}", "title": "A task", "status": "pending", "time_estimate_ms": 600_000}
        for n in range(6)
    ]
    snapshot = {"schema_version": 3, "tables": {"tasks": tasks, "dependencies": []}}
    (tmp_path / "six.json").write_text(json.dumps(snapshot))
    definition = tmp_path / "small.yaml"
    definition.write_text(DEFINITION)
    return definition


@pytest.fixture
def definition(file: Path) -> Definition:
    """It, read."""
    return load_definition(file)


def plan(definition: Definition, output: Path, **words: Any) -> tuple[RunPlan, ...]:
    """The runs of a definition, with a template that is there."""
    assert definition.template is not None
    return plan_runs(
        definition, read_template(definition.template), output, pulls=("next",), **words
    )


def test_repeats_take_turns_with_seeds_of_their_own(definition: Definition, tmp_path: Path) -> None:
    """A B A B A B, by the seed and those after it, each in a folder named by run and repeat."""
    plans = plan(definition, tmp_path / "out", repeat=3, seed=7)
    assert [(one.folder.name, one.repeats, one.seed) for one in plans] == [
        ("pull-2-r1", "pull-2", 7),
        ("push-2-r1", "push-2", 7),
        ("pull-2-r2", "pull-2", 8),
        ("push-2-r2", "push-2", 8),
        ("pull-2-r3", "pull-2", 9),
        ("push-2-r3", "push-2", 9),
    ]
    assert {settings.seed for one in plans[2:4] for settings in one.fleet.values()} == {8}


def test_one_repeat_is_a_run_as_ever(definition: Definition, tmp_path: Path) -> None:
    """Nothing is named or reported otherwise where nothing is repeated."""
    assert [(one.name, one.repeats) for one in plan(definition, tmp_path)] == [
        ("pull-2", ""),
        ("push-2", ""),
    ]


def test_folders_sort_as_repeats_count(definition: Definition, tmp_path: Path) -> None:
    """Ten repeats have two digits."""
    names = [one.name for one in plan(definition, tmp_path, repeat=10)]
    assert names[0] == "pull-2-r01"
    assert names[-1] == "push-2-r10"


@pytest.mark.parametrize("repeat", [0, -1, 1_001])
def test_repeats_that_make_no_sense_are_refused(
    definition: Definition, tmp_path: Path, repeat: int
) -> None:
    """None, fewer, or too many."""
    with pytest.raises(PlanError, match=f"--repeat is {repeat}; ask for 1 to 1000"):
        plan(definition, tmp_path, repeat=repeat)


def run(
    file: Path, output: Path, *, repeat: int, charts: bool = False, only: tuple[str, ...] = ()
) -> int:
    """Simulate a definition as the command line does."""
    return run_command(
        file,
        output=output,
        speed=None,
        seed=1,
        pull=(),
        runs=only,
        template=None,
        workflow=None,
        agents=None,
        timeout=None,
        charts=charts,
        simulate=True,
        repeat=repeat,
    )


def test_report_of_repeats_has_medians_and_verdicts(file: Path, tmp_path: Path) -> None:
    """Medians with intervals, each hypothesis with what decides it, a chart, all in one page."""
    output = tmp_path / "out"
    assert run(file, output, repeat=2, charts=True) == 0
    report = (output / "report.md").read_text()
    assert "### Wall clock" in report
    assert "| agents | next | push |" in report
    assert "a coordinator that holds work up" in report
    assert "of push-2 against pull-2" in report
    assert "![What each way to coordinate gives and costs" in report
    assert "data:image/png;base64," in (output / "report.html").read_text()
    metrics = json.loads((output / "push-2-r2/metrics.json").read_text())
    assert (metrics["run"]["repeats"], metrics["run"]["seed"]) == ("push-2", 2)


def test_repeats_made_again_replace_themselves(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same folder takes the same experiment twice."""
    output = tmp_path / "out"
    assert run(file, output, repeat=2, only=("pull-2",)) == 0
    assert run(file, output, repeat=2, only=("pull-2",)) == 0
    assert sorted(place.name for place in output.iterdir() if place.is_dir()) == [
        "pull-2-r1",
        "pull-2-r2",
    ]
    assert "kept as it was" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour=1,2", "no sweep is over 'colour'"),
        ("agents", "two values or more"),
        ("agents=4", "two values or more"),
        ("agents=1,two", "'two' is no number"),
        ("agents=0,1", "0 is out of range; write 1 or more"),
        ("agents=1,1.5", "write a whole number"),
        ("decision_s=-1,2", "-1 is out of range"),
        ("decision_s=nan,2", "nan is out of range"),
        ("decision_s=1,1.0", "stands twice"),
        ("template=a.json,a.json", "stands twice"),
        ("template=one/a.json,two/a.json", "stands twice"),
    ],
)
def test_sweep_that_cannot_be_read_is_refused(text: str, says: str) -> None:
    """One sentence that names what is wrong."""
    with pytest.raises(PlanError, match=says):
        read_sweep(text)


def test_values_are_swept_upwards() -> None:
    """In the order of numbers, however they were written."""
    assert read_sweep("agents=16, 2,4").values == ("2", "4", "16")


def test_decision_is_swept_where_somebody_decides(definition: Definition) -> None:
    """Pull has no coordinator and is made once; push at every value."""
    found = swept(definition, read_sweep("decision_s=0,2"))
    assert [(value, [one.name for one in part.runs]) for value, part in found] == [
        ("", ["pull-2"]),
        ("0", ["push-decision_s-0"]),
        ("2", ["push-decision_s-2"]),
    ]
    decided = [part.runs[0].coordinator for _, part in found[1:]]
    assert [one.decision_s for one in decided if one] == [0, 2]


def test_agents_are_swept_of_every_run(definition: Definition) -> None:
    """Each way once at each value."""
    found = swept(definition, read_sweep("agents=1,64"))
    assert [[(one.name, one.agents) for one in part.runs] for _, part in found] == [
        [("pull-next-agents-1", 1), ("push-agents-1", 1)],
        [("pull-next-agents-64", 64), ("push-agents-64", 64)],
    ]


def test_who_crashes_at_a_rate_comes_back(definition: Definition) -> None:
    """A fleet that is swept over crashes is not gone after the first ones."""
    found = swept(definition, read_sweep("crash_rate=0,2"))
    configs = [part.runs[0].agent_config for _, part in found]
    assert [(one.crash_rate, one.restart_after) for one in configs] == [(0, None), (2, 60)]


def test_runs_that_are_not_there_are_refused(definition: Definition) -> None:
    """By name, and where the sweep has nothing to change."""
    with pytest.raises(PlanError, match="there is no run 'pull-3'"):
        swept(definition, read_sweep("agents=1,2"), ["pull-3"])
    with pytest.raises(PlanError, match="has a decision_s to be changed"):
        swept(definition, read_sweep("decision_s=1,2"), ["pull-2"])
    with pytest.raises(PlanError, match="there is no file"):
        swept(definition, read_sweep("template=a.json,b.json"))


def test_sweep_shows_where_one_overtakes_another(file: Path, tmp_path: Path) -> None:
    """A coordinator that thinks for long loses to pull; the report says so, with its chart."""
    output = tmp_path / "out"
    code = sweep_command(
        file,
        over="decision_s=0,600",
        output=output,
        runs=(),
        template=None,
        seed=1,
        repeat=2,
        charts=True,
    )
    assert code == 0
    report = (output / "report.md").read_text()
    assert "![Throughput by time to decide" in report
    assert "next leads at 0 s and at 600 s" in report
    assert "| decision_s | next | push |" in report
    assert "## The hypotheses" not in report
    record = RunRecord.load(output / "push-decision_s-600-r1/run.json")
    assert record.swept == {"decision_s": "600"}


def test_compared_later_is_in_the_same_order(file: Path, tmp_path: Path) -> None:
    """Databases named in any order give the same tables: pulls first, values upwards."""
    output = tmp_path / "out"
    sweep_command(
        file,
        over="decision_s=2,10",
        output=output,
        runs=(),
        template=None,
        seed=1,
        repeat=1,
        charts=False,
    )
    databases = sorted(output.glob("*/tasks.db"), reverse=True)
    compare_command(databases, labels=(), charts=False, output=tmp_path / "later", definition=file)
    report = (tmp_path / "later.md").read_text()
    table = report.split("### Wall clock")[1].split("###")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert rows == ["decision_s", "---", "any", "2", "10"]
    assert "| decision_s | next | push |" in table
