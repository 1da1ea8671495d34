"""The client of the Work stream: what goes over one stream, and what outlives it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError, Unavailable, Work, WorkerNotFound

if TYPE_CHECKING:
    from tests.client.conftest import Relay


async def _create(client: Client, *ids: str, parent_id: str = "") -> None:
    for id in ids:
        await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id, parent_id=parent_id))


async def _connect(client: Client, id: str, max_claims: int = 1) -> None:
    await client.workers.Connect(v1.ConnectRequest(worker_id=id, max_claims=max_claims))


async def _started(work: Work) -> v1.WorkStarted:
    message = await anext(work)
    assert message.HasField("started")
    return message.started


async def _assigned(work: Work, count: int = 1) -> list[v1.Task]:
    """The next tasks that are assigned, whatever else is told before."""
    tasks: list[v1.Task] = []
    while len(tasks) < count:
        tasks.extend((await anext(work)).assigned.tasks)
    return tasks


def _completion(task: v1.Task) -> v1.CompleteTaskRequest:
    return v1.CompleteTaskRequest(task_id=task.id, claim_revision=task.claim_revision)


async def _happened(client: Client, type: "v1.EventType.ValueType", since: int) -> int:
    """The revision of the first event of this type after a revision, once there is one."""
    only = v1.WatchFilter(event_types=[type])
    async with client.watch(only, start_revision=since + 1) as watch:
        async for message in watch:
            if message.HasField("events"):
                return message.revision
    raise AssertionError


async def test_assigns_as_far_as_the_credit_goes(client: Client) -> None:
    """Each task uses up one credit; a completion that brings one along brings the next task."""
    await _connect(client, "w", max_claims=9)
    await _create(client, "a", "b", "c")
    async with client.work("w") as work:
        started = await _started(work)
        assert (started.worker.id, list(started.held_tasks)) == ("w", [])
        work.grant(2)
        first, second = await _assigned(work, 2)
        assert (first.id, second.id, work.credit) == ("a", "b", 0)
        answer = await work.complete(_completion(first), credit=1)
        assert answer.task.status == "completed"
        assert [task.id for task in await _assigned(work)] == ["c"]
        failed = await work.fail(v1.FailTaskRequest(task_id="b", reason="no"))
        assert failed.task.status == "failed"
        released = await work.release(v1.ReleaseTaskRequest(task_id="c"))
        assert released.task.ready
        assert (await work.heartbeat()).worker.claims_held == 0


async def test_says_why_there_is_nothing(client: Client) -> None:
    """Who has credit and gets nothing is told why, and told again when that changes."""
    await _connect(client, "w")
    async with client.work("w") as work:
        await _started(work)
        work.grant(1)
        assert (await anext(work)).waiting.outcome == v1.CLAIM_OUTCOME_ALL_DONE
        await client.admin.Pause(v1.PauseRequest(by="test"))
        assert (await anext(work)).waiting.outcome == v1.CLAIM_OUTCOME_PAUSED


async def test_tasks_alone(client: Client) -> None:
    """The assigned tasks can be read without the messages that they came in."""
    await _connect(client, "w", max_claims=9)
    await _create(client, "a", "b")
    async with client.work("w") as work:
        work.grant(2)
        tasks = work.tasks()
        assert [(await anext(tasks)).id, (await anext(tasks)).id] == ["a", "b"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        pytest.param(
            v1.CompleteTaskRequest(task_id="a", claim_revision=1), "CLAIM_LOST", id="lost"
        ),
        pytest.param(v1.CompleteTaskRequest(task_id="x"), "TASK_NOT_FOUND", id="unknown"),
        pytest.param(v1.CompleteTaskRequest(task_id="p"), "CHILDREN_OPEN", id="open children"),
        pytest.param(v1.CompleteTaskRequest(), "INVALID_FIELD", id="invalid"),
    ],
)
async def test_refusals_are_those_of_the_call(
    client: Client, request_: v1.CompleteTaskRequest, reason: str
) -> None:
    """What is refused on the stream raises what the unary call raises, and the stream goes on."""
    await _connect(client, "w", max_claims=9)
    await _create(client, "a", "p")
    for id in ("a", "p"):
        await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id=id))
    await _create(client, "child", parent_id="p")
    unary = v1.CompleteTaskRequest(worker_id="w")
    unary.MergeFrom(request_)
    with pytest.raises(TaskloomError) as by_call:
        await client.claims.CompleteTask(unary)
    async with client.work("w") as work:
        with pytest.raises(TaskloomError) as by_stream:
            await work.complete(request_)
        assert type(by_stream.value) is type(by_call.value)
        for field in (
            *("code", "reason", "message", "metadata", "retry_delay"),
            *("violations", "resource"),
        ):
            assert getattr(by_stream.value, field) == getattr(by_call.value, field)
        assert by_stream.value.reason == reason
        assert [each.field for each in by_stream.value.field_violations] == [
            each.field for each in by_call.value.field_violations
        ]
        assert (await work.heartbeat()).worker.id == "w"


async def test_a_stranger_is_told_at_once(client: Client) -> None:
    """Entering raises what the server says instead of starting."""
    with pytest.raises(WorkerNotFound):
        async with client.work("stranger"):
            pytest.fail("nobody knows it")


async def test_no_server_is_told_at_once(relay: "Relay") -> None:
    """Entering raises that nobody is there; only a stream that has been is begun anew."""
    async with Client(relay.address) as client:
        await relay.stop()
        with pytest.raises(Unavailable):
            async with client.work("w"):
                pytest.fail("nobody is there")


async def test_begins_anew_where_it_was(client: Client, relay: "Relay") -> None:
    """After a cut `started` says what the worker holds, credit is gone, and work goes on."""
    await _connect(client, "w", max_claims=9)
    await _create(client, "a")
    async with Client(relay.address) as remote, remote.work("w") as work:
        await _started(work)
        work.grant(3)
        (task,) = await _assigned(work)
        relay.cut()
        again = await anext(work)
        while not again.HasField("started"):
            again = await anext(work)
        assert [(each.id, each.claim_revision) for each in again.started.held_tasks] == [
            ("a", task.claim_revision)
        ]
        assert (work.credit, work.streams) == (0, 2)
        await work.complete(_completion(task), credit=1)
        await _create(client, "b")
        assert [each.id for each in await _assigned(work)] == ["b"]


async def test_a_lost_answer_is_asked_for_again(client: Client, relay: "Relay") -> None:
    """A call whose answer got lost is repeated by its request_id, and has the first answer."""
    await _connect(client, "w")
    await _create(client, "a")
    async with Client(relay.address) as remote, remote.work("w") as work:
        work.grant(1)
        (task,) = await _assigned(work)
        relay.muted = True
        completing = asyncio.create_task(work.complete(_completion(task), credit=1))
        revision = await _happened(client, v1.EVENT_TYPE_TASK_COMPLETED, since=task.claim_revision)
        assert not completing.done()
        relay.cut()
        assert (await completing).revision == revision
        assert work.credit == 0


async def test_a_lost_task_is_found_again(client: Client, relay: "Relay") -> None:
    """A task that was assigned and never arrived is among those that the next `started` names."""
    await _connect(client, "w")
    await _create(client, "a")
    async with Client(relay.address) as remote, remote.work("w") as work:
        await _started(work)
        relay.muted = True
        work.grant(1)
        await _happened(client, v1.EVENT_TYPE_TASK_CLAIMED, since=0)
        relay.cut()
        assert [task.id for task in (await _started(work)).held_tasks] == ["a"]


async def test_drained_and_finished_is_no_break(client: Client) -> None:
    """After drain nothing is assigned; a stream that is finished keeps its claims for the lease."""
    await _connect(client, "w", max_claims=9)
    await _connect(client, "other")
    await _create(client, "a")
    async with client.work("w") as work:
        await _started(work)
        work.grant(5)
        await _assigned(work)
        await work.drain()
        assert work.credit == 0
        await _create(client, "b")
        await work.finish()
    given = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="other"))
    assert [task.id for task in given.tasks] == ["b"]
    workers = await client.workers.ListWorkers(v1.ListWorkersRequest())
    (worker,) = [each for each in workers.workers if each.id == "w"]
    assert worker.claims_held == 1
    assert not worker.HasField("grace_expire_time")


async def test_finishing_waits_for_what_is_under_way(client: Client) -> None:
    """A call that was made before is answered before the stream ends."""
    await _connect(client, "w")
    await _create(client, "a")
    async with client.work("w") as work:
        work.grant(1)
        (task,) = await _assigned(work)
        await work.drain()
        completing = asyncio.create_task(work.complete(_completion(task)))
        await asyncio.sleep(0)
        await work.finish()
        assert completing.done()
        assert (await completing).task.status == "completed"


async def test_finishing_outlives_a_break(client: Client, relay: "Relay") -> None:
    """A stream that breaks as it is to end is begun once more, to end in good order."""
    await _connect(client, "w")
    async with Client(relay.address, timeout=10) as remote, remote.work("w") as work:
        await _started(work)
        await work.drain()
        relay.cut()
        await work.finish()
        assert work.streams == 2


async def test_closing_breaks_it(client: Client) -> None:
    """A stream that is just closed has broken: its worker has a grace, and no longer."""
    await _connect(client, "w")
    async with client.work("w") as work:
        await _started(work)
    while True:
        (worker,) = (await client.workers.ListWorkers(v1.ListWorkersRequest())).workers
        if worker.HasField("grace_expire_time"):
            break


@pytest.mark.parametrize("closed", ["work", "client"])
async def test_closing_tells_everybody(client: Client, relay: "Relay", closed: str) -> None:
    """Who waits when it, or the client, is closed is told: a reader of the end, a call of why."""
    await _connect(client, "w")
    async with Client(relay.address) as remote:
        work = remote.work("w")
        work.open()
        await _started(work)
        relay.muted = True

        async def read() -> list[v1.WorkResponse]:
            return [message async for message in work]

        reading = asyncio.create_task(read())
        calling = asyncio.create_task(work.heartbeat())
        await asyncio.sleep(0)
        await (work.aclose() if closed == "work" else remote.close())
        assert await reading == []
        with pytest.raises(TaskloomError, match="the work stream was closed"):
            await calling
        with pytest.raises(TaskloomError, match="the work stream was closed"):
            await work.heartbeat()


async def test_a_worker_that_is_gone(client: Client) -> None:
    """When the worker disconnects elsewhere its stream is over, for readers and for calls."""
    await _connect(client, "w")
    async with client.work("w") as work:
        await _started(work)
        await client.workers.Disconnect(v1.DisconnectRequest(worker_id="w"))
        with pytest.raises(WorkerNotFound):
            await anext(work)
        with pytest.raises(WorkerNotFound):
            await work.heartbeat()


async def test_patience_of_a_call(start_process: Callable[..., Awaitable[Any]]) -> None:
    """A call that a server leaves unanswered ends with its deadline, as any call does."""
    server = await start_process()
    async with Client(server.address) as client:
        await _connect(client, "w")
    async with Client(server.address, timeout=0.3) as client, client.work("w") as work:
        await _started(work)
        server.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(TaskloomError) as caught:
                await work.heartbeat()
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert str(caught.value).startswith("heartbeat was not answered within 0.3 s")


async def test_survives_a_restart(start_process: Callable[..., Awaitable[Any]]) -> None:
    """A server that is killed, and started again, is found again, and calls under way are made."""
    server = await start_process()
    async with Client(server.address) as client:
        await _connect(client, "w")
        await _create(client, "a")
        async with client.work("w") as work:
            work.grant(1)
            (task,) = await _assigned(work)
            server.process.kill()
            await server.process.wait()
            completing = asyncio.create_task(work.complete(_completion(task)))
            await start_process(db=server.db, listen=server.address)
            assert (await completing).task.status == "completed"
            assert [each.id for each in (await _started(work)).held_tasks] == ["a"]
