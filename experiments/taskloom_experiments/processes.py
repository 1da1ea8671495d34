"""Starting children and being sure that they are gone again.

A child runs in a session of its own, so that Ctrl-C at the terminal reaches the runner alone, which
then ends its children in order; and it is tethered, so that it ends even when the runner is killed
(``tether``). What the children are is not known here: ``serving`` and ``fleet`` know.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Sequence
from pathlib import Path


async def start(command: Sequence[str], *, log: Path) -> Process:
    """Start a child with pipes at its input and output; what it says on stderr is added to ``log``.

    The input pipe stays open until the child has ended: to a tethered child, its end is the
    parent's end.
    """
    with log.open("ab") as stderr:
        return await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=stderr, start_new_session=True
        )


async def read_line(process: Process) -> str | None:
    """The child's next line of output, without its end; None when it closed its output."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    return line.decode(errors="replace").rstrip("\r\n") if line else None


async def stop(processes: Iterable[Process], *, grace_s: float) -> None:
    """End children: ask all, wait together for ``grace_s``, kill those that are still there.

    Returns when all have ended. Cancelled meanwhile, it kills them before it leaves.
    """
    living = [process for process in processes if process.returncode is None]
    if not living:
        return
    try:
        for process in living:
            _signal(process, signal.SIGTERM)
        endings = [asyncio.ensure_future(process.wait()) for process in living]
        await asyncio.wait(endings, timeout=grace_s)
    finally:
        for process in living:
            if process.returncode is None:
                _signal(process, signal.SIGKILL)
    for process in living:
        await process.wait()


def ending(process: Process) -> str:
    """How a child ended, as the end of a sentence: "with exit code 1", "by SIGKILL"."""
    code = process.returncode
    if code is None:
        return "not at all"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
        return f"by signal {-code}"
    return f"with exit code {code}"


def _signal(process: Process, number: signal.Signals) -> None:
    """Signal the child and what it started; a child that has just ended is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
