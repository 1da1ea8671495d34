"""Targets: those of the reference as they stand, and others as people write them."""

import pytest
from taskloom_experiments.targets import Clause, judge, parse_target


@pytest.mark.parametrize(
    ("measurement", "text", "clauses"),
    [
        (
            "claim_success_rate",
            "> 90% success rate with 4 agents",
            (Clause("claim_success_rate", ">", 0.9, agents=4),),
        ),
        (
            "claim_retry_count",
            "< 2 retries average per task",
            (Clause("claim_retries_per_task", "<", 2),),
        ),
        (
            "tasks_per_agent",
            "Coefficient of variation < 0.3 (roughly even distribution)",
            (Clause("coefficient_of_variation", "<", 0.3),),
        ),
        (
            "load_balance_gini",
            "< 0.15 for 4+ agents",
            (Clause("gini_coefficient", "<", 0.15, agents=4, or_more=True),),
        ),
        ("idle_time_ratio", "< 15% idle time per agent", (Clause("idle_time_ratio", "<", 0.15),)),
        (
            "throughput_per_agent",
            "> 80% of single-agent throughput per agent",
            (Clause("throughput_per_agent", ">", 0.8, of_single_agent=True),),
        ),
        (
            "scaling_efficiency",
            "> 0.8 for 4 agents, > 0.6 for 8 agents",
            (
                Clause("scaling_efficiency", ">", 0.8, agents=4),
                Clause("scaling_efficiency", ">", 0.6, agents=8),
            ),
        ),
        (
            "blocking_ratio",
            "< 10% blocking ratio for independent tasks",
            (Clause("blocking_ratio", "<", 0.1),),
        ),
        (
            "file_contention",
            "Zero for truly independent tasks",
            (Clause("file_contention", "==", 0),),
        ),
        ("rework_rate", "< 5% rework rate", (Clause("rework_rate", "<", 0.05),)),
        ("queue_wait_time", "p99 under 2 s", (Clause("queue_wait_p99_ms", "<", 2000),)),
        ("queue_wait_time", "at most 500 ms", (Clause("queue_wait_mean_ms", "<=", 500),)),
        ("failed_claim_pct", "< 5%", (Clause("failed_claim_pct", "<", 5),)),
        ("my_own", "≥ 12", (Clause("my_own", ">=", 12),)),
        (
            "scaling_efficiency",
            ">= 0.9 for 2 agents and >= 0.7 with 8 or more agents",
            (
                Clause("scaling_efficiency", ">=", 0.9, agents=2),
                Clause("scaling_efficiency", ">=", 0.7, agents=8, or_more=True),
            ),
        ),
    ],
)
def test_target_is_read(measurement: str, text: str, clauses: tuple[Clause, ...]) -> None:
    """A comparison is read with its figure, its number in the figure's unit, and its scope."""
    assert parse_target(text, measurement).clauses == clauses


@pytest.mark.parametrize(
    ("measurement", "text", "why"),
    [
        ("queue_wait_time", "Queue wait should decrease with more agents", "prose"),
        ("time_per_agent", "Agents should have similar total work times", "prose"),
        ("tasks_per_hour", "Should scale near-linearly with agent count", "prose"),
        ("rework_rate", "< 5% on rainy days", "not understood: 'on rainy days'"),
        ("tasks_per_agent", "< 10%", "tasks_per_agent is not measured in %"),
        ("rework_rate", "< 5 s", "rework_rate is not measured in s"),
        ("rework_rate", "< 5%, and everybody is happy", "prose"),
    ],
)
def test_target_that_cannot_be_read_is_not_judged(measurement: str, text: str, why: str) -> None:
    """Prose, and words that may matter, are left to people."""
    target = parse_target(text, measurement)
    assert target.clauses == ()
    assert judge(target, 4, {"rework_rate": 0.0}, None).judgement == "not judged"
    assert why in (target.not_judged or "")


@pytest.mark.parametrize(
    ("agents", "value", "judgement"),
    [
        (4, 0.81, "met"),
        (4, 0.8, "missed"),
        (8, 0.7, "met"),
        (8, 0.5, "missed"),
        (2, 1, "not judged"),
    ],
)
def test_clause_is_for_its_agents_only(agents: int, value: float, judgement: str) -> None:
    """A run is judged by the clauses for its number of agents, and by no other."""
    target = parse_target("> 0.8 for 4 agents, > 0.6 for 8 agents", "scaling_efficiency")
    assert judge(target, agents, {"scaling_efficiency": value}, None).judgement == judgement


def test_or_more_reaches_upwards() -> None:
    """4+ holds for eight agents and not for two."""
    target = parse_target("< 0.15 for 4+ agents", "load_balance_gini")
    assert judge(target, 8, {"gini_coefficient": 0.2}, None).judgement == "missed"
    assert judge(target, 2, {"gini_coefficient": 0.2}, None).judgement == "not judged"


def test_share_of_the_single_agent() -> None:
    """A share of the one-agent run needs that run, and does not judge it by itself."""
    target = parse_target("> 80% of single-agent throughput per agent", "throughput_per_agent")
    alone = {"throughput_per_agent": 100.0}
    assert judge(target, 4, {"throughput_per_agent": 81.0}, alone).judgement == "met"
    assert judge(target, 4, {"throughput_per_agent": 80.0}, alone).judgement == "missed"
    assert judge(target, 1, alone, alone).judgement == "not judged"
    without = judge(target, 4, {"throughput_per_agent": 81.0}, None)
    assert (without.judgement, "no run with one agent" in without.detail) == ("not judged", True)


def test_missing_figure_is_not_judged() -> None:
    """What was not measured is neither met nor missed."""
    verdict = judge(parse_target("< 5%", "rework_rate"), 4, {}, None)
    assert (verdict.judgement, verdict.detail) == ("not judged", "there is no rework_rate")


def test_target_for_independent_tasks_says_where_they_are_not() -> None:
    """The verdict stands, with a word on the tasks that did wait for others."""
    target = parse_target("Zero for truly independent tasks", "file_contention")
    figures = {"file_contention": 0.0, "dependent_count": 1.0, "total_count": 26.0}
    verdict = judge(target, 4, figures, None)
    assert verdict.judgement == "met"
    assert verdict.detail == "meant for independent tasks; 1 of 26 here had to wait for others"
    assert judge(target, 4, {**figures, "dependent_count": 0.0}, None).detail == ""
