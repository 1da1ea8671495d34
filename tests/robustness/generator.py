"""A process of clients: ``python -m tests.robustness.generator '{"address": …}'``.

It writes a line ``calls N`` to stdout from time to time, and at the end one with its figures. It
ends when its calls are made, or when its stdin is closed.
"""

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from grpc import aio

from tests.robustness.agents import Agent, Board
from tests.robustness.recording import Recorder
from tests.robustness.stream_agents import StreamAgent
from tests.robustness.verbs import main_action, side_action
from tests.robustness.watchers import Watcher
from tests.robustness.wire import Wire, connect

_TELL_EVERY = 50  # calls


@dataclass(frozen=True)
class Plan:
    """What a process of clients is to do."""

    address: str
    seed: str
    process: int
    agents: int
    streams: int
    watchers: int
    calls: int
    records: str  # the file to write

    def to_json(self) -> str:
        """As the argument of the process."""
        return json.dumps(asdict(self))


async def generate(plan: Plan) -> None:
    """Do it."""
    recorder = Recorder(Path(plan.records))
    board = Board(plan.process, plan.seed, plan.calls, recorder, on_progress=_tell)
    channels: list[aio.Channel] = []

    def channel() -> aio.Channel:
        channels.append(connect(plan.address))
        return channels[-1]

    agents = [Agent(f"a{plan.process}.{n}", Wire(channel()), board) for n in range(plan.agents)]
    streams = [
        StreamAgent(Agent(f"s{plan.process}.{n}", Wire(channel()), board), channels[-1])
        for n in range(plan.streams)
    ]
    watchers = [Watcher(f"w{plan.process}.{n}", channel(), board) for n in range(plan.watchers)]
    watching = [asyncio.create_task(watcher.run()) for watcher in watchers]
    async with asyncio.TaskGroup() as group:
        for agent in agents:
            group.create_task(agent.run(main_action))
            group.create_task(agent.run(side_action))
        for stream in streams:
            group.create_task(stream.run(side_action))
    for task in watching:
        task.cancel()
    ends = await asyncio.gather(*watching, return_exceptions=True)
    recorder.close()
    for one in channels:
        await one.close()
    for end in ends:
        if not isinstance(end, asyncio.CancelledError):
            raise RuntimeError("a watcher ended by itself") from end
    print(
        json.dumps(
            {
                "endings": board.endings,
                "calls": board.calls,
                "watch resumes": sum(watcher.resumes for watcher in watchers),
                "watch stalls": sum(watcher.stalls for watcher in watchers),
                "work streams": sum(stream.talks for stream in streams),
            }
        ),
        flush=True,
    )


def _tell(calls: int) -> None:
    if calls % _TELL_EVERY == 0:
        print(f"calls {calls}", flush=True)


async def _until_closed() -> None:
    """Return when stdin is."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def _main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    work = asyncio.create_task(generate(plan))
    orphaned = asyncio.create_task(_until_closed())
    await asyncio.wait({work, orphaned}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        return
    orphaned.cancel()
    await work


if __name__ == "__main__":
    asyncio.run(_main())
