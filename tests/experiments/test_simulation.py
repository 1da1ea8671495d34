"""Simulated work: what depends on the seed, what on the estimate, and what on nothing else."""

import json
import statistics

import pytest
from taskloom_experiments.simulation import DEFAULT_ESTIMATE_S, Work, work_for


def _work(task_id: str = "parse", estimate_s: float | None = 600, **changes: float) -> Work:
    settings = {"seed": 1, "speed": 60.0, **changes}
    return work_for(task_id, estimate_s, **settings)  # type: ignore[arg-type]


def test_same_task_is_the_same_work_every_time() -> None:
    """Seed and task decide, so runs with other agents do the same work."""
    assert _work() == _work()


def test_seed_and_task_make_a_difference() -> None:
    """Another seed, or another task, takes another time."""
    assert len({_work().seconds, _work(seed=2).seconds, _work("lex").seconds}) == 3


def test_speed_divides_the_time_and_leaves_the_cost() -> None:
    """Twice as fast is half the time; the same tokens are used."""
    slow, fast = _work(speed=1), _work(speed=2)
    assert fast.seconds == pytest.approx(slow.seconds / 2)
    assert fast.tokens_in == slow.tokens_in


def test_estimates_are_right_on_average() -> None:
    """The noise has mean 1: a thousand tasks together take what was estimated."""
    times = [_work(f"task-{number}", 600, speed=1).seconds for number in range(1000)]
    assert statistics.fmean(times) == pytest.approx(600, rel=0.03)
    assert statistics.pstdev(times) > 100


def test_without_noise_a_task_takes_its_estimate() -> None:
    """Noise 0 leaves the estimate."""
    assert _work(noise=0).seconds == pytest.approx(10)


def test_task_without_estimate_takes_the_default() -> None:
    """Nobody's estimate is a quarter of an hour."""
    assert _work(estimate_s=None, noise=0, speed=1).seconds == pytest.approx(DEFAULT_ESTIMATE_S)


def test_two_tasks_share_no_file() -> None:
    """Independent tasks never mark the same file."""
    assert not set(_work("a").files) & set(_work("b").files)


def test_results_are_json_about_the_task() -> None:
    """What is attached can be read by a program."""
    assert json.loads(_work().results)["task_id"] == "parse"
