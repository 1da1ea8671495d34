"""The modes of coordination side by side: one table of the report, and what its columns say."""

from taskloom_experiments.analysis import Run
from taskloom_experiments.catalogue import Unit
from taskloom_experiments.comparison import Comparison
from taskloom_experiments.report_tables import NONE, figure, table

_COLUMNS: tuple[tuple[str, str, Unit], ...] = (
    ("wall clock", "wall_clock_ms", "ms"),
    ("over the best possible", "best_possible_distance", "ratio"),
    ("ready → assigned: mean", "dispatch_latency_mean_ms", "ms"),
    ("p99", "dispatch_latency_p99_ms", "ms"),
    ("assigned → working: mean", "pickup_latency_mean_ms", "ms"),
    ("reassigned", "reassignments", "count"),
    ("coordinator", "coordinator_time_ms", "ms"),
    ("its share", "coordinator_share", "ratio"),
    ("idle between tasks, an agent", "idle_between_tasks_ms", "ms"),
    ("first pass", "first_pass_success", "ratio"),
    ("Gini", "gini_coefficient", "number"),
    ("claims refused", "claim_retry_count", "count"),
    ("calls a task", "calls_per_task", "number"),
    ("cost a task", "cost_per_task_usd", "usd"),
)


def modes_table(comparison: Comparison) -> str:
    """A row a run, those with equally many agents together; empty where all of them just pull."""
    runs = [run for series in comparison.series for run in series.runs]
    if all(run.mode in (None, "pull") for run in runs):
        return ""
    header = ["run", "mode", "agents", *(title for title, *_ in _COLUMNS)]
    rows = [
        [
            run.label,
            run.mode or NONE,
            _agents(run),
            *(figure(run, name, unit) for _, name, unit in _COLUMNS),
        ]
        for run in sorted(runs, key=lambda run: run.agents)  # which keeps the order of the series
    ]
    return table(header, rows, figures=slice(2, None))


def _agents(run: Run) -> str:
    """As "1+4" where one hands out tasks to four."""
    coordinators = len(run.record.coordinators) if run.record else 0
    return f"{coordinators}+{run.agents}" if coordinators else str(run.agents)


ABOUT_MODES = (
    "The wall clock runs from the first registration of anybody to the last completion by an "
    "agent. A task is dispatched when it is assigned, and what was ready before anybody was there "
    "counts from then; it is picked up when its agent begins it. The coordinator's time is that in "
    "which it looked, decided and assigned, its calls among it, and not that in which it waited. "
    "Between two tasks an agent has nothing in hand; the time before its first and after its last "
    "is not counted there. Of a task that was decomposed the parts count as worked, so that Gini, "
    "idleness and first pass are of them, and the task itself counts as completed, so that rate "
    "and cost are of the same tasks in every mode; what decomposing takes is no work, and so part "
    "of the distance from the best possible."
)
