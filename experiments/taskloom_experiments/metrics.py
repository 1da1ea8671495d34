"""Every figure of one run, computed from its tables and its ``run.json`` alone.

A figure that cannot be computed is not there, and ``missing`` says why; nothing is guessed. What
each name means is in ``catalogue``. Figures that need other runs are added by ``comparison``.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from taskloom_experiments.claim_metrics import measure_claims, measure_waiting
from taskloom_experiments.coordination_metrics import (
    decomposed,
    measure_coordination,
    measure_passes,
    own_stints,
    told_apart,
)
from taskloom_experiments.history import ENDED, Span, Window, spans, stints, window
from taskloom_experiments.per_agent import AgentFigures, per_agent
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.schedule import (
    BestPossible,
    ScheduleError,
    best_possible,
    containment,
)
from taskloom_experiments.sheet import Sheet
from taskloom_experiments.tables import START_BLOCKING, Mark, Tables

MS_PER_HOUR = 3_600_000
_STATUSES = ("pending", "assigned", "working", "completed", "failed", "cancelled")
_NOTHING_DONE = "no agent completed a task"
_TOKENS = ("in", "out", "cached", "thinking", "image", "audio")


@dataclass(frozen=True)
class Measured:
    """What one run's tables tell. ``figures`` is by name, ``missing`` is name -> why not."""

    agents: int
    window: Window | None
    stints: tuple[Span, ...]
    per_agent: tuple[AgentFigures, ...]
    best: BestPossible | None
    figures: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)


def measure(tables: Tables, record: RunRecord | None) -> Measured:
    """Compute all figures of a run."""
    everybody = tables
    tables, coordinators = told_apart(everybody, record)
    seen = window(tables, record.ended_at if record else None)
    history = spans(tables, seen.end) if seen else ()
    worked = stints(tables, history)
    agents = _agent_count(tables, record)
    agents_figures = per_agent(tables, record, seen, worked)
    sheet = Sheet()

    _counts(sheet, tables, agents)
    measure_claims(sheet, tables, record, worked)
    own = own_stints(tables, worked)
    parts = {task.id for task in tables.tasks if task.is_part}
    whole = [span for span in history if span.task_id not in parts]
    measure_waiting(sheet, tables, seen, whole, own)
    measure_coordination(sheet, everybody, record, history, coordinators)
    _distribution(sheet, agents, agents_figures)
    _throughput(sheet, tables, agents, seen, record.speed if record else None)
    best = _best(sheet, tables, agents, seen, worked)
    sheet.put("file_contention", contended_marks(tables.marks))
    measure_passes(sheet, own, tables.connected)
    _cost(sheet, tables)
    return Measured(agents, seen, worked, agents_figures, best, sheet.figures, sheet.missing)


def gini(counts: Sequence[float]) -> float | None:
    """The Gini coefficient: half the mean difference of all pairs over the mean. 0 is even."""
    total = sum(counts)
    if not counts or total == 0:
        return None
    ordered = sorted(counts)
    weighted = sum(rank * count for rank, count in enumerate(ordered, start=1))
    return 2 * weighted / (len(ordered) * total) - (len(ordered) + 1) / len(ordered)


def contended_marks(marks: Iterable[Mark]) -> int:
    """How many marks of a file were made while another worker had it marked."""
    holders: dict[str, dict[str, int | None]] = defaultdict(dict)
    contended = 0
    for mark in marks:
        holding = holders[mark.file_path]
        if mark.event != "claimed":
            holding.pop(mark.worker_id, None)
            continue
        others = [end for worker, end in holding.items() if worker != mark.worker_id]
        contended += any(end is None or end > mark.timestamp for end in others)
        holding[mark.worker_id] = mark.end_timestamp
    return contended


def _agent_count(tables: Tables, record: RunRecord | None) -> int:
    if record:
        return record.agents
    holders = {task.worker_id for task in tables.tasks if task.worker_id}
    return len(tables.workers) or len(holders)


def _counts(sheet: Sheet, tables: Tables, agents: int) -> None:
    statuses = Counter(task.status for task in tables.tasks)
    for status in {*_STATUSES, *statuses}:
        sheet.put(f"{status.replace('-', '_')}_count", statuses[status])
    sheet.put("total_count", len(tables.tasks))
    sheet.put("agent_count", agents)
    sheet.put("completed_by_agents", len(_completed(tables)))
    waiting = {edge.to_task_id for edge in tables.dependencies if edge.dep_type in START_BLOCKING}
    sheet.put("dependent_count", sum(task.id in waiting for task in tables.tasks))


