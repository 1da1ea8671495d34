"""Claims refused because another worker had the task, by number of agents."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from taskloom_experiments import chart_style as style
from taskloom_experiments.comparison import Comparison
from taskloom_experiments.formatting import listed


def draw_contention(comparison: Comparison) -> tuple[Figure, str, str]:
    """The figure, its title and its caption."""
    title = "Claims lost to another worker, by number of agents"
    figure = style.new_figure(8, 4.2)
    axes = figure.add_subplot()
    agents = sorted({run.agents for run in comparison.runs if run.agents})
    width = 0.76 / len(comparison.series)
    highest = 0.0
    for position, series in enumerate(comparison.series):
        look = style.series_style(series, comparison.series)
        counted = [run for run in series.runs if run.agents and "failed_claim_pct" in run.figures]
        shift = (position - (len(comparison.series) - 1) / 2) * width
        places = [agents.index(run.agents) + shift for run in counted]
        heights = [run.figures["failed_claim_pct"] for run in counted]
        highest = max([highest, *heights])
        bars = axes.bar(
            places,
            heights,
            width * 0.92,
            color=look.colour,
            hatch=look.hatch,
            edgecolor="white",
            linewidth=0.8,
            label=series.label,
        )
        gap = " " if len(comparison.series) <= 2 else "\n"  # more bars leave no room on a line
        labels = [
            f"{run.figures['claims_lost']:.0f}{gap}of {run.figures['claim_attempts']:.0f}"
            for run in counted
        ]
        axes.bar_label(bars, labels, padding=3, fontsize=8, color=look.colour)
    if not axes.patches:
        style.say(axes, "these databases do not count claims")
    elif len(comparison.series) > 1:
        axes.legend(fontsize=8.5, frameon=False, loc="upper left")
    style.dress(axes, "agents", "claims lost (% of claims tried)")
    axes.set_xticks(range(len(agents)), [str(count) for count in agents])
    axes.set_xlim(-0.6, len(agents) - 0.4)
    axes.set_ylim(0, max(1.0, highest * 1.3))
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0 if highest > 4 else 1))
    style.entitle(figure, title, comparison)
    return figure, title, _caption(comparison)


def _caption(comparison: Comparison) -> str:
    told = []
    for series in comparison.series:
        counted = [run for run in series.runs if "claims_lost" in run.figures]
        lost = sum(run.figures["claims_lost"] for run in counted)
        tried = sum(run.figures["claim_attempts"] for run in counted)
        if counted:
            told.append(f"{series.label} lost {lost:,.0f} of {tried:,.0f} claims")
    if not told:
        return "These databases do not count claims."
    return (
        "The share of claims refused because another worker had the task, from the counters of the "
        f"workers; the labels are counts. Over all runs, {listed(told)}."
    )
