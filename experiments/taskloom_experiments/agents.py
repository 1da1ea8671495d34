"""A simulated agent: a process of its own, which uses nothing but the public client.

    python -m taskloom_experiments.agents --server HOST:PORT --worker-id ID --config JSON

It takes tasks the way it is told to pull, works each for as long as ``simulation`` says, marks
files meanwhile, attaches results, logs tokens and cost, and completes it. When nothing is left it
disconnects and writes what it counted as one line of JSON to its output. SIGTERM makes it give
back what it holds and leave; what it counted it writes all the same.

Started by a runner it is tethered (``--parent PID``): it writes ``ready`` when it is connected,
begins when it reads ``go``, so that a fleet starts at one moment and the start of Python is not
measured, and ends when its parent does.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio import StreamReader, StreamReaderProtocol
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import NoReturn

from taskloom_client import Agent, Client, HeldTask, TaskloomError

from taskloom_experiments import simulation
from taskloom_experiments.pulls import PULLS, Pull
from taskloom_experiments.tether import die_with_parent

READY = "ready"
GO = "go"
RESULTS = "gate/results"
PHASE = "implement"
CONNECT_S = 30.0
IDLE_S = 0.02
"""How long to rest when nothing is ready, at first. Less than agents usually do: tasks, too, take
a thousandth of their time here, and a rest must not outlast them."""

WAIT_S = 10.0

EXIT_FAILED = 1
EXIT_BAD_CONFIG = 2


@dataclass(frozen=True)
class AgentSettings:
    """How a simulated agent connects, pulls and works.

    ``lease_s`` are real seconds: how long a task stays with an agent that vanished, unless
    somebody who knows disconnects it before. So are ``idle_s``, how long it rests first when
    nothing is ready, and ``wait_s``, how long it waits in line first. The others are as in a
    definition's ``agent_config`` and in ``simulation.work_for``.
    """

    pull: Pull
    seed: int
    speed: float
    workflow: str = "swarm"
    tags: tuple[str, ...] = ()
    max_claims: int = 1
    lease_s: float = 30.0
    noise: float = simulation.DEFAULT_NOISE
    idle_s: float = IDLE_S
    wait_s: float = WAIT_S

    def to_json(self) -> str:
        """As the command line carries it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "AgentSettings":
        """Read what ``to_json`` wrote. Raises ValueError, one sentence."""
        try:
            fields = json.loads(text)
            settings = AgentSettings(**{**fields, "tags": tuple(fields.get("tags", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"--config cannot be used: {error}") from error
        if settings.pull not in PULLS:
            raise ValueError(f"--config: pull is {settings.pull!r}; write {' or '.join(PULLS)}")
        if not settings.speed > 0:
            raise ValueError(f"--config: speed is {settings.speed}; it must be above 0")
        return settings


async def work(held: HeldTask, settings: AgentSettings) -> None:
    """Work one task: marks, time, results, what it cost. A claim that is lost ends it.

    Completed it is by coming back for the next one, which a stream makes one round trip.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    task = held.task
    estimate = task.time_estimate.ToTimedelta() if task.HasField("time_estimate") else None
    todo = simulation.work_for(
        task.id,
        estimate.total_seconds() if estimate else None,
        seed=settings.seed,
        speed=settings.speed,
        noise=settings.noise,
    )
    if not task.phase:
        await held.update(phase=PHASE)
    await held.mark(todo.files)
    with contextlib.suppress(TimeoutError):
        # What the calls took is part of the task's time, not on top of it.
        async with asyncio.timeout_at(began + todo.seconds):
            await held.lost_event.wait()
            return
    await held.attach(RESULTS, todo.results, mime_type="application/json")
    await held.log_metrics(
        tokens_in=todo.tokens_in, tokens_out=todo.tokens_out, cost_usd=todo.cost_usd
    )


async def run(server: str, worker_id: str, settings: AgentSettings, *, tethered: bool) -> None:
    """Take part until nothing is left, or until SIGTERM; then write what was counted.

    Raises TaskloomError when the server refuses or cannot be reached for long.
    """
    async with Client(server) as client:
        agent = agent_for(client, worker_id, settings)
        session = asyncio.create_task(take_part(client, agent, settings, tethered=tethered))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, session.cancel)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await session
        finally:
            print(json.dumps(counted(agent)), flush=True)


def agent_for(client: Client, worker_id: str, settings: AgentSettings) -> Agent:
    """The agent that these settings describe, not yet connected."""
    return Agent(
        client,
        worker_id=worker_id,
        tags=settings.tags,
        workflow=settings.workflow,
        max_claims=settings.max_claims,
        lease=timedelta(seconds=settings.lease_s),
        pull=settings.pull,
        idle_interval=settings.idle_s,
        shortest_wait=timedelta(seconds=settings.wait_s),
    )


async def take_part(
    client: Client, agent: Agent, settings: AgentSettings, *, tethered: bool = False
) -> None:
    """Connect, work until nothing is left, disconnect. Raises TaskloomError."""
    await client.ready(CONNECT_S)  # before the start, which is to find everybody connected
    started = _start_signal() if tethered else contextlib.nullcontext()
    async with started, agent:  # leaving it, the agent gives back what it holds
        try:
            async with asyncio.TaskGroup() as hands:
                for _ in range(settings.max_claims):
                    hands.create_task(_work_all(agent, settings))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None


async def _work_all(agent: Agent, settings: AgentSettings) -> None:
    async for held in agent.tasks():
        await work(held, settings)


@contextlib.asynccontextmanager
async def _start_signal() -> AsyncIterator[None]:
    """Entered when the parent says go; from then on this process ends when the parent does."""
    orders = StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: StreamReaderProtocol(orders), sys.stdin)
    print(READY, flush=True)
    try:
        if (await orders.readline()).decode().strip() != GO:
            _end_at_once()
        watch = asyncio.create_task(_end_with_parent(orders))
        try:
            yield
        finally:
            watch.cancel()
    finally:
        transport.close()


async def _end_with_parent(orders: StreamReader) -> None:
    while await orders.read(4096):
        pass
    _end_at_once()


def _end_at_once() -> NoReturn:
    os._exit(EXIT_FAILED)


def counted(agent: Agent) -> dict[str, int]:
    """The agent's counters as whole numbers; seconds_working becomes working_ms."""
    return {
        name.removeprefix("seconds_") + "_ms" if name.startswith("seconds_") else name: round(
            value * 1000 if name.startswith("seconds_") else value
        )
        for name, value in asdict(agent.counters).items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The agent's command line; the exit code is 0 when it left in good order."""
    parser = argparse.ArgumentParser(prog="taskloom_experiments.agents", description=__doc__)
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--worker-id", required=True)
    parser.add_argument("--config", required=True, metavar="JSON")
    parser.add_argument("--parent", type=int, metavar="PID")
    given = parser.parse_args(arguments)
    if given.parent is not None:
        die_with_parent(given.parent)
    try:
        settings = AgentSettings.from_json(given.config)
        asyncio.run(run(given.server, given.worker_id, settings, tethered=given.parent is not None))
    except ValueError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_CONFIG
    except TaskloomError as error:
        print(f"{given.worker_id}: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
