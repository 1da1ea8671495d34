"""Runs one experiment of a template, or one step of it, in a folder of its own.

    run_experiment.py --template experiments/templates/browser-parallel.json --workflow swarm
                      --agents 4 --output results/pure-pull/pull-4
    run_experiment.py --wait --poll-interval 15 --output results/pure-pull/pull-4

The first starts a server and agents of its own and leaves tasks.db, snapshot.json, metrics.json,
run.json and a report in the folder. The second is for agents that somebody else started on a
server of theirs: it looks at the folder's tasks.db, without ever writing it, until all tasks have
ended. Whole definitions are run by `taskloom experiment run`, with the same code.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from taskloom_experiments import commands, step_commands
from taskloom_experiments.pace import DEFAULT_SPEED
from taskloom_experiments.pulls import DEFAULT_PULL, PULLS


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit codes are those of the commands behind it."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if (given.import_only or not _is_step(given)) and given.template is None:
        parser.error("--template is missing: which graph is to be worked?")
    if given.reset_only:
        return step_commands.reset_command(given.output)
    if given.import_only:
        return step_commands.import_command(
            given.output, template=given.template, workflow=given.workflow
        )
    if given.export_only:
        return step_commands.export_command(given.output)
    if given.wait:
        return step_commands.wait_command(given.output, poll_interval=given.poll_interval)
    return commands.run_command(
        None,
        output=given.output,
        speed=given.speed,
        seed=given.seed,
        pull=given.pull,
        runs=(),
        template=given.template,
        workflow=given.workflow,
        agents=given.agents,
        timeout=given.timeout,
        charts=given.charts,
        simulate=given.simulate,
        repeat=given.repeat,
    )


def _is_step(given: argparse.Namespace) -> bool:
    return bool(given.wait or given.reset_only or given.import_only or given.export_only)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_experiment.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="the folder of the run; an earlier run there is replaced",
    )
    add("--template", type=Path, metavar="FILE", help="a snapshot, as .json or .json.gz")
    add("--workflow", default=commands.DEFAULT_WORKFLOW, metavar="NAME")
    add("--agents", type=int, default=commands.DEFAULT_AGENTS, metavar="N")
    add("--speed", type=float, metavar="F", help=f"times real time, {DEFAULT_SPEED:g} if real")
    add("--simulate", action="store_true", help="on a virtual clock, at real time unless told")
    add("--repeat", type=int, default=1, metavar="N", help="so many times, by seeds from --seed on")
    add("--seed", type=int, default=1, metavar="N", help="of the noise on the estimates")
    add(
        "--pull",
        action="append",
        choices=PULLS,
        default=[],
        help=f"how agents get their tasks, {DEFAULT_PULL} unless told otherwise; repeatable",
    )
    add("--timeout", type=float, metavar="S", help="give the run up after so many seconds")
    add("--charts", action=argparse.BooleanOptionalAction, default=True, help="draw them as PNG")
    steps = parser.add_mutually_exclusive_group()
    steps.add_argument("--wait", action="store_true", help="wait until all tasks have ended")
    steps.add_argument("--reset-only", action="store_true", help="only empty tasks.db")
    steps.add_argument("--import-only", action="store_true", help="only import the template")
    steps.add_argument("--export-only", action="store_true", help="only write the results")
    add("--poll-interval", type=_above_zero, default=15.0, metavar="S", help="between two looks")
    return parser


def _above_zero(text: str) -> float:
    if not (value := float(text)) > 0:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
