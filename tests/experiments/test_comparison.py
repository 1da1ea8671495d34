"""Runs side by side: scaling within a series, targets by run, criteria by series."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from taskloom_experiments.analysis import Run, analyse_run
from taskloom_experiments.comparison import Comparison, Row, compare_runs
from taskloom_experiments.database import MeasurementError
from taskloom_experiments.definition import Definition, definition_for_comparison
from taskloom_experiments.definition_parts import Criterion, Measurement

PLAIN = definition_for_comparison()


@pytest.fixture
def make(new_run: Callable[..., Any], new_record: Callable[..., Any]) -> Callable[..., Run]:
    """An analysed run: so many tasks of 10 s, shared evenly, all done after ``seconds``."""

    def analysed(
        agents: int, seconds: float, definition: Definition = PLAIN, tasks: int = 8, **told: Any
    ) -> Run:
        pull = told.get("pull", "next")
        run = new_run(f"{agents}-{pull}-{seconds}")
        for number in range(agents):
            run.worker(f"w{number}", attempts=10, granted=8 + number % 2, lost=1)
        for number in range(tasks):
            end = seconds * (number + 1) / tasks
            worker = f"w{number % agents}"
            run.task(f"t{number}", worker=worker, started=0, completed=end, time_actual_ms=10_000)
        file = run.save()
        if pull:
            new_record(name=f"pull-{agents}", agents=agents, pull=pull, **_less(told, "pull")).save(
                file.parent
            )
        return analyse_run(file, definition)

    return analysed


def _less(told: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != key}


def defined(*criteria: str, measurements: tuple[Measurement, ...] = ()) -> Definition:
    """A definition with these conditions, all required."""
    return replace(
        PLAIN,
        measurements=measurements,
        success_criteria=tuple(
            Criterion(name=f"c{number}", condition=text, required=True)
            for number, text in enumerate(criteria)
        ),
    )


def row(comparison: Comparison, metric: str) -> Row:
    """The row of a figure."""
    return next(row for row in comparison.rows if row.metric == metric)


def test_scaling_is_against_one_agent_of_the_same_series(make: Callable[..., Run]) -> None:
    """Four agents twice as fast as one: half of linear; by each way of pulling by itself."""
    runs = [make(1, 80), make(4, 40), make(1, 100, pull="poll"), make(4, 25, pull="poll")]
    comparison = compare_runs(runs, PLAIN)
    assert [series.label for series in comparison.series] == ["next", "poll"]
    assert [cell.value for cell in row(comparison, "scaling_efficiency").cells] == [1, 0.5, 1, 1]


def test_scaling_without_one_agent_is_missing(make: Callable[..., Run]) -> None:
    """Without a one-agent run there is nothing to compare with, and that is said."""
    comparison = compare_runs([make(2, 80), make(4, 40)], PLAIN)
    cell = row(comparison, "scaling_efficiency").cells[0]
    assert (cell.value, cell.missing) == (None, "no run with one agent to compare with")


def test_runs_at_other_speeds_are_compared_in_simulated_time(make: Callable[..., Run]) -> None:
    """Twice the speed makes no scaling."""
    runs = [make(1, 80, speed=100.0), make(2, 40, speed=200.0)]
    comparison = compare_runs(runs, PLAIN)
    assert [cell.value for cell in row(comparison, "scaling_efficiency").cells] == [1, 0.5]


def test_labels_are_made_unique(make: Callable[..., Run]) -> None:
    """Equal names get their way of pulling, and where that is not enough a number."""
    runs = [make(1, 80), make(1, 81, pull="poll"), make(2, 70)]
    labels = [run.label for run in compare_runs([*runs, runs[2]], PLAIN).runs]
    assert labels == ["pull-1 (next)", "pull-1 (poll)", "pull-2 (next)", "pull-2 (next) (2)"]


def test_condition_of_one_run_must_hold_in_all(make: Callable[..., Run]) -> None:
    """A per-run condition fails for the series where one run fails, and names it."""
    definition = defined("makespan_ms < 60000")
    verdict = compare_runs([make(1, 80), make(2, 40)], definition).verdicts[0]
    assert verdict.outcome == "fail"
    assert verdict.detail == "pull-1: makespan_ms = 8e+04"
    assert [outcome for _, outcome, _ in verdict.by_run] == ["fail", "pass"]


def test_condition_over_runs_is_asked_once_a_series(make: Callable[..., Run]) -> None:
    """throughput_N is asked of each series, and only there where such runs are."""
    definition = defined("throughput_4_agents > 2.5 * throughput_1_agent")
    runs = [make(1, 80), make(4, 30), make(4, 30, pull="poll")]
    fast, alone = compare_runs(runs, definition).verdicts
    assert (fast.outcome, fast.by_run) == ("pass", ())
    assert fast.detail == "throughput_1_agent = 360, throughput_4_agents = 960"
    assert alone.outcome == "cannot tell"
    assert "there is no run with 1 agent" in alone.detail


def test_condition_may_mix_both(make: Callable[..., Run]) -> None:
    """A condition with figures of a run and over runs is asked of every run."""
    definition = defined("tasks_per_hour >= throughput_1_agent")
    verdict = compare_runs([make(1, 80), make(2, 100)], definition).verdicts[0]
    assert [outcome for _, outcome, _ in verdict.by_run] == ["pass", "fail"]


def test_unknown_name_cannot_be_told(make: Callable[..., Run]) -> None:
    """A figure that nobody computes makes no verdict."""
    verdict = compare_runs([make(1, 80)], defined("merge_conflicts == 0")).verdicts[0]
    assert (verdict.outcome, "no metric named merge_conflicts" in verdict.detail) == (
        "cannot tell",
        True,
    )


def test_several_runs_with_as_many_agents_count_by_their_mean(make: Callable[..., Run]) -> None:
    """Two runs with one agent are one throughput_1_agent."""
    definition = defined("throughput_1_agent == 300")
    # 8 tasks in 80 s and in 120 s: 360 and 240 an hour
    assert compare_runs([make(1, 80), make(1, 120)], definition).verdicts[0].outcome == "pass"


def test_required_hold_is_asked_of_a_way_of_pulling(make: Callable[..., Run]) -> None:
    """Poll may fail what next must pass; nothing is proved by runs that were not made."""
    definition = defined("makespan_ms < 60000")
    comparison = compare_runs([make(2, 40), make(2, 90, pull="poll")], definition)
    assert comparison.required_hold({"next"})
    assert not comparison.required_hold({"poll"})
    assert not comparison.required_hold()
    assert not compare_runs([make(2, 41, pull="poll")], definition).required_hold({"next"})


def test_cannot_tell_does_not_pass(make: Callable[..., Run]) -> None:
    """A required criterion that cannot be told is not held."""
    assert not compare_runs([make(1, 80)], defined("nobody == 1")).required_hold()


def test_query_with_one_row_gives_figures_to_conditions(make: Callable[..., Run]) -> None:
    """The columns of a one-row answer can be named; a figure of taskloom's own is never hidden."""
    definition = defined(
        "longest == 10000 AND ms == 10000",
        "tasks_per_hour == 360",
        measurements=(
            Measurement(name="longest", query="SELECT MAX(time_actual_ms) AS ms FROM tasks"),
            Measurement(name="sizes", query="SELECT 1 AS tasks_per_hour, 2 AS other"),
        ),
    )
    comparison = compare_runs([make(1, 80, definition)], definition)
    assert [verdict.outcome for verdict in comparison.verdicts] == ["pass", "pass"]
    assert row(comparison, "longest").cells[0].value == 10_000


