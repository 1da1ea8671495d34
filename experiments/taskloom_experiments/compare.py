"""From databases to a report: what ``experiment run`` does last and ``experiment compare`` does.

Only this module decides where files go. Without a definition everything that taskloom computes is
measured, and all four charts can be drawn.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taskloom_experiments.analysis import Run, analyse_run
from taskloom_experiments.comparison import Comparison, compare_runs
from taskloom_experiments.definition import Definition, definition_for_comparison
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.report import write_report
from taskloom_experiments.report_html import write_html

if TYPE_CHECKING:
    from taskloom_experiments.charts import ChartFile


class CompareError(ExperimentError):
    """What was asked for cannot be compared or written; the text is one sentence."""


@dataclass(frozen=True)
class Report:
    """What was found, and the files that tell it; no charts where none were asked for."""

    comparison: Comparison
    file: Path
    charts: tuple[Path, ...]


def compare(
    databases: Sequence[Path],
    labels: Sequence[str] | None,
    output: Path | str,
    charts: bool,
    definition: Definition | None = None,
) -> Report:
    """Analyse runs, put them side by side, and write the report and its charts.

    ``output`` is a folder that exists or ends in a slash (``report.md``, ``throughput.png``, …
    inside), a Markdown file, or a prefix: ``results/comparison`` gives ``results/comparison.md``,
    ``results/comparison-throughput.png``, …. ``labels`` name the runs in the order of the
    databases; None or empty: by their names.

    Raises CompareError, DatabaseUnreadable, RunRecordError, each with one sentence.
    """
    if labels and len(labels) != len(databases):
        raise CompareError(
            f"there are {len(labels)} labels for {len(databases)} databases; give each a label"
        )
    definition = definition or definition_for_comparison()
    named: Sequence[str | None] = labels or [None] * len(databases)
    runs = [
        analyse_run(database, definition, label)
        for database, label in zip(databases, named, strict=True)
    ]
    return report_on(runs, definition, output, charts)


def report_on(
    runs: Sequence[Run], definition: Definition, output: Path | str, charts: bool
) -> Report:
    """Put analysed runs side by side, and write report and charts as ``compare`` does.

    Raises CompareError.
    """
    if not runs:
        raise CompareError("there is nothing to compare; name the tasks.db of one run or more")
    comparison = compare_runs(runs, definition)
    file, chart_prefix = _places(output)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        drawn = _draw(comparison, chart_prefix) if charts else ()
        write_report(comparison, file, drawn)
        write_html(file)
    except OSError as error:
        raise CompareError(
            f"{error.filename or file}: cannot be written: {error.strerror}"
        ) from error
    return Report(comparison, file, tuple(chart.file for chart in drawn))


def _draw(comparison: Comparison, prefix: str) -> "tuple[ChartFile, ...]":
    # Drawing costs an import of matplotlib, which nobody pays who does not draw.
    from taskloom_experiments.charts import save_charts  # noqa: PLC0415

    return save_charts(comparison, prefix)


def _places(output: Path | str) -> tuple[Path, str]:
    """The report's file, and what the charts' names begin with."""
    path = Path(output)
    if path.is_dir() or str(output).endswith(("/", os.sep)):
        return path / "report.md", f"{path}{os.sep}"
    if path.suffix == ".md":
        return path, f"{path.with_suffix('')}-"
    return path.with_name(f"{path.name}.md"), f"{path}-"
