"""What made-up figures say of the three hypotheses."""

from collections.abc import Mapping

import pytest
from taskloom_experiments.hypotheses import Hypothesis, Observed, Part, weigh

SEEDS = range(1, 9)

# Figures that support every part: pull is fast and quarrels, push is slow, even and idle.
POLL = {
    "claim_retries_per_task": 1.0,
    "wall_clock_ms": 1000.0,
    "gini_coefficient": 0.3,
    "idle_time_ratio": 0.2,
    "tasks_per_hour": 100.0,
    "cost_per_task_usd": 1.0,
}
PUSH = {
    "claim_retries_per_task": 0.0,
    "wall_clock_ms": 1300.0,
    "gini_coefficient": 0.05,
    "idle_time_ratio": 0.4,
    "tasks_per_hour": 70.0,
    "cost_per_task_usd": 1.1,
}
HYBRID = {
    "claim_retries_per_task": 0.1,
    "wall_clock_ms": 900.0,
    "gini_coefficient": 0.1,
    "idle_time_ratio": 0.1,
    "tasks_per_hour": 90.0,
    "cost_per_task_usd": 0.9,
}


def observed(
    way: str,
    figures: Mapping[str, float],
    *,
    agents: int = 8,
    independent: bool = True,
    seeds: range = SEEDS,
    noise: float = 0.001,
) -> Observed:
    """Repeats that vary a little by seed, all ways alike."""
    by_seed = {
        seed: {name: value * (1 + noise * (seed % 3)) for name, value in figures.items()}
        for seed in seeds
    }
    return Observed(f"{way}-{agents}", way, agents, independent, by_seed)


def three(**changes: Mapping[str, float]) -> list[Observed]:
    """The three ways with eight agents and poll with two, who hardly quarrel."""
    return [
        observed("poll", {**POLL, "claim_retries_per_task": 0.1}, agents=2),
        observed("poll", {**POLL, **changes.get("poll", {})}),
        observed("push", {**PUSH, **changes.get("push", {})}),
        observed("hybrid", {**HYBRID, **changes.get("hybrid", {})}),
    ]


def by_name(found: tuple[Hypothesis, ...]) -> dict[str, Hypothesis]:
    """Push, pull and hybrid."""
    return {one.name: one for one in found}


def part(found: tuple[Hypothesis, ...], text: str) -> Part:
    """The part whose claim has these words."""
    return next(one for each in found for one in each.parts if text in one.claim.text)


def test_figures_as_expected_support_all_three() -> None:
    """Where everything is as it was expected, every hypothesis is supported."""
    assert {one.name: one.outcome for one in weigh(three())} == {
        "push": "supported",
        "pull": "supported",
        "hybrid": "supported",
    }


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("less contention", {"push": {"claim_retries_per_task": 2.0}}),
        ("holds work up", {"push": {"wall_clock_ms": 1001.0}}),
        ("more even", {"push": {"gini_coefficient": 0.3}}),
        ("more idleness", {"push": {"idle_time_ratio": 0.1}}),
        ("highest throughput", {"hybrid": {"tasks_per_hour": 120.0}}),
        ("grows with the agents", {"poll": {"claim_retries_per_task": 0.1}}),
        ("shortest time", {"hybrid": {"wall_clock_ms": 1100.0}}),
        ("least idleness", {"hybrid": {"idle_time_ratio": 0.3}}),
        ("cheapest", {"hybrid": {"cost_per_task_usd": 1.05}}),
    ],
)
def test_each_part_is_refuted_by_its_own_figure(
    words: str, changes: dict[str, dict[str, float]]
) -> None:
    """One figure that says otherwise refutes its part, and with it the hypothesis."""
    found = weigh(three(**changes))
    assert part(found, words).outcome == "refuted"
    assert any(one.outcome == "refuted" for one in found)


def test_difference_that_matters_to_nobody_is_none() -> None:
    """Half a percent longer, however certain, is no bottleneck."""
    found = weigh(three(push={"wall_clock_ms": 1005.0}))
    assert part(found, "holds work up").outcome == "refuted"


def test_figures_that_scatter_cannot_tell() -> None:
    """Where pairs go either way, nobody can tell."""
    poll, push = observed("poll", POLL), observed("push", PUSH)
    for seed, figures in push.by_seed.items():
        assert isinstance(figures, dict)
        figures["wall_clock_ms"] = 800.0 if seed % 2 else 1200.0
    assert part(weigh([poll, push]), "holds work up").outcome == "cannot tell"


def test_too_few_pairs_cannot_tell() -> None:
    """Four seeds decide nothing, as clear as they may be."""
    found = weigh([observed(way, figures, seeds=range(1, 5)) for way, figures in _MODES.items()])
    assert {one.outcome for each in found for one in each.parts} == {"cannot tell"}


_MODES = {"poll": POLL, "push": PUSH, "hybrid": HYBRID}


def test_only_equal_seeds_are_paired() -> None:
    """Runs of other seeds did other work, and are not compared."""
    found = weigh([observed("poll", POLL), observed("push", PUSH, seeds=range(5, 20))])
    assert part(found, "less contention").deciding[0].interval.count == 4


def test_most_agents_decide_and_fewer_stand_beside() -> None:
    """What two agents show is shown, and decides nothing."""
    few = observed("push", {**PUSH, "wall_clock_ms": 1000.0}, agents=2)
    found = weigh([*three(), few])
    bottleneck = part(found, "holds work up")
    assert bottleneck.outcome == "supported"
    assert [(one.agents, one.outcome) for one in bottleneck.beside] == [("2", "refuted")]


def test_another_way_of_pulling_stands_beside() -> None:
    """Poll decides where it was measured; next is shown."""
    found = weigh([*three(), observed("next", {**POLL, "claim_retries_per_task": 0.0})])
    contention = part(found, "less contention")
    assert contention.outcome == "supported"
    assert [one.right for one in contention.beside] == ["next-8"]


def test_tasks_that_wait_say_nothing_of_independent_ones() -> None:
    """The throughput of pull is claimed of independent tasks only."""
    found = weigh([observed(way, figures, independent=False) for way, figures in _MODES.items()])
    assert part(found, "highest throughput").outcome == "cannot tell"


def test_best_of_all_needs_all() -> None:
    """Without push nobody can tell whether hybrid is the best."""
    found = weigh([observed("poll", POLL), observed("hybrid", HYBRID)])
    assert by_name(found)["hybrid"].outcome == "cannot tell"


def test_pull_alone_decides_nothing() -> None:
    """A definition of one mode has no hypotheses in its report."""
    assert weigh([observed("poll", POLL), observed("next", POLL)]) == ()
    assert weigh([]) == ()
