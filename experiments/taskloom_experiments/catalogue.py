"""The figures a run can be measured by: their names, their units, and how each is computed.

Definitions, targets, conditions, reports and ``metrics.json`` all speak these names. What computes
them is in ``metrics`` (from one run) and ``comparison`` (from several together); this module knows
names only, so that a definition can be checked without a database.
"""

import re
from dataclasses import dataclass
from typing import Literal

Unit = Literal["ratio", "count", "number", "ms", "tasks/h", "percent", "usd", "tokens", "simulated"]
"""``ratio`` is 0 to 1 and shown as a percentage; ``number`` has no unit; ``simulated`` is tasks per
simulated hour."""


@dataclass(frozen=True)
class Metric:
    """One figure: its name in conditions and files, its unit, and a clause saying what it is."""

    name: str
    unit: Unit
    meaning: str


_ALL = (
    # Claims
    Metric("claim_attempts", "count", "claims tried: workers.claim_attempts, all workers together"),
    Metric("claims_granted", "count", "claims that gave the task: workers.claims_granted"),
    Metric(
        "claims_lost", "count", "claims refused because another worker had it: workers.claims_lost"
    ),
    Metric("claim_success_rate", "ratio", "claims_granted / claim_attempts"),
    Metric("claim_retry_count", "count", "claim_attempts - claims_granted, all workers together"),
    Metric("claim_retries_per_task", "number", "claim_retry_count / tasks that were worked"),
    Metric("failed_claim_pct", "percent", "100 * claims_lost / claim_attempts"),
    Metric("calls_per_task", "number", "calls the agents made / tasks completed (from run.json)"),
    Metric("empty_polls", "count", "answers without a task, all agents together (from run.json)"),
    # Waiting
    Metric("queue_wait_mean_ms", "ms", "mean of started_at - ready_at over the tasks worked"),
    Metric("queue_wait_p50_ms", "ms", "the wait that half of the tasks did not exceed"),
    Metric("queue_wait_p99_ms", "ms", "the wait that 99 % of the tasks did not exceed"),
    Metric("queue_wait_max_ms", "ms", "the longest wait of a ready task"),
    Metric("claims_timed", "count", "claims of which is known when the task was ready: events"),
    Metric(
        "ready_to_claimed_p50_ms",
        "ms",
        "median over claims of claimed_at - ready_at (- the first agent's start, if it is later)",
    ),
    Metric("ready_to_claimed_p99_ms", "ms", "the same, not exceeded by 99 % of the claims"),
    Metric(
        "free_to_claimed_p50_ms",
        "ms",
        "median over claims of claimed_at - when the task was ready and the agent without a task",
    ),
    Metric("free_to_claimed_p99_ms", "ms", "the same, not exceeded by 99 % of the claims"),
    Metric("handover_p50_ms", "ms", "median gap between an agent's end of one task and next start"),
    Metric("blocking_ratio", "ratio", "time pending or assigned / (that + time working), of tasks"),
    Metric(
        "blocked_by_tasks_ratio",
        "ratio",
        "time waiting for other tasks / (pending or assigned + working)",
    ),
    # Distribution
    Metric(
        "tasks_per_agent",
        "number",
        "tasks completed by agents / agents; here and below, a decomposed task counts by its parts",
    ),
    Metric("coefficient_of_variation", "number", "of tasks per agent: standard deviation / mean"),
    Metric("gini_coefficient", "number", "of tasks per agent: 0 is even, towards 1 one has all"),
    Metric("time_per_agent", "ms", "mean over agents of the working time of tasks they completed"),
    Metric("idle_time_ratio", "ratio", "(time present - time working) / time present, all agents"),
    Metric(
        "idle_between_tasks_ms",
        "ms",
        "mean over agents of the time between their tasks with nothing in hand, all gaps together",
    ),
    Metric(
        "idle_time_floor", "ratio", "1 - work / (agents * best possible time): idle even at best"
    ),
    # Throughput
    Metric("tasks_per_hour", "tasks/h", "tasks completed by agents / (first start to last end)"),
    Metric("simulated_tasks_per_hour", "simulated", "tasks_per_hour / speed"),
    Metric("throughput_per_agent", "tasks/h", "tasks_per_hour / agents"),
    Metric("scaling_efficiency", "ratio", "throughput with N agents / (N * with one agent)"),
    Metric("best_tasks_per_hour", "tasks/h", "the tasks completed / the best possible time"),
    Metric("best_possible_efficiency", "ratio", "best possible time / the time it took"),
    Metric(
        "best_possible_distance",
        "ratio",
        "(time it took - best possible time) / best possible time",
    ),
    Metric("best_scaling_efficiency", "ratio", "scaling efficiency of the best possible time"),
    Metric(
        "wall_clock_ms",
        "ms",
        "from the first registration of an agent or coordinator to the last completion by an agent",
    ),
    Metric("makespan_ms", "ms", "from the first start to the last completion by an agent"),
    Metric("best_makespan_ms", "ms", "work / agents or the critical path, whichever is longer"),
    Metric("work_ms", "ms", "working time of all tasks together"),
    Metric("critical_path_ms", "ms", "working time of the longest chain of tasks"),
    # Coordination
    Metric("assignments", "count", "tasks that somebody assigned, each time: events"),
    Metric(
        "reassignments",
        "count",
        "assignments of a task after its first: it failed or came back",
    ),
    Metric(
        "dispatch_latency_mean_ms",
        "ms",
        "mean over assignments of assigned - ready_at (- the first agent's start, if it is later)",
    ),
    Metric("dispatch_latency_p50_ms", "ms", "the same, not exceeded by half of the assignments"),
    Metric("dispatch_latency_p99_ms", "ms", "the same, not exceeded by 99 % of the assignments"),
    Metric("pickup_latency_mean_ms", "ms", "mean time from assigned to working, of what was begun"),
    Metric("pickup_latency_p50_ms", "ms", "the same, not exceeded by half of them"),
    Metric("pickup_latency_p99_ms", "ms", "the same, not exceeded by 99 % of them"),
    Metric(
        "coordinator_time_ms",
        "ms",
        "time in which a coordinator looked, decided and assigned: metric_6, summed, / speed",
    ),
    Metric("coordinator_share", "ratio", "coordinator_time_ms / wall_clock_ms"),
    Metric("file_contention", "count", "marks of a file that another worker had marked"),
    Metric(
        "rework_rate",
        "ratio",
        "tasks worked more than once / tasks worked; who crashed and came back begins anew",
    ),
    Metric(
        "first_pass_success", "ratio", "tasks completed by the first attempt at them / tasks worked"
    ),
    # Counts
    Metric("agent_count", "count", "agents of the run"),
    Metric("total_count", "count", "tasks that are not deleted"),
    Metric("pending_count", "count", "tasks in status pending at the end"),
    Metric("assigned_count", "count", "tasks in status assigned at the end"),
    Metric("working_count", "count", "tasks in status working at the end"),
    Metric("completed_count", "count", "tasks completed, roots that ended by themselves included"),
    Metric("failed_count", "count", "tasks in status failed at the end"),
    Metric("cancelled_count", "count", "tasks in status cancelled at the end"),
    Metric(
        "completed_by_agents",
        "count",
        "tasks completed that an agent held; of one that was decomposed the parts do not count",
    ),
    Metric("dependent_count", "count", "tasks that had to wait for another (blocks, follows)"),
    # Cost
    Metric("cost_usd", "usd", "tasks.cost_usd, summed"),
    Metric("cost_per_task_usd", "usd", "cost_usd, the coordinator's with it / completed_by_agents"),
    Metric("coordinator_cost_usd", "usd", "metric_7 / 1,000,000, summed: what decisions cost"),
    Metric("tokens_per_task", "tokens", "tokens_total / completed_by_agents"),
    Metric("tokens_in", "tokens", "metric_0, summed"),
    Metric("tokens_out", "tokens", "metric_1, summed"),
    Metric("tokens_cached", "tokens", "metric_2, summed"),
    Metric("tokens_thinking", "tokens", "metric_3, summed"),
    Metric("tokens_image", "tokens", "metric_4, summed"),
    Metric("tokens_audio", "tokens", "metric_5, summed"),
    Metric("tokens_total", "tokens", "metric_0 to metric_5, summed"),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

# What a definition calls a measurement -> the figure that answers it.
_SYNONYMS = {
    "queue_wait_time": "queue_wait_mean_ms",
    "load_balance_gini": "gini_coefficient",
    "gini": "gini_coefficient",
    "agents": "agent_count",
    "wall_clock": "wall_clock_ms",
    "claims_refused": "claim_retry_count",
    "dispatch_latency": "dispatch_latency_mean_ms",
    "pickup_latency": "pickup_latency_mean_ms",
    "coordinator_time": "coordinator_time_ms",
    "cost_per_task": "cost_per_task_usd",
}

# Measurements that are a list over time, not one figure: they are charted.
SERIES_MEASUREMENTS = frozenset({"completion_timeline"})

_THROUGHPUT_OF = re.compile(r"throughput_([1-9][0-9]*)_agents?")
_STATUS_COUNT = re.compile(r"[a-z][a-z0-9_]*_count")


def metric_named(name: str) -> Metric | None:
    """The figure of this name or synonym; None where taskloom computes none."""
    return METRICS.get(_SYNONYMS.get(name, name))


def synonyms() -> dict[str, str]:
    """Other names by which conditions may call a figure: synonym -> name."""
    return dict(_SYNONYMS)


def agents_of_throughput(name: str) -> int | None:
    """N of ``throughput_N_agents``, the throughput over all runs with N agents; else None."""
    match = _THROUGHPUT_OF.fullmatch(name)
    return int(match.group(1)) if match else None


def is_known_name(name: str) -> bool:
    """Whether a condition may use the name; ``<status>_count`` may be a status of a workflow."""
    return (
        metric_named(name) is not None
        or agents_of_throughput(name) is not None
        or _STATUS_COUNT.fullmatch(name) is not None
    )