def _completed(tables: Tables) -> list[str]:
    """The tasks that agents completed: a root that ended by itself is nobody's work.

    Nor are parts counted, so that what was decomposed counts once, like what was not.
    """
    return [
        task.id
        for task in tables.tasks
        if task.status == "completed" and task.worker_id and not task.is_part
    ]


def _distribution(sheet: Sheet, agents: int, each: Sequence[AgentFigures]) -> None:
    counts = [agent.tasks_completed for agent in each]
    counts += [0] * (agents - len(counts))  # an agent that never came completed nothing
    total = sum(counts)
    sheet.ratio("tasks_per_agent", total, agents, "there were no agents")
    spread = statistics.pstdev(counts) / statistics.fmean(counts) if total else None
    sheet.put("coefficient_of_variation", spread, _NOTHING_DONE)
    sheet.put("gini_coefficient", gini(counts), _NOTHING_DONE)
    between = [agent.between_ms for agent in each]
    sheet.ratio("idle_between_tasks_ms", sum(between), len(between), "there were no agents")
    times = sum(agent.completed_ms for agent in each)
    sheet.ratio("time_per_agent", times, agents, "there were no agents")
    present = sum(agent.present_ms for agent in each)
    idle = present - sum(agent.working_ms for agent in each)
    sheet.ratio("idle_time_ratio", idle, present, "no agent was there while tasks were worked")


def _throughput(
    sheet: Sheet, tables: Tables, agents: int, seen: Window | None, speed: float | None
) -> None:
    completed = len(_completed(tables))
    makespan = seen.makespan_ms if seen else None
    per_hour = completed * MS_PER_HOUR / makespan if makespan else None
    sheet.put("makespan_ms", makespan, _NOTHING_DONE)
    sheet.put("tasks_per_hour", per_hour, _NOTHING_DONE)
    each = per_hour / agents if per_hour and agents else None
    sheet.put("throughput_per_agent", each, _NOTHING_DONE)
    sheet.put(
        "simulated_tasks_per_hour",
        per_hour / speed if per_hour and speed else None,
        _NOTHING_DONE if speed else "the speed is not known: there is no run.json",
    )


def _best(
    sheet: Sheet, tables: Tables, agents: int, seen: Window | None, worked: Sequence[Span]
) -> BestPossible | None:
    """The bounds, and the figures against them where every task was worked to its end."""
    spent: Counter[str] = Counter()
    for stint in worked:
        spent[stint.task_id] += stint.end - stint.start
    no_work = decomposed(tables)
    durations = {
        task.id: 0
        if task.id in no_work
        else task.worked_ms
        if task.status == "completed"
        else spent[task.id]
        for task in tables.tasks
    }
    best, why_not = None, _NOTHING_DONE
    if agents and sum(durations.values()) > 0:
        try:
            edges = [*tables.dependencies, *containment(tables.tasks)]
            best = best_possible(durations, edges, agents)
        except ScheduleError as error:
            why_not = str(error)
    sheet.put("work_ms", best.work_ms if best else None, why_not)
    sheet.put("critical_path_ms", best.critical_path_ms if best else None, why_not)

    if best and any(task.status not in ENDED for task in tables.tasks):
        why_not = "tasks are left, whose working times nobody knows"
    makespan = seen.makespan_ms if seen else None
    completed = sheet.figures["completed_by_agents"]
    shortest = at_most = per_hour = share = None
    if best and why_not == _NOTHING_DONE and makespan:
        shortest = best.makespan_ms
        at_most = best.work_ms / (agents * shortest)
        per_hour = completed * MS_PER_HOUR / shortest
        share = shortest / makespan
    sheet.put("best_makespan_ms", shortest, why_not)
    sheet.put("best_tasks_per_hour", per_hour, why_not)
    sheet.put("best_possible_efficiency", share, why_not)
    sheet.put("best_possible_distance", 1 / share - 1 if share else None, why_not)
    sheet.put("best_scaling_efficiency", at_most, why_not)
    sheet.put("idle_time_floor", None if at_most is None else 1 - at_most, why_not)
    return best


def _cost(sheet: Sheet, tables: Tables) -> None:
    sheet.put("cost_usd", sum(task.cost_usd for task in tables.tasks))
    for index, kind in enumerate(_TOKENS):
        sheet.put(f"tokens_{kind}", sum(task.tokens[index] for task in tables.tasks))
    sheet.put("tokens_total", sum(sum(task.tokens) for task in tables.tasks))
    completed = sheet.figures["completed_by_agents"]
    for name, whole in (("tokens_per_task", "tokens_total"), ("cost_per_task_usd", "cost_usd")):
        sheet.ratio(name, sheet.figures[whole], completed, _NOTHING_DONE)
