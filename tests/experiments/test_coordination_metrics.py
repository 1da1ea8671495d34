"""The figures of handing out tasks, of runs whose every figure can be computed on paper."""

from collections.abc import Callable
from typing import Any

import pytest
from taskloom_experiments.database import open_database
from taskloom_experiments.metrics import Measured, measure
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.tables import read_tables

from .conftest import RunDatabase, at


def measured(run: RunDatabase, record: RunRecord | None) -> Measured:
    """What a run's tables and its record tell."""
    file = run.save()
    with open_database(file) as connection:
        return measure(read_tables(connection, file), record)


@pytest.fixture
def pushed(new_run: Callable[..., RunDatabase]) -> RunDatabase:
    """A coordinator and two agents; not yet saved.

    a is assigned to w1 at 2, begun at 3, done at 10. b is assigned to w2 at 4, begun at 5, fails at
    9, is ready again, assigned to w1 at 11, begun at 11, done at 20. c becomes ready at 10, is
    assigned to w2 at 12, begun at 14, done at 22.
    """
    run = new_run("pushed")
    run.worker("boss", registered=-1, left=23)
    run.give_tags("boss", "coordinator", "lead")
    run.worker("w1", attempts=2, granted=2, registered=0, left=23)
    run.worker("w2", attempts=2, granted=2, registered=0, left=23)
    for name, worker, ready, assigned, start, end in (
        ("a", "w1", -5, 2, 3, 10),
        ("b", "w1", 9, 11, 11, 20),
        ("c", "w2", 10, 12, 14, 22),
    ):
        run.task(
            name,
            worker=worker,
            created=-5,
            ready=ready,
            started=start,
            completed=end,
            metric_0=1_000,
            metric_6=120_000,
            metric_7=4_000,
            cost_usd=0.5,
        )
        steps: list[Any] = [(-5, "pending", None)]
        if name == "b":
            steps += [(4, "assigned", "boss"), (5, "working", "w2"), (9, "pending", "w2")]
            run.assigned("b", "w2", ready=-5, assigned=4)
        steps += [(assigned, "assigned", "boss"), (start, "working", worker)]
        run.history(name, *steps, (end, "completed", worker))
        run.assigned(name, worker, ready=ready, assigned=assigned)
    return run


def test_push_in_full(pushed: RunDatabase, new_record: Callable[..., RunRecord]) -> None:
    """Every figure of coordination, from the tables and the record."""
    record = new_record(mode="push", pull="assigned", coordinators=("boss",), speed=60.0)
    figures = measured(pushed, record).figures
    assert figures["assignments"] == 4
    assert figures["reassignments"] == 1
    # 2, 4, 11 and 12, less when they were ready, at the earliest when somebody was there: at -1.
    assert figures["dispatch_latency_mean_ms"] == (3_000 + 5_000 + 2_000 + 2_000) / 4
    assert figures["dispatch_latency_p99_ms"] == 5_000
    assert figures["pickup_latency_mean_ms"] == (1_000 + 1_000 + 0 + 2_000) / 4
    assert figures["pickup_latency_p50_ms"] == 1_000
    assert figures["wall_clock_ms"] == 23_000
    assert figures["makespan_ms"] == 19_000
    assert figures["coordinator_time_ms"] == 6_000  # 6 simulated minutes at speed 60
    assert figures["coordinator_share"] == pytest.approx(6 / 23)
    assert figures["coordinator_cost_usd"] == pytest.approx(0.012)
    assert figures["idle_between_tasks_ms"] == (1_000 + 5_000) / 2
    assert figures["first_pass_success"] == pytest.approx(2 / 3)
    assert figures["rework_rate"] == pytest.approx(1 / 3)
    assert figures["cost_per_task_usd"] == 0.5
    assert figures["tokens_per_task"] == 1_000


def test_coordinator_is_nobody_who_works(
    pushed: RunDatabase, new_record: Callable[..., RunRecord]
) -> None:
    """It counts neither in the spread of tasks nor in idleness, and has no row among agents."""
    result = measured(pushed, new_record(mode="push", coordinators=("boss",)))
    assert [agent.worker_id for agent in result.per_agent] == ["w1", "w2"]
    assert result.figures["gini_coefficient"] == pytest.approx(1 / 6)
    assert [agent.between_ms for agent in result.per_agent] == [1_000, 5_000]


