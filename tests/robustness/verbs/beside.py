"""What is done beside the work: metrics, marks, attachments, pauses, and looking at things."""

import asyncio

from taskloom import v1

from tests.robustness.agents import Agent
from tests.robustness.recording import tag_of
from tests.robustness.verbs.choice import BASE, action


@action(3, side=4)
async def log_metrics(agent: Agent) -> None:
    """Add to what a task consumed."""
    rng = agent.rng
    task_id, claim = agent.a_claim()
    await agent.call(
        "LogMetrics",
        v1.LogMetricsRequest(
            worker_id=agent.id,
            task_id=task_id,
            claim_revision=claim,
            metrics=v1.Metrics(tokens_in=rng.randrange(1, 1000), cost_usd=0.25),
        ),
    )


@action(2, side=2)
async def mark_files(agent: Agent) -> None:
    """Say which files one works on."""
    rng = agent.rng
    task_id, claim = agent.a_claim() if rng.random() < 0.8 else ("", 0)
    number = agent.board.number()
    await agent.call(
        "MarkFiles",
        v1.MarkFilesRequest(
            worker_id=agent.id,
            paths=[f"src/{rng.randrange(40)}.py" for _ in range(rng.randrange(1, 3))],
            task_id=task_id,
            claim_revision=claim,
            reason=tag_of(number),
        ),
        number=number,
    )


@action(1, side=1)
async def unmark_files(agent: Agent) -> None:
    """Say that one does not any more."""
    rng = agent.rng
    number = agent.board.number()
    await agent.call(
        "UnmarkFiles",
        v1.UnmarkFilesRequest(
            worker_id=agent.id,
            paths=[f"src/{rng.randrange(40)}.py" for _ in range(rng.randrange(3))],
            reason=tag_of(number),
        ),
        number=number,
    )


@action(2, side=2)
async def attach(agent: Agent) -> None:
    """Keep something with a task."""
    rng = agent.rng
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    answer = await agent.call(
        "Attach",
        v1.AttachRequest(
            worker_id=agent.id,
            task_id=task_id,
            claim_revision=claim,
            type=rng.choice(("note", "log")),
            name=tag_of(number),
            content=rng.randbytes(rng.choice((0, 20, 200))),
        ),
        number=number,
    )
    if answer is not None:
        made = answer.attachment
        agent.attached.append((task_id, made.type, made.sequence))


@action(0.5)
async def detach(agent: Agent) -> None:
    """Take something away that one has attached."""
    if agent.attached:
        task_id, type_, sequence = agent.attached.popleft()
        await agent.call(
            "Detach",
            v1.DetachRequest(worker_id=agent.id, task_id=task_id, type=type_, sequence=sequence),
        )


@action(0.06)
async def pause(agent: Agent) -> None:
    """Stop claims, and let them go on after a moment."""
    number = agent.board.number()
    await agent.call("Pause", v1.PauseRequest(by=agent.id, reason=tag_of(number)), number=number)
    await asyncio.sleep(agent.rng.uniform(0.02, 0.2))
    number = agent.board.number()
    request = v1.ResumeRequest(by=agent.id, reason=tag_of(number))
    await agent.call("Resume", request, number=number, patient=True)


@action(2, side=2)
async def look_at_task(agent: Agent) -> None:
    """Read one task."""
    await agent.call("GetTask", v1.GetTaskRequest(task_id=agent.a_task()))


@action(0.3)
async def look_at_list(agent: Agent) -> None:
    """Read a page of tasks."""
    rng = agent.rng
    request = v1.ListTasksRequest(page_size=rng.choice((5, 20)))
    if rng.random() < 0.5:
        request.ready = True
    else:
        request.order_by = v1.ORDER_BY_UPDATE_TIME
    await agent.call("ListTasks", request)


@action(0.4)
async def look_at_status(agent: Agent) -> None:
    """Read how the whole stands."""
    await agent.call("GetStatus", v1.GetStatusRequest())


@action(0.25)
async def pause_subtree(agent: Agent) -> None:
    """Stop claims of a task and all below it, and let them go on after a moment."""
    rng = agent.rng
    task_id = BASE if rng.random() < 0.3 else agent.a_task()
    number = agent.board.number()
    request = v1.PauseRequest(by=agent.id, task_id=task_id, reason=tag_of(number))
    await agent.call("Pause", request, number=number)
    await asyncio.sleep(rng.uniform(0.05, 0.6))
    number = agent.board.number()
    resume = v1.ResumeRequest(by=agent.id, task_id=task_id, reason=tag_of(number))
    await agent.call("Resume", resume, number=number, patient=True)


@action(0.5)
async def ask_why(agent: Agent) -> None:
    """Ask why a task cannot be taken by oneself."""
    request = v1.ExplainTaskRequest(task_id=agent.a_task(), worker_id=agent.id)
    await agent.call("ExplainTask", request)
