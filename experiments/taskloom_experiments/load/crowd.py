"""Crowds of waiting agents, as processes: started, let go together, gone with the context."""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from taskloom_experiments import processes
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.load.generators import share
from taskloom_experiments.load.serving import tail
from taskloom_experiments.load.waiting_agents import CONNECTED, WAITING, CrowdSettings
from taskloom_experiments.load.ways_to_wait import Received

_STARTUP_S = 300.0


class CrowdFailed(ExperimentError):
    """A process of the crowd ended or said something else; the text has the end of its log."""


class Crowd:
    """Waiting agents in several processes, and what they were given."""

    def __init__(self, members: Sequence[Process], log: Path) -> None:
        self._members = members
        self._log = log
        self._received: asyncio.Queue[Received | None] = asyncio.Queue()
        self._readers: list[asyncio.Task[None]] = []

    async def connected(self) -> None:
        """Wait until all agents are connected. Raises CrowdFailed."""
        await self._all_say(CONNECTED)

    async def wait(self) -> None:
        """Let all agents wait, and return when they do. Raises CrowdFailed."""
        for member in self._members:
            assert member.stdin is not None
            member.stdin.write(b"go\n")
        await self._all_say(WAITING)
        self._readers = [asyncio.create_task(self._read(member)) for member in self._members]

    async def received(self, within_s: float = 30.0) -> Received:
        """The next that an agent received.

        Raises TimeoutError where none receives anything, CrowdFailed when a process has ended.
        """
        async with asyncio.timeout(within_s):
            one = await self._received.get()
        if one is None:
            raise CrowdFailed(f"a process of waiting agents has ended; its log: {tail(self._log)}")
        return one

    def rest(self) -> list[Received]:
        """What has been received besides, without waiting."""
        waiting = [self._received.get_nowait() for _ in range(self._received.qsize())]
        return [one for one in waiting if one is not None]

    async def close(self) -> None:
        """End the processes."""
        for reader in self._readers:
            reader.cancel()
        await processes.stop(self._members, grace_s=2)

    async def _all_say(self, word: str) -> None:
        async with asyncio.timeout(_STARTUP_S):
            said = await asyncio.gather(*map(processes.read_line, self._members))
        if any(line != word for line in said):
            raise CrowdFailed(f"a process did not come to be {word}; its log: {tail(self._log)}")

    async def _read(self, member: Process) -> None:
        while (line := await processes.read_line(member)) is not None:
            self._received.put_nowait(Received(**json.loads(line)))
        self._received.put_nowait(None)


@contextlib.asynccontextmanager
async def crowd(settings: CrowdSettings, number: int, log: Path) -> AsyncIterator[Crowd]:
    """The agents of ``settings``, with their connections, shared out among so many processes."""
    members: list[Process] = []
    try:
        for index in range(number):
            part = replace(
                settings,
                agents=share(settings.agents, number, index),
                connections=share(settings.connections, number, index),
                first=sum(share(settings.agents, number, before) for before in range(index)),
            )
            members.append(await processes.start(_command(part), log=log))
        together = Crowd(members, log)
        try:
            yield together
        finally:
            await together.close()
    except BaseException:
        await processes.stop(members, grace_s=0)
        raise


def _command(settings: CrowdSettings) -> list[str]:
    return [
        *(sys.executable, "-P", "-m", "taskloom_experiments.load.waiting_agents"),
        *("--config", settings.to_json(), "--parent", str(os.getpid())),
    ]
