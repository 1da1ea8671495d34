"""One look for all charts: colours, lines, markers and hatches that mean the same in each.

The colours are those of Okabe and Ito (2008), which people who see no red or no green can tell
apart; since paper may be grey, every colour also has a marker, a line and a hatch of its own.
"""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from taskloom_experiments.comparison import Comparison, Series
from taskloom_experiments.formatting import listed

DPI = 150
INK, MUTED, GRID = "#222222", "#6b6b6b", "#d9d9d9"
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#56B4E9",
    "#CC79A7",
)


@dataclass(frozen=True)
class Style:
    """How one series looks, as a line or as a bar."""

    colour: str
    line: str | tuple[int, tuple[float, ...]]
    marker: str
    hatch: str


STYLES = (
    Style(BLUE, "-", "o", ""),
    Style(VERMILION, "--", "s", "//"),
    Style(GREEN, "-.", "^", ".."),
    Style(ORANGE, ":", "D", "xx"),
    Style(PURPLE, (0, (5, 1, 1, 1, 1, 1)), "v", "\\\\"),
    Style(SKY, (0, (1, 1)), "P", "++"),
)


_OF_PULLS: dict[str | None, Style] = {
    "next": STYLES[0],
    "poll": STYLES[1],
    "stream": STYLES[2],
    "watch": STYLES[3],
}


_OF_MODES = {
    "push": STYLES[4],
    "hybrid": STYLES[5],
    "relay": Style(INK, "-", "X", "||"),
}


def way_style(way: str) -> Style:
    """A way of pulling, or a mode, looks the same in every chart of repeats and sweeps."""
    return _OF_PULLS.get(way) or _OF_MODES.get(way, STYLES[0])


def series_style(series: Series, all_series: tuple[Series, ...]) -> Style:
    """A way of pulling looks the same in every report that has one series of each."""
    pulls = [one.pull for one in all_series]
    if len(set(pulls)) == len(pulls) and set(pulls) <= _OF_PULLS.keys():
        return _OF_PULLS[series.pull]
    return STYLES[all_series.index(series) % len(STYLES)]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches; it belongs to no window and no global state."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def entitle(figure: Figure, title: str, comparison: Comparison) -> None:
    """What the chart shows, and under it of what: to be called when all else is drawn."""
    head(figure, title, subtitle(comparison))


def head(figure: Figure, title: str, told: str) -> None:
    """A title, and a line in another manner under it: to be called when all else is drawn."""
    # The empty second line keeps the place of the subtitle, which is written in another manner.
    heading = figure.suptitle(
        f"{title}\n", ha="left", fontsize=12.5, fontweight="bold", color=INK, linespacing=1.35
    )
    figure.draw_without_rendering()  # places everything
    left = figure.axes[0].get_position().x0
    heading.set_x(left)
    box = heading.get_window_extent().transformed(figure.transFigure.inverted())
    figure.text(left, box.y0, told, va="bottom", fontsize=9, color=MUTED)


def subtitle(comparison: Comparison) -> str:
    """What was run, in one line."""
    agents = sorted({run.agents for run in comparison.runs})
    counts = listed([str(count) for count in agents])
    told = [f"{comparison.definition.name}: {counts} {'agent' if agents == [1] else 'agents'}"]
    speeds = {run.speed for run in comparison.runs}
    if len(speeds) == 1 and (speed := next(iter(speeds))) and speed != 1:
        told.append(f"time compressed {speed:,.0f} times")
    if any(run.partial for run in comparison.runs):
        told.append("some runs are partial")
    return " · ".join(told)


def dress(axes: Axes, x_label: str, y_label: str, grid: str = "y") -> None:
    """Axis labels with units, a grid behind, and no frame where no axis is."""
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, colors=INK, length=3)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.7)  # type: ignore[arg-type]
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)


def time_scale(longest_ms: float) -> tuple[str, int]:
    """The unit for an axis of time this long, and how many ms it has."""
    return ("min", 60_000) if longest_ms > 600_000 else ("s", 1_000)


def say(axes: Axes, text: str) -> None:
    """A sentence where there is nothing to draw."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED, fontsize=10
    )
