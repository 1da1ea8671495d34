"""Limits on work in progress: how many of a workflow's tasks may be in a state at once.

They hold for claims, assignments and moves. What gives a task back or ends it is never refused,
so a state may come to hold more than its limit where that is where tasks go back to. Nothing of
this costs a workflow without limits a statement.
"""

from taskloom_server.graph.errors import WipLimit
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workflows import State, Workflow
from taskloom_server.store.transaction import Transaction


def is_full(tx: Transaction, workflow: Workflow, status: str) -> bool:
    """Whether a state has as many tasks as may be in it."""
    limit = workflow.states[status].wip_limit
    return limit is not None and tx.tasks.count_in(workflow.name, status) >= limit


def refusal(tx: Transaction, workflow: Workflow, task: Task, to: str) -> WipLimit | None:
    """Why a task may not come into a state now; None when it may."""
    if task.status == to or workflow.states[to].terminal or not is_full(tx, workflow, to):
        return None
    limit = workflow.states[to].wip_limit
    ids = tx.tasks.ids_in(workflow.name, to)
    return WipLimit(
        f"state {to!r} of workflow {workflow.name!r} has {len(ids)} tasks of at most {limit}: "
        f"{', '.join(ids)}; one of them must leave it before task {task.id!r} comes",
        subjects=ids,
        metadata={
            "state": to,
            "wip_limit": str(limit),
            "workflow": workflow.name,
            "count": str(len(ids)),
        },
    )


def note_left(tx: Transaction, workflow: Workflow, left: State | None) -> None:
    """Let those who wait for a task look again, if there is room for one since one has left.

    Of a state that had room before, nobody has waited for the room.
    """
    if left is None or left.wip_limit is None or left.name != workflow.claim_state:
        return
    if tx.tasks.count_in(workflow.name, left.name) == left.wip_limit - 1:
        tx.has_room(workflow.name)
