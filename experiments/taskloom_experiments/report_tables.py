"""The tables of a report, in Markdown: figures against targets, criteria, contention, bounds.

Each function gives one section's text without its heading; what a section is called and where it
stands is in ``report``.
"""

from collections.abc import Iterable, Sequence

from taskloom_experiments.analysis import Run
from taskloom_experiments.catalogue import SERIES_MEASUREMENTS, Unit
from taskloom_experiments.comparison import FURTHER, Cell, Comparison, Row
from taskloom_experiments.database import MeasurementError, QueryResult, Value
from taskloom_experiments.formatting import duration, listed, plural, show

NONE = "—"
_MARKS = {"met": " ✓", "missed": " ✗", "not judged": ""}
_ROWS_SHOWN = 8


FIGURES = slice(1, None)
"""The columns of most tables here: what it is about, then figures."""


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], figures: slice | None = FIGURES
) -> str:
    """A Markdown table; the columns that are ``figures`` stand to the right."""
    rule = ["---"] * len(header)
    if figures is not None:
        rule[figures] = ["--:"] * len(rule[figures])
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def criteria_table(comparison: Comparison) -> str:
    """Every criterion by series: pass, fail or cannot tell, and the figures that decided."""
    header = ["criterion", "condition", "kind"]
    header += [series.label for series in comparison.series]
    rows, details = [], []
    for criterion in comparison.definition.success_criteria:
        verdicts = [one for one in comparison.verdicts if one.criterion is criterion]
        kind = "**required**" if criterion.required else "advisory"
        shown = [f"**{one.outcome}**" if criterion.required else one.outcome for one in verdicts]
        rows.append([f"`{criterion.name}`", f"`{_cell(criterion.condition)}`", kind, *shown])
        details += [
            f"- `{criterion.name}`, {one.series.label}: {one.outcome} ({one.detail})"
            for one in verdicts
            if one.outcome != "pass"
        ]
    text = table(header, rows, figures=None)
    return f"{text}\n\n{chr(10).join(details)}" if details else text


def metrics_table(comparison: Comparison) -> str:
    """Every measurement by run against its target, group by group, then what there is besides."""
    labels = [run.label for run in comparison.runs]
    rows: list[list[str]] = []
    group = None
    for row in comparison.rows:
        if row.group != group:
            group = row.group
            rows.append([f"**{group}**", *[""] * (len(labels) + 1)])
        rows.append([_row_name(row), *(_shown(row, cell) for cell in row.cells), _target(row)])
    notes = [*_notes(comparison), *_query_notes(comparison)]
    text = table(["figure", *labels, "target"], rows, figures=slice(1, -1))
    legend = "✓ target met, ✗ missed, unmarked: no target, or none that can be judged."
    verdicts = [cell.verdict for row in comparison.rows for cell in row.cells if cell.verdict]
    if any(verdict.out_of_reach for verdict in verdicts):
        legend += " ✗† missed, as the best possible schedule of this graph would have, too."
    return "\n\n".join([text, legend, *(["\n".join(notes)] if notes else [])])


def _row_name(row: Row) -> str:
    own = row.measurement == row.metric or row.group == FURTHER
    unit = {"tasks/h": " (tasks/h)", "simulated": " (tasks/simulated h)"}.get(row.unit, "")
    return f"`{row.measurement}`{unit}" if own else f"`{row.measurement}`: {row.metric}{unit}"


def _shown(row: Row, cell: Cell) -> str:
    if cell.value is None:
        return NONE
    if cell.verdict is None:
        return show(cell.value, row.unit)
    mark = _MARKS[cell.verdict.judgement] + ("†" if cell.verdict.out_of_reach else "")
    return show(cell.value, row.unit) + mark


def _target(row: Row) -> str:
    return row.target.text if row.target else ""


def _notes(comparison: Comparison) -> list[str]:
    """Why figures are not there and why targets are not judged, each reason once."""
    runs_with: dict[tuple[str, str], list[str]] = {}  # (figure, reason) -> labels
    for row in comparison.rows:
        for run, cell in zip(comparison.runs, row.cells, strict=True):
            if cell.value is None and (why := cell.missing or _nofigure(run, row)):
                runs_with.setdefault((f"`{row.measurement}`", why), []).append(run.label)
            told = cell.verdict.detail if cell.verdict else ""
            if told and row.target and row.target.clauses and "says nothing" not in told:
                about = f"target of `{row.measurement}`"
                runs_with.setdefault((about, told), []).append(run.label)
    figures_with: dict[tuple[str, str], list[str]] = {}  # (reason, labels) -> figures
    for (figure, why), labels in runs_with.items():
        where = "" if len(labels) == len(comparison.runs) else f" ({', '.join(labels)})"
        figures_with.setdefault((why, where), []).append(figure)
    return [
        f"- {', '.join(figures)}: {why}{where}" for (why, where), figures in figures_with.items()
    ]


def _nofigure(run: Run, row: Row) -> str:
    answer = run.answers.get(row.measurement)
    if isinstance(answer, MeasurementError):
        return ""  # told by _query_notes
    if row.metric in SERIES_MEASUREMENTS:
        return "is a list over time: see its chart"
    if isinstance(answer, QueryResult):
        return "returns rows, not one figure: see what the queries returned, below"
    return f"not measured: taskloom knows no figure of the name {row.metric}"


def _query_notes(comparison: Comparison) -> list[str]:
    notes: dict[str, list[str]] = {}
    for run in comparison.runs:
        for name, answer in run.answers.items():
            if isinstance(answer, MeasurementError):
                notes.setdefault(
                    f"`{name}`: its query was not answered: {answer.reason}", []
                ).append(run.label)
    return [f"- {note} ({', '.join(runs)})" for note, runs in notes.items()]


