"""The report, metrics.json and the terminal: they say what was measured, and what was not."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from taskloom_experiments.catalogue import METRICS
from taskloom_experiments.compare import CompareError, compare
from taskloom_experiments.database import DatabaseUnreadable
from taskloom_experiments.definition import definition_for_comparison, load_definition
from taskloom_experiments.definition_parts import Measurement
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.findings import findings
from taskloom_experiments.metrics_file import write_metrics
from taskloom_experiments.terminal import print_comparison

FLEETS = [(agents, pull) for agents in (1, 2, 4, 8) for pull in ("poll", "next")]
ALL_WAYS = [(agents, pull) for agents in (1, 8) for pull in ("poll", "watch", "next", "stream")]


@pytest.fixture
def small(small_run: Any, new_record: Callable[..., Any]) -> Path:
    """The small run with its record."""
    file: Path = small_run.save()
    new_record().save(file.parent)
    return file


def test_report_of_the_reference_experiment(
    reference_definition: Path, fleet: Callable[..., Path], tmp_path: Path
) -> None:
    """Every section is there, every figure by run, every chart embedded and written."""
    definition = load_definition(reference_definition)
    files = [fleet(*one) for one in FLEETS]
    (tmp_path / "out").mkdir()
    report = compare(files, None, tmp_path / "out", True, definition)
    text = report.file.read_text(encoding="utf-8")
    assert re.findall("^## (.*)", text, re.MULTILINE) == [
        "What was found",
        "Success criteria",
        "Every figure by run, against its target",
        "Ways of pulling",
        "Contention",
        "Best possible beside measured",
        "Charts",
        "Agents",
        "What the definition's queries returned",
        "What was measured, and how",
        "Machine",
    ]
    for name in METRICS:
        assert f"`{name}`" in text
    for measurement in definition.measurements:
        assert f"`{measurement.name}`" in text
        assert (measurement.target or "") in text
    for chart in report.charts:
        assert f"]({chart.name})" in text
        assert chart.is_file()
    assert "**required** | **fail** | **pass**" in text  # contention, by poll and by next
    assert "Partial" not in text
    assert 3 <= len(findings(report.comparison)) <= 6


def test_report_tells_what_the_query_cannot_see(
    reference_definition: Path, fleet: Callable[..., Path], tmp_path: Path
) -> None:
    """The reference counts transitions and sees no refused claim; the true rate stands beside."""
    file = fleet(8, "poll")
    report = compare([file], None, tmp_path / "r", False, load_definition(reference_definition))
    run = report.comparison.runs[0]
    lost, tried = run.figures["claims_lost"], run.figures["claim_attempts"]
    assert lost > 0
    text = report.file.read_text(encoding="utf-8")
    rate = f"{100 * (tried - lost) / tried:.1f} %"
    row = next(line for line in text.splitlines() if line.startswith(f"| pull-8 | {tried:.0f} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:6] == ["25", f"{lost:.0f}", "0", rate]
    assert cells[-1] == "100.0 % of 25"
    assert "that query cannot see one: its figure stands beside the true one" in text
    assert report.charts == ()


def test_ways_of_pulling_are_one_table(fleet: Callable[..., Path], tmp_path: Path) -> None:
    """Runs with as many agents stand together, each with what its way of pulling cost."""
    files = [fleet(agents, pull) for pull in ("poll", "next") for agents in (1, 8)]
    report = compare(files, None, tmp_path / "r", False)
    text = report.file.read_text(encoding="utf-8")
    table = text[text.index("## Ways of pulling") :].split("\n\n")[1].splitlines()[2:]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    assert [row[:2] for row in rows] == [["1", "poll"], ["1", "next"], ["8", "poll"], ["8", "next"]]
    run = next(run for run in report.comparison.runs if run.agents == 8 and run.pull == "poll")
    figures = run.figures
    assert figures["claim_retry_count"] > 0
    assert rows[2][2:] == [
        f"{figures['claim_attempts']:.0f}",
        f"{figures['claim_retry_count']:.0f}",
        f"{figures['calls_per_task']:.3g}",
        f"{figures['ready_to_claimed_p50_ms'] / 1000:.3g} s",
        f"{figures['ready_to_claimed_p99_ms'] / 1000:.3g} s",
        f"{figures['free_to_claimed_p50_ms']:.0f} ms",
        f"{figures['free_to_claimed_p99_ms']:.0f} ms",
        "25",
        f"{100 * figures['idle_time_ratio']:.1f} %",
    ]
    assert rows[3][3] == "0"
    assert "A p99 of fewer than 100 claims is the longest of them" in text


def test_ways_of_pulling_are_summed_up(fleet: Callable[..., Path], tmp_path: Path) -> None:
    """The sentence has the figures of the runs with the most agents, and needs two ways."""
    files = [fleet(agents, pull) for pull in ("poll", "next") for agents in (1, 8)]
    comparison = compare(files, None, tmp_path / "r", False).comparison
    told = next(sentence for sentence in findings(comparison) if "Costs of pulling" in sentence)
    figures = {run.pull: run.figures for run in comparison.runs if run.agents == 8}
    poll, free = figures["poll"], "from task ready and agent free to claimed"
    assert told.startswith(
        f"Costs of pulling, with 8 agents: `poll` {poll['claim_retry_count']:.0f} of "
        f"{poll['claim_attempts']:.0f} claims refused, {poll['calls_per_task']:.3g} calls a "
        f"completed task and {poll['free_to_claimed_p50_ms']:.0f} ms (p99 "
        f"{poll['free_to_claimed_p99_ms']:.0f} ms) {free}; `next` 0 of 25 claims refused, "
    )
    alone = compare([fleet(8, "next")], None, tmp_path / "r", False).comparison
    assert not any("Costs of pulling" in sentence for sentence in findings(alone))


def test_summary_is_made_of_figures(small: Path, tmp_path: Path) -> None:
    """The sentences on top have the figures of the small run, and nothing else."""
    told = findings(compare([small], None, tmp_path / "r", False).comparison)
    assert told == [
        "1 run of `browser-parallel.json` with 2 agents, by `next`, with time compressed 600 "
        "times; agents completed 4 tasks in each.",
        "Throughput: 160 tasks/h with 2 agents, 77.8 % of the best possible for this graph "
        "(206 tasks/h).",
        "Claims lost to another worker: 1 of 5 (most in `pull-2`: 20.0 %).",
        "Idle, and spread of tasks, with 2 agents: 33.3 % of their time (at best 14.3 %), with a "
        "Gini coefficient of 0.00.",
        "Success: 1 of 1 required criteria hold.",
    ]


def test_partial_run_is_called_so_on_top(
    small: Path, new_record: Callable[..., Any], tmp_path: Path
) -> None:
    """A run that was cut short is named with its reason, in report and terminal."""
    new_record(partial=True, partial_reason="interrupted after 12 s").save(small.parent)
    report = compare([small], None, tmp_path / "r", False)
    text = report.file.read_text(encoding="utf-8")
    assert text.index("interrupted after 12 s") < text.index("## What was found")
    out = io.StringIO()
    print_comparison(report.comparison, Console(file=out, width=80))
    assert "partial" in out.getvalue()


def test_failed_queries_are_in_the_report(small: Path, tmp_path: Path) -> None:
    """Queries that write, fail or return no figure are told, and the rest is there."""
    definition = replace(
        definition_for_comparison(),
        measurements=(
            Measurement(name="mine", query="DELETE FROM tasks", target="< 5"),
            Measurement(name="other", query="SELECT nobody FROM tasks"),
            Measurement(name="many", query="SELECT id FROM tasks"),
            Measurement(name="unknown_one", derivation="a / b"),
            Measurement(name="tasks_per_hour", target="> 100"),
        ),
    )
    text = compare([small], None, tmp_path / "r", False, definition).file.read_text("utf-8")
    assert "`mine`: its query was not answered: refused: it does more than read" in text
    assert "`other`: its query was not answered: failed: no such column: nobody" in text
    assert "`many`: returns rows, not one figure" in text
    assert "`unknown_one`: not measured: taskloom knows no figure of the name unknown_one" in text
    assert "| 160 ✓ | > 100 |" in text


def test_odd_names_do_not_break_the_table(small: Path, tmp_path: Path) -> None:
    """A pipe or a line break in a label stays in its cell."""
    report = compare([small], ["a|b\nc"], tmp_path / "r", False)
    head = next(line for line in report.file.read_text("utf-8").splitlines() if "| figure" in line)
    assert head == "| figure | a\\|b c | target |"


@pytest.mark.parametrize(
    ("output", "report", "chart"),
    [
        ("made/", "made/report.md", "made/pulls.png"),
        ("here", "here/report.md", "here/pulls.png"),  # a folder that exists
        ("results/pure/comparison", "results/pure/comparison.md", "comparison-pulls.png"),
        ("v1.2", "v1.2.md", "v1.2-pulls.png"),
        ("told.md", "told.md", "told-pulls.png"),
    ],
)
def test_output_is_a_folder_or_a_prefix(
    small: Path, tmp_path: Path, output: str, report: str, chart: str
) -> None:
    """Files go where one who typed the output would look for them."""
    (tmp_path / "here").mkdir()
    definition = replace(definition_for_comparison(), charts=("pulls",))
    written = compare([small], None, f"{tmp_path}/{output}", True, definition)
    assert written.file == tmp_path / report
    assert written.file.is_file()
    (drawn,) = written.charts
    assert drawn.is_file()
    assert str(drawn).endswith(chart)
    assert drawn.parent == written.file.parent


def test_labels_name_the_runs(fleet: Callable[..., Path], tmp_path: Path) -> None:
    """Labels are given in the order of the databases; their number must fit."""
    files = [fleet(1), fleet(2)]
    report = compare(files, ["first", "second"], tmp_path / "r", False)
    assert [run.label for run in report.comparison.runs] == ["first", "second"]
    with pytest.raises(CompareError, match="1 labels for 2 databases; give each a label"):
        compare(files, ["first"], tmp_path / "r", False)


def test_what_cannot_be_compared_is_one_sentence(small: Path, tmp_path: Path) -> None:
    """No database, a wrong one, and a place that cannot be written: one class of error."""
    with pytest.raises(CompareError, match="there is nothing to compare"):
        compare([], None, tmp_path / "r", False)
    with pytest.raises(DatabaseUnreadable):
        compare([tmp_path / "none.db"], None, tmp_path / "r", False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match="cannot be written"):
        compare([small], None, tmp_path / "file/r", False)


def test_run_without_record_is_reported(small_run: Any, tmp_path: Path) -> None:
    """A bare tasks.db gives a report that says what is not known."""
    text = compare([small_run.save()], None, tmp_path / "r", True).file.read_text("utf-8")
    assert "No `run.json` says whether time was compressed" in text
    assert "Not recorded" in text
    assert "160" in text


def test_speed_and_simulated_figures_are_told(small: Path, tmp_path: Path) -> None:
    """The reader learns the compression and the rate in simulated hours."""
    text = compare([small], None, tmp_path / "r", False).file.read_text("utf-8")
    assert "a second here stands for 10 min of simulated work" in text
    assert "| `simulated_tasks_per_hour` (tasks/simulated h) | 0.267 |" in text


def test_metrics_file_keeps_its_shape(small: Path, tmp_path: Path) -> None:
    """metrics.json has the documented keys, null with a reason for what is not there."""
    definition = replace(
        definition_for_comparison(),
        measurements=(
            Measurement(name="sizes", query="SELECT 1 AS one, 9e999 AS huge, x'00' AS blob"),
            Measurement(name="bad", query="DELETE FROM tasks"),
        ),
    )
    run = compare([small], None, tmp_path / "r", False, definition).comparison.runs[0]
    file = tmp_path / "metrics.json"
    write_metrics(run, file)
    told = json.loads(file.read_text("utf-8"), parse_constant=pytest.fail)
    assert list(told) == [
        "schema_version",
        "label",
        "run",
        "partial",
        "agents",
        "metrics",
        "not_measured",
        "per_agent",
        "critical_path",
        "queries",
    ]
    assert told["schema_version"] == 1
    assert set(told["metrics"]) == set(METRICS)
    assert told["metrics"]["tasks_per_hour"] == 160
    assert told["metrics"]["scaling_efficiency"] is None
    assert "one agent" in told["not_measured"]["scaling_efficiency"]
    assert told["critical_path"] == ["c", "d"]
    assert told["run"]["seed"] == 7
    assert told["queries"]["sizes"] == {
        "columns": ["one", "huge", "blob"],
        "rows": [[1, "inf", "<1 bytes>"]],
        "cut": False,
    }
    assert "error" in told["queries"]["bad"]
    assert told["per_agent"][0]["idle_ratio"] == pytest.approx(1 / 3)


def test_terminal_fits_eighty_columns(
    reference_definition: Path, fleet: Callable[..., Path], tmp_path: Path
) -> None:
    """The comparison of all ways of pulling prints in 80 columns: nothing cut, no name broken."""
    definition = load_definition(reference_definition)
    files = [fleet(*one) for one in ALL_WAYS]
    report = compare(files, None, tmp_path / "r", False, definition)
    out = io.StringIO()
    print_comparison(report.comparison, Console(file=out, width=80))
    assert "…" not in out.getvalue()
    assert "pull-8 (stream) " in out.getvalue()
    assert len(max(out.getvalue().splitlines(), key=len)) <= 80
    assert "acceptable_contention" in out.getvalue()
