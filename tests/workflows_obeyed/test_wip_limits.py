"""Limits on work in progress: how many of a workflow's tasks may be in a state at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    duration,
    event,
    fail,
    refusal,
    release,
    show,
    show_worker,
    update,
)
from tests.work_streams import WorkStream
from tests.workflows_obeyed.boards import SWARM, board, limited, states
from tests.workflows_obeyed.conftest import Serving

if TYPE_CHECKING:
    from tests.conftest import TestClock

FULL = v1.CLAIM_OUTCOME_WIP_LIMIT


async def _many(client: Client, *ids: str, **fields: Any) -> None:
    for id in ids:
        await create(client, id, **fields)


async def _in(client: Client, status: str) -> list[str]:
    page = await client.tasks.ListTasks(v1.ListTasksRequest(statuses=[status], page_size=1_000))
    return sorted(task.id for task in page.tasks)


async def _waiting(client: Client, clock: "TestClock", worker: str, **fields: Any) -> Any:
    """A call that waits in line."""
    clock.advance(1)
    call = asyncio.create_task(claim_next(client, worker, wait=duration(20_000), **fields))
    while (await show_worker(client, worker)).heartbeat_time.ToMilliseconds() < clock.now():
        pass
    return call


async def _explain(client: Client, task: str, worker: str = "") -> v1.ExplainTaskResponse:
    return await client.tasks.ExplainTask(v1.ExplainTaskRequest(task_id=task, worker_id=worker))


# Claims


async def test_a_named_claim_is_refused(serve: Serving) -> None:
    """No more tasks are claimed than may be in the claim state; the refusal names those in it."""
    async with serve(limited(2)) as client:
        await connect(client, "a", max_claims=9)
        await _many(client, "one", "two", "three")
        await claim(client, "a", "one")
        await claim(client, "a", "two")
        error = await refusal(claim(client, "a", "three"))
        assert error.reason == "WIP_LIMIT"
        assert error.code.name == "FAILED_PRECONDITION"
        assert [one.subject for one in error.violations] == ["one", "two"]
        assert error.metadata == {
            "state": "working",
            "wip_limit": "2",
            "workflow": "board",
            "count": "2",
        }
        assert (await show_worker(client, "a")).claim_attempts == 3
        await claim(client, "a", "one")  # claimed again, it comes from nowhere
        await complete(client, "a", "one")
        await claim(client, "a", "three")


async def test_the_next_is_none_for_want_of_room(serve: Serving) -> None:
    """ClaimNextTask says that something is ready but that there is no room for it."""
    async with serve(limited(1)) as client:
        await connect(client, "a", "b")
        await _many(client, "one", "two")
        await claim_next(client, "a")
        answer = await claim_next(client, "b")
        assert (answer.outcome, list(answer.tasks)) == (FULL, [])
        await complete(client, "a", "one")
        assert [task.id for task in (await claim_next(client, "b")).tasks] == ["two"]
        assert (await claim_next(client, "a")).outcome == v1.CLAIM_OUTCOME_NONE_READY


async def test_so_many_are_given_as_there_is_room_for(serve: Serving) -> None:
    """Of several tasks that are asked for, those that there is room for are given, the best."""
    async with serve(limited(3)) as client:
        await connect(client, "a", "b", max_claims=9)
        await _many(client, "low", priority=1)
        await _many(client, "one", "two", "three", "four", "five")
        assert len((await claim_next(client, "a")).tasks) == 1
        answer = await claim_next(client, "b", max_tasks=5)
        assert [task.id for task in answer.tasks] == ["two", "three"]
        assert answer.outcome == v1.CLAIM_OUTCOME_CLAIMED


async def test_other_workflows_are_drawn_on(serve: Serving) -> None:
    """A full workflow's tasks are passed over, however many; another one's are given instead."""
    async with serve(limited(1), board(name="open"), limited(2, name="two")) as client:
        await connect(client, "a", max_claims=99)
        for n in range(9):
            await create(client, f"b{n}", priority=9)
        await _many(client, "o1", "o2", workflow="open")
        await _many(client, "t1", "t2", "t3", workflow="two", priority=7)
        answer = await claim_next(client, "a", max_tasks=20)
        assert [task.id for task in answer.tasks] == ["b0", "t1", "t2", "o1", "o2"]
        assert (await claim_next(client, "a")).outcome == FULL


async def test_a_scope_is_limited_likewise(serve: Serving) -> None:
    """Below a parent, and for the hottest first, the limit holds as well."""
    async with serve(limited(1)) as client:
        await connect(client, "a", max_claims=9)
        await create(client, "top")
        await _many(client, "one", "two", parent_id="top")
        answer = await claim_next(client, "a", parent_id="top", max_tasks=2)
        assert [task.id for task in answer.tasks] == ["one"]
        hottest = v1.ORDER_BY_TEMPERATURE
        assert (await claim_next(client, "a", parent_id="top")).outcome == FULL
        assert (await claim_next(client, "a", order_by=hottest)).outcome == FULL


async def test_an_advisory_claim_moves_nothing(serve: Serving) -> None:
    """An advisory claim is given though the state is full, and ends; taking over is a claim."""
    async with serve(limited(1)) as client:
        await connect(client, "a", "b", max_claims=9)
        await _many(client, "one", "two", "three")
        await claim(client, "a", "one")
        advisory = v1.CLAIM_MODE_ADVISORY
        await claim(client, "b", "two", mode=advisory)
        answer = await claim_next(client, "b", mode=advisory)
        assert [task.id for task in answer.tasks] == ["three"]
        assert (await refusal(claim(client, "b", "two"))).reason == "WIP_LIMIT"
        assert (await complete(client, "b", "two")).status == "completed"


async def test_two_at_once_never_exceed_it(serve: Serving) -> None:
    """However many claim in one moment, by whatever verb, there are no more than may be."""
    async with serve(limited(3)) as client:
        workers = [f"w{n}" for n in range(10)]
        await connect(client, *workers, max_claims=5)
        await _many(client, *(f"t{n}" for n in range(20)))
        await asyncio.gather(
            *(claim_next(client, worker, max_tasks=2) for worker in workers[:5]),
            *(claim(client, worker, f"t{n}") for n, worker in enumerate(workers[5:])),
            return_exceptions=True,
        )
        assert len(await _in(client, "working")) == 3


# Assignments and moves


async def test_an_assignment_is_limited_by_its_state(serve: Serving) -> None:
    """No more are assigned than may be in the assign state, nor begun than in the claim state."""
    both = board(**states({"assigned": {"wip_limit": 2}, "working": {"wip_limit": 1}}))
    async with serve(both) as client:
        await connect(client, "a", max_claims=9)
        await _many(client, "one", "two", "three")
        await update(client, "one", assignee="a")
        await update(client, "two", assignee="a")
        error = await refusal(update(client, "three", assignee="a"))
        assert (error.reason, error.metadata["state"]) == ("WIP_LIMIT", "assigned")
        await claim(client, "a", "one")
        await update(client, "three", assignee="a")
        assert (await refusal(claim(client, "a", "two"))).metadata["state"] == "working"
        moving = update(client, "two", worker_id="a", status="working")
        assert (await refusal(moving)).metadata["state"] == "working"


async def test_a_move_is_limited(serve: Serving) -> None:
    """A move into a full state is refused, back from a parked one as well; out of it makes room."""
    both = board(**states({"waiting": {"wip_limit": 1}, "working": {"wip_limit": 1}}))
    async with serve(both) as client:
        await connect(client, "a", max_claims=9)
        await _many(client, "one", "two")
        await claim(client, "a", "one")
        await update(client, "one", status="waiting")
        await claim(client, "a", "two")
        assert (await refusal(update(client, "two", status="waiting"))).reason == "WIP_LIMIT"
        going_on = update(client, "one", worker_id="a", status="working")
        assert (await refusal(going_on)).reason == "WIP_LIMIT"
        await complete(client, "a", "two")
        await update(client, "one", worker_id="a", status="working")


async def test_what_goes_back_is_never_refused(serve: Serving, clock: "TestClock") -> None:
    """Creating, releasing, failing, a lease's end and reopening may overfill where tasks begin."""
    async with serve(limited(1, state="pending")) as client:
        await connect(client, "a", max_claims=9, lease=duration(5_000))
        await _many(client, "one", "two", "three", "four", "five")
        for id in ("one", "two", "three", "four"):
            await claim(client, "a", id)
        await release(client, "a", "one")
        await fail(client, "a", "two", retry=True)
        await complete(client, "a", "three")
        await update(client, "three", status="pending")
        clock.advance(5_000)
        await event(client, v1.EVENT_TYPE_TASK_LEASE_EXPIRED, "four")
        assert len(await _in(client, "pending")) == 5


