"""What a simulated agent does from its connection to its end, in every mode.

It is written against the client alone, and waits by the clock of its event loop alone: the same
agents run as processes and in a simulation. What is decided by chance is in ``simulation`` and
``behaviour``.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta

import grpc
from taskloom import v1
from taskloom_client import Agent, Client, HeldTask, Pull, TaskloomError

from taskloom_experiments import simulation
from taskloom_experiments.agent_settings import AgentSettings
from taskloom_experiments.assigned import PullAssigned
from taskloom_experiments.behaviour import attempt_fails
from taskloom_experiments.decomposing import has_work, is_part, tree_of_parts
from taskloom_experiments.modes import PART
from taskloom_experiments.pace import pace
from taskloom_experiments.pulls import ASSIGNED
from taskloom_experiments.slow_client import slow

RESULTS = "gate/results"
HANDED_ON = {
    "explore": "findings",
    "design": "design",
    "implement": "handover",
    "review": "review",
    "test": "test-report",
}
"""What a specialist leaves to the next one, by phase: what the workflow relay asks for."""
PHASE = "implement"
IDLE_S = 0.02
"""How long to rest when nothing is ready, at first. Less than agents usually do: tasks, too, take
a thousandth of their time here, and a rest must not outlast them."""
WAIT_S = 10.0
"""How long to wait for a task, at first, before seeing what is left to wait for."""
_LONGEST_WAIT_S = 3600.0

_FAILED = "the results did not pass"
_TO_ANSWER = timedelta(seconds=30)


def new_agent(client: Client, worker_id: str, settings: AgentSettings) -> Agent:
    """The agent, yet to be connected; its counters are those of what it will have done."""
    pull: str | Pull = settings.pull
    if pull == ASSIGNED:
        helps = settings.mode == "hybrid" and settings.decomposition.help
        pull = PullAssigned(helps=helps, seed=settings.seed)
    return Agent(
        slow(client, settings.slow_s),
        worker_id=worker_id,
        tags=settings.tags,
        workflow=settings.workflow,
        max_claims=settings.max_claims,
        lease=timedelta(seconds=settings.lease_s),
        pull=pull,
        idle_interval=IDLE_S * pace(settings.speed),
        shortest_wait=timedelta(seconds=min(WAIT_S * pace(settings.speed), _LONGEST_WAIT_S)),
    )


async def take_part(agent: Agent, settings: AgentSettings) -> None:
    """Connect, work until nothing is left, and leave; cancelled, give back what is held.

    Raises TaskloomError when the server refuses or cannot be reached for long.
    """
    hands = 1 if settings.mode == "hybrid" else settings.max_claims
    async with agent:  # leaving it, the agent gives back what it holds
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(hands):
                    group.create_task(_work_all(agent, settings))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None


async def _work_all(agent: Agent, settings: AgentSettings) -> None:
    async for held in agent.tasks():
        decomposes = settings.mode == "hybrid" and settings.decomposition.parts > 1
        if decomposes and not is_part(held.task):
            await _work_by_parts(held, settings)
        else:
            await work(held, settings)


async def work(held: HeldTask, settings: AgentSettings) -> None:
    """Work one task: marks, time, results, what it cost. A claim that is lost ends it.

    An attempt that fails takes as long and costs as much as one that does not. Completed a task is
    by coming back for the next one, which a stream makes one round trip.
    """
    loop = asyncio.get_running_loop()
    if settings.pull == "stream":
        await asyncio.sleep(settings.slow_s)  # told by the stream, it has yet to react
    began = loop.time()
    task = held.task
    if not has_work(task):
        return
    todo = _todo(task, settings, 0.0 if is_part(task) else settings.noise)
    fails = attempt_fails(settings.behaviour, settings.seed, task.id, task.attempts)
    if not task.phase:
        await held.update(phase=PHASE)
    await held.mark(todo.files)
    if await _lost_until(held, began + todo.seconds / settings.behaviour.speed):
        return
    if not fails:
        type_ = HANDED_ON.get(task.phase, RESULTS) if settings.mode == "relay" else RESULTS
        await held.attach(type_, todo.results, mime_type="application/json")
    await held.log_metrics(
        tokens_in=todo.tokens_in, tokens_out=todo.tokens_out, cost_usd=todo.cost_usd
    )
    if fails:
        await held.fail(_FAILED, retry=True)


async def _work_by_parts(held: HeldTask, settings: AgentSettings) -> None:
    """Decompose a task, work its parts, with whoever helps, and be done when all of them are."""
    agent, how = held.agent, settings.decomposition
    began = asyncio.get_running_loop().time()
    if await _lost_until(held, began + how.decision_s / settings.speed):
        return
    await _decompose(held, settings)
    if how.tokens_in or how.tokens_out:
        await held.log_metrics(
            tokens_in=how.tokens_in,
            tokens_out=how.tokens_out,
            cost_usd=simulation.cost_usd(how.tokens_in, how.tokens_out),
        )
    spoilt = False  # a part failed for good, which keeps the scope from ever being done
    while not held.lost:
        answer = await _next_part(agent, held.id, timedelta() if spoilt else agent.wait)
        if answer.outcome == v1.CLAIM_OUTCOME_ALL_DONE:
            return
        parts: Sequence[v1.Task] = answer.tasks
        if answer.outcome == v1.CLAIM_OUTCOME_LIMIT_REACHED:
            parts = await _parts_from_before(agent)
        if parts:
            spoilt |= await _work_part(agent.hold(parts[0]), settings)
        else:
            spoilt |= await _failed_parts(agent, held.id)
        # Without help the parts that are left would be nobody's, and are worked before.
        if spoilt and (how.help or not parts):
            await held.fail("a part of it failed", retry=False)
            return


async def _work_part(part: HeldTask, settings: AgentSettings) -> bool:
    """Work a part of one's own task to its end; True when it failed for good."""
    part.begun = True
    await work(part, settings)
    if not part.ended:
        await part.complete()
    return part.task.status == "failed"


