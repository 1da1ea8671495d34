"""How long claims took to come about, against times worked out by hand."""

from collections.abc import Callable
from typing import Any

import apsw
from taskloom_experiments.claim_times import ClaimTimes, claim_times
from taskloom_experiments.database import open_database
from taskloom_experiments.history import spans, stints
from taskloom_experiments.metrics import measure
from taskloom_experiments.tables import Claim, Tables, read_tables


def tables_of(run: Any) -> Tables:
    """Save a run and read it."""
    file = run.save()
    with open_database(file) as connection:
        return read_tables(connection, file)


def times_of(run: Any) -> ClaimTimes:
    """Save a run and time its claims."""
    tables = tables_of(run)
    return claim_times(tables, stints(tables, spans(tables, 10**15)))


def test_free_agent_and_ready_task(new_run: Callable[..., Any]) -> None:
    """Time counts from when the later of the two was there: the task, or the agent without one."""
    run = new_run()
    run.worker("w1")
    run.worker("w2")
    for task, worker, ready, start, end in (
        ("a", "w1", 0, 0.004, 10),  # both there from the start
        ("b", "w2", 0, 0.006, 2),
        ("c", "w2", 0, 2.005, 8),  # ready all the time, w2 free since 2
        ("d", "w2", 9, 9.050, 12),  # w2 free since 8, ready since 9
    ):
        run.task(task, worker=worker, started=start, completed=end)
        run.history(task, (start, "working", worker), (end, "completed", worker))
        run.claim(task, worker, ready=ready, claimed=start)
    assert times_of(run) == ClaimTimes((4, 6, 2005, 50), (4, 6, 5, 50))


def test_every_claim_of_a_task_counts(new_run: Callable[..., Any]) -> None:
    """A task that was given back has as many times as claims, each from its own getting ready."""
    run = new_run()
    run.worker("w1")
    run.worker("w2", registered=6)
    run.task("a", worker="w2", started=7, completed=9)
    run.history(
        "a",
        (1, "working", "w1"),
        (5, "pending", "w1"),
        (7, "working", "w2"),
        (9, "completed", "w2"),
    )
    run.claim("a", "w1", ready=0, claimed=1)
    run.claim("a", "w2", ready=5, claimed=7)
    # w2 was not there before 6
    assert times_of(run) == ClaimTimes((1000, 2000), (1000, 1000))


def test_nobody_is_blamed_for_the_time_before_the_first_agent(
    new_run: Callable[..., Any],
) -> None:
    """What was imported long before counts from when the first agent came."""
    run = new_run()
    run.worker("w1", registered=5)
    run.task("a", worker="w1", started=5.003, completed=6)
    run.claim("a", "w1", ready=-60, claimed=5.003)
    assert times_of(run) == ClaimTimes((3,), (3,))


def test_agents_with_several_tasks_are_never_known_to_be_free(new_run: Callable[..., Any]) -> None:
    """An agent that holds two at once may be free with one in hand: that is not guessed."""
    run = new_run()
    run.worker("w1", max_claims=2)
    run.task("a", worker="w1", started=1, completed=2)
    run.claim("a", "w1", ready=0, claimed=1)
    tables = tables_of(run)
    assert claim_times(tables, ()).free_ms is None
    measured = measure(tables, None)
    assert measured.figures["ready_to_claimed_p50_ms"] == 1000
    assert measured.missing["free_to_claimed_p99_ms"] == "agents held several tasks at once"


def test_database_without_events_tells_of_each_tasks_last_claim(
    new_run: Callable[..., Any],
) -> None:
    """Others of this family keep no events: the columns of the task have to do."""
    run = new_run()
    run.worker("w1")
    run.task("a", worker="w1", ready=1, started=2, completed=3, claimed_at=1_800_000_002_000)
    run.task("never", ready=1)
    file = run.save()
    connection = apsw.Connection(str(file))
    connection.execute("DROP TABLE events")
    connection.close()
    with open_database(file) as opened:
        claims = read_tables(opened, file).claims
    assert claims == (Claim("a", "w1", 1_800_000_001_000, 1_800_000_002_000),)
