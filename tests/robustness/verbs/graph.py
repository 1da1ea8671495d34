"""What is done to the graph: tasks made, changed, linked and deleted, by workers and by people."""

from taskloom import v1

from tests.robustness.agents import Agent
from tests.robustness.recording import tag_of
from tests.robustness.verbs.choice import BASE, TAGS, action, feeds, from_now, seconds

_WORKFLOWS = (
    ("kanban", ""),
    ("kanban", ""),
    ("sprint", ""),
    ("sprint", "retrospect"),
    ("swarm", "implement"),
)
_COSTS = (0.5, 1.0, 2.0)  # US dollars; LogMetrics logs a quarter of one


@feeds
@action(2, side=1)
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
    if rng.random() < 0.2:
        request.retry_delay.CopyFrom(seconds(rng.uniform(0.02, 0.2)))
    if not request.parent_id and rng.random() < 0.35:
        request.workflow, request.phase = rng.choice(_WORKFLOWS)
    if rng.random() < 0.05:
        request.max_cost_usd = rng.choice(_COSTS)
    answer = await agent.call("CreateTask", request, number=number)
    if answer is not None:
        board.tasks.append(answer.task.id)
        board.budgets.extend([answer.task.id] * answer.task.HasField("max_cost_usd"))
        board.hunger -= board.hunger > 0


@feeds
@action(0.7, side=0.3)
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
    if rng.random() < 0.2:
        root.max_cost_usd = rng.choice(_COSTS)
    elif rng.random() < 0.1:
        root.max_subtree_attempts = rng.randrange(1, 4)
    request = v1.CreateTaskTreeRequest(root=root, worker_id=agent.id)
    if rng.random() < 0.1:
        request.workflow = "kanban"
    answer = await agent.call("CreateTaskTree", request, number=number)
    if answer is not None:
        board.tasks.extend(task.id for task in answer.tasks)
        board.budgets.extend(task.id for task in answer.tasks if task.HasField("max_cost_usd"))
        board.hunger = max(0, board.hunger - len(answer.tasks))


@action(4, side=2)
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
            request.force = rng.random() < 0.3
        case 2:
            request.needed_tags.values.extend(rng.sample(TAGS, rng.randrange(2)))
        case 3:
            request.not_before.CopyFrom(from_now(rng.uniform(-0.5, 0.5)))
        case 4:
            request.tags.values.extend(rng.sample(TAGS, rng.randrange(3)))
        case 5:
            request.workflow = rng.choice(("swarm", "kanban", "sprint"))
    await agent.call("UpdateTask", request, number=number)


@action(0.4)
async def change_budget(agent: Agent) -> None:
    """Let a task cost more, less, or whatever it costs."""
    rng, board = agent.rng, agent.board
    if board.budgets:
        number = board.number()
        request = v1.UpdateTaskRequest(
            task_id=rng.choice(board.budgets),
            max_cost_usd=rng.choice((0, 0.25, 1.0, 2.0, 4.0)),
            reason=tag_of(number),
        )
        await agent.call("UpdateTask", request, number=number)


@action(2)
async def move_as_person(agent: Agent) -> None:
    """Cancel, reopen or take back any task, as a person may."""
    number = agent.board.number()
    request = v1.UpdateTaskRequest(
        task_id=agent.a_task(),
        status=agent.rng.choice(("cancelled", "pending", "pending", "completed")),
        reason=tag_of(number),
    )
    await agent.call("UpdateTask", request, number=number)


@action(1)
async def assign(agent: Agent) -> None:
    """Hand a task to a worker, or take the assignment back."""
    rng = agent.rng
    number = agent.board.number()
    request = v1.UpdateTaskRequest(
        task_id=agent.a_task(),
        assignee=agent.id if rng.random() < 0.8 else "",
        reason=tag_of(number),
        worker_id=agent.id if rng.random() < 0.3 else "",
    )
    answer = await agent.call("UpdateTask", request, number=number)
    if answer is not None:
        agent.took(answer.task)


_KINDS = (
    v1.DEPENDENCY_TYPE_BLOCKS,
    v1.DEPENDENCY_TYPE_BLOCKS,
    v1.DEPENDENCY_TYPE_FOLLOWS,
    v1.DEPENDENCY_TYPE_CONTAINS,
    v1.DEPENDENCY_TYPE_RELATES_TO,
)


def _a_dependency(agent: Agent) -> v1.Dependency:
    return v1.Dependency(
        from_task_id=agent.a_task(), to_task_id=agent.a_task(), type=agent.rng.choice(_KINDS)
    )


@action(2, side=1)
async def link(agent: Agent) -> None:
    """Make a task depend on another."""
    one = _a_dependency(agent)
    request = v1.LinkTasksRequest(
        from_task_id=one.from_task_id, to_task_id=one.to_task_id, type=one.type, worker_id=agent.id
    )
    if await agent.call("LinkTasks", request) is not None:
        agent.board.links.append(one)


def _a_known_dependency(agent: Agent) -> v1.Dependency:
    """One that was made, to be taken away; or any."""
    links = agent.board.links
    if links and agent.rng.random() < 0.9:
        one = agent.rng.choice(links)
        links.remove(one)
        return one
    return _a_dependency(agent)


@action(1.5, side=1)
async def unlink(agent: Agent) -> None:
    """Take a dependency away, or all between two tasks."""
    one = _a_known_dependency(agent)
    request = v1.UnlinkTasksRequest(
        from_task_id=one.from_task_id, to_task_id=one.to_task_id, worker_id=agent.id
    )
    if agent.rng.random() < 0.3:
        request.type = one.type
    await agent.call("UnlinkTasks", request)


@action(0.8)
async def relink(agent: Agent) -> None:
    """Put dependencies in the place of others."""
    rng = agent.rng
    remove = [_a_known_dependency(agent) for _ in range(rng.randrange(1, 3))]
    add = [_a_dependency(agent) for _ in range(rng.randrange(2))]
    if rng.random() < 0.6:  # as one moves a task to another parent, or puts another blocker
        moved = v1.Dependency()
        moved.CopyFrom(remove[0])
        moved.from_task_id = agent.a_task()
        add.append(moved)
    request = v1.RelinkTasksRequest(remove=remove, add=add, worker_id=agent.id)
    if await agent.call("RelinkTasks", request) is not None:
        agent.board.links.extend(add)


@action(0.4)
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
    answer = await agent.call("DeleteTask", request, number=number)
    if answer is not None:
        agent.board.deleted.extend(answer.deleted_task_ids)


@action(1, side=0.5)
async def signal(agent: Agent) -> None:
    """Tell of progress, or of a breakthrough."""
    task_id, claim = agent.a_claim()
    number = agent.board.number()
    request = v1.SignalTaskRequest(
        task_id=task_id,
        worker_id=agent.id,
        claim_revision=claim,
        type=agent.rng.choice((v1.SIGNAL_TYPE_PROGRESS, v1.SIGNAL_TYPE_BREAKTHROUGH)),
        reason=tag_of(number),
    )
    await agent.call("SignalTask", request, number=number)


@action(0.5)
async def boost(agent: Agent) -> None:
    """Want more attention for a task, or less."""
    number = agent.board.number()
    request = v1.BoostTaskRequest(
        task_id=agent.a_task(), boost=round(agent.rng.random(), 3), reason=tag_of(number)
    )
    await agent.call("BoostTask", request, number=number)
