"""Snapshots as backups: a restore brings the graph back as it was, an export shows all of it."""

import asyncio
import gzip
import json
from itertools import pairwise
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client

from tests.snapshot_calls import headless
from tests.test_snapshots import (
    DAY_MS,
    RESTORE,
    START,
    Row,
    bring_in,
    document,
    ids_of,
    link,
    reset,
    take_out,
    task,
    task_of,
)

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock


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
    for id, was in tasks.items():
        now = await task_of(timed_client, id)
        assert bool(now.claim_revision) == bool(was.claim_revision)
        assert now.HasField("lease_expire_time") == was.HasField("lease_expire_time")
        for one in (now, was):
            one.revision = one.claim_revision = 0
            one.ClearField("lease_expire_time")
        assert now == was
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
