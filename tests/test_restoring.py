"""Deleted tasks: restored, and obliterated."""

from typing import TYPE_CHECKING, Any

import apsw
import pytest
from taskloom import v1
from taskloom_client import Client

from tests.calls import claim, complete, connect, create, refusal, show, update
from tests.test_budgets import ready, spend

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock


async def delete(client: Client, task: str, **fields: Any) -> None:
    """Delete a task."""
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id=task, **fields))


async def restore(client: Client, task: str, *, cascade: bool = False) -> list[str]:
    """Bring a task back; the ids of all that are."""
    request = v1.RestoreTaskRequest(task_id=task, cascade=cascade, reason="needed")
    return [one.id for one in (await client.tasks.RestoreTask(request)).tasks]


async def obliterate(
    client: Client, task: str, *, cascade: bool = False, force: bool = False
) -> v1.ObliterateTaskResponse:
    """Remove a task for good."""
    request = v1.ObliterateTaskRequest(task_id=task, cascade=cascade, force=force)
    return await client.tasks.ObliterateTask(request)


async def test_a_restored_blocker_blocks_again(client: Client) -> None:
    """What a deleted task blocked is ready, and waits again once it is back."""
    await create(client, "a")
    await create(client, "b", blocked_by=["a"])
    await delete(client, "a")
    assert await ready(client) == {"b"}
    assert await restore(client, "a") == ["a"]
    assert await ready(client) == {"a"}
    assert await restore(client, "a") == [], "it was not deleted"
    assert not (await show(client, "a")).HasField("delete_time")


async def test_cascade_restores_what_went_together(timed_client: Client) -> None:
    """Of what is below, that comes back which was deleted by the same call."""
    client = timed_client
    await create(client, "top")
    for id, parent in (("x", "top"), ("y", "top"), ("z", "y")):
        await create(client, id, parent_id=parent)
    await delete(client, "x")
    await delete(client, "top", cascade=True)
    assert (await refusal(restore(client, "z"))).reason == "TASK_DELETED"
    assert await restore(client, "top", cascade=True) == ["top", "y", "z"]
    assert await ready(client) == {"z"}
    assert await restore(client, "x") == ["x"]
    assert await ready(client) == {"x", "z"}


async def test_what_was_held_comes_back_free(timed_client: Client, clock: "TestClock") -> None:
    """A task that was worked on is free again, and the time while it was deleted is no work."""
    client = timed_client
    await connect(client, "w")
    await create(client, "a")
    await claim(client, "w", "a")
    clock.advance(5_000)
    await delete(client, "a", force=True)
    clock.advance(60_000)
    await restore(client, "a")
    task = await show(client, "a")
    assert (task.status, task.worker_id, task.ready) == ("pending", "", True)
    assert task.time_actual.ToMilliseconds() == 5_000
    sums = await client.tasks.GetMetrics(v1.GetMetricsRequest(task_id="a"))
    times = {one.status: one.duration.ToMilliseconds() for one in sums.time_in_status}
    assert times["working"] == 5_000


async def test_an_open_task_does_not_come_back_below_an_ended_one(client: Client) -> None:
    """A parent that ended meanwhile takes back what has ended, too, and nothing that is open."""
    await create(client, "top")
    await create(client, "open", parent_id="top")
    await create(client, "done", parent_id="top")
    await connect(client, "w")
    await claim(client, "w", "done")
    await complete(client, "w", "done")
    await delete(client, "done")
    await delete(client, "open")
    await update(client, "top", status="cancelled")
    assert (await refusal(restore(client, "open"))).reason == "PARENT_ENDED"
    assert await restore(client, "done") == ["done"]


async def test_a_cycle_that_would_close(client: Client) -> None:
    """With dependencies added meanwhile a restore may close a cycle: it is refused, and named."""
    await create(client, "a")
    await create(client, "b", blocked_by=["a"])
    await create(client, "c", blocked_by=["b"])
    await delete(client, "b")
    await client.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id="c", to_task_id="a"))
    error = await refusal(restore(client, "b"))
    assert error.reason == "CYCLE"
    assert (await show(client, "b")).HasField("delete_time")


async def test_obliterated_is_gone(server: "Server", client: Client) -> None:
    """No row is left of an obliterated task but its events, and the id is free."""
    await connect(client, "w", max_claims=2)
    await create(client, "top", max_cost_usd=9.0)
    await create(client, "a", parent_id="top", tags=["x"], needed_tags=[], max_cost_usd=1.0)
    await create(client, "b", blocked_by=["a"])
    await claim(client, "w", "a")
    await client.files.MarkFiles(v1.MarkFilesRequest(worker_id="w", task_id="a", paths=["p"]))
    await client.attachments.Attach(v1.AttachRequest(task_id="a", type="note", content=b"x"))
    await spend(client, "a", 0.5, worker_id="w")
    assert (await refusal(obliterate(client, "a"))).reason == "TASK_CLAIMED"
    answer = await obliterate(client, "a", force=True)
    assert list(answer.task_ids) == ["a"]
    assert set(answer.unblocked_task_ids) >= {"b"}
    assert (await refusal(show(client, "a"))).reason == "TASK_NOT_FOUND"
    connection = apsw.Connection(str(server.db), flags=apsw.SQLITE_OPEN_READONLY)
    tables = [
        row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    ]
    for table in tables:
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        for column in columns:
            if table != "events" and (column.endswith("task_id") or column in ("id", "parent_id")):
                query = f'SELECT count(*) FROM "{table}" WHERE "{column}" = ?'
                assert connection.execute(query, ("a",)).get == 0, (table, column)
    connection.close()
    assert (await create(client, "a")).id == "a"
    metrics = await client.tasks.GetMetrics(v1.GetMetricsRequest(task_id="top"))
    assert metrics.budget.cost_usd == 0.0


@pytest.mark.parametrize("deleted", [False, True])
async def test_obliterate_with_children(client: Client, deleted: bool) -> None:
    """A task with children, deleted or not, goes with them or not at all."""
    await create(client, "top")
    await create(client, "child", parent_id="top")
    if deleted:
        await delete(client, "child")
    assert (await refusal(obliterate(client, "top"))).reason == "CHILDREN_OPEN"
    answer = await obliterate(client, "top", cascade=True)
    assert list(answer.task_ids) == ["top", "child"]
    listed = await client.tasks.ListTasks(v1.ListTasksRequest(include_deleted=True))
    assert not listed.tasks
