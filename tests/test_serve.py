"""The server as a process: how it starts, what it refuses, and what it logs.

How it ends is in ``test_serve_endings``; its settings by themselves are in ``test_settings``.
"""

import asyncio
import json
import os
import pty
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError
from taskloom_server.settings import Settings

from tests import forked
from tests.calls import create
from tests.test_serve_endings import query

if TYPE_CHECKING:
    from tests.conftest import ServerProcess

    StartProcess = Callable[..., Awaitable[ServerProcess]]

Spawn = Callable[..., Awaitable[Process]]
_LISTENING = "taskloom is listening on "


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    """``taskloom serve`` with these flags and no others; gone after the test."""
    started: list[Process] = []

    async def start(
        *flags: str | Path, env: dict[str, str] | None = None, stderr: int = PIPE
    ) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taskloom_client", "serve", *map(str, flags)),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=stderr,
            cwd=tmp_path,
            env=without_settings() | (env or {}),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def without_settings() -> dict[str, str]:
    """Our environment, but for what would set something."""
    return {k: v for k, v in os.environ.items() if not k.startswith("TASKLOOM_")}


async def listening(process: Process) -> str:
    """Where the server listens, once it does."""
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith(_LISTENING), line
    return line.removeprefix(_LISTENING).strip()


# What it refuses.


def no_database(path: Path) -> None:
    """A file that is not SQLite."""
    path.write_bytes(b"Dear diary, " * 1000)


def anothers(path: Path) -> None:
    """An SQLite file of another program."""
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE diary (entry)")
    connection.close()


REFUSED_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "not SQLite": (no_database, "is not a taskloom database"),
    "another program's": (anothers, "of another program"),
    "a folder": (Path.mkdir, "is a folder"),
}


Refusal = Callable[..., Awaitable[str]]


@pytest.fixture
def refusal(tmp_path_factory: pytest.TempPathFactory) -> Refusal:
    """The sentence with which a server ends that cannot be, by these flags; it is forked."""

    async def end(*flags: str | Path) -> str:
        out, err = (tmp_path_factory.mktemp("streams") / name for name in ("out", "err"))
        process = forked.start(
            ["serve", *map(str, flags)], without_settings(), Path(os.devnull), out, err
        )
        try:
            async with asyncio.timeout(30):
                code = await process.wait()
        finally:
            process.kill()
            await process.wait()
        lines = err.read_text(encoding="utf-8").splitlines()
        assert (code, out.read_bytes()) == (2, b""), lines
        assert len(lines) == 1, lines
        assert "Traceback" not in lines[0]
        assert lines[0].startswith("error: ")
        return lines[0]

    return end


@pytest.mark.parametrize("kind", REFUSED_FILES)
async def test_files_it_refuses(refusal: Refusal, tmp_path: Path, kind: str) -> None:
    """What is no taskloom database is refused in one sentence, and left as it was."""
    make, reason = REFUSED_FILES[kind]
    path = tmp_path / "it"
    make(path)
    before = path.is_dir() or path.read_bytes()
    said = await refusal("--db", path, "--listen", "127.0.0.1:0")
    assert reason in said
    assert str(path) in said
    assert (path.is_dir() or path.read_bytes()) == before


async def test_a_folder_that_is_not_there(refusal: Refusal, tmp_path: Path) -> None:
    """A file in a folder that does not exist is refused; the folder is not made."""
    said = await refusal("--db", tmp_path / "no" / "it", "--listen", "127.0.0.1:0")
    assert str(tmp_path / "no") in said
    assert not (tmp_path / "no").exists()


async def test_a_newer_schema(refusal: Refusal, start_process: "StartProcess") -> None:
    """A file that a newer taskloom has migrated is refused, and not migrated back."""
    server = await start_process()
    server.process.terminate()
    await server.process.wait()
    query(server.db, "INSERT INTO schema_migration (name, applied) VALUES ('9999_new', '')")
    said = await refusal("--db", server.db, "--listen", "127.0.0.1:0")
    assert "newer taskloom" in said
    assert "9999_new" in said
    assert query(server.db, "SELECT count(*) FROM schema_migration WHERE name = '9999_new'")


async def test_a_port_in_use(
    refusal: Refusal, start_process: "StartProcess", tmp_path: Path
) -> None:
    """A second server on the port is refused, with the address in the sentence."""
    server = await start_process()
    said = await refusal("--db", tmp_path / "other", "--listen", server.address)
    assert server.address in said


