"""What is done beside the work: metrics, thoughts, pauses, trials, and looking at things."""

import asyncio
import json

from taskloom import v1

from tests.robustness.agents import Agent
from tests.robustness.recording import tag_of
from tests.robustness.verbs.choice import BASE, DRY, OVERLAYS, action


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


@action(1, side=1)
async def think(agent: Agent) -> None:
    """Say what one thinks, of a task or of all that one holds."""
    rng = agent.rng
    task_id, claim = agent.a_claim() if rng.random() < 0.6 else ("", 0)
    number = agent.board.number()
    await agent.call(
        "SetThought",
        v1.SetThoughtRequest(
            worker_id=agent.id,
            task_id=task_id,
            claim_revision=claim if task_id else 0,
            thought=rng.choice(("", "this is odd", tag_of(number))),
        ),
        number=number,
    )


@action(0.3)
async def lay_over(agent: Agent) -> None:
    """Go by an overlay from now on, or no more."""
    rng = agent.rng
    overlay = rng.choice(OVERLAYS)
    if rng.random() < 0.4:
        add = v1.AddOverlayRequest(worker_id=agent.id, overlay=overlay)
        await agent.call("AddOverlay", add)
    else:
        remove = v1.RemoveOverlayRequest(worker_id=agent.id, overlay=overlay)
        await agent.call("RemoveOverlay", remove)


@action(0.02)
async def try_snapshot(agent: Agent) -> None:
    """See what would become of the graph by a snapshot: nothing is to become of it."""
    rng, number = agent.rng, agent.board.number()
    tasks = [{"id": f"{DRY}{number}.{place}", "title": tag_of(number)} for place in range(3)]
    tasks[2] = {"id": agent.a_task(), "title": tag_of(number)}
    modes = (v1.IMPORT_MODE_TEMPLATE, v1.IMPORT_MODE_MERGE, v1.IMPORT_MODE_REPLACE)
    options = v1.ImportOptions(mode=rng.choice(modes), dry_run=True)
    if options.mode == v1.IMPORT_MODE_MERGE:
        options.on_clash = rng.choice((v1.CLASH_POLICY_SKIP, v1.CLASH_POLICY_OVERWRITE))
    options.force = options.mode == v1.IMPORT_MODE_REPLACE
    snapshot = {"schema_version": 3, "tables": {"tasks": tasks}}
    await agent.call(
        "ImportSnapshot",
        v1.ImportSnapshotRequest(options=options),
        number=number,
        seconds=10,
        content=json.dumps(snapshot).encode(),
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


@action(0.3)
async def look_at_marks(agent: Agent) -> None:
    """Read who is at work on which file."""
    await agent.call("ListFileMarks", v1.ListFileMarksRequest(page_size=1_000))


@action(0.3)
async def look_at_attachments(agent: Agent) -> None:
    """Read what is attached to a task."""
    await agent.call("ListAttachments", v1.ListAttachmentsRequest(task_id=agent.a_task()))


@action(0.3)
async def look_at_gates(agent: Agent) -> None:
    """Ask what is missing before a task can be completed."""
    task_id, _ = agent.a_claim()
    await agent.call("CheckGates", v1.CheckGatesRequest(task_id=task_id, worker_id=agent.id))


@action(0.3)
async def look_at_costs(agent: Agent) -> None:
    """Ask what a task and all below it cost, and what of its budget is left."""
    budgets = agent.board.budgets
    task_id = agent.rng.choice(budgets) if budgets else agent.a_task()
    await agent.call("GetMetrics", v1.GetMetricsRequest(task_id=task_id, recursive=True))


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
