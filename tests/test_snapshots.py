"""Snapshots: the whole graph in and out, as work to be done or as it was.

What is refused is in test_snapshot_refusals, graphs of every kind in test_snapshot_properties.
"""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

Row: TypeAlias = dict[str, Any]
Document: TypeAlias = dict[str, Any]

TEMPLATE = v1.IMPORT_MODE_TEMPLATE
RESTORE = v1.IMPORT_MODE_RESTORE
MIB = 1 << 20
TEMPLATES = Path(__file__).parents[1] / "experiments" / "templates"
START = 1_800_000_000_000  # where the test's clock stands, Unix ms
DAY_MS = 24 * 3600 * 1000


async def requests(
    contents: bytes, chunk: int, options: v1.ImportOptions
) -> AsyncIterator[v1.ImportSnapshotRequest]:
    """The messages of an import, with chunks of this size."""
    yield v1.ImportSnapshotRequest(options=options)
    for start in range(0, len(contents), chunk):
        yield v1.ImportSnapshotRequest(chunk=contents[start : start + chunk])


async def bring_in(
    client: Client,
    snapshot: Document | bytes,
    mode: v1.ImportMode.ValueType = TEMPLATE,
    *,
    chunk: int = MIB,
    **options: Any,
) -> v1.ImportSnapshotResponse:
    """Import a snapshot."""
    contents = snapshot if isinstance(snapshot, bytes) else json.dumps(snapshot).encode()
    asked = v1.ImportOptions(mode=mode, **options)
    return await client.admin.ImportSnapshot(requests(contents, chunk, asked))


async def take_out(client: Client, *, gzipped: bool = False) -> bytes:
    """Export the graph."""
    request = v1.ExportSnapshotRequest(gzip=gzipped)
    return b"".join([answer.chunk async for answer in client.admin.ExportSnapshot(request)])


async def tables_of(client: Client) -> dict[str, list[Row]]:
    """The tables of an export."""
    tables: dict[str, list[Row]] = json.loads(await take_out(client))["tables"]
    return tables


async def reset(client: Client) -> None:
    """Empty the graph."""
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))


async def task_of(client: Client, task_id: str) -> v1.Task:
    """A task, as it is."""
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task_id))).task


async def ids_of(client: Client, **filters: Any) -> set[str]:
    """The ids of the tasks that pass the filters."""
    request = v1.ListTasksRequest(page_size=1_000, **filters)
    answer = await client.tasks.ListTasks(request)
    assert not answer.next_page_token
    return {task.id for task in answer.tasks}


def headless(export: bytes) -> bytes:
    """An export without the line of its header that says when it was made."""
    return re.sub(rb'\n  "(?:exported_at|header_sha256)": "[^"]*",(?=\n)', b"", export, count=2)


def document(**tables: Any) -> Document:
    """A snapshot of these tables."""
    return {
        "schema_version": 3,
        "export_version": "0.0.1",
        "exported_at": "2026-01-01T00:00:00Z",
        "exported_by": "somebody",
        "tables": tables,
    }


def task(id: str, /, **columns: Any) -> Row:
    """A row of ``tasks``."""
    return {"id": id, "title": id.upper(), "status": "pending"} | columns


def link(from_: str, to: str, type_: str = "blocks") -> Row:
    """A row of ``dependencies``."""
    return {"from_task_id": from_, "to_task_id": to, "dep_type": type_}


# Templates.


@pytest.fixture
def templates() -> list[Path]:
    """The templates that come with taskloom."""
    found = sorted(TEMPLATES.glob("*.json"))
    assert found
    return found


