"""Two measurements beside each other: what has become better, what worse."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.load.report import JSON_FILE, VERDICTS, number, table

_MACHINE = ("processor", "Python", "grpcio", "SQLite", "durability", "commit")


class UnreadableReport(ExperimentError):
    """There is no measurement where one was named; the text says why."""


def read_report(place: Path) -> Mapping[str, Any]:
    """A measurement, by its folder or its JSON file. Raises UnreadableReport."""
    file = place / JSON_FILE if place.is_dir() else place
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableReport(
            f"{file} cannot be read ({error}); name the output folder of a measurement"
        ) from error
    if not isinstance(document, dict) or not {"machine", "measured"} <= document.keys():
        raise UnreadableReport(f"{file} is no measurement of taskloom load")
    return document


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Tables of Markdown: what both were measured on, and each figure that is in either."""
    machines = (before["machine"], after["machine"])
    earlier, later = dict(_figures(before)), dict(_figures(after))
    rows = [
        (*key, *_row(earlier.get(key), later.get(key))) for key in dict.fromkeys((*earlier, *later))
    ]
    on = table(
        ("measured on", "A", "B"),
        ((name, *(machine.get(name, "") for machine in machines)) for name in _MACHINE),
    )
    return f"{on}\n\n{table(('scenario', 'figure', 'A', 'B', 'B / A', 'bar', 'B is'), rows)}"


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:
    for one in report["measured"]:
        for figure in one["figures"]:
            yield (one["scenario"], figure["name"]), figure


def _row(earlier: Mapping[str, Any] | None, later: Mapping[str, Any] | None) -> tuple[str, ...]:
    some = later or earlier
    assert some is not None
    values = [f"{number(one['value'])} {one['unit']}" if one else "" for one in (earlier, later)]
    change = ""
    if earlier and later and earlier["value"]:
        change = number(later["value"] / earlier["value"])
    bar = ""
    if some["bar"] is not None:
        bar = f"{'≥' if some['at_least'] else '≤'} {some['bar']:g}"
    return (*values, change, bar, VERDICTS[later["met"]] if later else "")
