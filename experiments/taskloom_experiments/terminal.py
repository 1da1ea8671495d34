"""A comparison for the terminal: a line a run, then the criteria. The report has the rest."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskloom_experiments.analysis import Run
from taskloom_experiments.catalogue import Unit
from taskloom_experiments.comparison import Comparison
from taskloom_experiments.consoles import PipedConsole
from taskloom_experiments.formatting import show

_COLOURS = {"pass": "green", "fail": "red", "cannot tell": "yellow"}


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print the runs and the criteria, in 80 columns; a figure that is not there is a dash."""
    console = console or PipedConsole()
    runs = _table(comparison.definition.name)
    runs.add_column("run", min_width=12, overflow="fold")
    for heading in (
        "agents",
        "done",
        "took",
        "tasks/h",
        "of best",
        "scale",
        "lost",
        "idle",
    ):
        runs.add_column(heading, justify="right", no_wrap=True)
    for run in comparison.runs:
        name = Text(run.label)
        if run.partial:
            name.append(" partial", style="yellow")
        runs.add_row(name, *_figures(run))
    console.print(runs)
    if not comparison.verdicts:
        return
    criteria = _table("success criteria")
    criteria.add_column("criterion", no_wrap=True)
    criteria.add_column("kind")
    for series in comparison.series:
        criteria.add_column(Text(series.label))
    for criterion in comparison.definition.success_criteria:
        outcomes = [one.outcome for one in comparison.verdicts if one.criterion is criterion]
        criteria.add_row(
            Text(criterion.name),
            "required" if criterion.required else "advisory",
            *(Text(outcome, style=_COLOURS[outcome]) for outcome in outcomes),
        )
    console.print(criteria)


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _figures(run: Run) -> list[str]:
    makespan = run.figures.get("makespan_ms")
    return [
        str(run.agents),
        _shown(run, "completed_by_agents", "count"),
        "-" if makespan is None else f"{makespan / 1000:,.3g} s",
        _shown(run, "tasks_per_hour", "tasks/h"),
        _percent(run, "best_possible_efficiency"),
        _percent(run, "scaling_efficiency"),
        _shown(run, "claims_lost", "count"),
        _percent(run, "idle_time_ratio"),
    ]


def _shown(run: Run, name: str, unit: Unit) -> str:
    value = run.figures.get(name)
    return "-" if value is None else show(value, unit)


def _percent(run: Run, name: str) -> str:
    value = run.figures.get(name)
    return "-" if value is None else f"{100 * value:.0f} %"
