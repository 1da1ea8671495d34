"""The report of an experiment: one Markdown file, what was found on top, how it was measured last.

Its sentences are in ``findings``, its tables in ``report_tables``, its charts in ``charts``. What
the terminal shows is in ``terminal``.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from taskloom_experiments import report_tables as tables
from taskloom_experiments.catalogue import METRICS
from taskloom_experiments.comparison import Comparison
from taskloom_experiments.database import QueryResult
from taskloom_experiments.findings import findings, partial_runs
from taskloom_experiments.formatting import duration, listed
from taskloom_experiments.report_modes import ABOUT_MODES, modes_table
from taskloom_experiments.report_pulls import about_pulls, pulls_table
from taskloom_experiments.report_repeats import repeats_sections
from taskloom_experiments.report_simulation import about_simulation
from taskloom_experiments.whole_files import written_whole

if TYPE_CHECKING:
    from taskloom_experiments.charts import ChartFile


def write_report(comparison: Comparison, file: Path, charts: "Sequence[ChartFile]" = ()) -> None:
    """Write the report; charts are linked from it by their place relative to it."""
    sections = _of_repeats(comparison, charts, file.parent) or _of_runs(
        comparison, charts, file.parent
    )
    text = "\n\n".join(part for part in sections if part) + "\n"
    with written_whole(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _of_repeats(comparison: Comparison, charts: "Sequence[ChartFile]", folder: Path) -> list[str]:
    """The report of runs that were repeated; empty where none was."""
    found = repeats_sections(comparison)
    if not found:
        return []
    return [
        f"# {comparison.definition.name}",
        comparison.definition.description,
        _warning(comparison),
        *_charts(charts, folder),
        *found,
        *_criteria(comparison),
        "## What was measured, and how",
        about_simulation(comparison),
        _about_time(comparison),
        ABOUT_MODES,
        _ABOUT_BOUNDS,
        _about_runs(comparison),
        "## Machine",
        _machine(comparison),
    ]


def _of_runs(comparison: Comparison, charts: "Sequence[ChartFile]", folder: Path) -> list[str]:
    definition = comparison.definition
    return [
        f"# {definition.name}",
        definition.description,
        _warning(comparison),
        "## What was found",
        "\n".join(f"- {sentence}" for sentence in findings(comparison)),
        *_criteria(comparison),
        "## Every figure by run, against its target",
        tables.metrics_table(comparison),
        *_modes(comparison),
        "## Ways of pulling",
        pulls_table(comparison),
        about_pulls(comparison),
        "## Contention",
        tables.contention_table(comparison),
        _about_contention(comparison),
        "## Best possible beside measured",
        tables.best_possible_table(comparison),
        _ABOUT_BOUNDS,
        *_charts(charts, folder),
        "## Agents",
        tables.agents_table(comparison),
        *_answers(comparison),
        "## What was measured, and how",
        _about_runs(comparison),
        about_simulation(comparison),
        _about_time(comparison),
        _about_waiting(comparison),
        _about_figures(comparison),
        "## Machine",
        _machine(comparison),
    ]


def _warning(comparison: Comparison) -> str:
    partial = partial_runs(comparison)
    if not partial:
        return ""
    return (
        f"> **Partial results.** {len(partial)} of {len(comparison.runs)} runs did not run to "
        f"their end: {listed(partial)}. Their figures are of what was done until then."
    )


def _criteria(comparison: Comparison) -> list[str]:
    if not comparison.definition.success_criteria:
        return []
    return ["## Success criteria", tables.criteria_table(comparison)]


def _modes(comparison: Comparison) -> list[str]:
    text = modes_table(comparison)
    return ["## Modes of coordination", text, ABOUT_MODES] if text else []


def _about_contention(comparison: Comparison) -> str:
    told = [
        "A claim is lost when it is refused because another worker has the task; refused otherwise "
        "are claims of tasks that were, for instance, done or blocked by then. Both come from the "
        "counters of the table `workers`, which count every attempt.",
    ]
    answers = [run.answers.get("claim_success_rate") for run in comparison.runs]
    queries = [
        one.query or ""
        for one in comparison.definition.measurements
        if one.name == "claim_success_rate"
    ]
    if any("task_sequence" in query for query in queries):
        seen = any(isinstance(answer, QueryResult) for answer in answers)
        told.append(
            "The definition's own query for `claim_success_rate` counts rows of `task_sequence`. A "
            "refused claim changes no task and leaves no row there, so that query cannot see one"
            + (": its figure stands beside the true one." if seen else ".")
            + " Targets and criteria are judged by the true one."
        )
    if any("file_contention" in run.figures for run in comparison.runs):
        marks = sum(run.figures.get("file_contention", 0) for run in comparison.runs)
        told.append(f"Files marked while another worker had them marked: {marks:,.0f} in all runs.")
    return "\n\n".join(told)


_ABOUT_BOUNDS = (
    "The best possible time is the work divided by the agents, or the longest chain of tasks that "
    "wait for each other, whichever is longer, computed from the working times of that very run. "
    "No scheduler can do better; the shortest schedule that exists may still be longer, so the "
    "share reached is, if anything, too low. Scaling efficiency compares with the run with one "
    "agent instead; the graph limits it to the last column."
)


def _charts(charts: "Sequence[ChartFile]", folder: Path) -> list[str]:
    parts = ["## Charts"] if charts else []
    for chart in charts:
        place = Path(os.path.relpath(chart.file, folder)).as_posix().replace(" ", "%20")
        parts += [f"### {chart.title}", f"![{chart.title}]({place})", chart.caption]
    return parts


def _answers(comparison: Comparison) -> list[str]:
    text = tables.answers_tables(comparison)
    if not text:
        return []
    about = (
        "Each query of the definition, run as it stands on the run's database, read-only. Where a "
        "figure above differs: it leaves out roots that end by themselves, counts waiting from "
        "when a task was ready, and closes what is still open when the run ended."
    )
    return ["## What the definition's queries returned", about, text]


def _about_runs(comparison: Comparison) -> str:
    rows = []
    for run in comparison.runs:
        record = run.record
        told = [tables.NONE] * 5
        if record:
            started = datetime.fromtimestamp(record.started_at / 1000, tz=UTC)
            told = [
                Path(record.template).name,
                f"{record.speed:g}",
                str(record.seed),
                f"{started:%Y-%m-%d %H:%M:%S} UTC",
                duration(record.ended_at - record.started_at),
            ]
        state = f"partial: {run.partial}" if run.partial else "whole"
        way = [run.mode or tables.NONE, record.pull if record else tables.NONE]
        rows.append([run.label, *way, str(run.agents), *told, state])
    header = [
        "run",
        "mode",
        "pull",
        "agents",
        "template",
        "speed",
        "seed",
        "started",
        "duration",
        "state",
    ]
    return tables.table(header, rows, figures=None)


def _about_time(comparison: Comparison) -> str:
    speeds = sorted({run.speed for run in comparison.runs if run.speed})
    if not speeds:
        return (
            "All times are as the databases have them. No `run.json` says whether time was "
            "compressed, nor what seed and machine the runs had."
        )
    told = listed([f"{speed:g}" for speed in speeds])
    example = duration(speeds[-1] * 1000)
    return (
        "Agents were simulated: each worked a task for its estimate divided by the speed "
        f"({told}), with noise from the seed. Times and rates here are real ones, as measured; "
        f"a second here stands for {example} of simulated work at that speed, and "
        "`simulated_tasks_per_hour` is the rate in simulated hours. What the server and the calls "
        "take is not compressed, so a coordination overhead looks larger here than it would be at "
        "speed 1."
    )


def _about_waiting(comparison: Comparison) -> str:
    if not any("blocking_ratio" in run.figures for run in comparison.runs):
        return ""
    return (
        "`blocking_ratio` counts, as definitions of this family have it, all time that tasks were "
        "pending or assigned. With more ready tasks than agents most of it is tasks waiting for an "
        "agent to be free, which no coordination can avoid; `blocked_by_tasks_ratio` has only the "
        "waiting for other tasks."
    )


def _about_figures(comparison: Comparison) -> str:
    names = sorted({row.metric for row in comparison.rows if row.metric in METRICS})
    lines = "\n".join(f"- `{name}`: {METRICS[name].meaning}" for name in names)
    return f"<details><summary>How each figure is computed</summary>\n\n{lines}\n\n</details>"


def _machine(comparison: Comparison) -> str:
    machines = {
        tuple(run.record.machine.items()): run.label for run in comparison.runs if run.record
    }
    if not any(machines):
        return "Not recorded: there is no `run.json` beside the databases that tells it."
    parts = []
    for facts, label in machines.items():
        heading = f"Of `{label}` and others like it:\n\n" if len(machines) > 1 else ""
        parts.append(heading + "\n".join(f"- {name}: {value}" for name, value in facts))
    return "\n\n".join(parts)