@pytest.mark.parametrize("packed", [False, True], ids=["json", "json.gz"])
async def test_shipped_templates(
    timed_client: Client, timed_server: "Server", templates: list[Path], *, packed: bool
) -> None:
    """Each shipped template becomes work: all of it pending, new, with a history begun now."""
    for path in templates:
        await reset(timed_client)
        contents = path.read_bytes()
        tables = json.loads(contents)["tables"]
        ids = [row["id"] for row in tables["tasks"]]
        answer = await bring_in(timed_client, gzip.compress(contents) if packed else contents)
        assert list(answer.warnings) == []
        assert answer.rows["tasks"] == len(ids)
        assert answer.rows["dependencies"] == len(tables["dependencies"])
        listed = await timed_client.tasks.ListTasks(v1.ListTasksRequest(page_size=1_000))
        assert {task.id for task in listed.tasks} == set(ids)
        for task in listed.tasks:
            assert task.status == "pending"
            for time in (task.create_time, task.update_time):
                assert time.ToMilliseconds() == START
            assert task.revision == answer.revision
            history = await timed_client.tasks.ListTransitions(
                v1.ListTransitionsRequest(task_id=task.id)
            )
            [first] = history.transitions
            assert (first.status, first.worker_id) == ("pending", "")
            assert first.start_time.ToMilliseconds() == START
            assert not first.HasField("end_time")
        held_back = {
            row["to_task_id"] for row in tables["dependencies"] if row["dep_type"] != "contains"
        } | {row["from_task_id"] for row in tables["dependencies"] if row["dep_type"] == "contains"}
        assert {task.id for task in listed.tasks if task.ready} == set(ids) - held_back


async def test_shipped_templates_can_be_worked_off(
    server: "Server", client: Client, templates: list[Path]
) -> None:
    """One worker that can do everything ends every task of each shipped template."""
    for path in templates:
        await reset(client)
        await bring_in(client, path.read_bytes())
        rows = json.loads(path.read_bytes())["tables"]["tasks"]
        tags = {tag for row in rows for tag in (*row["needed_tags"], *row["wanted_tags"])}
        await client.workers.Connect(v1.ConnectRequest(worker_id="w", tags=tags))
        next_ = v1.ClaimNextTaskRequest(worker_id="w")
        while (answer := await client.claims.ClaimNextTask(next_)).tasks:
            [task] = answer.tasks
            await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id=task.id))
        assert answer.outcome == v1.CLAIM_OUTCOME_ALL_DONE
        assert await ids_of(client, statuses=["completed"]) == {row["id"] for row in rows}


async def test_a_template_leaves_the_past_behind(
    timed_server: "Server", timed_client: Client
) -> None:
    """As a template, tasks lose worker, times, metrics and history, and keep what they are."""
    kept = {
        "title": "T",
        "description": "d",
        "phase": "test",
        "priority": 8,
        "points": 3,
        "time_estimate_ms": 60_000,
        "tags": ["a"],
        "needed_tags": ["n"],
        "wanted_tags": ["w"],
        "max_attempts": 2,
        "workflow": "swarm",
    }
    past = {
        "status": "completed",
        "worker_id": "ada",
        "claimed_at": 2,
        "started_at": 3,
        "completed_at": 4,
        "time_actual_ms": 5,
        "current_thought": "hm",
        "metrics": [1, 2, 3, 4, 5, 6, 7, 8],
        "cost_usd": 1.5,
        "attempts": 1,
        "ready_at": 1,
        "created_at": 1,
        "updated_at": 4,
        "not_before": START - 1,
        "lease_ms": 60_000,
    }
    step = {"task_id": "t", "status": "working", "timestamp": 1, "end_timestamp": 2}
    note = {"task_id": "t", "attachment_type": "note", "content": "hi", "created_at": 7}
    await bring_in(
        timed_client,
        document(tasks=[{"id": "t"} | kept | past], task_sequence=[step], attachments=[note]),
    )
    tables = await tables_of(timed_client)
    [row] = tables["tasks"]
    assert {column: row[column] for column in kept} == kept
    assert {column: row[column] for column in past} == {
        "status": "pending",
        "worker_id": None,
        "claimed_at": None,
        "started_at": None,
        "completed_at": None,
        "time_actual_ms": 0,
        "current_thought": None,
        "metrics": [0] * 8,
        "cost_usd": 0.0,
        "attempts": 0,
        "ready_at": START,
        "created_at": START,
        "updated_at": START,
        "not_before": None,
        "lease_ms": None,
    }
    [first] = tables["task_sequence"]
    assert (first["status"], first["timestamp"]) == ("pending", START)
    [attached] = tables["attachments"]
    assert (attached["content"], attached["created_at"]) == ("hi", START)


