"""Leases: what the server does by itself when the time of a claim has come.

The clock is the test's. After it was moved, a test waits for the event that must follow.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import ClaimLost, Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

    StartServer: TypeAlias = Callable[..., AbstractAsyncContextManager[Server]]

LEASE = 60_000
"""Of every worker here, in ms."""


async def _connect(client: Client, id: str, **fields: Any) -> v1.ConnectResponse:
    asked: dict[str, Any] = {"lease": _duration(LEASE), "max_claims": 10} | fields
    return await client.workers.Connect(v1.ConnectRequest(worker_id=id, **asked))


async def _create(client: Client, id: str, **fields: Any) -> v1.Task:
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def _claim(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.ClaimTask(request)).task


async def _complete(client: Client, worker: str, task: str, token: int = 0) -> v1.Task:
    request = v1.CompleteTaskRequest(worker_id=worker, task_id=task, claim_revision=token)
    return (await client.claims.CompleteTask(request)).task


async def _update(client: Client, task: str, **fields: Any) -> v1.Task:
    request = v1.UpdateTaskRequest(task_id=task, **fields)
    return (await client.tasks.UpdateTask(request)).task


async def _show(client: Client, task: str) -> v1.Task:
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def _revision(client: Client) -> int:
    return (await client.admin.GetStatus(v1.GetStatusRequest())).revision


async def _await_event(
    client: Client, type_: v1.EventType.ValueType, task: str, since: int
) -> v1.Event:
    """The first such event after a revision, as soon as it comes."""
    filter_ = v1.WatchFilter(task_ids=[task], event_types=[type_])
    async with asyncio.timeout(10), client.watch(filter_, start_revision=since + 1) as watch:
        async for event in watch.events():
            if event.type == type_:
                return event
    raise AssertionError("the watch ended")


async def _expiry(client: Client, task: str, since: int = 0) -> v1.Event:
    return await _await_event(client, v1.EVENT_TYPE_TASK_LEASE_EXPIRED, task, since)


async def _expired(client: Client, clock: "TestClock", worker: str, **fields: Any) -> v1.Task:
    """A task whose lease has run out, as it was while claimed."""
    await _connect(client, worker)
    await _create(client, "task", **fields)
    claimed = await _claim(client, worker, "task")
    clock.advance(LEASE)
    await _expiry(client, "task")
    return claimed


def _duration(ms: int) -> Duration:
    return Duration(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


def _time(ms: int) -> Timestamp:
    return Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


# The end of a lease


async def test_lease_ends_by_itself(timed_client: Client, clock: "TestClock") -> None:
    """A task whose worker is silent goes back without anybody asking, and has spent an attempt."""
    await _connect(timed_client, "w")
    await _create(timed_client, "task")
    claimed = await _claim(timed_client, "w", "task")
    assert claimed.lease_expire_time.ToMilliseconds() == clock.now() + LEASE
    clock.advance(LEASE)
    event = await _expiry(timed_client, "task")
    assert (event.previous_status, event.worker_id) == ("working", "")
    assert event.time.ToMilliseconds() == clock.now()
    assert "'w'" in event.reason
    task = event.task
    assert (task.status, task.worker_id, task.ready) == ("pending", "", True)
    assert (task.claim_revision, task.attempts) == (0, 1)
    assert not task.HasField("lease_expire_time")
    assert not task.HasField("claim_time")
    assert await _show(timed_client, "task") == task
    workers = await timed_client.workers.ListWorkers(v1.ListWorkersRequest())
    assert workers.workers[0].claims_held == 0
    history = await timed_client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="task"))
    last = history.transitions[-1]
    assert (last.status, last.worker_id, last.reason) == ("pending", "", event.reason)


async def test_lease_lasts_until_its_end(timed_client: Client, clock: "TestClock") -> None:
    """Nothing happens to a claim a millisecond before its lease ends."""
    await _connect(timed_client, "late")
    await _connect(timed_client, "early")
    await _create(timed_client, "one")
    await _create(timed_client, "two")
    await _claim(timed_client, "early", "one")
    clock.advance(1)
    await _claim(timed_client, "late", "two")
    clock.advance(LEASE - 1)
    await _expiry(timed_client, "one")
    assert (await _show(timed_client, "two")).worker_id == "late"
    clock.advance(1)
    await _expiry(timed_client, "two")


async def test_lease_is_of_the_worker_or_of_the_claim(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A claim has its worker's lease unless it was given its own, longer or shorter."""
    await _connect(timed_client, "w")
    for id in ("short", "middle", "long"):
        await _create(timed_client, id)
    start = clock.now()
    middle = await _claim(timed_client, "w", "middle")
    long = await _claim(timed_client, "w", "long", lease=_duration(LEASE * 2))
    request = v1.ClaimNextTaskRequest(worker_id="w", lease=_duration(LEASE // 2))
    [short] = (await timed_client.claims.ClaimNextTask(request)).tasks
    ends = {t.id: t.lease_expire_time.ToMilliseconds() - start for t in (short, middle, long)}
    assert ends == {"short": LEASE // 2, "middle": LEASE, "long": LEASE * 2}
    for id in ("short", "middle", "long"):
        clock.advance(start + ends[id] - clock.now())
        event = await _expiry(timed_client, id)
        assert event.time.ToMilliseconds() == start + ends[id]


async def test_default_lease(timed_client: Client, clock: "TestClock") -> None:
    """A worker that asks for no lease has one of 900 s."""
    await _connect(timed_client, "w", lease=None)
    await _create(timed_client, "task")
    task = await _claim(timed_client, "w", "task")
    assert task.lease_expire_time.ToMilliseconds() == clock.now() + 900_000


async def test_claiming_again_gives_another_lease(timed_client: Client, clock: "TestClock") -> None:
    """A worker that claims what it holds renews the lease, and may say how long it is to be."""
    await _connect(timed_client, "w")
    await _create(timed_client, "task")
    first = await _claim(timed_client, "w", "task")
    clock.advance(LEASE // 2)
    again = await _claim(timed_client, "w", "task")
    assert again.lease_expire_time.ToMilliseconds() == clock.now() + LEASE
    shorter = await _claim(timed_client, "w", "task", lease=_duration(5_000))
    assert shorter.lease_expire_time.ToMilliseconds() == clock.now() + 5_000
    assert shorter.claim_revision == again.claim_revision == first.claim_revision
    assert await _show(timed_client, "task") == shorter
    clock.advance(5_000)
    await _expiry(timed_client, "task")


async def test_all_leases_of_a_worker_end(timed_client: Client, clock: "TestClock") -> None:
    """A worker that went away loses all its tasks; another's are left alone."""
    await _connect(timed_client, "gone")
    await _connect(timed_client, "there")
    for id in ("a", "b", "c"):
        await _create(timed_client, id)
    await _claim(timed_client, "gone", "a")
    await _claim(timed_client, "gone", "b")
    await _claim(timed_client, "there", "c")
    clock.advance(LEASE - 1)
    await timed_client.workers.Heartbeat(v1.HeartbeatRequest(worker_id="there"))
    clock.advance(1)
    await _expiry(timed_client, "b")
    await _expiry(timed_client, "a")
    assert (await _show(timed_client, "c")).worker_id == "there"


# Signs of life

SIGNS_OF_LIFE: dict[str, Callable[[Client], Awaitable[object]]] = {
    "Heartbeat": lambda c: c.workers.Heartbeat(v1.HeartbeatRequest(worker_id="w")),
    "Connect": lambda c: _connect(c, "w"),
    "ClaimTask": lambda c: _claim(c, "w", "free"),
    "ClaimTask-again": lambda c: _claim(c, "w", "task"),
    "ClaimTask-refused": lambda c: _refused(_claim(c, "w", "blocked")),
    "CompleteTask-refused": lambda c: _refused(_complete(c, "w", "parent")),
    "UpdateTask-refused": lambda c: _refused(_update(c, "task", worker_id="w", status="nowhere")),
    "MarkFiles-refused": lambda c: _refused(
        c.files.MarkFiles(v1.MarkFilesRequest(worker_id="w", paths=["a"], task_id="nowhere"))
    ),
    "LogMetrics-refused": lambda c: _refused(
        c.tasks.LogMetrics(v1.LogMetricsRequest(worker_id="w", task_id="nowhere"))
    ),
    "ClaimNextTask": lambda c: c.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="w")),
    "ClaimNextTask-none": lambda c: c.claims.ClaimNextTask(
        v1.ClaimNextTaskRequest(worker_id="w", parent_id="free")
    ),
    "ReleaseTask": lambda c: c.claims.ReleaseTask(
        v1.ReleaseTaskRequest(worker_id="w", task_id="also")
    ),
    "CompleteTask": lambda c: _complete(c, "w", "also"),
    "FailTask": lambda c: c.claims.FailTask(v1.FailTaskRequest(worker_id="w", task_id="also")),
    "CreateTask": lambda c: _create(c, "new", worker_id="w"),
    "CreateTaskTree": lambda c: c.tasks.CreateTaskTree(
        v1.CreateTaskTreeRequest(worker_id="w", root=v1.TaskNode(title="new"))
    ),
    "UpdateTask": lambda c: _update(c, "free", worker_id="w", title="new"),
    "DeleteTask": lambda c: c.tasks.DeleteTask(v1.DeleteTaskRequest(worker_id="w", task_id="free")),
    "LinkTasks": lambda c: c.tasks.LinkTasks(
        v1.LinkTasksRequest(worker_id="w", from_task_id="free", to_task_id="blocked")
    ),
    "UnlinkTasks": lambda c: c.tasks.UnlinkTasks(
        v1.UnlinkTasksRequest(worker_id="w", from_task_id="free", to_task_id="also")
    ),
    "SignalTask": lambda c: c.tasks.SignalTask(v1.SignalTaskRequest(worker_id="w", task_id="free")),
    "BoostTask": lambda c: c.tasks.BoostTask(v1.BoostTaskRequest(worker_id="w", task_id="free")),
    "ClaimTask-advisory": lambda c: _claim(c, "w", "free", mode=v1.CLAIM_MODE_ADVISORY),
    "LogMetrics": lambda c: c.tasks.LogMetrics(v1.LogMetricsRequest(worker_id="w", task_id="free")),
    "MarkFiles": lambda c: c.files.MarkFiles(v1.MarkFilesRequest(worker_id="w", paths=["a"])),
    "UnmarkFiles": lambda c: c.files.UnmarkFiles(v1.UnmarkFilesRequest(worker_id="w")),
    "Attach": lambda c: c.attachments.Attach(
        v1.AttachRequest(worker_id="w", task_id="free", type="note")
    ),
    "Detach": lambda c: c.attachments.Detach(
        v1.DetachRequest(worker_id="w", task_id="free", type="old", sequence=0)
    ),
}


async def _refused(call: Awaitable[object]) -> None:
    with pytest.raises(TaskloomError):
        await call


@pytest.mark.parametrize("sign", SIGNS_OF_LIFE.values(), ids=list(SIGNS_OF_LIFE))
async def test_any_sign_of_life_renews(
    timed_client: Client, clock: "TestClock", sign: Callable[[Client], Awaitable[object]]
) -> None:
    """Whatever call names a worker renews its leases, those of tasks it is not about as well.

    Also one that is refused: whoever asks lives.
    """
    client = timed_client
    await _connect(client, "w")
    await _connect(client, "silent")
    for id in ("task", "also", "silent's", "free"):
        await _create(client, id)
    await _create(client, "blocked", blocked_by=["task"])
    old = v1.AttachRequest(task_id="free", type="old")
    await client.attachments.Attach(old)
    await _create(client, "parent")
    for worker, id in (("w", "task"), ("w", "also"), ("w", "parent"), ("silent", "silent's")):
        await _claim(client, worker, id)
    await _create(client, "child", parent_id="parent")
    clock.advance(LEASE - 1)
    await sign(client)
    task = await _show(client, "task")
    assert task.lease_expire_time.ToMilliseconds() == clock.now() + LEASE
    clock.advance(1)
    await _expiry(client, "silent's")
    assert await _show(client, "task") == task, "its old lease has ended, and it is still held"
    clock.advance(LEASE - 1)
    await _expiry(client, "task")


async def test_lost_claim_is_no_sign_of_life(timed_client: Client, clock: "TestClock") -> None:
    """Who shows a claim that is lost may be an earlier life of the worker, and renews nothing."""
    client = timed_client
    await _connect(client, "w")
    for id in ("task", "lost"):
        await _create(client, id)
    await _claim(client, "w", "task")
    clock.advance(LEASE - 1)
    await _refused(_complete(client, "w", "lost"))
    clock.advance(1)
    await _expiry(client, "task")


async def test_reading_is_no_sign_of_life(timed_client: Client, clock: "TestClock") -> None:
    """A call that only reads renews nothing, though it may name a worker."""
    await _connect(timed_client, "w")
    await _create(timed_client, "task")
    await _claim(timed_client, "w", "task")
    clock.advance(LEASE - 1)
    await timed_client.tasks.ListTasks(v1.ListTasksRequest(owner="w", qualified_for_worker_id="w"))
    await timed_client.files.ListFileMarks(v1.ListFileMarksRequest(worker_id="w"))
    await timed_client.tasks.ExplainTask(v1.ExplainTaskRequest(task_id="task", worker_id="w"))
    clock.advance(1)
    await _expiry(timed_client, "task")


async def test_assignment_has_a_whole_lease(timed_client: Client, clock: "TestClock") -> None:
    """What is assigned to a worker that was long idle is held for a whole lease from then on."""
    await _connect(timed_client, "idle")
    await _connect(timed_client, "silent")
    await _create(timed_client, "task")
    await _create(timed_client, "silent's")
    clock.advance(LEASE // 2)
    await _claim(timed_client, "silent", "silent's")
    clock.advance(LEASE - 1)
    assigned = await _update(timed_client, "task", assignee="idle")
    assert assigned.lease_expire_time.ToMilliseconds() == clock.now() + LEASE
    assert await _show(timed_client, "task") == assigned
    clock.advance(1)
    await _expiry(timed_client, "silent's")
    assert await _show(timed_client, "task") == assigned
    clock.advance(LEASE - 1)
    event = await _expiry(timed_client, "task")
    assert (event.previous_status, event.task.status) == ("assigned", "pending")


@pytest.mark.parametrize("held_back", ["pause", "blocker", "nothing"])
async def test_assignment_that_nobody_began_is_no_attempt(
    timed_client: Client, clock: "TestClock", held_back: str
) -> None:
    """A lease that ends on an assigned task takes it back, and fails nothing."""
    client = timed_client
    await _connect(client, "w")
    await _create(client, "first")
    blocked_by = ["first"] if held_back == "blocker" else []
    await _create(client, "task", max_attempts=1, blocked_by=blocked_by)
    await _update(client, "task", assignee="w")
    if held_back == "pause":
        await client.admin.Pause(v1.PauseRequest(reason="lunch"))
    clock.advance(LEASE)
    event = await _expiry(client, "task")
    assert (event.previous_status, event.task.status) == ("assigned", "pending")
    assert event.task.attempts == 0
    assert not event.task.HasField("not_before")


async def test_assigned_task_begins_with_the_lease_it_asks_for(
    timed_client: Client, clock: "TestClock"
) -> None:
    """The claim that begins an assigned task may set the lease, at whatever moment it comes."""
    await _connect(timed_client, "w")
    await _create(timed_client, "task")
    await _update(timed_client, "task", assignee="w")
    begun = await _claim(timed_client, "w", "task", lease=_duration(5_000))
    assert begun.lease_expire_time.ToMilliseconds() == clock.now() + 5_000
    assert await _show(timed_client, "task") == begun


# Attempts


async def test_last_attempt_fails_the_task(timed_client: Client, clock: "TestClock") -> None:
    """A task whose leases ran out max_attempts times fails, so that it cannot circle for ever."""
    await _connect(timed_client, "w")
    await _create(timed_client, "task", max_attempts=2)
    await _create(timed_client, "next", blocked_by=["task"])
    await _claim(timed_client, "w", "task")
    clock.advance(LEASE)
    await _expiry(timed_client, "task")
    since = await _revision(timed_client)
    await _claim(timed_client, "w", "task")
    clock.advance(LEASE)
    event = await _await_event(timed_client, v1.EVENT_TYPE_TASK_FAILED, "task", since)
    assert (event.task.status, event.task.attempts) == ("failed", 2)
    assert (event.task.worker_id, event.task.claim_revision) == ("w", 0)
    assert not (await _show(timed_client, "next")).ready


async def test_failures_and_lost_leases_count_together(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A failure that was retried is an attempt like a lease that ran out."""
    await _connect(timed_client, "w")
    await _create(timed_client, "task", max_attempts=2)
    await _claim(timed_client, "w", "task")
    request = v1.FailTaskRequest(worker_id="w", task_id="task", retry=True)
    await timed_client.claims.FailTask(request)
    await _claim(timed_client, "w", "task")
    clock.advance(LEASE)
    event = await _await_event(timed_client, v1.EVENT_TYPE_TASK_FAILED, "task", 0)
    assert event.task.attempts == 2


# Work that comes late


@pytest.mark.parametrize("shows_its_claim", [True, False])
async def test_late_completion_is_accepted(
    timed_client: Client, clock: "TestClock", shows_its_claim: bool
) -> None:
    """While nobody took the task since its lease ran out, its worker may still complete it."""
    claimed = await _expired(timed_client, clock, "w")
    await _create(timed_client, "next", blocked_by=["task"])
    token = claimed.claim_revision if shows_its_claim else 0
    done = await _complete(timed_client, "w", "task", token)
    assert (done.status, done.worker_id, done.attempts) == ("completed", "w", 1)
    assert done.claim_time == claimed.claim_time
    assert (await _show(timed_client, "next")).ready


async def test_late_completion_after_the_last_attempt(
    timed_client: Client, clock: "TestClock"
) -> None:
    """Work is not thrown away because the lease that ran out was that of the last attempt."""
    await _connect(timed_client, "w")
    await _create(timed_client, "task", max_attempts=1)
    await _create(timed_client, "next", blocked_by=["task"])
    claimed = await _claim(timed_client, "w", "task")
    clock.advance(LEASE)
    await _await_event(timed_client, v1.EVENT_TYPE_TASK_FAILED, "task", 0)
    done = await _complete(timed_client, "w", "task", claimed.claim_revision)
    assert (done.status, done.worker_id) == ("completed", "w")
    assert (await _show(timed_client, "next")).ready


async def test_late_completion_by_somebody_else(timed_client: Client, clock: "TestClock") -> None:
    """Only the worker whose lease ran out may complete late, and only by that claim."""
    claimed = await _expired(timed_client, clock, "w")
    await _connect(timed_client, "other")
    for worker, token in (("other", claimed.claim_revision), ("other", 0), ("w", 1)):
        with pytest.raises(ClaimLost):
            await _complete(timed_client, worker, "task", token)
    assert (await _show(timed_client, "task")).ready


async def test_late_completion_after_somebody_took_the_task(
    timed_client: Client, clock: "TestClock"
) -> None:
    """Once the task was taken by another, late work is refused, also when he gave it back."""
    claimed = await _expired(timed_client, clock, "w")
    await _connect(timed_client, "other")
    held = await _claim(timed_client, "other", "task")
    for token in (claimed.claim_revision, 0):
        with pytest.raises(ClaimLost):
            await _complete(timed_client, "w", "task", token)
    assert await _show(timed_client, "task") == held
    release = v1.ReleaseTaskRequest(worker_id="other", task_id="task")
    await timed_client.claims.ReleaseTask(release)
    for token in (claimed.claim_revision, 0):
        with pytest.raises(ClaimLost):
            await _complete(timed_client, "w", "task", token)


async def test_only_finished_work_may_come_late(timed_client: Client, clock: "TestClock") -> None:
    """A claim whose lease ran out can complete the task and do nothing else to it."""
    claimed = await _expired(timed_client, clock, "w")
    about: dict[str, Any] = {
        "worker_id": "w",
        "task_id": "task",
        "claim_revision": claimed.claim_revision,
    }
    before = await _show(timed_client, "task")
    calls: list[Awaitable[object]] = [
        timed_client.claims.ReleaseTask(v1.ReleaseTaskRequest(**about)),
        timed_client.claims.FailTask(v1.FailTaskRequest(**about)),
        timed_client.tasks.UpdateTask(v1.UpdateTaskRequest(**about, title="new")),
        timed_client.tasks.LogMetrics(
            v1.LogMetricsRequest(**about, metrics=v1.Metrics(tokens_in=1))
        ),
        timed_client.files.MarkFiles(v1.MarkFilesRequest(**about, paths=["a.py"])),
        timed_client.attachments.Attach(v1.AttachRequest(**about, type="note")),
    ]
    for call in calls:
        with pytest.raises(ClaimLost):
            await call
    assert await _show(timed_client, "task") == before


async def test_late_completion_with_open_children(timed_client: Client, clock: "TestClock") -> None:
    """Late work is held to the same rules: children that are open keep their parent open."""
    claimed = await _expired(timed_client, clock, "w")
    await _create(timed_client, "child", parent_id="task")
    with pytest.raises(TaskloomError, match="child") as caught:
        await _complete(timed_client, "w", "task", claimed.claim_revision)
    assert caught.value.reason == "CHILDREN_OPEN"


# Disconnecting, reconnecting, restarting


async def test_disconnect_gives_back_at_once(timed_client: Client, clock: "TestClock") -> None:
    """A worker that says good-bye gives its tasks back without counting an attempt."""
    await _connect(timed_client, "w")
    await _create(timed_client, "working")
    await _create(timed_client, "assigned")
    await _claim(timed_client, "w", "working")
    await _update(timed_client, "assigned", assignee="w")
    request = v1.DisconnectRequest(worker_id="w", reason="shift is over")
    answer = await timed_client.workers.Disconnect(request)
    assert sorted(answer.released_task_ids) == ["assigned", "working"]
    for id in ("working", "assigned"):
        event = await _await_event(timed_client, v1.EVENT_TYPE_TASK_RELEASED, id, 0)
        assert (event.reason, event.previous_status) == ("shift is over", id)
        task = await _show(timed_client, id)
        assert task == event.task
        assert (task.status, task.worker_id, task.ready) == ("pending", "", True)
        assert (task.claim_revision, task.attempts) == (0, 0)


async def test_reconnect_shows_what_is_held(timed_client: Client, clock: "TestClock") -> None:
    """An agent that crashed and connects again is told what it still holds, and goes on."""
    await _connect(timed_client, "w")
    for id in ("a", "b", "c", "d"):
        await _create(timed_client, id)
    for id in ("a", "b", "c"):
        await _claim(timed_client, "w", id)
    await _complete(timed_client, "w", "b")
    clock.advance(LEASE // 2)
    answer = await _connect(timed_client, "w")
    assert [task.id for task in answer.held_tasks] == ["a", "c"]
    assert answer.worker.claims_held == 2
    for task in answer.held_tasks:
        assert task == await _show(timed_client, task.id)
        assert task.lease_expire_time.ToMilliseconds() == clock.now() + LEASE
        assert (await _complete(timed_client, "w", task.id, task.claim_revision)).status


async def test_reconnect_after_the_lease_ended(timed_client: Client, clock: "TestClock") -> None:
    """An agent that comes back too late holds nothing any more."""
    await _expired(timed_client, clock, "w")
    assert not (await _connect(timed_client, "w")).held_tasks


async def test_restart_meets_what_is_overdue(
    start_server: "StartServer", clock: "TestClock", tmp_path: Path
) -> None:
    """A server that starts again ends the leases, and meets the times, that passed meanwhile."""
    db = tmp_path / "tasks.db"
    async with start_server(db=db, clock=clock) as server, Client(server.address) as client:
        await _connect(client, "w")
        for id in ("overdue", "lasting", "held"):
            await _create(client, id)
        await _create(client, "delayed", not_before=_time(clock.now() + 10_000))
        await _claim(client, "w", "overdue")
        await _claim(client, "w", "lasting", lease=_duration(LEASE * 2))
    clock.advance(LEASE)
    async with start_server(db=db, clock=clock) as server, Client(server.address) as client:
        event = await _expiry(client, "overdue")
        assert event.time.ToMilliseconds() == clock.now()
        await _await_event(client, v1.EVENT_TYPE_TASK_READY, "delayed", 0)
        assert (await _show(client, "lasting")).worker_id == "w"
        clock.advance(LEASE)
        await _expiry(client, "lasting")


async def test_restart_keeps_claims(
    start_server: "StartServer", clock: "TestClock", tmp_path: Path
) -> None:
    """A claim outlives the server: its worker goes on after a restart as if nothing had been."""
    db = tmp_path / "tasks.db"
    async with start_server(db=db, clock=clock) as server, Client(server.address) as client:
        await _connect(client, "w")
        await _create(client, "task")
        claimed = await _claim(client, "w", "task")
    clock.advance(LEASE - 1)
    async with start_server(db=db, clock=clock) as server, Client(server.address) as client:
        assert await _show(client, "task") == claimed
        done = await _complete(client, "w", "task", claimed.claim_revision)
        assert done.status == "completed"
