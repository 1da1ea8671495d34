"""What ``run_experiment.py`` does with a single step of a run: reset, import, export, wait.

Each prints what it did on standard output and returns the exit code of the process, as of
``exits``.
"""

import asyncio
from pathlib import Path

from taskloom_experiments import steps
from taskloom_experiments.analysis import analyse_run
from taskloom_experiments.definition import definition_for_comparison
from taskloom_experiments.exits import OK, PARTIAL, ending
from taskloom_experiments.experiment import save_metrics
from taskloom_experiments.progress import Teller
from taskloom_experiments.results import DATABASE_FILE
from taskloom_experiments.templates import read_template


@ending
def reset_command(output: Path) -> int:
    """Make the database in the folder an empty one."""
    asyncio.run(steps.reset_in(output))
    print(f"{output / DATABASE_FILE} is empty now")
    return OK


@ending
def import_command(output: Path, *, template: Path, workflow: str) -> int:
    """Import a template into the database in the folder, for agents to come."""
    tasks = asyncio.run(steps.import_into(output, read_template(template), workflow))
    print(f"{output / DATABASE_FILE} holds the {tasks} tasks of {template}")
    return OK


@ending
def export_command(output: Path) -> int:
    """Write snapshot and metrics of the database in the folder, as it is now."""
    snapshot = asyncio.run(steps.export_from(output))
    print(f"{snapshot} is written, and {_measure(output)}")
    return OK


@ending
def wait_command(output: Path, *, poll_interval: float) -> int:
    """Wait until every task in the folder's database has ended, then write its metrics.

    A run that its runner left before that is partial: nobody will end it.
    """
    teller = Teller()

    def show(ended: int, tasks: int) -> None:
        teller.say(f"{output}: {ended}/{tasks} tasks have ended")

    partial = steps.wait_until_ended(output, poll_interval, show)
    what = f"partial: {partial}" if partial else "all tasks have ended"
    print(f"{what}; {_measure(output)} is written")
    return PARTIAL if partial else OK


def _measure(folder: Path) -> Path:
    return save_metrics(analyse_run(folder / DATABASE_FILE, definition_for_comparison()))
