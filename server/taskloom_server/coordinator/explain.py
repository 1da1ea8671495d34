"""Explaining why a task cannot be taken: every reason, with the names, and what would help."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from taskloom_server.coordinator import budgets, roles, wip
from taskloom_server.coordinator.admission import by_whom, held_beside, pauses_over
from taskloom_server.coordinator.lookup import blocker_ids, open_child_ids, require_task
from taskloom_server.graph.errors import WorkerNotFound
from taskloom_server.graph.obstacles import Obstacle, ObstacleType
from taskloom_server.graph.tasks import Requirement, Task
from taskloom_server.graph.workers import Worker
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Explain:
    """A task, and the worker that cannot take it; empty: nobody can."""

    task_id: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class Explained:
    """What is in the way, what must happen first on top."""

    task: Task
    obstacles: list[Obstacle]
    revision: int


def explain_task(tx: Transaction, ask: Explain) -> Explained:
    """Why a task cannot be taken. Raises TaskNotFound and WorkerNotFound."""
    task = require_task(tx, ask.task_id)
    worker = None
    if ask.worker_id:
        worker = tx.workers.get(ask.worker_id)
        if worker is None:
            raise WorkerNotFound(
                f"worker {ask.worker_id!r} is unknown: nobody connected under this id",
                subjects=(ask.worker_id,),
            )
    if worker is not None and _has_begun(tx, task, worker):
        return Explained(task, [], tx.seen)  # claiming it again renews the claim
    obstacles = list(_of_task(tx, task, worker))
    if not any(one.type in _FINAL for one in obstacles):
        obstacles += _of_system(tx, task)
        obstacles += _of_worker(tx, task, worker) if worker else _of_everybody(tx, task)
    return Explained(task, obstacles, tx.seen)


def _has_begun(tx: Transaction, task: Task, worker: Worker) -> bool:
    return (
        task.claimed
        and task.worker_id == worker.id
        and worker.disconnected_at is None
        and task.status != tx.workflows.get(task.workflow).assign_state
    )


_FINAL = frozenset((ObstacleType.DELETED, ObstacleType.ENDED))


def _of_task(tx: Transaction, task: Task, worker: Worker | None) -> Iterator[Obstacle]:
    """What is in the way of whoever wants the task."""
    if task.deleted_at is not None:
        why = f" because {task.deleted_reason}" if task.deleted_reason else ""
        yield Obstacle(
            ObstacleType.DELETED,
            f"deleted by {task.deleted_by or 'somebody'}{why}",
            "restore it with RestoreTask, or create another one",
        )
        return
    workflow = tx.workflows.get(task.workflow)
    state = workflow.states.get(task.status)
    mine = worker is not None and task.claimed and task.worker_id == worker.id
    if state is not None and state.terminal:
        by = f" by {task.worker_id!r}" if task.worker_id else ""
        again = workflow.initial_state in state.exits
        yield Obstacle(
            ObstacleType.ENDED,
            f"it has ended{by}, as {task.status!r}",
            f"reopen it: UpdateTask to {workflow.initial_state!r}"
            if again
            else f"nothing leads out of {task.status!r}; create another task",
        )
        return
    if task.claimed and not mine:
        yield _claimed(tx, task)
    elif not task.claimed and not workflow.begins(task.status):
        exits = ", ".join(state.exits) if state is not None else workflow.initial_state
        yield Obstacle(
            ObstacleType.STATUS,
            f"it is {task.status!r}, and tasks are taken from {workflow.initial_state!r} only",
            f"move it with UpdateTask; its exits are {exits}",
        )
    for blocker_id in blocker_ids(tx, task.id):
        yield _blocker(tx, require_task(tx, blocker_id))
    for child_id in open_child_ids(tx, task.id):
        child = require_task(tx, child_id)
        yield Obstacle(
            ObstacleType.CHILD,
            f"child {child_id!r} is open: {_standing(child)}",
            f"{child_id!r} must end first",
            task_ids=(child_id,),
        )
    if task.not_before is not None and task.not_before > tx.now:
        after = f" after attempt {task.attempts} of {task.max_attempts}" if task.attempts else ""
        yield Obstacle(
            ObstacleType.NOT_BEFORE,
            f"it rests until {_time(task.not_before)}{after}",
            "wait, or set another not_before with UpdateTask",
            until=task.not_before,
        )
    full = wip.refusal(tx, workflow, task, workflow.claim_state)
    if full is not None and (mine or workflow.begins(task.status)):
        limit = workflow.states[workflow.claim_state].wip_limit
        yield Obstacle(
            ObstacleType.WIP_LIMIT,
            f"{workflow.claim_state!r} has {len(full.subjects)} tasks of at most {limit}",
            "one of them must leave it first",
            task_ids=full.subjects,
        )


def _claimed(tx: Transaction, task: Task) -> Obstacle:
    holder = tx.workers.get(task.worker_id or "")
    assigned = task.status == tx.workflows.get(task.workflow).assign_state
    what = f"{'assigned to' if assigned else 'held by'} {task.worker_id!r}"
    if task.lease_expires_at is None:
        what += f", parked as {task.status!r}: no lease runs"
        remedy = f"{task.worker_id!r} must go on with it, or give it back"
    else:
        what += f" until {_time(task.lease_expires_at)}"
        remedy = f"{task.worker_id!r} must end it or give it back, or its lease must run out"
    if holder is not None:
        what += f", last sign of life {_time(holder.last_heartbeat)}"
    return Obstacle(
        ObstacleType.CLAIMED,
        what,
        remedy,
        worker_ids=(task.worker_id or "",),
        until=task.lease_expires_at,
    )


def _blocker(tx: Transaction, blocker: Task) -> Obstacle:
    workflow = tx.workflows.get(blocker.workflow)
    state = workflow.states.get(blocker.status)
    if state is not None and state.terminal:
        what = f"blocked by {blocker.id!r}, which ended as {blocker.status!r}"
        remedy = f"reopen {blocker.id!r} and complete it, or unlink or delete it"
    else:
        what = f"blocked by {blocker.id!r}, which is {_standing(blocker)}"
        remedy = f"{blocker.id!r} must end well, or be cancelled"
    return Obstacle(ObstacleType.BLOCKER, what, remedy, task_ids=(blocker.id,))


def _standing(task: Task) -> str:
    """Such as "working, held by 'ada'"."""
    if task.claimed:
        return f"{task.status}, held by {task.worker_id!r}"
    if task.unmet_blockers:
        return f"{task.status}, and itself blocked"
    return task.status


def _of_system(tx: Transaction, task: Task) -> Iterator[Obstacle]:
    """What somebody has paused, or what is spent."""
    paused = tx.system.get().paused
    if paused is not None:
        yield Obstacle(ObstacleType.PAUSED, f"all claims are paused {by_whom(paused)}", "resume")
    for pause in pauses_over(tx, task):
        top = pause.task_id or ""
        what = "it is" if top == task.id else f"all below {top!r} is"
        yield Obstacle(
            ObstacleType.SUBTREE_PAUSED,
            f"{what} paused {by_whom(pause)}",
            f"resume task {top!r}",
            task_ids=(top,),
        )
    for budget in budgets.spent_over(tx, task):
        top = budget.task_id
        whose = "its budget" if top == task.id else f"the budget of {top!r} and all below it"
        yield Obstacle(
            ObstacleType.BUDGET,
            f"over budget: {budget} are spent of {whose}",
            f"raise the budget of {top!r} with UpdateTask",
            task_ids=(top,),
        )


def _of_worker(tx: Transaction, task: Task, worker: Worker) -> Iterator[Obstacle]:
    """What keeps this worker from taking it."""
    who = f"worker {worker.id!r}"
    if worker.disconnected_at is not None:
        yield Obstacle(
            ObstacleType.NOT_CONNECTED,
            f"{who} disconnected {_time(worker.disconnected_at)}",
            "connect it",
            worker_ids=(worker.id,),
        )
    mine = task.claimed and task.worker_id == worker.id
    if not mine and (forbidden := roles.claim_refusal(tx, worker, task.workflow)):
        yield Obstacle(
            ObstacleType.ROLE,
            f"{forbidden}",
            f"assign it to {worker.id!r} with UpdateTask, or let another worker take it",
            worker_ids=(worker.id,),
        )
    have = frozenset(worker.tags)
    if missing := [tag for tag in task.needed_tags if tag not in have]:
        yield _tags(f"it needs {_all_of(missing)}, which {who} lacks", missing, worker.id)
    if task.wanted_tags and have.isdisjoint(task.wanted_tags):
        wanted = list(task.wanted_tags)
        yield _tags(f"it wants {_one_of(wanted)}, and {who} has none", wanted, worker.id)
    held = held_beside(tx, worker, task)
    if held >= worker.max_claims:
        yield Obstacle(
            ObstacleType.CLAIM_LIMIT,
            f"{who} holds {held} tasks of at most {worker.max_claims}",
            "it must end or give back one of them, or connect with more max_claims",
            worker_ids=(worker.id,),
        )
    if worker.cooling_until is not None and worker.cooling_until > tx.now:
        yield Obstacle(
            ObstacleType.COOLING_DOWN,
            f"{who} cools down until {_time(worker.cooling_until)}",
            "wait",
            worker_ids=(worker.id,),
            until=worker.cooling_until,
        )


def _of_everybody(tx: Transaction, task: Task) -> Iterator[Obstacle]:
    """What keeps all who are connected from taking it."""
    workers = tx.workers.all_connected()
    if not workers:
        yield Obstacle(
            ObstacleType.NOT_CONNECTED, "no worker is connected", "connect one that has its tags"
        )
        return
    asks = Requirement(0, frozenset(task.needed_tags), frozenset(task.wanted_tags))
    if able := [one for one in workers if asks.admits(frozenset(one.tags))]:
        barred = (roles.claim_refusal(tx, one, task.workflow) for one in able)
        if not task.claimed and all(barred):
            yield Obstacle(
                ObstacleType.ROLE,
                "all who are connected and could take it begin only what is assigned to them",
                "assign it to one of them with UpdateTask",
            )
        return
    anybody = frozenset().union(*(worker.tags for worker in workers))
    if missing := [tag for tag in task.needed_tags if tag not in anybody]:
        yield _tags(f"it needs {_all_of(missing)}, which no connected worker has", missing)
    if task.wanted_tags and anybody.isdisjoint(task.wanted_tags):
        wanted = list(task.wanted_tags)
        yield _tags(f"it wants {_one_of(wanted)}, and no connected worker has one", wanted)
    elif not missing:
        tags = [*task.needed_tags, *task.wanted_tags]
        yield _tags("no single connected worker has all the tags that it asks for", tags)


def _tags(message: str, tags: list[str], worker_id: str = "") -> Obstacle:
    return Obstacle(
        ObstacleType.TAGS,
        message,
        "connect a worker that has them, or change the task's tags with UpdateTask",
        worker_ids=(worker_id,) if worker_id else (),
        tags=tuple(tags),
    )


def _all_of(tags: list[str]) -> str:
    return f"tag{'s' if len(tags) > 1 else ''} {', '.join(map(repr, tags))}"


def _one_of(tags: list[str]) -> str:
    return f"one of the tags {', '.join(map(repr, tags))}" if len(tags) > 1 else f"tag {tags[0]!r}"


def _time(ms: int) -> str:
    """To the second, in UTC: a server does not know where its reader is."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
