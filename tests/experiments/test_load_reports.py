"""What is written of a measurement: histograms, charts, comparisons, and wrong input."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskloom_experiments.load.charts import CHARTS
from taskloom_experiments.load.commands import compare_command
from taskloom_experiments.load.histogram import Histogram
from taskloom_experiments.load.measured import Curve, Figure, Measured, median_of
from taskloom_experiments.load.report import write_report
from taskloom_experiments.load.scenarios import SCENARIOS


@given(
    st.lists(st.integers(1_000, 50_000_000_000), min_size=1, max_size=60),
    st.lists(st.integers(1_000, 50_000_000_000), max_size=60),
    st.integers(1, 1000).map(lambda tenths: tenths / 10),
)
def test_histograms_together_are_as_exact_as_told(
    here: Sequence[int], there: Sequence[int], percent: float
) -> None:
    """A percentile over two processes is the exact one, to a thousandth and a microsecond."""
    first, second = Histogram(), Histogram()
    for sample in here:
        first.record(sample)
    for sample in there:
        second.record(sample)
    first.add(second.encode())

    together = sorted([*here, *there])
    assert len(first) == len(together)
    rank = max(1, int(percent / 100 * len(together) + 0.5))  # the nearest, says HdrHistogram
    exact_us = together[rank - 1] / 1_000
    assert first.percentile_us(percent) == pytest.approx(exact_us, rel=0.001, abs=1)


def test_histogram_takes_what_is_out_of_its_range() -> None:
    """What took no time or more than a minute counts as the least or the most."""
    histogram = Histogram()
    histogram.record(-5)
    histogram.record(10**12)

    assert histogram.summary().count == 2
    assert histogram.summary().max_us == pytest.approx(60e6, rel=0.001)


def _measured(value: float) -> Measured:
    return Measured(
        "a scenario",
        {},
        (
            Figure("one", value, "x", 2.0),
            median_of("two", [1.0, 3.0, 2.0], "x", 3.0, at_least=True),
        ),
        curves=tuple(
            Curve(chart, label, ((0.5, 1.0), (1.0, 2.0)))
            for chart in CHARTS
            for label in ("claim", "no-op")
        ),
    )


def test_every_chart_is_drawn(tmp_path: Path) -> None:
    """There is a file for each chart that has curves, and the report shows it."""
    write_report(tmp_path, {"processor": "a machine"}, [_measured(1.0)])

    markdown = (tmp_path / "bench.md").read_text(encoding="utf-8")
    for chart in CHARTS:
        name = f"{chart.replace(' ', '-')}.png"
        assert (tmp_path / name).stat().st_size > 10_000
        assert f"({name})" in markdown
    document = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert document["measured"][0]["figures"][1]["spread"] == [1.0, 3.0]


def test_two_outputs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each figure stands beside its earlier self, with the ratio, and whether it is met now."""
    for name, value in (("a", 2.5), ("b", 1.25)):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, {"commit": name}, [_measured(value)])

    assert compare_command(tmp_path / "a", tmp_path / "b" / "bench.json") == 0

    lines = capsys.readouterr().out.splitlines()
    assert "| commit | a | b |" in lines
    assert "| a scenario | one | 2.50 x | 1.25 x | 0.50 | ≤ 2 | met |" in lines
    assert "| a scenario | two | 2 x | 2 x | 1 | ≥ 3 | **missed** |" in lines


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"machine": {}}'])
def test_what_is_no_measurement_cannot_be_compared(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong input is one sentence that names the file, and exit code 2."""
    if content is not None:
        (tmp_path / "bench.json").write_text(content, encoding="utf-8")

    assert compare_command(tmp_path, tmp_path) == 2

    assert str(tmp_path / "bench.json") in capsys.readouterr().err


def test_every_scenario_says_what_it_is() -> None:
    """``taskloom load --list`` has a line for each, with the minutes that it takes."""
    assert all(one.about and one.minutes > 0 for one in SCENARIOS.values())
