"""taskloom serve: the service as a process, and a watch that outlives it."""

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from taskloom import v1
from taskloom_client import Client

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Start


async def listening(process: asyncio.subprocess.Process) -> str:
    """Where the server listens, once it does."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        line = (await process.stdout.readline()).decode()
    return line.removeprefix("taskloom is listening on ").strip()


async def test_flags_reach_the_server(start: "Start", taskloom: "Cli", tmp_path: Path) -> None:
    """The server runs with the flags that were given, and ends well when it is told to."""
    db = tmp_path / "t.db"
    flags = ("--db", str(db), "--listen", "127.0.0.1:0", "--log-level", "warning")
    server = await start("serve", *flags, "--log-format", "json", "--default-workflow", "swarm")
    address = await listening(server)
    status = await taskloom("status", "--server", address)
    assert (status.code, address in status.out) == (0, True)
    server.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        out, err = await server.communicate()
    assert (server.returncode, out, err) == (0, b"", b"")
    assert db.exists()


async def test_what_the_server_refuses_is_one_sentence(taskloom: "Cli", tmp_path: Path) -> None:
    """A setting that cannot be used ends the server before it begins."""
    ran = await taskloom("serve", "--config", str(tmp_path / "none.yaml"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


async def test_watch_goes_on_after_a_restart(start: "Start", tmp_path: Path) -> None:
    """A watch whose server restarts tells what happened since, without a gap or a word."""
    flags = ["serve", "--db", str(tmp_path / "t.db"), "--log-level", "error", "--listen"]
    server = await start(*flags, "127.0.0.1:0")
    address = await listening(server)
    watch = await start("watch", "--json", "--event", "task-created", "--server", address)
    assert watch.stdout is not None

    async def created(id: str) -> None:
        async with Client(address) as client:
            await client.ready(20)
            await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id))

    async def seen() -> str:
        assert watch.stdout is not None
        async with asyncio.timeout(20):
            while True:
                line = json.loads(await watch.stdout.readline())
                if "task_id" in line:
                    return str(line["task_id"])

    assert "created" in json.loads(await watch.stdout.readline())
    await created("before")
    assert await seen() == "before"
    server.kill()
    await server.wait()
    server = await start(*flags, address)
    assert await listening(server) == address
    await created("after")
    assert await seen() == "after"
    watch.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        _, err = await watch.communicate()
    assert (watch.returncode, err) == (130, b"")
