"""The figures of a run, against values worked out by hand."""

from collections.abc import Callable
from typing import Any

import pytest
from taskloom_experiments.catalogue import METRICS
from taskloom_experiments.database import open_database
from taskloom_experiments.metrics import Measured, gini, measure
from taskloom_experiments.sheet import percentile
from taskloom_experiments.tables import read_tables


def measured(run: Any, record: Any = None) -> Measured:
    """Save a run and measure it."""
    file = run.save()
    with open_database(file) as connection:
        return measure(read_tables(connection, file), record)


def test_small_run_in_full(small_run: Any, new_record: Callable[..., Any]) -> None:
    """Every figure of the small run is the one worked out on paper."""
    counters = {"w1": {"calls": 9, "empty_polls": 2}, "w2": {"calls": 7, "empty_polls": 0}}
    result = measured(small_run, new_record(agent_counters=counters))
    expected = {
        # claims: w1 tried three times and got two, w2 two and two
        "claim_attempts": 5,
        "claims_granted": 4,
        "claims_lost": 1,
        "claim_success_rate": 4 / 5,
        "claim_retry_count": 1,
        "claim_retries_per_task": 1 / 4,
        "failed_claim_pct": 20,
        "calls_per_task": 16 / 4,
        "empty_polls": 2,
        # a and b started when ready, c 20 s later, d when c let it
        "queue_wait_mean_ms": 5_000,
        "queue_wait_p50_ms": 0,
        "queue_wait_p99_ms": 20_000,
        "queue_wait_max_ms": 20_000,
        # each claimed when its agent was free, c 20 s after it was ready
        "claims_timed": 4,
        "ready_to_claimed_p50_ms": 0,
        "ready_to_claimed_p99_ms": 20_000,
        "free_to_claimed_p50_ms": 0,
        "free_to_claimed_p99_ms": 0,
        # w1 paused 30 s between a and d, w2 not at all between b and c
        "handover_p50_ms": 15_000,
        # pending: root 90, c 20, d 60; working: 30 + 20 + 40 + 30
        "blocking_ratio": 170 / 290,
        "blocked_by_tasks_ratio": 60 / 290,
        "tasks_per_agent": 2,
        "coefficient_of_variation": 0,
        "gini_coefficient": 0,
        "time_per_agent": 60_000,
        # two agents for 90 s, 120 s of work
        "idle_time_ratio": 60 / 180,
        "idle_time_floor": 1 - 120 / 140,
        "tasks_per_hour": 4 * 3600 / 90,
        "simulated_tasks_per_hour": 4 * 3600 / 90 / 600,
        "throughput_per_agent": 2 * 3600 / 90,
        # c then d take 70 s, half of the work 60 s
        "best_tasks_per_hour": 4 * 3600 / 70,
        "best_possible_efficiency": 70 / 90,
        "best_scaling_efficiency": 120 / 140,
        "makespan_ms": 90_000,
        "best_makespan_ms": 70_000,
        "work_ms": 120_000,
        "critical_path_ms": 70_000,
        "file_contention": 0,
        "rework_rate": 0,
        "agent_count": 2,
        "total_count": 5,
        "pending_count": 0,
        "assigned_count": 0,
        "working_count": 0,
        "completed_count": 5,
        "failed_count": 0,
        "cancelled_count": 0,
        "completed_by_agents": 4,
        "dependent_count": 1,
        "cost_usd": 1.0,
        "tokens_in": 400,
        "tokens_out": 40,
        "tokens_cached": 0,
        "tokens_thinking": 0,
        "tokens_image": 0,
        "tokens_audio": 0,
        "tokens_total": 440,
        "assignments": 0,
        "reassignments": 0,
        "wall_clock_ms": 90_000,
        "idle_between_tasks_ms": 15_000,
        "first_pass_success": 1,
        "best_possible_distance": 90 / 70 - 1,
        "tokens_per_task": 110,
        "cost_per_task_usd": 0.25,
    }
    assert result.figures == pytest.approx(expected)
    assert set(result.missing.values()) == {
        "nobody handed out tasks",
        "nothing was assigned",
        "nothing that was assigned was begun",
    }
    # what is not here is computed from several runs
    assert set(METRICS) - set(expected) == {"scaling_efficiency", *result.missing}


def test_agents_of_the_small_run(small_run: Any) -> None:
    """The per-agent figures are the ones worked out on paper."""
    first, second = measured(small_run).per_agent
    assert (first.worker_id, first.tasks_completed, first.points) == ("w1", 2, 4)
    assert (first.working_ms, first.present_ms, first.completed_ms) == (60_000, 90_000, 60_000)
    assert first.idle_ratio == pytest.approx(1 / 3)
    assert first.mean_task_ms == 30_000
    assert (first.claim_attempts, first.claims_granted, first.claims_lost) == (3, 2, 1)
    assert (first.calls, first.cost_usd) == (None, 0.5)
    assert second.claims_lost == 0


def test_figures_that_cannot_be_computed_say_why(new_run: Callable[..., Any]) -> None:
    """A run in which nothing happened has counts, and a reason for everything else."""
    run = new_run()
    run.task("a", "pending")
    result = measured(run)
    assert result.figures["pending_count"] == 1
    assert "tasks_per_hour" not in result.figures
    assert result.missing["tasks_per_hour"] == "no agent completed a task"
    assert result.missing["claim_success_rate"] == "the table workers has no counters of claims"
    assert result.missing["simulated_tasks_per_hour"].startswith("the speed is not known")
    assert {*result.figures, *result.missing} == set(METRICS) - {"scaling_efficiency"}


