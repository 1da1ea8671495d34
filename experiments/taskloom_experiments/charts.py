"""The charts of an experiment, as PNG, each with a sentence that says what is seen in it.

Only this module and those it draws with import matplotlib, and only the Agg canvas: no window, no
global state. Which charts are drawn is the definition's business.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from taskloom_experiments.chart_completion import draw_completion
from taskloom_experiments.chart_contention import draw_contention
from taskloom_experiments.chart_medians import draw_medians
from taskloom_experiments.chart_pulls import draw_pulls
from taskloom_experiments.chart_style import DPI
from taskloom_experiments.chart_sweep import draw_sweep
from taskloom_experiments.chart_throughput import draw_throughput
from taskloom_experiments.chart_timeline import draw_timeline
from taskloom_experiments.comparison import Comparison
from taskloom_experiments.definition_parts import DrawnKind
from taskloom_experiments.repeats import variants
from taskloom_experiments.whole_files import written_whole


@dataclass(frozen=True)
class Drawing:
    """A chart as drawn: its title, and the caption that stands under it."""

    figure: Figure
    title: str
    caption: str


@dataclass(frozen=True)
class ChartFile:
    """A chart that was written."""

    kind: DrawnKind
    file: Path
    title: str
    caption: str


def save_charts(comparison: Comparison, prefix: str) -> tuple[ChartFile, ...]:
    """Draw the definition's charts to ``<prefix><kind>.png``; the folder must be there.

    Of runs that were repeated those of medians are drawn instead, for the others show single runs.
    """
    written = []
    for kind in _kinds(comparison):
        drawing = draw(kind, comparison)
        file = Path(f"{prefix}{kind}.png")
        with written_whole(file) as unfinished:
            drawing.figure.savefig(unfinished, dpi=DPI, format="png")
        written.append(ChartFile(kind, file, drawing.title, drawing.caption))
    return tuple(written)


def _kinds(comparison: Comparison) -> tuple[DrawnKind, ...]:
    repeated = variants(comparison.runs)
    if not repeated:
        return comparison.definition.charts
    if any(run.record and run.record.swept for run in comparison.runs):
        return ("sweep",)
    return ("medians",)


def draw(kind: DrawnKind, comparison: Comparison) -> Drawing:
    """Draw one of them."""
    drawers: dict[DrawnKind, Callable[[Comparison], tuple[Figure, str, str]]] = {
        "throughput": draw_throughput,
        "timeline": draw_timeline,
        "completion": draw_completion,
        "contention": draw_contention,
        "pulls": draw_pulls,
        "medians": draw_medians,
        "sweep": draw_sweep,
    }
    return Drawing(*drawers[kind](comparison))
