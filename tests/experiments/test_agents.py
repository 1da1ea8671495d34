"""The simulated agent as what it is: a process that talks to a server and to its parent."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from taskloom import v1
from taskloom_client import PULLS, Client
from taskloom_experiments import agents as agents_module
from taskloom_experiments.agent_settings import AgentSettings, CoordinatorSettings
from taskloom_experiments.coordinating import Costs

StartAgent = Callable[..., Awaitable[Process]]

LONG = 60 * 24 * 30
"""Minutes of a task that no test waits for: more than a minute at the speed of these agents."""


@pytest.fixture
async def start_agent(client: Client) -> AsyncIterator[StartAgent]:
    """Start an agent against the server; by default an untethered one that works fast."""
    started: list[Process] = []

    async def start(
        *more: str, worker_id: str = "agent-1", settings: AgentSettings | None = None
    ) -> Process:
        settings = settings or AgentSettings(pull="next", seed=1, speed=36_000)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "taskloom_experiments.agents"),
            *("--server", client.target, "--worker-id", worker_id),
            *("--config", settings.to_json(), *more),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _add(client: Client, *task_ids: str, minutes: int = 10, **fields: Any) -> None:
    for task_id in task_ids:
        request = v1.CreateTaskRequest(id=task_id, title=task_id, **fields)
        request.time_estimate.FromSeconds(minutes * 60)
        await client.tasks.CreateTask(request)


async def _started(client: Client, *task_ids: str) -> None:
    """Wait until the tasks are being worked on."""
    waiting = set(task_ids)
    async with asyncio.timeout(20), client.watch(include_state=True) as watch:
        async for message in watch:
            for event in message.events.events:
                if event.task.status == "working":
                    waiting.discard(event.task_id)
            if not waiting:
                return


async def _end(process: Process) -> tuple[int | None, dict[str, int], str]:
    """Wait for an agent's end: its exit code, what it counted, what it said on stderr."""
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    lines = out.decode().splitlines()
    return process.returncode, json.loads(lines[-1]) if lines else {}, err.decode()


@pytest.mark.parametrize("pull", PULLS)
async def test_agent_works_until_nothing_is_left(
    client: Client, start_agent: StartAgent, pull: Any
) -> None:
    """It completes every task, in the order of dependencies, then leaves and says its counts."""
    await _add(client, "first", "second")
    await _add(client, "last", blocked_by=["first", "second"])

    agent = await start_agent(settings=AgentSettings(pull=pull, seed=1, speed=36_000))
    code, counters, _ = await _end(agent)

    assert code == 0
    assert counters["tasks_completed"] == 3
    assert counters["claims_granted"] == counters["claims_tried"] == 3
    assert counters["working_ms"] > 0
    done = await client.tasks.ListTasks(v1.ListTasksRequest(statuses=["completed"]))
    assert {task.id for task in done.tasks} == {"first", "second", "last"}
    workers = await client.workers.ListWorkers(v1.ListWorkersRequest())
    assert not workers.workers


async def test_worked_task_has_results_costs_and_phase(
    client: Client, start_agent: StartAgent
) -> None:
    """Every task leaves gate/results, tokens, a cost, and was in the phase implement."""
    await _add(client, "parse")

    await _end(await start_agent())

    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="parse"))).task
    assert task.metrics.tokens_in > task.metrics.tokens_out > 0
    assert task.metrics.cost_usd > 0
    assert task.phase == "implement"
    results = await client.attachments.GetAttachment(
        v1.GetAttachmentRequest(task_id="parse", type="gate/results")
    )
    assert results.attachment.mime_type == "application/json"
    assert json.loads(results.attachment.content)["passed"] is True


async def test_files_are_marked_while_the_task_is_worked(
    client: Client, start_agent: StartAgent
) -> None:
    """Marks are there during the work and gone after it."""
    await _add(client, "parse", minutes=LONG)
    marks = v1.WatchFilter(event_types=[v1.EVENT_TYPE_FILE_MARKED])
    async with client.watch(marks) as watch, asyncio.timeout(20):
        agent = await start_agent()
        async for message in watch:
            if message.HasField("events"):
                break
    during = await client.files.ListFileMarks(v1.ListFileMarksRequest())

    agent.terminate()
    await _end(agent)

    assert {mark.task_id for mark in during.marks} == {"parse"}
    assert not (await client.files.ListFileMarks(v1.ListFileMarksRequest())).marks


