"""Holding back a task and all below it: by pauses, and by budgets that are spent."""

from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.store.transaction import Transaction


def shift_paused(tx: Transaction, task: Task, by: int) -> list[Task]:
    """So many pauses or spent budgets more, or less, on a task and all below it; what is ready."""
    turned = tx.tasks.shift_paused(task.id, by, tx.revision, tx.now)
    for one in turned:
        before = one._replace(paused=one.paused - by)
        tx.tell_task(EventType.TASK_READY if one.ready else EventType.TASK_BLOCKED, one, before)
    return [one for one in turned if one.ready]
