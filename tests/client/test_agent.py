"""Agents on the real service: the whole way of a task, and fleets of agents.

What an agent does when the server is in trouble is in test_agent_scripted.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from taskloom import v1
from taskloom_client import PULLS, Agent, Client, Counters, HeldTask

if TYPE_CHECKING:
    from tests.client.conftest import Relay

WAYS = list(PULLS)


async def _create(client: Client, id: str, *blocked_by: str, priority: int = 5) -> None:
    await client.tasks.CreateTask(
        v1.CreateTaskRequest(id=id, title=id, blocked_by=blocked_by, priority=priority)
    )


async def _task(client: Client, id: str) -> v1.Task:
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=id))).task


async def _looking(
    agent: Agent, following: AsyncGenerator[HeldTask, None]
) -> asyncio.Task[HeldTask]:
    """The agent's next task to be, once it has begun to look for it."""
    waiting = asyncio.create_task(anext(following))
    await asyncio.sleep(0)
    assert agent.looking
    return waiting


async def _statuses(client: Client) -> dict[str, int]:
    answer = await client.admin.GetStatus(v1.GetStatusRequest())
    return dict(answer.tasks_by_status)


@pytest.mark.parametrize("pull", WAYS)
async def test_works_a_graph_to_its_end(client: Client, pull: str) -> None:
    """An agent takes what is ready by priority, frees what was blocked, and ends when all is."""
    await _create(client, "low", priority=1)
    await _create(client, "high", priority=9)
    await _create(client, "last", "high", "low", priority=10)
    async with Agent(client, "worker", pull=pull, idle_interval=0.01) as agent:
        assert [task.id async for task in agent.tasks()] == ["high", "low", "last"]
    assert await _statuses(client) == {"completed": 3}
    assert agent.counters.tasks_completed == 3
    assert agent.counters.claims_refused == 0


@pytest.mark.parametrize("pull", WAYS)
async def test_takes_the_hottest_first(client: Client, pull: str) -> None:
    """Told to go by temperature, an agent takes what was signalled or boosted before the rest."""
    await _create(client, "urgent", priority=7)
    for id, boost in (("warm", 0.5), ("hot", 0.9)):
        await _create(client, id, priority=5)
        await client.tasks.BoostTask(v1.BoostTaskRequest(task_id=id, boost=boost))
    async with Agent(client, "worker", pull=pull, order_by=v1.ORDER_BY_TEMPERATURE) as agent:
        assert [task.id async for task in agent.tasks()] == ["hot", "warm", "urgent"]


@pytest.mark.parametrize("pull", WAYS)
async def test_waits_for_what_others_hold(client: Client, pull: str) -> None:
    """A task that waits for another agent's is done by whoever is free once it can be."""
    await _create(client, "first")
    await _create(client, "second", "first")
    async with Agent(client, "other") as other:
        async for held in other.tasks():
            async with Agent(client, "worker", pull=pull, idle_interval=0.01) as agent:
                following = agent.tasks()
                waiting = await _looking(agent, following)
                await held.complete()
                assert (await waiting).id == "second"
                assert [task async for task in following] == []
            break
    assert await _statuses(client) == {"completed": 2}


async def _run(
    address: str, name: str, pull: str, done: list[str], together: asyncio.Barrier
) -> Counters:
    async with Client(address) as client, Agent(client, name, pull=pull) as agent:
        await together.wait()
        async for task in agent.tasks():
            done.append(task.id)
        return agent.counters


async def _fleet(address: str, size: int, pull: str) -> tuple[list[str], Sequence[Counters]]:
    done: list[str] = []
    together = asyncio.Barrier(size)
    async with asyncio.TaskGroup() as group:
        agents = [
            group.create_task(_run(address, f"worker-{n}", pull, done, together))
            for n in range(size)
        ]
    return done, [agent.result() for agent in agents]


