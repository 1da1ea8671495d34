"""An agent in a workflow that talks, keeps and limits: prompts, force, and the want of room."""

import asyncio
from typing import Any

import pytest
from taskloom import v1
from taskloom_client import Agent, Client, TaskloomError
from taskloom_server.graph.workflows import Enforcement

from tests.calls import claim, complete, connect, create, show, status, update
from tests.workflows_obeyed.boards import board, guarded, limited, phases, prompt, states
from tests.workflows_obeyed.conftest import Serving

TALKATIVE = board(
    **states(
        {
            "working": {"enter_prompt": prompt("do {{ task.id }}")},
            "completed": {"enter_prompt": prompt("thanks for {{ task.id }}")},
        }
    ),
    **phases({"test": {"enter_prompt": prompt("test {{ task.id }}")}}),
    connect_prompt=prompt("welcome"),
)
PULLS = ["next", "stream", "watch", "poll"]


async def _asks_no_more(client: Client, agent: Agent, *, at_most: int) -> None:
    """Let an agent look for a task while a hundred calls of others go by."""
    looking = asyncio.create_task(anext(agent.tasks()))
    for _ in range(100):
        await status(client)
    assert not looking.done()
    assert agent.counters.calls <= at_most
    looking.cancel()
    await asyncio.wait([looking])


def _said(prompts: list[v1.Prompt]) -> list[str]:
    return [one.text for one in prompts]


@pytest.mark.parametrize("pull", PULLS)
async def test_an_agent_s_tasks_carry_their_prompts(serve: Serving, pull: str) -> None:
    """However it pulls: what its claim called for, then what it did with the task, and its end."""
    async with serve(TALKATIVE) as client:
        await create(client, "a")
        await create(client, "b")
        heard: list[list[str]] = []
        async with Agent(client, "ada", pull=pull) as agent:
            assert _said(agent.prompts) == ["welcome"]
            async for task in agent.tasks():
                heard.append(_said(task.prompts))
                await task.update(phase="test")
                heard.append(_said(task.prompts))
                await task.complete()
                heard.append(_said(task.prompts))
        assert heard == [[f"{do} {id}"] for id in "ab" for do in ("do", "test", "thanks for")]


async def test_what_an_agent_finds_in_its_hands_has_prompts(serve: Serving) -> None:
    """A task that was assigned to it comes with what beginning it calls for."""
    async with serve(TALKATIVE) as client, Agent(client, "ada") as agent:
        await create(client, "t")
        await update(client, "t", assignee="ada")
        await agent.find_held()
        async for task in agent.tasks():
            assert _said(task.prompts) == ["do t"]


async def test_an_agent_may_force(serve: Serving) -> None:
    """A refusal of a gate is raised, and the task stays in hand; force goes past it."""
    async with serve(guarded(Enforcement.WARN)) as client:
        await create(client, "t")
        async with Agent(client, "ada") as agent:
            async for task in agent.tasks():
                for refused in (task.complete(), task.update(status="waiting")):
                    with pytest.raises(TaskloomError) as caught:
                        await refused
                    assert caught.value.reason == "GATE_UNSATISFIED"
                assert not task.ended
                assert await task.update(status="waiting", force=True)
                assert await task.update(status="working")
                assert await task.complete(force=True)
        assert (await show(client, "t")).status == "completed"


@pytest.mark.parametrize("pull", PULLS)
async def test_agents_wait_for_room(serve: Serving, pull: str) -> None:
    """Agents that find no room wait for it, and all tasks are done, never two at once."""
    async with serve(limited(1)) as client:
        for n in range(4):
            await create(client, f"t{n}")
        at_work = 0
        done: list[str] = []

        async def work(name: str) -> None:
            nonlocal at_work
            options: dict[str, Any] = {"pull": pull, "idle_interval": 0.01}
            async with Agent(client, name, **options) as agent:
                async for task in agent.tasks():
                    at_work += 1
                    assert at_work == 1
                    await show(client, task.id)
                    at_work -= 1
                    await task.complete()
                    done.append(task.id)

        async with asyncio.timeout(30):
            await asyncio.gather(work("ada"), work("bob"), work("eve"))
        assert sorted(done) == ["t0", "t1", "t2", "t3"]


