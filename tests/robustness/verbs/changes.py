"""What is done to tasks as such: other ids, an end for good, a return, and changes by the dozen."""

from taskloom import v1

from tests.robustness.agents import Agent
from tests.robustness.recording import tag_of
from tests.robustness.verbs.choice import action


@action(0.8)
async def rename(agent: Agent) -> None:
    """Give a task another id, and let most of the others know."""
    rng, board = agent.rng, agent.board
    number = board.number()
    old, new = agent.a_task(), f"r{number}"
    if rng.random() < 0.1:
        new = agent.a_task()  # that of another
    elif rng.random() < 0.2 and board.renamed:
        new = rng.choice(list(board.renamed))  # that another one had, or maybe itself
    request = v1.RenameTaskRequest(
        task_id=old,
        new_task_id=new,
        worker_id=agent.id if rng.random() < 0.5 else "",
        reason=tag_of(number),
    )
    answer = await agent.call("RenameTask", request, number=number)
    if answer is not None and old != new:
        board.renamed.pop(new, None)
        board.renamed[old] = new
        for place, task_id in enumerate(board.tasks):
            if task_id == old and rng.random() < 0.9:
                board.tasks[place] = new


@action(0.6)
async def restore(agent: Agent) -> None:
    """Bring a deleted task back."""
    rng, board = agent.rng, agent.board
    task_id = rng.choice(board.deleted) if board.deleted else agent.a_task()
    number = board.number()
    request = v1.RestoreTaskRequest(
        task_id=task_id,
        cascade=rng.random() < 0.5,
        worker_id=agent.id if rng.random() < 0.5 else "",
        reason=tag_of(number),
    )
    await agent.call("RestoreTask", request, number=number)


@action(0.25)
async def obliterate(agent: Agent) -> None:
    """Remove a task for good."""
    rng, board = agent.rng, agent.board
    use_deleted = board.deleted and rng.random() < 0.6
    number = board.number()
    request = v1.ObliterateTaskRequest(
        task_id=rng.choice(board.deleted) if use_deleted else agent.a_task(),
        cascade=rng.random() < 0.6,
        force=rng.random() < 0.5,
        worker_id=agent.id if rng.random() < 0.3 else "",
        reason=tag_of(number),
    )
    await agent.call("ObliterateTask", request, number=number)


@action(1)
async def update_together(agent: Agent) -> None:
    """Change several tasks at once, of which one cannot be changed sometimes."""
    rng = agent.rng
    number = agent.board.number()
    changed = dict([agent.a_claim(), *((agent.a_task(), 0) for _ in range(rng.randrange(1, 4)))])
    updates = []
    for task_id, claim in changed.items():
        update = v1.UpdateTaskRequest(
            worker_id=agent.id, task_id=task_id, claim_revision=claim, reason=tag_of(number)
        )
        match rng.randrange(8):
            case 0:
                update.status = rng.choice(("cancelled", "pending", "completed", "waiting"))
            case 1:
                update.assignee = agent.id
            case _:
                update.title = tag_of(number)
        updates.append(update)
    if rng.random() < 0.1:
        updates.append(v1.UpdateTaskRequest(task_id="nothing", title=tag_of(number)))
    request = v1.UpdateTasksRequest(updates=updates)
    answer = await agent.call("UpdateTasks", request, number=number)
    if answer is not None:
        for task in answer.tasks:
            agent.took(task)
            if not task.claim_revision:
                agent.ended(task.id)
