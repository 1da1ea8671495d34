"""Parked states: a task waits for something outside, stays its worker's, and no lease runs."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    disconnect,
    duration,
    event,
    events,
    fail,
    heartbeat,
    pause,
    refusal,
    release,
    show,
    show_worker,
    status,
    update,
)

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

    StartServer: TypeAlias = Callable[..., AbstractAsyncContextManager[Server]]

LEASE = 60_000
"""Of every worker here, in ms."""
LONG = 1_000 * LEASE
EXPIRED = v1.EVENT_TYPE_TASK_LEASE_EXPIRED


async def parked(client: Client, id: str = "a", **fields: Any) -> v1.Task:
    """A task that worker w has parked."""
    await connect(client, "w", lease=duration(LEASE))
    await create(client, id, **fields)
    await claim(client, "w", id)
    return await update(client, id, worker_id="w", status="waiting", reason="review")


async def passed(client: Client, clock: "TestClock", ms: int) -> None:
    """Let so much time pass, and the server do what is due by then."""
    id = f"at-{clock.now() + ms}"
    request = v1.CreateTaskRequest(id=id, title=id, needed_tags=["nobody-has-this"])
    request.not_before.FromMilliseconds(clock.now() + ms)
    await client.tasks.CreateTask(request)
    clock.advance(ms)
    await event(client, v1.EVENT_TYPE_TASK_READY, id)


# While it is parked


async def test_parked_stays_its_workers(timed_client: Client, clock: "TestClock") -> None:
    """A parked task keeps owner and claim, and has no lease that could end, however silent w is."""
    await connect(timed_client, "w", lease=duration(LEASE))
    await create(timed_client, "a")
    claimed = await claim(timed_client, "w", "a")
    clock.advance(LEASE - 1)
    task = await update(timed_client, "a", worker_id="w", status="waiting")
    assert (task.status, task.worker_id, task.ready) == ("waiting", "w", False)
    assert task.claim_revision == claimed.claim_revision
    assert not task.HasField("lease_expire_time")
    await passed(timed_client, clock, LONG)
    assert await show(timed_client, "a") == task
    assert (await status(timed_client)).claimed_tasks == 1


async def test_parking_is_told(client: Client) -> None:
    """Parking is a move like others: one event, one transition, the work done so far is counted."""
    task = await parked(client)
    assert await events(client, task.revision, task.revision) == [
        ("TASK_MOVED", "a", task.revision)
    ]
    told = await event(client, v1.EVENT_TYPE_TASK_MOVED, "a")
    assert (told.previous_status, told.task, told.reason) == ("working", task, "review")
    history = await client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="a"))
    last = history.transitions[-1]
    assert (last.status, last.worker_id, last.reason) == ("waiting", "w", "review")


async def test_waiting_time_is_no_working_time(timed_client: Client, clock: "TestClock") -> None:
    """Time in a parked state is not counted as spent on the task."""
    await connect(timed_client, "w")
    await create(timed_client, "a")
    await claim(timed_client, "w", "a")
    clock.advance(1_000)
    task = await update(timed_client, "a", status="waiting")
    assert task.time_actual.ToMilliseconds() == 1_000
    clock.advance(50_000)
    await update(timed_client, "a", status="working")
    clock.advance(3_000)
    done = await complete(timed_client, "w", "a")
    assert done.time_actual.ToMilliseconds() == 4_000


async def test_parked_is_not_counted(client: Client) -> None:
    """What a worker has parked does not keep it from taking as many tasks as it may hold."""
    await connect(client, "w", max_claims=1)
    await create(client, "a")
    await create(client, "b")
    await claim(client, "w", "a")
    assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_LIMIT_REACHED
    await update(client, "a", status="waiting")
    assert (await show_worker(client, "w")).claims_held == 0
    assert [task.id for task in (await claim_next(client, "w")).tasks] == ["b"]
    assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_LIMIT_REACHED
    worker = await show_worker(client, "w")
    assert (worker.claims_held, (await heartbeat(client, "w")).worker.claims_held) == (1, 1)


async def test_parked_is_not_counted_by_connect(client: Client) -> None:
    """The worker that Connect shows holds as many tasks as any other call says."""
    await parked(client)
    request = v1.ConnectRequest(worker_id="w")
    answer = await client.workers.Connect(request)
    assert [task.id for task in answer.held_tasks] == ["a"]
    assert answer.worker.claims_held == 0


async def test_nobody_takes_it(client: Client) -> None:
    """A parked task is not given to others, by name or as the next."""
    task = await parked(client)
    await connect(client, "other")
    error = await refusal(claim(client, "other", "a"))
    assert (error.reason, error.metadata["holder"]) == ("TASK_CLAIMED", "w")
    await create(client, "open", needed_tags=["nobody-has-this"])
    assert (await claim_next(client, "other")).outcome == v1.CLAIM_OUTCOME_NONE_READY
    assert (await refusal(complete(client, "other", "a"))).reason == "CLAIM_LOST"
    assert await show(client, "a") == task


async def test_claiming_it_again_changes_nothing(client: Client) -> None:
    """Its worker holds it already, so that a claim by name gives it back as it is."""
    task = await parked(client)
    assert await claim(client, "w", "a") == task
    assert await claim(client, "w", "a", lease=duration(5_000)) == task


async def test_heartbeat_tells_no_lease_of_it(timed_client: Client, clock: "TestClock") -> None:
    """A heartbeat leaves a parked task alone; it tells the end of leases that run."""
    task = await parked(timed_client)
    assert not (await heartbeat(timed_client, "w")).HasField("lease_expire_time")
    assert await show(timed_client, "a") == task
    await create(timed_client, "b")
    await claim(timed_client, "w", "b")
    answer = await heartbeat(timed_client, "w")
    assert answer.lease_expire_time.ToMilliseconds() == clock.now() + LEASE


async def test_others_lose_their_lease_beside_it(timed_client: Client, clock: "TestClock") -> None:
    """A silent worker loses what it works on, and keeps what is parked."""
    await parked(timed_client)
    await create(timed_client, "b")
    await claim(timed_client, "w", "b")
    clock.advance(LEASE)
    await event(timed_client, EXPIRED, "b")
    assert (await show(timed_client, "a")).worker_id == "w"


async def test_it_blocks_as_open_tasks_do(client: Client) -> None:
    """What depends on a parked task waits for it, and so does its parent."""
    await create(client, "top")
    await parked(client, parent_id="top")
    await create(client, "b", blocked_by=["a"])
    assert not (await show(client, "b")).ready
    assert (await show(client, "top")).status == "pending"
    await complete(client, "w", "a")
    assert (await show(client, "b")).ready
    assert (await show(client, "top")).status == "completed"


# Going on


@pytest.mark.parametrize("by", ["w", ""], ids=["by its worker", "by a person"])
async def test_going_on_starts_the_lease_anew(
    timed_client: Client, clock: "TestClock", by: str
) -> None:
    """Back at work the claim has its lease again, in full and from then, under the same token."""
    await connect(timed_client, "w", lease=duration(LEASE))
    await create(timed_client, "a")
    claimed = await claim(timed_client, "w", "a", lease=duration(LEASE // 2))
    clock.advance(LEASE // 2 - 1)
    await update(timed_client, "a", worker_id=by, status="waiting")
    clock.advance(LONG)
    task = await update(timed_client, "a", worker_id=by, status="working")
    assert (task.status, task.worker_id) == ("working", "w")
    assert task.claim_revision == claimed.claim_revision
    assert task.lease_expire_time.ToMilliseconds() == clock.now() + LEASE // 2
    assert await show(timed_client, "a") == task
    await passed(timed_client, clock, LEASE // 2 - 1)
    assert (await show(timed_client, "a")).worker_id == "w"
    clock.advance(1)
    ended = await event(timed_client, EXPIRED, "a")
    assert ended.time.ToMilliseconds() == clock.now()
    assert (ended.task.ready, ended.task.attempts) == (True, 1)


async def test_parked_twice(timed_client: Client, clock: "TestClock") -> None:
    """A task may be parked again, and its lease is the one it had."""
    await parked(timed_client)
    for _ in range(2):
        await update(timed_client, "a", status="working")
        clock.advance(LEASE - 1)
        await update(timed_client, "a", status="waiting")
        await passed(timed_client, clock, LONG)
    task = await update(timed_client, "a", status="working")
    assert task.lease_expire_time.ToMilliseconds() == clock.now() + LEASE


async def by_pause(client: Client) -> None:
    """Claims are paused."""
    await pause(client)


async def by_paused_subtree(client: Client) -> None:
    """The task is paused."""
    await pause(client, "a")


async def by_blocker(client: Client) -> None:
    """The task was linked behind another one."""
    await create(client, "before")
    await client.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id="before", to_task_id="a"))


async def by_child(client: Client) -> None:
    """The task was given a child."""
    await create(client, "child", parent_id="a")


async def by_limit(client: Client) -> None:
    """The worker took another task meanwhile."""
    await create(client, "b")
    await claim(client, "w", "b")


OBSTACLES = [by_pause, by_paused_subtree, by_blocker, by_child, by_limit]


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda obstacle: obstacle.__name__)
async def test_a_person_lets_it_go_on(
    client: Client, obstacle: Callable[[Client], Awaitable[None]]
) -> None:
    """To go on is no start: what keeps tasks from being begun does not keep a person from that."""
    await parked(client)
    await obstacle(client)
    task = await update(client, "a", status="working")
    assert (task.status, task.worker_id) == ("working", "w")


# Out of it


async def test_ends_from_there(timed_client: Client, clock: "TestClock") -> None:
    """A parked task may be completed, failed and released by its worker, and cancelled."""
    await connect(timed_client, "w", max_claims=9, lease=duration(LEASE))
    for id in ("completed", "failed", "tried-again", "released", "cancelled"):
        await create(timed_client, id)
        await claim(timed_client, "w", id)
        await update(timed_client, id, status="waiting")
    clock.advance(LONG)
    tasks = [
        await complete(timed_client, "w", "completed"),
        await fail(timed_client, "w", "failed"),
        await fail(timed_client, "w", "tried-again", retry=True),
        await release(timed_client, "w", "released"),
        await update(timed_client, "cancelled", status="cancelled"),
    ]
    assert [(task.status, task.worker_id, task.attempts) for task in tasks] == [
        ("completed", "w", 0),
        ("failed", "w", 1),
        ("pending", "", 1),
        ("pending", "", 0),
        ("cancelled", "w", 0),
    ]
    assert [task.ready for task in tasks] == [False, False, True, True, False]
    assert not any(task.claim_revision for task in tasks)
    assert (await status(timed_client)).claimed_tasks == 0
    # And the next claim of it runs for its own time.
    claimed = await claim(timed_client, "w", "released")
    assert claimed.lease_expire_time.ToMilliseconds() == clock.now() + LEASE


async def test_claim_is_checked_there(client: Client) -> None:
    """The claim revision of a parked task guards it as any other."""
    task = await parked(client)
    error = await refusal(complete(client, "w", "a", claim_revision=task.claim_revision + 1))
    assert error.reason == "CLAIM_LOST"
    await connect(client, "other")
    error = await refusal(update(client, "a", worker_id="other", status="working"))
    assert error.reason == "CLAIM_LOST"
    assert (await complete(client, "w", "a", claim_revision=task.claim_revision)).status


async def test_disconnect_frees_it(client: Client) -> None:
    """A worker that disconnects gives back what it has parked, too."""
    await parked(client)
    answer = await disconnect(client, "w")
    assert list(answer.released_task_ids) == ["a"]
    task = await show(client, "a")
    assert (task.status, task.worker_id, task.ready) == ("pending", "", True)


async def test_a_person_takes_it_away(client: Client) -> None:
    """A person may end a parked task, or take it from its worker."""
    await parked(client)
    task = await update(client, "a", assignee="")
    assert (task.status, task.worker_id, task.ready) == ("pending", "", True)
    await claim(client, "w", "a")
    await update(client, "a", status="waiting")
    task = await update(client, "a", status="completed", reason="approved")
    assert (task.status, task.worker_id, task.claim_revision) == ("completed", "w", 0)


async def test_deletion_needs_force(client: Client) -> None:
    """A parked task is claimed, so its deletion must be forced."""
    await parked(client)
    request = v1.DeleteTaskRequest(task_id="a")
    assert (await refusal(client.tasks.DeleteTask(request))).reason == "TASK_CLAIMED"
    request.force = True
    await client.tasks.DeleteTask(request)
    assert (await status(client)).claimed_tasks == 0


@pytest.mark.parametrize("state", ["pending", "assigned", "completed", "failed"])
async def test_only_work_is_parked(client: Client, state: str) -> None:
    """What nobody works on cannot be parked."""
    await connect(client, "w")
    await create(client, "a")
    if state == "assigned":
        await update(client, "a", assignee="w")
    elif state != "pending":
        await claim(client, "w", "a")
        await update(client, "a", status=state)
    error = await refusal(update(client, "a", status="waiting"))
    assert error.reason == "ILLEGAL_TRANSITION"


async def test_only_held_tasks_are_parked(start_server: "StartServer", tmp_path: Any) -> None:
    """Also where a workflow lets free tasks be parked, that needs a worker: the field is named."""
    workflow = tmp_path / "open.yaml"
    workflow.write_text(OPEN, encoding="utf-8")
    async with (
        start_server(workflow_dir=tmp_path, default_workflow="open") as server,
        Client(server.address) as client,
    ):
        await create(client, "a")
        error = await refusal(update(client, "a", status="asking"))
        assert [violation.field for violation in error.field_violations] == ["status"]
        assert "needs a worker" in error.message


OPEN = """\
name: open
states:
  todo: {exits: [doing, asking, dropped]}
  doing: {exits: [todo, asking, done, broken], timed: true}
  asking: {exits: [doing], parked: true}
  done: {exits: [], terminal: true}
  broken: {exits: [], terminal: true}
  dropped: {exits: [], terminal: true}
settings:
  initial_state: todo
  assign_state: doing
  claim_state: doing
  complete_state: done
  fail_state: broken
  cancel_state: dropped
  disconnect_state: todo
  blocking_states: [todo, doing, asking]
"""


# Over a restart


async def test_parked_over_a_restart(start_server: "StartServer", clock: "TestClock") -> None:
    """A restart leaves a parked task parked; its lease is there again when it goes on."""
    async with start_server(clock=clock) as server, Client(server.address) as client:
        task = await parked(client)
    clock.advance(LONG)
    async with start_server(clock=clock) as server, Client(server.address) as client:
        await passed(client, clock, LONG)
        assert await show(client, "a") == task
        going = await update(client, "a", worker_id="w", status="working")
        assert going.claim_revision == task.claim_revision
        assert going.lease_expire_time.ToMilliseconds() == clock.now() + LEASE
    async with start_server(clock=clock) as server, Client(server.address) as client:
        clock.advance(LEASE)
        await event(client, EXPIRED, "a")
