"""The verbs of ClaimService, on the model."""

from tests.coordinator_machine.moves import (
    Answer,
    Refused,
    check_admission,
    check_alive,
    check_children,
    check_exit,
    check_there,
    connected,
    end_advice,
    lives,
    move,
    note_move,
    require_holder,
    rested,
    take,
    tell,
)
from tests.coordinator_machine.world import Advice, Next, Task, Worker, World

WAITS = Answer()
"""The answer of a claim that stands in line."""


def claim(world: World, worker: str, id: str, lease: int, *, advisory: bool) -> Answer:
    """Take the task that is named, or renew the claim of it."""
    one = connected(world, worker)
    check_alive(world, id)
    task = world.tasks[id]
    if task.held and task.worker == worker and task.status != "assigned":
        lives(world, worker)
        if lease and task.status != "waiting" and lease != task.lease:
            task.lease = lease
            tell(world, "TASK_UPDATED", id)
        return Answer({"task": id})
    advisory &= not task.held  # what is assigned to it is begun
    has_advice = not task.held and task.advice_of(worker) is not None
    lives(world, worker)
    if has_advice and advisory:
        return Answer({"task": id})
    one.attempts += 1
    try:
        check_admission(world, task, one, takes_over=has_advice)
    except Refused:
        one.lost += task.worker not in ("", worker) and id not in world.ready()
        raise
    _give(world, one, [task], lease, advisory=advisory)
    return Answer({"task": id})


def claim_next(world: World, ask: Next, until: int | None = None) -> Answer:
    """Take the best tasks there are, or wait for one; ``until``: he has waited before."""
    worker = connected(world, ask.worker)
    if ask.scope:
        check_there(world, ask.scope)
    load = world.load(worker.id)
    outcome = world.hindrance(worker, load)
    if not outcome:
        if given := world.choice(ask)[: min(ask.max_tasks, worker.max_claims - load)]:
            worker.attempts += len(given)
            if until is None:
                lives(world, worker.id)
            _give(world, worker, given, ask.lease, advisory=ask.advisory)
            return _claimed("CLAIMED", [task.id for task in given])
        outcome = "ALL_DONE" if world.all_done(ask.scope) else "NONE_READY"
    if until is None:
        lives(world, worker.id)
        until = world.now + ask.wait
    at_once = outcome == "LIMIT_REACHED" or (outcome == "ALL_DONE" and not ask.when_done)
    if not at_once and world.now < until:
        return WAITS
    rest = worker.rests_until - world.now if outcome == "COOLING_DOWN" else 0
    return _claimed(outcome, [], rest)


def _claimed(outcome: str, ids: list[str], rest: int = 0) -> Answer:
    return Answer({"outcome": outcome, "tasks": ids, "retry_after": rest})


def _give(world: World, worker: Worker, tasks: list[Task], lease: int, *, advisory: bool) -> None:
    for task in tasks:
        if advisory:
            token = world.revision + 1
            task.advice.append(Advice(worker.id, token, world.now, lease or worker.lease))
            tell(world, "ADVISORY_CLAIM_MADE", task.id)
        else:
            take(world, task, worker, lease, begins=True)
    worker.granted += len(tasks)
    if not advisory:
        worker.last_status = "working"


def _take_over(world: World, task: Task, worker: str) -> None:
    """Whoever ends a task has had it alone, be it for that moment."""
    if not task.held and task.advice_of(worker):
        take(world, task, world.workers[worker], 0, begins=True)


def complete(world: World, worker: str, id: str, claim: int) -> Answer:
    """End a task well."""
    task = require_holder(world, worker, id, claim, also_lapsed=True)
    if task.held:
        check_exit(task, "completed")
    check_children(world, task)
    _take_over(world, task, worker)
    move(world, task, "completed", worker=worker)
    note_move(world, worker, "completed", rests=True)
    return Answer({"task": id, "unblocked_task_ids": []})


def fail(world: World, worker: str, id: str, claim: int, *, retry: bool, delay: int) -> Answer:
    """Say that the work failed; with a ``delay`` of 0 the task's own rest follows."""
    task = require_holder(world, worker, id, claim)
    if task.held:
        check_exit(task, "failed")
    _take_over(world, task, worker)
    task.attempts += 1
    if retry and task.attempts < task.max_attempts:
        not_before = rested(world, task, delay or task.rest_after(task.attempts))
        move(world, task, "pending", "TASK_RELEASED", not_before=not_before)
    else:
        move(world, task, "failed")
    note_move(world, worker, task.status, rests=True)
    return Answer({"task": id, "unblocked_task_ids": []})


def release(world: World, worker: str, id: str, claim: int) -> Answer:
    """Give a task back, or let go of it."""
    task = require_holder(world, worker, id, claim, also_beside=True)
    if task.held and task.worker == worker:
        move(world, task, "pending", "TASK_RELEASED")
        note_move(world, worker, "pending", rests=False)
    else:
        end_advice(world, task, worker)
        lives(world, worker)
    return Answer({"task": id})


def give_back(world: World, worker: str, claims: dict[str, int]) -> Answer:
    """Undo claims whose caller had gone before he was told; the claims' tokens by task."""
    for id, token in claims.items():
        task = world.tasks[id]
        if task.held and task.claim == token:
            move(world, task, "pending", "TASK_RELEASED", by_itself=True)
        elif (advice := task.advice_of(worker)) and advice.claim == token:
            end_advice(world, task, worker)
    return Answer()
