"""Budgets: what a task and all below it may cost, and what becomes of them when that is spent."""

import random
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    duration,
    event,
    fail,
    heartbeat,
    refusal,
    release,
    show,
    status,
    update,
)
from tests.test_snapshots import bring_in, reset, take_out

if TYPE_CHECKING:
    from tests.conftest import TestClock

LEASE = 60_000
CONTAINS = v1.DEPENDENCY_TYPE_CONTAINS


async def spend(client: Client, task: str, usd: float, **fields: Any) -> None:
    """Log what a task cost."""
    metrics = v1.Metrics(cost_usd=usd)
    await client.tasks.LogMetrics(v1.LogMetricsRequest(task_id=task, metrics=metrics, **fields))


async def spent(client: Client, task: str) -> v1.Budget:
    """What was spent of a task's budget."""
    return (await client.tasks.GetMetrics(v1.GetMetricsRequest(task_id=task))).budget


async def obstacles(client: Client, task: str) -> list[v1.Obstacle]:
    """What is in the way of a task."""
    answer = await client.tasks.ExplainTask(v1.ExplainTaskRequest(task_id=task))
    return list(answer.obstacles)


async def ready(client: Client) -> set[str]:
    """The tasks that are ready."""
    answer = await client.tasks.ListTasks(v1.ListTasksRequest(ready=True, page_size=1_000))
    return {task.id for task in answer.tasks}


async def move(client: Client, task: str, old: str, new: str) -> None:
    """Put a task below another parent."""
    await client.tasks.RelinkTasks(
        v1.RelinkTasksRequest(
            remove=[v1.Dependency(from_task_id=old, to_task_id=task, type=CONTAINS)],
            add=[v1.Dependency(from_task_id=new, to_task_id=task, type=CONTAINS)],
        )
    )


async def test_a_spent_budget_holds_back_all_below(client: Client) -> None:
    """What one task cost counts for all below the one with the budget: none is given out then."""
    await connect(client, "w", max_claims=9)
    await create(client, "top", max_cost_usd=1.0)
    for id in ("a", "b"):
        await create(client, id, parent_id="top")
    await create(client, "elsewhere", priority=0)
    await spend(client, "a", 0.4)
    assert await ready(client) == {"a", "b", "elsewhere"}
    since = (await status(client)).revision
    await spend(client, "a", 0.6)
    told = await event(client, v1.EVENT_TYPE_BUDGET_SPENT, since=since)
    assert (told.task_id, told.reason) == ("top", "1 of 1 USD")
    assert await ready(client) == {"elsewhere"}
    assert [t.id for t in (await claim_next(client, "w", max_tasks=9)).tasks] == ["elsewhere"]
    assert (await refusal(update(client, "b", assignee="w"))).reason == "BUDGET_EXCEEDED"
    error = await refusal(claim(client, "w", "b"))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BUDGET_EXCEEDED")
    assert error.metadata == {
        "budget_task_id": "top",
        "budget": "cost_usd",
        "spent": "1",
        "limit": "1",
    }
    [obstacle] = [o for o in await obstacles(client, "b") if o.type == v1.OBSTACLE_TYPE_BUDGET]
    assert list(obstacle.task_ids) == ["top"]
    assert list((await status(client)).over_budget_task_ids) == ["top"]
    budget = await spent(client, "top")
    assert (budget.max_cost_usd, budget.cost_usd, budget.spent) == (1.0, 1.0, True)


async def test_a_raised_budget_lets_go(client: Client) -> None:
    """With more to spend, or no budget, the tasks are ready again, and those who watch hear it."""
    await create(client, "top", max_cost_usd=1.0)
    await create(client, "a", parent_id="top")
    for limit in (3.0, 0.0):
        await update(client, "top", max_cost_usd=1.0)
        await spend(client, "a", 1.0)
        assert await ready(client) == set()
        answer = await client.tasks.UpdateTask(
            v1.UpdateTaskRequest(task_id="top", max_cost_usd=limit)
        )
        assert list(answer.unblocked_task_ids) == ["a"]
        assert answer.task.HasField("max_cost_usd") == bool(limit)
        assert await ready(client) == {"a"}
    assert not (await client.tasks.GetMetrics(v1.GetMetricsRequest(task_id="top"))).HasField(
        "budget"
    )


async def test_logging_is_never_refused(client: Client) -> None:
    """Over budget, too, what was spent is written down."""
    await create(client, "a", max_cost_usd=0.5)
    for _ in range(3):
        await spend(client, "a", 0.4)
    assert (await show(client, "a")).metrics.cost_usd == pytest.approx(1.2)


