"""Agents by stream on the real service: what their stream is worth, and what becomes of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Agent, Client, HeldTask, TaskloomError

if TYPE_CHECKING:
    from tests.client.conftest import Relay


async def _create(client: Client, *ids: str, parent_id: str = "") -> None:
    for id in ids:
        await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id, parent_id=parent_id))


async def _task(client: Client, id: str) -> v1.Task:
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=id))).task


async def _hold(client: Client, worker_id: str, task_id: str) -> None:
    """Let a worker hold a task."""
    await _create(client, task_id)
    await client.workers.Connect(v1.ConnectRequest(worker_id=worker_id))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id=worker_id, task_id=task_id))


async def _worker(client: Client, id: str) -> v1.Worker:
    everybody = await client.workers.ListWorkers(v1.ListWorkersRequest(include_disconnected=True))
    return next(each for each in everybody.workers if each.id == id)


async def test_a_task_is_one_message(client: Client) -> None:
    """Completing a task and asking for the next one is one message, and there are few others."""
    await _create(client, *(f"task-{n}" for n in range(20)))
    async with Agent(client, "w", pull="stream") as agent:
        seen = [task.id async for task in agent.tasks()]
    assert len(seen) == 20
    # Connect, the stream's start, the first credit, what takes back the last, Disconnect.
    assert agent.counters.calls <= 20 + 5
    assert (agent.counters.claims_granted, agent.counters.claims_refused) == (20, 0)
    assert (await _worker(client, "w")).claims_granted == 20


async def _waiting(
    client: Client, agent: Agent, following: AsyncGenerator[HeldTask, None]
) -> asyncio.Task[HeldTask]:
    """The agent's next task to be, once it has granted credit for it."""
    sent = agent.counters.calls
    waiting = asyncio.create_task(anext(following))
    while agent.counters.calls < sent + 2:  # the start of the stream, and credit
        await client.admin.GetStatus(v1.GetStatusRequest())
    return waiting


async def test_waiting_makes_no_calls(client: Client) -> None:
    """While it waits for what others hold an agent sends nothing, and is given it at once."""
    await _hold(client, "other", "first")
    await client.tasks.CreateTask(
        v1.CreateTaskRequest(id="blocked", title="blocked", blocked_by=["first"])
    )
    async with Agent(client, "w", pull="stream") as agent:
        waiting = await _waiting(client, agent, agent.tasks())
        calls = agent.counters.calls
        await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="other", task_id="first"))
        assert (await waiting).id == "blocked"
        assert agent.counters.calls == calls


async def test_several_at_once(client: Client) -> None:
    """Iterations side by side share the stream, and each task is one iteration's."""
    await _create(client, *(f"task-{n}" for n in range(30)))
    done: list[str] = []
    together = asyncio.Barrier(3)

    async def iterate(agent: Agent) -> None:
        first = True
        async for task in agent.tasks():
            done.append(task.id)
            if first:
                await together.wait()  # which takes three tasks in hand
                first = False

    agent = Agent(client, "w", pull="stream", max_claims=3)
    async with agent, asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(iterate(agent))
    assert Counter(done) == Counter(f"task-{n}" for n in range(30))
    assert agent.counters.claims_granted == 30


async def test_cut_connections_cost_nothing(client: Client, relay: "Relay") -> None:
    """Agents whose connections are cut again and again finish, and do each task once."""
    wanted = [f"task-{n}" for n in range(40)]
    await _create(client, *wanted)
    done: list[str] = []

    async def work(name: str) -> None:
        async with Client(relay.address) as remote, Agent(remote, name, pull="stream") as agent:
            async for task in agent.tasks():
                assert await task.complete()
                done.append(task.id)
                if len(done) % 8 == 0:
                    relay.cut()

    async with asyncio.TaskGroup() as group:
        for n in range(4):
            group.create_task(work(f"w{n}"))
    assert Counter(done) == Counter(wanted)
    statuses = (await client.admin.GetStatus(v1.GetStatusRequest())).tasks_by_status
    assert dict(statuses) == {"completed": 40}


async def test_a_task_lost_on_the_way_is_found(client: Client, relay: "Relay") -> None:
    """A task that was assigned just before the stream broke is worked on after it."""
    await _hold(client, "other", "held")
    claimed = v1.WatchFilter(event_types=[v1.EVENT_TYPE_TASK_CLAIMED])
    async with (
        client.watch(claimed) as watch,
        Client(relay.address) as remote,
        Agent(remote, "w", pull="stream") as agent,
    ):
        waiting = await _waiting(client, agent, agent.tasks())
        relay.muted = True
        await _create(client, "a")
        await anext(watch.events())
        relay.cut()
        task = await waiting
        assert task.id == "a"
        assert await task.complete()


