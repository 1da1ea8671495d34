"""Who did which task when: a lane for every agent, a panel for every run.

The definition calls it a heatmap of tasks by worker. Drawn over time it says the same (each task
is in one lane) and shows besides where agents had nothing to do, and which chain held up the end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from taskloom_experiments import chart_style as style
from taskloom_experiments.analysis import Run
from taskloom_experiments.comparison import Comparison, Series
from taskloom_experiments.formatting import listed
from taskloom_experiments.history import Span

_COLUMNS = 2
_LANE_INCHES = 0.2
_PANEL_INCHES = 0.62  # axis, label and air
_LETTER_POINTS = 3.6
_FONT_POINTS = 6.0
_FEWEST_LETTERS = 7  # of a name that is cut
_LANE = "#eeeeee"
_LANE_HEIGHT = 0.82


def draw_timeline(comparison: Comparison) -> tuple[Figure, str, str]:
    """The figure, its title and its caption."""
    title = "Who worked which task when"
    columns = min(len(comparison.series), _COLUMNS)
    rows = list(_rows(comparison.series, columns))
    lanes = [max(len(_workers(run)) if run else 1 for run in row) for row in rows]
    heights = [_LANE_INCHES * max(1.3, count) + _PANEL_INCHES for count in lanes]
    width = 9.0 if columns == 1 else 12.0
    figure = style.new_figure(width, sum(heights) + 1.0)
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    unit, divisor = style.time_scale(max(_length_ms(run) for run in comparison.runs))
    points = 72 * (width / columns - 1.2)
    last = {series.runs[-1].label for series in comparison.series}
    for panels, row in zip(grid, rows, strict=True):
        longest = max(_length_ms(run) for run in row if run)
        for axes, run in zip(panels, row, strict=True):
            if run is None:
                axes.set_axis_off()
                continue
            _panel(axes, run, longest / divisor, _Scale(divisor, points / (longest / divisor)))
            if run.label in last:
                label = f"time since the first task was started ({unit})"
                axes.set_xlabel(label, fontsize=9, color=style.INK)
    figure.legend(
        handles=[
            *(
                Patch(facecolor=look.colour, edgecolor="white", hatch=look.hatch, label=look.label)
                for look in (_COMPLETED, _ON_CHAIN, _NOT_COMPLETED)
            ),
            Patch(facecolor=_LANE, label="nothing to do, or looking for it"),
        ],
        loc="outside lower left",
        ncols=4,
        fontsize=8.5,
        frameon=False,
    )
    style.entitle(figure, title, comparison)
    return figure, title, _caption(comparison)


def _rows(series: Sequence[Series], columns: int) -> Iterator[list[Run | None]]:
    """The runs row by row: a column for each series, so many beside each other, then the rest."""
    for start in range(0, len(series), columns):
        beside = series[start : start + columns]
        for row in range(max(len(one.runs) for one in beside)):
            runs = [one.runs[row] if row < len(one.runs) else None for one in beside]
            yield [*runs, *[None] * (columns - len(runs))]


@dataclass(frozen=True)
class _Scale:
    """How time is laid out: ms in a unit of the axis, points on paper for such a unit."""

    unit_ms: int
    points: float

    def place(self, stint: Span, start: int) -> tuple[float, float]:
        """Where a stint begins and how long it is, on the axis."""
        return (stint.start - start) / self.unit_ms, (stint.end - stint.start) / self.unit_ms


def _panel(axes: Axes, run: Run, longest: float, scale: _Scale) -> None:
    start = run.measured.window.start if run.measured.window else 0
    workers = _workers(run)
    chain = set(run.measured.best.critical_path) if run.measured.best else set()
    for lane, worker in enumerate(workers):
        whole = _length_ms(run) / scale.unit_ms
        axes.barh(lane, whole, height=_LANE_HEIGHT, color=_LANE, linewidth=0)
        stints: dict[_Look, list[Span]] = {}
        for stint in run.measured.stints:
            if stint.worker_id == worker:
                stints.setdefault(_look(stint, chain), []).append(stint)
        for look, alike in stints.items():
            axes.broken_barh(
                [scale.place(stint, start) for stint in alike],
                (lane - _LANE_HEIGHT / 2, _LANE_HEIGHT),
                facecolors=look.colour,
                hatch=look.hatch,
                edgecolor="white",
                linewidth=0.7,
            )
            for stint in alike:
                left, width = scale.place(stint, start)
                if name := _fitted(stint.task_id, width * scale.points):
                    _write(axes, left + width / 2, lane, name, look)
    style.dress(axes, "", "", grid="")
    axes.set_yticks(range(len(workers)), [_short(worker) for worker in workers], fontsize=7)
    axes.set_ylim(max(len(workers), 1) - 0.5, -0.5)
    axes.set_xlim(0, longest)
    axes.set_title(
        f"{run.label}{', partial' if run.partial else ''}",
        loc="left",
        fontsize=9.5,
        fontweight="bold",
        color=style.INK,
        pad=4,
    )


@dataclass(frozen=True)
class _Look:
    """How a bar looks, and the name on it: its ink, and what is behind it."""

    colour: str
    label: str
    hatch: str | None = None
    ink: str = style.INK
    paper: str = "none"


_COMPLETED = _Look(style.SKY, "worked and completed")
_ON_CHAIN = _Look(style.BLUE, "the same, on the longest chain", ink="white")
_NOT_COMPLETED = _Look(style.VERMILION, "worked, not completed", hatch="////", paper="white")


def _look(stint: Span, chain: set[str]) -> _Look:
    if stint.next_status != "completed":
        return _NOT_COMPLETED
    return _ON_CHAIN if stint.task_id in chain else _COMPLETED


def _write(axes: Axes, x: float, lane: int, name: str, look: _Look) -> None:
    axes.text(
        x,
        lane,
        name,
        ha="center",
        va="center",
        fontsize=_FONT_POINTS,
        color=look.ink,
        bbox={"facecolor": look.paper, "edgecolor": "none", "pad": 1.0},
        clip_on=True,
    )


def _fitted(name: str, points: float) -> str:
    """As much of a task's name as has room on so many points, or nothing."""
    letters = int((points - 4) / _LETTER_POINTS)
    if letters >= len(name):
        return name
    return f"{name[: letters - 1]}…" if letters >= _FEWEST_LETTERS else ""


def _workers(run: Run) -> list[str]:
    return [agent.worker_id for agent in run.measured.per_agent]


def _length_ms(run: Run) -> float:
    window = run.measured.window
    return max(1.0, window.end - window.start) if window else 1_000.0


def _short(worker: str) -> str:
    return worker if len(worker) <= 16 else f"…{worker[-15:]}"


def _caption(comparison: Comparison) -> str:
    idle = []
    for series in comparison.series:
        run = series.runs[-1]
        share = run.figures.get("idle_time_ratio")
        floor = run.figures.get("idle_time_floor")
        if share is not None and floor is not None:
            idle.append(
                f"in {run.label} they worked {100 * (1 - share):.0f} % of their time, of at most "
                f"{100 * (1 - floor):.0f} %"
            )
    told = f" With the most agents, {listed(idle)}." if idle else ""
    return (
        "A lane is an agent, a bar a task it worked; panels of one row share their time axis, rows "
        f"do not. The longest chain of tasks that wait for each other is darker.{told}"
    )
