"""The three hypotheses of the project, part by part, and what measured figures say of each.

A part is a comparison of two ways to coordinate by one figure. Runs of the same seed did the same
work, so they are compared in pairs; the median of the pairs has a bootstrap interval. A margin says
which difference would matter to anybody. A claim is

supported     where the whole interval is beyond the margin, in the direction claimed
refuted       where the whole interval is short of it: no such difference, or the opposite one
cannot tell   where the interval holds the margin, or where pairs are too few

With the most agents that both had is decided, since that is where the hypotheses expect what they
say; other numbers of agents, and other ways of pulling than the one of the reference, by poll, are
shown beside. Only arithmetic lives here: figures come in, verdicts go out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from taskloom_experiments.bootstrap import FEWEST, Interval, median_interval

Outcome = Literal["supported", "refuted", "cannot tell"]

PULLING = ("poll", "watch", "next", "stream")
"""The ways of pulling; the first of them that was measured stands for pull."""


@dataclass(frozen=True)
class Observed:
    """What the repeats of one run measured: its figures by seed.

    ``way`` is the way of pulling, or the mode where that is not pull. ``independent``: hardly any
    task had to wait for another.
    """

    name: str
    way: str
    agents: int
    independent: bool
    by_seed: Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Claim:
    """What a part of a hypothesis claims of a figure.

    ``direction`` is 1 for more and -1 for less. A ``ratio`` is compared by its quotient, and the
    margin is a share; other figures by their difference, and the margin has their unit.
    """

    text: str
    figure: str
    direction: Literal[1, -1]
    ratio: bool
    margin: float

    def effect(self, left: float, right: float) -> float | None:
        """By how much the left has more; None where there is no quotient."""
        if not self.ratio:
            return left - right
        return left / right if right else None

    def outcome(self, interval: Interval) -> Outcome:
        """What an interval of effects says of it."""
        if interval.count < FEWEST:
            return "cannot tell"
        nothing = 1.0 if self.ratio else 0.0
        ends = [self.direction * (end - nothing) for end in (interval.low, interval.high)]
        if min(ends) > self.margin:
            return "supported"
        return "refuted" if max(ends) < self.margin else "cannot tell"


@dataclass(frozen=True)
class Compared:
    """Two runs compared, by name: the interval of the effects of their pairs, and what it says."""

    left: str
    right: str
    agents: str
    interval: Interval
    outcome: Outcome


@dataclass(frozen=True)
class Part:
    """A part of a hypothesis: its claim, what decides it, what stands beside, and the verdict."""

    claim: Claim
    deciding: tuple[Compared, ...]
    beside: tuple[Compared, ...]

    @property
    def outcome(self) -> Outcome:
        """Refuted by one comparison that refutes it, supported only by all."""
        return _together([one.outcome for one in self.deciding])


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis with its parts."""

    name: str
    text: str
    parts: tuple[Part, ...]

    @property
    def outcome(self) -> Outcome:
        """That of its parts together: supported only as a whole."""
        return _together([part.outcome for part in self.parts])


CONTENTION, GINI, IDLE, SHARE = 0.05, 0.02, 0.01, 0.01
"""Margins: claims refused a task, Gini, idle share of the time, share of a time, rate or cost."""

_LESS_CONTENTION = Claim("less contention", "claim_retries_per_task", -1, False, CONTENTION)
_BOTTLENECK = Claim("a coordinator that holds work up", "wall_clock_ms", 1, True, SHARE)
_EVEN = Claim("a more even distribution", "gini_coefficient", -1, False, GINI)
_MORE_IDLE = Claim("more idleness", "idle_time_ratio", 1, False, IDLE)
_THROUGHPUT = Claim("the highest throughput on independent tasks", "tasks_per_hour", 1, True, SHARE)
_GROWING = Claim(
    "contention that grows with the agents", "claim_retries_per_task", 1, False, CONTENTION
)
_FASTEST = Claim("the shortest time", "wall_clock_ms", -1, True, SHARE)
_LEAST_IDLE = Claim("the least idleness", "idle_time_ratio", -1, False, IDLE)
_CHEAPEST = Claim("the cheapest task", "cost_per_task_usd", -1, True, SHARE)


