"""Compares runs by their databases, whoever made them: a report in Markdown, and charts.

    compare_experiments.py results/pull-1/tasks.db results/pull-4/tasks.db
                           --labels 1-agent,4-agent --charts --output results/comparison

writes results/comparison.md and results/comparison-throughput.png and the like.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from taskloom_experiments.commands import compare_command


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit codes are those of the command behind it."""
    parser = argparse.ArgumentParser(
        prog="compare_experiments.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("databases", nargs="+", type=Path, metavar="TASKS_DB")
    add("--labels", default="", metavar="A,B,...", help="names of the runs, in order")
    add("--charts", action="store_true", help="draw them as PNG")
    add("--output", type=Path, default=Path("comparison"), metavar="PREFIX")
    add("--definition", type=Path, metavar="FILE", help="whose metrics and criteria to use")
    given = parser.parse_args(arguments)
    return compare_command(
        given.databases,
        labels=[label.strip() for label in given.labels.split(",")] if given.labels else [],
        charts=given.charts,
        output=given.output,
        definition=given.definition,
    )


if __name__ == "__main__":
    sys.exit(main())
