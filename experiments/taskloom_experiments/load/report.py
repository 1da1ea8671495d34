"""A measurement written down: JSON for programs, Markdown tables for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from taskloom_experiments.load.measured import Figure, Measured

JSON_FILE = "bench.json"
MARKDOWN_FILE = "bench.md"
_VERDICTS = {True: "met", False: "**missed**", None: ""}


def write_report(folder: Path, machine: Mapping[str, str], measured: Sequence[Measured]) -> None:
    """Write both files into the folder."""
    document = {"machine": dict(machine), "measured": [one.to_dict() for one in measured]}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / JSON_FILE).write_text(text, encoding="utf-8")
    markdown = f"# Benchmark\n\n{machine_table(machine)}\n\n{tables(measured)}\n"
    (folder / MARKDOWN_FILE).write_text(markdown, encoding="utf-8")


def machine_table(machine: Mapping[str, str]) -> str:
    """What it was measured on."""
    return _table(("measured on", ""), machine.items())


def tables(measured: Sequence[Measured]) -> str:
    """The figures of all scenarios, and then their latencies."""
    figures = _table(
        ("scenario", "figure", "value", "bar", ""),
        (
            (one.scenario, figure.name, _value(figure), _bar(figure), _VERDICTS[figure.met])
            for one in measured
            for figure in one.figures
        ),
    )
    rows = [
        (
            *(one.scenario, name, f"{summary.count:,}"),
            *(
                f"{us / 1000:.2f}"
                for us in (summary.p50_us, summary.p90_us, summary.p99_us, summary.max_us)
            ),
        )
        for one in measured
        for name, summary in one.latencies.items()
    ]
    if not rows:
        return figures
    header = ("scenario", "latency", "samples", "p50 ms", "p90 ms", "p99 ms", "max ms")
    return f"{figures}\n\n{_table(header, rows)}"


def _value(figure: Figure) -> str:
    return f"{figure.value:,.{0 if figure.value == int(figure.value) else 2}f} {figure.unit}"


def _bar(figure: Figure) -> str:
    return "" if figure.bar is None else f"≤ {figure.bar:g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
