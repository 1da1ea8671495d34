"""What the documents tell people to type works.

Fenced ``sh`` and ``python`` blocks are run as they stand, a document's blocks in order against
one server, with its address put in for the one in the text. Of indented command lines it is
checked that the command, the options or the make target are there.

What ``taskloom`` runs in the blocks is the installed one in the README, and elsewhere one that is
forked, as commands are in the tests of the command line.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from taskloom_client.cli import app
from typer.testing import CliRunner

from tests import forked

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".tools" / "bin"
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "experiments" / "README.md"]
    if path.is_file()
)
SEARCH_PATH = os.pathsep.join(
    [str(Path(sys.executable).parent), str(TOOLS), os.environ.get("PATH", "")]
)
_FENCED = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    ((?:taskloom|make) .*)$", re.MULTILINE)


def _text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


# Hands arguments, variables, folder and streams over to ``_commands``, and ends as they did.
_HANDING_OVER = f"""#!{sys.executable} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as way:
    way.connect(os.path.join(os.path.dirname(__file__), "socket"))
    asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()])
    socket.send_fds(way, [asked.encode() + b"\\n"], [0, 1, 2])
    sys.exit(way.recv(1)[0])
"""


@asynccontextmanager
async def _commands() -> AsyncIterator[str]:
    """A folder in which a ``taskloom`` is whose commands are forked."""
    loop, running = asyncio.get_running_loop(), set()
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as way:
        script = Path(folder) / "taskloom"
        script.write_text(_HANDING_OVER, encoding="utf-8")
        script.chmod(0o700)
        way.bind(f"{folder}/socket")
        way.listen()
        way.setblocking(False)

        async def take() -> None:
            while True:
                asking, _ = await loop.sock_accept(way)
                running.add(asyncio.create_task(_carry_out(asking)))

        running.add(asyncio.create_task(take()))
        yield folder
        for task in running:
            task.cancel()
        await asyncio.wait(running)


async def _carry_out(asking: socket.socket) -> None:
    with asking:
        asking.setblocking(True)
        asked, descriptors, _, _ = socket.recv_fds(asking, 1 << 16, 3)
        while not asked.endswith(b"\n"):
            asked += asking.recv(1 << 16)
        arguments, environment, folder = json.loads(asked)
        streams = [Connection(one) for one in descriptors]
        process = forked.start(arguments, environment, *streams, folder=folder)
        for stream in streams:
            stream.close()
        try:
            code = await process.wait()
        finally:
            process.kill()
        asking.send(bytes([code if code >= 0 else 128 - code]))


async def _run(
    language: str, block: str, address: str, folder: Path, search_path: str
) -> tuple[int, str]:
    command = [sys.executable, "-"] if language == "python" else ["bash", "-eu", "-"]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=os.environ | {"PATH": search_path, "TASKLOOM_SERVER": address},
    )
    script = block.replace("localhost:50051", address)
    output, _ = await asyncio.wait_for(process.communicate(script.encode()), timeout=60)
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.parametrize(
    "document", [document for document in DOCUMENTS if _FENCED.search(_text(document))]
)
async def test_fenced_blocks_run(document: str, server: Any, tmp_path: Path) -> None:
    """Every fenced block of a document succeeds, after those above it."""
    blocks = _FENCED.findall(_text(document))
    if any("grpcurl" in block for _, block in blocks) and not shutil.which(
        "grpcurl", path=SEARCH_PATH
    ):
        if shutil.which("go"):
            pytest.fail("grpcurl is not installed: run .ci/run, or make tools")
        pytest.skip("grpcurl comes from the Go module proxy, and there is no Go here")
    async with _commands() as folder:
        search_path = (
            SEARCH_PATH if document == "README.md" else f"{folder}{os.pathsep}{SEARCH_PATH}"
        )
        for language, block in blocks:
            code, output = await _run(language, block, server.address, tmp_path, search_path)
            assert code == 0, f"{document}:\n{block}\n{output}"


@pytest.mark.parametrize(
    ("document", "line"),
    [(document, line) for document in DOCUMENTS for line in _INDENTED.findall(_text(document))],
)
def test_indented_commands_exist(document: str, line: str) -> None:
    """Every indented command line names a command, options and make targets that exist."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", _text("Makefile"), re.MULTILINE)
        assert set(words[1:]) <= set(targets), document
        return
    answer = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words[1:], "--help"])
    assert answer.exit_code == 0, f"{document}: {line}\n{answer.output}"
    for option in (word for word in words if word.startswith("--")):
        assert option in answer.output, f"{document}: {line}"
