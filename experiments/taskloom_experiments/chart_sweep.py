"""A sweep: the throughput of each way along the values, and where one overtakes another."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from taskloom_experiments import chart_style as style
from taskloom_experiments.bootstrap import median_interval
from taskloom_experiments.comparison import Comparison
from taskloom_experiments.crossovers import BySeed, Crossing, crossings
from taskloom_experiments.formatting import listed
from taskloom_experiments.repeats import Variant, variants

_FIGURE = "throughput_per_agent"
_CLOSE = 0.15
_ABOUT = {
    "agents": ("agents", "number of agents"),
    "decision_s": ("time to decide on an assignment (simulated s)", "time to decide"),
    "crash_rate": ("crashes of an agent (an hour of its life)", "crash rate"),
    "template": ("template", "template"),
}


def draw_sweep(comparison: Comparison) -> tuple[Figure, str, str]:
    """The figure, its title and its caption; of runs that a sweep made."""
    found = [one.whole for one in variants(comparison.runs)]
    found = [one for one in found if one.runs]
    key = _key(found)
    axis, name = _ABOUT[key]
    title = f"Throughput by {name}, and where one way overtakes another"
    figure = style.new_figure(8, 4.8)
    axes = figure.add_subplot()
    values, curves = _curves(found)
    for way, curve in curves.items():
        look = style.way_style(way)
        points = [
            (place, median_interval(list(by_seed.values())))
            for place, by_seed in enumerate(curve)
            if by_seed
        ]
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
            markersize=6,
            linewidth=1.8,
            elinewidth=1,
            capsize=2.5,
            label=way,
        )
    crossed = crossings(curves)
    for numbers, place, height in _marks(crossed):
        axes.plot(
            [place],
            [height],
            marker="o",
            markersize=15,
            markerfacecolor="none",
            markeredgecolor=style.INK,
            markeredgewidth=1.3,
            linestyle="none",
        )
        axes.annotate(
            numbers,
            (place, height),
            xytext=(0, 11),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            fontweight="bold",
            color=style.INK,
        )
    if axes.lines:
        axes.legend(fontsize=9, frameon=False, loc="best")
    else:
        style.say(axes, "no run came to its end")
    style.dress(axes, axis, "tasks completed per hour, an agent")
    axes.set_xticks(range(len(values)), [_shown(key, value) for value in values])
    axes.margins(y=0.12)
    style.entitle(figure, title, comparison)
    return figure, title, caption(key, values, curves, crossed)


def caption(
    key: str,
    values: Sequence[str],
    curves: dict[str, list[BySeed]],
    crossed: Sequence[Crossing],
) -> str:
    """What the chart shows: who overtakes whom, and who leads at both ends."""
    if not curves:
        return "No run came to its end, so there is nothing to show."
    ends: dict[str, list[str]] = {}
    for place in sorted({0, len(values) - 1}):
        ends.setdefault(_leader(curves, place), []).append(f"at {_shown(key, values[place])}")
    leaders = [f"{leader} leads {listed(places)}" for leader, places in ends.items()]
    told = [
        f"({number}) {one.overtaking} overtakes {one.overtaken} "
        f"between {_shown(key, values[int(one.place)])} and "
        f"{_shown(key, values[min(int(one.place) + 1, len(values) - 1)])}"
        for number, one in enumerate(crossed, 1)
    ]
    overtaking = "; ".join(told) if told else "none overtakes another beyond doubt"
    return (
        f"Medians with 95 % bootstrap intervals, higher is better. By {_ABOUT[key][1]}, "
        f"{listed(leaders)}; {overtaking}. A crossing is marked where both sides "
        "of it are settled by pairs of equal seeds. The axis upwards does not begin at 0, and the "
        "values stand at equal distances."
    )


def _marks(crossed: Sequence[Crossing]) -> list[tuple[str, float, float]]:
    """Where to draw what circles, with their numbers: what lies closely together has one."""
    groups: list[list[tuple[int, Crossing]]] = []
    for number, one in enumerate(crossed, 1):
        if groups and one.place - groups[-1][-1][1].place < _CLOSE:
            groups[-1].append((number, one))
        else:
            groups.append([(number, one)])
    return [
        (
            ", ".join(str(number) for number, _ in group),
            fmean(one.place for _, one in group),
            fmean(one.height for _, one in group),
        )
        for group in groups
    ]


def _curves(found: Sequence[Variant]) -> tuple[list[str], dict[str, list[BySeed]]]:
    """The values in the order of the sweep, and of each way its figure by seed at every value."""
    values = list(dict.fromkeys(value for one in found if (value := _value(one))))
    curves: dict[str, list[BySeed]] = {}
    for one in found:
        by_seed = {
            run.record.seed: run.figures[_FIGURE]
            for run in one.runs
            if run.record and _FIGURE in run.figures
        }
        curve = curves.setdefault(one.way, [{} for _ in values])
        for place, value in enumerate(values):
            if _value(one) in ("", value):  # what the sweep does not touch is everywhere the same
                curve[place] = by_seed
    return values, curves


def _leader(curves: dict[str, list[BySeed]], place: int) -> str:
    known = {way: curve[place] for way, curve in curves.items() if curve[place]}
    if not known:
        return "nobody"
    return max(known, key=lambda way: median_interval(list(known[way].values())).median)


def _key(found: Sequence[Variant]) -> str:
    keys = [key for one in found for run in one.runs if run.record for key in run.record.swept]
    return keys[0] if keys else "agents"


def _value(variant: Variant) -> str:
    record = variant.runs[0].record
    return next(iter(record.swept.values()), "") if record else ""


def _shown(key: str, value: str) -> str:
    if key == "template":
        return Path(value).name.split(".")[0]
    unit = {"agents": "", "decision_s": " s", "crash_rate": "/h"}[key]
    return f"{value}{unit}"
