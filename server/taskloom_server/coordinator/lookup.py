"""Looking up what a request names, and saying so when it is not there."""

from collections.abc import Iterator

from taskloom_server.graph.errors import TaskDeleted, TaskNotFound
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workers import Worker
from taskloom_server.graph.workflows import Workflow
from taskloom_server.store.transaction import Transaction


def require_task(tx: Transaction, task_id: str, role: str = "task") -> Task:
    """The task of this id, deleted or not. Raises TaskNotFound."""
    task = tx.tasks.get(task_id)
    if task is None:
        raise TaskNotFound(f"there is no {role} {task_id!r}", subjects=(task_id,))
    return task


def require_live_task(tx: Transaction, task_id: str, role: str = "task") -> Task:
    """The task of this id. Raises TaskNotFound, and TaskDeleted for a deleted one."""
    task = require_task(tx, task_id, role)
    if task.deleted_at is not None:
        raise TaskDeleted(f"{role} {task_id!r} is deleted", subjects=(task_id,))
    return task


def workflow_for(tx: Transaction, task: Task, worker: Worker | None) -> Workflow:
    """A task's workflow as it is for a worker: with the worker's overlays on it.

    None: for a person. Raises WorkflowNotFound.
    """
    if worker is None or not worker.overlays:
        return tx.workflows.get(task.workflow)
    return tx.workflows.for_worker(task.workflow, worker.overlays)


def below(tx: Transaction, task: Task) -> Iterator[Task]:
    """A task and all below it that are not deleted, each before its children."""
    stack = [task]
    while stack:
        one = stack.pop()
        yield one
        stack.extend(reversed(tx.tasks.children(one.id)))


def blocker_ids(tx: Transaction, task_id: str) -> list[str]:
    """The start-blockers that hold a task back."""
    return [
        id_
        for id_, status, workflow in tx.dependencies.blockers(task_id)
        if tx.workflows.blocks(workflow, status)
    ]


def open_child_ids(tx: Transaction, task_id: str) -> list[str]:
    """The children that hold a task's completion back."""
    return [
        child.id
        for child in tx.tasks.children(task_id)
        if tx.workflows.blocks(child.workflow, child.status)
    ]
