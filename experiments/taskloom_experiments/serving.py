"""A server of one's own: a subprocess on a free port, gone when the context is left."""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from taskloom_experiments import processes

STARTUP_S = 30.0
SHUTDOWN_S = 10.0

_LISTENING = "taskloom is listening on "


class ServerFailed(Exception):
    """A server did not come up; the text is one sentence with what it said last."""


@dataclass(frozen=True)
class Server:
    """A server that serves: where, and as which process."""

    target: str
    process: Process


@contextlib.asynccontextmanager
async def serving(database: Path, log: Path) -> AsyncIterator[Server]:
    """Serve a database, made where there is none; ``log`` gets what the server logs.

    Leaving the context ends the server: asked first, which leaves ``database`` one whole file,
    then killed. Raises ServerFailed.
    """
    process = await processes.start(_command(database), log=log)
    try:
        yield Server(await _target(process, log), process)
    finally:
        await processes.stop([process], grace_s=SHUTDOWN_S)


def _command(database: Path) -> list[str]:
    python = [sys.executable, "-P", "-m"]
    serve = ["taskloom_client", "serve", "--db", str(database), "--listen", "127.0.0.1:0"]
    return [*python, "taskloom_experiments.tether", str(os.getpid()), *python, *serve]


async def _target(process: Process, log: Path) -> str:
    try:
        async with asyncio.timeout(STARTUP_S):
            line = await processes.read_line(process)
    except TimeoutError:
        raise ServerFailed(
            f"the server did not come up within {STARTUP_S:g} s{last_words(log)}"
        ) from None
    if line is None or not line.startswith(_LISTENING):
        await processes.stop([process], grace_s=0)
        raise ServerFailed(f"the server did not come up{last_words(log)}")
    return line.removeprefix(_LISTENING)


def last_words(log: Path) -> str:
    """The last line of a log as ": what it says"; empty where there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    line = next((line.strip() for line in reversed(lines) if line.strip()), "")
    with contextlib.suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict):
            line = str(entry.get("event", line))
    line = line.removeprefix("error: ")
    return f": {line}" if line else ""