@pytest.mark.parametrize("pull", PULLS)
async def test_agents_look_past_what_is_full(serve: Serving, pull: str) -> None:
    """Where a workflow has no room, agents take the best of the others, refused once at the most.

    They go back to it as soon as there is room.
    """
    async with serve(limited(1), board(name="other")) as client:
        await create(client, "held", priority=9)
        await connect(client, "holder")
        await claim(client, "holder", "held")
        for n in range(12):
            await create(client, f"full{n:02}", priority=8)
        await create(client, "second", workflow="other", priority=3)
        await create(client, "first", workflow="other", priority=7)
        options: dict[str, Any] = {"pull": pull, "idle_interval": 0.01}
        async with asyncio.timeout(30), Agent(client, "ada", **options) as agent:
            tasks = agent.tasks()
            assert (await anext(tasks)).id == "first"
            chosen_by_itself = pull in {"watch", "poll"}
            assert agent.counters.claims_tried == (2 if chosen_by_itself else 1)
            assert (await anext(tasks)).id == "second"
            waiting = asyncio.create_task(anext(tasks))
            while agent.looking == 0:
                await status(client)
            await complete(client, "holder", "held")
            assert (await waiting).id == "full00"
            assert agent.counters.claims_refused == 0


@pytest.mark.parametrize("pull", PULLS)
async def test_agents_rest_while_all_is_full(serve: Serving, pull: str) -> None:
    """An attempt asks once for each workflow that is full; the next one comes after a rest."""
    async with serve(limited(1), limited(1, name="other")) as client:
        await connect(client, "holder", max_claims=2)
        for name in ("board", "other"):
            await create(client, f"held-{name}", workflow=name)
            await claim(client, "holder", f"held-{name}")
            for n in range(3):
                await create(client, f"{name}{n}", workflow=name)
        async with Agent(client, "ada", pull=pull, idle_interval=3600) as agent:
            await _asks_no_more(client, agent, at_most=5)  # Connect, a list or a watch, two claims


@pytest.mark.parametrize("pull", PULLS)
async def test_what_is_assigned_and_cannot_begin_is_put_off(serve: Serving, pull: str) -> None:
    """An agent with no room but for an assigned task that finds none rests, and begins it then."""
    async with serve(limited(1)) as client:
        await create(client, "held")
        await connect(client, "holder")
        await claim(client, "holder", "held")
        await create(client, "t")
        await connect(client, "ada")
        await update(client, "t", assignee="ada")
        async with Agent(client, "ada", pull=pull, idle_interval=3600) as agent:
            # Connect, a claim, an attempt at another task, what it holds, and what is left.
            await _asks_no_more(client, agent, at_most=8)


@pytest.mark.parametrize("pull", PULLS)
async def test_what_was_put_off_is_begun_once_it_can(serve: Serving, pull: str) -> None:
    """An assigned task for which there was no room is begun, by a claim, when there is."""
    async with serve(limited(1)) as client:
        await create(client, "held")
        await connect(client, "holder")
        await claim(client, "holder", "held")
        await create(client, "t")
        await connect(client, "ada")
        await update(client, "t", assignee="ada")
        options: dict[str, Any] = {"pull": pull, "idle_interval": 0.01}
        async with asyncio.timeout(30), Agent(client, "ada", **options) as agent:
            waiting = asyncio.create_task(anext(agent.tasks()))
            while not (agent.counters.calls > 2 or waiting.done()):
                await status(client)
            assert (await show(client, "t")).status == "assigned"
            await complete(client, "holder", "held")
            task = await waiting
            assert (task.id, task.task.status) == ("t", "working")


@pytest.mark.parametrize("pull", PULLS)
async def test_over_budget_what_is_begun_is_ended(serve: Serving, pull: str) -> None:
    """What the agent had begun is handed out and ended; what is assigned to it is not begun."""
    async with serve(board()) as client:
        await create(client, "top", max_cost_usd=1.0)
        for id in ("begun", "assigned"):
            await create(client, id, parent_id="top")
        await connect(client, "ada", max_claims=2)
        await claim(client, "ada", "begun")
        await update(client, "assigned", assignee="ada")
        metrics = v1.Metrics(cost_usd=2.0)
        await client.tasks.LogMetrics(v1.LogMetricsRequest(task_id="begun", metrics=metrics))
        options: dict[str, Any] = {"pull": pull, "idle_interval": 0.01}
        async with asyncio.timeout(30), Agent(client, "ada", max_claims=2, **options) as agent:
            tasks = agent.tasks()
            assert (await anext(tasks)).id == "begun"
            waiting = asyncio.create_task(anext(tasks))
            while (await show(client, "begun")).status != "completed":
                assert not waiting.done()
            for _ in range(20):
                await status(client)
            assert not waiting.done()
            await update(client, "top", max_cost_usd=9.0)
            await create(client, "other", priority=0)  # which wakes those who wait
            assert {(await waiting).id, (await anext(tasks)).id} == {"assigned", "other"}
