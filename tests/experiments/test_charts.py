"""The charts: what is drawn is what was measured, and there is always something to look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from matplotlib.collections import PolyCollection
from matplotlib.image import imread
from taskloom_experiments.analysis import analyse_run
from taskloom_experiments.chart_medians import draw_medians
from taskloom_experiments.chart_style import series_style
from taskloom_experiments.charts import draw, save_charts
from taskloom_experiments.comparison import Comparison, compare_runs
from taskloom_experiments.definition import definition_for_comparison
from taskloom_experiments.definition_parts import ChartKind

PLAIN = definition_for_comparison()
PULLS = ("poll", "watch", "next", "stream")
KINDS: tuple[ChartKind, ...] = get_args(ChartKind)


@pytest.fixture
def both(fleet: Callable[..., Path]) -> Comparison:
    """1, 2, 4 and 8 agents by both ways of pulling."""
    files = [fleet(agents, pull) for agents in (1, 2, 4, 8) for pull in ("poll", "next")]
    return compare_runs([analyse_run(file, PLAIN) for file in files], PLAIN)


@pytest.fixture
def all_ways(fleet: Callable[..., Path]) -> Comparison:
    """2 and 8 agents by four ways of pulling; 4 agents by two of them only."""
    files = [fleet(agents, pull) for pull in PULLS for agents in (2, 8)]
    files += [fleet(4, "poll"), fleet(4, "next")]
    return compare_runs([analyse_run(file, PLAIN) for file in files], PLAIN)


@pytest.fixture
def nothing(new_run: Callable[..., Any]) -> Comparison:
    """A run in which no agent did anything."""
    run = new_run("nothing")
    run.task("a", "pending")
    return compare_runs([analyse_run(run.save(), PLAIN)], PLAIN)


def _numbers(drawn: Any) -> list[float]:
    """What a line was drawn from; Matplotlib's types allow for much more than numbers."""
    return [float(value) for value in drawn]


def test_charts_are_written(both: Comparison, tmp_path: Path) -> None:
    """Each chart of the definition is a PNG of a size that can be read, with title and caption."""
    charts = save_charts(both, f"{tmp_path}/comparison-")
    assert [chart.file.name for chart in charts] == [f"comparison-{kind}.png" for kind in KINDS]
    for chart in charts:
        height, width, _ = imread(chart.file).shape
        assert width >= 1200
        assert height >= 500
        assert chart.title
        assert chart.caption.endswith(".")


def test_throughput_shows_measured_linear_and_best(both: Comparison) -> None:
    """A line by each way of pulling, the linear one, and the best possible above them all."""
    axes = draw("throughput", both).figure.axes[0]
    lines = {str(line.get_label()): line for line in axes.lines}
    assert list(lines) == [
        "linear: one agent's throughput times the agents",
        "best possible for this graph",
        "measured: poll",
        "measured: next",
    ]
    best = _numbers(lines["best possible for this graph"].get_ydata())
    for series in both.series:
        drawn = _numbers(lines[f"measured: {series.label}"].get_ydata())
        assert drawn == [run.figures["tasks_per_hour"] for run in series.runs]
        assert all(low <= high for low, high in zip(drawn, best, strict=True))
    assert axes.get_xlabel() == "agents"
    assert "per hour" in axes.get_ylabel()


def test_timeline_has_a_lane_for_every_agent_and_a_bar_for_every_stint(both: Comparison) -> None:
    """A panel for each run, its lanes the agents, its bars what they worked."""
    panels = [axes for axes in draw("timeline", both).figure.axes if axes.axison]
    assert len(panels) == 8
    for panel in panels:
        run = next(run for run in both.runs if run.label == panel.get_title(loc="left"))
        assert [label.get_text() for label in panel.get_yticklabels()] == [
            agent.worker_id for agent in run.measured.per_agent
        ]
        bars = [one for one in panel.collections if isinstance(one, PolyCollection)]
        assert sum(len(bar.get_paths()) for bar in bars) == len(run.measured.stints) == 25


def test_completion_ends_with_all_tasks(both: Comparison) -> None:
    """Each run's line ends at the number of tasks, when its last was completed."""
    figure = draw("completion", both).figure
    for axes, series in zip(figure.axes, both.series, strict=True):
        for run in series.runs:
            line = next(line for line in axes.lines if line.get_label() == run.label)
            assert _numbers(line.get_ydata()) == list(range(26))
            last = _numbers(line.get_xdata())[-1]
            assert last == pytest.approx(run.figures["makespan_ms"] / 1000)


