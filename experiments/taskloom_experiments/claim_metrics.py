"""The figures of claims and of waiting: what was tried and refused, and how long who waited.

The rest of a run's figures is in ``metrics``; what each name means is in ``catalogue``.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from taskloom_experiments.claim_times import ClaimTimes, claim_times
from taskloom_experiments.history import Span, Window
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.sheet import Sheet, percentile, total
from taskloom_experiments.tables import Tables


def measure_claims(
    sheet: Sheet, tables: Tables, record: RunRecord | None, worked: Sequence[Span]
) -> None:
    """Fill in what became of claims, and what calls they cost; the tasks are counted already."""
    _claims(sheet, tables, len({stint.task_id for stint in worked}))
    _calls(sheet, record)
    _claim_times(sheet, claim_times(tables, worked))


def _claims(sheet: Sheet, tables: Tables, worked: int) -> None:
    no_counters = "the table workers has no counters of claims"
    no_claims = "no agent claimed anything"
    totals = {
        name: total(getattr(worker, name) for worker in tables.workers)
        for name in ("claim_attempts", "claims_granted", "claims_lost")
    }
    for name, value in totals.items():
        sheet.put(name, value, no_counters)
    attempts, granted, lost = totals.values()
    if attempts is None or granted is None or lost is None:
        for name in (
            "claim_success_rate",
            "claim_retry_count",
            "claim_retries_per_task",
            "failed_claim_pct",
        ):
            sheet.put(name, None, no_counters)
        return
    sheet.ratio("claim_success_rate", granted, attempts, no_claims)
    sheet.put("claim_retry_count", attempts - granted)
    sheet.ratio("claim_retries_per_task", attempts - granted, worked, "no task was worked")
    sheet.ratio("failed_claim_pct", 100 * lost, attempts, no_claims)


def _calls(sheet: Sheet, record: RunRecord | None) -> None:
    counters = list(record.agent_counters.values()) if record else []
    not_counted = "there is no run.json with the agents' own counters"
    calls = total(counter.get("calls") for counter in counters)
    completed = sheet.figures["completed_by_agents"]
    per_task = calls / completed if calls is not None and completed else None
    sheet.put("calls_per_task", per_task, not_counted if calls is None else "none was completed")
    sheet.put("empty_polls", total(item.get("empty_polls") for item in counters), not_counted)


def _claim_times(sheet: Sheet, times: ClaimTimes) -> None:
    sheet.put("claims_timed", len(times.ready_ms))
    not_told = "no claim of a ready task is told of"
    for name, waits, why_not in (
        ("ready_to_claimed", times.ready_ms, not_told),
        ("free_to_claimed", times.free_ms, times.why_not_free or not_told),
    ):
        for suffix, share in (("p50", 0.5), ("p99", 0.99)):
            value = percentile(waits, share) if waits else None
            sheet.put(f"{name}_{suffix}_ms", value, why_not)


def measure_waiting(
    sheet: Sheet,
    tables: Tables,
    seen: Window | None,
    history: Iterable[Span],
    worked: Sequence[Span],
) -> None:
    """Fill in how long tasks waited for agents and for other tasks, and agents for tasks."""
    waits = [
        task.started_at - task.ready_at
        for task in tables.tasks
        if task.worker_id and task.started_at is not None and task.ready_at is not None
        if task.started_at >= task.ready_at and not task.is_part
    ]
    no_waits = "no task has both ready_at and started_at"
    sheet.put("queue_wait_mean_ms", statistics.fmean(waits) if waits else None, no_waits)
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        value = percentile(waits, share) if waits else None
        sheet.put(f"queue_wait_{name}_ms", value, no_waits)

    gaps = _handovers(worked)
    no_gaps = "no agent worked two tasks"
    sheet.put("handover_p50_ms", statistics.median(gaps) if gaps else None, no_gaps)

    time_in: Counter[str] = Counter()
    for span in history:
        time_in[span.status] += span.end - span.start
    waiting = time_in["pending"] + time_in["assigned"]
    no_history = "task_sequence tells of no time pending or working"
    sheet.ratio("blocking_ratio", waiting, waiting + time_in["working"], no_history)
    if seen and any(task.ready_at is not None for task in tables.tasks):
        for_others = sum(
            max(0, (seen.end if task.ready_at is None else task.ready_at) - task.created_at)
            for task in tables.tasks
            if task.worker_id and task.created_at is not None and not task.is_part
        )
        sheet.ratio("blocked_by_tasks_ratio", for_others, waiting + time_in["working"], no_history)
    else:
        sheet.put("blocked_by_tasks_ratio", None, "the tasks have no ready_at")


def _handovers(worked: Sequence[Span]) -> list[int]:
    of_worker: dict[str | None, list[Span]] = defaultdict(list)
    for stint in worked:
        of_worker[stint.worker_id].append(stint)
    return [
        max(0, after.start - before.end)
        for mine in of_worker.values()
        for before, after in pairwise(mine)
    ]
