"""What was found, in a few sentences, each made of figures of the runs and of nothing else."""

from pathlib import Path

from taskloom_experiments.analysis import Run
from taskloom_experiments.comparison import Comparison, Series
from taskloom_experiments.formatting import listed, plural, show


def findings(comparison: Comparison) -> list[str]:
    """The summary: what was run, throughput, contention, pulling, distribution, criteria."""
    told = [
        _what_was_run(comparison),
        _throughput(comparison),
        _contention(comparison),
        _pulling(comparison),
        _distribution(comparison),
        _criteria(comparison),
    ]
    return [sentence for sentence in told if sentence]


def partial_runs(comparison: Comparison) -> list[str]:
    """A clause for each run that is not whole."""
    return [f"`{run.label}` ({run.partial})" for run in comparison.runs if run.partial]


def _what_was_run(comparison: Comparison) -> str:
    runs = comparison.runs
    templates = {f"`{Path(run.record.template).name}`" for run in runs if run.record}
    of_what = f" of {listed(sorted(templates))}" if templates else ""
    agents = [str(count) for count in sorted({run.agents for run in runs})]
    noun = "agent" if agents == ["1"] else "agents"
    pulls = [f"`{series.pull}`" for series in comparison.series if series.pull]
    how = f", by {listed(list(dict.fromkeys(pulls)))}" if pulls else ""
    tasks = sorted({run.figures["completed_by_agents"] for run in runs})
    done = (
        f"agents completed {plural(tasks[0], 'task')} in each"
        if len(tasks) == 1
        else f"agents completed {tasks[0]:,.0f} to {tasks[-1]:,.0f} tasks in each"
    )
    speeds = {run.speed for run in runs if run.speed}
    compressed = f", with time compressed {speeds.pop():,.0f} times" if len(speeds) == 1 else ""
    made = f"{plural(len(runs), 'run')}{of_what} with {listed(agents)} {noun}"
    return f"{made}{how}{compressed}; {done}."


def _throughput(comparison: Comparison) -> str | None:
    told = []
    for series in comparison.series:
        rated = [run for run in series.runs if series.rate(run)]
        if not rated:
            continue
        few, many = rated[0], rated[-1]
        slow, fast = series.rate(few) or 0, series.rate(many) or 0
        clause = f"{_name(series)}{_rate(fast)} with {_agents(many)}"
        if few.agents != many.agents:
            clause = (
                f"{_name(series)}from {_rate(slow)} with {_agents(few)} to {_rate(fast)} with "
                f"{many.agents}, {fast / slow:.2f} times as much where linear would be "
                f"{many.agents / few.agents:.3g}"
            )
        share = many.figures.get("best_possible_efficiency")
        if share is not None:
            best = _rate(many.figures["best_tasks_per_hour"])
            clause += f", {show(share, 'ratio')} of the best possible for this graph ({best})"
        told.append(clause)
    return f"Throughput: {'; '.join(told)}." if told else None


def _name(series: Series) -> str:
    return "" if series.label == "all runs" else f"`{series.label}` "


def _agents(run: Run) -> str:
    return plural(run.agents, "agent")


def _rate(value: float | None) -> str:
    return f"{show(value or 0, 'tasks/h')} tasks/h"


def _contention(comparison: Comparison) -> str | None:
    told = []
    for series in comparison.series:
        counted = [run for run in series.runs if "failed_claim_pct" in run.figures]
        if not counted:
            continue
        lost = sum(run.figures["claims_lost"] for run in counted)
        tried = sum(run.figures["claim_attempts"] for run in counted)
        worst = max(counted, key=lambda run: run.figures["failed_claim_pct"])
        most = (
            f" (most in `{worst.label}`: {show(worst.figures['failed_claim_pct'], 'percent')})"
            if lost
            else ""
        )
        told.append(f"{_name(series)}{lost:,.0f} of {tried:,.0f}{most}")
    return f"Claims lost to another worker: {listed(told)}." if told else None


def _pulling(comparison: Comparison) -> str | None:
    """What each way of pulling cost with the most agents; None where there was one way only."""
    most = max(run.agents for run in comparison.runs)
    told = {}
    for series in comparison.series:
        for run in series.runs:
            if run.agents == most and series.pull:
                told[series.pull] = f"`{series.pull}` {listed(_costs(run))}"
    if len(told) < 2:
        return None
    return f"Costs of pulling, with {plural(most, 'agent')}: {'; '.join(told.values())}."


def _costs(run: Run) -> list[str]:
    figures = run.figures
    told = ["claims not counted"]
    if "claim_retry_count" in figures:
        tried = f"{figures['claim_attempts']:,.0f}"
        told = [f"{figures['claim_retry_count']:,.0f} of {tried} claims refused"]
    if "calls_per_task" in figures:
        told.append(f"{show(figures['calls_per_task'], 'number')} calls a completed task")
    if "free_to_claimed_p50_ms" in figures:
        median, high = (
            show(figures[f"free_to_claimed_{share}_ms"], "ms") for share in ("p50", "p99")
        )
        told.append(f"{median} (p99 {high}) from task ready and agent free to claimed")
    return told


def _distribution(comparison: Comparison) -> str | None:
    most = max(run.agents for run in comparison.runs)
    told = []
    for series in comparison.series:
        for run in series.runs:
            idle, floor = run.figures.get("idle_time_ratio"), run.figures.get("idle_time_floor")
            gini = run.figures.get("gini_coefficient")
            if run.agents == most and None not in (idle, floor, gini):
                told.append(
                    f"{_name(series)}{show(idle or 0, 'ratio')} of their time (at best "
                    f"{show(floor or 0, 'ratio')}), with a Gini coefficient of {gini:.2f}"
                )
    if not told:
        return None
    return f"Idle, and spread of tasks, with {plural(most, 'agent')}: {'; '.join(told)}."


def _criteria(comparison: Comparison) -> str | None:
    told = []
    for series in comparison.series:
        required = [
            one for one in comparison.verdicts if one.series is series and one.criterion.required
        ]
        advisory = [
            one
            for one in comparison.verdicts
            if one.series is series and not one.criterion.required
        ]
        if not required and not advisory:
            continue
        held = [f"{sum(one.outcome == 'pass' for one in required)} of {len(required)} required"]
        if advisory:
            passed = sum(one.outcome == "pass" for one in advisory)
            held.append(f"{passed} of {len(advisory)} advisory")
        missed = [
            f"`{one.criterion.name}`" for one in (*required, *advisory) if one.outcome != "pass"
        ]
        but = f" (not: {listed(missed)})" if missed else ""
        told.append(f"{_name(series)}{' and '.join(held)} criteria hold{but}")
    return f"Success: {'; '.join(told)}." if told else None
