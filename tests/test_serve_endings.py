"""How a server process ends: told to stop, killed under load, or unable to write.

Its writer by itself is in ``test_writer``; what agents and watches make of a server that is killed
is in ``client/test_restart``.
"""

import asyncio
import os
import resource
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import grpc
import pytest
from grpc import aio
from taskloom import v1
from taskloom_client import Agent, Client, TaskloomError

from tests.calls import create

if TYPE_CHECKING:
    from tests.conftest import ServerProcess

    StartProcess = Callable[..., Awaitable[ServerProcess]]


def query(db: Path, sql: str, *bindings: Any) -> list[Any]:
    """The rows that a query finds in a database that no server has open."""
    connection = apsw.Connection(str(db), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return connection.execute(sql, bindings).fetchall()
    finally:
        connection.close()


def size(path: str) -> int:
    """The length of a file; 0 when there is none."""
    return os.stat(path).st_size if os.path.exists(path) else 0


@dataclass
class Load:
    """Calls without pause, none of them repeated, and how each of them ended."""

    answered: dict[str, int] = field(default_factory=dict)  # request_id: the revision told
    unanswered: list[tuple[Any, Any]] = field(default_factory=list)  # a stub's name, a request
    codes: set[grpc.StatusCode] = field(default_factory=set)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: int = 400

    async def call(self, method: str, stub: Any, request: Any) -> Any:
        """The answer; raises AioRpcError, once it is noted."""
        try:
            answer = await getattr(stub, method)(request, timeout=20)
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise  # an answer, too, and one that has changed nothing
            self.codes.add(error.code())
            self.unanswered.append((method, request))
            self.enough.set()  # it comes to an end: nobody need wait for more
            raise
        assert request.request_id not in self.answered
        if method != "ClaimNextTask" or answer.tasks:  # else there is nothing to remember
            self.answered[request.request_id] = answer.revision
        if len(self.answered) >= self.wanted:
            self.enough.set()
        return answer

    async def create_tasks(self, address: str, name: str) -> None:
        """Create one task after another, until the server is gone."""
        async with aio.insecure_channel(
            address, options=[("grpc.enable_http_proxy", 0)]
        ) as channel:
            tasks = v1.TaskServiceStub(channel)
            n = 0
            while True:
                id = f"{name}-{n}"
                ask = v1.CreateTaskRequest(id=id, title=id, request_id=f"create:{id}")
                try:
                    await self.call("CreateTask", tasks, ask)
                except aio.AioRpcError:
                    return
                n += 1

    async def do_everything(self, address: str, name: str) -> None:
        """Create parents, children and chains, claim and complete, until the server is gone."""
        async with aio.insecure_channel(
            address, options=[("grpc.enable_http_proxy", 0)]
        ) as channel:
            tasks, claims = v1.TaskServiceStub(channel), v1.ClaimServiceStub(channel)
            workers = v1.WorkerServiceStub(channel)
            try:
                await workers.Connect(v1.ConnectRequest(worker_id=name))
                n = 0
                while True:
                    for id, parent, blockers in (
                        (f"{name}-{n}", "", [f"{name}-{n - 1}"] if n % 2 else []),
                        (f"{name}-{n}.0", f"{name}-{n}", []),
                        (f"{name}-{n}.1", f"{name}-{n}", [f"{name}-{n}.0"]),
                    ):
                        ask = v1.CreateTaskRequest(
                            id=id, title=id, parent_id=parent, blocked_by=blockers
                        )
                        ask.request_id = f"create:{id}"
                        if not parent:
                            ask.needed_tags.append("nobody")  # it ends with its children
                        try:
                            await self.call("CreateTask", tasks, ask)
                        except aio.AioRpcError as error:
                            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                                raise
                            break  # somebody has ended the only child so far, and so the parent
                    claim = v1.ClaimNextTaskRequest(worker_id=name, request_id=f"claim:{name}:{n}")
                    got = await self.call("ClaimNextTask", claims, claim)
                    for task in got.tasks:
                        end = v1.CompleteTaskRequest(worker_id=name, task_id=task.id)
                        end.claim_revision = task.claim_revision
                        end.request_id = f"complete:{task.id}"
                        await self.call("CompleteTask", claims, end)
                    n += 1
            except aio.AioRpcError as error:
                self.codes.add(error.code())

    def said(self, verb: str) -> dict[str, int]:
        """What the answered calls of this verb were about, and at which revision."""
        return {
            id.removeprefix(f"{verb}:"): revision
            for id, revision in self.answered.items()
            if id.startswith(f"{verb}:")
        }


async def follow(client: Client, start: int, incarnation: str, seen: list[str]) -> TaskloomError:
    """Note the tasks that are created from a revision on; how the watch ends."""
    only = v1.WatchFilter(event_types=[v1.EVENT_TYPE_TASK_CREATED])
    ask = v1.WatchTasksRequest(start_revision=start, filter=only, incarnation=incarnation)
    try:
        async for message in client.watches.WatchTasks(ask):
            seen.extend(event.task_id for event in message.events.events)
    except TaskloomError as error:
        return error
    raise AssertionError("the watch ended without a word")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_cleanly(start_process: "StartProcess", number: signal.Signals) -> None:
    """Told to stop, it answers what it commits, ends the watches, and leaves a whole file."""
    server = await start_process()
    load = Load()
    seen: list[str] = []
    async with Client(server.address) as client:
        before = await client.admin.GetStatus(v1.GetStatusRequest())
        incarnation = before.incarnation
        watch = asyncio.create_task(follow(client, 1, incarnation, seen))
        async with asyncio.TaskGroup() as group:
            for n in range(8):
                group.create_task(load.create_tasks(server.address, f"w{n}"))
            await load.enough.wait()
            server.process.send_signal(number)
        end = await watch
    assert await server.process.wait() == 0
    assert "Traceback" not in server.log()
    # gRPC itself cancels what comes in the instant of the stop; the client repeats that as well.
    assert load.codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert (end.code, end.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    told = int(end.metadata["revision"])

    assert size(f"{server.db}-wal") == 0, "all is in the file itself"
    there = {id for (id,) in query(server.db, "SELECT id FROM tasks")}
    assert there == load.said("create").keys(), "what was committed was answered, and no more"
    ((last,),) = query(server.db, "SELECT max(revision) FROM events")
    assert told <= last

    again = await start_process(db=server.db)
    async with Client(again.address) as client:
        status = await client.admin.GetStatus(v1.GetStatusRequest())
        assert (status.incarnation, status.revision) == (incarnation, last)
        watch = asyncio.create_task(follow(client, told + 1, incarnation, seen))
        await create(client, "afterwards")
        # The watch is to have it before the stop; else the test's time runs out.
        while "afterwards" not in seen:  # noqa: ASYNC110
            await asyncio.sleep(0)
        again.process.send_signal(number)
        await watch
    assert len(seen) == len(set(seen)), "nothing is told twice"
    assert set(seen) == there | {"afterwards"}, "nothing is passed over"


# When it cannot stop in order.

_CLAIMED, _COMPLETED = v1.EVENT_TYPE_TASK_CLAIMED, v1.EVENT_TYPE_TASK_COMPLETED
_COUNTERS = """
SELECT t.id, t.unmet_blockers, t.open_children,
  (SELECT count(DISTINCT b.id) FROM dependencies d JOIN tasks b ON b.id = d.from_task_id
   WHERE d.to_task_id = t.id AND d.dep_type IN ('blocks', 'follows')
   AND b.deleted_at IS NULL AND b.status NOT IN ('completed', 'cancelled')) AS unmet,
  (SELECT count(*) FROM dependencies d JOIN tasks c ON c.id = d.to_task_id
   WHERE d.from_task_id = t.id AND d.dep_type = 'contains'
   AND c.deleted_at IS NULL AND c.status NOT IN ('completed', 'failed', 'cancelled')) AS open
FROM tasks t WHERE t.unmet_blockers <> unmet OR t.open_children <> open
"""


def check_whole(db: Path) -> None:
    """Whatever was begun is there with all that belongs to it, or not at all."""
    assert query(db, "PRAGMA integrity_check") == [("ok",)]
    assert query(db, _COUNTERS) == []
    ((revision,),) = query(db, "SELECT revision FROM system")
    numbers = [number for (number,) in query(db, "SELECT DISTINCT revision FROM events")]
    assert sorted(numbers) == list(range(1, revision + 1))
    tasks = {id: rest for id, *rest in query(db, "SELECT id, status, worker_id FROM tasks")}
    held: dict[str, tuple[str, int]] = {}
    created: list[str] = []
    status: dict[str, str] = {}
    for number, type, id, worker in query(
        db, "SELECT revision, type, task_id, worker_id FROM events ORDER BY revision, ordinal"
    ):
        if type == v1.EVENT_TYPE_TASK_CREATED:
            created.append(id)
            status[id] = "pending"
        elif type == _CLAIMED:
            assert id not in held, "nobody takes what another holds"
            held[id] = (worker, number)
            status[id] = "working"
        elif type == _COMPLETED:
            held.pop(id, None)  # a parent completes without a holder
            status[id] = "completed"
        elif type in (v1.EVENT_TYPE_TASK_RELEASED, v1.EVENT_TYPE_TASK_LEASE_EXPIRED):
            del held[id]
            status[id] = "pending"
    assert sorted(created) == sorted(tasks), "a task and its event"
    assert status == {id: row[0] for id, row in tasks.items()}
    history = "SELECT task_id, status FROM task_sequence WHERE end_timestamp IS NULL"
    assert sorted(query(db, history)) == sorted(status.items()), "and its history"
    claims = "SELECT id, worker_id, claim_revision FROM tasks WHERE claim_revision IS NOT NULL"
    assert {id: (worker, claim) for id, worker, claim in query(db, claims)} == held


def check_answered(db: Path, load: Load) -> None:
    """What was answered is there, at the revision that was told; the rest by its request."""
    events = {
        (type, id): number
        for number, type, id in query(db, "SELECT revision, type, task_id FROM events")
    }
    created, completed = load.said("create"), load.said("complete")
    for id, revision in created.items():
        assert events[v1.EVENT_TYPE_TASK_CREATED, id] == revision
    for id, revision in completed.items():
        assert events[_COMPLETED, id] == revision
    requests = {id for (id,) in query(db, "SELECT id FROM requests")}
    assert requests >= load.answered.keys()
    for method, ask in load.unanswered:
        if method == "CreateTask":
            key = (v1.EVENT_TYPE_TASK_CREATED, ask.id)
        elif method == "CompleteTask":
            key = (_COMPLETED, ask.task_id)
        else:
            continue
        assert (ask.request_id in requests) == (key in events), "whole or absent"


def files_of(db: Path, folder: Path) -> Path:
    """A copy of the database as a dead server left it."""
    folder.mkdir()
    for name in (db.name, f"{db.name}-wal"):
        if (db.parent / name).exists():
            shutil.copy(db.parent / name, folder / name)
    return folder / db.name


async def work(address: str, name: str, done: list[str]) -> None:
    """An agent that works until nothing is left."""
    async with Client(address) as client, Agent(client, name, idle_interval=0.05) as agent:
        async for task in agent.tasks():
            assert await task.complete()
            done.append(task.id)


async def release_all(client: Client, workers: Iterable[str]) -> None:
    """Let go of what these workers hold."""
    for name in workers:
        await client.workers.Disconnect(v1.DisconnectRequest(worker_id=name))


async def repeat(client: Client, load: Load) -> None:
    """Make the calls that were not answered once more, each with its request_id."""
    for method, ask in load.unanswered:
        stub: Any = client.tasks if method == "CreateTask" else client.claims
        try:
            await getattr(stub, method)(ask)
        except TaskloomError as error:
            if error.reason != "PARENT_ENDED":  # by the child that it had
                raise


async def open_to_all(client: Client) -> None:
    """Let anybody take the parents whose children were never created."""
    listed = await client.tasks.ListTasks(
        v1.ListTasksRequest(statuses=["pending"], order_by=v1.ORDER_BY_UPDATE_TIME, page_size=1_000)
    )
    assert not listed.next_page_token
    for task in listed.tasks:
        if task.needed_tags:
            change = v1.UpdateTaskRequest(task_id=task.id, needed_tags=v1.Tags())
            await client.tasks.UpdateTask(change)


async def test_killed_under_load(start_process: "StartProcess", tmp_path: Path) -> None:
    """After kill -9 what was answered is there, the rest whole or absent, and agents finish."""
    server = await start_process()
    load = Load(wanted=600)
    done: list[str] = []
    names = [f"w{n}" for n in range(8)]
    async with Client(server.address) as client:
        # Held throughout, so that agents do not think that all is done.
        await client.workers.Connect(v1.ConnectRequest(worker_id="keeper"))
        await create(client, "gate")
        claim = v1.ClaimTaskRequest(worker_id="keeper", task_id="gate")
        gate = (await client.claims.ClaimTask(claim)).task
        async with asyncio.TaskGroup() as agents:
            for n in range(2):
                agents.create_task(work(server.address, f"agent-{n}", done))
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(load.do_everything(server.address, name))
                await load.enough.wait()
                server.process.kill()
            await server.process.wait()
            left = files_of(server.db, tmp_path / "left")
            check_whole(left)
            check_answered(left, load)

            again = await start_process(db=server.db, listen=server.address)
            assert again.address == server.address
            await client.ready(20)
            await repeat(client, load)
            await release_all(client, names)
            await open_to_all(client)
            end = v1.CompleteTaskRequest(worker_id="keeper", task_id="gate")
            end.claim_revision = gate.claim_revision
            await client.claims.CompleteTask(end)
        status = await client.admin.GetStatus(v1.GetStatusRequest())
        assert (status.open_tasks, status.claimed_tasks) == (0, 0)
    assert len(done) == len(set(done)), "each task is worked once"
    assert load.codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    again.process.terminate()
    assert await again.process.wait() == 0
    check_whole(server.db)
    check_answered(server.db, load)
    created = {id for (id,) in query(server.db, "SELECT id FROM tasks")}
    tried = {ask.id for method, ask in load.unanswered if method == "CreateTask"}
    assert {"gate"} | load.said("create").keys() <= created
    assert created <= {"gate"} | load.said("create").keys() | tried


async def test_a_disk_that_fills_up_under_load(
    start_process: "StartProcess", tmp_path: Path
) -> None:
    """It ends by itself when it cannot write, and what it answered until then is kept."""
    server = await start_process()
    load = Load(wanted=200)
    names = [f"w{n}" for n in range(8)]
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(load.do_everything(server.address, name))
        await load.enough.wait()
        # Files may grow a little more: not at a call's border, then, do they stop.
        most = size(f"{server.db}-wal") + 333_333
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (most, most))
    assert await server.process.wait() == 1
    assert load.codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert "Traceback" not in server.log()
    left = files_of(server.db, tmp_path / "left")
    check_whole(left)
    check_answered(left, load)

    again = await start_process(db=server.db)
    async with Client(again.address) as client:
        await repeat(client, load)
        await create(client, "afterwards")
    again.process.terminate()
    assert await again.process.wait() == 0
    check_whole(server.db)
    check_answered(server.db, load)