@pytest.mark.parametrize("pull", WAYS)
async def test_a_fleet_does_each_task_once(client: Client, pull: str) -> None:
    """Eight agents at once do sixty tasks, each once; those that choose get in each other's way."""
    for n in range(60):
        await _create(client, f"task-{n}")
    done, counters = await _fleet(client.target, 8, pull)
    assert Counter(done) == Counter(f"task-{n}" for n in range(60))
    assert sum(each.tasks_completed for each in counters) == 60
    assert sum(each.claims_granted for each in counters) == 60
    refused = sum(each.claims_refused for each in counters)
    assert refused == 0 if pull in {"next", "stream"} else refused > 0
    workers = await client.workers.ListWorkers(v1.ListWorkersRequest(include_disconnected=True))
    assert sum(each.claim_attempts for each in workers.workers) == sum(
        each.claims_tried for each in counters
    )


async def test_verbs_of_a_holder(client: Client) -> None:
    """Marks, attachments, metrics and updates are made in the claim's name."""
    await _create(client, "a")
    async with Agent(client, "worker") as agent, Agent(client, "other") as other:
        await client.files.MarkFiles(v1.MarkFilesRequest(worker_id="other", paths=["b.py"]))
        async for task in agent.tasks():
            conflicts = await task.mark(["a.py", "b.py"], "parsing")
            assert [(each.worker_id, each.path) for each in conflicts] == [("other", "b.py")]
            attached = await task.attach("note", "done", name="n")
            assert attached is not None
            assert (attached.size, attached.mime_type) == (4, "text/plain")
            metrics = await task.log_metrics(tokens_in=5, cost_usd=0.25)
            assert metrics is not None
            assert (metrics.tokens_in, metrics.cost_usd) == (5, 0.25)
            assert await task.update(description="longer")
            assert task.task.description == "longer"
            before = task.task.temperature
            assert await task.signal("it parses", breakthrough=True)
            assert task.task.temperature > before
            assert await task.think("the grammar is ambiguous")
            assert (await _task(client, "a")).current_thought == "the grammar is ambiguous"
            assert await task.complete("it works")
            later = await task.log_metrics(tokens_out=7)
            assert later is not None
            assert later.tokens_out == 7
        assert other.counters.tasks_completed == 0
    after = await _task(client, "a")
    assert (after.status, after.worker_id) == ("completed", "worker")


@pytest.mark.parametrize("pull", WAYS)
async def test_a_failing_body_gives_its_task_back(client: Client, pull: str) -> None:
    """A body that raises leaves the task to be tried again, with an attempt counted."""
    await _create(client, "a")

    async def work() -> None:
        async with Agent(client, "worker", pull=pull) as agent:
            async for _ in agent.tasks():
                raise ValueError("cannot parse")

    with pytest.raises(ValueError, match="cannot parse"):
        await work()
    after = await _task(client, "a")
    assert (after.status, after.attempts, after.worker_id) == ("pending", 1, "")
    history = await client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="a"))
    assert "ValueError: cannot parse" in [each.reason for each in history.transitions]


@pytest.mark.parametrize("pull", WAYS)
async def test_a_cancelled_body_gives_its_task_back(client: Client, pull: str) -> None:
    """A body that is cancelled leaves the task ready, and no attempt is counted by its release."""
    await _create(client, "a")
    working = asyncio.Event()

    async def work() -> None:
        async with Agent(client, "worker", pull=pull) as agent:
            async for _ in agent.tasks():
                working.set()
                await asyncio.Event().wait()

    worker = asyncio.create_task(work())
    await working.wait()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert (await _task(client, "a")).ready


async def test_cancelled_as_it_connects(client: Client, relay: "Relay") -> None:
    """An agent that is cancelled before it knows that it is connected leaves no worker behind."""

    async def connected() -> bool:
        return bool((await client.workers.ListWorkers(v1.ListWorkersRequest())).workers)

    async with Client(relay.address) as remote:
        await remote.ready()
        relay.hold_back()
        entering = asyncio.create_task(Agent(remote, "worker").__aenter__())
        while not await connected():
            pass
        entering.cancel()
        relay.let_pass()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert not await connected()


