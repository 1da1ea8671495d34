"""Snapshots as templates: work to be done, brought in beside what is there.

Restores and exports are in test_snapshot_restores, what files may be like in test_snapshot_files,
what is refused in test_snapshot_refusals, graphs of every kind in test_snapshot_properties.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
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