async def test_a_template_that_waits(
    timed_server: "Server", timed_client: Client, clock: "TestClock"
) -> None:
    """A not_before that is yet to come is kept, and the task becomes ready at that time."""
    await bring_in(timed_client, document(tasks=[task("t", not_before=START + DAY_MS)]))
    assert not (await task_of(timed_client, "t")).ready
    async with timed_client.watch() as watch, asyncio.timeout(10):
        await anext(watch)
        clock.advance(DAY_MS)
        message = await anext(watch)
    assert message.events.events[0].type == v1.EVENT_TYPE_TASK_READY


async def test_templates_beside_each_other(server: "Server", client: Client) -> None:
    """Templates are added to what is there, which goes on as it was."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="mine", title="mine"))
    await bring_in(client, document(tasks=[task("a")]))
    await bring_in(client, document(tasks=[task("b")], dependencies=[]))
    assert await ids_of(client, ready=True) == {"mine", "a", "b"}


async def test_deleted_tasks_of_a_template_stay_deleted(server: "Server", client: Client) -> None:
    """A task that is deleted in the snapshot is never given to anybody, nor holds others back."""
    rows = [task("gone", deleted_at=5, deleted_by="eve", priority=10), task("t")]
    await bring_in(client, document(tasks=rows, dependencies=[link("gone", "t")]))
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", max_claims=5))
    claimed = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="w", max_tasks=5))
    assert [task.id for task in claimed.tasks] == ["t"]
    assert (await client.admin.GetStatus(v1.GetStatusRequest())).ready_tasks == 0


async def test_an_import_is_one_revision(server: "Server", client: Client) -> None:
    """All that an import brings is told in one revision: tasks, dependencies, attachments."""
    answer = await bring_in(
        client,
        document(
            tasks=[task("a"), task("b")],
            dependencies=[link("a", "b")],
            attachments=[{"task_id": "a", "attachment_type": "note", "content": "x"}],
        ),
    )
    async with client.watch(start_revision=1) as watch:
        await anext(watch)
        message = await anext(watch)
    assert message.revision == answer.revision == 1
    assert [(event.type, event.task_id) for event in message.events.events] == [
        (v1.EVENT_TYPE_TASK_CREATED, "a"),
        (v1.EVENT_TYPE_TASK_CREATED, "b"),
        (v1.EVENT_TYPE_DEPENDENCY_ADDED, "b"),
        (v1.EVENT_TYPE_ATTACHMENT_ADDED, "a"),
    ]
    assert message.events.events[0].task == await task_of(client, "a")


async def test_the_workflow_of_the_options(server: "Server", client: Client) -> None:
    """Tasks that name no workflow get the one of the options; one that is not there is refused."""
    await bring_in(client, document(tasks=[task("t")]), workflow="swarm")
    assert (await task_of(client, "t")).workflow == "swarm"
    with pytest.raises(TaskloomError) as caught:
        await bring_in(client, document(tasks=[task("u")]), workflow="waterfall")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert caught.value.reason == "WORKFLOW_NOT_FOUND"


# Restores and exports.


async def live(client: Client, clock: "TestClock") -> None:
    """Make a graph by verbs, with tasks in every status and with everything that hangs on them."""
    for worker in ("ada", "bob"):
        await client.workers.Connect(
            v1.ConnectRequest(worker_id=worker, max_claims=5, lease=Duration(seconds=7200))
        )
    node = v1.TaskNode(
        id="root",
        title="Root",
        children=[
            v1.TaskNode(id="done", title="Done", tags=["b", "a"]),
            v1.TaskNode(id="next", title="Next", blocked_by=["done"], needed_tags=["x"]),
        ],
    )
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=node))
    for id in ("held", "failed", "gone", "assigned", "cancelled", "delayed"):
        not_before = Timestamp(seconds=(START + DAY_MS) // 1000) if id == "delayed" else None
        clock.advance(17)
        await client.tasks.CreateTask(
            v1.CreateTaskRequest(id=id, title=f"{id} ✓", blocked_by=["done"], not_before=not_before)
        )
    for id, then in (("done", "complete"), ("failed", "fail"), ("held", "")):
        claim = v1.ClaimTaskRequest(worker_id="ada", task_id=id)
        await client.claims.ClaimTask(claim)
        clock.advance(1_234)
        await client.attachments.Attach(
            v1.AttachRequest(worker_id="ada", task_id=id, type="log", content=b"\x00\xfe" + b"\n")
        )
        metrics = v1.Metrics(tokens_in=2**53 + 1, cost_usd=0.1 + 0.2)
        await client.tasks.LogMetrics(v1.LogMetricsRequest(task_id=id, metrics=metrics))
        if then == "complete":
            done = v1.CompleteTaskRequest(worker_id="ada", task_id=id, reason="ok")
            await client.claims.CompleteTask(done)
        elif then == "fail":
            await client.claims.FailTask(v1.FailTaskRequest(worker_id="ada", task_id=id))
    for id, changes in (("assigned", {"assignee": "bob"}), ("cancelled", {"status": "cancelled"})):
        await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=id, **changes))  # type: ignore[arg-type]
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone", reason="why not"))


async def test_a_restore_keeps_everything(
    timed_server: "Server", timed_client: Client, clock: "TestClock"
) -> None:
    """Restored, each task is what it was: status, times, worker, metrics, history, contents."""
    await live(timed_client, clock)
    before = await take_out(timed_client)
    tasks = {row["id"]: await task_of(timed_client, row["id"]) for row in rows_of(before, "tasks")}
    ready = await ids_of(timed_client, ready=True)
    assert {task.status for task in tasks.values()} == {
        "pending",
        "assigned",
        "working",
        "completed",
        "failed",
        "cancelled",
    }
    await reset(timed_client)
    clock.advance(60_000)
    answer = await bring_in(timed_client, before, RESTORE)
    assert list(answer.warnings) == []
    for table in ("tasks", "dependencies", "attachments", "task_sequence"):
        assert answer.rows[table] == len(rows_of(before, table))
    for id, task in tasks.items():
        now = await task_of(timed_client, id)
        assert bool(now.claim_revision) == bool(task.claim_revision)
        assert now.HasField("lease_expire_time") == task.HasField("lease_expire_time")
        for one in (now, task):
            one.revision = one.claim_revision = 0
            one.ClearField("lease_expire_time")
        assert now == task
    assert await ids_of(timed_client, ready=True) == ready
    assert headless(await take_out(timed_client)) == headless(before)


def rows_of(export: bytes, table: str) -> list[Row]:
    """The rows of a table in an export."""
    rows: list[Row] = json.loads(export)["tables"][table]
    return rows


async def test_restored_claims_go_on(
    timed_server: "Server", timed_client: Client, clock: "TestClock"
) -> None:
    """A claim is restored without its worker, who connects again, is told of it, and ends it."""
    await live(timed_client, clock)
    snapshot = await take_out(timed_client)
    await reset(timed_client)
    await bring_in(timed_client, snapshot, RESTORE)
    connected = await timed_client.workers.Connect(v1.ConnectRequest(worker_id="ada"))
    assert [task.id for task in connected.held_tasks] == ["held"]
    await timed_client.claims.CompleteTask(
        v1.CompleteTaskRequest(
            worker_id="ada",
            task_id="held",
            claim_revision=connected.held_tasks[0].claim_revision,
        )
    )
    history = await timed_client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="held"))
    steps = list(history.transitions)
    assert [step.status for step in steps] == ["pending", "working", "completed"]
    for step, following in pairwise(steps):
        assert step.end_time == following.start_time


async def test_restored_claims_run_out(
    timed_server: "Server", timed_client: Client, clock: "TestClock"
) -> None:
    """A restored claim whose worker never comes back ends with its lease, counted from now."""
    held = task("t", status="working", worker_id="ada", lease_ms=60_000, claimed_at=1)
    await bring_in(timed_client, document(tasks=[held]), RESTORE)
    restored = await task_of(timed_client, "t")
    assert restored.lease_expire_time.ToMilliseconds() == START + 60_000
    async with timed_client.watch(start_revision=1) as watch, asyncio.timeout(10):
        await anext(watch)
        assert (await anext(watch)).events.events[0].task == restored
        clock.advance(60_000)
        message = await anext(watch)
    assert message.events.events[0].type == v1.EVENT_TYPE_TASK_LEASE_EXPIRED


async def test_who_holds_nothing(server: "Server", client: Client) -> None:
    """The worker of a task that waits, has ended or is deleted does not hold it after a restore."""
    rows = [
        task("waits"),
        task("ended", status="completed"),
        task("deleted", status="working", deleted_at=1),
    ]
    await bring_in(client, document(tasks=[row | {"worker_id": "w"} for row in rows]), RESTORE)
    connected = await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    assert list(connected.held_tasks) == []
    claimed = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="w"))
    assert [task.id for task in claimed.tasks] == ["waits"]


async def test_restored_graphs_go_on(server: "Server", client: Client) -> None:
    """What held tasks back before a restore holds them back after it, and lets them go."""
    rows = [
        task("parent"),
        task("child", status="working", worker_id="w"),
        task("failed", status="failed"),
        task("done", status="completed"),
        task("after child"),
        task("after failed"),
        task("after done"),
    ]
    for row in rows:
        row["id"] = row["id"].replace(" ", "-")
    links = [
        link("parent", "child", "contains"),
        link("child", "after-child", "follows"),
        link("child", "after-child"),
        link("failed", "after-failed"),
        link("done", "after-done"),
    ]
    await bring_in(client, document(tasks=rows, dependencies=links), RESTORE)
    assert await ids_of(client, ready=True) == {"after-done"}
    assert await ids_of(client, blocked=True) == {"after-child", "after-failed"}
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    ended = await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id="child"))
    assert list(ended.unblocked_task_ids) == ["after-child"]
    assert (await task_of(client, "parent")).status == "completed"


async def test_what_waited_through_a_deleted_task(server: "Server", client: Client) -> None:
    """A ring that only a deleted task closes is none: it came about by verbs, and is restored."""
    for id in ("a", "b", "c"):
        await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id))
    for from_, to in (("a", "b"), ("b", "c")):
        await client.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id=from_, to_task_id=to))
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="b"))
    await client.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id="c", to_task_id="a"))
    before = await take_out(client)
    await reset(client)
    await bring_in(client, before, RESTORE)
    assert headless(await take_out(client)) == headless(before)
    assert await ids_of(client, ready=True) == {"c"}


async def test_what_was_unlinked_when_it_was_deleted(server: "Server", client: Client) -> None:
    """A deleted child that is unlinked has no parent any more, before a restore and after it."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="a"))
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="b", title="b", parent_id="a"))
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="b"))
    await client.tasks.UnlinkTasks(v1.UnlinkTasksRequest(from_task_id="a", to_task_id="b"))
    assert (await task_of(client, "b")).parent_id == ""
    before = await take_out(client)
    await reset(client)
    await bring_in(client, before, RESTORE)
    assert (await task_of(client, "b")).parent_id == ""


