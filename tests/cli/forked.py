"""A command in a process of its own, forked from one that has imported the command line.

Imports are most of what a command costs. This is itself imported by multiprocessing's fork server,
so nothing of pytest is here, and nothing that starts gRPC, which could not be forked then.
"""

import os
import sys
from pathlib import Path

import pydantic  # noqa: F401 - typer's, once there is a command to run
from taskloom_client.cli import main


def run(arguments: list[str], environment: dict[str, str], streams: Path) -> None:
    """Be this command, with the files ``in``, ``out`` and ``err`` of a folder for its streams."""
    for number, name in enumerate(("in", "out", "err")):
        opened = os.open(streams / name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing had put another in its place
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["taskloom", *arguments]
    main()
