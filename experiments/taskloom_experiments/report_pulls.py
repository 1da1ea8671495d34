"""The ways of pulling side by side: one table of the report, and what its columns say."""

from taskloom_experiments.analysis import Run
from taskloom_experiments.comparison import Comparison
from taskloom_experiments.formatting import duration
from taskloom_experiments.report_tables import NONE, figure, table

_ENOUGH_FOR_A_99TH = 100


def pulls_table(comparison: Comparison) -> str:
    """A row a run, those with equally many agents together, by their ways of pulling."""
    header = ["agents", "pull", "claims tried", "refused", "calls per completed task"]
    header += ["ready → claimed: p50", "p99", "ready, and agent free → claimed: p50", "p99"]
    header += ["of n claims", "idle"]
    runs = [run for series in comparison.series for run in series.runs]
    rows = [
        [
            str(run.agents),
            run.pull or NONE,
            figure(run, "claim_attempts", "count"),
            figure(run, "claim_retry_count", "count"),
            figure(run, "calls_per_task", "number"),
            *(_time(run, "ready_to_claimed", percentile) for percentile in ("p50", "p99")),
            *(_time(run, "free_to_claimed", percentile) for percentile in ("p50", "p99")),
            figure(run, "claims_timed", "count"),
            figure(run, "idle_time_ratio", "ratio"),
        ]
        for run in sorted(runs, key=lambda run: run.agents)  # which keeps the order of the pulls
    ]
    return table(header, rows)


def _time(run: Run, name: str, percentile: str) -> str:
    value = run.figures.get(f"{name}_{percentile}_ms")
    return NONE if value is None else duration(value)


def about_pulls(comparison: Comparison) -> str:
    """What the columns say, and what they do not."""
    told = [
        "Refused are claims tried less claims granted, by the server's counters; calls are those "
        "that the agents counted themselves, messages on streams among them. How long a task was "
        "ready until it was claimed is told of every claim by the events, in whole ms; what was "
        "ready before the first agent came counts from then. Where there are more ready tasks than "
        "agents, most of it is waiting for an agent to be free. From when the task was ready *and* "
        "the agent that took it was free, whichever came later, it is the way of pulling that "
        "takes the time."
    ]
    least = min((run.figures.get("claims_timed", 0) for run in comparison.runs), default=0)
    if 0 < least < _ENOUGH_FOR_A_99TH:
        told.append(
            f"A p99 of fewer than {_ENOUGH_FOR_A_99TH} claims is the longest of them, and one run "
            "does not settle it."
        )
    why_not = {run.missing.get("free_to_claimed_p50_ms") for run in comparison.runs} - {None}
    told += [f"Not told, where the cell is empty: {why}." for why in sorted(map(str, why_not))]
    return "\n\n".join(told)