def contention_table(comparison: Comparison) -> str:
    """Claims by run, from the counters, and beside them what the definition's query can see."""
    header = ["run", "claims tried", "granted", "lost to another worker", "refused otherwise"]
    header += ["success rate", "retries per task", "calls per task"]
    by_query = {run.label: _as_queried(run) for run in comparison.runs}
    if any(by_query.values()):
        header.append("success rate as the query counts")
    rows = [
        [
            run.label,
            *(figure(run, name, "count") for name in ("claim_attempts", "claims_granted")),
            figure(run, "claims_lost", "count"),
            _refused_otherwise(run),
            figure(run, "claim_success_rate", "ratio"),
            figure(run, "claim_retries_per_task", "number"),
            figure(run, "calls_per_task", "number"),
            *([by_query[run.label] or NONE] if any(by_query.values()) else []),
        ]
        for run in comparison.runs
    ]
    return table(header, rows)


def figure(run: Run, name: str, unit: Unit) -> str:
    """A figure of a run for a cell, or a dash."""
    value = run.figures.get(name)
    return NONE if value is None else show(value, unit)


def _refused_otherwise(run: Run) -> str:
    names = ("claim_attempts", "claims_granted", "claims_lost")
    if any(name not in run.figures for name in names):
        return NONE
    tried, granted, lost = (run.figures[name] for name in names)
    return show(tried - granted - lost, "count")


def _as_queried(run: Run) -> str | None:
    """The success rate by the definition's query, workers' rows only, if it has those columns."""
    answer = run.answers.get("claim_success_rate")
    if not isinstance(answer, QueryResult) or not {"claim_attempts", "successful"} <= set(
        answer.columns
    ):
        return None
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    workers = [row for row in rows if row.get("worker_id") is not None]
    tried = sum(float(row["claim_attempts"] or 0) for row in workers)
    granted = sum(float(row["successful"] or 0) for row in workers)
    return f"{show(granted / tried, 'ratio')} of {tried:.0f}" if tried else None


def best_possible_table(comparison: Comparison) -> str:
    """Measured beside the best possible, by run."""
    header = ["run", "agents", "work", "work / agents", "longest chain", "best possible time"]
    header += ["it took", "of best possible", "scaling efficiency", "at most"]
    rows = []
    for run in comparison.runs:
        best = run.measured.best
        bounds = [NONE] * 4
        if best:
            bounds = [
                duration(best.work_ms),
                duration(best.work_ms / best.agents),
                duration(best.critical_path_ms),
                f"{duration(best.makespan_ms)} ({best.bound_by})"
                if "best_makespan_ms" in run.figures
                else NONE,
            ]
        rows.append(
            [
                run.label,
                str(run.agents),
                *bounds,
                figure(run, "makespan_ms", "ms"),
                figure(run, "best_possible_efficiency", "ratio"),
                figure(run, "scaling_efficiency", "ratio"),
                figure(run, "best_scaling_efficiency", "ratio"),
            ]
        )
    return table(header, rows)


def agents_table(comparison: Comparison) -> str:
    """What each agent of each run did."""
    header = ["run", "agent", "tasks", "points", "working", "idle", "mean task", "claims", "lost"]
    header += ["calls", "empty answers", "cost"]
    rows = []
    for run in comparison.runs:
        for agent in run.measured.per_agent:
            mean, idle = agent.mean_task_ms, agent.idle_ratio
            rows.append(
                [
                    run.label,
                    f"`{agent.worker_id}`",
                    str(agent.tasks_completed),
                    f"{agent.points:g}",
                    duration(agent.working_ms),
                    NONE if idle is None else show(idle, "ratio"),
                    NONE if mean is None else duration(mean),
                    _counted(agent.claim_attempts),
                    _counted(agent.claims_lost),
                    _counted(agent.calls),
                    _counted(agent.empty_polls),
                    show(agent.cost_usd, "usd"),
                ]
            )
    return table(header, rows, figures=slice(2, None))


def _counted(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def answers_tables(comparison: Comparison) -> str:
    """What each query returned, as it stands, folded; long answers are cut here only."""
    parts = []
    for measurement in comparison.definition.measurements:
        answers = [(run, run.answers.get(measurement.name)) for run in comparison.runs]
        results = [(run, answer) for run, answer in answers if isinstance(answer, QueryResult)]
        if not results:
            continue
        columns = results[0][1].columns
        rows, cut = [], []
        for run, answer in results:
            for row in answer.rows[:_ROWS_SHOWN]:
                rows.append([run.label, *map(_plain, row)])
            left = len(answer.rows) - _ROWS_SHOWN
            if left > 0 or answer.cut:
                more = " at least" if answer.cut else ""
                cut.append(f"{run.label}:{more} {max(left, 0):,} more")
        empty = [run.label for run, answer in results if not answer.rows]
        told = [table(["run", *columns], rows, figures=None)] if rows else []
        told += [f"Not shown: {'; '.join(cut)}. `metrics.json` has them."] if cut else []
        told += [f"No rows: {listed(empty)}."] if empty else []
        count = sum(len(answer.rows) for _, answer in results)
        body = "\n\n".join(told)
        parts.append(
            f"<details><summary>{measurement.name} ({plural(count, 'row')})</summary>\n\n{body}\n\n"
            "</details>"
        )
    return "\n\n".join(parts)


def _plain(value: Value) -> str:
    match value:
        case None:
            return "NULL"
        case float():
            return f"{value:.6g}"
        case _:
            return f"{value!s:.60}"
