"""The server as a process: how it starts, what it refuses, what it logs, and how it ends.

Its settings by themselves are in ``test_settings``, its writer in ``test_writer``; what agents
and watches make of a server that is killed is in ``client/test_restart``.
"""

import asyncio
import json
import os
import pty
import resource
import shutil
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import grpc
import pytest
from grpc import aio
from taskloom import v1
from taskloom_client import Agent, Client, TaskloomError
from taskloom_server.settings import Settings

if TYPE_CHECKING:
    from tests.conftest import ServerProcess

    StartProcess = Callable[..., Awaitable[ServerProcess]]

Spawn = Callable[..., Awaitable[Process]]
_LISTENING = "taskloom is listening on "


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    """``taskloom serve`` with these flags and no others; gone after the test."""
    started: list[Process] = []

    async def start(
        *flags: str | Path, env: dict[str, str] | None = None, stderr: int = PIPE
    ) -> Process:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TASKLOOM_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taskloom_client", "serve", *map(str, flags)),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=stderr,
            cwd=tmp_path,
            env=inherited | (env or {}),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def listening(process: Process) -> str:
    """Where the server listens, once it does."""
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith(_LISTENING), line
    return line.removeprefix(_LISTENING).strip()


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


async def create(client: Client, id: str) -> None:
    """Create a task."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id))


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


# What it refuses.


def no_database(path: Path) -> None:
    """A file that is not SQLite."""
    path.write_bytes(b"Dear diary, " * 1000)


def anothers(path: Path) -> None:
    """An SQLite file of another program."""
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE diary (entry)")
    connection.close()


REFUSED_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "not SQLite": (no_database, "is not a taskloom database"),
    "another program's": (anothers, "of another program"),
    "a folder": (Path.mkdir, "is a folder"),
}


async def refusal(process: Process) -> str:
    """The sentence with which a server ends that cannot be."""
    out, err = await process.communicate()
    lines = err.decode().splitlines()
    assert (process.returncode, out) == (2, b""), lines
    assert len(lines) == 1, lines
    assert "Traceback" not in err.decode()
    assert lines[-1].startswith("error: ")
    return lines[-1]


@pytest.mark.parametrize("kind", REFUSED_FILES)
async def test_files_it_refuses(spawn: Spawn, tmp_path: Path, kind: str) -> None:
    """What is no taskloom database is refused in one sentence, and left as it was."""
    make, reason = REFUSED_FILES[kind]
    path = tmp_path / "it"
    make(path)
    before = path.is_dir() or path.read_bytes()
    said = await refusal(await spawn("--db", path, "--listen", "127.0.0.1:0"))
    assert reason in said
    assert str(path) in said
    assert (path.is_dir() or path.read_bytes()) == before


async def test_a_folder_that_is_not_there(spawn: Spawn, tmp_path: Path) -> None:
    """A file in a folder that does not exist is refused; the folder is not made."""
    said = await refusal(await spawn("--db", tmp_path / "no" / "it", "--listen", "127.0.0.1:0"))
    assert str(tmp_path / "no") in said
    assert not (tmp_path / "no").exists()


async def test_a_newer_schema(spawn: Spawn, start_process: "StartProcess") -> None:
    """A file that a newer taskloom has migrated is refused, and not migrated back."""
    server = await start_process()
    server.process.terminate()
    await server.process.wait()
    query(server.db, "INSERT INTO schema_migration (name, applied) VALUES ('9999_new', '')")
    said = await refusal(await spawn("--db", server.db, "--listen", "127.0.0.1:0"))
    assert "newer taskloom" in said
    assert "9999_new" in said
    assert query(server.db, "SELECT count(*) FROM schema_migration WHERE name = '9999_new'")


async def test_a_port_in_use(spawn: Spawn, start_process: "StartProcess", tmp_path: Path) -> None:
    """A second server on the port is refused, with the address in the sentence."""
    server = await start_process()
    said = await refusal(await spawn("--db", tmp_path / "other", "--listen", server.address))
    assert server.address in said


async def test_a_file_in_use(spawn: Spawn, start_process: "StartProcess") -> None:
    """A second server on the file is refused, and the first one goes on."""
    server = await start_process()
    said = await refusal(await spawn("--db", server.db, "--listen", "127.0.0.1:0"))
    assert "in use by another taskloom server" in said
    async with Client(server.address) as client:
        await create(client, "a")


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:http", "127.0.0.1:99999"])
async def test_addresses_that_are_none(spawn: Spawn, tmp_path: Path, listen: str) -> None:
    """An address that cannot be is refused, with what it was; no file is made."""
    said = await refusal(await spawn("--db", tmp_path / "it", "--listen", listen))
    assert listen in said
    assert not (tmp_path / "it").exists()


async def test_an_address_of_another_machine(spawn: Spawn, tmp_path: Path) -> None:
    """An address that is not of this machine is refused."""
    said = await refusal(await spawn("--db", tmp_path / "it", "--listen", "192.0.2.1:0"))
    assert "192.0.2.1:0" in said


async def test_a_settings_file_that_is_not_there(spawn: Spawn, tmp_path: Path) -> None:
    """A settings file that is named must be there."""
    said = await refusal(await spawn("--config", tmp_path / "no.yaml"))
    assert str(tmp_path / "no.yaml") in said


# Where its settings come from.


async def test_the_environment_is_used(spawn: Spawn, tmp_path: Path) -> None:
    """TASKLOOM_DB and TASKLOOM_LISTEN do what the flags do."""
    env = {"TASKLOOM_DB": str(tmp_path / "env.db"), "TASKLOOM_LISTEN": "localhost:0"}
    address = await listening(await spawn(env=env))
    assert address.startswith("localhost:")
    async with Client(address) as client:
        await create(client, "a")
    assert (tmp_path / "env.db").exists()


async def test_a_settings_file_is_used(spawn: Spawn, tmp_path: Path) -> None:
    """A YAML file sets what flags and the environment leave out; flags win over both."""
    config = tmp_path / "taskloom.yaml"
    config.write_text(f"db: {tmp_path / 'file.db'}\nlisten: localhost:0\nlog_level: error\n")
    env = {"TASKLOOM_DB": str(tmp_path / "env.db")}
    server = await spawn("--config", config, "--db", tmp_path / "flag.db", env=env)
    assert (await listening(server)).startswith("localhost:")
    server.terminate()
    _, err = await server.communicate()
    assert (server.returncode, err) == (0, b"")
    made = {name for name in os.listdir(tmp_path) if name.endswith(".db")}
    assert made == {"flag.db"}


async def test_it_listens_on_loopback_alone(start_process: "StartProcess") -> None:
    """Unless told otherwise it can be reached from this machine only, at the known port."""
    assert Settings.model_fields["listen"].default == "127.0.0.1:50051"
    server = await start_process()
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5).close()


# What it logs.


async def test_logs_for_programs(start_process: "StartProcess") -> None:
    """Where stderr is no terminal each line is JSON, and calls add none."""
    server = await start_process()
    async with Client(server.address) as client:
        await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
        before = server.log()
        for n in range(25):
            await create(client, f"t{n}")
            await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id=f"t{n}"))
            await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id=f"t{n}"))
        with pytest.raises(TaskloomError):
            await client.tasks.GetTask(v1.GetTaskRequest(task_id="no"))
        assert server.log() == before
    server.process.terminate()
    assert await server.process.wait() == 0
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert {line["event"] for line in lines} >= {"migrated", "listening", "stopping", "stopped"}
    assert all(line["level"] == "info" and line["timestamp"] for line in lines)
    assert [line["address"] for line in lines if line["event"] == "listening"] == [server.address]


async def test_logs_for_people(spawn: Spawn, tmp_path: Path) -> None:
    """On a terminal a line is for reading."""
    ours, theirs = pty.openpty()
    try:
        server = await spawn("--db", tmp_path / "t.db", "--listen", "127.0.0.1:0", stderr=theirs)
        address = await listening(server)
        server.terminate()
        assert await server.wait() == 0
        written = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert address in written
    assert "stopped" in written
    for line in written.splitlines():
        with pytest.raises(json.JSONDecodeError):
            json.loads(line)


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
