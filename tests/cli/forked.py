"""A command in a process of its own, forked from one that has imported the command line.

Imports are most of what a command costs. This is itself imported by multiprocessing's fork server,
so nothing of pytest is here, and nothing that starts gRPC, which could not be forked then.
"""

import contextlib
import gc
import io
import os
import sys
from pathlib import Path

import taskloom_server.main  # noqa: F401 - for the commands that need it
from taskloom_client.cli import app, main

# Typer imports half of what it needs when there is a command line to be read.
with contextlib.redirect_stdout(io.StringIO()):
    app(["status", "--help"], standalone_mode=False)
gc.collect()
gc.freeze()  # so that no child looks at, and so copies, what was there before it


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