async def test_the_deleted_do_not_count(serve: Serving) -> None:
    """Room comes of a deletion, too."""
    async with serve(limited(1)) as client:
        await connect(client, "a", max_claims=9)
        await _many(client, "one", "two")
        await claim(client, "a", "one")
        await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="one", force=True))
        await claim(client, "a", "two")


# Waiting


async def test_who_waits_is_given_the_room(serve: Serving, clock: "TestClock") -> None:
    """Room goes to the one who waits longest, by whatever it came, and to nobody else."""
    async with serve(limited(1)) as client:
        await connect(client, "a", "b", "c", "d", max_claims=9, lease=duration(50_000))
        await _many(client, *(f"t{n}" for n in range(9)))
        await claim_next(client, "a")
        calls = [await _waiting(client, clock, worker) for worker in ("b", "c", "d")]
        delete = v1.DeleteTaskRequest(task_id="t1", force=True)
        room: list[Callable[[], Awaitable[object]]] = [
            lambda: complete(client, "a", "t0"),
            lambda: release(client, "b", "t1"),
            lambda: client.tasks.DeleteTask(delete),
        ]
        for n, make in enumerate(room):
            await make()
            [given] = (await calls[n]).tasks
            assert given.id == ("t1", "t1", "t2")[n]
            assert not any(call.done() for call in calls[n + 1 :])
            assert len(await _in(client, "working")) == 1