@pytest.mark.parametrize("pull", WAYS)
async def test_goes_on_where_it_was(client: Client, pull: str) -> None:
    """An agent that comes back under its name, after a crash, is first given what it holds."""
    await _create(client, "old")
    await _create(client, "new", priority=10)
    await client.workers.Connect(v1.ConnectRequest(worker_id="worker"))
    held = await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="worker", task_id="old"))
    async with Agent(client, "worker", pull=pull) as agent:
        claims = [(task.id, task.claim_revision) async for task in agent.tasks()]
    assert claims[0] == ("old", held.task.claim_revision)
    assert claims[1][0] == "new"


@pytest.mark.parametrize("pull", ["next", "stream", "watch"])
async def test_takes_up_what_is_assigned(client: Client, pull: str) -> None:
    """A task that a lead assigns to the worker is begun by it."""
    await _create(client, "a")
    async with Agent(client, "worker", pull=pull) as agent:
        await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", assignee="worker"))
        async for task in agent.tasks():
            assert task.task.status == "working"
    assert (await _task(client, "a")).status == "completed"


@pytest.mark.parametrize("pull", WAYS)
async def test_a_deleted_task_is_lost(client: Client, pull: str) -> None:
    """A task deleted under the agent is lost to it, and the loop goes on."""
    await _create(client, "a", priority=9)
    await _create(client, "b")
    seen = []
    async with Agent(client, "worker", pull=pull) as agent:
        async for task in agent.tasks():
            seen.append((task.id, task.lost))
            if task.id == "a":
                await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="a", force=True))
                assert await task.complete() is False
                assert task.lost
    assert seen == [("a", False), ("b", False)]
    assert agent.counters.tasks_completed == 1


@pytest.mark.parametrize("pull", WAYS)
async def test_survives_a_reset(client: Client, pull: str) -> None:
    """An agent that a reset wiped out connects again and works on what comes after."""
    await _create(client, "a")
    seen = []
    async with Agent(client, "worker", pull=pull, idle_interval=0.01) as agent:
        before = agent.incarnation
        async for task in agent.tasks():
            seen.append(task.id)
            if task.id == "a":
                await client.admin.Reset(v1.ResetRequest(confirm="reset"))
                await _create(client, "b")
                assert await task.mark(["a.py"]) == ()
                assert task.lost
        assert agent.incarnation != before
    assert seen == ["a", "b"]


@pytest.mark.parametrize("pull", WAYS)
async def test_heartbeats_keep_the_claim(client: Client, pull: str) -> None:
    """Work that lasts longer than the lease is the agent's all the same."""
    await _create(client, "a")
    async with Agent(client, "worker", pull=pull, lease=timedelta(seconds=1)) as agent:
        async for task in agent.tasks():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.6):
                    await task.lost_event.wait()
            assert await task.complete()


@pytest.mark.parametrize("pull", WAYS)
async def test_a_lead_takes_a_task_away(client: Client, pull: str) -> None:
    """A task that a person moves out of the agent's hands is noticed by the next heartbeat."""
    await _create(client, "a")
    async with Agent(client, "worker", pull=pull, lease=timedelta(seconds=1)) as agent:
        async for task in agent.tasks():
            await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", status="failed"))
            await task.lost_event.wait()
    assert (await _task(client, "a")).status == "failed"


