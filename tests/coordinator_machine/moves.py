"""What verbs of the model are made of: moves of tasks, what they tell, and refusals."""

import math
from dataclasses import dataclass, field
from typing import Any

from tests.coordinator_machine.world import DAY, ENDED, EXITS, HELD, Task, Worker, World

_ENDINGS = {
    "completed": "TASK_COMPLETED",
    "failed": "TASK_FAILED",
    "cancelled": "TASK_CANCELLED",
}


class Refused(Exception):
    """What a verb is refused with."""


@dataclass
class Answer:
    """What a verb answers; ``says`` is by the names of the response's fields."""

    says: dict[str, Any] = field(default_factory=dict)
    revision: int = 0


# Moves


def tell(world: World, type_: str, *subjects: str) -> None:
    """Tell of something that happened to each of the subjects."""
    world.told += [(type_, subject) for subject in subjects]


def move(
    world: World,
    task: Task,
    status: str,
    event: str = "",
    *,
    by_itself: bool = False,
    **changes: Any,
) -> None:
    """Put a task into another state; ``event`` where that does not follow from the state."""
    holder = task.worker if task.held else ""
    if task.status == "working":
        task.worked += world.now - task.since
    task.status, task.since, task.lapsed = status, world.now, ("", 0)
    if status not in HELD:
        task.claim = task.lease = 0
    if status == "pending":
        task.worker = ""
    for name, value in changes.items():
        setattr(task, name, value)
    if not by_itself and status not in ENDED:
        warm(world, task, progress=True)
    tell(world, event or _ENDINGS.get(status, "TASK_MOVED"), task.id)
    if holder and status not in ("assigned", "working"):
        world.freed.add(holder)
    if status in ENDED:
        end_all_advice(world, task)
    elif task.held:
        end_advice(world, task, task.worker)


def take(world: World, task: Task, worker: Worker, lease: int, *, begins: bool) -> None:
    """Give a task to a worker alone: to begin it, or for later."""
    move(
        world,
        task,
        "working" if begins else "assigned",
        "TASK_CLAIMED" if begins else "TASK_MOVED",
        worker=worker.id,
        claim=task.claim or world.revision + 1,
        lease=lease or worker.lease,
        lease_since=world.now,
    )


def end_advice(world: World, task: Task, worker: str) -> None:
    """End the advisory claim of a worker, if it has one."""
    if (advice := task.advice_of(worker)) is not None:
        task.advice.remove(advice)
        world.freed.add(worker)
        tell(world, "ADVISORY_CLAIM_ENDED", task.id)


def end_all_advice(world: World, task: Task) -> None:
    """End the advisory claims of all."""
    for advice in list(task.advice):
        end_advice(world, task, advice.worker)


def warm(
    world: World,
    task: Task,
    *,
    progress: bool = False,
    breakthrough: bool = False,
    boost: float | None = None,
) -> None:
    """Let an activity warm a task."""
    faded = math.exp2((task.active_at - world.now) / DAY)
    task.activity = 1 - (1 - task.activity * faded) / 2
    task.breakthrough = 1.0 if breakthrough else task.breakthrough * faded
    task.boost = task.boost * faded if boost is None else boost
    task.active_at = world.now
    if progress:
        task.progressed_at = world.now


def lives(world: World, worker: str) -> None:
    """Note a sign of life of whoever is named."""
    if worker:
        one = connected(world, worker)
        one.seen, one.grace_until = world.now, None


def note_move(world: World, worker: str, status: str, *, rests: bool) -> None:
    """Note what a worker did last; ``rests``: it ended a task, and rests after that."""
    lives(world, worker)
    one = world.workers[worker]
    one.last_status = status
    if rests:
        one.rests_until = world.now + one.cool_down if one.cool_down else 0


def future(world: World, time: int | None) -> int | None:
    """A time that has not passed."""
    return time if time is not None and time > world.now else None


def rested(world: World, task: Task, rest: int) -> int | None:
    """When a task may be taken again that rests so long; a later time that was set stands."""
    times = [task.not_before, world.now + rest if rest else None]
    return max((time for time in times if time is not None), default=None)


# Refusals


def connected(world: World, id: str) -> Worker:
    """The worker of this id."""
    worker = world.workers.get(id)
    if worker is None or not worker.connected:
        raise Refused("WORKER_NOT_FOUND")
    return worker


def check_caller(world: World, id: str) -> None:
    """Refuse a caller that is named and not connected."""
    if id:
        connected(world, id)


def check_there(world: World, *ids: str) -> None:
    """Refuse ids of no task."""
    if not all(id in world.tasks for id in ids):
        raise Refused("TASK_NOT_FOUND")


def check_alive(world: World, *ids: str) -> None:
    """Refuse ids of no task, and deleted tasks."""
    for id in ids:
        check_there(world, id)
        if not world.alive(id):
            raise Refused("TASK_DELETED")


def check_exit(task: Task, status: str) -> None:
    """Refuse a move that the workflow forbids."""
    if status not in EXITS[task.status]:
        raise Refused("ILLEGAL_TRANSITION")


def check_children(world: World, task: Task) -> None:
    """Refuse the end of a task with open children."""
    if world.open_children(task.id):
        raise Refused("CHILDREN_OPEN")


def check_start(world: World, task: Task) -> None:
    """Refuse work on a task that something holds back."""
    if world.blockers(task.id):
        raise Refused("DEPENDENCIES_UNMET")
    check_children(world, task)
    if task.not_before is not None and task.not_before > world.now:
        raise Refused("NOT_YET")


def check_tags(task: Task, worker: Worker) -> None:
    """Refuse a worker that lacks tags."""
    if not task.admits(worker.tags):
        raise Refused("TAGS_MISSING")


def check_admission(world: World, task: Task, worker: Worker, *, takes_over: bool = False) -> None:
    """Refuse a worker that may not take this task now."""
    mine = task.held and task.worker == worker.id
    if task.held and not mine:
        raise Refused("TASK_CLAIMED")
    if not mine and task.status != "pending":
        raise Refused("ILLEGAL_TRANSITION")
    check_tags(task, worker)
    check_start(world, task)
    if world.is_paused(task.id):
        raise Refused("PAUSED")
    load = world.load(worker.id) - takes_over
    if mine:
        load -= sum(one.status == "assigned" for one in world.held_by(worker.id))
    if reason := world.hindrance(worker, load):
        raise Refused("CLAIM_LIMIT" if reason == "LIMIT_REACHED" else reason)


def require_holder(
    world: World,
    worker: str,
    id: str,
    claim: int,
    *,
    also_lapsed: bool = False,
    also_beside: bool = False,
) -> Task:
    """The task that a worker holds by the claim that it shows, or by any if it shows none.

    ``also_beside``: an advisory claim will do beside the claim of another, too.
    """
    connected(world, worker)
    check_alive(world, id)
    task = world.tasks[id]
    advice = task.advice_of(worker)
    holder = ("", 0)
    if task.held and not (also_beside and advice):
        holder = (task.worker, task.claim)
    elif advice:
        holder = (worker, advice.claim)
    elif also_lapsed:
        holder = task.lapsed
    if holder[0] != worker or claim not in (0, holder[1]):
        raise Refused("CLAIM_LOST")
    return task


def check_claim(task: Task, worker: str, claim: int) -> None:
    """Refuse a claim that is shown and not one by which the task is held."""
    if not claim:
        return
    tokens = [(task.worker, task.claim), *((one.worker, one.claim) for one in task.advice)]
    if not any(token == claim and worker in ("", holder) for holder, token in tokens):
        raise Refused("CLAIM_LOST")
