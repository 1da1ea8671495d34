"""The agents of a run as processes: started, let go together, followed to their end.

An agent that crashes is told of and costs the run nothing but itself. One whose definition says so
is killed at its moment, and where it is to come back, a process that has waited for that from the
start takes its place: so a new life costs what the definition says, and not the start of Python.
What an agent does in its process is in ``agents``.
"""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from taskloom_experiments import processes
from taskloom_experiments.agent_settings import AgentSettings, CoordinatorSettings
from taskloom_experiments.agents import GO, READY
from taskloom_experiments.behaviour import crash_after

Settings = AgentSettings | CoordinatorSettings

STARTUP_S = 60.0
LEAVING_S = 5.0
_COORDINATOR_LEAVES_S = 3.0


@dataclass(frozen=True)
class Ending:
    """How an agent ended, with what it counted; a crashed one left no count.

    ``how`` goes on from the agent's id: "ended by SIGKILL". ``asked`` is whether the runner ended
    it, rather than the agent itself, ``planned`` whether its definition had it killed.
    """

    worker_id: str
    exit_code: int
    how: str
    asked: bool
    counters: Mapping[str, int] = field(default_factory=dict)
    planned: bool = False

    @property
    def crashed(self) -> bool:
        """Whether it ended by itself, and not in good order."""
        return self.exit_code != 0 and not self.asked and not self.planned


@dataclass(eq=False)
class _Life:
    """One process of an agent, from its start to its end; ``number`` counts from 1."""

    worker_id: str
    settings: Settings
    number: int
    process: Process
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    went: bool = False
    doomed: bool = False

    def go(self) -> None:
        """Let it begin, now."""
        self.went = True
        stdin = self.process.stdin
        assert stdin is not None
        if self.process.returncode is None and not stdin.is_closing():
            stdin.write(f"{GO}\n".encode())

    def crash_s(self) -> float | None:
        """In how many real seconds from its start it is to be killed; None: never."""
        if isinstance(self.settings, CoordinatorSettings):
            return None
        after = crash_after(
            self.settings.behaviour, self.settings.seed, self.worker_id, self.number
        )
        return None if after is None else after / self.settings.speed

    def away_s(self) -> float | None:
        """How many real seconds it stays away after that; None: for good."""
        if isinstance(self.settings, CoordinatorSettings):
            return None
        away = self.settings.behaviour.restart_after
        return None if away is None or self.crash_s() is None else away / self.settings.speed


