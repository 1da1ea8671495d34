"""A server process to measure: started, looked at from outside, gone when the context is left."""

import asyncio
import contextlib
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.empty_pb2 import Empty
from taskloom_client import Client

from taskloom_experiments import processes
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.load.noop import settle
from taskloom_experiments.load.server import BARE, LISTENING

DATABASE = "tasks.db"
_STARTUP_S = 60.0
_SHUTDOWN_S = 15.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ServerFailed(ExperimentError):
    """The server did not come up; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that serves, and what the operating system (Linux: /proc) knows of its process."""

    target: str
    bare: str  # where the same process serves the no-op calls without taskloom's guard
    process: Process

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far, in user and kernel mode, by all threads."""
        # What clock_getcpuclockid(3) gives for a process: to the nanosecond, not to /proc's ticks.
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def waited_seconds(self) -> float:
        """Time for which its threads could have run and had to wait for a processor."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(file.read_text(encoding="ascii").split()[1]) for file in threads) / 1e9

    def resident_bytes(self) -> int:
        """Memory that it has resident."""
        statm = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii")
        return int(statm.split()[1]) * _PAGE

    def peak_bytes(self) -> int:
        """The most memory that it ever had resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def descriptors(self) -> int:
        """Files, sockets and pipes that it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self) -> int:
        """Threads that it has."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    async def settled_bytes(self, client: Client) -> int:
        """Memory that is resident after it gave back what it does not need."""
        await settle(client.channel)(Empty())
        return self.resident_bytes()

    async def cpu_share(self, seconds: float) -> float:
        """The part of one core that it uses over so long from now; 0.01 is 1 %."""
        loop = asyncio.get_running_loop()
        began, used = loop.time(), self.cpu_seconds()
        await asyncio.sleep(seconds)
        return (self.cpu_seconds() - used) / (loop.time() - began)


@contextlib.asynccontextmanager
async def serving(folder: Path, **settings: object) -> AsyncIterator[Served]:
    """Serve the database in ``folder``, a new one unless there is one; its log lies there, too.

    Settings are given by name.

    Raises ServerFailed, or TimeoutError where it says nothing.
    """
    database, log = folder / DATABASE, folder / "server.log"
    process = await processes.start(_command(database, settings), log=log)
    try:
        async with asyncio.timeout(_STARTUP_S):
            lines = [await processes.read_line(process) or "" for _ in (LISTENING, BARE)]
        if not (lines[0].startswith(LISTENING) and lines[1].startswith(BARE)):
            raise ServerFailed(f"the server did not come up; its log: {tail(log)}")
        yield Served(lines[0].removeprefix(LISTENING), lines[1].removeprefix(BARE), process)
    finally:
        await processes.stop([process], grace_s=_SHUTDOWN_S)


def tail(log: Path) -> str:
    """The end of a log, which goes with its folder when a measurement ends."""
    return log.read_text(encoding="utf-8", errors="replace")[-2_000:].strip() or "empty"


def _command(database: Path, settings: dict[str, object]) -> list[str]:
    python = [sys.executable, "-P", "-m"]
    given = [f"{name}={value}" for name, value in settings.items()]
    return [
        *(*python, "taskloom_experiments.tether", str(os.getpid())),
        *(*python, "taskloom_experiments.load.server", str(database), *given),
    ]
