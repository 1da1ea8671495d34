"""The agents of a run as processes: started, let go together, followed to their end.

An agent that crashes is told of and costs the run nothing but itself. What an agent does in its
process is in ``agents``.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from taskloom_experiments import processes
from taskloom_experiments.agents import GO, READY, AgentSettings

STARTUP_S = 60.0
LEAVING_S = 5.0


@dataclass(frozen=True)
class Ending:
    """How an agent ended, with what it counted; a crashed one left no count.

    ``how`` goes on from the agent's id: "ended by SIGKILL". ``asked`` is whether the runner ended
    it, rather than the agent itself.
    """

    worker_id: str
    exit_code: int
    how: str
    asked: bool
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def crashed(self) -> bool:
        """Whether it ended by itself, and not in good order."""
        return self.exit_code != 0 and not self.asked


class Fleet:
    """The agents of one run. ``on_ending`` hears of each as it ends, crashed or not."""

    def __init__(self, agents: Mapping[str, Process], on_ending: Callable[[Ending], None]) -> None:
        self._agents = agents
        self._on_ending = on_ending
        self._ready = {worker_id: asyncio.Event() for worker_id in agents}
        self._endings: dict[str, Ending] = {}
        self._stopping = False
        self._followers = [
            asyncio.create_task(self._follow(worker_id, process))
            for worker_id, process in agents.items()
        ]

    @property
    def endings(self) -> tuple[Ending, ...]:
        """Those that have ended, in the order of their ids."""
        return tuple(self._endings[worker_id] for worker_id in sorted(self._endings))

    async def ready(self) -> None:
        """Wait until every agent is connected and waits for the start, or has ended.

        Raises TimeoutError when one does neither for long.
        """
        async with asyncio.timeout(STARTUP_S):
            for event in self._ready.values():
                await event.wait()

    def go(self) -> None:
        """Let all agents begin, now."""
        for process in self._agents.values():
            assert process.stdin is not None
            if process.returncode is None and not process.stdin.is_closing():
                process.stdin.write(f"{GO}\n".encode())

    async def ended(self) -> None:
        """Wait until every agent has ended."""
        await asyncio.wait(self._followers)

    async def stop(self, *, grace_s: float = LEAVING_S) -> None:
        """Have the agents leave, give back what they hold and tell what they counted."""
        self._stopping = True
        await processes.stop(self._agents.values(), grace_s=grace_s)
        await self.ended()

    async def _follow(self, worker_id: str, process: Process) -> None:
        try:
            if await processes.read_line(process) == READY:
                self._ready[worker_id].set()
                told = await processes.read_line(process)
            else:
                told = None
            await process.wait()
        finally:
            self._ready[worker_id].set()
        ending = Ending(
            worker_id,
            exit_code=process.returncode or 0,
            how=f"ended {processes.ending(process)}",
            asked=self._stopping,
            counters=_counters(told),
        )
        self._endings[worker_id] = ending
        self._on_ending(ending)


@asynccontextmanager
async def fleet(
    server: str,
    agents: Mapping[str, AgentSettings],
    *,
    log: Path,
    on_ending: Callable[[Ending], None],
) -> AsyncIterator[Fleet]:
    """Start the agents, by worker id; ``log`` gets what they say on stderr.

    Leaving the context ends those that are still there.
    """
    started: dict[str, Process] = {}
    try:
        for worker_id, settings in agents.items():
            started[worker_id] = await processes.start(
                _command(server, worker_id, settings), log=log
            )
        following = Fleet(started, on_ending)
    except BaseException:
        await processes.stop(started.values(), grace_s=0)
        raise
    try:
        yield following
    finally:
        await following.stop()


def _command(server: str, worker_id: str, settings: AgentSettings) -> Sequence[str]:
    return [
        *(sys.executable, "-P", "-m", "taskloom_experiments.agents"),
        *("--server", server, "--worker-id", worker_id),
        *("--config", settings.to_json(), "--parent", str(os.getpid())),
    ]


def _counters(line: str | None) -> dict[str, int]:
    if line is None:
        return {}
    try:
        counters = json.loads(line)
    except ValueError:
        return {}
    return {str(name): int(value) for name, value in counters.items()}
