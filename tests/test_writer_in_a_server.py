"""The writer in a server: what is due goes on after a bug, and a server that cannot write ends."""

import asyncio
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from taskloom import v1
from taskloom_client import Client, TaskloomError
from taskloom_server import server, workflow_files
from taskloom_server.store.transaction import Transaction

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock


async def hold_for_a_minute(client: Client, task_id: str, workflow: str = "") -> None:
    """Create a task and claim it, with a lease of a minute."""
    lease = Duration(seconds=60)
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", max_claims=5, lease=lease))
    await client.tasks.CreateTask(v1.CreateTaskRequest(id=task_id, title="t", workflow=workflow))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id=task_id))


async def test_the_clock_goes_on(
    timed_server: "Server",
    timed_client: Client,
    clock: "TestClock",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the server does when its time has come is tried again when it went wrong once."""
    tried = asyncio.Event()
    loop = asyncio.get_running_loop()

    def broken(tx: Transaction, _: str) -> None:
        loop.call_soon_threadsafe(tried.set)
        raise ValueError("a bug")

    await hold_for_a_minute(timed_client, "t")
    monkeypatch.setattr(server, "end_leases", broken)
    clock.advance(60_000)
    await tried.wait()
    monkeypatch.undo()
    async with timed_client.watch(start_revision=4) as watch, asyncio.timeout(10):
        await anext(watch)
        told = asyncio.ensure_future(anext(watch))
        while not told.done():  # it is not told when it will be tried again
            clock.advance(60_000)
            await asyncio.wait([told], timeout=0.05)
        assert told.result().events.events[0].type == v1.EVENT_TYPE_TASK_LEASE_EXPIRED


async def test_a_workflow_that_is_gone(
    start_server: Callable[..., Any], clock: "TestClock", tmp_path: Path
) -> None:
    """A task whose workflow is not loaded any more keeps no other task's lease from ending."""
    swarm = (workflow_files.SHIPPED / "swarm.yaml").read_text()
    (tmp_path / "other.yaml").write_text(swarm.replace("name: swarm", "name: other"))
    async with (
        start_server(clock=clock, workflow_dir=tmp_path) as first,
        Client(first.address) as client,
    ):
        await hold_for_a_minute(client, "odd", "other")
        await hold_for_a_minute(client, "even")
    async with start_server(clock=clock) as second, Client(second.address) as client:
        clock.advance(60_000)
        async with asyncio.timeout(1):
            while True:
                shown = await client.tasks.GetTask(v1.GetTaskRequest(task_id="even"))
                if shown.task.status == "pending":
                    return


# A writer that cannot write.


async def outcome(client: Client, task_id: str) -> str:
    """The name of the code with which a creation ends."""
    try:
        await client.tasks.CreateTask(v1.CreateTaskRequest(id=task_id, title="t"), timeout=20)
    except TaskloomError as error:
        return error.code.name
    return "OK"


async def test_a_disk_that_is_full(start_process: Callable[..., Any]) -> None:
    """A server that cannot write says NOT_SERVING, answers no write, and ends with an exit code."""
    server = await start_process()

    async def create(client: Client, name: str) -> list[str]:
        """How 50 calls at once end."""
        ids = [f"{name}-{n}" for n in range(50)]
        return await asyncio.gather(*(outcome(client, id) for id in ids))

    async with Client(server.address) as client, aio.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert await create(client, "early") == ["OK"] * 50
        # No file of the process may grow any more: to SQLite, a disk that is full.
        size = os.stat(f"{server.db}-wal").st_size
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, size))
        assert set(await create(client, "late")) <= {"UNAVAILABLE", "CANCELLED"}
        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        health.cancel()
    assert await server.process.wait() == 1
    assert "cannot write" in server.log()

    again = await start_process(db=server.db)
    async with Client(again.address) as client:
        listed = await client.tasks.ListTasks(v1.ListTasksRequest(page_size=1_000))
        assert {task.id for task in listed.tasks} == {f"early-{n}" for n in range(50)}
        assert await outcome(client, "late-0") == "OK"


async def test_a_reader_at_the_end(start_process: Callable[..., Any]) -> None:
    """Another program that reads while the server stops is no failure: all is committed."""
    server = await start_process()
    async with Client(server.address) as client:
        await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="a"))
        other = apsw.Connection(str(server.db), flags=apsw.SQLITE_OPEN_READONLY)
        other.execute("BEGIN")
        assert other.execute("SELECT id FROM tasks").get == "a"
        await client.tasks.CreateTask(v1.CreateTaskRequest(id="b", title="b"))
    server.process.send_signal(signal.SIGTERM)
    assert await server.process.wait() == 0
    other.execute("COMMIT")
    assert other.execute("SELECT count(*) FROM tasks").get == 2
    other.close()
