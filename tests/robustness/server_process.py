"""The server as a process that can be killed, stopped and started again on the same file.

It remembers when the server could not act: whoever judges whether a lease ended in time must leave
those times out.
"""

import asyncio
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

_LISTENING = b"taskloom is listening on "
_TIME_TO_START = 60.0
_TIME_TO_STOP = 30.0


class ServerFailed(Exception):
    """The server did not start, or not end as it should; ``str()`` says how."""


@dataclass
class ServerProcess:
    """``taskloom serve`` on one file, one process after the other."""

    db: Path
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    port: int = 0
    starts: int = 0
    kills: int = 0
    stops: int = 0  # SIGSTOP
    restarts: int = 0  # SIGTERM, and started again
    idle: list[tuple[int, int]] = field(default_factory=list)  # Unix ms: when it could not act
    _process: asyncio.subprocess.Process | None = None
    _down_since: int = 0

    async def start(self) -> None:
        """Start it, on a port of its own choice. Raises ServerFailed."""
        self._down_since = self._down_since or _now()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TASKLOOM_")}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "taskloom_client", "serve", "--log-format", "json"),
                *("--db", str(self.db), "--listen", "127.0.0.1:0"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=inherited | self.env,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(_TIME_TO_START):
            async for line in self._process.stdout:  # whatever else is printed before
                if line.startswith(_LISTENING):
                    break
            else:
                code = await self._process.wait()
                why = f"the server ended with {code} before it listened; see {self.log}"
                raise ServerFailed(why)
        self.port = int(line.rpartition(b":")[2])
        self.starts += 1
        self.idle.append((self._down_since, _now()))
        self._down_since = 0

    async def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self.kills += 1
        self._down_since = _now()
        self._process.kill()
        await self._process.wait()

    async def terminate(self) -> None:
        """SIGTERM, and its end. Raises ServerFailed unless it ends with 0."""
        assert self._process is not None
        self._down_since = _now()
        self._process.terminate()
        try:
            async with asyncio.timeout(_TIME_TO_STOP):
                code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise ServerFailed(f"the server did not end on SIGTERM; see {self.log}") from None
        if code:
            raise ServerFailed(f"the server ended with {code} on SIGTERM; see {self.log}")

    async def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        assert self._process is not None
        self.stops += 1
        since = _now()
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)
            self.idle.append((since, _now()))

    @property
    def ended(self) -> bool:
        """Whether there is no process, as far as is known."""
        return self._process is None or self._process.returncode is not None

    async def close(self) -> None:
        """See to it that nothing is left running."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            await self._process.wait()


def _now() -> int:
    return time.time_ns() // 1_000_000
