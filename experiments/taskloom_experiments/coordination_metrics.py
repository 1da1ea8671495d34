"""The figures of handing out tasks, and of what waits on it: of coordinators and of agents.

The rest of a run's figures is in ``metrics`` and ``claim_metrics``; what each name means is in
``catalogue``.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from taskloom_experiments.history import Span
from taskloom_experiments.modes import COORDINATING_TAGS
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.sheet import Sheet, percentile
from taskloom_experiments.tables import ASSIGNED, Connected, Tables

_NOBODY = "nobody handed out tasks"


def told_apart(tables: Tables, record: RunRecord | None) -> tuple[Tables, frozenset[str]]:
    """The tables with those alone who work among the workers, and the ids of the coordinators.

    Who coordinates is said by the record of the run; without one it is told by a tag, and by having
    had no task.
    """
    if record:
        coordinators = frozenset(record.coordinators)
    else:
        holders = {task.worker_id for task in tables.tasks}
        coordinators = frozenset(
            worker.id
            for worker in tables.workers
            if worker.tags & COORDINATING_TAGS and worker.id not in holders and tables.assigned
        )
    workers = tuple(worker for worker in tables.workers if worker.id not in coordinators)
    return replace(tables, workers=workers), coordinators


def measure_coordination(
    sheet: Sheet,
    tables: Tables,
    record: RunRecord | None,
    history: Iterable[Span],
    coordinators: Collection[str],
) -> None:
    """Fill in how long tasks waited to be handed out, and what handing out cost.

    ``tables`` are those with every worker, the coordinators among them.
    """
    sheet.put("assignments", len(tables.assigned))
    again = len(tables.assigned) - len({one.task_id for one in tables.assigned})
    sheet.put("reassignments", again)
    registered = [one.registered_at for one in tables.workers if one.registered_at is not None]
    first = min(registered, default=0)
    waits = [max(0, one.assigned_at - max(one.ready_at, first)) for one in tables.assigned]
    _spread(sheet, "dispatch_latency", waits, "nothing was assigned")
    pickups = [
        span.end - span.start
        for span in history
        if span.status == ASSIGNED and span.next_status == "working"
    ]
    _spread(sheet, "pickup_latency", pickups, "nothing that was assigned was begun")
    _wall_clock(sheet, tables, first if registered else None)
    _coordinators_costs(sheet, tables, record, coordinators)


def _spread(sheet: Sheet, name: str, waits: Sequence[int], otherwise: str) -> None:
    sheet.put(f"{name}_mean_ms", statistics.fmean(waits) if waits else None, otherwise)
    for suffix, share in (("p50", 0.5), ("p99", 0.99)):
        sheet.put(f"{name}_{suffix}_ms", percentile(waits, share) if waits else None, otherwise)


def _wall_clock(sheet: Sheet, tables: Tables, first: int | None) -> None:
    last = max(
        (
            task.completed_at
            for task in tables.tasks
            if task.worker_id and task.status == "completed" and task.completed_at is not None
        ),
        default=None,
    )
    took = last - first if last is not None and first is not None and last > first else None
    sheet.put("wall_clock_ms", took, "no agent that registered completed a task")


def _coordinators_costs(
    sheet: Sheet, tables: Tables, record: RunRecord | None, coordinators: Collection[str]
) -> None:
    time_ms = cost_usd = None
    why_not = _NOBODY
    if coordinators:
        cost_usd = sum(task.metric_7 for task in tables.tasks) / 1e6
        why_not = "the speed is not known: there is no run.json"
        if record:
            time_ms = sum(task.metric_6 for task in tables.tasks) / record.speed
    sheet.put("coordinator_time_ms", time_ms, why_not)
    wall_clock = sheet.figures.get("wall_clock_ms")
    share = time_ms / wall_clock if time_ms is not None and wall_clock else None
    sheet.put("coordinator_share", share, why_not)
    sheet.put("coordinator_cost_usd", cost_usd, _NOBODY)


def own_stints(tables: Tables, worked: Sequence[Span]) -> tuple[Span, ...]:
    """The stints of tasks that contain no others: the work itself, not what it is a part of."""
    containers = {task.parent_id for task in tables.tasks if task.parent_id}
    return tuple(stint for stint in worked if stint.task_id not in containers)


def decomposed(tables: Tables) -> frozenset[str]:
    """The tasks that agents decomposed, and the nodes above the parts: holding them is no work."""
    return frozenset(task.parent_id for task in tables.tasks if task.is_part and task.parent_id)


def between_tasks_ms(
    tables: Tables, worked: Sequence[Span], workers: Iterable[str]
) -> dict[str, int]:
    """How long each worker had nothing in hand between two tasks, all its gaps together."""
    mine: Mapping[str | None, list[Span]] = defaultdict(list)
    for stint in worked:
        mine[stint.worker_id].append(stint)
    return {
        worker_id: sum(_gap(before, after) for before, after in pairwise(_merged(mine[worker_id])))
        for worker_id in workers
    }


def _gap(before: tuple[int, int], after: tuple[int, int]) -> int:
    return max(0, after[0] - before[1])


def _merged(stints: Iterable[Span]) -> list[tuple[int, int]]:
    """The stints as stretches of time that do not overlap, in order."""
    found: list[tuple[int, int]] = []
    for start, end in sorted((stint.start, stint.end) for stint in stints):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def measure_passes(sheet: Sheet, own: Sequence[Span], connected: Iterable[Connected]) -> None:
    """Fill in how many tasks were done at the first attempt, and how many were begun anew.

    Who comes back from a crash while the task is still its own begins it anew, though to the
    history that is one stint.
    """
    lives: Mapping[str | None, list[int]] = defaultdict(list)
    for one in connected:
        lives[one.worker_id].append(one.time)
    attempts: Counter[str] = Counter()
    for stint in own:
        again = sum(stint.start < time < stint.end for time in lives[stint.worker_id])
        attempts[stint.task_id] += 1 + again
    done = {stint.task_id for stint in own if stint.next_status == "completed"}
    first = sum(attempts[task_id] == 1 for task_id in done)
    sheet.ratio("first_pass_success", first, len(attempts), "no task was worked")
    reworked = sum(times > 1 for times in attempts.values())
    sheet.ratio("rework_rate", reworked, len(attempts), "no task was worked")
