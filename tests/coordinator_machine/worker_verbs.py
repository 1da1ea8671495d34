"""The verbs of WorkerService and AdminService on the model, and what time does by itself."""

from tests.coordinator_machine.moves import (
    Answer,
    Refused,
    check_alive,
    check_there,
    connected,
    end_advice,
    lives,
    move,
    rested,
    tell,
)
from tests.coordinator_machine.world import DEFAULT_LEASE, Task, Terms, Worker, World


def connect(world: World, id: str, terms: Terms) -> Answer:
    """Register, or renew and change a registration."""
    worker = world.workers.setdefault(id, Worker(id, world.now))
    worker.tags, worker.max_claims = terms.tags, terms.max_claims or 1
    worker.lease, worker.cool_down = terms.lease or DEFAULT_LEASE, terms.cool_down
    worker.connected = True
    lives(world, id)
    world.freed.add(id)
    tell(world, "WORKER_CONNECTED", id)
    return Answer({"held_tasks": [task.id for task in world.held_by(id)]})


def disconnect(world: World, id: str) -> Answer:
    """Give everything back."""
    if id not in world.workers:
        raise Refused("WORKER_NOT_FOUND")
    worker = world.workers[id]
    if not worker.connected:
        return Answer({"released_task_ids": []})
    held = world.held_by(id)
    for task in held:
        move(world, task, "pending", "TASK_RELEASED")
    for task, _ in world.advised_by(id):
        end_advice(world, task, id)
    lives(world, id)
    worker.connected, worker.rests_until = False, 0
    world.freed.add(id)
    tell(world, "WORKER_DISCONNECTED", id)
    return Answer({"released_task_ids": [task.id for task in held]})


def heartbeat(world: World, id: str) -> Answer:
    """Renew all claims."""
    connected(world, id)
    lives(world, id)
    ends = [end for task in world.held_by(id) if (end := world.lease_end(task)) is not None]
    ends += [world.advice_end(advice) for _, advice in world.advised_by(id)]
    return Answer({"lease_expire_time": min(ends, default=0)})


def lose_stream(world: World, id: str, grace: int) -> Answer:
    """The worker's last Work stream broke; it has so long to come back."""
    worker = world.workers[id]
    if worker.connected:
        worker.grace_until = world.now + grace
    return Answer()


def pause(world: World, id: str) -> Answer:
    """Stop new claims, of everything or of a subtree."""
    if id:
        check_alive(world, id)
        world.pauses.add(id)
    else:
        world.paused = world.turned = True
    tell(world, "PAUSED", id)
    return Answer()


def resume(world: World, id: str) -> Answer:
    """Let claims go on."""
    if id:
        check_there(world, id)
        if id in world.pauses:
            world.pauses.remove(id)
            tell(world, "RESUMED", id)
    elif world.paused:
        world.paused, world.turned = False, True
        tell(world, "RESUMED", id)
    return Answer()


def end_leases(world: World, worker: str) -> Answer:
    """End the claims of a worker that gave no sign of life for too long."""
    for task in world.held_by(worker):
        end = world.lease_end(task)
        if end is not None and end <= world.now:
            _expire(world, task)
    for task, advice in world.advised_by(worker):
        if world.advice_end(advice) <= world.now:
            end_advice(world, task, worker)
    return Answer()


def _expire(world: World, task: Task) -> None:
    if task.status == "assigned":  # nobody began it
        move(world, task, "pending", "TASK_LEASE_EXPIRED", by_itself=True)
        return
    task.attempts += 1
    lapsed = (task.worker, task.claim)
    if task.attempts >= task.max_attempts:
        move(world, task, "failed", lapsed=lapsed)
    else:
        not_before = rested(world, task, task.rest_after(task.attempts))
        changes = {"lapsed": lapsed, "not_before": not_before}
        move(world, task, "pending", "TASK_LEASE_EXPIRED", by_itself=True, **changes)


def meet_due(world: World) -> Answer:
    """Let the tasks be ready that have waited for this time."""
    for task in world.living():
        if task.not_before is not None and task.not_before <= world.now:
            task.not_before = None
            if task.id not in world.ready():
                tell(world, "TASK_UPDATED", task.id)
    return Answer()
