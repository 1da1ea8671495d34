"""Workers: connecting, signs of life, the list, disconnecting, and who is not known.

What signs of life do for leases is in test_leases, the counters of claims are in test_claims.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client, TaskloomError, WorkerNotFound
from taskloom_server.coordinator import workers
from taskloom_server.store.schema import prepare
from taskloom_server.store.writer import Writer
from taskloom_server.workflow_files import load_workflows

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

    StartServer: TypeAlias = Callable[..., AbstractAsyncContextManager[Server]]

HOUR = 3_600


async def _connect(client: Client, id: str = "", **fields: Any) -> v1.ConnectResponse:
    return await client.workers.Connect(v1.ConnectRequest(worker_id=id, **fields))


async def _disconnect(client: Client, id: str, **fields: Any) -> v1.DisconnectResponse:
    return await client.workers.Disconnect(v1.DisconnectRequest(worker_id=id, **fields))


async def _list(client: Client, **fields: Any) -> v1.ListWorkersResponse:
    answer = await client.workers.ListWorkers(v1.ListWorkersRequest(**fields))
    answer.ClearField("time")  # which goes on where nothing happens
    return answer


async def _show(client: Client, id: str) -> v1.Worker:
    answer = await _list(client, include_disconnected=True)
    return next(worker for worker in answer.workers if worker.id == id)


async def _create(client: Client, id: str) -> None:
    await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id))


async def _claim(client: Client, worker: str, task: str) -> None:
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id=worker, task_id=task))


async def _revision(client: Client) -> int:
    return (await client.admin.GetStatus(v1.GetStatusRequest())).revision


async def _events(client: Client, revision: int) -> list[v1.Event]:
    """The events of one revision."""
    async with asyncio.timeout(10), client.watch(start_revision=revision) as watch:
        async for message in watch:
            if message.revision == revision and message.events.events:
                return list(message.events.events)
    raise AssertionError("the watch ended")


async def _refusal(call: Awaitable[object]) -> TaskloomError:
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


# Connect


async def test_connect_registers(timed_client: Client, clock: "TestClock") -> None:
    """A registration is as asked for, its tags in order and each once, and is told as an event."""
    answer = await _connect(
        timed_client,
        "w",
        tags=["rust", "linux", "rust"],
        max_claims=3,
        lease=Duration(seconds=60, nanos=500_000_000),
        cool_down=Duration(seconds=5),
    )
    worker = answer.worker
    assert worker == v1.Worker(
        id="w",
        tags=["linux", "rust"],
        workflow="swarm",
        max_claims=3,
        lease=Duration(seconds=60, nanos=500_000_000),
        cool_down=Duration(seconds=5),
        register_time=worker.register_time,
        heartbeat_time=worker.register_time,
    )
    assert worker.register_time.ToMilliseconds() == clock.now()
    assert not answer.held_tasks
    status = await timed_client.admin.GetStatus(v1.GetStatusRequest())
    assert answer.incarnation == status.incarnation
    assert status.connected_workers == 1
    [event] = await _events(timed_client, answer.revision)
    assert (event.type, event.worker_id) == (v1.EVENT_TYPE_WORKER_CONNECTED, "w")
    assert event.worker == worker


async def test_connect_with_nothing_said(client: Client) -> None:
    """Who says nothing holds one task at a time, for 900 s, in the default workflow, restless."""
    worker = (await _connect(client)).worker
    assert (worker.max_claims, worker.lease.seconds, worker.workflow) == (1, 900, "swarm")
    assert not worker.HasField("cool_down")
    zero = (await _connect(client, "z", lease=Duration(), cool_down=Duration())).worker
    assert (zero.max_claims, zero.lease.seconds) == (1, 900)
    assert not zero.HasField("cool_down")


async def test_names_are_made_up(client: Client) -> None:
    """Without an id a readable name is made up, another one for every worker."""
    names = [(await _connect(client)).worker.id for _ in range(50)]
    assert len(set(names)) == 50
    for name in names:
        assert re.fullmatch(r"[a-z]+-[a-z]+-\d\d", name)
    answer = await _list(client, page_size=100)
    assert {worker.id for worker in answer.workers} == set(names)


class _Repeating(random.Random):
    """Randomness that makes up every name twice."""

    _calls = 0

    def randrange(self, *args: Any, **kwargs: Any) -> int:
        self._calls += 1
        return 10 + self._calls // 2

    def choice(self, seq: Any) -> Any:
        return seq[0]


async def test_made_up_names_are_free(tmp_path: Path) -> None:
    """A name that is made up is never that of a worker who is, or was, there."""
    prepare(tmp_path / "tasks.db")
    writer = Writer(
        tmp_path / "tasks.db",
        load_workflows("swarm"),
        clock=lambda: 1_800_000_000_000,
        rng=_Repeating(),
        on_commit=lambda committed: None,
        on_failure=lambda error: pytest.fail(f"the writer failed: {error}"),
    )
    await writer.start()
    ask = workers.Connect("", "", (), max_claims=1, lease_ms=60_000, cool_down_ms=0)
    first = (await writer.run(workers.connect, ask)).worker.id
    await writer.run(workers.disconnect, workers.Disconnect(first, ""))
    names = [(await writer.run(workers.connect, ask)).worker.id for _ in range(4)]
    await writer.stop()
    assert len({first, *names}) == 5


async def test_same_request_same_worker(client: Client) -> None:
    """A Connect without an id that is sent again with its request_id makes no second worker."""
    first = await _connect(client, request_id="once")
    assert await _connect(client, request_id="once") == first
    assert len((await _list(client)).workers) == 1


async def test_reconnect_renews_and_changes(timed_client: Client, clock: "TestClock") -> None:
    """Connecting again takes the new values; counters, claims and the first time stay."""
    await _connect(timed_client, "w", tags=["old"], max_claims=2, lease=Duration(seconds=60))
    registered = clock.now()
    await _create(timed_client, "task")
    await _claim(timed_client, "w", "task")
    clock.advance(30_000)
    answer = await _connect(timed_client, "w", tags=["new"], lease=Duration(seconds=90))
    worker = answer.worker
    assert (list(worker.tags), worker.max_claims, worker.lease.seconds) == (["new"], 1, 90)
    assert worker.register_time.ToMilliseconds() == registered
    assert worker.heartbeat_time.ToMilliseconds() == clock.now()
    assert (worker.claims_held, worker.claim_attempts, worker.claims_granted) == (1, 1, 1)
    assert worker.last_status == "working"
    [held] = answer.held_tasks
    assert held.id == "task"
    assert held.lease_expire_time.ToMilliseconds() == clock.now() + 60_000, "a claim's own"
    assert await _show(timed_client, "w") == worker
    assert len((await _list(timed_client)).workers) == 1


async def test_reconnect_after_disconnect(client: Client) -> None:
    """A worker that comes back is the one that it was, connected again, and holds nothing."""
    await _connect(client, "w")
    await _create(client, "task")
    await _claim(client, "w", "task")
    gone = (await _disconnect(client, "w")).worker
    answer = await _connect(client, "w")
    assert not answer.held_tasks
    assert not answer.worker.HasField("disconnect_time")
    assert answer.worker.register_time == gone.register_time
    assert answer.worker.claims_granted == 1
    await _claim(client, "w", "task")


async def test_unknown_workflow(client: Client) -> None:
    """A workflow that the server has not is WORKFLOW_NOT_FOUND; the details list what it has."""
    error = await _refusal(_connect(client, "w", workflow="waterfall"))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND")
    assert error.resource is not None
    assert (error.resource.type, error.resource.name) == ("workflow", "swarm")
    assert not (await _list(client)).workers


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"worker_id": "w" * 129}, "worker_id"),
        ({"worker_id": "two words"}, "worker_id"),
        ({"worker_id": "line\nbreak"}, "worker_id"),
        ({"worker_id": "\u00a0"}, "worker_id"),
        ({"worker_id": "zero\u200bwidth"}, "worker_id"),
        ({"workflow": " "}, "workflow"),
        ({"tags": [""]}, "tags[0]"),
        ({"tags": ["fine", "not fine"]}, "tags[1]"),
        ({"tags": ["t" * 129]}, "tags[0]"),
        ({"tags": [f"t{n}" for n in range(65)]}, "tags"),
        ({"max_claims": -1}, "max_claims"),
        ({"max_claims": 1_001}, "max_claims"),
        ({"lease": Duration(nanos=999_000_000)}, "lease"),
        ({"lease": Duration(seconds=-60)}, "lease"),
        ({"lease": Duration(seconds=7 * 24 * HOUR, nanos=1_000_000)}, "lease"),
        ({"lease": Duration(seconds=2**62)}, "lease"),
        ({"cool_down": Duration(seconds=-1)}, "cool_down"),
        ({"cool_down": Duration(seconds=24 * HOUR, nanos=1_000_000)}, "cool_down"),
        ({"request_id": "not one"}, "request_id"),
    ],
)
async def test_connect_out_of_bounds(client: Client, fields: dict[str, Any], field: str) -> None:
    """A value out of form or bounds is INVALID_FIELD, names the field, and registers nobody."""
    error = await _refusal(client.workers.Connect(v1.ConnectRequest(**fields)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [violation.field for violation in error.field_violations] == [field]
    assert not (await _list(client)).workers


@pytest.mark.parametrize(
    "fields",
    [
        {"worker_id": "w" * 128},
        {"worker_id": "ünïcödé-熊-🦦"},
        {"tags": [f"t{n}" for n in range(64)]},
        {"max_claims": 1_000},
        {"lease": Duration(seconds=1)},
        {"lease": Duration(seconds=7 * 24 * HOUR)},
        {"cool_down": Duration(nanos=1_000_000)},
        {"cool_down": Duration(seconds=24 * HOUR)},
    ],
)
async def test_connect_at_the_bounds(client: Client, fields: dict[str, Any]) -> None:
    """What is just within the bounds is taken as it is."""
    worker = (await client.workers.Connect(v1.ConnectRequest(**fields))).worker
    for name, value in fields.items():
        actual = getattr(worker, name.removeprefix("worker_"))
        assert (sorted(actual) if name == "tags" else actual) == (
            sorted(value) if name == "tags" else value
        )


async def test_workers_outlive_the_server(start_server: "StartServer", tmp_path: Path) -> None:
    """Registrations, connected or not, are there again after a restart."""
    db = tmp_path / "tasks.db"
    async with start_server(db=db) as server, Client(server.address) as client:
        await _connect(client, "here", tags=["rust"])
        await _connect(client, "gone")
        await _disconnect(client, "gone")
        before = await _list(client, include_disconnected=True)
    async with start_server(db=db) as server, Client(server.address) as client:
        assert await _list(client, include_disconnected=True) == before


# Heartbeat


async def test_heartbeat(timed_client: Client, clock: "TestClock") -> None:
    """A heartbeat notes the time, tells what the worker holds, and is no event."""
    await _connect(timed_client, "w")
    await _create(timed_client, "task")
    await _claim(timed_client, "w", "task")
    before = await _revision(timed_client)
    clock.advance(1_000)
    answer = await timed_client.workers.Heartbeat(v1.HeartbeatRequest(worker_id="w"))
    assert answer.worker.heartbeat_time.ToMilliseconds() == clock.now()
    assert answer.worker.claims_held == 1
    assert answer.revision == before == await _revision(timed_client)
    assert await _show(timed_client, "w") == answer.worker


async def test_heartbeat_tells_how_long_claims_last(
    timed_client: Client, clock: "TestClock"
) -> None:
    """The answer says until when all claims last, the shortest included; nothing without one."""
    await _connect(timed_client, "w", max_claims=3, lease=Duration(seconds=60))
    heartbeat = v1.HeartbeatRequest(worker_id="w")
    answer = await timed_client.workers.Heartbeat(heartbeat)
    assert not answer.HasField("lease_expire_time")
    for id, lease in (("a", None), ("b", Duration(seconds=20)), ("c", Duration(seconds=90))):
        await _create(timed_client, id)
        request = v1.ClaimTaskRequest(worker_id="w", task_id=id, lease=lease)
        await timed_client.claims.ClaimTask(request)
    clock.advance(10_000)
    answer = await timed_client.workers.Heartbeat(heartbeat)
    assert answer.lease_expire_time.ToMilliseconds() == clock.now() + 20_000
    shown = await timed_client.tasks.GetTask(v1.GetTaskRequest(task_id="b"))
    assert shown.task.lease_expire_time == answer.lease_expire_time


# ListWorkers


async def test_list_is_by_id(client: Client) -> None:
    """Workers are listed by id, as bytes compare, with what each holds."""
    for id in ("b", "a-2", "B", "é", "a"):
        await _connect(client, id)
    await _create(client, "task")
    await _claim(client, "a", "task")
    answer = await _list(client)
    assert [worker.id for worker in answer.workers] == ["B", "a", "a-2", "b", "é"]
    assert [worker.claims_held for worker in answer.workers] == [0, 1, 0, 0, 0]
    assert not answer.next_page_token
    assert answer.revision == await _revision(client)


async def test_list_without_those_that_went(client: Client) -> None:
    """Who disconnected is listed only when asked for."""
    for id in ("a", "b", "c"):
        await _connect(client, id)
    await _disconnect(client, "b")
    assert [worker.id for worker in (await _list(client)).workers] == ["a", "c"]
    everybody = await _list(client, include_disconnected=True)
    assert [worker.id for worker in everybody.workers] == ["a", "b", "c"]
    assert [worker.HasField("disconnect_time") for worker in everybody.workers] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7])
async def test_list_in_pages(client: Client, size: int) -> None:
    """Pages put together are the list, and the last of them has no token."""
    ids = [f"w{n}" for n in range(6)]
    for id in ids:
        await _connect(client, id)
    listed: list[str] = []
    token, pages = "", 0
    while token or not pages:
        page = await _list(client, page_size=size, page_token=token)
        assert 0 < len(page.workers) <= size
        listed += [worker.id for worker in page.workers]
        token, pages = page.next_page_token, pages + 1
    assert listed == ids
    assert pages == -(-6 // size)


async def test_page_sizes(client: Client) -> None:
    """A page has 50 workers unless told otherwise; a size below zero is refused."""
    for n in range(51):
        await _connect(client, f"w{n:02}")
    first = await _list(client)
    assert len(first.workers) == 50
    rest = await _list(client, page_token=first.next_page_token, page_size=10_000)
    assert [worker.id for worker in rest.workers] == ["w50"]
    error = await _refusal(_list(client, page_size=-1))
    assert (error.reason, error.field_violations[0].field) == ("INVALID_FIELD", "page_size")


@pytest.mark.parametrize("token", ["another query's", "nonsense", "!", "W10", "bnVsbA"])
async def test_page_tokens(client: Client, token: str) -> None:
    """A page token of another query, or none of this server, is INVALID_FIELD."""
    for id in ("a", "b"):
        await _connect(client, id)
    if token == "another query's":
        token = (await _list(client, page_size=1, include_disconnected=True)).next_page_token
        assert token
    error = await _refusal(_list(client, page_size=1, page_token=token))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.field_violations[0].field == "page_token"


# Disconnect


async def test_disconnect_ends_the_registration(timed_client: Client, clock: "TestClock") -> None:
    """A worker that disconnects stays on record with the time; its tasks and marks are free."""
    await _connect(timed_client, "w", max_claims=2)
    await _connect(timed_client, "other")
    for id in ("a", "b", "c"):
        await _create(timed_client, id)
    await _claim(timed_client, "w", "b")
    await _claim(timed_client, "w", "a")
    await _claim(timed_client, "other", "c")
    for worker, path, task in (("w", "x.py", "a"), ("w", "y.py", ""), ("other", "x.py", "c")):
        request = v1.MarkFilesRequest(worker_id=worker, paths=[path], task_id=task)
        await timed_client.files.MarkFiles(request)
    clock.advance(1_000)
    answer = await _disconnect(timed_client, "w", reason="enough")
    assert sorted(answer.released_task_ids) == ["a", "b"]
    assert answer.worker.disconnect_time.ToMilliseconds() == clock.now()
    assert answer.worker.claims_held == 0
    marks = await timed_client.files.ListFileMarks(v1.ListFileMarksRequest())
    assert [(mark.worker_id, mark.path) for mark in marks.marks] == [("other", "x.py")]
    events = await _events(timed_client, answer.revision)
    assert sorted((event.type, event.task_id) for event in events) == sorted(
        [
            (v1.EVENT_TYPE_TASK_RELEASED, "a"),
            (v1.EVENT_TYPE_TASK_RELEASED, "b"),
            (v1.EVENT_TYPE_FILE_UNMARKED, "a"),
            (v1.EVENT_TYPE_FILE_UNMARKED, ""),
            (v1.EVENT_TYPE_WORKER_DISCONNECTED, ""),
        ]
    )
    last = events[-1]
    assert (last.worker_id, last.reason, last.worker) == ("w", "enough", answer.worker)
    status = await timed_client.admin.GetStatus(v1.GetStatusRequest())
    assert status.connected_workers == 1


async def test_disconnect_twice(timed_client: Client, clock: "TestClock") -> None:
    """Disconnecting who is disconnected changes nothing, its time included."""
    await _connect(timed_client, "w")
    first = await _disconnect(timed_client, "w")
    clock.advance(1_000)
    again = await _disconnect(timed_client, "w")
    assert again.worker == first.worker
    assert again.revision == first.revision
    assert not again.released_task_ids


async def test_disconnect_ends_the_rest(client: Client) -> None:
    """Who is gone does not rest any more."""
    await _connect(client, "w", cool_down=Duration(seconds=HOUR))
    await _create(client, "task")
    await _claim(client, "w", "task")
    done = v1.CompleteTaskRequest(worker_id="w", task_id="task")
    await client.claims.CompleteTask(done)
    assert (await _show(client, "w")).HasField("cooling_until")
    assert not (await _disconnect(client, "w")).worker.HasField("cooling_until")


async def test_disconnect_of_nobody(client: Client) -> None:
    """Who never connected cannot disconnect: WORKER_NOT_FOUND."""
    error = await _refusal(_disconnect(client, "nobody"))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "WORKER_NOT_FOUND")


# Verbs of workers that are not there

ABOUT: dict[str, Any] = {"worker_id": "w", "task_id": "task"}
VERBS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "Heartbeat": lambda c: c.workers.Heartbeat(v1.HeartbeatRequest(worker_id="w")),
    "ClaimTask": lambda c: c.claims.ClaimTask(v1.ClaimTaskRequest(**ABOUT)),
    "ClaimNextTask": lambda c: c.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="w")),
    "ReleaseTask": lambda c: c.claims.ReleaseTask(v1.ReleaseTaskRequest(**ABOUT)),
    "CompleteTask": lambda c: c.claims.CompleteTask(v1.CompleteTaskRequest(**ABOUT)),
    "FailTask": lambda c: c.claims.FailTask(v1.FailTaskRequest(**ABOUT)),
    "CreateTask": lambda c: c.tasks.CreateTask(v1.CreateTaskRequest(title="t", worker_id="w")),
    "CreateTaskTree": lambda c: c.tasks.CreateTaskTree(
        v1.CreateTaskTreeRequest(root=v1.TaskNode(title="t"), worker_id="w")
    ),
    "ListTasks": lambda c: c.tasks.ListTasks(v1.ListTasksRequest(qualified_for_worker_id="w")),
    "UpdateTask": lambda c: c.tasks.UpdateTask(v1.UpdateTaskRequest(**ABOUT, title="new")),
    "UpdateTask-assignee": lambda c: c.tasks.UpdateTask(
        v1.UpdateTaskRequest(task_id="task", assignee="w")
    ),
    "DeleteTask": lambda c: c.tasks.DeleteTask(v1.DeleteTaskRequest(**ABOUT)),
    "LinkTasks": lambda c: c.tasks.LinkTasks(
        v1.LinkTasksRequest(worker_id="w", from_task_id="task", to_task_id="next")
    ),
    "UnlinkTasks": lambda c: c.tasks.UnlinkTasks(
        v1.UnlinkTasksRequest(worker_id="w", from_task_id="task", to_task_id="next")
    ),
    "LogMetrics": lambda c: c.tasks.LogMetrics(v1.LogMetricsRequest(**ABOUT)),
    "MarkFiles": lambda c: c.files.MarkFiles(v1.MarkFilesRequest(worker_id="w", paths=["a"])),
    "UnmarkFiles": lambda c: c.files.UnmarkFiles(v1.UnmarkFilesRequest(worker_id="w")),
    "Attach": lambda c: c.attachments.Attach(v1.AttachRequest(**ABOUT, type="note")),
    "Detach": lambda c: c.attachments.Detach(v1.DetachRequest(**ABOUT, type="note", sequence=0)),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
@pytest.mark.parametrize("known", [True, False], ids=["disconnected", "unknown"])
async def test_verbs_of_who_is_not_connected(
    client: Client, verb: Callable[[Client], Awaitable[object]], known: bool
) -> None:
    """Who never connected, or disconnected, is WORKER_NOT_FOUND with every verb; nothing happens.

    The details name the worker.
    """
    for id in ("task", "next"):
        await _create(client, id)
    await client.attachments.Attach(v1.AttachRequest(task_id="task", type="note"))
    if known:
        await _connect(client, "w")
        await _disconnect(client, "w")
    before = await _revision(client), await _list(client, include_disconnected=True)
    with pytest.raises(WorkerNotFound) as caught:
        await verb(client)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert caught.value.resource is not None
    assert (caught.value.resource.type, caught.value.resource.name) == ("worker", "w")
    after = await _revision(client), await _list(client, include_disconnected=True)
    assert after == before
