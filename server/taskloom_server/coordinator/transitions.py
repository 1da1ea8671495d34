"""How a task moves from state to state, with all that follows from it.

Here a move is timed and put into the history, the tasks that wait for it are told, and its
parent follows. Which moves are allowed is for the verbs to say.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Unpack

from taskloom_server.coordinator import advisory, budgets, marks, wip
from taskloom_server.coordinator.changes import change, warmth
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import AdvisoryClaim, Task, TaskChanges, Transition
from taskloom_server.graph.temperature import Activity
from taskloom_server.graph.workflows import Parents, Workflow
from taskloom_server.store.transaction import Transaction


def move(
    tx: Transaction,
    task: Task,
    to: str,
    type_: EventType,
    *,
    by: str | None,
    reason: str | None = None,
    is_activity: bool = True,
    told_as: Task | None = None,
    **changes: Unpack[TaskChanges],
) -> Task:
    """Put a task into another state, with all that follows from it.

    Ending a task, or sending it back to where claims begin, ends its claim; a task that
    ended keeps its last worker. In a parked state a claim's lease stands still. What the server
    does by itself is no activity, and warms nothing. ``told_as``: the task as it was told last,
    where it has changed since.
    """
    workflow = tx.workflows.get(task.workflow)
    state_before = workflow.states.get(task.status)
    state = workflow.states[to]
    changes["status"] = to
    if state_before is not None and state_before.timed and task.state_since is not None:
        changes["time_actual_ms"] = task.time_actual_ms + max(0, tx.now - task.state_since)
    changes["state_since"] = tx.now if state.timed else None
    if state.timed and task.started_at is None:
        changes["started_at"] = tx.now
    changes["completed_at"] = tx.now if state.terminal else None
    if state.terminal or workflow.begins(to):
        changes["claim_revision"] = None
        changes["lease_ms"] = None
        if not state.terminal:
            changes.setdefault("worker_id", None)
    # Whose lease ran out may bring the work in late only until something else happens.
    changes.setdefault("lapsed_worker_id", None)
    changes.setdefault("lapsed_claim_revision", None)
    claimed = changes.get("claim_revision", task.claim_revision) is not None
    changes["claimable"] = int(workflow.begins(to) and not claimed)
    if not claimed:
        changes["lease_since"] = changes["parked_lease_ms"] = changes["lease_until"] = None
    elif state.parked and task.lease_ms is not None:
        changes["lease_ms"], changes["parked_lease_ms"] = None, task.lease_ms
        changes["lease_until"] = None
        marks.stand_alone(tx, task.id)
    elif not state.parked and task.parked_lease_ms is not None:
        changes["lease_ms"], changes["parked_lease_ms"] = task.parked_lease_ms, None
        changes["lease_since"] = tx.now
        if budgets.spent_over(tx, task):
            changes["lease_until"] = tx.now + task.parked_lease_ms
        if holder := tx.workers.get(task.worker_id or ""):
            ends_at = holder.lease_end(tx.now, tx.now + task.parked_lease_ms)
            tx.lease_ends_at(holder.id, ends_at)
    if is_activity and not state.terminal:  # what has ended calls for no attention
        priority = changes.get("priority", task.priority)
        changes |= warmth(tx, task, Activity(progress=True), priority)
    phase = (changes["phase"] or "") if "phase" in changes else None
    changes["sequence_id"] = _record(tx, task, by, reason, status=to, phase=phase)
    moved = change(tx, task, changes)
    tx.tell_task(type_, moved, told_as or task, worker_id=by, reason=reason)
    if state.terminal or not moved.claimed:
        _unmark_files(tx, task, keep=() if state.terminal else moved.advisory_claims)
    if task.worker_id is not None and task.claimed and (not moved.claimed or state.parked):
        tx.ask_worker_again(task.worker_id)
    if moved.advisory_claims:
        moved = _end_advisory_claims(tx, moved, terminal=state.terminal)
    if to != task.status:
        wip.note_left(tx, workflow, state_before)
    _tell_dependents(tx, workflow, task, moved)
    if moved.budgets and moved.attempts != task.attempts:
        moved = budgets.spend(tx, moved, attempts=moved.attempts - task.attempts)
    return moved


def set_phase(
    tx: Transaction, task: Task, phase: str | None, by: str | None, reason: str
) -> TaskChanges:
    """Put a change of phase alone into the history; the columns that go with it."""
    return {"phase": phase, "sequence_id": _record(tx, task, by, reason, phase=phase or "")}


def begin(
    tx: Transaction, task: Task, by: str | None, reason: str | None = None, *, closes: bool = True
) -> int:
    """Open the history of a task that is new, or is back; the row of it.

    ``closes``: the row before, if there is one, ends by it.
    """
    before = task if closes else task._replace(sequence_id=None)
    return _record(tx, before, by, reason, status=task.status, phase=task.phase)


def _record(
    tx: Transaction,
    task: Task,
    by: str | None,
    reason: str | None,
    *,
    status: str | None = None,
    phase: str | None = None,
) -> int:
    """Add a row to the history; None: as it was, an empty phase: none from here on."""
    row = Transition(0, task.id, by, status, phase, reason or None, tx.now, None)
    return tx.transitions.append(row, closes=task.sequence_id)


def _end_advisory_claims(tx: Transaction, task: Task, *, terminal: bool) -> Task:
    """When a task ends, so does all work on it; who takes it over needs no other claim on it."""
    if terminal:
        return advisory.end_all(tx, task, "the task ended")
    if task.claimed and task.worker_id and task.advisory_claim(task.worker_id):
        why = "the worker took the task over"
        return advisory.end(tx, task, task.worker_id, why, works_on=True)
    return task


def _unmark_files(tx: Transaction, task: Task, keep: tuple[AdvisoryClaim, ...]) -> None:
    """Marks made for a task go when it is not worked on any more, but for those who do still."""
    at_work = {claim[0] for claim in keep}
    for mark in tx.file_marks.for_task(task.id):
        if mark.worker_id in at_work:
            continue
        marks.lift(tx, mark, "the work ended")


def _tell_dependents(tx: Transaction, workflow: Workflow, before: Task, after: Task) -> None:
    blocked, blocks = workflow.blocks(before.status), workflow.blocks(after.status)
    if blocked and not blocks:
        let_go(tx, after)
    elif blocks and not blocked:
        hold_back(tx, after)


def let_go(tx: Transaction, task: Task) -> None:
    """What waited for the task need not any more: what it blocks, and its parent."""
    dependents = tx.tasks.unblock_dependents(task.id, tx.revision, tx.now)
    parents = tx.tasks.dependent_parents(task.id) if dependents else ()
    for dependent in dependents:
        # What rolls up does not wait for a not_before.
        if dependent.id in parents and _roll_up(tx, dependent):
            continue
        if dependent.ready:
            _tell_ready(tx, dependent, dependent.changed({"unmet_blockers": 1}))
    if task.parent_id is not None:
        count_child(tx, task.parent_id, -1)


def hold_back(tx: Transaction, task: Task) -> None:
    """What depends on the task waits for it anew."""
    for dependent in tx.tasks.block_dependents(task.id, tx.revision, tx.now):
        before = dependent.changed({"unmet_blockers": 0})
        tx.tell_task(EventType.TASK_BLOCKED, dependent, before)
    if task.parent_id is not None:
        count_child(tx, task.parent_id, +1)


def count_blocker(tx: Transaction, task: Task, by: int) -> Task:
    """One start-blocker more or less."""
    return recount(tx, task, {"unmet_blockers": task.unmet_blockers + by})


def count_child(tx: Transaction, parent_id: str, by: int) -> None:
    """One open child more or less."""
    parent = tx.tasks.get(parent_id)
    if parent is not None:
        recount(tx, parent, {"open_children": parent.open_children + by})


def recount(tx: Transaction, task: Task, counts: TaskChanges) -> Task:
    """Change what readiness is worked out of.

    Only where that turns the task is it a change that anybody sees.
    """
    after = task._replace(**counts)
    if after.ready == task.ready:
        after = tx.tasks.change(task, **counts)
        if (after.open_children, after.unmet_blockers) < (task.open_children, task.unmet_blockers):
            _roll_up(tx, after)
        return after
    after = change(tx, task, counts)
    if after.ready:
        _became_ready(tx, after, task)
    elif task.id in tx.rolling_up:  # it was to complete, and so was not told as ready
        tx.tell_task(EventType.TASK_UPDATED, after, task._replace(claimable=0))
    else:
        tx.tell_task(EventType.TASK_BLOCKED, after, task)
    return after


def _became_ready(tx: Transaction, task: Task, before: Task) -> None:
    """A task has nothing left that holds it back: it can be taken, or as a parent it is done."""
    if not _roll_up(tx, task):
        _tell_ready(tx, task, before)


def _tell_ready(tx: Transaction, task: Task, before: Task) -> None:
    tx.tell_task(EventType.TASK_READY, task, before)
    advance(tx, task)


def advance(tx: Transaction, task: Task) -> Task:
    """Move a task that became ready to where its workflow wants such tasks, if there is room.

    It can be taken from there as from where it was, so that all that is ready stays so.
    """
    workflow = tx.workflows.by_name.get(task.workflow)
    if workflow is None:
        return task
    to = workflow.auto_advance
    if to and task.status == workflow.initial_state and not wip.is_full(tx, workflow, to):
        why = "what held it back is gone"
        return move(tx, task, to, EventType.TASK_MOVED, by=None, reason=why, is_activity=False)
    return task


def became_due(tx: Transaction, task: Task) -> None:
    """The task's not_before has passed."""
    after = change(tx, task, {"not_before": None})
    tx.tell_task(EventType.TASK_READY if after.ready else EventType.TASK_UPDATED, after, task)
    if after.ready:
        advance(tx, after)