async def test_a_file_in_use(refusal: Refusal, start_process: "StartProcess") -> None:
    """A second server on the file is refused, and the first one goes on."""
    server = await start_process()
    said = await refusal("--db", server.db, "--listen", "127.0.0.1:0")
    assert "in use by another taskloom server" in said
    async with Client(server.address) as client:
        await create(client, "a")


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:http", "127.0.0.1:99999"])
async def test_addresses_that_are_none(refusal: Refusal, tmp_path: Path, listen: str) -> None:
    """An address that cannot be is refused, with what it was; no file is made."""
    said = await refusal("--db", tmp_path / "it", "--listen", listen)
    assert listen in said
    assert not (tmp_path / "it").exists()


async def test_an_address_of_another_machine(refusal: Refusal, tmp_path: Path) -> None:
    """An address that is not of this machine is refused."""
    said = await refusal("--db", tmp_path / "it", "--listen", "192.0.2.1:0")
    assert "192.0.2.1:0" in said


async def test_a_settings_file_that_is_not_there(refusal: Refusal, tmp_path: Path) -> None:
    """A settings file that is named must be there."""
    said = await refusal("--config", tmp_path / "no.yaml")
    assert str(tmp_path / "no.yaml") in said


# Where its settings come from.


async def test_the_environment_is_used(spawn: Spawn, tmp_path: Path) -> None:
    """TASKLOOM_DB and TASKLOOM_LISTEN do what the flags do."""
    env = {"TASKLOOM_DB": str(tmp_path / "env.db"), "TASKLOOM_LISTEN": "localhost:0"}
    address = await listening(await spawn(env=env))
    assert address.startswith("localhost:")
    async with Client(address) as client:
        await create(client, "a")
    assert (tmp_path / "env.db").exists()


async def test_a_settings_file_is_used(spawn: Spawn, tmp_path: Path) -> None:
    """A YAML file sets what flags and the environment leave out; flags win over both."""
    config = tmp_path / "taskloom.yaml"
    config.write_text(f"db: {tmp_path / 'file.db'}\nlisten: localhost:0\nlog_level: error\n")
    env = {"TASKLOOM_DB": str(tmp_path / "env.db")}
    server = await spawn("--config", config, "--db", tmp_path / "flag.db", env=env)
    assert (await listening(server)).startswith("localhost:")
    server.terminate()
    _, err = await server.communicate()
    assert (server.returncode, err) == (0, b"")
    made = {name for name in os.listdir(tmp_path) if name.endswith(".db")}
    assert made == {"flag.db"}


async def test_it_listens_on_loopback_alone(start_process: "StartProcess") -> None:
    """Unless told otherwise it can be reached from this machine only, at the known port."""
    assert Settings.model_fields["listen"].default == "127.0.0.1:50051"
    server = await start_process()
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5).close()


# What it logs.


async def test_logs_for_programs(start_process: "StartProcess") -> None:
    """Where stderr is no terminal each line is JSON, and calls add none."""
    server = await start_process()
    async with Client(server.address) as client:
        await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
        before = server.log()
        for n in range(25):
            await create(client, f"t{n}")
            await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id=f"t{n}"))
            await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id=f"t{n}"))
        with pytest.raises(TaskloomError):
            await client.tasks.GetTask(v1.GetTaskRequest(task_id="no"))
        assert server.log() == before
    server.process.terminate()
    assert await server.process.wait() == 0
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert {line["event"] for line in lines} >= {"migrated", "listening", "stopping", "stopped"}
    assert all(line["level"] == "info" and line["timestamp"] for line in lines)
    assert [line["address"] for line in lines if line["event"] == "listening"] == [server.address]


async def test_logs_for_people(spawn: Spawn, tmp_path: Path) -> None:
    """On a terminal a line is for reading."""
    ours, theirs = pty.openpty()
    try:
        server = await spawn("--db", tmp_path / "t.db", "--listen", "127.0.0.1:0", stderr=theirs)
        address = await listening(server)
        server.terminate()
        assert await server.wait() == 0
        written = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert address in written
    assert "stopped" in written
    for line in written.splitlines():
        with pytest.raises(json.JSONDecodeError):
            json.loads(line)
