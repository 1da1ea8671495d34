"""Commands and scripts in processes of their own, forked from one that has done the imports.

Imports are most of what a command costs, and of what a server takes to start. The process is
multiprocessing's fork server, and ``fork_server`` is what it imports.
"""

import asyncio
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from taskloom_client.cli import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.fork_server"])


class Forked:
    """A command that runs, or has ended; the methods are those of asyncio's processes."""

    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self._process = process
        self._ending = asyncio.create_task(self._end())

    @property
    def returncode(self) -> int | None:
        """The exit code, or the signal that ended it, negative; None: it runs."""
        return self._ending.result() if self._ending.done() else None

    def send_signal(self, number: int) -> None:
        """Send a signal to it, if it runs."""
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and we are about to hear of it
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end: ``returncode``."""
        return await asyncio.shield(self._ending)

    async def _end(self) -> int:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


def start(
    arguments: Sequence[str],
    environment: dict[str, str],
    *streams: Path | Connection,
    folder: str = ".",
) -> Forked:
    """Start ``taskloom`` with these arguments, and these for input, output and errors."""
    return _start(None, arguments, environment, streams, folder)


def start_script(script: Path, arguments: Sequence[str], *streams: Path | Connection) -> Forked:
    """Start a Python script likewise, in our environment."""
    return _start(script, arguments, dict(os.environ), streams, ".")


def _start(script: Path | None, arguments: Sequence[str], *more: object) -> Forked:
    process = _FORKS.Process(target=_be, args=(script, [*arguments], *more))
    process.start()
    return Forked(process)


def pipe() -> tuple[Connection, Connection]:
    """Its two ends: to read from, and to be the stream of a command."""
    return _FORKS.Pipe(duplex=False)


def first_line(end: Connection) -> str:
    """What a command says first; empty: it ended before it said anything."""
    with end, open(end.fileno(), encoding="utf-8", closefd=False) as output:
        return output.readline()


def _be(
    script: Path | None,
    arguments: list[str],
    environment: dict[str, str],
    streams: Sequence[Path | Connection],
    folder: str,
) -> None:
    for number, stream in enumerate(streams):
        if isinstance(stream, Connection):
            os.dup2(stream.fileno(), number)
            stream.close()
        else:
            opened = os.open(stream, os.O_RDWR | os.O_CREAT, 0o600)
            os.dup2(opened, number)
            os.close(opened)
    # Those that are there remember the files of the fork server.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="backslashreplace")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [str(script or "taskloom"), *arguments]
    if script:
        runpy.run_path(str(script), run_name="__main__")
    else:
        main()
