"""What ``run_experiment.py`` does with a single step of a run: reset, import, export, wait.

Each prints what it did on standard output and returns the exit code of the process: 0 done, 1 it
could not be done, 2 wrong input. Failures are one sentence on standard error.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from taskloom_client import TaskloomError

from taskloom_experiments import steps
from taskloom_experiments.analysis import analyse_run
from taskloom_experiments.commands import (
    FAILED,
    INTERRUPTED,
    OK,
    PARTIAL,
    WRONG_INPUT,
    reader_gone,
)
from taskloom_experiments.definition import definition_for_comparison
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.experiment import save_metrics
from taskloom_experiments.progress import Teller
from taskloom_experiments.results import DATABASE_FILE
from taskloom_experiments.serving import ServerFailed
from taskloom_experiments.templates import read_template

Done = tuple[int, str]
"""What a step came to: the exit code, and the sentence about it."""


def reset_command(output: Path) -> int:
    """Make the database in the folder an empty one."""

    def step() -> Done:
        asyncio.run(steps.reset_in(output))
        return OK, f"{output / DATABASE_FILE} is empty now"

    return _done(step)


def import_command(output: Path, *, template: Path, workflow: str) -> int:
    """Import a template into the database in the folder, for agents to come."""

    def step() -> Done:
        tasks = asyncio.run(steps.import_into(output, read_template(template), workflow))
        return OK, f"{output / DATABASE_FILE} holds the {tasks} tasks of {template}"

    return _done(step)


def export_command(output: Path) -> int:
    """Write snapshot and metrics of the database in the folder, as it is now."""

    def step() -> Done:
        return OK, f"{asyncio.run(steps.export_from(output))} is written, and {_measure(output)}"

    return _done(step)


def wait_command(output: Path, *, poll_interval: float) -> int:
    """Wait until every task in the folder's database has ended, then write its metrics.

    A run that its runner left before that is partial: nobody will end it.
    """
    teller = Teller()

    def show(ended: int, tasks: int) -> None:
        teller.say(f"{output}: {ended}/{tasks} tasks have ended")

    def step() -> Done:
        partial = steps.wait_until_ended(output, poll_interval, show)
        written = f"{_measure(output)} is written"
        if partial:
            return PARTIAL, f"partial: {partial}; {written}"
        return OK, f"all tasks have ended; {written}"

    return _done(step)


def _measure(folder: Path) -> Path:
    return save_metrics(analyse_run(folder / DATABASE_FILE, definition_for_comparison()))


def _done(step: Callable[[], Done]) -> int:
    try:
        code, told = step()
        print(told, flush=True)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return reader_gone()
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    except (ServerFailed, TaskloomError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    return code
