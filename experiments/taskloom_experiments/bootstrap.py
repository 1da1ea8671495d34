"""Medians of repeats, and how far to trust them: the percentile bootstrap (Efron, 1979).

A median of few runs is a matter of luck. How much of one is seen by drawing as many again from
those few, with replacement, many times: between the values that the medians of the draws keep to in
95 % of cases lies the interval. Fewer than ``FEWEST`` values make it too narrow to be trusted.
Everything is drawn from one seed, so the same figures give the same interval every time.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

CONFIDENCE = 0.95
DRAWS = 2_000
FEWEST = 5
SEED = 1


@dataclass(frozen=True)
class Interval:
    """The median of ``count`` values, and the confidence interval around it."""

    median: float
    low: float
    high: float
    count: int


def median_interval(values: Sequence[float]) -> Interval:
    """The median of one value or more, with its interval; of a single value there is no width."""
    drawn = sorted(median([values[place] for place in draw]) for draw in _draws(len(values)))
    tail = (1 - CONFIDENCE) / 2
    last = len(drawn) - 1
    return Interval(
        median(values), drawn[round(tail * last)], drawn[round((1 - tail) * last)], len(values)
    )


@lru_cache(maxsize=32)
def _draws(count: int) -> tuple[tuple[int, ...], ...]:
    """Which of so many values each draw takes: the same draws for every figure of equally many."""
    chance = random.Random(f"{SEED}:{count}")
    places = range(count)
    return tuple(tuple(chance.choices(places, k=count)) for _ in range(DRAWS))
