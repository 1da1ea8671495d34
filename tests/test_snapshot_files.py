"""Snapshot files: what is tolerated in them, how their bytes may come, and that they come once."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.test_snapshots import (
    MIB,
    RESTORE,
    TEMPLATE,
    bring_in,
    document,
    ids_of,
    link,
    requests,
    tables_of,
    task,
    task_of,
)

if TYPE_CHECKING:
    from tests.conftest import Server


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
    rows = [task(f"t{n}", description=f"{n} " * 950, tags=["a"]) for n in range(10_000)]
    links = [link(f"t{n}", f"t{n + 1}") for n in range(9_999)]
    contents = json.dumps(document(tasks=rows, dependencies=links)).encode()
    assert len(contents) > 45_000_000
    importing = asyncio.ensure_future(bring_in(client, contents))
    answered = 0
    while not importing.done():
        status = await client.admin.GetStatus(v1.GetStatusRequest())
        assert status.open_tasks in {0, 10_000}
        answered += 1
    answer = await importing
    assert answered > 10
    assert answer.rows["tasks"] == 10_000
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert (status.open_tasks, status.ready_tasks) == (10_000, 1)


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
