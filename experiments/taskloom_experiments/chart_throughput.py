"""Throughput by number of agents, with what linear scaling and a perfect scheduler would give."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from taskloom_experiments import chart_style as style
from taskloom_experiments.comparison import Comparison, Series
from taskloom_experiments.formatting import plural, show


def draw_throughput(comparison: Comparison) -> tuple[Figure, str, str]:
    """The figure, its title and its caption."""
    title = "Throughput by number of agents, against linear and best possible"
    figure = style.new_figure(8, 4.8)
    axes = figure.add_subplot()
    agents = sorted({run.agents for run in comparison.runs if run.agents})

    best = {
        count: max(
            run.figures.get("best_tasks_per_hour", 0.0)
            for run in comparison.runs
            if run.agents == count
        )
        for count in agents
    }
    alone = max((series.throughput(1) or 0.0 for series in comparison.series), default=0.0)
    if alone and len(agents) > 1:
        axes.plot(
            [0, agents[-1]],
            [0, alone * agents[-1]],
            color=style.MUTED,
            linestyle=(0, (1, 2)),
            linewidth=1.4,
            label="linear: one agent's throughput times the agents",
        )
    if any(best.values()):
        axes.plot(
            agents,
            [best[count] for count in agents],
            color=style.INK,
            linestyle=(0, (6, 2)),
            linewidth=1.4,
            marker="_",
            markersize=12,
            label="best possible for this graph",
        )
    several = len(comparison.series) > 1
    for position, series in enumerate(comparison.series):
        look = style.series_style(series, comparison.series)
        points = [
            (run.agents, rate) for run in series.runs if (rate := series.rate(run)) is not None
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
                # hollow and larger behind, so that lines which coincide are all seen
                markersize=5 + 3 * (len(comparison.series) - 1 - position) if several else 7,
                markerfacecolor="white" if series is not comparison.series[-1] else look.colour,
                markeredgewidth=1.6,
                linewidth=2,
                label=_measured(series, comparison),
            )
    _label_shares(axes, comparison)
    if not axes.lines:
        style.say(axes, "no agent completed a task")
    else:
        axes.legend(fontsize=8.5, frameon=False, loc="upper left")
    style.dress(axes, "agents", "tasks completed per hour (real time)")
    axes.set_xticks(agents)
    axes.set_xlim(0, max(agents, default=1) * 1.06)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: show(rate, "tasks/h")))
    style.entitle(figure, title, comparison)
    return figure, title, _caption(comparison)


def _measured(series: Series, comparison: Comparison) -> str:
    return f"measured: {series.label}" if len(comparison.series) > 1 else "measured"


def _label_shares(axes: Axes, comparison: Comparison) -> None:
    """Write under the lowest point of each number of agents what share of the best it reached."""
    lowest: dict[int, tuple[float, float]] = {}
    for series in comparison.series:
        for run in series.runs:
            rate, share = series.rate(run), run.figures.get("best_possible_efficiency")
            if rate is not None and share is not None:
                lowest[run.agents] = min(lowest.get(run.agents, (rate, share)), (rate, share))
    for agents, (rate, share) in lowest.items():
        axes.annotate(
            f"{100 * share:.0f} %",
            (agents, rate),
            xytext=(9, -7),
            textcoords="offset points",
            va="top",
            fontsize=8.5,
            color=style.INK,
        )


def _caption(comparison: Comparison) -> str:
    told = []
    for series in comparison.series:
        run = series.runs[-1]
        reached = run.figures.get("best_possible_efficiency")
        scaling = run.figures.get("scaling_efficiency")
        if reached is None:
            continue
        linear = "" if scaling is None else f"{100 * scaling:.0f} % of linear and "
        name = f"{series.label} " if len(comparison.series) > 1 else ""
        told.append(f"{name}{linear}{100 * reached:.0f} % of the best possible")
    if not told:
        return "No agent completed a task, so there is no throughput to show."
    most = comparison.series[0].runs[-1].agents
    return (
        f"Tasks completed per real hour. Reached with {plural(most, 'agent')}: {'; '.join(told)}. "
        "The labels are the share of the best possible, where two runs differ the lower one. "
        "Where the best possible line falls behind the linear one, the longest chain of tasks is "
        "the limit, whoever does the work."
    )
