"""An experiment as a whole: its runs one after the other, each measured, then all compared."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskloom_client import TaskloomError

from taskloom_experiments.analysis import Run, analyse_run
from taskloom_experiments.compare import Report, report_on
from taskloom_experiments.database import DatabaseUnreadable
from taskloom_experiments.definition import Definition
from taskloom_experiments.interruption import Interruption
from taskloom_experiments.metrics_file import write_metrics
from taskloom_experiments.planning import RunPlan
from taskloom_experiments.progress import Teller
from taskloom_experiments.results import DATABASE_FILE, METRICS_FILE
from taskloom_experiments.runner import execute_run, summary
from taskloom_experiments.serving import ServerFailed
from taskloom_experiments.virtual.run import simulate_run


@dataclass(frozen=True)
class Conducted:
    """What came of an experiment.

    ``whole`` is whether every planned run came to its end. ``report`` is None where there is no run
    to report on. ``error`` is what kept it from going on, and what no other run would have been
    spared. ``signal`` is the number of the signal that interrupted it, else 0.
    """

    whole: bool
    report: Report | None
    error: ServerFailed | TaskloomError | None
    signal: int


def conduct(
    definition: Definition,
    plans: Sequence[RunPlan],
    folder: Path,
    teller: Teller,
    *,
    charts: bool,
) -> Conducted:
    """Make the runs and write the report of those that were made, however far it came.

    Raises CompareError where the report cannot be written.
    """
    interruption = Interruption()
    runs: list[Run] = []
    error: ServerFailed | TaskloomError | None = None
    whole = False
    try:
        whole = asyncio.run(_make_runs(definition, plans, interruption, teller, runs))
    except asyncio.CancelledError:
        if not interruption.signal:
            raise
        teller.say("interrupted again: everything was killed")
    except (ServerFailed, TaskloomError) as failure:
        error = failure
    report = report_on(runs, definition, folder, charts) if runs else None
    for run in report.comparison.runs if report else ():
        save_metrics(run)  # with what only the comparison could tell
    return Conducted(whole, report, error, interruption.signal or 0)


def save_metrics(run: Run) -> Path:
    """Write a run's metrics beside its database; return the file."""
    target = run.database.with_name(METRICS_FILE)
    write_metrics(run, target)
    return target


async def _make_runs(
    definition: Definition,
    plans: Sequence[RunPlan],
    interruption: Interruption,
    teller: Teller,
    runs: list[Run],
) -> bool:
    """Make the runs; whether all are whole. Those that can be analysed are added to ``runs``."""
    whole = True
    with interruption.listening():
        for plan in plans:
            if interruption.signal:
                return False
            make = simulate_run if plan.simulate else execute_run
            record = await make(plan, interruption, teller)
            teller.say(summary(plan, record))
            whole = whole and not record.partial
            try:
                run = analyse_run(plan.folder / DATABASE_FILE, definition)
            except DatabaseUnreadable as error:
                teller.say(f"{plan.label}: cannot be measured: {error}")
            else:
                save_metrics(run)
                runs.append(run)
    return whole
