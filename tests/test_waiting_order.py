"""The order of those who wait for tasks, by the test's clock."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from grpc import aio
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    duration,
    heartbeat,
    show_worker,
    update,
)

if TYPE_CHECKING:
    from tests.conftest import Server


async def _joins(client: Client, clock: Any, worker: str, **fields: Any) -> asyncio.Task[Any]:
    """A call that has taken its place in the line before this returns."""
    clock.advance(1)
    waits = claim_next(client, worker, wait=duration(20_000), **fields)
    call = asyncio.create_task(waits)
    while (await show_worker(client, worker)).heartbeat_time.ToMilliseconds() < clock.now():
        pass
    return call


async def _given(call: asyncio.Task[Any]) -> list[str]:
    """The tasks that a waiting call is given."""
    async with asyncio.timeout(5):
        return [task.id for task in (await call).tasks]


@pytest.fixture
async def timed_graph(timed_client: Client) -> Client:
    """As ``graph``, by the test's clock."""
    await create(timed_client, "open", needed_tags=["nobody-has-this"])
    return timed_client


async def _tire(client: Client, worker: str, seconds: int) -> None:
    """Let a worker rest for so long from now."""
    await connect(client, worker, max_claims=2, cool_down=duration(seconds * 1_000))
    await create(client, f"{worker}'s")
    await claim(client, worker, f"{worker}'s")
    await complete(client, worker, f"{worker}'s")


async def test_one_who_rests_holds_nobody_up(timed_graph: Client, clock: Any) -> None:
    """A task goes past those at the head who rest, to the first behind them with the same tags."""
    for worker in ("ada", "eve"):
        await _tire(timed_graph, worker, 10)
    await connect(timed_graph, "bob")
    resting = [await _joins(timed_graph, clock, worker) for worker in ("ada", "eve")]
    bob = await _joins(timed_graph, clock, "bob")
    await create(timed_graph, "task")
    assert await _given(bob) == ["task"]
    assert not any(call.done() for call in resting)
    for call in resting:
        call.cancel()


async def test_one_who_begins_to_rest_while_waiting_holds_nobody_up(
    timed_graph: Client, clock: Any
) -> None:
    """Who ends a task while another call of its waits does not keep the line from those behind."""
    await connect(timed_graph, "ada", max_claims=2, cool_down=duration(10_000))
    await connect(timed_graph, "bob")
    await create(timed_graph, "first")
    await claim(timed_graph, "ada", "first")
    ada = await _joins(timed_graph, clock, "ada")
    bob = await _joins(timed_graph, clock, "bob")
    await complete(timed_graph, "ada", "first")
    await create(timed_graph, "task")
    assert await _given(bob) == ["task"]
    assert not ada.done()
    ada.cancel()


async def test_a_rest_costs_nobody_his_place(timed_graph: Client, clock: Any) -> None:
    """Once its rest is over a worker stands where it stood: before those who came after it."""
    await _tire(timed_graph, "ada", 5)
    await connect(timed_graph, "bob")
    ada = await _joins(timed_graph, clock, "ada")
    bob = await _joins(timed_graph, clock, "bob")
    clock.advance(5_000)
    await heartbeat(timed_graph, "bob")  # a change, with which what is due is seen to
    await create(timed_graph, "one")
    assert await _given(ada) == ["one"]
    assert not bob.done()
    await create(timed_graph, "two")
    assert await _given(bob) == ["two"]


