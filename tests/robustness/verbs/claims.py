"""What holders of claims do: connect, claim, and end what they claimed."""

from typing import Any

from taskloom import v1

from tests.robustness.agents import Agent
from tests.robustness.recording import tag_of
from tests.robustness.verbs.choice import (
    BASE,
    OVERLAYS,
    TAGS,
    action,
    for_holders,
    seconds,
    some_paths,
)

# Mostly one without roles; the lead of another may more than its other workers.
_WORKFLOWS = ("swarm", "swarm", "swarm", "hierarchical", "push")


@action(0.4)
async def connect(agent: Agent) -> None:
    """Register, or change the registration."""
    rng = agent.rng
    agent.lease = rng.choice((1.0, 1.0, 1.5, 2.0, 3.0))
    answer = await agent.call(
        "Connect",
        v1.ConnectRequest(
            worker_id=agent.id,
            tags=[tag for tag in (*TAGS, "lead") if rng.random() < 0.7],
            max_claims=rng.randrange(1, 5),
            lease=seconds(agent.lease),
            cool_down=seconds(rng.choice((0, 0, 0, 0.01, 0.05))),
            workflow=rng.choice(_WORKFLOWS),
            overlays=rng.choice(((), (), (), ("careful",), OVERLAYS)),
        ),
    )
    if answer is not None:
        agent.connected = True
        for task_id in list(agent.held):
            agent.ended(task_id)
        for task in answer.held_tasks:
            agent.took(task)


@action(0.2)
async def disconnect(agent: Agent) -> None:
    """Leave, with all claims; the next action is to come back."""
    number = agent.board.number()
    await agent.call(
        "Disconnect",
        v1.DisconnectRequest(worker_id=agent.id, reason=tag_of(number)),
        number=number,
    )
    for task_id in list(agent.held):
        agent.ended(task_id)
    agent.connected = False


@action(0.15)
async def fall_silent(agent: Agent) -> None:
    """Give no sign of life, for about as long as claims last."""
    agent.be_quiet(agent.lease * agent.rng.uniform(0.7, 1.6))


@action(3, side=8)
async def heartbeat(agent: Agent) -> None:
    """Say that one lives."""
    await agent.call("Heartbeat", v1.HeartbeatRequest(worker_id=agent.id))


@action(14)
async def claim_next(agent: Agent) -> None:
    """Take the best, and wait for it sometimes."""
    rng = agent.rng
    request = v1.ClaimNextTaskRequest(
        worker_id=agent.id,
        max_tasks=rng.choice((0, 0, 0, 1, 2, 3)),
        parent_id=BASE if rng.random() < 0.1 else "",
        wait_when_done=rng.random() < 0.7,
    )
    deadline = 3.0
    if rng.random() < 0.7:
        wait = rng.uniform(0.05, 1.0) if rng.random() < 0.8 else rng.uniform(1.5, 4.0)
        request.wait.CopyFrom(seconds(wait))
        deadline = wait + rng.choice((-0.04, 2.0, 2.0, 2.0))
    if rng.random() < 0.1:
        request.lease.CopyFrom(seconds(rng.uniform(1.0, 2.0)))
    if rng.random() < 0.1:
        request.mode = v1.CLAIM_MODE_ADVISORY
    if rng.random() < 0.2:
        request.order_by = v1.ORDER_BY_TEMPERATURE
    number = agent.board.number()
    if request.max_tasks < 2 and rng.random() < 0.2:
        request.files.extend(some_paths(agent))
        request.mark_reason = tag_of(number)
    answer = await agent.call("ClaimNextTask", request, number=number, seconds=deadline)
    if answer is None:
        return
    for task in answer.tasks:
        agent.took(task)
    if answer.outcome in (v1.CLAIM_OUTCOME_NONE_READY, v1.CLAIM_OUTCOME_ALL_DONE):
        agent.board.hunger += 1


@action(4)
async def claim_named(agent: Agent) -> None:
    """Take a certain one, or renew what one has."""
    rng = agent.rng
    task_id = agent.a_task()
    if agent.held and rng.random() < 0.2:
        task_id = rng.choice(list(agent.held))
    request = v1.ClaimTaskRequest(worker_id=agent.id, task_id=task_id)
    if rng.random() < 0.2:
        request.lease.CopyFrom(seconds(rng.uniform(1.0, 2.0)))
    if rng.random() < 0.2:
        request.mode = v1.CLAIM_MODE_ADVISORY
    number = agent.board.number()
    if rng.random() < 0.3:
        request.files.extend(some_paths(agent))
        request.mark_reason = tag_of(number)
    answer = await agent.call("ClaimTask", request, number=number)
    if answer is not None:
        agent.took(answer.task)


async def _end(agent: Agent, verb: str, request: Any, number: int) -> None:
    answer = await agent.call(verb, request, number=number)
    if answer is not None or agent.refusal in ("CLAIM_LOST", "", "TASK_DELETED", "TASK_NOT_FOUND"):
        agent.ended(request.task_id)


@for_holders
@action(16, side=1)
async def complete(agent: Agent) -> None:
    """End a task well."""
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    request = v1.CompleteTaskRequest(
        worker_id=agent.id,
        task_id=task_id,
        claim_revision=claim,
        reason=tag_of(number),
        force=agent.rng.random() < 0.2,
    )
    await _end(agent, "CompleteTask", request, number)


@for_holders
@action(3)
async def fail(agent: Agent) -> None:
    """Say that the work failed."""
    rng = agent.rng
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    request = v1.FailTaskRequest(
        worker_id=agent.id,
        task_id=task_id,
        claim_revision=claim,
        reason=tag_of(number),
        retry=rng.random() < 0.7,
    )
    if rng.random() < 0.5:
        request.retry_delay.CopyFrom(seconds(rng.uniform(0, 0.5)))
    await _end(agent, "FailTask", request, number)


@for_holders
@action(3)
async def release(agent: Agent) -> None:
    """Give a task back."""
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    request = v1.ReleaseTaskRequest(
        worker_id=agent.id, task_id=task_id, claim_revision=claim, reason=tag_of(number)
    )
    await _end(agent, "ReleaseTask", request, number)


# Mostly into the parked state, and out of it.
_MOVES = (
    *("waiting", "waiting", "waiting", "working", "working", "review", "review"),
    *("completed", "failed", "pending"),
)


@for_holders
@action(3)
async def move(agent: Agent) -> None:
    """Put a task that one holds into another state."""
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    request = v1.UpdateTaskRequest(
        worker_id=agent.id,
        task_id=task_id,
        claim_revision=claim,
        status=agent.rng.choice(_MOVES),
        reason=tag_of(number),
        force=agent.rng.random() < 0.2,
    )
    answer = await agent.call("UpdateTask", request, number=number)
    if answer is None or not answer.task.claim_revision:
        agent.ended(task_id)