def weigh(observed: Sequence[Observed]) -> tuple[Hypothesis, ...]:
    """What the figures say of the three hypotheses; empty where nothing was compared with pull."""
    pulls = [way for way in PULLING if any(one.way == way for one in observed)]
    if not pulls or not any(one.way in ("push", "hybrid") for one in observed):
        return ()
    independent = [one for one in observed if one.independent]
    push = tuple(
        _against(claim, observed, "push", pulls)
        for claim in (_LESS_CONTENTION, _BOTTLENECK, _EVEN, _MORE_IDLE)
    )
    highest = _best(_THROUGHPUT, independent, pulls, ("push", "hybrid"))
    hybrid = tuple(
        _best(claim, observed, ["hybrid"], (pulls[0], "push"), beside=pulls[1:])
        for claim in (_FASTEST, _LEAST_IDLE, _CHEAPEST)
    )
    return (
        Hypothesis(
            "push",
            "Push reduces contention, but its coordinator is a bottleneck: tasks are spread evenly,"
            " and agents idle more.",
            push,
        ),
        Hypothesis(
            "pull",
            "Pull has the highest throughput on independent tasks, and contention that grows with "
            "the number of agents.",
            (highest, _growing(observed, pulls)),
        ),
        Hypothesis("hybrid", "Hybrid balances both, and is best overall.", hybrid),
    )


def _against(claim: Claim, observed: Sequence[Observed], way: str, pulls: Sequence[str]) -> Part:
    """A way against pull: by the first way of pulling with the most agents is decided."""
    return _best(claim, observed, [way], (pulls[0],), beside=pulls[1:])


def _best(
    claim: Claim,
    observed: Sequence[Observed],
    ways: Sequence[str],
    rivals: Sequence[str],
    beside: Sequence[str] = (),
) -> Part:
    """The first of some ways against every rival; others of both are only shown."""
    deciding: list[Compared] = []
    others: list[Compared] = []
    for rival in rivals:
        compared = _pairs(claim, observed, ways[0], rival)
        deciding += compared[-1:]
        others += compared[:-1]
    for way, rival in [(ways[0], rival) for rival in beside] + [
        (way, rival) for way in ways[1:] for rival in rivals
    ]:
        others += _pairs(claim, observed, way, rival)
    # What was not measured against every rival is not best of all.
    whole = len(deciding) == len(rivals)
    return Part(claim, tuple(deciding) if whole else (), tuple(others if whole else []))


def _growing(observed: Sequence[Observed], pulls: Sequence[str]) -> Part:
    """Pull with the most agents against pull with the fewest."""
    found = []
    for way in pulls:
        mine = sorted((one for one in observed if one.way == way), key=lambda one: one.agents)
        if mine and mine[0].agents < mine[-1].agents:
            most, fewest = mine[-1], mine[0]
            found += _compared(_GROWING, most, fewest, f"{most.agents} and {fewest.agents}")
    return Part(_GROWING, tuple(found[:1]), tuple(found[1:]))


def _pairs(claim: Claim, observed: Sequence[Observed], way: str, rival: str) -> list[Compared]:
    """Both with equally many agents, fewest first."""
    found = []
    for left in sorted(observed, key=lambda one: one.agents):
        for right in observed:
            if (left.way, right.way, left.agents) == (way, rival, right.agents):
                found += _compared(claim, left, right, str(left.agents))
                break
    return found


def _compared(claim: Claim, left: Observed, right: Observed, agents: str) -> list[Compared]:
    effects = []
    for seed in sorted(left.by_seed.keys() & right.by_seed.keys()):
        mine = left.by_seed[seed].get(claim.figure)
        other = right.by_seed[seed].get(claim.figure)
        if mine is None or other is None:
            continue
        if (effect := claim.effect(mine, other)) is not None:
            effects.append(effect)
    if not effects:
        return []
    interval = median_interval(effects)
    return [Compared(left.name, right.name, agents, interval, claim.outcome(interval))]


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    if "refuted" in outcomes:
        return "refuted"
    everything = bool(outcomes) and set(outcomes) == {"supported"}
    return "supported" if everything else "cannot tell"
