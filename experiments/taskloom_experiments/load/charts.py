"""The curves of a measurement, drawn: a chart each for all curves that belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from taskloom_experiments import chart_style as style
from taskloom_experiments.load.measured import Curve, Measured

_KNEE = "knee"
_MOST_MARKERS = 30  # on a line


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart shows; ``log_x`` and ``log_y``: on a logarithmic axis."""

    title: str
    x: str
    y: str
    log_x: bool = True
    log_y: bool = False


_COST = "server CPU for one, in no-op calls"
CHARTS = {
    "latency by rate": Chart(
        "Latency by rate, from when a call was to begin",
        "claims and completions a second, or half the no-op calls",
        "ms",
        log_x=False,
        log_y=True,
    ),
    "throughput by agents": Chart(
        "Throughput by number of agents, closed loop", "agents", "a second"
    ),
    "cost by tasks": Chart("Cost by size", "tasks in the graph", _COST),
    "cost by ready share": Chart("Cost by ready share", "share of the tasks that is ready", _COST),
    "cost by tag requirements": Chart("Cost by tag requirements", "different requirements", _COST),
    "time to tell all": Chart(
        "From one event, or no-op message, to the last who has it", "who hear it", "ms", log_y=True
    ),
    "memory over time": Chart("Memory of the server", "minutes", "MiB", log_x=False),
    "descriptors and threads over time": Chart(
        "What the server has open", "minutes", "number", log_x=False
    ),
    "files over time": Chart("Files of the server", "minutes", "MiB", log_x=False),
}


def draw(measured: Sequence[Measured], machine: str, folder: Path) -> list[Path]:
    """Draw all charts for which there are curves, as PNG; their files."""
    curves: dict[str, list[Curve]] = {}
    for one in measured:
        for curve in one.curves:
            curves.setdefault(curve.chart, []).append(curve)
    files = []
    for name, chart in CHARTS.items():
        if name in curves:
            files.append(folder / f"{name.replace(' ', '-')}.png")
            _draw(chart, curves[name], machine, files[-1])
    return files


def _draw(chart: Chart, curves: Sequence[Curve], machine: str, file: Path) -> None:
    figure = style.new_figure(8, 4.8)
    axes = figure.add_subplot()
    lines = [curve for curve in curves if curve.label != _KNEE]
    for index, curve in enumerate(lines):
        look = style.STYLES[index % len(style.STYLES)]
        axes.plot(
            *zip(*curve.points, strict=True),
            color=look.colour,
            linestyle=look.line,
            marker=look.marker if len(curve.points) <= _MOST_MARKERS else None,
            markersize=6,
            linewidth=2,
            label=curve.label,
        )
    _scale(axes, chart, sorted({x for curve in lines for x, _ in curve.points}))
    for curve in curves:
        if curve.label == _KNEE:
            axes.axvline(curve.points[0][0], color=style.INK, linewidth=1.2, linestyle=(0, (1, 2)))
            axes.text(
                curve.points[0][0],
                0.98,
                " knee",
                transform=axes.get_xaxis_transform(),
                va="top",
                fontsize=8.5,
                color=style.INK,
            )
    axes.legend(fontsize=8.5, frameon=False, loc="best")
    style.dress(axes, chart.x, chart.y)
    style.head(figure, chart.title, machine)
    figure.savefig(file)


def _scale(axes: Axes, chart: Chart, places: Sequence[float]) -> None:
    if chart.log_x:
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(
            places, [f"{place:,g}" if place < 1 else f"{place:,.0f}" for place in places]
        )
    else:
        axes.set_xlim(left=0)
    if chart.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
