"""The verbs of TaskService, on the model."""

from typing import Any

from tests.coordinator_machine.moves import (
    Answer,
    Refused,
    check_admission,
    check_alive,
    check_caller,
    check_children,
    check_claim,
    check_exit,
    check_start,
    check_tags,
    check_there,
    connected,
    end_all_advice,
    future,
    lives,
    move,
    note_move,
    take,
    tell,
    warm,
)
from tests.coordinator_machine.world import ENDED, HELD, Node, Task, World


def create(world: World, root: Node, parent: str, worker: str) -> Answer:
    """Add a tree of tasks, or a single one."""
    check_caller(world, worker)
    if parent:
        check_alive(world, parent)
        if world.tasks[parent].status in ENDED:
            raise Refused("PARENT_ENDED")
    nodes = list(root.all())
    ours = [node.id for node in nodes]
    if len(set(ours)) < len(ours) or any(id in world.tasks for id in ours):
        raise Refused("TASK_EXISTS")
    for node in nodes:
        check_alive(world, *(id for id in node.blocked_by if id not in ours))
    edges = {(node.id, child.id, "contains") for node in nodes for child in node.children}
    edges |= {(blocker, node.id, "blocks") for node in nodes for blocker in node.blocked_by}
    edges |= {(parent, root.id, "contains")} if parent else set()
    for node in nodes:
        world.tasks[node.id] = _new_task(world, node)
    world.edges |= edges
    if any(id in world.awaited([id]) for id in ours):
        world.edges -= edges
        for id in ours:
            del world.tasks[id]
        raise Refused("CYCLE")
    lives(world, worker)
    tell(world, "TASK_CREATED", *ours)
    tell(world, "DEPENDENCY_ADDED", *(to for _, to, _ in edges))
    return Answer({"tasks": ours})


def _new_task(world: World, node: Node) -> Task:
    return Task(
        number=len(world.tasks),
        id=node.id,
        priority=node.priority,
        needed=node.needed,
        wanted=node.wanted,
        max_attempts=node.max_attempts,
        retry_delay=node.retry_delay,
        not_before=future(world, node.not_before),
        active_at=world.now,
        progressed_at=world.now,
    )


def link(world: World, from_: str, to: str, type_: str) -> Answer:
    """Add a dependency."""
    check_alive(world, from_, to)
    if (from_, to, type_) in world.edges:
        return Answer({"created": False})
    waiting, awaited = (from_, to) if type_ == "contains" else (to, from_)
    if from_ == to or (type_ != "duplicate" and waiting in world.awaited([awaited])):
        raise Refused("CYCLE")
    if type_ == "contains":
        if world.parent(to):
            raise Refused("PARENT_EXISTS")
        if world.tasks[from_].status in ENDED:
            raise Refused("PARENT_ENDED")
    world.edges.add((from_, to, type_))
    tell(world, "DEPENDENCY_ADDED", to)
    if type_ == "contains":
        tell(world, "TASK_UPDATED", to, *world.below(to))
    return Answer({"created": True})


def unlink(world: World, from_: str, to: str, type_: str) -> Answer:
    """Remove a dependency, or all from the one to the other."""
    check_there(world, from_, to)
    gone = {edge for edge in world.edges if edge[:2] == (from_, to)}
    gone = {edge for edge in gone if type_ in ("", edge[2])}
    world.edges -= gone
    tell(world, "DEPENDENCY_REMOVED", *(to for _ in gone))
    if (from_, to, "contains") in gone and world.alive(to):
        tell(world, "TASK_UPDATED", to, *world.below(to))
    elif (from_, to, "contains") in gone:
        world.tasks[to].revision = world.revision + 1  # of a deleted task nothing is told
    return Answer({"removed": len(gone), "unblocked_task_ids": []})


