"""What every test may use: a real server on a free port and a real file, and a client of it."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from taskloom_client import Client
from taskloom_server.server import serving
from taskloom_server.settings import Settings
from taskloom_server.store.schema import prepare

from tests import forked
from tests.forked import Forked


class TestClock:
    """A clock that stands still until it is moved."""

    __test__ = False

    def __init__(self, now: int = 1_800_000_000_000) -> None:
        self._now = now
        self._moved = asyncio.Event()

    def now(self) -> int:
        """The time in Unix ms."""
        return self._now

    def advance(self, ms: int) -> None:
        """Let so much time pass at once."""
        self._now += ms
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def until(self, deadline: int) -> None:
        """Return once the clock has been moved so far."""
        while self._now < deadline:
            await self._moved.wait()


@dataclass(frozen=True)
class Server:
    """A server that runs in the test's event loop."""

    address: str
    db: Path
    clock: TestClock | None


@pytest.fixture(scope="session")
def empty_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database on which all migrations were run, to be copied: two thirds of a server's start."""
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    prepare(path)
    return path


@pytest.fixture
def start_server(tmp_path: Path, empty_db: Path) -> Callable[..., Any]:
    """Start a server of one's own: ``async with start_server(clock=…, db=…, …) as server``."""

    @asynccontextmanager
    async def start(
        db: Path | None = None, clock: TestClock | None = None, **settings: Any
    ) -> AsyncIterator[Server]:
        path = db or tmp_path / "tasks.db"
        if db is None and not path.exists():
            shutil.copy(empty_db, path)
        options: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "shutdown_grace_seconds": 1.0,
        } | settings
        async with serving(Settings(db=path, **options), clock) as running:
            yield Server(running.address, path, clock)

    return start


@pytest.fixture
async def server(start_server: Callable[..., Any]) -> AsyncIterator[Server]:
    """A server by the machine's clock."""
    async with start_server() as running:
        yield running


@pytest.fixture
def clock() -> TestClock:
    """A clock that the test moves. Ask for it beside ``timed_server``."""
    return TestClock()


@pytest.fixture
async def timed_server(start_server: Callable[..., Any], clock: TestClock) -> AsyncIterator[Server]:
    """A server by the test's clock."""
    async with start_server(clock=clock) as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    """A client of ``server``."""
    async with Client(server.address) as connected:
        yield connected


@pytest.fixture
async def timed_client(timed_server: Server) -> AsyncIterator[Client]:
    """A client of ``timed_server``."""
    async with Client(timed_server.address) as connected:
        yield connected


@dataclass(frozen=True)
class ServerProcess:
    """A server in a process of its own."""

    process: Forked
    address: str  # empty: it ended before it listened
    db: Path
    _stderr: Path

    def log(self) -> str:
        """What it has written to stderr so far."""
        return self._stderr.read_text(encoding="utf-8")


@pytest.fixture
async def start_process(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[ServerProcess]]]:
    """Start a server process: ``await start_process("--log-level", "debug", db=…, env={…})``.

    It has begun to listen, or has ended, and it is gone after the test. It is forked from one that
    has done the imports.
    """
    started: list[Forked] = []

    async def start(
        *arguments: str,
        db: Path | None = None,
        listen: str = "127.0.0.1:0",
        env: dict[str, str] | None = None,
    ) -> ServerProcess:
        path = db or tmp_path / "tasks.db"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TASKLOOM_")}
        flags = {"--db": str(path), "--listen": listen}
        given = [part for flag, value in flags.items() if value for part in (flag, value)]
        stderr = tmp_path / f"server-{len(started)}.log"
        ours, theirs = forked.pipe()
        process = forked.start(
            ["serve", *given, *arguments], inherited | (env or {}), Path(os.devnull), theirs, stderr
        )
        started.append(process)
        theirs.close()
        line = await asyncio.to_thread(forked.first_line, ours)
        if not line:
            await process.wait()
        return ServerProcess(process, line.rpartition(" ")[2].strip(), path, stderr)

    yield start
    for process in started:
        process.kill()
        await process.wait()
