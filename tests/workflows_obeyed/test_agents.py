"""An agent in a workflow that talks, keeps and limits: prompts, force, and the want of room."""

import asyncio
from typing import Any

import pytest
from taskloom import v1
from taskloom_client import Agent, TaskloomError
from taskloom_server.graph.workflows import Enforcement

from tests.calls import create, show, update
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