@pytest.mark.parametrize("pull", WAYS)
async def test_a_parked_task_is_put_aside(client: Client, pull: str) -> None:
    """A body may park its task and take another one; moved on by a person, it comes again."""
    await _create(client, "a", priority=9)
    await _create(client, "b")
    seen = []
    async with Agent(client, "worker", pull=pull, lease=timedelta(seconds=1)) as agent:
        async for task in agent.tasks():
            seen.append((task.id, task.task.status))
            if len(seen) == 1:
                assert await task.update(status="waiting", reason="ask Ada")
                assert task.parked
                assert not task.ended
            elif task.id == "b":
                assert (await _task(client, "a")).worker_id == "worker"
                await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", status="working"))
    assert seen == [("a", "working"), ("b", "working"), ("a", "working")]
    assert await _statuses(client) == {"completed": 2}


async def test_who_parked_a_task_goes_on_with_it(client: Client) -> None:
    """A task that its own body takes up again is no new one to the loop."""
    await _create(client, "a", priority=9)
    await _create(client, "b")
    parked = None
    async with Agent(client, "worker", max_claims=2) as agent:
        following = agent.tasks()
        parked = await anext(following)
        assert await parked.update(status="waiting")
        assert (await anext(following)).id == "b"
        assert await parked.update(status="working")
        assert not parked.parked
        await agent.find_held()
        assert not agent.inherits
        assert await parked.complete()
        assert [task.id async for task in following] == []
    assert await _statuses(client) == {"completed": 2}


async def test_a_parked_task_is_not_taken_up(client: Client) -> None:
    """An agent that comes back under its name leaves alone what it parked before."""
    await _create(client, "parked")
    await client.workers.Connect(v1.ConnectRequest(worker_id="worker"))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="worker", task_id="parked"))
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="parked", status="waiting"))
    await _create(client, "a")
    async with Agent(client, "worker") as agent:
        async for task in agent.tasks():
            assert task.id == "a"
            break


async def test_an_update_may_end_the_task(client: Client) -> None:
    """A status that gives the task away ends it for the body, and the loop completes nothing."""
    await _create(client, "a")
    seen = []
    async with Agent(client, "worker") as agent:
        async for task in agent.tasks():
            seen.append(task.id)
            if len(seen) == 1:
                assert await task.update(status="pending", reason="later")
                assert task.ended
    assert seen == ["a", "a"]
    assert await _statuses(client) == {"completed": 1}


@pytest.mark.parametrize("pull", WAYS)
async def test_pausing_makes_agents_wait(client: Client, pull: str) -> None:
    """While the system is paused an agent waits; when it is resumed the agent goes on."""
    await _create(client, "a")
    await client.admin.Pause(v1.PauseRequest(by="test"))
    async with Agent(client, "worker", pull=pull, idle_interval=0.01) as agent:
        waiting = await _looking(agent, agent.tasks())
        await client.admin.Resume(v1.ResumeRequest(by="test"))
        assert (await waiting).id == "a"


@pytest.mark.parametrize("pull", WAYS)
async def test_a_paused_subtree_makes_agents_wait(client: Client, pull: str) -> None:
    """With nothing left but what is paused with its subtree, an agent waits until it goes on."""
    await _create(client, "top")
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="a", parent_id="top"))
    await client.admin.Pause(v1.PauseRequest(by="test", task_id="top"))
    async with Agent(client, "worker", pull=pull, idle_interval=0.01) as agent:
        waiting = await _looking(agent, agent.tasks())
        if pull in {"poll", "watch"}:  # the others wait for ten seconds before they look
            while not agent.counters.empty_polls:
                await client.admin.GetStatus(v1.GetStatusRequest())
        await client.admin.Resume(v1.ResumeRequest(by="test", task_id="top"))
        assert (await waiting).id == "a"


@pytest.mark.parametrize("pull", WAYS)
async def test_cooling_down_is_waited_out(client: Client, pull: str) -> None:
    """Between two tasks an agent rests as long as its registration says."""
    await _create(client, "a")
    await _create(client, "b")
    async with Agent(client, "worker", pull=pull, cool_down=timedelta(milliseconds=200)) as agent:
        assert [task.id async for task in agent.tasks()] == ["a", "b"]
    assert agent.counters.seconds_idle >= 0.2
