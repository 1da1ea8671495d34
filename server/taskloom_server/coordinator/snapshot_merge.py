"""What a merge does to tasks that are there: some are overwritten, others wait for what came."""

from collections.abc import Iterable, Mapping
from typing import Any

from taskloom_server.coordinator.dependencies import set_parent
from taskloom_server.coordinator.lookup import blocker_ids, open_child_ids, require_task
from taskloom_server.coordinator.snapshot_plan import Import, Plan
from taskloom_server.coordinator.transitions import recount
from taskloom_server.graph.events import Aspect, EventType
from taskloom_server.graph.snapshots import HISTORY
from taskloom_server.graph.tasks import (
    CONTAINS,
    START_BLOCKING,
    Attachment,
    Task,
    TaskChanges,
    Transition,
)
from taskloom_server.store.transaction import Transaction

# Columns that an overwritten task keeps: who it is and where it stands, and its open history.
_KEPT = frozenset(
    {"number", "id", "parent_id", "paused", "advisory_claims", "sequence_id", "lease_expires_at"}
)
# Columns that do not make it another task.
_INCIDENTAL = frozenset({"revision", "heat"})


def drop_dependencies(tx: Transaction, made: Plan) -> None:
    """Remove what the snapshot does not have between tasks that it overwrites."""
    for dependency in made.dropped:
        tx.dependencies.delete(dependency)


def overwrite(tx: Transaction, before: Task, task: Task, ask: Import) -> Task:
    """Make a task what the snapshot says; as it is then: ``before``, if nothing differs."""
    # A TypedDict cannot be made of a record, for the type checker.
    differing: Any = {
        name: value
        for name, value in task._asdict().items()
        if name not in _KEPT and getattr(before, name) != value
    }
    if differing.keys() <= _INCIDENTAL:
        return before
    if HISTORY not in ask.snapshot.tables and not differing.keys().isdisjoint(("status", "phase")):
        differing["sequence_id"] = tx.transitions.append(
            Transition(
                0,
                task.id,
                None,
                task.status if "status" in differing else None,
                (task.phase or "") if "phase" in differing else None,
                "overwritten by an import",
                tx.now,
                None,
            ),
            closes=before.sequence_id,
        )
    if task.not_before is not None:
        tx.wake_at(task.not_before)
    return tx.tasks.change(before, **differing)


def clear_attachments(
    tx: Transaction, made: Plan, attachments: Iterable[Attachment], live: Mapping[str, Aspect]
) -> tuple[frozenset[tuple[str, str, int]], int]:
    """Remove the attachments of overwritten tasks that the snapshot has otherwise, or not at all.

    Those that stand because they are equal, by their task, type and sequence, and how many went.
    """
    standing: set[tuple[str, str, int]] = set()
    for listed in attachments:
        if listed.task_id in made.overwritten and tx.attachments.get(*listed[:3]) == listed:
            standing.add(listed[:3])
    removed = 0
    for task_id in made.overwritten:
        for info in tx.attachments.page(task_id, "", ("", -1), -1):
            if info[:3] in standing:
                continue
            tx.attachments.delete(info)
            if info.file_path is not None:
                tx.drop_file(info.file_path)
            removed += 1
            if task_id in live:
                tx.tell(EventType.ATTACHMENT_REMOVED, info, task_id=task_id, aspect=live[task_id])
    return frozenset(standing), removed


def settle(tx: Transaction, made: Plan) -> None:
    """Let the graph's tasks follow: those that have another parent, wait for more, or for less."""
    if not (made.there or made.overwritten):
        return
    ours = {row.id for row in made.rows}
    for dependency in made.dropped:
        if dependency.dep_type == CONTAINS and dependency.to_task_id not in made.parents:
            set_parent(tx, require_task(tx, dependency.to_task_id), None, None)
    for child, parent in made.parents.items():
        if child in made.there or child in made.overwritten:
            set_parent(tx, require_task(tx, child), parent, None)
    waiting = {d.to_task_id for d in made.fresh if d.dep_type in START_BLOCKING}
    waiting.update(d.from_task_id for d in made.fresh if d.dep_type == CONTAINS)
    for task_id in made.overwritten:
        waiting.update(tx.dependencies.waiting_for(task_id))
    _count_anew(tx, sorted(waiting - ours))
    if made.overwritten:
        tx.ask_again()


def _count_anew(tx: Transaction, task_ids: Iterable[str]) -> None:
    """Count what holds tasks back, and let follow what follows from that.

    Those that are held back by more come first: else a parent could end by itself, when a child
    that was there ends by this, before a child that came is counted.
    """
    later: list[str] = []
    for task_id in task_ids:
        task = require_task(tx, task_id)
        if task.deleted_at is not None:
            continue
        counts = _counts(tx, task)
        if (
            counts["unmet_blockers"] > task.unmet_blockers
            or counts["open_children"] > task.open_children
        ):
            recount(tx, task, counts)
        else:
            later.append(task_id)
    for task_id in later:
        task = require_task(tx, task_id)
        counts = _counts(tx, task)
        if counts != {
            "unmet_blockers": task.unmet_blockers,
            "open_children": task.open_children,
        }:
            recount(tx, task, counts)


def _counts(tx: Transaction, task: Task) -> TaskChanges:
    return {
        "unmet_blockers": len(blocker_ids(tx, task.id)),
        "open_children": len(open_child_ids(tx, task.id)),
    }
