"""Replacements: a snapshot in the place of what is there, as a reset and a restore in one."""

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.snapshot_calls import REPLACE, bring_in, document, headless, ids_of, link, take_out, task

if TYPE_CHECKING:
    from tests.conftest import Server


async def test_everything_is_replaced(server: "Server", client: Client) -> None:
    """After a replacement there is what the snapshot says, and nothing of before."""
    await bring_in(
        client, document(tasks=[task("new"), task("b")], dependencies=[link("new", "b")])
    )
    wanted = await take_out(client)
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="old", title="old"))
    await client.admin.Pause(v1.PauseRequest(by="me"))
    answer = await bring_in(client, wanted, REPLACE)
    assert dict(answer.removed_rows) == {"tasks": 1, "task_sequence": 1}
    assert headless(await take_out(client)) == headless(wanted)
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert status.incarnation == answer.incarnation
    assert (status.connected_workers, status.HasField("paused")) == (0, False)
    assert status.oldest_revision == answer.revision


async def test_watches_are_told(server: "Server", client: Client) -> None:
    """Watches end with INCARNATION_CHANGED, and the next one hears of the new graph alone."""
    await bring_in(client, document(tasks=[task("old")]))
    async with client.watch() as watch, asyncio.timeout(10):
        await anext(watch)
        answer = await bring_in(client, document(tasks=[task("new")]), REPLACE)
        with pytest.raises(TaskloomError) as caught:
            await anext(watch)
    assert caught.value.reason == "INCARNATION_CHANGED"
    assert caught.value.metadata["incarnation"] == answer.incarnation
    async with client.watch(start_revision=answer.revision) as watch, asyncio.timeout(10):
        await anext(watch)
        message = await anext(watch)
    assert [event.task_id for event in message.events.events] == ["new"]


async def test_held_tasks_refuse_it(server: "Server", client: Client) -> None:
    """While workers hold tasks a replacement is refused, dry or not; by force they lose them."""
    await bring_in(client, document(tasks=[task("held")]))
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="held"))
    before = await take_out(client)
    for dry_run in (True, False):
        with pytest.raises(TaskloomError, match="'held' by 'w'") as caught:
            await bring_in(client, document(tasks=[task("new")]), REPLACE, dry_run=dry_run)
        assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.reason == "TASK_CLAIMED"
    assert headless(await take_out(client)) == headless(before)
    await bring_in(client, document(tasks=[task("new")]), REPLACE, force=True)
    assert await ids_of(client) == {"new"}
    with pytest.raises(TaskloomError) as caught:
        await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id="held"))
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_a_refused_replacement(server: "Server", client: Client) -> None:
    """A snapshot that is wrong leaves everything where it is, the incarnation included."""
    await bring_in(client, document(tasks=[task("old")]))
    before = await take_out(client)
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    wrong = document(tasks=[task("a"), task("b")], dependencies=[link("a", "b"), link("b", "a")])
    with pytest.raises(TaskloomError, match="CYCLE"):
        await bring_in(client, wrong, REPLACE)
    assert headless(await take_out(client)) == headless(before)
    after = await client.admin.GetStatus(v1.GetStatusRequest())
    assert (after.incarnation, after.revision) == (status.incarnation, status.revision)
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="next", title="next"))
    assert await ids_of(client) == {"old", "next"}


async def test_a_replacement_is_made_once(server: "Server", client: Client) -> None:
    """The same replacement with the same request_id brings the first answer, and no third life."""
    snapshot = document(tasks=[task("t")])
    first = await bring_in(client, snapshot, REPLACE, request_id="once")
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="later", title="later"))
    assert await bring_in(client, snapshot, REPLACE, request_id="once") == first
    assert await ids_of(client) == {"t", "later"}
