"""Auto-advance: a task that becomes ready is moved to where its workflow wants such tasks."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client
from taskloom_server.graph.workflows import Parents, State, Workflow

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    duration,
    event,
    events,
    pause,
    release,
    resume,
    show,
    show_worker,
    update,
)
from tests.workflows_obeyed.boards import SWARM, board
from tests.workflows_obeyed.conftest import Serving

if TYPE_CHECKING:
    from tests.conftest import TestClock


def _advancing(**todo: Any) -> Workflow:
    """With a state "todo", where tasks go from "pending" when they become ready."""
    pending = SWARM.states["pending"]
    states = {
        **SWARM.states,
        "pending": replace(pending, exits=("todo", *pending.exits)),
        "todo": State("todo", ("assigned", "working", "pending", "cancelled"), **todo),
    }
    return board(
        states=states,
        auto_advance="todo",
        parents=Parents.CLAIM,
        blocking_states=SWARM.blocking_states | {"todo"},
    )


async def _blocked(client: Client, *ids: str) -> None:
    """Tasks that wait for "first"."""
    await connect(client, "w", "v", max_claims=9)
    await create(client, "first")
    for id in ids:
        await create(client, id, blocked_by=["first"])
    await claim(client, "w", "first")


async def test_the_end_of_the_last_blocker_moves_it(serve: Serving) -> None:
    """In the same revision it is told ready and moved, by the server; then it can be taken."""
    async with serve(_advancing()) as client:
        await _blocked(client, "t")
        request = v1.CompleteTaskRequest(worker_id="w", task_id="first")
        answer = await client.claims.CompleteTask(request)
        assert list(answer.unblocked_task_ids) == ["t"]
        told = await events(client, answer.revision, answer.revision)
        assert [(name, id) for name, id, _ in told] == [
            ("TASK_COMPLETED", "first"),
            ("TASK_READY", "t"),
            ("TASK_MOVED", "t"),
        ]
        moved = await event(client, v1.EVENT_TYPE_TASK_MOVED, "t")
        assert (moved.previous_status, moved.worker_id) == ("pending", "")
        assert moved.reason == "what held it back is gone"
        task = await show(client, "t")
        assert (task.status, task.ready) == ("todo", True)
        assert (await claim_next(client, "v")).tasks[0].id == "t"
        history = await client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="t"))
        assert [row.status for row in history.transitions] == ["pending", "todo", "working"]


async def test_who_waits_is_given_it(serve: Serving, clock: "TestClock") -> None:
    """A waiting worker is given the task in the transaction that moved it, once."""
    async with serve(_advancing()) as client:
        await _blocked(client, "t")
        clock.advance(1)
        call = asyncio.create_task(claim_next(client, "v", wait=duration(9_000)))
        while (await show_worker(client, "v")).heartbeat_time.ToMilliseconds() < clock.now():
            pass
        await complete(client, "w", "first")
        assert [task.id for task in (await call).tasks] == ["t"]


async def test_it_is_taken_and_given_back_as_from_where_it_began(serve: Serving) -> None:
    """From there it is claimed by name, assigned, explained; released, it is where tasks begin."""
    async with serve(_advancing()) as client:
        await _blocked(client, "a", "b")
        await complete(client, "w", "first")
        request = v1.ExplainTaskRequest(task_id="a", worker_id="v")
        assert not (await client.tasks.ExplainTask(request)).obstacles
        await claim(client, "v", "a")
        await update(client, "b", assignee="v")
        for id in ("a", "b"):
            assert (await release(client, "v", id)).status == "pending"
        # By hand, the way is open as well, and ends a claim.
        await claim(client, "v", "a")
        assert (await update(client, "b", status="todo")).ready
        await update(client, "a", worker_id="v", status="pending")
        assert (await update(client, "a", status="todo")).attempts == 0


async def test_blocked_anew_it_stays_where_it_is(serve: Serving) -> None:
    """A blocker that comes later makes it unready, not moved; nor does its end move it again."""
    async with serve(_advancing()) as client:
        await _blocked(client, "t")
        await complete(client, "w", "first")
        await create(client, "second")
        link = v1.LinkTasksRequest(from_task_id="second", to_task_id="t")
        await client.tasks.LinkTasks(link)
        task = await show(client, "t")
        assert (task.status, task.ready) == ("todo", False)
        await claim(client, "w", "second")
        request = v1.CompleteTaskRequest(worker_id="w", task_id="second")
        revision = (await client.claims.CompleteTask(request)).revision
        told = await events(client, revision, revision)
        assert [name for name, _, _ in told] == ["TASK_COMPLETED", "TASK_READY"]


async def test_whatever_held_it_back(serve: Serving, clock: "TestClock") -> None:
    """A blocker unlinked, a child's end, a time that passes or is taken back, a resumed pause."""
    async with serve(_advancing()) as client:
        await _blocked(client, "linked")
        unlink = v1.UnlinkTasksRequest(from_task_id="first", to_task_id="linked")
        await client.tasks.UnlinkTasks(unlink)
        assert (await show(client, "linked")).status == "todo"
        await create(client, "parent")
        await create(client, "child", parent_id="parent")
        await claim(client, "w", "child")
        await complete(client, "w", "child")
        assert (await show(client, "parent")).status == "todo"
        soon = Timestamp()
        soon.FromMilliseconds(clock.now() + 1_000)
        await create(client, "later", not_before=soon)
        clock.advance(1_000)
        await event(client, v1.EVENT_TYPE_TASK_MOVED, "later")
        assert (await show(client, "later")).status == "todo"
        soon.FromMilliseconds(clock.now() + 1_000)
        await create(client, "sooner", not_before=soon)
        assert (await update(client, "sooner", not_before=Timestamp())).status == "todo"
        await create(client, "paused")
        await pause(client, "paused")
        await resume(client, "paused")
        assert (await show(client, "paused")).status == "todo"


async def test_a_full_state_leaves_it_where_it_is(serve: Serving) -> None:
    """No more are moved than may be there; the others stay, and can be taken all the same."""
    async with serve(_advancing(wip_limit=1)) as client:
        await _blocked(client, "a", "b")
        await complete(client, "w", "first")
        found = {id: (await show(client, id)).status for id in ("a", "b")}
        assert found == {"a": "todo", "b": "pending"}
        answer = await claim_next(client, "v", max_tasks=2)
        assert sorted(task.id for task in answer.tasks) == ["a", "b"]


async def test_a_workflow_that_does_not_say_so_moves_nothing(serve: Serving) -> None:
    """Without a state to advance to, what becomes ready stays where it is."""
    async with serve(board()) as client:
        await _blocked(client, "t")
        await complete(client, "w", "first")
        assert (await show(client, "t")).status == "pending"
