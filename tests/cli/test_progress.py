"""The bar of what takes long: on a terminal, and nothing of it in a pipe."""

import asyncio
import os
import pty
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.cli.conftest import Ran

if TYPE_CHECKING:
    from tests.cli.conftest import Cli
    from tests.conftest import Server

OnTerminal = Callable[..., Awaitable[Ran]]
MIB = 1 << 20


def _all_of(terminal: int) -> bytes:
    """What is shown on a terminal until nobody writes to it any more."""
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65_536)
        except OSError:  # so Linux says that the other end is closed
            return shown
        if not piece:
            return shown
        shown += piece


@pytest.fixture
def on_terminal(server: "Server", environment: dict[str, str]) -> OnTerminal:
    """Run a command whose standard error is a terminal, as is, if asked for, its output."""

    async def run(*arguments: str, output_too: bool = False) -> Ran:
        terminal, end = pty.openpty()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "taskloom_client", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=end if output_too else asyncio.subprocess.PIPE,
                stderr=end,
                env=environment | {"TASKLOOM_SERVER": server.address, "TERM": "xterm"},
            )
            os.close(end)
            shown = asyncio.create_task(asyncio.to_thread(_all_of, terminal))
            async with asyncio.timeout(60):
                out, _ = await process.communicate()
                err = await shown
        finally:
            os.close(terminal)
        assert process.returncode is not None
        return Ran(process.returncode, (out or b"").decode(), err.decode())

    return run


@pytest.fixture
async def files(client: Client, tmp_path: Path) -> Path:
    """A folder with a large file, "film", and a small one, "note"; a task "t" to keep them."""
    (tmp_path / "film").write_bytes(os.urandom(3 * MIB))
    (tmp_path / "note").write_bytes(b"small")
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="t", title="t"))
    # What a snapshot has in it, so that one is worth a bar.
    content = os.urandom(MIB)
    for _ in range(2):
        await client.attachments.Attach(v1.AttachRequest(task_id="t", type="kept", content=content))
    return tmp_path


async def test_what_takes_long_has_a_bar(on_terminal: OnTerminal, cli: "Cli", files: Path) -> None:
    """Both ways of attachments and of snapshots: on the terminal a bar, in the pipe the answer."""
    film, back, graph = files / "film", files / "back", files / "graph.json"
    commands = [
        ("attaching", ("attachment", "add", "t", "log", str(film)), "attached log"),
        ("fetching", ("attachment", "get", "t", "log", "-o", str(back)), "wrote log"),
        ("exporting", ("export", str(graph)), "exported revision"),
        ("importing", ("import", str(graph), "--mode", "merge", "--on-clash", "skip"), "imported"),
    ]
    for what, command, sentence in commands:
        ran = await on_terminal(*command)
        assert (ran.code, ran.out.count("\n")) == (0, 1), ran
        assert ran.out.startswith(sentence)
        assert what in ran.err
        assert "MB" in ran.err, "how much has gone"
        piped = await cli(*command)
        assert piped.code == 0
        assert piped.out.startswith(sentence)
        assert what not in piped.err
        assert "\x1b" not in piped.out + piped.err
    assert back.read_bytes() == film.read_bytes()


async def test_what_is_small_has_none(on_terminal: OnTerminal, files: Path) -> None:
    """A transfer that is over at once draws nothing."""
    ran = await on_terminal("attachment", "add", "t", "log", str(files / "note"))
    assert (ran.code, ran.err) == (0, "")


async def test_the_bar_is_gone_in_the_end(on_terminal: OnTerminal, files: Path) -> None:
    """On a terminal the answer, or the error, stands on a line of its own, where the bar was."""
    film = str(files / "film")
    ran = await on_terminal("attachment", "add", "t", "log", film, output_too=True)
    shown, erased, rest = ran.err.rpartition("\x1b[2K")
    assert "attaching" in shown
    assert erased
    assert rest.strip() == f"attached log 0 to t ({3 * MIB:,} bytes)"


async def test_a_content_on_standard_output_has_none(
    on_terminal: OnTerminal, cli: "Cli", files: Path
) -> None:
    """What is written into a pipe is the content and nothing else, whatever the terminal shows."""
    await cli("attachment", "add", "t", "log", str(files / "note"))
    ran = await on_terminal("attachment", "get", "t", "log")
    assert (ran.code, ran.out, ran.err) == (0, "small", "")
