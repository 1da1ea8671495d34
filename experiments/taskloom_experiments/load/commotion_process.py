"""A process that makes commotion on a server, until it is ended.

    python -m taskloom_experiments.load.commotion_process --parent PID --target HOST:PORT --rest S

It writes ``begun`` when the graph is set up; then, for each line that it reads, a line of JSON:
how many rounds of each part were played so far. What goes wrong in a part ends it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from taskloom_experiments import processes
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.load.commotion import Stage, play, set_up
from taskloom_experiments.load.serving import Served, tail
from taskloom_experiments.tether import die_with_parent

BEGUN = "begun"
_ANSWER_S = 60.0


class CommotionFailed(ExperimentError):
    """Something went wrong that a client does; the text has the end of the log."""


class Commotion:
    """A process that makes commotion, and what it has done so far."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def begun(self) -> None:
        """Wait until it has begun. Raises CommotionFailed."""
        await self._line()

    async def rounds(self) -> dict[str, int]:
        """How many rounds of each part were played. Raises CommotionFailed."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it has ended, which the answer says
            self._process.stdin.write(b"rounds\n")
            await self._process.stdin.drain()
        told: dict[str, int] = json.loads(await self._line())
        return told

    async def _line(self) -> str:
        try:
            async with asyncio.timeout(_ANSWER_S):
                line = await processes.read_line(self._process)
        except TimeoutError:
            line = None
        if line is None:
            raise CommotionFailed(f"the commotion has ended; its log: {tail(self._log)}")
        return line


@contextlib.asynccontextmanager
async def commotion(server: Served, folder: Path, *, rest_s: float) -> AsyncIterator[Commotion]:
    """Commotion on a server while the context lasts; see ``commotion.play``."""
    log = folder / "commotion.log"
    command = [
        *(sys.executable, "-P", "-m", "taskloom_experiments.load.commotion_process"),
        *("--parent", str(os.getpid()), "--target", server.target, "--rest", str(rest_s)),
    ]
    process = await processes.start(command, log=log)
    try:
        made = Commotion(process, log)
        await made.begun()
        yield made
    finally:
        await processes.stop([process], grace_s=2)


async def _run(target: str, rest_s: float) -> None:
    stage = Stage(target)
    await set_up(stage)
    print(BEGUN, flush=True)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    playing = asyncio.ensure_future(play(stage, rest_s=rest_s))
    asked = asyncio.ensure_future(_answer(reader, stage))
    await asyncio.wait((playing, asked), return_when=asyncio.FIRST_COMPLETED)
    if playing.done():
        playing.result()  # what went wrong


async def _answer(asked: asyncio.StreamReader, stage: Stage) -> None:
    while await asked.readline():
        print(json.dumps(stage.rounds), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Go on until killed, or until the input ends."""
    parser = argparse.ArgumentParser(prog="taskloom_experiments.load.commotion_process")
    parser.add_argument("--parent", type=int, required=True, metavar="PID")
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--rest", type=float, required=True, metavar="S")
    given = parser.parse_args(arguments)
    die_with_parent(given.parent)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(given.target, given.rest))


if __name__ == "__main__":
    main()
