"""Putting other workflows in force while tasks are under way."""

from taskloom_server.coordinator.lookup import blocker_ids, open_child_ids, require_task
from taskloom_server.coordinator.transitions import recount
from taskloom_server.graph.tasks import Task, TaskChanges
from taskloom_server.graph.workflows import Workflow, Workflows
from taskloom_server.store.transaction import Transaction


def put_in_force(tx: Transaction, workflows: Workflows) -> list[str]:
    """Let these workflows be the ones by which everything goes from the next verb on.

    What is worked out of a workflow's rules, whether its tasks can be claimed and what they hold
    back, is worked out anew where the rules have changed. Which tasks are left without a workflow
    or a state is the answer, a sentence each: such tasks stay as they are.
    """
    before, tx.workflows = tx.workflows, workflows
    try:
        for name, workflow in workflows.by_name.items():
            if _rules(before.by_name.get(name)) != _rules(workflow):
                _work_out(tx, workflow)
        tx.ask_again()
        return left_behind(tx, None)
    except Exception:
        tx.workflows = before
        raise


def left_behind(tx: Transaction, _: None) -> list[str]:
    """Which open tasks are of a workflow, or in a state, that is not there; a sentence each."""
    found: list[str] = []
    for name, status, count in tx.tasks.open_by_state():
        workflow = tx.workflows.by_name.get(name)
        are = "1 open task is" if count == 1 else f"{count} open tasks are"
        if workflow is None:
            found.append(
                f"{are} {status!r} in workflow {name!r}, which is not there any more; such "
                "tasks stay as they are until it is back"
            )
        elif status not in workflow.states:
            found.append(
                f"{are} in state {status!r}, which workflow {name!r} does not have any more; the "
                f"only way from there is to {workflow.initial_state!r}"
            )
    return found


def _rules(workflow: Workflow | None) -> object:
    """All of a workflow that is worked into its tasks' rows."""
    if workflow is None:
        return None
    begins = {workflow.initial_state, workflow.auto_advance}
    return begins, workflow.blocking_states, workflow.states.keys()


def _work_out(tx: Transaction, workflow: Workflow) -> None:
    """Count anew for the tasks of a workflow, and for those that wait for them."""
    waiting: set[str] = set()
    for task in tx.tasks.of_workflow(workflow.name):
        claimable = int(workflow.begins(task.status) and not task.claimed)
        if claimable != task.claimable:
            recount(tx, task, {"claimable": claimable})
        waiting.update(tx.dependencies.waiting_for(task.id))
    for task_id in sorted(waiting):
        task = require_task(tx, task_id)
        if task.deleted_at is not None or not _all_known(tx, task):
            continue  # what waits for a workflow that is not there waits on
        counts: TaskChanges = {
            "unmet_blockers": len(blocker_ids(tx, task.id)),
            "open_children": len(open_child_ids(tx, task.id)),
        }
        if counts != {
            "unmet_blockers": task.unmet_blockers,
            "open_children": task.open_children,
        }:
            recount(tx, task, counts)


def _all_known(tx: Transaction, task: Task) -> bool:
    """Whether a task and all that it waits for are of workflows that are there."""
    names = {task.workflow}
    names.update(blocker[2] for blocker in tx.dependencies.blockers(task.id))
    names.update(child.workflow for child in tx.tasks.children(task.id))
    return names <= tx.workflows.by_name.keys()
