"""A process full of agents that wait; a crowd (``crowd``) is one or more of these.

    python -m taskloom_experiments.load.waiting_agents --parent PID --config JSON

It writes ``connected`` when all have their connection and are registered; reads a line, at which
they begin to wait; writes ``waiting`` when all of them do; then one line of JSON for whatever
reaches one of them, a ``Received``.
"""

import argparse
import asyncio
import contextlib
import json
import sys
from asyncio import StreamReader, StreamReaderProtocol
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from google.protobuf.empty_pb2 import Empty
from taskloom import v1
from taskloom_client import Client
from taskloom_client.durations import proto_duration

from taskloom_experiments.load.noop import noop
from taskloom_experiments.load.ways_to_wait import AGENT_TAG, LEASE, WAYS, Received, WaitingAgent
from taskloom_experiments.tether import die_with_parent

CONNECTED = "connected"
WAITING = "waiting"
_AT_ONCE = 32
_REGISTERED_FIRST = ("claim", "stream")


@dataclass(frozen=True, slots=True)
class CrowdSettings:
    """The agents of one process: how many, on how many connections, and how they wait.

    ``way`` is of ``WAYS``; the others are as in ``WaitingAgent``. Agent k, counted from
    ``first``, is on connection k modulo ``connections``.
    """

    target: str
    way: str
    agents: int
    connections: int
    first: int = 0
    progress_s: float | None = None
    returns: bool = False
    pause_s: tuple[float, float] = (0.001, 0.004)

    def to_json(self) -> str:
        """As the command line carries it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "CrowdSettings":
        """Read what ``to_json`` wrote."""
        settings = CrowdSettings(**json.loads(text))
        low, high = settings.pause_s
        return replace(settings, pause_s=(low, high))


def _say(line: str) -> None:
    print(line, flush=True)


async def _register(agents: Sequence[WaitingAgent]) -> None:
    free = asyncio.Semaphore(_AT_ONCE)

    async def register(agent: WaitingAgent) -> None:
        request = v1.ConnectRequest(
            worker_id=agent.worker_id, tags=[AGENT_TAG], lease=proto_duration(LEASE)
        )
        async with free:
            await agent.client.workers.Connect(request)

    await asyncio.gather(*map(register, agents))


def _countdown(number: int) -> tuple[Callable[[], None], asyncio.Event]:
    """A function, and an event that is set once it has been called so often."""
    left, done = number, asyncio.Event()

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    return count, done


async def _run(settings: CrowdSettings) -> None:
    clients = [Client(settings.target, timeout=None) for _ in range(settings.connections)]
    waits, all_wait = _countdown(settings.agents)
    agents = [
        WaitingAgent(
            client=clients[number % len(clients)],
            worker_id=f"agent-{settings.first + number}",
            progress_s=settings.progress_s,
            returns=settings.returns,
            pause_s=settings.pause_s,
            waits=waits,
            tell=_tell,
        )
        for number in range(settings.agents)
    ]
    await asyncio.gather(*(noop(client.channel)(Empty()) for client in clients))
    if settings.way in _REGISTERED_FIRST:
        await _register(agents)
    _say(CONNECTED)
    orders = await _input()
    if not await orders.readline():
        return
    waiting = asyncio.gather(*map(WAYS[settings.way], agents))
    everybody = asyncio.ensure_future(all_wait.wait())
    over = asyncio.ensure_future(orders.read())  # ends when the parent does
    await asyncio.wait((waiting, everybody), return_when=asyncio.FIRST_COMPLETED)
    if everybody.done():
        _say(WAITING)
        await asyncio.wait((waiting, over), return_when=asyncio.FIRST_COMPLETED)
    if waiting.done():
        waiting.result()  # what went wrong


def _tell(received: Received) -> None:
    _say(json.dumps(asdict(received)))


async def _input() -> StreamReader:
    reader = StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: StreamReaderProtocol(reader), sys.stdin)
    return reader


def main(arguments: Sequence[str] | None = None) -> None:
    """Wait until killed, or until the input ends."""
    parser = argparse.ArgumentParser(prog="taskloom_experiments.load.waiting_agents")
    parser.add_argument("--config", required=True, metavar="JSON")
    parser.add_argument("--parent", type=int, required=True, metavar="PID")
    given = parser.parse_args(arguments)
    die_with_parent(given.parent)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(CrowdSettings.from_json(given.config)))


if __name__ == "__main__":
    main()
