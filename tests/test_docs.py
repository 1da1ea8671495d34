"""What the documents tell people to type works.

Fenced ``sh`` and ``python`` blocks are run as they stand, a document's blocks in order against
one server, with its address put in for the one in the text. Of indented command lines it is
checked that the command, the options or the make target are there.
"""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from taskloom_client.cli import app
from typer.testing import CliRunner

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


async def _run(language: str, block: str, address: str, folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-"] if language == "python" else ["bash", "-eu", "-"]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=os.environ | {"PATH": SEARCH_PATH, "TASKLOOM_SERVER": address},
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
    for language, block in blocks:
        code, output = await _run(language, block, server.address, tmp_path)
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
