"""Several changes as one: all of them, or none."""

from dataclasses import dataclass

from taskloom_server.coordinator.lookup import require_task
from taskloom_server.coordinator.tasks import UpdateTask, update_task
from taskloom_server.graph.errors import DomainError
from taskloom_server.graph.steps import Step
from taskloom_server.graph.tasks import Task
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class UpdatedAll:
    """The tasks that were named, as they are after all the changes, and those that became ready."""

    tasks: list[Task]
    unblocked: list[str]
    revision: int
    steps: list[Step | None]  # what workflows may have prompts for, of each change
    warnings: list[str]


def update_tasks(tx: Transaction, updates: tuple[UpdateTask, ...]) -> UpdatedAll:
    """Make the changes one after the other. Raises what ``update_task`` does, naming which."""
    steps: list[Step | None] = []
    warnings: list[str] = []
    for n, ask in enumerate(updates):
        try:
            steps.append(update_task(tx, ask).step)
            warnings += (f"updates[{n}]: {told}" for told in tx.noted.warnings)
            tx.noted.warnings.clear()
        except DomainError as refusal:
            raise refusal.within(f"updates[{n}]", index=n) from refusal
    ids = dict.fromkeys(ask.task_id for ask in updates)
    tasks = [require_task(tx, task_id) for task_id in ids]
    unblocked = [id_ for id_ in dict.fromkeys(tx.unblocked()) if require_task(tx, id_).ready]
    return UpdatedAll(tasks, unblocked, tx.seen, steps, warnings)
