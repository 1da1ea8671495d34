"""Medians and their bootstrap intervals."""

import random

from taskloom_experiments.bootstrap import FEWEST, median_interval


def test_interval_holds_the_median() -> None:
    """The median lies in its interval, and the interval within the values."""
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0]
    interval = median_interval(values)
    assert interval.median == 3.0
    assert min(values) <= interval.low < interval.median < interval.high <= max(values)
    assert interval.count == len(values)


def test_same_values_give_the_same_interval() -> None:
    """It is drawn from a seed, so a report made again is the same."""
    values = [random.Random(n).random() for n in range(10)]
    assert median_interval(values) == median_interval(list(values))


def test_equal_values_have_no_width() -> None:
    """What never varies is known exactly."""
    interval = median_interval([2.0] * FEWEST)
    assert (interval.low, interval.median, interval.high) == (2.0, 2.0, 2.0)


def test_single_value_is_all_that_is_known() -> None:
    """One run has a median and no spread."""
    assert median_interval([7.0]).low == 7.0


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of 200 samples of 15 normal values most intervals, 88 to 99 %, hold the true median."""
    held = 0
    for number in range(200):
        chance = random.Random(number)
        interval = median_interval([chance.gauss(10, 2) for _ in range(15)])
        held += interval.low <= 10 <= interval.high
    assert 176 <= held <= 198


def test_more_values_make_it_narrower() -> None:
    """Four times the repeats, about half the width."""
    chance = random.Random(1)
    values = [chance.gauss(0, 1) for _ in range(80)]
    few, many = median_interval(values[:20]), median_interval(values)
    assert many.high - many.low < few.high - few.low
