"""Temperature: how much a task calls for attention, as activity, breakthroughs and people say.

Worked out anew with every activity; between two of them it halves every 24 hours. Since all
temperatures halve alike, what orders them is a number that does not change meanwhile: ``heat``,
the logarithm of the value plus the time at which it was worked out, in half-lives.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

HALF_LIFE_MS = 24 * 3600 * 1000
_HOT_FROM = 0.7
_COLD_BELOW = 0.3
_COLDEST = 2.0**-20  # a logarithm needs something
_MAX_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class Weights:
    """What counts for how much, each for a value from 0 to 1, ``silence`` for a day of it."""

    activity: float = 0.2
    breakthrough: float = 0.3
    silence: float = 0.1
    boost: float = 0.5


DEFAULT_WEIGHTS = Weights()


class Heat(Enum):
    """A part of the scale: from a temperature on, and below another; None: without end."""

    HOT = (_HOT_FROM, None)
    WARM = (_COLD_BELOW, _HOT_FROM)
    COLD = (None, _COLD_BELOW)


class Warmth(NamedTuple):
    """The columns of ``tasks`` that make up its temperature. Times in Unix ms.

    ``activity``, ``breakthrough`` and ``boost`` are from 0 to 1, as of ``active_at``; they fade
    with the half-life, too.
    """

    activity: float
    breakthrough: float
    boost: float
    active_at: int
    progressed_at: int
    heat: float


class Activity(NamedTuple):
    """Something that warms a task. A boost of None leaves the one there is."""

    progress: bool = False
    breakthrough: bool = False
    boost: float | None = None


def born(priority: int, now: int, weights: Weights) -> Warmth:
    """The warmth of a new task."""
    return settled(Warmth(0.0, 0.0, 0.0, now, now, 0.0), priority, weights)


def warmed(
    before: Warmth, activity: Activity, *, priority: int, now: int, weights: Weights
) -> Warmth:
    """The warmth of a task after an activity."""
    faded = math.exp2((before.active_at - now) / HALF_LIFE_MS)
    after = Warmth(
        activity=1 - (1 - before.activity * faded) / 2,
        breakthrough=1.0 if activity.breakthrough else before.breakthrough * faded,
        boost=before.boost * faded if activity.boost is None else activity.boost,
        active_at=now,
        progressed_at=now if activity.progress else before.progressed_at,
        heat=0.0,
    )
    return settled(after, priority, weights)


def settled(warmth: Warmth, priority: int, weights: Weights) -> Warmth:
    """A warmth with the heat that follows from the rest of it."""
    return warmth._replace(heat=settled_heat(*warmth[:-1], priority, weights))


def settled_heat(  # noqa: PLR0917 - the columns, in their order
    activity: float,
    breakthrough: float,
    boost: float,
    active_at: int,
    progressed_at: int,
    priority: int,
    weights: Weights,
) -> float:
    """The heat that follows from the rest of a warmth."""
    silent_days = (active_at - progressed_at) / HALF_LIFE_MS
    value = (
        priority / _MAX_PRIORITY
        + weights.activity * activity
        + weights.breakthrough * breakthrough
        - weights.silence * silent_days
        + weights.boost * boost
    )
    return heat_of(min(1.0, max(_COLDEST, value)), active_at)


def temperature(heat: float, now: int) -> float:
    """The value at a time, 0 to 1."""
    return min(1.0, round(math.exp2(heat - now / HALF_LIFE_MS), 9))


def heat_of(temperature: float, now: int) -> float:
    """The heat of what has this temperature at a time."""
    return math.log2(temperature) + now / HALF_LIFE_MS
