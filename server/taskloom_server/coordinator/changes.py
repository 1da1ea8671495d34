"""The one door through which every change of a task's columns goes."""

from typing import Any

from taskloom_server.graph.tasks import Task, TaskChanges
from taskloom_server.graph.temperature import Activity, warmed
from taskloom_server.store.transaction import Transaction


def change(tx: Transaction, task: Task, changes: TaskChanges) -> Task:
    """Write what differs, as part of the revision that this verb makes."""
    # A TypedDict cannot be filtered and stay one, for the type checker.
    differing: Any = {k: v for k, v in changes.items() if getattr(task, k) != v}
    after = task._replace(**differing)
    if after.ready and not task.ready:
        differing["ready_at"] = tx.now
    after = tx.tasks.change(
        task,
        **differing,
        revision=tx.revision,
        updated_at=tx.now,
    )
    if not after.claimed or after.lease_ms is None:
        return after._replace(lease_expires_at=None)
    if after.lease_until is not None:
        return after._replace(lease_expires_at=after.lease_until)
    if not differing.keys().isdisjoint(("lease_since", "claim_revision", "lease_ms")):
        return after._replace(lease_expires_at=tx.lease_end_of(after.worker_id))
    return after


def warmth(tx: Transaction, task: Task, activity: Activity, priority: int) -> TaskChanges:
    """The columns that an activity on a task changes."""
    after = warmed(task.warmth, activity, priority=priority, now=tx.now, weights=tx.weights)
    # A TypedDict cannot be made of a record, for the type checker.
    columns: Any = after._asdict()
    changes: TaskChanges = columns
    return changes
