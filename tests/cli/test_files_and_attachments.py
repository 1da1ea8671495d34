"""taskloom file … and taskloom attachment …: marks, locks and contents at a shell."""

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from taskloom import v1
from taskloom_client import Client

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

LARGE = random.Random(7).randbytes((2 << 20) + 5)


@pytest.fixture
async def task(client: Client) -> None:
    """A task t, and workers ann and bob."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="t", title="The task"))
    for id in ("ann", "bob"):
        await client.workers.Connect(v1.ConnectRequest(worker_id=id))


@pytest.mark.usefixtures("task")
async def test_marks_and_locks(cli: "Cli") -> None:
    """Who is at work on a file is said, who holds a lock keeps others out, and a list shows all."""
    mark = await cli(
        *("file", "mark", "a.py", "lock:push", "-w", "ann", "--task", "t"),
        *("--reason", "rework"),
    )
    assert (mark.code, mark.out, mark.err) == (0, "marked 2 paths for ann\n", "")
    beside = await cli("file", "mark", "a.py", "-w", "bob")
    assert (beside.code, beside.out) == (0, "marked 1 path for bob\n")
    assert beside.err.startswith("warning: a.py is marked by ann since ")
    assert beside.err.endswith(" for t: rework\n")
    locked = await cli("file", "mark", "b.py", "lock:push", "-w", "bob")
    assert (locked.code, locked.out) == (1, "")
    assert "'lock:push' is held by worker 'ann' since" in locked.err

    listed = await cli("file", "list")
    heading, *rows = listed.out.splitlines()
    assert heading.split() == ["PATH", "WORKER", "TASK", "SINCE", "WHY"]
    assert [row.split()[:2] for row in rows] == [
        ["a.py", "ann"],
        ["a.py", "bob"],
        ["lock:push", "ann"],
    ]
    found = (await cli("file", "list", "lock:push", "--json")).json
    assert [(one["worker_id"], one["reason"]) for one in found] == [("ann", "rework")]
    gone = await cli("file", "unmark", "-w", "ann", "--task", "t")
    assert (gone.code, gone.out) == (0, "unmarked 2 paths of ann\n")
    taken = await cli("file", "mark", "lock:push", "-w", "bob", "--wait", "1s")
    assert taken.code == 0
    assert (await cli("file", "list", "-w", "carl")).err == "no marks\n"


@pytest.mark.usefixtures("task")
async def test_claims_with_files(cli: "Cli") -> None:
    """A claim takes its locks with it, or says who has them."""
    await cli("file", "mark", "lock:push", "-w", "bob", "--reason", "release")
    for named in ([], ["t"]):
        locked = await cli("claim", *named, "-w", "ann", "--file", "lock:push")
        assert locked.code == (1 if named else 5)
        assert "lock:push" in locked.err
        assert "bob" in locked.err
        assert "release" in locked.err
    await cli("file", "mark", "a.py", "-w", "bob")
    await cli("file", "unmark", "lock:push", "-w", "bob")
    claimed = await cli(
        *("claim", "-w", "ann", "--file", "lock:push", "--file", "a.py", "--mark-reason", "mine")
    )
    assert claimed.code == 0
    assert claimed.out.startswith("claimed t ")
    assert claimed.err.startswith("warning: a.py is marked by bob")
    found = (await cli("file", "list", "--task", "t", "--json")).json
    assert [(one["path"], one["reason"]) for one in found] == [
        ("a.py", "mine"),
        ("lock:push", "mine"),
    ]


@pytest.mark.usefixtures("task")
async def test_contents_go_there_and_back(cli: "Cli", tmp_path: Path) -> None:
    """A file of any size is attached under its name, listed, fetched whole, and removed."""
    (tmp_path / "build.log").write_bytes(b"small\n")
    (tmp_path / "film.mp4").write_bytes(LARGE)
    added = await cli("attachment", "add", "t", "log", str(tmp_path / "build.log"))
    assert (added.code, added.out, added.err) == (0, "attached log 0 to t (6 bytes)\n", "")
    added = await cli("attachment", "add", "t", "log", str(tmp_path / "film.mp4"))
    assert (added.code, added.err) == (0, ""), "no bar where there is no terminal"
    assert added.out == "attached log 1 to t (2,097,157 bytes)\n"
    heading, *rows = (await cli("attachment", "list", "t")).out.splitlines()
    assert heading.split() == [*("TYPE", "SEQUENCE", "BYTES"), "MIME", "TYPE", "ATTACHED", "NAME"]
    assert [[row.split()[i] for i in (1, 2, 3, -1)] for row in rows] == [
        ["0", "6", "application/octet-stream", "build.log"],
        ["1", "2,097,157", "video/mp4", "film.mp4"],
    ]
    first = await cli("attachment", "get", "t", "log", "0")
    assert (first.code, first.out) == (0, "small\n")
    target = tmp_path / "back.mp4"
    target.write_text("old")
    latest = await cli("attachment", "get", "t", "log", "-o", str(target))
    assert (latest.code, latest.out) == (0, f"wrote log 1 of t to {target} (2,097,157 bytes)\n")
    assert target.read_bytes() == LARGE
    removed = await cli("attachment", "remove", "t", "log", "1")
    assert (removed.code, removed.out) == (0, "removed log 1 of t\n")
    assert len((await cli("attachment", "list", "t", "--json")).json) == 1


@pytest.mark.usefixtures("task")
async def test_contents_from_standard_input(cli: "Cli") -> None:
    """A content that is piped in is attached without a name."""
    added = await cli(
        *("attachment", "add", "t", "note", "-", "--mime-type", "text/plain"), stdin=b"hello"
    )
    assert added.code == 0
    (found,) = (await cli("attachment", "list", "t", "--json")).json
    assert (found["name"], found["mime_type"], found["size"]) == ("", "text/plain", "5")
    assert (await cli("attachment", "get", "t", "note")).out == "hello"


@pytest.mark.usefixtures("task")
async def test_what_does_not_work_is_said(cli: "Cli", tmp_path: Path) -> None:
    """Each failure is one sentence, with its exit code; a target that was there stays as it was."""
    target = tmp_path / "target"
    target.write_text("old")
    cases = [
        (2, "cannot read", ("add", "t", "log", str(tmp_path / "none"))),
        (2, "cannot read", ("add", "t", "log", str(tmp_path))),
        (2, "looks like a path", ("add", "t", "log", str(target), "--name", "../../x")),
        (3, "TASK_NOT_FOUND", ("add", "u", "log", str(target))),
        (3, "ATTACHMENT_NOT_FOUND", ("get", "t", "log", "-o", str(target))),
        (3, "ATTACHMENT_NOT_FOUND", ("remove", "t", "log", "0")),
        (2, "is not a number", ("remove", "t", "log", "x")),
    ]
    for code, sentence, arguments in cases:
        ran = await cli("attachment", *arguments)
        assert (ran.code, ran.out) == (code, ""), arguments
        assert sentence in ran.err, arguments
        assert ran.err.count("\n") == 1, arguments
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.glob(".target*")] == []


@pytest.mark.usefixtures("task")
async def test_a_file_that_is_too_large_is_refused(cli: "Cli", tmp_path: Path) -> None:
    """101 MB are refused before they are sent."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(101_000_000)
    ran = await cli("attachment", "add", "t", "log", str(large))
    assert ran.code == 1
    assert "ATTACHMENT_TOO_LARGE" in ran.err