def _roll_up(tx: Transaction, task: Task) -> bool:
    """Complete a parent that nobody owns when its last child has ended; whether it does.

    Its own parent may follow, and so on. One after the other, not one within the other: a tree
    may be deeper than Python's stack.
    """
    if not _ends_by_itself(tx, task):
        return False
    line = tx.rolling_up
    line.append(task.id)
    if len(line) == 1:
        _roll_up_line(tx)
    return True


def _roll_up_line(tx: Transaction, told_as_ready: Collection[str] = ()) -> None:
    line = tx.rolling_up
    while line:
        parent = tx.tasks.get(line[0])
        if parent is not None and _ends_by_itself(tx, parent):
            move(
                tx,
                parent,
                tx.workflows.get(parent.workflow).complete_state,
                EventType.TASK_COMPLETED,
                by=None,
                reason="all children ended",
                # One that became ready by this verb was not told so, but for these.
                told_as=None if parent.id in told_as_ready else parent._replace(claimable=0),
            )
        line.popleft()


@contextmanager
def rolling_up_later(tx: Transaction) -> Iterator[None]:
    """Let parents complete by themselves at the end only, if they still would."""
    line = tx.rolling_up
    line.append("")  # so that whoever comes stands in line behind it
    yield
    line.popleft()
    # What was told as ready before it had its children is a parent that is done by now.
    told_as_ready = tx.unblocked()
    line.extend(id_ for id_ in told_as_ready if _ends_by_itself(tx, _known(tx, id_)))
    spared = [id_ for id_ in dict.fromkeys(line) if not _ends_by_itself(tx, _known(tx, id_))]
    _roll_up_line(tx, frozenset(told_as_ready))
    for task_id in spared:
        # It had nothing left in the way, and was not told as ready since it was to complete.
        task = _known(tx, task_id)
        if task.ready:
            tx.tell_task(EventType.TASK_READY, task, task._replace(claimable=0))


def _known(tx: Transaction, task_id: str) -> Task:
    task = tx.tasks.get(task_id)
    assert task is not None
    return task


def _ends_by_itself(tx: Transaction, task: Task) -> bool:
    """Whether a task is an open parent that nobody owns, and that waits for nothing."""
    workflow = tx.workflows.by_name.get(task.workflow)
    if workflow is None:  # it is not loaded any more: the task stays as it is
        return False
    state = workflow.states.get(task.status)
    return (
        workflow.parents is Parents.ROLLUP
        and not task.open_children
        and not task.unmet_blockers
        and not task.claimed
        and task.deleted_at is None
        and not (state is not None and state.terminal)
        and tx.tasks.has_children(task.id)
    )
