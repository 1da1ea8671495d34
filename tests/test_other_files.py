"""A database file that is another than the one served last, and what watches are told of it."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import ServerProcess, TestClock


async def create(client: Client, task_id: str) -> None:
    """Make a task."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id=task_id, title=task_id))


async def incarnation(client: Client) -> str:
    """The incarnation of the graph."""
    return (await client.admin.GetStatus(v1.GetStatusRequest())).incarnation


async def resume(client: Client, incarnation: str, revision: int) -> v1.WatchTasksResponse:
    """The first message of a watch that goes on after a revision of an incarnation."""
    request = v1.WatchTasksRequest(start_revision=revision + 1, incarnation=incarnation)
    first: v1.WatchTasksResponse
    async for first in client.watches.WatchTasks(request):
        return first
    raise AssertionError("a watch ended without a word")


def lock_of(db: Path) -> Path:
    """The lock file beside a database."""
    return db.with_name(db.name + "-lock")


async def test_a_copy_that_came_back(start_server: Callable[..., Any], tmp_path: Path) -> None:
    """A file of earlier in the place of the one served last begins another incarnation."""
    copy = tmp_path / "copy.db"
    async with start_server() as server, Client(server.address) as client:
        await create(client, "a")
        before = await incarnation(client)
    shutil.copy(server.db, copy)
    async with start_server(db=server.db) as server, Client(server.address) as client:
        assert await incarnation(client) == before
        await create(client, "b")
        async with client.watch(start_revision=1) as watch:
            assert (await anext(watch)).created.incarnation == before
    shutil.copy(copy, server.db)
    async with start_server(db=server.db) as server, Client(server.address) as client:
        await create(client, "another-b")
        with pytest.raises(TaskloomError) as caught:
            await resume(client, before, revision=1)
        assert caught.value.reason == "INCARNATION_CHANGED"
        now = await incarnation(client)
        assert caught.value.metadata["incarnation"] == now != before
        # Of its own life the watch hears everything, and of the one before nothing.
        assert (await resume(client, now, revision=1)).created.incarnation == now
        messages = client.watches.WatchTasks(v1.WatchTasksRequest(start_revision=1))
        with pytest.raises(TaskloomError) as caught:
            [_ async for _ in messages]
        assert caught.value.reason == "REVISION_COMPACTED"
    async with start_server(db=server.db) as server, Client(server.address) as client:
        assert await incarnation(client) == now


async def test_a_copy_made_while_it_was_served(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    """A copy that was made during the same run of the server is told apart, too."""
    copy = tmp_path / "copy.db"
    async with start_server() as server, Client(server.address) as client:
        await create(client, "a")
        for suffix in ("", "-wal"):
            shutil.copy(f"{server.db}{suffix}", f"{copy}{suffix}")
        await create(client, "b")
        before = await incarnation(client)
    for suffix in ("", "-wal"):
        shutil.copy(f"{copy}{suffix}", f"{server.db}{suffix}")
    async with start_server(db=server.db) as server, Client(server.address) as client:
        assert await incarnation(client) != before
        status = await client.admin.GetStatus(v1.GetStatusRequest())
        assert (status.open_tasks, status.revision) == (1, 1)


async def test_a_copy_of_before_a_crash(
    start_process: "Callable[..., Any]", start_server: Callable[..., Any], tmp_path: Path
) -> None:
    """After kill -9 the file goes on where it was, and a copy of an earlier run does not."""
    copy = tmp_path / "copy.db"
    async with start_server() as server, Client(server.address) as client:
        await create(client, "a")
        before = await incarnation(client)
    shutil.copy(server.db, copy)
    process: ServerProcess = await start_process(db=server.db)
    async with Client(process.address) as client:
        await create(client, "b")
    process.process.kill()
    await process.process.wait()
    async with start_server(db=server.db) as server, Client(server.address) as client:
        status = await client.admin.GetStatus(v1.GetStatusRequest())
        assert (status.incarnation, status.open_tasks) == (before, 2)
    for leftover in ("-wal", "-shm"):
        Path(f"{server.db}{leftover}").unlink(missing_ok=True)
    shutil.copy(copy, server.db)
    async with start_server(db=server.db) as server, Client(server.address) as client:
        assert await incarnation(client) != before


async def test_the_token_is_renewed_while_it_works(
    start_server: Callable[..., Any], clock: "TestClock"
) -> None:
    """In each minute in which something was written the token becomes another one."""
    async with start_server(clock=clock) as server, Client(server.address) as client:
        lock = lock_of(server.db)
        before = lock.read_text()
        await create(client, "a")
        async with asyncio.timeout(10):
            while (after := lock.read_text()) == before or len(after.split()) > 1:
                clock.advance(60_000)
                await asyncio.sleep(0)
        assert await incarnation(client)


@pytest.mark.parametrize("left", ["", "1 2", "what is this?\n" * 9], ids=["lost", "other", "odd"])
async def test_a_lock_file_that_knows_nothing(start_server: Callable[..., Any], left: str) -> None:
    """Where the lock file was lost, or is another's, the file may be one: another incarnation."""
    async with start_server() as server, Client(server.address) as client:
        before = await incarnation(client)
    lock_of(server.db).write_text(left)
    async with start_server(db=server.db) as server, Client(server.address) as client:
        assert await incarnation(client) != before


async def test_a_crash_between_the_two_notes(start_server: Callable[..., Any]) -> None:
    """While a token is renewed the file may have the old one or the new one: both are right."""
    async with start_server() as server, Client(server.address) as client:
        before = await incarnation(client)
    for comes_first in (True, False):
        token = lock_of(server.db).read_text().strip()
        lock_of(server.db).write_text(f"{token} 7\n" if comes_first else f"7 {token}\n")
        async with start_server(db=server.db) as server, Client(server.address) as client:
            assert await incarnation(client) == before


async def test_a_file_of_before(start_server: Callable[..., Any]) -> None:
    """A file that has no token yet, beside a lock file of before, keeps its incarnation."""
    async with start_server() as server, Client(server.address) as client:
        await create(client, "a")
        before = await incarnation(client)
    connection = apsw.Connection(str(server.db))
    connection.pragma("user_version", 0)
    connection.close()
    lock_of(server.db).write_text("")
    async with start_server(db=server.db) as server, Client(server.address) as client:
        assert await incarnation(client) == before
