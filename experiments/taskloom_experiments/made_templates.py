"""Templates of any size, made up from a seed: for experiments larger than a person would write.

A project contains epics of a hundred tasks each. What differs is how tasks wait for each other:

flat     not at all: whoever is free can work
phased   by fours: explore, design, implement, test
chains   by tens, one after the other

Estimates are log-normal, a quarter of an hour at the median, two minutes to two hours; priorities
are those of people, most of them in the middle.
"""

import gzip
import json
import random
from pathlib import Path
from typing import Any

from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.whole_files import written_whole

MOST_TASKS = 1_000_000

_MADE_AT = 1_767_225_600_000  # Unix ms: the same file for the same words, whenever it is made
_AN_EPIC = 100
_PHASES = ("explore", "design", "implement", "test")
_CHAIN = {"flat": 1, "phased": len(_PHASES), "chains": 10}
_MEDIAN_MS = 15 * 60_000
_SPREAD = 0.6
_LEAST_MS, _MOST_MS = 2 * 60_000, 120 * 60_000


class CannotMakeTemplate(ExperimentError):
    """A template of this size or shape is not made; the text is one sentence that says what is."""


def make_template(tasks: int, shape: str, seed: int) -> bytes:
    """A snapshot of so many tasks to be worked, beside the epics and the project around them.

    Raises CannotMakeTemplate.
    """
    if not 1 <= tasks <= MOST_TASKS:
        raise CannotMakeTemplate(f"{tasks} tasks are not made; ask for 1 to {MOST_TASKS:,}")
    if shape not in _CHAIN:
        raise CannotMakeTemplate(f"no shape is called '{shape}'; there are {', '.join(_CHAIN)}")
    draw = random.Random(f"{seed}:{shape}")
    width = len(str(tasks))
    rows: list[dict[str, Any]] = [_row("project", f"A project of {tasks} tasks")]
    edges: list[dict[str, str]] = []
    chain = _CHAIN[shape]
    for number in range(tasks):
        place = number % _AN_EPIC
        epic = f"epic-{number // _AN_EPIC + 1:0{width}}"
        if place == 0:
            rows.append(_row(epic, f"Part {number // _AN_EPIC + 1}"))
            edges.append(_edge("project", epic, "contains"))
        task = f"task-{number + 1:0{width}}"
        phase = _PHASES[place % chain] if shape == "phased" else "implement"
        row = _row(task, f"{phase.capitalize()} what is number {number + 1}", phase)
        estimate = _MEDIAN_MS * draw.lognormvariate(0, _SPREAD)
        row["time_estimate_ms"] = round(min(max(estimate, _LEAST_MS), _MOST_MS) / 1000) * 1000
        row["priority"] = min(10, max(0, round(draw.gauss(5, 1.5))))
        rows.append(row)
        edges.append(_edge(epic, task, "contains"))
        if place % chain:
            edges.append(_edge(f"task-{number:0{width}}", task, "blocks"))
    snapshot = {
        "schema_version": 3,
        "export_version": "0.1.0",
        "exported_at": "2026-01-01T00:00:00Z",
        "exported_by": "taskloom",
        "tables": {"tasks": rows, "dependencies": edges},
    }
    return json.dumps(snapshot, indent=1).encode()


def write_template(content: bytes, file: Path) -> None:
    """Write it, whole or not at all; gzipped where the name ends on ``.gz``.

    Raises CannotMakeTemplate where the file cannot be written.
    """
    if file.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    try:
        with written_whole(file) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        raise CannotMakeTemplate(f"{file}: cannot be written: {error.strerror}") from error


def _row(task_id: str, title: str, phase: str | None = None) -> dict[str, Any]:
    return {
        "id": task_id,
        "title": title,
        "status": "pending",
        "phase": phase,
        "priority": 5,
        "created_at": _MADE_AT,
        "updated_at": _MADE_AT,
    }


def _edge(from_: str, to: str, kind: str) -> dict[str, str]:
    return {"from_task_id": from_, "to_task_id": to, "dep_type": kind}
