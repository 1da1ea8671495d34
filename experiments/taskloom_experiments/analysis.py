"""One run, analysed: its database opened, its figures computed, a definition's queries run.

Everything comes from ``tasks.db`` and the ``run.json`` beside it, so a run can be analysed again at
any time, also while its server is still writing. Runs are put side by side in ``comparison``.
"""

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taskloom_experiments.database import (
    MeasurementError,
    QueryLimits,
    QueryResult,
    open_database,
    run_query,
)
from taskloom_experiments.definition import Definition
from taskloom_experiments.history import ENDED
from taskloom_experiments.metrics import Measured, measure
from taskloom_experiments.modes import Mode
from taskloom_experiments.pulls import Pull
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.tables import Tables, read_tables


@dataclass(frozen=True)
class Run:
    """A run and all that was found out about it.

    ``figures`` is by name as in ``catalogue``, ``missing`` says of others why they are not there.
    ``answers`` is what each measurement's query returned; ``queried`` are the columns of those that
    returned one row, for conditions to name where taskloom has no figure of that name.
    """

    label: str
    database: Path
    record: RunRecord | None
    tables: Tables
    measured: Measured
    figures: Mapping[str, float]
    missing: Mapping[str, str]
    answers: Mapping[str, QueryResult | MeasurementError]
    queried: Mapping[str, float]

    @property
    def agents(self) -> int:
        """How many agents it was meant to have; from the tables where there is no record."""
        return self.measured.agents

    @property
    def pull(self) -> Pull | None:
        """How its agents got their tasks: a way of pulling, or the mode where that is not pull.

        None where no record says it.
        """
        if self.record is None:
            return None
        return self.record.pull if self.record.mode == "pull" else self.record.mode

    @property
    def mode(self) -> Mode | None:
        """How it was coordinated; None where no record says it."""
        return self.record.mode if self.record else None

    @property
    def speed(self) -> float | None:
        """Simulated time over real time; None where no record says it."""
        return self.record.speed if self.record else None

    @property
    def names(self) -> Mapping[str, float]:
        """All that a condition may name."""
        return ChainMap(dict(self.figures), dict(self.queried))

    @property
    def partial(self) -> str | None:
        """Why it is not a whole run; None where it is one."""
        if self.record and self.record.partial:
            return self.record.partial_reason or "its runner called it partial"
        left = sum(task.status not in ENDED for task in self.tables.tasks)
        return f"{left} of {len(self.tables.tasks)} tasks are not done" if left else None


def analyse_run(
    database: Path,
    definition: Definition,
    label: str | None = None,
    limits: QueryLimits | None = None,
) -> Run:
    """Analyse a run's ``tasks.db``, with the ``run.json`` beside it where there is one.

    The label is by default the run's name, else that of its folder. Raises DatabaseUnreadable and
    RunRecordError; a query that fails is an answer, not an error.
    """
    record = RunRecord.beside(database)
    with open_database(database) as connection:
        tables = read_tables(connection, database)
        answers = {
            measurement.name: run_query(connection, measurement.query, limits)
            for measurement in definition.measurements
            if measurement.query
        }
    measured = measure(tables, record)
    folder = database.resolve().parent.name
    return Run(
        label=label or (record.name if record else folder or database.stem),
        database=database,
        record=record,
        tables=tables,
        measured=measured,
        figures=measured.figures,
        missing=measured.missing,
        answers=answers,
        queried=_single_values(answers),
    )


def _single_values(answers: Mapping[str, QueryResult | MeasurementError]) -> dict[str, float]:
    """The numbers of the answers that are one row: by column, and by measurement if it is one."""
    values: dict[str, float] = {}
    for name, answer in answers.items():
        if not isinstance(answer, QueryResult) or len(answer.rows) != 1:
            continue
        row = dict(zip(answer.columns, answer.rows[0], strict=True))
        numbers = {column: value for column, value in row.items() if _is_number(value)}
        values.update((column, float(value or 0)) for column, value in numbers.items())
        if len(row) == 1 and numbers:
            values[name] = values[answer.columns[0]]
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
