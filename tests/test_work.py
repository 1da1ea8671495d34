"""The Work stream: its start, credit, what is assigned, and what is said while there is nothing.

What the worker reports is in test_work_calls, how a stream ends in test_work_endings.
"""

from typing import TYPE_CHECKING, Any

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    complete,
    connect,
    create,
    disconnect,
    duration,
    pause,
    resume,
    show,
    show_worker,
    status,
    update,
)
from tests.work_streams import opened, working

if TYPE_CHECKING:
    from tests.conftest import TestClock


# The start


async def test_start_is_answered_first(timed_client: Client, clock: "TestClock") -> None:
    """A stream begins with who the worker is, what it holds, and of which incarnation that is."""
    await connect(timed_client, "w", max_claims=5)
    for id in ("held", "parked", "assigned", "free"):
        await create(timed_client, id)
    held = await claim(timed_client, "w", "held")
    await claim(timed_client, "w", "parked")
    await update(timed_client, "parked", status="waiting")
    await update(timed_client, "assigned", assignee="w")
    clock.advance(10)
    async with opened(timed_client) as stream:
        await stream.send(start=v1.WorkStart(worker_id="w"), credit=9, call_id=3)
        message = await stream.hear("started")
        now = await status(timed_client)
        assert message.call_id == 3
        assert message.started.incarnation == now.incarnation
        assert [task.id for task in message.started.held_tasks] == ["held", "parked", "assigned"]
        first = message.started.held_tasks[0]
        assert first.claim_revision == held.claim_revision
        assert first.lease_expire_time.ToMilliseconds() == clock.now() + 900_000
        worker = message.started.worker
        assert (worker.id, worker.max_claims) == ("w", 5)
        assert worker.heartbeat_time.ToMilliseconds() == clock.now()
        assert await stream.assigned() == ["free"]


@pytest.mark.parametrize(
    "first",
    [
        {"credit": 1},
        {"drain": v1.WorkDrain()},
        {"complete": v1.CompleteTaskRequest(worker_id="w", task_id="a")},
        {"heartbeat": v1.HeartbeatRequest(worker_id="w")},
        {},
    ],
    ids=lambda first: next(iter(first), "nothing"),
)
async def test_start_comes_first(client: Client, first: dict[str, Any]) -> None:
    """Whatever comes before the start ends the stream, and has no effect."""
    await connect(client, "w")
    await create(client, "a")
    await claim(client, "w", "a")
    async with opened(client) as stream:
        await stream.send(**first)
        error = await stream.end()
        assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert [violation.field for violation in error.field_violations] == ["start"]
    assert (await show(client, "a")).status == "working"


async def test_stream_without_a_start(client: Client) -> None:
    """A stream that is closed before anything came is told what it lacks."""
    async with opened(client) as stream:
        await stream.call.done_writing()
        error = await stream.end()
        assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert [violation.field for violation in error.field_violations] == ["start"]


async def test_start_comes_once(client: Client) -> None:
    """A second start ends the stream."""
    await connect(client, "w")
    async with working(client, "w") as stream:
        await stream.send(start=v1.WorkStart(worker_id="w"))
        error = await stream.end()
        assert [violation.field for violation in error.field_violations] == ["start"]


WRONG_STARTS: list[tuple[str, dict[str, Any]]] = [
    ("start.worker_id", {"worker_id": ""}),
    ("start.worker_id", {"worker_id": "a b"}),
    ("start.parent_id", {"parent_id": "a b"}),
    ("start.lease", {"lease": duration(999)}),
    ("start.lease", {"lease": duration(7 * 86_400_000 + 1)}),
    ("start.grace", {"grace": duration(999)}),
    ("start.grace", {"grace": duration(86_400_001)}),
    ("start.order_by", {"order_by": v1.ORDER_BY_ID}),
    ("start.order_by", {"order_by": 99}),
]


