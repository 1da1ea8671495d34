"""The agents of a simulated run: the coroutines that processes run, let go together.

An agent that is to be killed at its moment is: its connection breaks and its coroutine is
cancelled, so that nothing it would still say is heard. A new life of it is a new client.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from taskloom import v1
from taskloom_client import Client, TaskloomError

from taskloom_experiments.agent_settings import AgentSettings, CoordinatorSettings
from taskloom_experiments.agents import counted
from taskloom_experiments.behaviour import crash_after
from taskloom_experiments.coordinator import hand_out, new_coordinator
from taskloom_experiments.pace import pace
from taskloom_experiments.virtual.transport import TARGET, Channel
from taskloom_experiments.working import new_agent, take_part

Settings = AgentSettings | CoordinatorSettings

_KILLED = -9
_FAILED = 1
_LEAVING_S = 10.0
_COORDINATOR_LEAVES_S = 3.0


class Fleet:
    """Those who take part. ``connect`` makes a channel for one of them, by id and life.

    ``client`` is the runner's own, by which the server is told of agents that failed.
    """

    def __init__(self, connect: Callable[[str], Channel], client: Client) -> None:
        self._connect = connect
        self._client = client
        self._agents: list[asyncio.Task[None]] = []
        self._coordinator: asyncio.Task[bool] | None = None
        self._killed: list[asyncio.Task[None]] = []  # each with last words that nobody hears
        self._coordinator_leaves_s = _COORDINATOR_LEAVES_S
        self._done = asyncio.Event()  # one left in good order, so that nothing is left to do
        self._stopping = False
        self.counted: dict[str, dict[str, int]] = {}
        """What each has counted in all its lives, and how the last one ended, by its id."""
        self.killed: list[str] = []
        self.failed: list[str] = []
        """Who was killed as planned, and who ended in disorder, and how: clauses."""

    def go(self, agents: Mapping[str, AgentSettings]) -> None:
        """Let the agents begin."""
        for worker_id, settings in agents.items():
            self._agents.append(asyncio.create_task(self._lives(worker_id, settings)))

    def coordinate(self, worker_id: str, settings: CoordinatorSettings) -> None:
        """Let a coordinator begin."""
        self._coordinator_leaves_s = _COORDINATOR_LEAVES_S * pace(settings.speed)
        self._coordinator = asyncio.create_task(self._life(worker_id, settings, None))

    async def ended(self) -> None:
        """Wait until every agent has ended and nobody is to come back, then for the coordinator."""
        await asyncio.wait(self._agents)
        for agent in self._agents:
            agent.result()  # raises what nobody foresaw
        if self._coordinator is not None and self._done.is_set():
            await asyncio.wait([self._coordinator], timeout=self._coordinator_leaves_s)

    async def stop(self) -> None:
        """Have those leave who are still there, and give back what they hold."""
        self._stopping = True
        everybody: list[asyncio.Task[Any]] = [*self._agents]
        if self._coordinator is not None:
            everybody.append(self._coordinator)
        for one in everybody:
            one.cancel()
        await asyncio.wait([*everybody, *self._killed], timeout=_LEAVING_S)

    async def _lives(self, worker_id: str, settings: AgentSettings) -> None:
        """One life after the other, as far as they end by being killed."""
        for life in range(1, 1 << 30):
            after = crash_after(settings.behaviour, settings.seed, worker_id, life)
            crash_s = None if after is None else after / settings.speed
            if not await self._life(worker_id, settings, crash_s):
                return
            if (away := settings.behaviour.restart_after) is None:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(away / settings.speed):
                    await self._done.wait()
                    return

    async def _life(self, worker_id: str, settings: Settings, crash_s: float | None) -> bool:
        """One life, to its end; whether it was killed."""
        channel = self._connect(worker_id)
        async with Client(TARGET, channel=channel) as client:
            if isinstance(settings, CoordinatorSettings):
                agent = new_coordinator(client, worker_id, settings)
                living = asyncio.create_task(hand_out(agent, settings))
            else:
                agent = new_agent(client, worker_id, settings)
                living = asyncio.create_task(take_part(agent, settings))
            try:
                await asyncio.wait([living], timeout=crash_s)
                if not living.done():
                    channel.cut()
                    self._killed.append(asyncio.create_task(_cancelled(living)))
                    self._note(worker_id, {}, _KILLED)
                    self.killed.append(f"{worker_id} was killed, as planned")
                    return True
            except asyncio.CancelledError:
                await _cancelled(living)
                self._note(worker_id, counted(agent), 0)
                raise
            error = living.exception()
            self._note(worker_id, counted(agent), 0 if error is None else _FAILED)
        if error is None:
            if isinstance(settings, AgentSettings):
                self._done.set()
        elif isinstance(error, TaskloomError):
            await self._tell_of(worker_id, error)
        else:
            raise error
        return False

    async def _tell_of(self, worker_id: str, error: TaskloomError) -> None:
        """The server is told of one that failed, so that its task is free, as a runner does."""
        self.failed.append(f"{worker_id} ended with: {error}")
        request = v1.DisconnectRequest(worker_id=worker_id, reason="it has failed")
        with suppress(TaskloomError):
            await self._client.workers.Disconnect(request)

    def _note(self, worker_id: str, counters: Mapping[str, int], exit_code: int) -> None:
        sums = Counter(self.counted.get(worker_id, {}))
        sums.update(counters)
        sums["crashes"] += exit_code != 0 and not self._stopping
        self.counted[worker_id] = {**sums, "exit_code": exit_code}


async def _cancelled(living: "asyncio.Task[None]") -> None:
    living.cancel()
    await asyncio.wait([living])
    if not living.cancelled():
        living.exception()  # whatever it still had to say
