"""How agents differ: what their parameters come to, drawn from seed and names alone."""

from statistics import fmean

from taskloom_experiments.behaviour import Behaviour, attempt_fails, crash_after


def test_agent_without_parameters_neither_fails_nor_crashes() -> None:
    """The default is an agent of which nothing is said."""
    plain = Behaviour()
    assert not any(attempt_fails(plain, 1, f"task-{n}", 0) for n in range(100))
    assert crash_after(plain, 1, "agent-1", 1) is None


def test_failure_rate_is_the_share_of_attempts_that_fail() -> None:
    """At 0.3 about three in ten fail, at 1 all do."""
    careless = Behaviour(failure_rate=0.3)
    share = fmean(attempt_fails(careless, 5, f"task-{n}", 0) for n in range(2_000))
    assert 0.26 < share < 0.34
    assert all(attempt_fails(Behaviour(failure_rate=1), 5, f"task-{n}", 2) for n in range(50))


def test_failure_is_the_attempts_and_not_the_agents() -> None:
    """The same seed, task and attempt fail again; another attempt has another chance."""
    careless = Behaviour(failure_rate=0.5)
    first = [attempt_fails(careless, 1, f"task-{n}", 0) for n in range(64)]
    assert first == [attempt_fails(careless, 1, f"task-{n}", 0) for n in range(64)]
    assert first != [attempt_fails(careless, 1, f"task-{n}", 1) for n in range(64)]
    assert first != [attempt_fails(careless, 2, f"task-{n}", 0) for n in range(64)]


def test_crash_at_ends_the_first_life_only() -> None:
    """Who is back after it lives on."""
    frail = Behaviour(crash_at=90, restart_after=30)
    assert crash_after(frail, 1, "agent-1", 1) == 90
    assert crash_after(frail, 1, "agent-1", 2) is None


def test_crash_rate_is_per_hour_of_life() -> None:
    """At two an hour lives last half an hour on average, each its own time."""
    frail = Behaviour(crash_rate=2, restart_after=0)
    lives = [crash_after(frail, 1, f"agent-{n % 10}", n // 10 + 1) or 0 for n in range(2_000)]
    assert 1_600 < fmean(lives) < 2_000
    assert len(set(lives)) == len(lives)
    assert lives[0] == crash_after(frail, 1, "agent-0", 1)


def test_whatever_comes_first_ends_a_life() -> None:
    """A moment and a rate together."""
    frail = Behaviour(crash_at=1, crash_rate=0.001)
    assert crash_after(frail, 1, "agent-1", 1) == 1