@pytest.mark.parametrize(("field", "fields"), WRONG_STARTS)
async def test_wrong_start_is_refused(client: Client, field: str, fields: dict[str, Any]) -> None:
    """A field of the start that cannot be ends the stream, and is named."""
    await connect(client, "w")
    async with opened(client) as stream:
        await stream.send(start=v1.WorkStart(**{"worker_id": "w"} | fields), credit=1)
        error = await stream.end()
        assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert [violation.field for violation in error.field_violations] == [field]


async def test_worker_must_be_connected(client: Client) -> None:
    """Who never connected, or disconnected, has no stream."""
    await connect(client, "gone")
    await disconnect(client, "gone")
    for worker in ("nobody", "gone"):
        async with opened(client) as stream:
            await stream.send(start=v1.WorkStart(worker_id=worker))
            error = await stream.end()
            assert (error.code.name, error.reason) == ("NOT_FOUND", "WORKER_NOT_FOUND")


async def test_scope_must_be_there(client: Client) -> None:
    """A stream below a task that there is not ends."""
    await connect(client, "w")
    async with opened(client) as stream:
        await stream.send(start=v1.WorkStart(worker_id="w", parent_id="nowhere"), credit=1)
        error = await stream.end()
        assert (error.code.name, error.reason) == ("NOT_FOUND", "TASK_NOT_FOUND")


