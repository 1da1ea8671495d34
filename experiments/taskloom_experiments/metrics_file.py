"""``metrics.json``: a run's figures for programs. Its shape, which is kept:

    schema_version   1
    label            the run's name in reports
    run              what run.json says, less the agents' counters; null without a run.json
    partial          why the run is not whole; null if it is
    agents           how many
    metrics          {name: number or null}; the names and units are those of ``catalogue``
    not_measured     {name: why it is null}
    per_agent        [{worker_id, tasks_completed, points, working_ms, present_ms, completed_ms,
                     idle_ratio, cost_usd, claim_attempts, claims_granted, claims_lost, calls,
                     empty_polls, between_ms}]; null where it is not counted
    critical_path    ids of the longest chain of tasks that wait for each other, first to last
    queries          {measurement: {columns, rows, cut} or {error}}

Ratios are 0 to 1, times milliseconds, rates per real hour. Names may be added, never change.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taskloom_experiments.analysis import Run
from taskloom_experiments.database import MeasurementError, QueryResult, Value
from taskloom_experiments.whole_files import written_whole

SCHEMA_VERSION = 1


def metrics_of(run: Run) -> dict[str, Any]:
    """A run's figures as ``metrics.json`` has them."""
    record = asdict(run.record) if run.record else None
    if record:
        del record["agent_counters"]
    return {
        "schema_version": SCHEMA_VERSION,
        "label": run.label,
        "run": record,
        "partial": run.partial,
        "agents": run.agents,
        "metrics": {name: run.figures.get(name) for name in sorted({*run.figures, *run.missing})},
        "not_measured": {
            name: why for name, why in sorted(run.missing.items()) if name not in run.figures
        },
        "per_agent": [
            {**asdict(agent), "idle_ratio": agent.idle_ratio} for agent in run.measured.per_agent
        ],
        "critical_path": list(run.measured.best.critical_path) if run.measured.best else [],
        "queries": {name: _answer(answer) for name, answer in run.answers.items()},
    }


def write_metrics(run: Run, file: Path) -> None:
    """Write a run's ``metrics.json``; a run out of a comparison has its scaling efficiency, too."""
    with written_whole(file) as unfinished:
        unfinished.write_text(json.dumps(metrics_of(run), indent=2) + "\n", encoding="utf-8")


def _answer(answer: QueryResult | MeasurementError) -> dict[str, Any]:
    if isinstance(answer, MeasurementError):
        return {"error": answer.reason}
    rows = [[_finite(value) for value in row] for row in answer.rows]
    return {"columns": list(answer.columns), "rows": rows, "cut": answer.cut}


def _finite(value: Value) -> Value:
    """JSON has no infinity; SQLite has."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