class Fleet:
    """The agents of one run. ``on_ending`` hears of each as it ends, crashed or not."""

    def __init__(self, server: str, log: Path, on_ending: Callable[[Ending], None]) -> None:
        self._server = server
        self._log = log
        self._on_ending = on_ending
        self._lives: list[_Life] = []
        self._followers: dict[_Life, asyncio.Task[None]] = {}
        self._fates: set[asyncio.Task[None]] = set()
        self._endings: list[Ending] = []
        self._stopping = False

    async def start(self, agents: Mapping[str, Settings]) -> None:
        """Start the agents, by worker id, and those that are to take the place of crashed ones."""
        for worker_id, settings in agents.items():
            life = await self._start(worker_id, settings, 1)
            if life.away_s() is not None:
                await self._start(worker_id, settings, 2)

    @property
    def endings(self) -> tuple[Ending, ...]:
        """Of those that have ended, in the order of their ids; one for each life."""
        return tuple(sorted(self._endings, key=lambda ending: ending.worker_id))

    def counted(self) -> dict[str, dict[str, int]]:
        """What each agent counted in all its lives, and how the last one ended, by its id."""
        found: dict[str, dict[str, int]] = {}
        for ending in self._endings:
            sums = Counter(found.get(ending.worker_id, {}))
            sums.update(ending.counters)
            sums["crashes"] += ending.exit_code != 0 and not ending.asked
            found[ending.worker_id] = {**sums, "exit_code": ending.exit_code}
        return dict(sorted(found.items()))

    async def ready(self) -> None:
        """Wait until every agent is connected and waits for the start, or has ended.

        Raises TimeoutError when one does neither for long.
        """
        async with asyncio.timeout(STARTUP_S):
            for life in list(self._lives):
                await life.ready.wait()

    def go(self) -> None:
        """Let all agents begin, now."""
        for life in list(self._lives):
            if life.number == 1:
                self._let_go(life)

    async def ended(self) -> None:
        """Wait until every agent that works has ended, and nobody is to come back.

        Where one left in good order nothing was left to do, so none comes back. A coordinator has
        a moment to leave, too; without agents it has nobody to hand anything to.
        """
        done = False
        while working := [self._followers[life] for life in self._working() if life.went]:
            await asyncio.wait(working)
            done = any(ending.exit_code == 0 for ending in self._endings)
            if all(follower.done() for follower in working):
                if done or not self._fates:
                    break
                await asyncio.wait(self._fates, return_when=asyncio.FIRST_COMPLETED)
        coordinating = [
            follower
            for life, follower in self._followers.items()
            if isinstance(life.settings, CoordinatorSettings)
        ]
        if coordinating:
            await asyncio.wait(coordinating, timeout=_COORDINATOR_LEAVES_S if done else 0)

    async def stop(self, *, grace_s: float = LEAVING_S) -> None:
        """Have the agents leave, give back what they hold and tell what they counted."""
        self._stopping = True
        for fate in self._fates:
            fate.cancel()
        await processes.stop([life.process for life in self._lives], grace_s=grace_s)
        if following := [*self._followers.values(), *self._fates]:
            await asyncio.wait(following)

    def _working(self) -> list[_Life]:
        return [life for life in self._lives if isinstance(life.settings, AgentSettings)]

    async def _start(self, worker_id: str, settings: Settings, number: int) -> _Life:
        command = _command(self._server, worker_id, settings)
        life = _Life(worker_id, settings, number, await processes.start(command, log=self._log))
        self._lives.append(life)
        self._followers[life] = asyncio.create_task(self._follow(life))
        return life

    def _let_go(self, life: _Life) -> None:
        life.go()
        if (after_s := life.crash_s()) is not None:
            fate = asyncio.create_task(self._doom(life, after_s))
            self._fates.add(fate)
            fate.add_done_callback(self._fates.discard)

    async def _doom(self, life: _Life, after_s: float) -> None:
        """Kill an agent at its moment, and let the next life of it go at its own."""
        await asyncio.sleep(after_s)
        if life.process.returncode is not None:
            return
        life.doomed = True
        with contextlib.suppress(ProcessLookupError):
            life.process.kill()
        await self._followers[life]
        if (away_s := life.away_s()) is None:
            return
        await asyncio.sleep(away_s)
        following = next(
            one
            for one in self._lives
            if (one.worker_id, one.number) == (life.worker_id, life.number + 1)
        )
        await following.ready.wait()
        self._let_go(following)
        if following.away_s() is not None:
            await self._start(life.worker_id, life.settings, following.number + 1)

    async def _follow(self, life: _Life) -> None:
        process = life.process
        try:
            if await processes.read_line(process) == READY:
                life.ready.set()
                told = await processes.read_line(process)
            else:
                told = None
            await process.wait()
        finally:
            life.ready.set()
        if not life.went and self._stopping:
            return  # it waited for a life that did not come
        planned = life.doomed and process.returncode != 0
        how = "was killed, as planned" if planned else f"ended {processes.ending(process)}"
        ending = Ending(
            life.worker_id,
            exit_code=process.returncode or 0,
            how=how,
            asked=self._stopping,
            counters=_counters(told),
            planned=planned,
        )
        self._endings.append(ending)
        self._on_ending(ending)


@asynccontextmanager
async def fleet(
    server: str,
    agents: Mapping[str, Settings],
    *,
    log: Path,
    on_ending: Callable[[Ending], None],
) -> AsyncIterator[Fleet]:
    """Start the agents, by worker id; ``log`` gets what they say on stderr.

    Leaving the context ends those that are still there.
    """
    following = Fleet(server, log, on_ending)
    try:
        await following.start(agents)
    except BaseException:
        await following.stop(grace_s=0)
        raise
    try:
        yield following
    finally:
        await following.stop()


def _command(server: str, worker_id: str, settings: Settings) -> Sequence[str]:
    role = "--coordinator" if isinstance(settings, CoordinatorSettings) else "--config"
    return [
        *(sys.executable, "-P", "-m", "taskloom_experiments.agents"),
        *("--server", server, "--worker-id", worker_id),
        *(role, settings.to_json(), "--parent", str(os.getpid())),
    ]


def _counters(line: str | None) -> dict[str, int]:
    if line is None:
        return {}
    try:
        counters = json.loads(line)
    except ValueError:
        return {}
    return {str(name): int(value) for name, value in counters.items()}