async def test_exports_are_equal(server: "Server", client: Client) -> None:
    """Two exports of the same graph are the same bytes but for the header's time, also packed."""
    await bring_in(client, document(tasks=[task("b"), task("a", tags=["y", "x"])]))
    plain = await take_out(client)
    packed = await take_out(client, gzipped=True)
    assert headless(plain) == headless(await take_out(client))
    assert packed[:2] == b"\x1f\x8b"
    assert headless(gzip.decompress(packed)) == headless(plain)
    assert headless(plain) != plain


async def test_export_format(server: "Server", client: Client) -> None:
    """An export has the family's header and tables, and rows with the family's columns."""
    await bring_in(
        client,
        document(
            tasks=[task("t", tags=["x"], needed_tags=["n"], wanted_tags=["w"]), task("u")],
            dependencies=[link("t", "u", "see-also")],
            attachments=[{"task_id": "t", "attachment_type": "note", "content": "é"}],
        ),
    )
    export = json.loads(await take_out(client))
    assert list(export) == [
        "schema_version",
        "export_version",
        "exported_at",
        "exported_by",
        "content_sha256",
        "header_sha256",
        "tables",
    ]
    assert export["schema_version"] == 3
    tables = export["tables"]
    assert list(tables) == [
        "tasks",
        "dependencies",
        "attachments",
        "task_tags",
        "task_needed_tags",
        "task_wanted_tags",
        "task_sequence",
    ]
    columns = (
        "id title description status phase priority worker_id claimed_at needed_tags wanted_tags "
        "tags points time_estimate_ms time_actual_ms started_at completed_at current_thought "
        "metrics cost_usd deleted_at deleted_by deleted_reason created_at updated_at"
    )
    assert set(columns.split()) <= set(tables["tasks"][0])
    assert tables["tasks"][0]["metrics"] == [0] * 8
    assert tables["dependencies"] == [link("t", "u", "see-also")]
    for table, tag in (("task_tags", "x"), ("task_needed_tags", "n"), ("task_wanted_tags", "w")):
        assert tables[table] == [{"task_id": "t", "tag": tag}]
    assert tables["attachments"][0]["content"] == "é"
    assert {"id", "task_id", "worker_id", "status", "phase", "reason", "timestamp"} < set(
        tables["task_sequence"][0]
    )


