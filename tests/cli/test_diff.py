"""taskloom diff: what differs between two snapshots, or a snapshot and the live graph."""

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom import v1
from taskloom_client import Client

from tests.snapshot_calls import document, link, note, task

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def write(path: Path, **tables: Any) -> str:
    """Write a snapshot of these tables; its name."""
    path.write_text(json.dumps(document(**tables)))
    return str(path)


async def test_files_that_are_the_same(taskloom: "Cli", tmp_path: Path) -> None:
    """Equal files differ in nothing, whatever their layout: nothing is printed, and it is 0."""
    rows = {"tasks": [task("a"), task("b")], "dependencies": [link("a", "b")]}
    a = write(tmp_path / "a.json", **rows)
    b = tmp_path / "b.json.gz"
    b.write_bytes(gzip.compress(json.dumps(document(**rows), indent=7).encode()))
    same = await taskloom("diff", a, str(b))
    assert (same.code, same.out, same.err) == (0, "", "")
    as_json = await taskloom("diff", a, str(b), "--json")
    assert as_json.json == {"same": True, "tables": {}, "not_compared": []}


async def test_what_differs(taskloom: "Cli", tmp_path: Path) -> None:
    """Rows that came, went and changed, field by field, contents of attachments by their hash."""
    a = write(
        tmp_path / "a.json",
        tasks=[task("a", tags=["x"]), task("gone"), task("b", phase="design")],
        dependencies=[link("gone", "a")],
        attachments=[note("a", "old"), note("b", "same")],
        task_tags=[{"task_id": "a", "tag": "x"}],
    )
    b = write(
        tmp_path / "b.json",
        tasks=[task("b", phase=None), task("a", status="completed", tags=["y"]), task("came")],
        dependencies=[link("a", "came", "contains")],
        attachments=[note("a", "new"), note("b", "same", content_encoding="utf-8", sequence=0)],
        task_tags=[{"task_id": "a", "tag": "y"}],
    )
    found = await taskloom("diff", a, b)
    assert (found.code, found.err) == (1, "")
    lines = found.out.splitlines()
    assert lines[:9] == [
        "tasks: 1 added, 1 removed, 2 changed",
        "+ came CAME",
        "- gone GONE",
        "~ b",
        '    phase: "design" -> null',
        "~ a",
        '    status: "pending" -> "completed"',
        '    tags: ["x"] -> ["y"]',
        "dependencies: 1 added, 1 removed",
    ]
    assert lines[9:13] == [
        "+ a contains came",
        "- gone blocks a",
        "attachments: 1 changed",
        "~ a note/0",
    ]
    assert lines[13].startswith('    sha256: "')
    assert len(lines) == 14

    as_json = await taskloom("diff", a, b, "--json")
    assert as_json.code == 1
    tables = as_json.json["tables"]
    assert tables["tasks"]["added"] == [task("came")]
    assert tables["tasks"]["changed"][1] == {
        "key": {"id": "a"},
        "fields": {
            "status": {"from": "pending", "to": "completed"},
            "tags": {"from": ["x"], "to": ["y"]},
        },
    }
    assert set(tables) == {"tasks", "dependencies", "attachments"}


async def test_ignored_columns(taskloom: "Cli", tmp_path: Path) -> None:
    """A column that is ignored makes nothing differ, and is not shown."""
    a = write(tmp_path / "a.json", tasks=[task("a", updated_at=1, priority=1)])
    b = write(tmp_path / "b.json", tasks=[task("a", updated_at=2, priority=1)])
    assert (await taskloom("diff", a, b)).code == 1
    assert (await taskloom("diff", a, b, "--ignore", "updated_at")).code == 0


async def test_tables_of_one_alone(taskloom: "Cli", tmp_path: Path) -> None:
    """A table that only one of the two has is not compared, and that is said."""
    step = {"id": 1, "task_id": "a", "status": "pending", "timestamp": 5}
    a = write(tmp_path / "a.json", tasks=[task("a")], task_sequence=[step])
    b = write(tmp_path / "b.json", tasks=[task("a")])
    found = await taskloom("diff", a, b)
    assert (found.code, found.out) == (0, "")
    assert "task_sequence is not compared" in found.err


async def test_with_the_live_graph(cli: "Cli", client: Client, tmp_path: Path) -> None:
    """A snapshot is compared with the graph of the server, on either side of it."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="A"))
    file = str(tmp_path / "a.json.gz")
    await cli("export", file)
    assert (await cli("diff", file, "--live")).code == 0
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="b", title="B"))
    for arguments, sign in (
        ((file, "--live"), "+"),
        (("live:", file), "-"),
        ((file, "live:"), "+"),
    ):
        found = await cli("diff", *arguments)
        assert found.code == 1
        assert f"{sign} b B" in found.out.splitlines()
        assert found.out.splitlines()[0].startswith("tasks: 1 ")
        assert "task sequence: 1 " in found.out


async def test_standard_input(cli: "Cli", client: Client, tmp_path: Path) -> None:
    """One of the two may come through a pipe."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="A"))
    exported = (await cli("export", "-")).out.encode()
    assert (await cli("diff", "-", "--live", stdin=exported)).code == 0


async def test_trouble(taskloom: "Cli", tmp_path: Path) -> None:
    """What cannot be compared is 2, with one sentence that says why."""
    a = write(tmp_path / "a.json", tasks=[task("a")])
    short = tmp_path / "short.json"
    short.write_bytes((tmp_path / "a.json").read_bytes()[:-3])
    for arguments, words in (
        ((a, str(short)), "short.json: is not whole JSON"),
        ((a, str(tmp_path / "nowhere.json")), "nowhere.json: No such file"),
        ((a,), "name a second snapshot"),
        ((a, a, "--live"), "name a second snapshot"),
        (("-", "-"), "cannot be both"),
        ((a, "--live", "--server", "127.0.0.1:1", "--timeout", "1s"), "ExportSnapshot"),
    ):
        found = await taskloom("diff", *arguments)
        assert (found.code, found.out) == (2, ""), arguments
        assert words in found.err
        assert found.err.count("\n") == 1, found.err