def test_failing_query_costs_its_own_figure_only(make: Callable[..., Run]) -> None:
    """The other figures of the run go on, also one that the query was only asked beside."""
    definition = defined(
        measurements=(
            Measurement(name="mine", query="SELECT nobody FROM tasks"),
            Measurement(name="tasks_per_hour", query="DROP TABLE tasks"),
        )
    )
    run = make(1, 80, definition)
    comparison = compare_runs([run], definition)
    assert isinstance(run.answers["mine"], MeasurementError)
    assert isinstance(run.answers["tasks_per_hour"], MeasurementError)
    assert row(comparison, "mine").cells[0].value is None
    assert row(comparison, "tasks_per_hour").cells[0].value == 360


def test_target_out_of_everybodys_reach_is_told(make: Callable[..., Run]) -> None:
    """Of 80 s in 4 x 40 s half is idle and need not be; three times linear nobody could reach."""
    definition = defined(
        measurements=(
            Measurement(name="idle_time_ratio", derivation="-", target="< 15%"),
            Measurement(name="scaling_efficiency", derivation="-", target="> 3"),
        )
    )
    comparison = compare_runs([make(1, 80), make(4, 40)], definition)
    scaling = row(comparison, "scaling_efficiency").cells[1].verdict
    assert scaling is not None
    assert (scaling.judgement, scaling.out_of_reach) == ("missed", True)
    idle = row(comparison, "idle_time_ratio").cells[1].verdict
    assert idle is not None
    assert (idle.judgement, idle.out_of_reach) == ("missed", False)


def test_run_without_a_record(make: Callable[..., Run]) -> None:
    """A bare tasks.db is named by its folder, its agents counted from the workers."""
    run = make(2, 40, pull=None)
    assert (run.label, run.agents, run.pull, run.speed) == ("2-None-40", 2, None, None)
    assert [series.label for series in compare_runs([run], PLAIN).series] == ["all runs"]


def test_partial_runs_say_why(make: Callable[..., Run], new_run: Callable[..., Any]) -> None:
    """By its record, or by the tasks that are left."""
    assert make(1, 80).partial is None
    assert make(1, 81, partial=True, partial_reason="timed out").partial == "timed out"
    run = new_run("left")
    run.task("a", "pending")
    assert analyse_run(run.save(), PLAIN).partial == "1 of 1 tasks are not done"


def test_series_of_other_templates_are_apart(make: Callable[..., Run], tmp_path: Path) -> None:
    """One agent on one graph is no measure for four on another."""
    runs = [make(1, 80, template="x/flat.json"), make(4, 40, template="x/deep.json")]
    comparison = compare_runs(runs, PLAIN)
    assert [series.label for series in comparison.series] == ["flat.json", "deep.json"]
    assert row(comparison, "scaling_efficiency").cells[1].value is None