def test_agent_that_did_nothing_counts_in_the_distribution(new_run: Callable[..., Any]) -> None:
    """Tasks per agent 4, 2 and 0: the idle one is an agent, too."""
    run = new_run()
    for name in ("w1", "w2", "w3"):
        run.worker(name)
    for number in range(6):
        worker = "w1" if number < 4 else "w2"
        run.task(f"t{number}", worker=worker, started=number, completed=number + 1)
    figures = measured(run).figures
    assert figures["gini_coefficient"] == pytest.approx(4 / 9)
    # mean 2, squared deviations 4, 0, 4
    assert figures["coefficient_of_variation"] == pytest.approx((8 / 3) ** 0.5 / 2)


def test_agent_that_never_came_counts_too(
    new_run: Callable[..., Any], new_record: Callable[..., Any]
) -> None:
    """Two agents were meant, one registered: the distribution is 1 and 0."""
    run = new_run()
    run.worker("w1")
    run.task("a", worker="w1", started=0, completed=1)
    figures = measured(run, new_record(agents=2)).figures
    assert figures["gini_coefficient"] == pytest.approx(0.5)
    assert figures["tasks_per_agent"] == 0.5


def test_rework_is_more_than_one_period_and_a_new_phase_is_none(
    new_run: Callable[..., Any],
) -> None:
    """A task given back and worked again is rework; one whose phase changed is not."""
    run = new_run()
    run.worker("w")
    run.task("again", worker="w", started=20, completed=30, time_actual_ms=15_000)
    run.history(
        "again",
        (0, "working", "w"),
        (5, "pending", "w"),
        (20, "working", "w"),
        (30, "completed", "w"),
    )
    run.task("phased", worker="w", started=5, completed=20)
    run.history("phased", (5, "working", "w"), (9, None, "w"), (20, "completed", "w"))
    result = measured(run)
    assert result.figures["rework_rate"] == 0.5
    assert [(one.task_id, one.end - one.start, one.next_status) for one in result.stints] == [
        ("again", 5_000, "pending"),
        ("phased", 15_000, "completed"),
        ("again", 10_000, "completed"),
    ]
    assert result.figures["idle_time_ratio"] == 0


def test_run_that_was_cut_short(
    new_run: Callable[..., Any], new_record: Callable[..., Any]
) -> None:
    """Work in progress ends with the run; what the rest would have taken is not guessed."""
    run = new_run()
    run.worker("w")
    run.task("a", worker="w", started=0, completed=10)
    run.history("a", (0, "working", "w"), (10, "completed", "w"))
    run.task("b", "working", worker="w", started=10)
    run.history("b", (0, "pending", None), (10, "working", "w"))
    result = measured(run, new_record(agents=1, ended_at=1_800_000_040_000, partial=True))
    assert result.figures["working_count"] == 1
    assert result.figures["tasks_per_hour"] == 360
    assert result.figures["idle_time_ratio"] == 0
    assert result.figures["blocking_ratio"] == pytest.approx(10 / (10 + 10 + 30))
    assert result.figures["work_ms"] == 40_000
    assert "tasks are left" in result.missing["best_possible_efficiency"]


def test_marks_of_a_file_that_another_has_marked(new_run: Callable[..., Any]) -> None:
    """A mark counts when another worker holds one; one's own, and a released one, do not."""
    run = new_run()
    run.mark(0, "claimed", "a.py", "w1")
    run.mark(1, "claimed", "a.py", "w1")
    run.mark(2, "claimed", "b.py", "w2")
    run.mark(3, "claimed", "a.py", "w2")  # w1 has it
    run.mark(4, "released", "a.py", "w1")
    run.mark(5, "claimed", "a.py", "w3")  # w2 has it still
    run.mark(6, "released", "a.py", "w2")
    run.mark(7, "released", "a.py", "w3")
    run.mark(8, "claimed", "a.py", "w1")
    assert measured(run).figures["file_contention"] == 2


def test_deleted_tasks_are_not_counted(new_run: Callable[..., Any]) -> None:
    """A deleted task is in no figure."""
    run = new_run()
    run.task("a", "pending", deleted_at=1)
    run.task("b", "pending")
    assert measured(run).figures["total_count"] == 1


def test_statuses_of_other_workflows_are_counted(new_run: Callable[..., Any]) -> None:
    """A status that swarm does not have has its count, too."""
    run = new_run()
    run.task("a", "in-review")
    assert measured(run).figures["in_review_count"] == 1


def test_tasks_in_a_circle_have_no_bound(new_run: Callable[..., Any]) -> None:
    """A graph that cannot be is told; everything else is measured."""
    run = new_run()
    run.worker("w")
    for name in "ab":
        run.task(name, worker="w", started=0, completed=1)
    run.link("a", "b")
    run.link("b", "a", "follows")
    result = measured(run)
    assert "wait for each other in a circle" in result.missing["best_makespan_ms"]
    assert result.figures["tasks_per_hour"] == 7200


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([3, 3, 3], 0), ([0, 0, 9], 2 / 3), ([1, 3], 0.25), ([5], 0), ([], None), ([0, 0], None)],
)
def test_gini(counts: list[float], expected: float | None) -> None:
    """Even is 0, one that has all is (n-1)/n, nothing to share has none."""
    assert gini(counts) == (None if expected is None else pytest.approx(expected))


def test_percentile_is_a_value_that_occurred() -> None:
    """The nearest rank: no value is made up between two."""
    assert percentile([10, 20, 30, 40], 0.5) == 20
    assert percentile([10, 20, 30, 40], 0.99) == 40
    assert percentile([7], 0.5) == 7