async def test_export_says_its_revision(server: "Server", client: Client) -> None:
    """The first message of an export says of which revision it is, the others say 0."""
    description = "x" * 60_000
    rows = [task(f"t{n}", description=description) for n in range(20)]
    revision = (await bring_in(client, document(tasks=rows))).revision
    answers = [a async for a in client.admin.ExportSnapshot(v1.ExportSnapshotRequest())]
    assert len(answers) > 2
    assert [answer.revision for answer in answers] == [revision, *[0] * (len(answers) - 1)]


async def test_an_empty_graph(server: "Server", client: Client) -> None:
    """An empty graph can be exported and restored, and is empty again."""
    empty = await take_out(client)
    answer = await bring_in(client, empty, RESTORE)
    assert answer.revision == 0
    assert headless(await take_out(client)) == headless(empty)


# What is tolerated.


async def test_what_is_missing_is_defaulted(timed_server: "Server", timed_client: Client) -> None:
    """Of a task only id and title are needed; what else is missing is as if nobody had said it."""
    snapshot = {"schema_version": 3, "tables": {"tasks": [{"id": "t", "title": "T"}]}}
    answer = await bring_in(timed_client, snapshot)
    assert list(answer.warnings) == []
    await timed_client.tasks.CreateTask(v1.CreateTaskRequest(id="u", title="T"))
    imported, created = await task_of(timed_client, "t"), await task_of(timed_client, "u")
    created.id = "t"
    created.revision = imported.revision
    assert imported == created


