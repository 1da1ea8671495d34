"""What each way of pulling costs: a panel for each cost, by number of agents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from taskloom_experiments import chart_style as style
from taskloom_experiments.analysis import Run
from taskloom_experiments.comparison import Comparison, Series
from taskloom_experiments.formatting import listed

_GROUP_WIDTH = 0.84
_HEADROOM = 1.15  # for the labels
_LABEL_POINTS = 7


@dataclass(frozen=True)
class _Cost:
    """A panel of bars: what it shows, its axis, and a run's value, None where it is not known."""

    title: str
    axis: str
    value: Callable[[Run], float | None]


def _refused_percent(run: Run) -> float | None:
    rate = run.figures.get("claim_success_rate")
    return None if rate is None else 100 * (1 - rate)


def _calls(run: Run) -> float | None:
    return run.figures.get("calls_per_task")


def _idle_percent(run: Run) -> float | None:
    ratio = run.figures.get("idle_time_ratio")
    return None if ratio is None else 100 * ratio


_COSTS = (
    _Cost("Claims refused", "% of claims tried", _refused_percent),
    _Cost("Calls", "per completed task", _calls),
    _Cost("Agents idle", "% of their time", _idle_percent),
)


def draw_pulls(comparison: Comparison) -> tuple[Figure, str, str]:
    """The figure, its title and its caption."""
    title = "What each way of pulling costs, by number of agents"
    figure = style.new_figure(10, 6.6)
    grid = figure.subplots(2, 2)
    agents = sorted({run.agents for run in comparison.runs if run.agents})
    refused, calls, times, idle = grid.flat
    for axes, cost in zip((refused, calls, idle), _COSTS, strict=True):
        _draw_bars(axes, cost, comparison, agents)
    _draw_times(times, comparison, agents)
    for axes in grid.flat:
        axes.set_xticks(range(len(agents)), [str(count) for count in agents])
        axes.set_xlim(-0.6, len(agents) - 0.4)
    handles, labels = refused.get_legend_handles_labels()
    if len(comparison.series) > 1:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=len(labels),
            fontsize=9.5,
            frameon=False,
        )
    style.entitle(figure, title, comparison)
    return figure, title, _caption(comparison)


def _draw_bars(axes: Axes, cost: _Cost, comparison: Comparison, agents: Sequence[int]) -> None:
    highest = 0.0
    for series in comparison.series:
        look = style.series_style(series, comparison.series)
        known = [(run, value) for run in series.runs if (value := cost.value(run)) is not None]
        heights = [value for _, value in known]
        highest = max([highest, *heights])
        bars = axes.bar(
            [_place(run, series, comparison, agents) for run, _ in known],
            heights,
            _width(comparison) * 0.9,
            color=look.colour,
            hatch=look.hatch,
            edgecolor="white",
            linewidth=0.6,
            label=series.label,
        )
        labels = [f"{value:.1f}" if 0 < value < 10 else f"{value:.0f}" for value in heights]
        axes.bar_label(bars, labels, padding=2, fontsize=_LABEL_POINTS, color=style.INK)
    _dress(axes, cost.title, cost.axis)
    axes.set_ylim(0, highest * _HEADROOM or 1)
    if not axes.patches:
        style.say(axes, "not counted in these runs")


def _draw_times(axes: Axes, comparison: Comparison, agents: Sequence[int]) -> None:
    """Medians, and lines from them to the 99th percentiles; logarithmic above 1 ms."""
    highest = 1.0
    for series in comparison.series:
        look = style.series_style(series, comparison.series)
        for run in series.runs:
            median, high = (run.figures.get(f"free_to_claimed_{p}_ms") for p in ("p50", "p99"))
            if median is None or high is None:
                continue
            highest = max(highest, high)
            place = _place(run, series, comparison, agents)
            axes.vlines(place, median, high, color=look.colour, linewidth=2)
            axes.plot(place, median, marker=look.marker, color=look.colour, markersize=7)
            axes.plot(place, high, marker="_", color=look.colour, markersize=8, markeredgewidth=2)
            for value, offset, above in ((median, -6, "top"), (high, 3, "bottom")):
                axes.annotate(
                    f"{value:.0f}",
                    (place, value),
                    xytext=(0, offset),
                    textcoords="offset points",
                    ha="center",
                    va=above,
                    fontsize=_LABEL_POINTS,
                    color=style.INK,
                )
    _dress(axes, "Task ready and agent free, until claimed", "ms: median, and line to p99")
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    axes.set_ylim(-0.9, highest * 2.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:,.0f}" if ms >= 0 else ""))
    if not axes.lines:
        style.say(axes, "not told in these runs")


def _dress(axes: Axes, title: str, axis: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=style.INK, pad=6)
    style.dress(axes, "agents", axis)


def _width(comparison: Comparison) -> float:
    return _GROUP_WIDTH / len(comparison.series)


def _place(run: Run, series: Series, comparison: Comparison, agents: Sequence[int]) -> float:
    shift = comparison.series.index(series) - (len(comparison.series) - 1) / 2
    return agents.index(run.agents) + shift * _width(comparison)


def _caption(comparison: Comparison) -> str:
    told = []
    for series in comparison.series:
        counted = [run for run in series.runs if "claim_retry_count" in run.figures]
        if counted:
            refused = sum(run.figures["claim_retry_count"] for run in counted)
            tried = sum(run.figures["claim_attempts"] for run in counted)
            told.append(f"{series.label} {refused:,.0f} of {tried:,.0f}")
    refusals = f" Claims refused over all runs: {listed(told)}." if told else ""
    timed = [int(run.figures.get("claims_timed", 0)) for run in comparison.runs]
    samples = f"{min(timed)} to {max(timed)}" if min(timed) < max(timed) else f"{min(timed)}"
    return (
        "Less is better in every panel. The time is counted for each claim, from when the task was "
        "ready and the agent that took it had none, whichever came later, to the claim: "
        f"{samples} claims a run, and of fewer than 100 the p99 is the longest. Idle is also who "
        f"has nothing left to do at the end of a run.{refusals}"
    )
