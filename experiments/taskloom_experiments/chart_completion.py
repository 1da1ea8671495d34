"""Tasks completed over time, a line for every run, a panel for every way of pulling."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from taskloom_experiments import chart_style as style
from taskloom_experiments.analysis import Run
from taskloom_experiments.comparison import Comparison
from taskloom_experiments.formatting import duration


def draw_completion(comparison: Comparison) -> tuple[Figure, str, str]:
    """The figure, its title and its caption."""
    title = "Tasks completed over time, by run"
    panels = comparison.series
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = style.new_figure(8 if columns == 1 else 10, 1.2 + 3.4 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    longest = max((run.figures.get("makespan_ms", 0.0) for run in comparison.runs), default=0.0)
    unit, divisor = style.time_scale(longest)
    counts = sorted({run.agents for run in comparison.runs})
    for axes, series in zip(grid.flat, panels, strict=False):
        for run in series.runs:
            look = style.STYLES[counts.index(run.agents) % len(style.STYLES)]
            elapsed = [ms / divisor for ms in _completions(run)]
            done = list(range(len(elapsed) + 1))
            axes.step(
                [0, *elapsed],
                done,
                where="post",
                color=look.colour,
                linestyle=look.line,
                linewidth=1.8,
                marker=look.marker,
                markersize=5,
                markevery=max(1, len(done) // 6),
                label=f"{run.label}{', partial' if run.partial else ''}",
            )
            axes.fill_between([0, *elapsed], done, step="post", color=look.colour, alpha=0.06)
        total = max((_to_do(run) for run in series.runs), default=0)
        axes.axhline(total, color=style.MUTED, linewidth=1, linestyle=(0, (1, 2)))
        axes.legend(fontsize=8.5, frameon=False, loc="lower right")
        style.dress(axes, f"time since the first task was started ({unit})", "", grid="both")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if len(panels) > 1:
            axes.set_title(
                series.label, loc="left", fontsize=9.5, fontweight="bold", color=style.INK, pad=5
            )
    for axes in grid[:, 0]:
        axes.set_ylabel("tasks completed by agents", fontsize=9)
    grid[0][0].set_xlim(left=0)
    grid[0][0].set_ylim(bottom=0)
    style.entitle(figure, title, comparison)
    return figure, title, _caption(comparison)


def _completions(run: Run) -> list[int]:
    """When agents completed tasks, in ms after the first start."""
    if run.measured.window is None:
        return []
    start = run.measured.window.start
    return sorted(
        task.completed_at - start
        for task in run.tables.tasks
        if task.worker_id and task.status == "completed" and task.completed_at is not None
    )


def _to_do(run: Run) -> int:
    """The tasks there are for agents: those that are not mere parents that end by themselves."""
    return sum(
        1 for task in run.tables.tasks if not (task.status == "completed" and not task.worker_id)
    )


def _caption(comparison: Comparison) -> str:
    times = [
        (run.figures["makespan_ms"], run) for run in comparison.runs if "makespan_ms" in run.figures
    ]
    if not times:
        return "No agent completed a task."
    shortest, fastest = min(times, key=lambda pair: pair[0])
    longest, slowest = max(times, key=lambda pair: pair[0])
    spread = (
        f" {fastest.label} was done after {duration(shortest)}, {slowest.label} after "
        f"{duration(longest)}."
        if fastest is not slowest
        else f" It took {duration(shortest)}."
    )
    return (
        "Each step is a task completed by an agent; the dotted line is all there is to do, and a "
        f"flat stretch is time in which nothing was completed.{spread}"
    )