async def test_streams_are_counted(start_server: Any) -> None:
    """A stream beyond the server's limit is turned away; when one ends there is room again."""
    async with start_server(max_waits=1) as server, Client(server.address) as client:
        await connect(client, "w")
        async with working(client, "w") as stream:
            async with opened(client) as second:
                await second.send(start=v1.WorkStart(worker_id="w"))
                error = await second.end()
                assert (error.code.name, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
                assert error.retry_delay is not None
            await stream.finish()
        async with working(client, "w") as stream:
            await stream.quiet()


# Credit


async def test_credit_adds_up(client: Client) -> None:
    """Credit of several messages is added; each task uses up one of it."""
    await connect(client, "w", max_claims=10)
    for n in range(6):
        await create(client, f"t{n}")
    async with working(client, "w") as stream:
        await stream.quiet()
        assert (await status(client)).claimed_tasks == 0, "without credit nothing is assigned"
        await stream.send(credit=2)
        await stream.send(credit=2)
        assert [task.id for task in await stream.take(4)] == ["t0", "t1", "t2", "t3"]
        await stream.quiet()
        assert (await status(client)).claimed_tasks == 4
        # With another message as well.
        await stream.send(complete=v1.CompleteTaskRequest(task_id="t0"), credit=1)
        kinds = {(await stream.read()).WhichOneof("content") for _ in range(2)}  # type: ignore[union-attr]
        assert kinds == {"completed", "assigned"}
        await stream.quiet()
        assert (await status(client)).claimed_tasks == 4


@pytest.mark.parametrize("credit", [-1, -(2**31), 1_001, 2**31 - 1])
async def test_credit_out_of_bounds(client: Client, credit: int) -> None:
    """Credit is neither negative nor more than 1,000: the stream ends, and the field is named."""
    await connect(client, "w")
    async with working(client, "w") as stream:
        await stream.send(credit=credit)
        error = await stream.end()
        assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert [violation.field for violation in error.field_violations] == ["credit"]


async def test_open_credit_is_bounded(client: Client) -> None:
    """No more than 1,000 are open at once; what was used up may be granted again."""
    await connect(client, "w", max_claims=10)
    await create(client, "a")
    async with working(client, "w", credit=1_000) as stream:
        assert await stream.assigned() == ["a"]
        assert await stream.waiting() == v1.CLAIM_OUTCOME_NONE_READY
        await stream.send(credit=1)
        await stream.quiet()
        await stream.send(credit=1)
        error = await stream.end()
        assert [violation.field for violation in error.field_violations] == ["credit"]


# What is assigned


async def test_best_first(client: Client) -> None:
    """The highest priority comes first, then the oldest, over as many messages as it takes."""
    await connect(client, "w", max_claims=300)
    nodes = [v1.TaskNode(id=f"t{n}", title="x", priority=n % 3) for n in range(250)]
    root = v1.TaskNode(id="root", title="root", children=nodes)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    async with working(client, "w", credit=250) as stream:
        given = [task.id for task in await stream.take(250)]
    assert given == [f"t{n}" for n in sorted(range(250), key=lambda n: (-(n % 3), n))]


@pytest.mark.parametrize(
    ("order", "best"),
    [
        (v1.ORDER_BY_TEMPERATURE, ["boosted", "prior", "plain"]),
        (v1.ORDER_BY_PRIORITY, ["prior", "plain", "boosted"]),
        (v1.ORDER_BY_UNSPECIFIED, ["prior", "plain", "boosted"]),
    ],
)
async def test_order_of_the_stream(
    client: Client, order: "v1.OrderBy.ValueType", best: list[str]
) -> None:
    """Best is what has the highest priority, or is the hottest, as the start says."""
    await connect(client, "w", max_claims=9)
    await create(client, "prior", priority=6)
    await create(client, "plain", priority=3)
    await create(client, "boosted", priority=2)
    await client.tasks.BoostTask(v1.BoostTaskRequest(task_id="boosted", boost=1))
    async with working(client, "w", credit=3, order_by=order) as stream:
        assert [task.id for task in await stream.take(3)] == best


async def test_scope_is_kept(client: Client) -> None:
    """A stream below a task is given what is there, and told when all of that has ended."""
    await connect(client, "w", max_claims=9)
    await create(client, "elsewhere", priority=9)
    await create(client, "top")
    await create(client, "child", parent_id="top")
    async with working(client, "w", credit=5, parent_id="top") as stream:
        assert await stream.assigned() == ["child"]
        assert await stream.waiting() == v1.CLAIM_OUTCOME_NONE_READY
        await create(client, "outside", priority=9)
        await create(client, "inside", parent_id="child")
        assert await stream.assigned() == ["inside"]
        await complete(client, "w", "inside")
        await complete(client, "w", "child")
        assert await stream.waiting() == v1.CLAIM_OUTCOME_NONE_READY
        assert await stream.waiting() == v1.CLAIM_OUTCOME_ALL_DONE
    assert (await show(client, "elsewhere")).ready


async def test_lease_of_the_stream(timed_client: Client, clock: "TestClock") -> None:
    """The claims of a stream have the lease that its start asks for, else the worker's."""
    await connect(timed_client, "w", max_claims=9, lease=duration(60_000))
    await create(timed_client, "a")
    await create(timed_client, "b")
    async with working(timed_client, "w", credit=1, lease=duration(5_000)) as stream:
        [task] = await stream.take(1)
        assert task.lease_expire_time.ToMilliseconds() == clock.now() + 5_000
        assert task.claim_revision == task.revision
    async with working(timed_client, "w", credit=1) as stream:
        [task] = await stream.take(1)
        assert task.lease_expire_time.ToMilliseconds() == clock.now() + 60_000


async def test_assignment_is_a_claim(client: Client) -> None:
    """What is assigned is shown as any claimed task is, with the revision that claimed it."""
    await connect(client, "w")
    await create(client, "a")
    async with working(client, "w", credit=1) as stream:
        message = await stream.hear("assigned")
        assert message.call_id == 0
        [task] = message.assigned.tasks
        assert task == await show(client, "a")
        assert message.revision == task.revision
        worker = await show_worker(client, "w")
        assert (worker.claim_attempts, worker.claims_granted, worker.claims_lost) == (1, 1, 0)


# What is said while there is nothing


async def test_limit_is_said(client: Client) -> None:
    """A worker that holds its max_claims is told so, and is given the next when one ends."""
    await connect(client, "w")
    await create(client, "a")
    await create(client, "b")
    async with working(client, "w", credit=5) as stream:
        assert await stream.assigned() == ["a"]
        assert await stream.waiting() == v1.CLAIM_OUTCOME_LIMIT_REACHED
        await complete(client, "w", "a")
        assert await stream.assigned() == ["b"]


async def test_rest_is_said(timed_client: Client, clock: "TestClock") -> None:
    """A worker that rests is told for how long, and is given a task when it has rested."""
    await connect(timed_client, "w", cool_down=duration(7_000))
    await create(timed_client, "a")
    await create(timed_client, "b")
    async with working(timed_client, "w", credit=5) as stream:
        assert await stream.assigned() == ["a"]
        assert await stream.waiting() == v1.CLAIM_OUTCOME_LIMIT_REACHED
        await complete(timed_client, "w", "a")
        said = (await stream.hear("waiting")).waiting
        assert said.outcome == v1.CLAIM_OUTCOME_COOLING_DOWN
        assert said.retry_after.ToMilliseconds() == 7_000
        clock.advance(6_999)
        await stream.quiet()
        clock.advance(1)
        assert await stream.assigned() == ["b"]


async def test_pause_is_said(client: Client) -> None:
    """While claims are paused a stream is told so, and given the task that is there by resume."""
    await connect(client, "w")
    await create(client, "a")
    await pause(client)
    async with working(client, "w", credit=1) as stream:
        assert await stream.waiting() == v1.CLAIM_OUTCOME_PAUSED
        await create(client, "b")
        await stream.quiet()
        await resume(client)
        assert await stream.assigned() == ["a"]


async def test_reason_is_said_once(client: Client) -> None:
    """Why there is nothing is not said again for what does not change it."""
    await connect(client, "w")
    await create(client, "a", needed_tags=["gpu"])
    async with working(client, "w", credit=1) as stream:
        assert await stream.waiting() == v1.CLAIM_OUTCOME_NONE_READY
        await create(client, "b", needed_tags=["gpu"])
        await create(client, "c", needed_tags=["gpu"], blocked_by=["a"])
        await update(client, "a", status="cancelled")
        await connect(client, "other")
        await stream.send(credit=3)
        await stream.quiet()


async def test_credit_that_comes_while_it_waits_is_used_up_at_once(client: Client) -> None:
    """Credit granted while there was nothing counts when there is, and then the stream rests."""
    await connect(client, "w", max_claims=9)
    async with working(client, "w", credit=1) as stream:
        assert await stream.waiting() == v1.CLAIM_OUTCOME_ALL_DONE
        await stream.send(credit=1)
        await stream.quiet()
        await pause(client)
        assert await stream.waiting() == v1.CLAIM_OUTCOME_PAUSED
        await create(client, "a")
        await create(client, "b")
        await resume(client)
        assert await stream.assigned() == ["a", "b"]
        await stream.quiet()


async def test_change_of_the_reason_is_said(client: Client) -> None:
    """When the reason changes, the new one is said."""
    paused = v1.CLAIM_OUTCOME_PAUSED
    await connect(client, "w")
    async with working(client, "w", credit=1) as stream:
        assert await stream.waiting() == v1.CLAIM_OUTCOME_ALL_DONE
        await pause(client)
        assert await stream.waiting() == paused
        await create(client, "a", needed_tags=["gpu"])
        await resume(client)
        assert await stream.waiting() == v1.CLAIM_OUTCOME_NONE_READY
        await pause(client)
        assert await stream.waiting() == paused
        await resume(client)
        assert await stream.waiting() == v1.CLAIM_OUTCOME_NONE_READY
        await update(client, "a", status="cancelled")
        assert await stream.waiting() == v1.CLAIM_OUTCOME_ALL_DONE
        await create(client, "b")
        assert await stream.assigned() == ["b"]


async def test_not_all_is_done_any_more(client: Client) -> None:
    """Who was told that all is done is not woken for a new task that is for others."""
    await connect(client, "w")
    async with working(client, "w", credit=1) as stream:
        assert await stream.waiting() == v1.CLAIM_OUTCOME_ALL_DONE
        await create(client, "a", needed_tags=["gpu"])
        await create(client, "b")
        assert await stream.assigned() == ["b"]