async def test_ten_dimes_are_a_dollar(client: Client) -> None:
    """A budget is spent when so much is, though floating point falls short of it."""
    await create(client, "a", max_cost_usd=1.0)
    for n in range(10):
        assert await ready(client) == {"a"}, n
        await spend(client, "a", 0.1)
    assert await ready(client) == set()


async def test_attempts_of_a_subtree(client: Client) -> None:
    """Failed attempts at tasks below count together; reopening a task gives its attempts back."""
    await connect(client, "w", max_claims=9)
    await create(client, "top", max_subtree_attempts=3)
    for id in ("a", "b"):
        await create(client, id, parent_id="top")
    for id in ("a", "a", "b"):
        await claim(client, "w", id)
        await fail(client, "w", id, retry=True)
    assert await ready(client) == set()
    error = await refusal(claim(client, "w", "b"))
    assert (error.metadata["budget"], error.metadata["spent"]) == ("attempts", "3")
    await update(client, "a", status="cancelled")
    assert await ready(client) == set()
    await update(client, "top", max_subtree_attempts=4)
    assert await ready(client) == {"b"}
    await claim(client, "w", "b")
    await fail(client, "w", "b", retry=False)
    assert (await spent(client, "top")).spent
    await update(client, "b", status="pending")
    assert (await spent(client, "top")).attempts == 2
    assert await ready(client) == {"b"}