async def test_two_calls_that_come_due_together_are_given_a_task_each(
    timed_server: "Server", timed_graph: Client, clock: Any
) -> None:
    """Of a worker whose rest is over each waiting call is answered once, with what it then has.

    It had worked on the tasks beside others: taking one of them over leaves it room for more, by
    which the second call is asked while it is about to be.
    """
    tasks = ("one", "two", "three")
    await connect(timed_graph, "ada", max_claims=9, cool_down=duration(5_000))
    await connect(timed_graph, "bob")
    for task in ("first", *tasks):
        await create(timed_graph, task)
    for task in tasks:
        await claim(timed_graph, "ada", task, mode=v1.CLAIM_MODE_ADVISORY)
    await claim(timed_graph, "ada", "first")
    await complete(timed_graph, "ada", "first")
    async with aio.insecure_channel(timed_server.address) as channel:
        stub: Any = v1.ClaimServiceStub(channel)  # which names no requests
        request = v1.ClaimNextTaskRequest(worker_id="ada", wait=duration(60_000))
        calls = []
        for _ in range(2):
            clock.advance(1)
            calls.append(asyncio.ensure_future(stub.ClaimNextTask(request)))
            while (
                await show_worker(timed_graph, "ada")
            ).heartbeat_time.ToMilliseconds() < clock.now():
                pass
        clock.advance(5_000)
        await heartbeat(timed_graph, "bob")  # a change, with which what is due is seen to
        given = [task.id for call in calls for task in (await call).tasks]
    listed = (await timed_graph.tasks.ListTasks(v1.ListTasksRequest(owner="ada"))).tasks
    assert sorted(given) == sorted(task.id for task in listed if task.claim_revision)


async def test_a_second_call_beyond_the_limit_holds_nobody_up(
    timed_graph: Client, clock: Any
) -> None:
    """A worker with room for one task that waits twice is told so; the task goes to the next."""
    for worker in ("ada", "bob"):
        await connect(timed_graph, worker)
    first = await _joins(timed_graph, clock, "ada")
    second = await _joins(timed_graph, clock, "ada")
    bob = await _joins(timed_graph, clock, "bob")
    await create(timed_graph, "one")
    assert await _given(first) == ["one"]
    await create(timed_graph, "two")
    assert await _given(bob) == ["two"]
    assert (await second).outcome == v1.CLAIM_OUTCOME_LIMIT_REACHED


async def test_a_retry_keeps_the_place_of_the_call_before(timed_graph: Client, clock: Any) -> None:
    """The same request again stands where the first stood, not behind those who came meanwhile."""
    for worker in ("ada", "bob"):
        await connect(timed_graph, worker)
    first = await _joins(timed_graph, clock, "ada", request_id="r1")
    bob = await _joins(timed_graph, clock, "bob")
    second = await _joins(timed_graph, clock, "ada", request_id="r1")
    with pytest.raises(TaskloomError) as refused:
        await first
    assert refused.value.reason == "SUPERSEDED"
    await create(timed_graph, "task")
    assert await _given(second) == ["task"]
    assert not bob.done()
    bob.cancel()


@pytest.mark.parametrize("first", ["full", "shares"])
async def test_first_come_first_served_whatever_their_tags(
    timed_graph: Client, clock: Any, first: str
) -> None:
    """Past one who cannot take a task alone it goes to the next in line, not to one like him."""
    await connect(timed_graph, "plain", "last")
    await connect(timed_graph, "gpu", tags=["gpu"])
    mode = v1.CLAIM_MODE_ADVISORY if first == "shares" else v1.CLAIM_MODE_EXCLUSIVE
    head = await _joins(timed_graph, clock, "plain", mode=mode)
    gpu = await _joins(timed_graph, clock, "gpu")
    last = await _joins(timed_graph, clock, "last")
    if first == "full":
        await create(timed_graph, "assigned", blocked_by=["open"])
        await update(timed_graph, "assigned", assignee="plain")
    await create(timed_graph, "task")
    try:
        assert await _given(gpu) == ["task"]
        assert not last.done()
    finally:
        for call in (head, gpu, last):
            call.cancel()


CONTAINS = v1.DEPENDENCY_TYPE_CONTAINS


