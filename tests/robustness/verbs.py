"""What agents do: an action for each verb of the contract, with how often it is done.

This is the one place for a new verb: a function here, and a judgement of its answer in
``promises.acknowledged``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1

from tests.robustness.agents import Agent
from tests.robustness.recording import now_ms, tag_of

Action = Callable[[Agent], Awaitable[None]]
TAGS = ("red", "green", "blue")
BASE = "base"  # a task that stays open, to work below

_MAIN: list[tuple[float, Action]] = []  # what an agent does in its main line of work
_SIDE: list[tuple[float, Action]] = []  # what it does meanwhile


def _action(weight: float, *, side: float = 0.0) -> Callable[[Action], Action]:
    def enter(action: Action) -> Action:
        if weight:
            _MAIN.append((weight, action))
        if side:
            _SIDE.append((side, action))
        return action

    return enter


def main_action(agent: Agent) -> Action:
    """The next thing that an agent does."""
    if not agent.connected:
        return connect
    if agent.board.hunger > 0 and agent.rng.random() < 0.3:
        return create
    action = _choice(agent, _MAIN)
    if action in _FOR_HOLDERS and not agent.held and agent.rng.random() < 0.8:
        return claim_next
    return action


def side_action(agent: Agent) -> Action:
    """The next thing that it does beside."""
    if agent.board.hunger > 0 and agent.rng.random() < 0.5:
        return create
    return _choice(agent, _SIDE)


def _choice(agent: Agent, actions: list[tuple[float, Action]]) -> Action:
    weights = [weight for weight, _ in actions]
    return agent.rng.choices([action for _, action in actions], weights)[0]


def seconds(value: float) -> Duration:
    """So long."""
    duration = Duration()
    duration.FromMilliseconds(round(value * 1000))
    return duration


def from_now(value: float) -> Timestamp:
    """So many seconds from now."""
    time = Timestamp()
    time.FromMilliseconds(round(now_ms() + value * 1000))
    return time


@_action(0.4)
async def connect(agent: Agent) -> None:
    """Register, or change the registration."""
    rng = agent.rng
    agent.lease = rng.choice((1.0, 1.0, 1.5, 2.0, 3.0))
    answer = await agent.call(
        "Connect",
        v1.ConnectRequest(
            worker_id=agent.id,
            tags=[tag for tag in TAGS if rng.random() < 0.7],
            max_claims=rng.randrange(1, 5),
            lease=seconds(agent.lease),
            cool_down=seconds(rng.choice((0, 0, 0, 0.01, 0.05))),
        ),
    )
    if answer is not None:
        agent.connected = True
        for task_id in list(agent.held):
            agent.ended(task_id)
        for task in answer.held_tasks:
            agent.took(task)


@_action(0.2)
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


@_action(0.15)
async def fall_silent(agent: Agent) -> None:
    """Give no sign of life, for about as long as claims last."""
    agent.be_quiet(agent.lease * agent.rng.uniform(0.7, 1.6))


@_action(3, side=8)
async def heartbeat(agent: Agent) -> None:
    """Say that one lives."""
    await agent.call("Heartbeat", v1.HeartbeatRequest(worker_id=agent.id))


@_action(14)
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
        wait = rng.uniform(0.05, 1.0) if rng.random() < 0.9 else rng.uniform(1.5, 4.0)
        request.wait.CopyFrom(seconds(wait))
        deadline = wait + rng.choice((-0.04, 2.0, 2.0, 2.0))
    if rng.random() < 0.1:
        request.lease.CopyFrom(seconds(rng.uniform(1.0, 2.0)))
    answer = await agent.call("ClaimNextTask", request, seconds=deadline)
    if answer is None:
        return
    for task in answer.tasks:
        agent.took(task)
    if answer.outcome in (v1.CLAIM_OUTCOME_NONE_READY, v1.CLAIM_OUTCOME_ALL_DONE):
        agent.board.hunger += 1


@_action(4)
async def claim_named(agent: Agent) -> None:
    """Take a certain one, or renew what one has."""
    rng = agent.rng
    task_id = agent.a_task()
    if agent.held and rng.random() < 0.2:
        task_id = rng.choice(list(agent.held))
    request = v1.ClaimTaskRequest(worker_id=agent.id, task_id=task_id)
    if rng.random() < 0.2:
        request.lease.CopyFrom(seconds(rng.uniform(1.0, 2.0)))
    answer = await agent.call("ClaimTask", request)
    if answer is not None:
        agent.took(answer.task)


async def _end(agent: Agent, verb: str, request: Any, number: int) -> None:
    answer = await agent.call(verb, request, number=number)
    if answer is not None or agent.refusal in ("CLAIM_LOST", "", "TASK_DELETED"):
        agent.ended(request.task_id)


@_action(16, side=1)
async def complete(agent: Agent) -> None:
    """End a task well."""
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    request = v1.CompleteTaskRequest(
        worker_id=agent.id, task_id=task_id, claim_revision=claim, reason=tag_of(number)
    )
    await _end(agent, "CompleteTask", request, number)


@_action(3)
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


@_action(3)
async def release(agent: Agent) -> None:
    """Give a task back."""
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    request = v1.ReleaseTaskRequest(
        worker_id=agent.id, task_id=task_id, claim_revision=claim, reason=tag_of(number)
    )
    await _end(agent, "ReleaseTask", request, number)


@_action(4, side=2)
async def update(agent: Agent) -> None:
    """Change some fields of a task that one holds, or of any."""
    rng = agent.rng
    task_id, claim = agent.a_claim() if rng.random() < 0.7 else (agent.a_task(), 0)
    number = agent.board.number()
    request = v1.UpdateTaskRequest(
        worker_id=agent.id,
        task_id=task_id,
        claim_revision=claim,
        title=tag_of(number),
        reason=tag_of(number),
    )
    match rng.randrange(6):
        case 0:
            request.priority = rng.randrange(11)
        case 1:
            request.phase = rng.choice(("", "design", "test"))
        case 2:
            request.needed_tags.values.extend(rng.sample(TAGS, rng.randrange(2)))
        case 3:
            request.not_before.CopyFrom(from_now(rng.uniform(-0.5, 0.5)))
        case 4:
            request.tags.values.extend(rng.sample(TAGS, rng.randrange(3)))
    await agent.call("UpdateTask", request, number=number)


@_action(2)
async def move(agent: Agent) -> None:
    """Put a task that one holds into another state."""
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    request = v1.UpdateTaskRequest(
        worker_id=agent.id,
        task_id=task_id,
        claim_revision=claim,
        status=agent.rng.choice(("completed", "failed", "pending", "working", "cancelled")),
        reason=tag_of(number),
    )
    await _end(agent, "UpdateTask", request, number)


@_action(2)
async def move_as_person(agent: Agent) -> None:
    """Cancel, reopen or take back any task, as a person may."""
    number = agent.board.number()
    request = v1.UpdateTaskRequest(
        task_id=agent.a_task(),
        status=agent.rng.choice(("cancelled", "pending", "pending", "completed")),
        reason=tag_of(number),
    )
    await agent.call("UpdateTask", request, number=number)


@_action(1)
async def assign(agent: Agent) -> None:
    """Hand a task to a worker, or take the assignment back."""
    rng = agent.rng
    number = agent.board.number()
    request = v1.UpdateTaskRequest(
        task_id=agent.a_task(),
        assignee=agent.id if rng.random() < 0.8 else "",
        reason=tag_of(number),
    )
    answer = await agent.call("UpdateTask", request, number=number)
    if answer is not None:
        agent.took(answer.task)


@_action(3, side=4)
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


@_action(2, side=2)
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


@_action(1, side=1)
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


@_action(2, side=2)
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


@_action(0.5)
async def detach(agent: Agent) -> None:
    """Take something away that one has attached."""
    if agent.attached:
        task_id, type_, sequence = agent.attached.popleft()
        await agent.call(
            "Detach",
            v1.DetachRequest(worker_id=agent.id, task_id=task_id, type=type_, sequence=sequence),
        )


@_action(2, side=1)
async def create(agent: Agent) -> None:
    """Add a task."""
    rng, board = agent.rng, agent.board
    number = board.number()
    request = v1.CreateTaskRequest(
        id=f"t{number}" if rng.random() < 0.9 else "",
        title=tag_of(number),
        priority=rng.randrange(11),
        max_attempts=rng.randrange(1, 5),
        worker_id=agent.id if rng.random() < 0.5 else "",
        tags=rng.sample(TAGS, rng.randrange(2)),
        needed_tags=rng.sample(TAGS, rng.choice((0, 0, 1))),
        wanted_tags=rng.sample(TAGS, rng.choice((0, 0, 0, 2))),
    )
    dice = rng.random()
    if dice < 0.15:
        request.parent_id = BASE
    elif dice < 0.25:
        request.parent_id = agent.a_task()
    if rng.random() < 0.1 and board.tasks:
        request.blocked_by.append(agent.a_task())
    if rng.random() < 0.05:
        request.not_before.CopyFrom(from_now(rng.uniform(0, 0.5)))
    answer = await agent.call("CreateTask", request, number=number)
    if answer is not None:
        board.tasks.append(answer.task.id)
        board.hunger -= board.hunger > 0


@_action(0.7, side=0.3)
async def create_tree(agent: Agent) -> None:
    """Add a few tasks at once, below each other and one after the other."""
    rng, board = agent.rng, agent.board
    number = board.number()
    root = v1.TaskNode(id=f"t{number}", title=tag_of(number))
    for place in range(rng.randrange(1, 5)):
        node = root.children.add(id=f"t{number}.{place}", title=tag_of(number))
        if place and rng.random() < 0.5:
            node.blocked_by.append(f"t{number}.{rng.randrange(place)}")
        if rng.random() < 0.2:
            node.children.add(id=f"t{number}.{place}.0", title=tag_of(number))
    request = v1.CreateTaskTreeRequest(root=root, worker_id=agent.id)
    answer = await agent.call("CreateTaskTree", request, number=number)
    if answer is not None:
        board.tasks.extend(task.id for task in answer.tasks)
        board.hunger = max(0, board.hunger - len(answer.tasks))


@_action(2, side=1)
async def link(agent: Agent) -> None:
    """Make a task depend on another."""
    rng = agent.rng
    ends = agent.a_task(), agent.a_task()
    kind = rng.choice(
        (
            v1.DEPENDENCY_TYPE_BLOCKS,
            v1.DEPENDENCY_TYPE_BLOCKS,
            v1.DEPENDENCY_TYPE_FOLLOWS,
            v1.DEPENDENCY_TYPE_CONTAINS,
            v1.DEPENDENCY_TYPE_RELATES_TO,
        )
    )
    answer = await agent.call(
        "LinkTasks",
        v1.LinkTasksRequest(
            from_task_id=ends[0], to_task_id=ends[1], type=kind, worker_id=agent.id
        ),
    )
    if answer is not None:
        agent.board.links.append(ends)


@_action(2, side=1)
async def unlink(agent: Agent) -> None:
    """Take a dependency away."""
    rng, links = agent.rng, agent.board.links
    if links and rng.random() < 0.9:
        ends = links[rng.randrange(len(links))]
        links.remove(ends)
    else:
        ends = agent.a_task(), agent.a_task()
    await agent.call("UnlinkTasks", v1.UnlinkTasksRequest(from_task_id=ends[0], to_task_id=ends[1]))


@_action(0.4)
async def delete(agent: Agent) -> None:
    """Delete a task, and what is below it."""
    rng = agent.rng
    number = agent.board.number()
    request = v1.DeleteTaskRequest(
        task_id=agent.a_task(),
        reason=tag_of(number),
        cascade=rng.random() < 0.7,
        force=rng.random() < 0.5,
    )
    await agent.call("DeleteTask", request, number=number)


_FOR_HOLDERS = frozenset({complete, fail, release, move})  # without a claim, mostly refused


@_action(0.06)
async def pause(agent: Agent) -> None:
    """Stop claims, and let them go on after a moment."""
    number = agent.board.number()
    await agent.call("Pause", v1.PauseRequest(by=agent.id, reason=tag_of(number)), number=number)
    await asyncio.sleep(agent.rng.uniform(0.02, 0.2))
    number = agent.board.number()
    request = v1.ResumeRequest(by=agent.id, reason=tag_of(number))
    await agent.call("Resume", request, number=number, patient=True)


@_action(2, side=2)
async def look_at_task(agent: Agent) -> None:
    """Read one task."""
    await agent.call("GetTask", v1.GetTaskRequest(task_id=agent.a_task()))


@_action(0.3)
async def look_at_list(agent: Agent) -> None:
    """Read a page of tasks."""
    rng = agent.rng
    request = v1.ListTasksRequest(page_size=rng.choice((5, 20)))
    if rng.random() < 0.5:
        request.ready = True
    else:
        request.order_by = v1.ORDER_BY_UPDATE_TIME
    await agent.call("ListTasks", request)


@_action(0.4)
async def look_at_status(agent: Agent) -> None:
    """Read how the whole stands."""
    await agent.call("GetStatus", v1.GetStatusRequest())
