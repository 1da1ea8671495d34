"""The one door through which every change of a task's columns goes."""

from typing import Any

from taskloom_server.graph.tasks import Task, TaskChanges
from taskloom_server.graph.temperature import Activity, warmed
from taskloom_server.store.transaction import Transaction


def change(tx: Transaction, task: Task, changes: TaskChanges) -> Task:
    """Write what differs, as part of the revision that this verb makes."""
    # A TypedDict cannot be filtered and stay one, for the type checker.
    differing: Any = {k: v for k, v in changes.items() if getattr(task, k) != v}
    differing["revision"] = tx.revision
    differing["updated_at"] = tx.now
    after = task.changed(differing)
    if after.ready and not task.ready:
        differing["ready_at"] = tx.now
        after = after.changed(differing)
    tx.tasks.write(task, differing)
    ends_at = _lease_end(tx, after, differing)
    return (
        after if ends_at == after.lease_expires_at else after.changed({"lease_expires_at": ends_at})
    )


def _lease_end(tx: Transaction, task: Task, changed: TaskChanges) -> int | None:
    """When the lease of a task that was just changed ends; the database works it out when asked."""
    if not task.claimed or task.lease_ms is None:
        return None
    if task.lease_until is not None:
        return task.lease_until
    if "lease_since" in changed or "claim_revision" in changed or "lease_ms" in changed:
        return tx.lease_end_of(task.worker_id)
    return task.lease_expires_at


def warmth(tx: Transaction, task: Task, activity: Activity, priority: int) -> TaskChanges:
    """The columns that an activity on a task changes."""
    after = warmed(task.warmth, activity, priority=priority, now=tx.now, weights=tx.weights)
    # A TypedDict cannot be made of a record, for the type checker.
    columns: Any = after._asdict()
    changes: TaskChanges = columns
    return changes