async def _other_gets(client: Client, task_id: str) -> None:
    """Assert that a task that is made now goes to somebody else."""
    await _create(client, task_id)
    given = await client.claims.ClaimNextTask(
        v1.ClaimNextTaskRequest(worker_id="other", wait=Duration(seconds=20))
    )
    assert [task.id for task in given.tasks] == [task_id]
    await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="other", task_id=task_id))


async def test_who_stops_waiting_is_given_nothing(client: Client) -> None:
    """An attempt that is given up takes its credit back; the agent may make another one later."""
    await _hold(client, "somebody", "held")
    await client.workers.Connect(v1.ConnectRequest(worker_id="other"))
    async with Agent(client, "w", pull="stream") as agent:
        waiting = await _waiting(client, agent, agent.tasks())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await _other_gets(client, "a")
        again = await _waiting(client, agent, agent.tasks())
        await _create(client, "b")
        assert (await again).id == "b"


async def test_who_has_ended_is_given_nothing(client: Client) -> None:
    """An agent whose loop has ended, but that stays connected, takes no further task."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="other"))
    async with Agent(client, "w", pull="stream") as agent:
        assert [task.id async for task in agent.tasks()] == []
        await _other_gets(client, "a")
        assert agent.counters.claims_granted == 0


async def test_what_comes_too_late_goes_back(client: Client, relay: "Relay") -> None:
    """A task that was on its way when the attempt was given up is given back."""
    await _hold(client, "somebody", "held")
    await client.workers.Connect(v1.ConnectRequest(worker_id="other"))
    events = v1.WatchFilter(
        event_types=[v1.EVENT_TYPE_TASK_CLAIMED, v1.EVENT_TYPE_TASK_RELEASED], task_ids=["a"]
    )
    async with (
        client.watch(events) as watch,
        Client(relay.address) as remote,
        Agent(remote, "w", pull="stream") as agent,
        aclosing(watch.events()) as happened,
    ):
        waiting = await _waiting(client, agent, agent.tasks())
        relay.hold_back()
        await _create(client, "a")
        assert (await anext(happened)).type == v1.EVENT_TYPE_TASK_CLAIMED
        waiting.cancel()
        await asyncio.wait([waiting])
        relay.let_pass()
        released = await anext(happened)
        assert (released.type, released.worker_id) == (v1.EVENT_TYPE_TASK_RELEASED, "w")


async def test_idle_through_a_reset(client: Client) -> None:
    """An agent that waits while everything is deleted connects again, and works on what comes."""
    await _hold(client, "other", "held")
    async with Agent(client, "w", pull="stream") as agent:
        waiting = await _waiting(client, agent, agent.tasks())
        await client.admin.Reset(v1.ResetRequest(confirm="reset"))
        await _create(client, "a")
        assert (await waiting).id == "a"


async def test_a_completion_that_is_refused(client: Client) -> None:
    """What keeps a task from completing is raised by the loop; the task goes back."""
    await _create(client, "p")

    async def work() -> None:
        async with Agent(client, "w", pull="stream") as agent:
            async for _ in agent.tasks():
                await _create(client, "child", parent_id="p")

    with pytest.raises(TaskloomError, match="CHILDREN_OPEN"):
        await work()
    assert (await _task(client, "p")).attempts == 1
    assert (await _task(client, "child")).ready


async def test_a_task_taken_away_is_noticed_by_the_next_stream(
    client: Client, relay: "Relay"
) -> None:
    """A claim that ended while the connection was broken is lost when it is well again."""
    await _create(client, "a")
    async with Client(relay.address) as remote, Agent(remote, "w", pull="stream") as agent:
        async for task in agent.tasks():
            await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", status="failed"))
            relay.cut()
            await task.lost_event.wait()
    assert (await _task(client, "a")).status == "failed"


async def test_claims_outlive_a_break_by_the_patience(client: Client, relay: "Relay") -> None:
    """A broken stream leaves the agent's claims to it for as long as the agent is patient."""
    await _create(client, "a")
    async with (
        Client(relay.address) as remote,
        Agent(remote, "w", pull="stream", patience=300) as agent,
    ):
        following = agent.tasks()
        await anext(following)
        await relay.stop()
        worker = await _worker(client, "w")
        while not worker.HasField("grace_expire_time"):
            worker = await _worker(client, "w")
        grace = worker.grace_expire_time.ToDatetime() - worker.heartbeat_time.ToDatetime()
        assert grace >= timedelta(seconds=299)