async def test_a_lease_s_end_makes_room(serve: Serving, clock: "TestClock") -> None:
    """Who waits is given the room that a lease's end makes."""
    async with serve(limited(1)) as client:
        await connect(client, "a", lease=duration(5_000))
        await connect(client, "b")
        await _many(client, "one", "two")
        await claim_next(client, "a")
        call = await _waiting(client, clock, "b")
        clock.advance(5_000)
        assert [task.id for task in (await call).tasks] == ["one"]


async def test_the_end_of_all_is_told_though_it_made_room(
    serve: Serving, clock: "TestClock"
) -> None:
    """When the last task ends, who waits is told so, limit or not."""
    async with serve(limited(1)) as client:
        await connect(client, "a", "b")
        await create(client, "one")
        await claim_next(client, "a")
        call = await _waiting(client, clock, "b")
        await complete(client, "a", "one")
        assert (await call).outcome == v1.CLAIM_OUTCOME_ALL_DONE


async def test_a_task_that_becomes_ready_waits_for_room(serve: Serving, clock: "TestClock") -> None:
    """A new task of a full workflow is given to nobody, and one of another workflow is."""
    async with serve(limited(1), board(name="open")) as client:
        await connect(client, "a", "b")
        await create(client, "one")
        await claim_next(client, "a")
        call = await _waiting(client, clock, "b")
        await create(client, "two")
        await create(client, "three", workflow="open")
        assert [task.id for task in (await call).tasks] == ["three"]
        assert (await show(client, "two")).ready


async def test_a_stream_says_that_there_is_no_room(serve: Serving) -> None:
    """A Work stream says WIP_LIMIT once, and assigns as soon as there is room."""
    async with serve(limited(1)) as client:
        await connect(client, "a", "b")
        await _many(client, "one", "two")
        await claim_next(client, "a")
        stream = WorkStream(client)
        await stream.ask(start=v1.WorkStart(worker_id="b"), credit=1)
        assert await stream.waiting() == FULL
        await complete(client, "a", "one")
        assert await stream.assigned() == ["two"]


# Explained


async def test_it_is_explained(serve: Serving) -> None:
    """ExplainTask names the limit and the tasks in the state, for anybody and for a worker."""
    async with serve(limited(1)) as client:
        await connect(client, "a")
        await connect(client, "b")
        await _many(client, "one", "two")
        await claim(client, "a", "one")
        for worker in ("", "b"):
            [obstacle] = (await _explain(client, "two", worker)).obstacles
            assert obstacle.type == v1.OBSTACLE_TYPE_WIP_LIMIT
            assert obstacle.message == "'working' has 1 tasks of at most 1"
            assert list(obstacle.task_ids) == ["one"]
        await complete(client, "a", "one")
        assert not (await _explain(client, "two", "b")).obstacles


async def test_a_lower_limit_waits_till_there_is_room(serve: Serving) -> None:
    """Where a limit was lowered below what is there, nothing is taken away, and nothing added."""
    async with serve(limited(3)) as client:
        await connect(client, "a", max_claims=9)
        await _many(client, *(f"t{n}" for n in range(6)))
        await claim_next(client, "a", max_tasks=3)
    async with serve(limited(2)) as client:
        assert len(await _in(client, "working")) == 3
        for done, outcome in (("t0", FULL), ("t1", v1.CLAIM_OUTCOME_CLAIMED)):
            await complete(client, "a", done)
            assert (await claim_next(client, "a")).outcome == outcome


async def test_a_limit_on_an_end_holds_nothing_up(serve: Serving) -> None:
    """What has ended is no work in progress."""
    ended = replace(SWARM.states["completed"], wip_limit=1)
    async with serve(board(states={**SWARM.states, "completed": ended})) as client:
        await connect(client, "a", max_claims=9)
        await _many(client, "one", "two")
        await claim_next(client, "a", max_tasks=2)
        await complete(client, "a", "one")
        await update(client, "two", worker_id="a", status="completed")
