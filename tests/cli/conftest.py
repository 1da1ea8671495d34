"""The command line as scripts use it: a process, told by its exit code and its output.

``cli`` and ``taskloom`` run a command to its end; its process is forked from one that has done the
imports. ``start`` starts one as a shell would, to be read, written to and sent signals.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests import forked

if TYPE_CHECKING:
    from tests.conftest import Server


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


Cli = Callable[..., Awaitable[Ran]]
Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
def environment() -> dict[str, str]:
    """The variables of the commands, which tests may change: no terminal, nothing preset."""
    left_out = ("COLUMNS", "FORCE_COLOR", "TASKLOOM_")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


@pytest.fixture
async def start(environment: dict[str, str]) -> AsyncIterator[Start]:
    """Start a command and hand over its process, which is gone after the test."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*arguments: str | bytes) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "taskloom_client",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            limit=2**24,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def taskloom(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Run a command to its end, without a server of its own."""

    async def run(*arguments: str | bytes, stdin: bytes = b"") -> Ran:
        streams = tmp_path_factory.mktemp("streams")
        (streams / "in").write_bytes(stdin)
        process = forked.start(
            [*map(os.fsdecode, arguments)],
            environment,
            *(streams / name for name in ("in", "out", "err")),
        )
        try:
            async with asyncio.timeout(30):
                code = await process.wait()
        finally:
            process.kill()
            await process.wait()
        out, err = ((streams / name).read_bytes().decode() for name in ("out", "err"))
        return Ran(code, out, err)

    return run


@pytest.fixture
def cli(taskloom: Cli, server: "Server", environment: dict[str, str]) -> Cli:
    """Run a command against the test's server."""
    environment["TASKLOOM_SERVER"] = server.address
    return taskloom