async def test_a_restored_task_without_status(server: "Server", client: Client) -> None:
    """A task of which a restore does not tell the status is where its workflow begins."""
    snapshot = {"schema_version": 3, "tables": {"tasks": [{"id": "t", "title": "T"}]}}
    await bring_in(client, snapshot, RESTORE)
    shown = await task_of(client, "t")
    assert (shown.status, shown.ready) == ("pending", True)


async def test_few_metrics_are_warned_of(server: "Server", client: Client) -> None:
    """Metrics that are not all there are taken as they are, with a sentence that says so."""
    answer = await bring_in(client, document(tasks=[task("t", metrics=[1, 2])]), RESTORE)
    assert list(answer.warnings) == ["tables.tasks[0].metrics: has 2 of 8, the others are 0"]
    assert (await task_of(client, "t")).metrics == v1.Metrics(tokens_in=1, tokens_out=2)


async def test_null_is_missing(server: "Server", client: Client) -> None:
    """A column that may be missing may be null as well, where the family's files have it so."""
    columns = (
        "description phase worker_id claimed_at needed_tags wanted_tags tags points "
        "time_estimate_ms time_actual_ms started_at completed_at current_thought metrics "
        "deleted_at deleted_by deleted_reason"
    )
    answer = await bring_in(
        client, document(tasks=[task("t", **dict.fromkeys(columns.split()))]), RESTORE
    )
    assert list(answer.warnings) == []
    assert (await task_of(client, "t")).ready


async def test_unknown_keys_are_warned_of(server: "Server", client: Client) -> None:
    """Unknown keys and tables are left out, with a sentence that names table, key and how many."""
    snapshot = document(
        tasks=[task("a", colour="red"), task("b", colour=[7], size=99)],
        dependencies=[link("a", "b") | {"weight": 3}],
        workers=[{"id": "ada"}],
    ) | {"comment": "hello"}
    answer = await bring_in(client, snapshot)
    assert await ids_of(client) == {"a", "b"}
    for words in (
        ("comment",),
        ("tables.workers",),
        ("tables.tasks", "'colour'", "2 rows"),
        ("tables.tasks", "'size'", "1 row"),
        ("tables.dependencies", "'weight'"),
    ):
        assert any(all(word in warning for word in words) for warning in answer.warnings), words
    assert len(answer.warnings) == 5


