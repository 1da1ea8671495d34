"""A measurement written down: JSON for programs, Markdown tables and charts for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from taskloom_experiments.load.charts import draw
from taskloom_experiments.load.measured import Figure, Measured

JSON_FILE = "bench.json"
MARKDOWN_FILE = "bench.md"
VERDICTS = {True: "met", False: "**missed**", None: ""}


def write_report(folder: Path, machine: Mapping[str, str], measured: Sequence[Measured]) -> None:
    """Write both files into the folder, and the charts."""
    document = {"machine": dict(machine), "measured": [one.to_dict() for one in measured]}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / JSON_FILE).write_text(text, encoding="utf-8")
    told = " · ".join(filter(None, (machine.get("processor"), machine.get("durability"))))
    charts = [f"![{file.stem}]({file.name})" for file in draw(measured, told, folder)]
    parts = ["# Benchmark", machine_table(machine), tables(measured), *charts]
    markdown = "\n\n".join(parts) + "\n"
    (folder / MARKDOWN_FILE).write_text(markdown, encoding="utf-8")


def machine_table(machine: Mapping[str, str]) -> str:
    """What it was measured on."""
    return table(("measured on", ""), machine.items())


def tables(measured: Sequence[Measured]) -> str:
    """The figures of all scenarios, and then their latencies."""
    figures = table(
        ("scenario", "figure", "value", "rounds", "bar", ""),
        (
            (
                one.scenario,
                figure.name,
                f"{number(figure.value)} {figure.unit}",
                "" if figure.spread is None else " to ".join(map(number, figure.spread)),
                _bar(figure),
                VERDICTS[figure.met],
            )
            for one in measured
            for figure in one.figures
        ),
    )
    rows = [
        (
            *(one.scenario, name, f"{summary.count:,}"),
            *(
                f"{us / 1000:.2f}"
                for us in (
                    summary.p50_us,
                    summary.p90_us,
                    summary.p99_us,
                    summary.p999_us,
                    summary.max_us,
                )
            ),
        )
        for one in measured
        for name, summary in one.latencies.items()
    ]
    if not rows:
        return figures
    header = ("scenario", "latency", "samples", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms")
    return f"{figures}\n\n{table(header, rows)}"


def number(value: float) -> str:
    """Whole where it is, else with two digits, or three where it is small."""
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.3g}" if abs(value) < 0.1 else f"{value:,.2f}"


def _bar(figure: Figure) -> str:
    if figure.bar is None:
        return ""
    return f"{'≥' if figure.at_least else '≤'} {figure.bar:g}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """As Markdown has it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
