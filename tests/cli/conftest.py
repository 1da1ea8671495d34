"""The command line as scripts use it: a process, told by its exit code and its output."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

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
def taskloom(start: Start) -> Cli:
    """Run a command to its end, without a server of its own."""

    async def run(*arguments: str | bytes, stdin: bytes = b"") -> Ran:
        process = await start(*arguments)
        async with asyncio.timeout(30):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
def cli(taskloom: Cli, server: "Server", environment: dict[str, str]) -> Cli:
    """Run a command against the test's server."""
    environment["TASKLOOM_SERVER"] = server.address
    return taskloom