async def _decompose(held: HeldTask, settings: AgentSettings) -> None:
    whole = simulation.work_for(
        held.id, _estimate_s(held.task), seed=settings.seed, speed=1.0, noise=settings.noise
    )
    tree = tree_of_parts(held.task, whole.seconds, settings.decomposition.parts)
    request = v1.CreateTaskTreeRequest(root=tree, parent_id=held.id, worker_id=held.agent.worker_id)
    try:
        await held.agent.call(held.agent.client.tasks.CreateTaskTree, request)
    except TaskloomError as error:
        # Whoever had the task before has decomposed it, and then crashed or failed.
        if error.code is not grpc.StatusCode.ALREADY_EXISTS:
            raise


async def _next_part(agent: Agent, task_id: str, wait: timedelta) -> v1.ClaimNextTaskResponse:
    """A part of the task, or that there is nothing more to wait for."""
    request = v1.ClaimNextTaskRequest(worker_id=agent.worker_id, parent_id=task_id)
    request.wait.FromTimedelta(wait)
    answer = await agent.call(
        agent.client.claims.ClaimNextTask,
        request,
        timeout=(wait + _TO_ANSWER).total_seconds(),
    )
    agent.counters.claims_tried += len(answer.tasks)
    agent.counters.claims_granted += len(answer.tasks)
    agent.counters.empty_polls += not answer.tasks
    return answer


async def _parts_from_before(agent: Agent) -> Sequence[v1.Task]:
    """The parts that it held when it crashed, and holds still: they leave no claim for another."""
    request = v1.ListTasksRequest(owner=agent.worker_id, claimed=True, tags_all=[PART], page_size=1)
    return (await agent.call(agent.client.tasks.ListTasks, request)).tasks


async def _failed_parts(agent: Agent, task_id: str) -> bool:
    request = v1.ListTasksRequest(
        parent_id=task_id, recursive=True, statuses=["failed"], page_size=1
    )
    return bool((await agent.call(agent.client.tasks.ListTasks, request)).tasks)


async def _lost_until(held: HeldTask, moment: float) -> bool:
    """Wait until a moment of the loop's clock; True, and earlier, when the claim is lost.

    What calls took before is part of the task's time, not on top of it.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(moment):
            await held.lost_event.wait()
    return held.lost


def _todo(task: v1.Task, settings: AgentSettings, noise: float) -> simulation.Work:
    return simulation.work_for(
        task.id, _estimate_s(task), seed=settings.seed, speed=settings.speed, noise=noise
    )


def _estimate_s(task: v1.Task) -> float | None:
    if not task.HasField("time_estimate"):
        return None
    return task.time_estimate.ToTimedelta().total_seconds()