async def test_a_lease_over_budget_runs_out(timed_client: Client, clock: "TestClock") -> None:
    """Signs of life renew what is within budget only; what is not lasts one lease, and is freed."""
    client = timed_client
    await connect(client, "w", max_claims=9, lease=duration(LEASE))
    await create(client, "a", max_cost_usd=1.0)
    await create(client, "b")
    for id in ("a", "b"):
        await claim(client, "w", id)
    clock.advance(LEASE // 2)
    await spend(client, "a", 1.0, worker_id="w")
    end = clock.now() + LEASE
    clock.advance(LEASE // 2)
    answer = await heartbeat(client, "w")
    assert list(answer.over_budget_task_ids) == ["a"]
    assert answer.lease_expire_time.ToMilliseconds() == clock.now() + LEASE
    assert (await show(client, "a")).lease_expire_time.ToMilliseconds() == end
    assert (await show(client, "b")).lease_expire_time.ToMilliseconds() == clock.now() + LEASE
    error = await refusal(claim(client, "w", "a"))
    assert error.reason == "BUDGET_EXCEEDED"
    clock.advance(LEASE // 2)
    expired = await event(client, v1.EVENT_TYPE_TASK_LEASE_EXPIRED)
    assert expired.task_id == "a"
    assert not expired.task.ready
    assert (await show(client, "b")).worker_id == "w"


async def test_work_over_budget_can_be_ended(client: Client) -> None:
    """What is held when the budget is spent is completed, or given back, as ever."""
    await connect(client, "w", max_claims=9)
    await create(client, "top", max_cost_usd=1.0)
    for id in ("a", "b"):
        await create(client, id, parent_id="top")
        await claim(client, "w", id)
    await spend(client, "a", 2.0)
    assert (await complete(client, "w", "a")).status == "completed"
    released = await release(client, "w", "b")
    assert (released.status, released.ready) == ("pending", False)


async def test_a_lease_is_given_whole_again(timed_client: Client, clock: "TestClock") -> None:
    """When the budget is raised, the claims last a whole lease from there, and are renewed."""
    client = timed_client
    await connect(client, "w", lease=duration(LEASE))
    await create(client, "a", max_cost_usd=1.0)
    await claim(client, "w", "a")
    await spend(client, "a", 1.0)
    clock.advance(LEASE - 1_000)
    raised = await update(client, "a", max_cost_usd=9.0)
    assert raised.lease_expire_time.ToMilliseconds() == clock.now() + LEASE
    async with client.watch(start_revision=raised.revision) as watch:
        async for told in watch.events():
            if told.reason == "within budget again":
                break
    assert told.task.lease_expire_time == raised.lease_expire_time
    clock.advance(LEASE - 1_000)
    assert not (await heartbeat(client, "w")).over_budget_task_ids
    clock.advance(LEASE - 1_000)
    assert (await show(client, "a")).worker_id == "w"


async def test_a_parked_task_over_budget(timed_client: Client, clock: "TestClock") -> None:
    """Parked work over budget goes on for one lease, which is not renewed."""
    client = timed_client
    await connect(client, "w", lease=duration(LEASE))
    await create(client, "a", max_cost_usd=1.0)
    await claim(client, "w", "a")
    await update(client, "a", status="waiting", worker_id="w")
    await spend(client, "a", 1.0)
    clock.advance(10 * LEASE)
    assert not (await heartbeat(client, "w")).over_budget_task_ids
    on = await update(client, "a", status="working", worker_id="w")
    assert on.lease_expire_time.ToMilliseconds() == clock.now() + LEASE
    clock.advance(1_000)
    assert list((await heartbeat(client, "w")).over_budget_task_ids) == ["a"]
    clock.advance(LEASE - 1_000)
    await event(client, v1.EVENT_TYPE_TASK_LEASE_EXPIRED, "a")


async def test_a_task_moves_with_what_it_cost(client: Client) -> None:
    """Moved to another parent, a task's cost counts there, and no more where it was."""
    await create(client, "one", max_cost_usd=1.0)
    await create(client, "two", max_cost_usd=1.0)
    for id, parent in (("a", "one"), ("b", "one"), ("c", "two")):
        await create(client, id, parent_id=parent)
    await spend(client, "a", 1.0)
    assert await ready(client) == {"c"}
    await move(client, "a", "one", "two")
    assert await ready(client) == {"b"}
    assert [(await spent(client, id)).cost_usd for id in ("one", "two")] == [0.0, 1.0]
    await client.tasks.ObliterateTask(v1.ObliterateTaskRequest(task_id="a"))
    assert await ready(client) == {"b", "c"}


async def test_budgets_survive_any_life(timed_client: Client) -> None:
    """Whatever is moved, deleted, restored and spent: who is ready is what the sums say."""
    client, rng = timed_client, random.Random(7)
    ids = [f"t{n}" for n in range(9)]
    await connect(client, "w", max_claims=99)
    for id in ids:
        await create(client, id)

    async def step(id: str, other: str) -> None:
        task = await show(client, id)
        match rng.randrange(7):
            case 0:
                await update(client, id, max_cost_usd=rng.choice([0, 1, 2, 4]))
            case 1:
                await update(client, id, max_subtree_attempts=rng.choice([0, 0, 1, 3]))
            case 2:
                await spend(client, id, rng.choice([0.1, 0.5, 1.0]))
            case 3 if task.parent_id:
                await move(client, id, task.parent_id, other)
            case 3:
                await client.tasks.LinkTasks(
                    v1.LinkTasksRequest(from_task_id=other, to_task_id=id, type=CONTAINS)
                )
            case 4:
                if rng.random() < 0.3:
                    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id=id, cascade=True))
            case 5:
                await client.tasks.RestoreTask(v1.RestoreTaskRequest(task_id=id, cascade=True))
            case _:
                await claim(client, "w", id)
                await fail(client, "w", id, retry=True)

    refused = 0
    for _ in range(300):
        try:
            await step(rng.choice(ids), rng.choice(ids))
        except TaskloomError as error:
            if not error.reason:  # it was not a rule that stood in the way
                raise
            refused += 1
        await _compare(client)
    assert refused < 200


async def _compare(client: Client) -> None:
    request = v1.ListTasksRequest(include_deleted=True, page_size=1_000)
    tasks = {task.id: task for task in (await client.tasks.ListTasks(request)).tasks}

    def line(task: v1.Task) -> list[v1.Task]:
        above = [task]
        while above[-1].parent_id:
            above.append(tasks[above[-1].parent_id])
        return above

    def is_spent(top: v1.Task) -> bool:
        below = [task for task in tasks.values() if top in line(task)]
        cost = sum(task.metrics.cost_usd for task in below)
        attempts = sum(task.attempts for task in below)
        return (top.HasField("max_cost_usd") and cost >= top.max_cost_usd - 1e-9) or (
            top.HasField("max_subtree_attempts") and attempts >= top.max_subtree_attempts
        )

    spent_ones = {task.id for task in tasks.values() if is_spent(task)}
    for task in tasks.values():
        if task.status != "pending" or task.HasField("delete_time"):
            continue
        has_open = any(
            child.parent_id == task.id
            and not child.HasField("delete_time")
            and child.status not in ("completed", "cancelled")
            for child in tasks.values()
        )
        over = any(one.id in spent_ones for one in line(task))
        assert task.ready == (not has_open and not over), task


async def test_budgets_come_back_with_a_snapshot(client: Client) -> None:
    """A graph that is restored has its budgets, and what was spent of them."""
    await create(client, "top", max_cost_usd=1.0, max_subtree_attempts=7)
    await create(client, "a", parent_id="top")
    await spend(client, "a", 1.5)
    exported = await take_out(client)
    await reset(client)
    await bring_in(client, exported, v1.IMPORT_MODE_RESTORE)
    budget = await spent(client, "top")
    assert (budget.cost_usd, budget.max_cost_usd, budget.max_attempts) == (1.5, 1.0, 7)
    assert budget.spent
    assert await ready(client) == set()
    await update(client, "top", max_cost_usd=2.0)
    assert await ready(client) == {"a"}
