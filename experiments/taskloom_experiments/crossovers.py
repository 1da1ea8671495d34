"""Where one way to coordinate overtakes another, along the values of a sweep: only arithmetic.

Two curves of medians cross often by luck. A crossing counts where one was ahead before and the
other is ahead after, both times beyond the bootstrap interval of the pairs of equal seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskloom_experiments.bootstrap import FEWEST, median_interval

BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Crossing:
    """Between two values ``overtaking`` gets ahead of ``overtaken``; higher is better.

    ``place`` is about where, counted in values from the first: 1.5 is between the second and the
    third. ``height`` is about what both have there.
    """

    overtaking: str
    overtaken: str
    place: float
    height: float


def crossings(curves: Mapping[str, Sequence[BySeed]]) -> tuple[Crossing, ...]:
    """All crossings; each curve has, for every value of the sweep, the figure by seed."""
    names = list(curves)
    found = []
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            found += _between(one, other, curves[one], curves[other])
    return tuple(sorted(found, key=lambda crossing: crossing.place))


def _between(
    one: str, other: str, left: Sequence[BySeed], right: Sequence[BySeed]
) -> list[Crossing]:
    settled: tuple[int, float] | None = None
    found = []
    for place, (mine, theirs) in enumerate(zip(left, right, strict=True)):
        lead = _lead(mine, theirs)
        if lead is None:
            continue
        if settled and settled[1] * lead < 0:
            before, ahead = settled
            where = before + (place - before) * abs(ahead) / (abs(ahead) + abs(lead))
            low = _middle(left[before]) + _middle(right[before])
            high = _middle(mine) + _middle(theirs)
            share = (where - before) / (place - before)
            height = (low + (high - low) * share) / 2
            names = (one, other) if lead > 0 else (other, one)
            found.append(Crossing(*names, where, height))
        settled = (place, lead)
    return found


def _lead(mine: BySeed, theirs: BySeed) -> float | None:
    """By how much one is ahead, at the median of the pairs; None where that is not settled."""
    pairs = [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]
    if len(pairs) < FEWEST:
        return None
    interval = median_interval(pairs)
    return interval.median if interval.low > 0 or interval.high < 0 else None


def _middle(values: BySeed) -> float:
    return median_interval(list(values.values())).median
