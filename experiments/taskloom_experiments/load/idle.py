"""Idle: what a thousand agents cost that wait for a task, or for news, while there is none.

Memory is the server's resident memory, before the agents wait (they are connected and registered
by then) and when all of them do, by agent; once as the operating system shows it and once after
the process gave back what it does not need. Processor time at rest is what the server's process
uses over some time in which nothing happens but keepalives, progress messages and the like. Then
one task is made ready, and the answers are counted.
"""

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path

from taskloom import v1
from taskloom_client import Client

from taskloom_experiments.load.crowd import Crowd, crowd
from taskloom_experiments.load.measured import Figure, Measured
from taskloom_experiments.load.serving import serving
from taskloom_experiments.load.waiting_agents import CrowdSettings
from taskloom_experiments.load.ways_to_wait import AGENT_TAG

CPU_BAR = 1.0
MEMORY_BAR = 64.0
_BUSY = "busy"


@dataclass(frozen=True, slots=True)
class IdleSettings:
    """How many agents wait, in which way and on how many connections, and for how long.

    ``way`` is of ``WAYS``, and ``progress_s`` as in ``WaitingAgent``. ``settle_s``: how long to
    let things come to rest, before the server is looked at and before the answers are counted.
    ``at_rest_s``: how long nothing has happened when its time is taken; agents look around in the
    beginning, and then ever more rarely.
    """

    way: str = "claim"
    agents: int = 1_000
    processes: int = 2
    connections: int = 20
    rest_s: float = 30.0
    progress_s: float | None = None
    settle_s: float = 3.0
    at_rest_s: float = 3.0


async def measure_idle(settings: IdleSettings, folder: Path) -> Measured:
    """Measure it with a server and agents of its own, all of whose files lie in ``folder``."""
    async with serving(folder) as server, Client(server.target) as client:
        agents = CrowdSettings(
            server.target,
            settings.way,
            settings.agents,
            settings.connections,
            progress_s=settings.progress_s,
        )
        async with crowd(agents, settings.processes, folder / "agents.log") as sleepers:
            await sleepers.connected()
            await _begin_work(client)
            before = await server.settled_bytes(client)
            await sleepers.wait()
            await asyncio.sleep(settings.settle_s)
            resident = server.resident_bytes()
            settled = await server.settled_bytes(client)
            await asyncio.sleep(settings.at_rest_s)
            share = await server.cpu_share(settings.rest_s)
            answers = await _answers(client, sleepers, settings.settle_s)
    each = settings.agents * 1024
    everybody, bar = (settings.agents, None) if settings.way == "watch" else (1, 1)
    return Measured(
        scenario=_name(settings),
        settings=asdict(settings),
        figures=(
            Figure("server CPU at rest", 100 * share, "% of a core", CPU_BAR),
            Figure("memory for each", (settled - before) / each, "KiB", MEMORY_BAR),
            Figure("memory for each, untrimmed", (resident - before) / each, "KiB"),
            Figure(f"answers to one task ({everybody} wanted)", answers, "answers", bar),
        ),
    )


def _name(settings: IdleSettings) -> str:
    name = f"idle by {settings.way}, {settings.connections:,} connections"
    if settings.progress_s is not None:
        name += f", progress every {settings.progress_s:g} s"
    return name


async def _begin_work(client: Client) -> None:
    """Have somebody at work on a task, so that there is something to wait for."""
    await client.workers.Connect(v1.ConnectRequest(worker_id=_BUSY, tags=[_BUSY]))
    await client.tasks.CreateTask(v1.CreateTaskRequest(title="Work", needed_tags=[_BUSY]))
    await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id=_BUSY))


async def _answers(client: Client, sleepers: Crowd, settle_s: float) -> int:
    """Make one task ready; how many agents it reached. Raises TimeoutError for none."""
    await client.tasks.CreateTask(
        v1.CreateTaskRequest(id="the-task", title="Wake one", needed_tags=[AGENT_TAG])
    )
    await sleepers.received()
    await asyncio.sleep(settle_s)  # for those that should not have been woken
    return 1 + len(sleepers.rest())
