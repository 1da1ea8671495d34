"""Conditions of success criteria: what parses, what never does, and what cannot be told."""

import pytest
from taskloom_experiments.criteria import ConditionError, evaluate, parse_condition

FIGURES = {"pending_count": 0, "working_count": 2, "gini_coefficient": 0.2, "throughput": 0.0}


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        ("pending_count == 0 AND working_count == 0", "fail"),
        ("pending_count == 0 and working_count == 2", "pass"),
        ("pending_count == 1 OR working_count == 2", "pass"),
        ("NOT pending_count == 1", "pass"),
        ("NOT (pending_count == 0 OR working_count == 0)", "fail"),
        ("gini_coefficient < 0.25", "pass"),
        ("0.1 < gini_coefficient <= 0.2", "pass"),
        ("working_count > 2.5 * pending_count + 1 - -1", "fail"),
        ("working_count / 4 >= 0.5", "pass"),
        ("working_count != 2", "fail"),
        ("\n  working_count\n  == 2\n", "pass"),
        ("load_balance_gini < 0.25", "pass"),  # the definition's other name of it
    ],
)
def test_condition_is_evaluated(condition: str, outcome: str) -> None:
    """Comparisons, arithmetic and AND, OR, NOT do what they say."""
    assert evaluate(parse_condition(condition), FIGURES, {})[0] == outcome


def test_outcome_shows_the_figures_that_decided() -> None:
    """The detail names every figure with its value."""
    _, detail = evaluate(parse_condition("working_count > pending_count"), FIGURES, {})
    assert detail == "pending_count = 0, working_count = 2"


@pytest.mark.parametrize(
    ("condition", "detail"),
    [
        ("merge_conflicts == 0", "no metric named merge_conflicts"),
        ("queue_wait_p50_ms < 5", "no queue_wait_p50_ms: nothing waited"),
        ("pending_count == 0 OR merge_conflicts == 0", "no metric named merge_conflicts"),
        ("working_count / throughput > 1", "it divides by zero with throughput = 0"),
    ],
)
def test_missing_figure_cannot_be_told(condition: str, detail: str) -> None:
    """A figure that is not there makes no pass and no fail, and is named."""
    missing = {"queue_wait_p50_ms": "nothing waited"}
    outcome, told = evaluate(parse_condition(condition), FIGURES, missing)
    assert outcome == "cannot tell"
    assert told.startswith(detail)


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("max(a, b) > 1", "calls a function"),
        ("__import__('os').system('true') == 0", "calls a function"),
        ("rand() > 0.5", "calls a function"),
        ("a.__class__ == 1", "holds something else"),
        ("a[0] == 1", "holds something else"),
        ("a == 'x'", "holds something else"),
        ("a ** 9 ** 9 > 1", "holds something else"),
        ("[a for a in b] == 1", "holds something else"),
        ("(a := 1) == 1", "holds something else"),
        ("(lambda: 1) == 1", "holds something else"),
        ("a is b", "holds something else"),
        ("a in b", "holds something else"),
        ("1 if a else 2", "holds something else"),
        ("f'{a}' == 1", "holds something else"),
        ("a % 2 == 0", "holds something else"),
        ("a = 1", "write '=='"),
        ("a + 1", "is neither true nor false"),
        ("a", "is neither true nor false"),
        ("a > 1 or b", "is neither true nor false"),
        ("1 < 2", "names no figure"),
        ("a >", "does not parse"),
        ("", "does not parse"),
        ("a > 1\0", "does not parse"),
        ("1for > 2", "does not parse"),
        ("(" * 900 + "a", "does not parse"),
        ("a > 1 and " * 200 + "a > 1", "is longer than"),
        ("a > 1; b > 1", "does not parse"),
    ],
)
def test_condition_that_does_more_than_compare_is_refused(condition: str, reason: str) -> None:
    """Nothing but figures, numbers and comparisons parses, and the refusal says what is wrong."""
    with pytest.raises(ConditionError, match=reason):
        parse_condition(condition)


def test_condition_knows_what_it_is_asked_of() -> None:
    """throughput_N_agents is over runs, everything else of one run."""
    scaling = parse_condition("throughput_4_agents > 2.5 * throughput_1_agent")
    assert not scaling.asks_single_runs
    mixed = parse_condition("tasks_per_hour > 0.5 * throughput_1_agent")
    assert mixed.asks_single_runs
