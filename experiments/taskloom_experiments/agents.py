"""A simulated agent or coordinator as a process of its own, which uses the public client alone.

    python -m taskloom_experiments.agents --server HOST:PORT --worker-id ID --config JSON
    python -m taskloom_experiments.agents --server HOST:PORT --worker-id ID --coordinator JSON

What an agent does is in ``working``, what a coordinator does in ``coordinator``. When nothing is
left it disconnects and writes what it counted as one line of JSON to its output. SIGTERM makes it
give back what it holds and leave; what it counted it writes all the same.

Started by a runner it is tethered (``--parent PID``): it writes ``ready`` when there is a
connection to the server, begins when it reads ``go``, so that a fleet starts at one moment and the
start of Python is not measured, and ends when its parent does.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio import StreamReader, StreamReaderProtocol
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import asdict
from typing import Any, NoReturn

from taskloom_client import Agent, Client, TaskloomError

from taskloom_experiments.agent_settings import AgentSettings, CoordinatorSettings
from taskloom_experiments.coordinator import hand_out, new_coordinator
from taskloom_experiments.tether import die_with_parent
from taskloom_experiments.working import new_agent, take_part

READY = "ready"
GO = "go"
CONNECT_S = 30.0

EXIT_FAILED = 1
EXIT_BAD_CONFIG = 2


async def run(
    server: str,
    worker_id: str,
    settings: AgentSettings | CoordinatorSettings,
    *,
    tethered: bool,
) -> None:
    """Take part until nothing is left, or until SIGTERM; then write what was counted.

    Raises TaskloomError when the server refuses or cannot be reached for long.
    """
    async with Client(server) as client:
        life: Coroutine[Any, Any, None]
        if isinstance(settings, CoordinatorSettings):
            agent = new_coordinator(client, worker_id, settings)
            life = hand_out(agent, settings)
        else:
            agent = new_agent(client, worker_id, settings)
            life = take_part(agent, settings)
        session = asyncio.create_task(_session(client, life, tethered=tethered))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, session.cancel)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await session
        finally:
            print(json.dumps(counted(agent)), flush=True)


async def _session(client: Client, life: Coroutine[Any, Any, None], *, tethered: bool) -> None:
    try:
        await client.ready(CONNECT_S)  # before the start, which is to find everybody connected
        async with _start_signal() if tethered else contextlib.nullcontext():
            await life
    finally:
        life.close()  # where it never began


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
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument("--config", metavar="JSON")
    role.add_argument("--coordinator", metavar="JSON")
    parser.add_argument("--parent", type=int, metavar="PID")
    given = parser.parse_args(arguments)
    if given.parent is not None:
        die_with_parent(given.parent)
    try:
        settings = (
            AgentSettings.from_json(given.config)
            if given.config is not None
            else CoordinatorSettings.from_json(given.coordinator)
        )
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
