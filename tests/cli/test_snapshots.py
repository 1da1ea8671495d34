"""taskloom import and export: the whole graph as a file."""

import gzip
import json
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from taskloom import v1
from taskloom_client import Client

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Start
    from tests.conftest import ServerProcess


async def fill(client: Client) -> None:
    """Two tasks, one behind the other, and one of them done."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann"))
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="A", tags=["x"]))
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="b", title="B", blocked_by=["a"]))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="ann", task_id="a"))
    await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="ann", task_id="a"))


async def test_export_reset_restore(cli: "Cli", client: Client, tmp_path: Path) -> None:
    """What was exported comes back by --restore as it was, statuses included."""
    await fill(client)
    file = tmp_path / "graph.json"
    exported = await cli("export", str(file))
    assert (exported.code, exported.err) == (0, "")
    assert exported.out.startswith("exported revision ")
    assert json.loads(file.read_text())["schema_version"] == 3
    assert (await cli("reset", "--yes")).code == 0

    restored = await cli("import", str(file), "--restore")
    assert (restored.code, restored.err) == (0, "")
    assert restored.out.startswith("imported 2 tasks, ")
    tasks = (await client.tasks.ListTasks(v1.ListTasksRequest())).tasks
    assert {task.id: task.status for task in tasks} == {"a": "completed", "b": "pending"}
    twice = await cli("import", str(file), "--restore")
    assert (twice.code, twice.out) == (1, "")
    assert "(NOT_EMPTY)" in twice.err


async def test_template_is_work_to_be_done(cli: "Cli", client: Client, tmp_path: Path) -> None:
    """By default a snapshot is a template: nothing of it is done yet."""
    await fill(client)
    file = tmp_path / "graph.json.gz"
    await cli("export", str(file))
    with gzip.open(file) as unpacked:
        assert json.load(unpacked)["schema_version"] == 3
    await cli("reset", "--yes")
    assert (await cli("import", str(file))).code == 0
    tasks = (await client.tasks.ListTasks(v1.ListTasksRequest())).tasks
    assert {task.id: task.status for task in tasks} == {"a": "pending", "b": "pending"}


async def test_snapshot_travels_through_pipes(cli: "Cli", client: Client) -> None:
    """FILE - is standard output, with nothing but the snapshot on it, or standard input."""
    await fill(client)
    exported = await cli("export", "-")
    assert {row["id"] for row in exported.json["tables"]["tasks"]} == {"a", "b"}
    await cli("reset", "--yes")
    imported = await cli("import", "-", "--json", stdin=exported.out.encode())
    assert imported.code == 0
    assert imported.json["rows"]["tasks"] == "2"


async def test_failed_export_leaves_the_old_file(cli: "Cli", tmp_path: Path) -> None:
    """The file is replaced when all has come, and else there is nothing new in the directory."""
    folder = tmp_path / "exports"
    folder.mkdir()
    file = folder / "graph.json"
    file.write_text("old")
    failed = await cli("export", str(file), "--server", "127.0.0.1:1")
    assert (failed.code, failed.out) == (4, "")
    assert (file.read_text(), os.listdir(folder)) == ("old", ["graph.json"])
    assert (await cli("export", str(file))).code == 0
    assert os.listdir(folder) == ["graph.json"]
    assert json.loads(file.read_text())


async def test_export_leaves_devices_and_links_in_place(cli: "Cli", tmp_path: Path) -> None:
    """Only files are replaced: a device is written to, and of a link its target is replaced."""
    assert (await cli("export", "/dev/null")).code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert (await cli("export", "/dev/stdout")).out.startswith("{")
    full = await cli("export", "/dev/full")
    assert (full.code, full.err) == (1, "error: cannot write /dev/full: No space left on device\n")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert (await cli("export", str(tmp_path / "link"))).code == 0
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "target").read_text())


async def test_export_into_nowhere(cli: "Cli", tmp_path: Path) -> None:
    """A file that cannot be written is one sentence."""
    failed = await cli("export", str(tmp_path / "no" / "file.json"))
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.startswith("error: cannot write ")
    assert failed.err.count("\n") == 1


async def test_damaged_snapshot_is_refused(cli: "Cli", client: Client, tmp_path: Path) -> None:
    """A snapshot that is cut short is a wrong value, and changes nothing."""
    await fill(client)
    file = tmp_path / "graph.json"
    await cli("export", str(file))
    await cli("reset", "--yes")
    file.write_bytes(file.read_bytes()[:-20])
    refused = await cli("import", str(file))
    assert (refused.code, refused.out) == (2, "")
    assert "(INVALID_SNAPSHOT)" in refused.err
    assert not (await client.tasks.ListTasks(v1.ListTasksRequest())).tasks


async def test_merge_and_replace(cli: "Cli", client: Client, tmp_path: Path) -> None:
    """--mode, --on-clash, --tables and --dry-run say what is asked for, and what came of it."""
    await fill(client)
    file = tmp_path / "graph.json"
    await cli("export", str(file), "--tables", "tasks,dependencies", "--without-history")
    assert list(json.loads(file.read_text())["tables"]) == ["tasks", "dependencies"]
    clash = await cli("import", str(file), "--mode", "merge")
    assert (clash.code, clash.out) == (1, "")
    assert "(TASK_EXISTS)" in clash.err
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="b"))
    merged = await cli("import", str(file), "--mode", "merge", "--on-clash", "skip")
    assert merged.out == "imported nothing; skipped 2 tasks, 1 dependencies\n"
    tried = await cli("import", str(file), "--mode", "replace", "--dry-run")
    assert tried.out == (
        "would import 2 tasks, 1 dependencies; "
        "would replace 2 tasks, 1 dependencies, 4 task sequence\n"
    )
    assert (await cli("import", str(file), "--mode", "replace")).code == 0
    tasks = (await client.tasks.ListTasks(v1.ListTasksRequest())).tasks
    assert {task.id: task.status for task in tasks} == {"a": "completed", "b": "pending"}
    both = await cli("import", str(file), "--restore", "--mode", "merge")
    assert (both.code, both.err) == (
        2,
        "error: --restore and --mode merge do not go together\n",
    )


async def test_a_server_that_dies_in_the_midst(
    start: "Start",
    start_process: "Callable[..., Awaitable[ServerProcess]]",
    environment: dict[str, str],
) -> None:
    """An import whose server is killed says so in a line, at once, and nothing of it is there."""
    server = await start_process()
    environment["TASKLOOM_SERVER"] = server.address
    async with Client(server.address) as client:
        await fill(client)
    exporting = await start("export", "-")
    whole, _ = await exporting.communicate()
    async with Client(server.address) as client:
        await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    process = await start("import", "-")
    assert process.stdin is not None
    # Blanks at the end of the JSON, so that it is large, and not whole before the last.
    process.stdin.write(whole + b" " * 2_000_000)
    await process.stdin.drain()
    server.process.kill()
    await server.process.wait()
    out, err = await process.communicate(b" " * 100_000)
    assert process.returncode == 4, err.decode()
    assert out == b""
    assert err.decode().count("\n") == 1
    assert server.address in err.decode()

    again = await start_process(db=server.db)
    async with Client(again.address) as client:
        status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert dict(status.tasks_by_status) == {}
