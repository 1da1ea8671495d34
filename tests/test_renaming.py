"""Renaming a task: its new id everywhere at once."""

import asyncio

import grpc
import pytest
from peewee import Field
from taskloom import v1
from taskloom_client import Client
from taskloom_server.store.tables import TABLES, Events
from taskloom_server.store.task_ids import TASK_ID_COLUMNS

from tests.calls import claim, claim_next, complete, connect, create, pause, refusal, show, update

CONTAINS = v1.DEPENDENCY_TYPE_CONTAINS


async def rename(client: Client, task: str, to: str, **fields: object) -> v1.Task:
    """A task under its new id."""
    request = v1.RenameTaskRequest(task_id=task, new_task_id=to, **fields)  # type: ignore[arg-type]
    return (await client.tasks.RenameTask(request)).task


def test_every_column_with_a_task_s_id_is_known() -> None:
    """No table holds a task's id in a column that a rename, or an obliteration, would overlook."""
    columns: set[Field] = {
        field
        for table in TABLES
        if table is not Events
        for name, field in table._meta.fields.items()
        if name.endswith("task_id") or name == "parent_id"
    }
    assert columns == set(TASK_ID_COLUMNS) - {TASK_ID_COLUMNS[0]}


async def test_all_that_hangs_on_a_task_follows(client: Client) -> None:
    """Children, dependencies, history, attachments, marks, claims and budgets go with it."""
    await connect(client, "w", max_claims=9)
    await create(client, "old", max_cost_usd=1.0, tags=["x"], blocked_by=[])
    await create(client, "child", parent_id="old")
    await create(client, "next", blocked_by=["old"])
    await create(client, "held")
    await client.attachments.Attach(v1.AttachRequest(task_id="old", type="note", content=b"x"))
    await pause(client, "old")
    token = (await claim(client, "w", "held")).claim_revision
    await client.files.MarkFiles(v1.MarkFilesRequest(worker_id="w", task_id="held", paths=["a.py"]))
    for old, new in (("old", "new"), ("held", "kept")):
        assert (await rename(client, old, new)).id == new
    answer = await client.tasks.GetTask(v1.GetTaskRequest(task_id="new"))
    links = {(d.from_task_id, d.to_task_id) for d in answer.dependencies}
    assert links == {("new", "child"), ("new", "next")}
    assert (await show(client, "child")).parent_id == "new"
    listed = await client.tasks.ListTasks(v1.ListTasksRequest(tags_any=["x"]))
    assert [task.id for task in listed.tasks] == ["new"]
    history = await client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="new"))
    assert [step.task_id for step in history.transitions] == ["new"]
    notes = await client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id="new"))
    assert [note.task_id for note in notes.attachments] == ["new"]
    marks = await client.files.ListFileMarks(v1.ListFileMarksRequest())
    assert [mark.task_id for mark in marks.marks] == ["kept"]
    metrics = v1.LogMetricsRequest(task_id="child", metrics=v1.Metrics(cost_usd=1))
    await client.tasks.LogMetrics(metrics)
    budget = (await client.tasks.GetMetrics(v1.GetMetricsRequest(task_id="new"))).budget
    assert budget.spent
    assert (await complete(client, "w", "kept", claim_revision=token)).status == "completed"


async def test_the_old_id_says_what_it_is_now(client: Client) -> None:
    """A call with an id of before is refused with the one of now, through several renames."""
    await connect(client, "w")
    await create(client, "a")
    await claim(client, "w", "a")
    await rename(client, "a", "b")
    await rename(client, "b", "c")
    for old in ("a", "b"):
        error = await refusal(complete(client, "w", old))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
        assert error.metadata["renamed_to"] == "c"
        assert "'c'" in str(error)
    await create(client, "a")
    assert (await show(client, "a")).id == "a"
    assert (await rename(client, "c", "c")).id == "c"


@pytest.mark.parametrize("taken", ["other", "gone"])
async def test_an_id_that_is_taken(client: Client, taken: str) -> None:
    """A new id that another task has, deleted or not, is refused, and nothing is renamed."""
    for id in ("a", "other", "gone"):
        await create(client, id)
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))
    before = await show(client, "a")
    error = await refusal(rename(client, "a", taken))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "TASK_EXISTS")
    assert await show(client, "a") == before
    assert (await refusal(rename(client, "gone", "x"))).reason == "TASK_DELETED"
    assert (await refusal(rename(client, "never", "x"))).reason == "TASK_NOT_FOUND"


async def test_an_etag_guards_a_rename(client: Client) -> None:
    """A task that was changed since is not renamed."""
    task = await create(client, "a")
    await update(client, "a", priority=1)
    assert (await refusal(rename(client, "a", "b", etag=task.revision))).reason == "ETAG_MISMATCH"


async def test_who_waits_below_the_old_id_is_told(client: Client) -> None:
    """A claim that waits below a task that is renamed ends with the hint, not with its wait."""
    await connect(client, "w")
    await create(client, "top")
    await create(client, "open", parent_id="top", needed_tags=["nobody-has-this"])
    call = asyncio.create_task(claim_next(client, "w", parent_id="top", wait={"seconds": 20}))
    while True:
        answer = await client.workers.ListWorkers(v1.ListWorkersRequest())
        if answer.workers[0].heartbeat_time.ToMilliseconds() > (
            answer.workers[0].register_time.ToMilliseconds()
        ):
            break
    await rename(client, "top", "peak")
    assert (await refusal(call)).metadata["renamed_to"] == "peak"
