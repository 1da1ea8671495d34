"""Medians of repeats by number of agents, each with its interval: what each way costs and gives."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from taskloom_experiments import chart_style as style
from taskloom_experiments.catalogue import METRICS
from taskloom_experiments.comparison import Comparison
from taskloom_experiments.formatting import listed, plural, show
from taskloom_experiments.repeats import Variant, variants

_PANELS = (
    ("throughput_per_agent", "tasks an hour, an agent"),
    ("idle_time_ratio", "idle share"),
    ("claim_retries_per_task", "claims refused a task"),
    ("gini_coefficient", "Gini of tasks per agent"),
    ("cost_per_task_usd", "cost of a task (US dollars)"),
    ("calls_per_task", "calls a task"),
)


def draw_medians(comparison: Comparison) -> tuple[Figure, str, str]:
    """The figure, its title and its caption."""
    title = "What each way to coordinate gives and costs, by number of agents"
    found = [one.whole for one in variants(comparison.runs)]
    found = [one for one in found if one.runs]
    ways = list(dict.fromkeys(one.way for one in found))
    figure = style.new_figure(9.5, 5.6)
    panels = figure.subplots(2, 3).flat
    for axes, (name, label) in zip(panels, _PANELS, strict=True):
        _panel(axes, found, ways, name, label)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=9
        )
    style.entitle(figure, title, comparison)
    return figure, title, _caption(found, ways)


def _panel(axes: Axes, found: list[Variant], ways: list[str], name: str, label: str) -> None:
    counts = sorted({one.agents for one in found})
    for position, way in enumerate(ways):
        points = [
            (counts.index(one.agents) + 0.09 * (position - (len(ways) - 1) / 2), interval)
            for one in sorted(found, key=lambda one: one.agents)
            if one.way == way and (interval := one.interval(name))
        ]
        if not points:
            continue
        look = style.way_style(way)
        middles = [interval.median for _, interval in points]
        axes.errorbar(
            [place for place, _ in points],
            middles,
            yerr=[
                [interval.median - interval.low for _, interval in points],
                [interval.high - interval.median for _, interval in points],
            ],
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            markersize=5,
            linewidth=1.5,
            elinewidth=1,
            capsize=2,
            label=way,
        )
    style.dress(axes, "agents", label)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    unit = METRICS[name].unit
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:g} %" if unit == "ratio" else f"{value:g}")
    )


def _caption(found: list[Variant], ways: list[str]) -> str:
    if not found:
        return "No run came to its end, so there is nothing to show."
    most = max(one.agents for one in found)
    told = []
    for way in ways:
        last = next((one for one in found if (one.way, one.agents) == (way, most)), None)
        rate = last.interval("tasks_per_hour") if last else None
        if rate:
            told.append(f"{way} {show(rate.median, 'tasks/h')}")
    return (
        f"Medians over repeats, with their 95 % bootstrap intervals. With {plural(most, 'agent')} "
        f"the tasks completed an hour are: {listed(told)}."
    )