async def test_terminated_agent_gives_its_task_back(
    client: Client, start_agent: StartAgent
) -> None:
    """SIGTERM: what it holds is free at once, it is disconnected, and it has told its counts."""
    await _add(client, "long", minutes=LONG)
    agent = await start_agent()
    await _started(client, "long")

    agent.terminate()
    code, counters, _ = await _end(agent)

    assert code == 0
    assert counters["tasks_completed"] == 0
    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="long"))).task
    assert (task.status, task.worker_id, task.ready) == ("pending", "", True)
    assert not (await client.workers.ListWorkers(v1.ListWorkersRequest())).workers


async def test_agent_works_as_many_tasks_at_once_as_it_may_hold(
    client: Client, start_agent: StartAgent
) -> None:
    """With max_claims 2 two tasks are in work together."""
    await _add(client, "left", "right", minutes=LONG)
    settings = AgentSettings(pull="next", seed=1, speed=36_000, max_claims=2)

    await start_agent(settings=settings)

    await _started(client, "left", "right")


async def test_tethered_agent_waits_for_the_start(client: Client, start_agent: StartAgent) -> None:
    """It says ready, and before go it has not even registered."""
    await _add(client, "parse")
    agent = await start_agent("--parent", str(os.getpid()))
    assert agent.stdout is not None
    assert agent.stdin is not None
    assert await agent.stdout.readline() == b"ready\n"
    everybody = v1.ListWorkersRequest(include_disconnected=True)
    assert not (await client.workers.ListWorkers(everybody)).workers

    agent.stdin.write(b"go\n")
    async with asyncio.timeout(30):
        await agent.wait()

    assert agent.returncode == 0
    assert len((await client.workers.ListWorkers(everybody)).workers) == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_tethered_agent_ends_when_its_parents_pipe_does(
    client: Client, start_agent: StartAgent, begun: bool
) -> None:
    """Where no kernel watches over it, the end of the pipe ends it, before and after the start."""
    await _add(client, "long", minutes=LONG)
    agent = await start_agent("--parent", str(os.getpid()))
    assert agent.stdout is not None
    assert agent.stdin is not None
    await agent.stdout.readline()
    if begun:
        agent.stdin.write(b"go\n")
        await _started(client, "long")

    agent.stdin.close()

    async with asyncio.timeout(10):
        await agent.wait()
    assert agent.returncode == agents_module.EXIT_FAILED


async def test_crashed_agent_leaves_its_task_to_the_others(
    client: Client, start_agent: StartAgent
) -> None:
    """kill -9: nothing is told, and when the lease is over somebody else completes the task."""
    await _add(client, "parse", minutes=LONG)
    slow = AgentSettings(pull="next", seed=1, speed=36_000, lease_s=1)
    crashing = await start_agent(settings=slow)
    await _started(client, "parse")

    crashing.kill()
    await crashing.wait()
    fast = AgentSettings(pull="next", seed=1, speed=36_000_000)
    _, counters, _ = await _end(await start_agent(worker_id="agent-2", settings=fast))

    assert crashing.returncode == -signal.SIGKILL
    assert counters["tasks_completed"] == 1


@pytest.mark.parametrize(
    "config", ["", "{", "[]", '{"pull": "push"}', '{"pull": "next", "seed": 1, "speed": 0}']
)
async def test_config_that_cannot_be_used_is_one_sentence(config: str) -> None:
    """Exit code 2 and no traceback."""
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "taskloom_experiments.agents"),
        *("--server", "127.0.0.1:1", "--worker-id", "agent-1", "--config", config),
        stdout=PIPE,
        stderr=PIPE,
    )
    code, _, err = await _end(agent)
    assert code == agents_module.EXIT_BAD_CONFIG
    assert err.startswith("--config")
    assert len(err.splitlines()) == 1


def test_no_server_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An agent that finds no server says so and fails."""
    monkeypatch.setattr(agents_module, "CONNECT_S", 0.05)
    settings = AgentSettings(pull="next", seed=1, speed=1)
    code = agents_module.main(
        ["--server", "127.0.0.1:1", "--worker-id", "agent-1", "--config", settings.to_json()]
    )
    assert code == agents_module.EXIT_FAILED
    assert capsys.readouterr().err.startswith("agent-1: no server answered at 127.0.0.1:1")


def test_settings_survive_the_command_line() -> None:
    """What the runner writes is what the agent reads."""
    settings = AgentSettings(pull="poll", seed=3, speed=1.5, tags=("a", "b"), max_claims=4)
    assert AgentSettings.from_json(settings.to_json()) == settings
    coordinating = CoordinatorSettings(speed=2.0, tags=("lead",), costs=Costs(decision_s=3))
    assert CoordinatorSettings.from_json(coordinating.to_json()) == coordinating