def update(
    world: World,
    id: str,
    worker: str,
    *,
    claim: int = 0,
    etag: int = 0,
    status: str = "",
    assignee: str | None = None,
    **fields: Any,
) -> Answer:
    """Change a task: its state, its holder, or what is told of it in ``fields``."""
    check_caller(world, worker)
    check_alive(world, id)
    task = world.tasks[id]
    if etag not in (0, task.revision):
        raise Refused("ETAG_MISMATCH")
    check_claim(task, worker, claim)
    if "not_before" in fields:
        fields["not_before"] = future(world, fields["not_before"])
    if status and status != task.status:
        _check_move(world, task, status, worker)
        _move(world, task, status, worker)
    elif assignee is not None:
        _assign(world, task, assignee, worker)
    elif any(getattr(task, name) != value for name, value in fields.items()):
        for name, value in fields.items():
            setattr(task, name, value)
        warm(world, task)
        tell(world, "TASK_UPDATED", task.id)
    lives(world, worker)
    return Answer({"task": id, "unblocked_task_ids": []})


def _check_move(world: World, task: Task, status: str, worker: str) -> None:
    check_exit(task, status)
    if task.held and worker and task.worker != worker:
        raise Refused("CLAIM_LOST")
    if status == "completed":
        check_children(world, task)
    if task.status == "assigned" and status == "working" and worker:
        check_admission(world, task, world.workers[worker])
    if not task.held and status in HELD:
        raise Refused("INVALID_FIELD")
    if status == "working" and task.status != "waiting":
        check_start(world, task)


def _move(world: World, task: Task, status: str, worker: str) -> None:
    held, event = task.held, ""
    if status == "pending":
        event = "TASK_RELEASED" if held else "TASK_MOVED"
        task.attempts = task.attempts if held else 0
    if status == "failed":
        task.attempts += 1
    since = world.now if task.status == "waiting" else task.lease_since
    move(world, task, status, event or _moved(status), lease_since=since)
    if worker:
        note_move(world, worker, status, rests=held and status in ENDED)


def _moved(status: str) -> str:
    return "TASK_MOVED" if status in HELD else ""


def _assign(world: World, task: Task, assignee: str, worker: str) -> None:
    if assignee:
        if task.held and task.worker == assignee:
            return
        to = connected(world, assignee)
        if task.held:
            raise Refused("TASK_CLAIMED")
        check_exit(task, "assigned")
        check_tags(task, to)
        take(world, task, to, 0, begins=False)
    elif task.held:
        if worker and task.worker != worker:
            raise Refused("CLAIM_LOST")
        move(world, task, "pending", "TASK_RELEASED")


def delete(world: World, id: str, worker: str, *, cascade: bool, force: bool) -> Answer:
    """Delete a task, or a whole subtree."""
    check_caller(world, worker)
    check_there(world, id)
    doomed = ({id} | world.below(id)) if world.alive(id) else set[str]()
    if len(doomed) > 1 and not cascade:
        raise Refused("CHILDREN_OPEN")
    if not force and any(world.tasks[each].held for each in doomed):
        raise Refused("TASK_CLAIMED")
    lives(world, worker)
    for each in doomed:
        task = world.tasks[each]
        world.freed |= {task.worker} if task.held else set()
        task.deleted, task.claim, task.lease = True, 0, 0
        tell(world, "TASK_DELETED", each)
        end_all_advice(world, task)
    return Answer({"deleted_task_ids": sorted(doomed), "unblocked_task_ids": []})


def signal(world: World, id: str, worker: str, claim: int, *, breakthrough: bool) -> Answer:
    """Tell of progress, or of a breakthrough."""
    check_caller(world, worker)
    check_alive(world, id)
    task = world.tasks[id]
    check_claim(task, worker, claim)
    lives(world, worker)
    warm(world, task, progress=True, breakthrough=breakthrough)
    tell(world, "TASK_SIGNALED", id)
    return Answer({"task": id})


def boost(world: World, id: str, worker: str, amount: float) -> Answer:
    """Want attention for a task."""
    check_caller(world, worker)
    check_alive(world, id)
    lives(world, worker)
    warm(world, world.tasks[id], boost=amount)
    tell(world, "TASK_BOOSTED", id)
    return Answer({"task": id})