def test_coordinator_is_known_by_its_tag_without_a_record(pushed: RunDatabase) -> None:
    """A database alone tells all but the coordinator's time, which needs the speed."""
    result = measured(pushed, None)
    assert result.figures["agent_count"] == 2
    assert result.figures["coordinator_cost_usd"] == pytest.approx(0.012)
    assert "coordinator_time_ms" not in result.figures
    assert "speed" in result.missing["coordinator_time_ms"]


def test_pull_has_no_figures_of_handing_out(
    small_run: RunDatabase, new_record: Callable[..., RunRecord]
) -> None:
    """Where nobody assigns they are missing, with the reason, and nothing is guessed."""
    result = measured(small_run, new_record())
    assert result.figures["assignments"] == result.figures["reassignments"] == 0
    assert result.missing["dispatch_latency_mean_ms"] == "nothing was assigned"
    assert result.missing["coordinator_time_ms"] == "nobody handed out tasks"
    assert result.figures["idle_between_tasks_ms"] == 15_000


def test_history_alone_tells_of_assignments(
    pushed: RunDatabase, new_record: Callable[..., RunRecord]
) -> None:
    """In a database that keeps no events they are counted from task_sequence."""
    pushed.drop_events()
    figures = measured(pushed, new_record(mode="push", coordinators=("boss",))).figures
    assert (figures["assignments"], figures["reassignments"]) == (4, 1)


def test_who_comes_back_to_its_task_begins_it_anew(small_run: RunDatabase) -> None:
    """w1 connects again while it has a, w2 between its tasks: of four tasks one is reworked."""
    small_run.connected("w1", -1)
    small_run.connected("w1", 12)
    small_run.connected("w2", 20)
    figures = measured(small_run, None).figures
    assert figures["rework_rate"] == pytest.approx(1 / 4)
    assert figures["first_pass_success"] == pytest.approx(3 / 4)


def test_decomposed_task_counts_once_and_its_parts_as_work(
    new_run: Callable[..., RunDatabase], new_record: Callable[..., RunRecord]
) -> None:
    """w1 holds the task from 0 to 20; it works a part from 2 to 10, w2 helps from 4 to 16."""
    run = new_run("hybrid")
    run.worker("w1", left=21, max_claims=2)
    run.worker("w2", left=21, max_claims=2)
    run.task("whole", worker="w1", ready=0, started=0, completed=20, cost_usd=0.1)
    run.history("whole", (0, "pending", None), (0, "working", "w1"), (20, "completed", "w1"))
    run.task("whole.parts", parent_id="whole", completed=16, tags='["part"]')
    run.history("whole.parts", (1, "pending", None), (16, "completed", None))
    for name, worker, start, end in (("whole.1", "w1", 2, 10), ("whole.2", "w2", 4, 16)):
        run.task(
            name,
            worker=worker,
            ready=1,
            started=start,
            completed=end,
            parent_id="whole.parts",
            tags='["part"]',
            cost_usd=0.2,
        )
        run.history(
            name, (1, "pending", None), (start, "working", worker), (end, "completed", worker)
        )

    result = measured(run, new_record(mode="hybrid", ended_at=at(21)))

    figures = result.figures
    assert figures["completed_by_agents"] == 1
    assert figures["cost_per_task_usd"] == pytest.approx(0.5)
    assert [agent.tasks_completed for agent in result.per_agent] == [1, 1]
    assert figures["gini_coefficient"] == 0
    assert figures["work_ms"] == 20_000  # of the parts: holding the whole is no work
    assert figures["best_makespan_ms"] == 12_000
    assert figures["best_possible_distance"] == pytest.approx(20 / 12 - 1)
    assert figures["first_pass_success"] == 1
    assert figures["queue_wait_max_ms"] == 0
    assert [agent.working_ms for agent in result.per_agent] == [20_000, 12_000]