def test_contention_labels_are_counts(both: Comparison) -> None:
    """Every bar says how many of how many claims were lost, also where it is none."""
    axes = draw("contention", both).figure.axes[0]
    labels = [text.get_text() for text in axes.texts]
    expected = [
        f"{run.figures['claims_lost']:.0f} of {run.figures['claim_attempts']:.0f}"
        for series in both.series
        for run in series.runs
    ]
    assert labels == expected
    assert "0 of 25" in labels


def test_pulls_show_what_was_measured(all_ways: Comparison) -> None:
    """A bar, or a line, for every run, as high as its figure; what was not run leaves room."""
    figure = draw("pulls", all_ways).figure
    refused, calls, times, idle = figure.axes
    runs = [run for series in all_ways.series for run in series.runs]
    assert len(runs) == 10
    for axes, name, factor in ((calls, "calls_per_task", 1), (idle, "idle_time_ratio", 100)):
        heights = [bar.get_height() for container in axes.containers for bar in container]
        assert heights == [factor * run.figures[name] for run in runs]
    shares = [bar.get_height() for container in refused.containers for bar in container]
    assert shares == pytest.approx([100 - 100 * run.figures["claim_success_rate"] for run in runs])
    drawn = [_numbers(line.get_ydata())[0] for line in times.lines]
    assert drawn == [
        run.figures[f"free_to_claimed_{share}_ms"] for run in runs for share in ("p50", "p99")
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(PULLS)


def test_ways_of_pulling_have_a_look_each(all_ways: Comparison, both: Comparison) -> None:
    """A way looks the same whichever others are beside it, and like no other."""
    looks = {one.pull: series_style(one, all_ways.series) for one in all_ways.series}
    assert len(set(looks.values())) == 4
    assert {one.pull: series_style(one, both.series) for one in both.series} == {
        pull: looks[pull] for pull in ("poll", "next")
    }


@pytest.mark.parametrize("kind", ["timeline", "completion"])
def test_panels_of_four_ways_leave_none_out(all_ways: Comparison, kind: ChartKind) -> None:
    """Two columns have room for four ways, with fewer runs by some of them."""
    panels = [axes for axes in draw(kind, all_ways).figure.axes if axes.axison]
    titles = [axes.get_title(loc="left") for axes in panels]
    runs = [run.label for run in all_ways.runs]
    assert sorted(titles) == sorted(runs if kind == "timeline" else PULLS)


@pytest.mark.parametrize("kind", KINDS)
def test_chart_of_nothing_is_drawn(nothing: Comparison, kind: ChartKind, tmp_path: Path) -> None:
    """A run without any figure still makes a chart, which says so."""
    drawing = draw(kind, nothing)
    drawing.figure.savefig(tmp_path / "chart.png")
    assert "partial" in " ".join(text.get_text() for text in drawing.figure.texts)


def test_charts_do_not_depend_on_colour(both: Comparison) -> None:
    """Lines differ in marker or dash, bars in hatch: they can be told apart on grey paper."""
    for kind in ("throughput", "completion"):
        axes = draw(kind, both).figure.axes[0]
        looks = [(line.get_linestyle(), line.get_marker()) for line in axes.lines]
        assert len(looks) == len(set(looks))
    axes = draw("contention", both).figure.axes[0]
    assert len({patch.get_hatch() for patch in axes.patches}) == 2


def test_unfinished_work_is_drawn_as_such(new_run: Callable[..., Any]) -> None:
    """A stint that ended in no completion is hatched."""
    run = new_run("failed")
    run.worker("w")
    run.task("a", "failed", worker="w", started=0)
    run.history("a", (0, "working", "w"), (5, "failed", "w"))
    comparison = compare_runs([analyse_run(run.save(), PLAIN)], PLAIN)
    bars = draw("timeline", comparison).figure.axes[0].collections
    assert [bar.get_hatch() for bar in bars] == ["////"]


def test_ticks_say_where_they_are(both: Comparison) -> None:
    """A share between two whole percents is not called by one of them."""
    figure, _, _ = draw_medians(both)
    axis = next(axes for axes in figure.axes if axes.get_ylabel() == "idle share").yaxis
    told = [axis.get_major_formatter()(share, 0) for share in (0, 0.025, 0.05, 0.1 + 0.2)]
    assert told == ["0 %", "2.5 %", "5 %", "30 %"]
