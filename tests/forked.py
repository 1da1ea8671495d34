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
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from taskloom_client.cli import main
from taskloom_experiments import tether

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.fork_server"])


commands: dict[int, str] = {}
"""What ``start_child`` has started, by process id, as ``ps`` would show it had it been executed."""


class Forked:
    """A command that runs, or has ended; the methods are those of asyncio's processes."""

    stdin: asyncio.StreamWriter | None = None
    stdout: asyncio.StreamReader | None = None

    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self._process = process
        self._ending = asyncio.create_task(self._end())

    @property
    def returncode(self) -> int | None:
        """The exit code, or the signal that ended it, negative; None: it runs."""
        return self._ending.result() if self._ending.done() else None

    def when_ended(self, then: Callable[[], object]) -> None:
        """Call something once it has ended."""
        self._ending.add_done_callback(lambda _: then())

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


async def start_child(command: Sequence[str], *, log: Path) -> Forked:
    """As ``processes.start`` of the experiments does, for ``python -P -m MODULE ARGUMENTS``."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    their_input, our_output = pipe()
    our_input, their_output = pipe()
    _python, _safely, _module, name, *arguments = command
    if name == tether.__name__:
        _parent, _python, _safely, _module, name, *arguments = arguments
    process = _FORKS.Process(
        target=_be_module,
        args=(name, arguments, dict(os.environ), (their_input, their_output, log), os.getcwd()),
    )
    process.start()
    assert process.pid is not None
    commands[process.pid] = " ".join(command)
    their_input.close()
    their_output.close()
    child = Forked(process)
    written = os.fdopen(os.dup(our_output.fileno()), "wb")
    read = os.fdopen(os.dup(our_input.fileno()), "rb")
    our_output.close()
    our_input.close()
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, written)
    child.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
    child.when_ended(transport.close)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), read)
    child.stdout = reader
    return child


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
    _take(environment, streams, folder)
    sys.argv = [str(script or "taskloom"), *arguments]
    if script:
        runpy.run_path(str(script), run_name="__main__")
    else:
        main()


def _be_module(
    name: str,
    arguments: list[str],
    environment: dict[str, str],
    streams: Sequence[Path | Connection],
    folder: str,
) -> None:
    os.setsid()
    _take(environment, streams, folder)
    # It is the fork server's child, which ends with the process that was to be its parent.
    watch = tether.die_with_parent

    def die_with_parent(parent_pid: int) -> bool:
        return watch(os.getppid())

    tether.die_with_parent = die_with_parent
    watch(os.getppid())
    sys.argv = [name, *arguments]
    sys.modules.pop(name, None)  # or runpy warns that it was imported before
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _take(environment: dict[str, str], streams: Sequence[Path | Connection], folder: str) -> None:
    """Have these variables, these for input, output and errors, and this folder."""
    for number, stream in enumerate(streams):
        if isinstance(stream, Connection):
            os.dup2(stream.fileno(), number)
            stream.close()
        else:
            opened = os.open(stream, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(opened, number)
            os.close(opened)
    # Those that are there remember the files of the fork server.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="backslashreplace")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