@pytest.mark.parametrize(
    ("how", "scope"),
    [
        ("unlinked", "middle"),
        ("unlinked with its parent", "top"),
        ("relinked with its parent", "top"),
        ("deleted", "middle"),
        ("cancelled", "middle"),
    ],
)
async def test_the_end_of_a_scope(timed_graph: Client, clock: Any, how: str, scope: str) -> None:
    """Who waits below a task is told ALL_DONE when its last open one is taken out of it or ends."""
    tasks = timed_graph.tasks
    for id, parent in (("top", ""), ("middle", "top"), ("child", "middle"), ("elsewhere", "")):
        await create(timed_graph, id, needed_tags=["x"], parent_id=parent)
    await connect(timed_graph, "ada")
    call = await _joins(timed_graph, clock, "ada", parent_id=scope)
    out = v1.Dependency(from_task_id="top", to_task_id="middle", type=CONTAINS)
    into = v1.Dependency(from_task_id="elsewhere", to_task_id="middle", type=CONTAINS)
    match how:
        case "unlinked":
            await tasks.UnlinkTasks(
                v1.UnlinkTasksRequest(from_task_id="middle", to_task_id="child", type=CONTAINS)
            )
        case "unlinked with its parent":
            await tasks.UnlinkTasks(
                v1.UnlinkTasksRequest(from_task_id="top", to_task_id="middle", type=CONTAINS)
            )
        case "relinked with its parent":
            await tasks.RelinkTasks(v1.RelinkTasksRequest(remove=[out], add=[into]))
        case "deleted":
            await tasks.DeleteTask(v1.DeleteTaskRequest(task_id="child"))
        case "cancelled":
            await update(timed_graph, "child", status="cancelled")
    try:
        async with asyncio.timeout(5):
            assert (await asyncio.shield(call)).outcome == v1.CLAIM_OUTCOME_ALL_DONE
    finally:
        call.cancel()


async def test_what_is_moved_below_a_task_goes_to_who_waits_there(
    timed_graph: Client, clock: Any
) -> None:
    """Who waits below a task is given a ready task that is linked into it, with its children."""
    await connect(timed_graph, "ada", "bob")
    await create(timed_graph, "top", needed_tags=["x"])
    await create(timed_graph, "hold", parent_id="top", needed_tags=["x"])
    for id, parent in (("moved", ""), ("below", "moved")):
        await create(timed_graph, id, parent_id=parent)
    call = await _joins(timed_graph, clock, "ada", parent_id="top")
    link = v1.LinkTasksRequest(
        from_task_id="top", to_task_id="moved", type=v1.DEPENDENCY_TYPE_CONTAINS
    )
    await timed_graph.tasks.LinkTasks(link)
    try:
        assert await _given(call) == ["below"]
    finally:
        call.cancel()


async def test_who_waits_longest_is_served_first_when_tasks_of_many_kinds_become_ready(
    timed_graph: Client, clock: Any
) -> None:
    """One verb that frees tasks asking different tags: the first in line takes the best of all."""
    await connect(timed_graph, "both", tags=["cpu", "gpu"])
    await connect(timed_graph, "cpu", tags=["cpu"])
    await connect(timed_graph, "busy")
    await create(timed_graph, "first")
    await claim(timed_graph, "busy", "first")
    for tag, priority in (("cpu", 5), ("gpu", 9)):
        await create(timed_graph, tag, blocked_by=["first"], needed_tags=[tag], priority=priority)
    both = await _joins(timed_graph, clock, "both")
    cpu = await _joins(timed_graph, clock, "cpu")
    await complete(timed_graph, "busy", "first")
    try:
        assert await _given(both) == ["gpu"]
        assert await _given(cpu) == ["cpu"]
    finally:
        both.cancel()
        cpu.cancel()


async def test_two_who_may_take_only_one_kind_do_not_pass_by_the_first(
    timed_graph: Client, clock: Any
) -> None:
    """The one task that a later one could take as well goes to who came first."""
    await connect(timed_graph, "late", tags=["cpu"])
    await connect(timed_graph, "early", tags=["cpu", "gpu"])
    await connect(timed_graph, "busy")
    await create(timed_graph, "first")
    await claim(timed_graph, "busy", "first")
    await create(timed_graph, "gpu", blocked_by=["first"], needed_tags=["gpu"], priority=1)
    await create(timed_graph, "cpu", blocked_by=["first"], needed_tags=["cpu"], priority=9)
    early = await _joins(timed_graph, clock, "early")
    late = await _joins(timed_graph, clock, "late")
    await complete(timed_graph, "busy", "first")
    try:
        assert await _given(early) == ["cpu"], "the best of what he may take"
        assert not late.done()
    finally:
        early.cancel()
        late.cancel()
