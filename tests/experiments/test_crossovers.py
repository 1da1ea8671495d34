"""Where a curve overtakes another, and where it only seems to."""

from taskloom_experiments.chart_sweep import caption
from taskloom_experiments.crossovers import BySeed, crossings


def curve(*heights: float, seeds: int = 6) -> list[BySeed]:
    """A figure by seed at every value, the seeds differing a little."""
    return [{seed: height + 0.001 * seed for seed in range(seeds)} for height in heights]


def test_crossing_is_where_the_leads_balance() -> None:
    """From 2 ahead to 1 behind is two thirds of the way."""
    (found,) = crossings({"push": curve(5, 3), "pull": curve(3, 4)})
    assert (found.overtaking, found.overtaken) == ("pull", "push")
    assert found.place == 2 / 3
    assert 3 < found.height < 5


def test_curves_that_keep_their_order_do_not_cross() -> None:
    """Coming near is no crossing."""
    assert crossings({"push": curve(5, 4, 5), "pull": curve(3, 3.9, 3)}) == ()


def test_lead_that_is_not_settled_is_passed_over() -> None:
    """A value at which pairs go either way neither makes nor hides a crossing."""
    scattered = [{seed: 3.5 + (1 if seed % 2 else -1) for seed in range(6)}]
    push = [*curve(5), *scattered, *curve(2)]
    (found,) = crossings({"push": push, "pull": curve(3, 3.5, 4)})
    assert 0 < found.place < 2


def test_few_pairs_settle_nothing() -> None:
    """With four seeds no crossing is marked."""
    assert crossings({"a": curve(5, 1, seeds=4), "b": curve(1, 5, seeds=4)}) == ()


def test_who_leads_at_both_ends_is_named_once() -> None:
    """A caption says who leads at the least and at the greatest value."""
    ahead, behind = curve(5, 4, 3), curve(1, 1, 1)
    told = caption("crash_rate", ["0", "1", "2"], {"a": ahead, "b": behind}, ())
    assert "a leads at 0/h and at 2/h; none overtakes another beyond doubt" in told
    told = caption("crash_rate", ["0", "1", "2"], {"a": ahead, "b": behind[:2] + curve(9)}, ())
    assert "a leads at 0/h and b leads at 2/h" in told