async def test_priority_is_put_into_range(server: "Server", client: Client) -> None:
    """A priority out of range is clamped to 0 and 10, with a warning that names the row."""
    rows = [task(f"t{n}", priority=n) for n in (-3, 0, 10, 11, 2**40)]
    answer = await bring_in(client, document(tasks=rows))
    assert {row["id"]: row["priority"] for row in (await tables_of(client))["tasks"]} == {
        "t-3": 0,
        "t0": 0,
        "t10": 10,
        "t11": 10,
        f"t{2**40}": 10,
    }
    assert [re.findall(r"tables\.tasks\[\d\]\.priority", w) for w in answer.warnings] == [
        ["tables.tasks[0].priority"],
        ["tables.tasks[3].priority"],
        ["tables.tasks[4].priority"],
    ]


async def test_tags_of_their_tables(server: "Server", client: Client) -> None:
    """Tags come from the tag tables where the task's row has none of its own."""
    rows = [task("a", tags=["own"]), task("b")]
    tags = [{"task_id": id, "tag": "x"} for id in ("a", "b")]
    await bring_in(
        client,
        document(tasks=rows, task_tags=tags, task_needed_tags=tags[1:], task_wanted_tags=tags[1:]),
    )
    a, b = await task_of(client, "a"), await task_of(client, "b")
    assert list(a.tags) == ["own"]
    assert (list(b.tags), list(b.needed_tags), list(b.wanted_tags)) == (["x"], ["x"], ["x"])


@pytest.mark.parametrize("chunk", [1, 7, 4_096, MIB])
@pytest.mark.parametrize("packed", [False, True], ids=["json", "json.gz"])
async def test_chunks_of_any_size(
    server: "Server", client: Client, chunk: int, *, packed: bool
) -> None:
    """The bytes may come in chunks of any size, empty ones among them."""
    contents = json.dumps(document(tasks=[task("t", description="é" * 99)])).encode()
    contents = gzip.compress(contents) if packed else contents

    async def with_empty_ones() -> AsyncIterator[v1.ImportSnapshotRequest]:
        async for request in requests(contents, chunk, v1.ImportOptions()):
            yield request
            yield v1.ImportSnapshotRequest(chunk=b"")

    await client.admin.ImportSnapshot(with_empty_ones())
    assert await ids_of(client) == {"t"}


async def test_one_large_file(server: "Server", client: Client) -> None:
    """50 MB are imported in one go, and readers are answered meanwhile."""
    rows = [task(f"t{n}", description=f"{n} " * 450, tags=["a"]) for n in range(20_000)]
    links = [link(f"t{n}", f"t{n + 1}") for n in range(19_999)]
    contents = json.dumps(document(tasks=rows, dependencies=links)).encode()
    assert len(contents) > 45_000_000
    importing = asyncio.ensure_future(bring_in(client, contents))
    answered = 0
    while not importing.done():
        status = await client.admin.GetStatus(v1.GetStatusRequest())
        assert status.open_tasks in {0, 20_000}
        answered += 1
    answer = await importing
    assert answered > 10
    assert answer.rows["tasks"] == 20_000
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert (status.open_tasks, status.ready_tasks) == (20_000, 1)


# Idempotency.


@pytest.mark.parametrize("mode", [TEMPLATE, RESTORE])
async def test_an_import_is_made_once(
    server: "Server", client: Client, mode: v1.ImportMode.ValueType
) -> None:
    """The same import with the same request_id brings the first answer and changes nothing."""
    snapshot = document(tasks=[task("t", priority=99)])
    first = await bring_in(client, snapshot, mode, request_id="once")
    again = await bring_in(client, snapshot, mode, request_id="once", chunk=3)
    assert again == first
    assert (await client.admin.GetStatus(v1.GetStatusRequest())).revision == first.revision


async def test_another_import_under_the_same_id(server: "Server", client: Client) -> None:
    """Other bytes, or other options, under the same request_id are refused."""
    await bring_in(client, document(tasks=[task("t")]), request_id="once")
    for snapshot, options in (
        (document(tasks=[task("u")]), {}),
        (document(tasks=[task("t")]), {"workflow": "swarm"}),
        (document(tasks=[task("t")]), {"mode": RESTORE}),
    ):
        with pytest.raises(TaskloomError) as caught:
            await bring_in(client, snapshot, request_id="once", **options)
        assert caught.value.reason == "REQUEST_ID_REUSED"
