"""Roles: what a worker may do with a task, by the role that its tags give it in the workflow."""

from taskloom_server.graph.errors import RoleForbids
from taskloom_server.graph.workers import Worker
from taskloom_server.graph.workflows import Right, Role, Workflow
from taskloom_server.store.transaction import Transaction

_TO = {
    Right.ASSIGN: "assign tasks",
    Right.CREATE_SUBTASKS: "create subtasks",
    Right.FORCE: "force anything",
    Right.CLAIM: "claim what is not assigned to it",
}


def role_of(tx: Transaction, worker: Worker) -> Role | None:
    """The worker's role in its workflow; None: it has none."""
    workflow = _rules(tx, worker, worker.workflow)
    return workflow.role_of(worker.tags) if workflow is not None else None


def role_name(tx: Transaction, worker: Worker) -> str:
    """What the worker's role is called; empty: it has none."""
    role = role_of(tx, worker)
    return role.name if role is not None else ""


def may(tx: Transaction, worker: Worker | None, right: Right, workflow_name: str) -> bool:
    """Whether the worker may do this with tasks of a workflow. A person may do everything.

    Where there are roles, a worker that has none of them has no right that one of them lacks: else
    to connect without tags would be a way around them. The workflow is the task's, for to connect
    to another one would be a way, too.
    """
    workflow = _rules(tx, worker, workflow_name) if worker is not None else None
    if worker is None or workflow is None or right not in workflow.denied:
        return True
    role = workflow.role_of(worker.tags)
    return role is not None and role.may(right)


def check_right(tx: Transaction, worker: Worker | None, right: Right, workflow_name: str) -> None:
    """Raise RoleForbids unless the worker may do this with tasks of a workflow; see ``may``."""
    if worker is not None and (error := _refusal(tx, worker, right, workflow_name)):
        raise error


def claim_refusal(tx: Transaction, worker: Worker, workflow_name: str) -> RoleForbids | None:
    """Why the worker may not claim a task of a workflow that is not assigned to it, if so.

    Its role must allow it in its own workflow and in the task's.
    """
    own = _refusal(tx, worker, Right.CLAIM, worker.workflow)
    return own or _refusal(tx, worker, Right.CLAIM, workflow_name)


def barred(tx: Transaction, worker: Worker) -> set[str]:
    """The workflows of which the worker may claim only what is assigned to it."""
    there = tx.requirements.among(tx.workflows.assigning)
    return {name for name in there if not may(tx, worker, Right.CLAIM, name)}


def _refusal(
    tx: Transaction, worker: Worker, right: Right, workflow_name: str
) -> RoleForbids | None:
    """Why the worker may not do this with tasks of a workflow, and which roles may."""
    workflow = _rules(tx, worker, workflow_name)
    if workflow is None or may(tx, worker, right, workflow_name):
        return None
    role = workflow.role_of(worker.tags)
    having = [one for one in workflow.roles if one.may(right)]
    within = f"in workflow {workflow.name!r}"
    who = (
        f"role {role.name!r} of worker {worker.id!r} {within}"
        if role
        else f"worker {worker.id!r}, which has no role {within},"
    )
    have = ", ".join(
        f"{one.name!r} (tags: {', '.join(sorted(one.tags)) or 'any'})" for one in having
    )
    return RoleForbids(
        f"{who} may not {_TO[right]}; " + (f"what may: {have}" if having else "no role of it may"),
        subjects=[one.name for one in having],
        metadata={
            "role": role.name if role else "",
            "right": right.value,
            "workflow": workflow.name,
            "roles": ",".join(one.name for one in having),
        },
    )


def check_keeps_gates(
    tx: Transaction, worker: Worker, overlays: tuple[str, ...], by: Worker | None
) -> None:
    """Raise RoleForbids where these overlays lack gates of the worker's, unless ``by`` may force.

    To take a gate away is to go past it.
    """
    before = _rules(tx, worker, worker.workflow)
    after = _rules(tx, worker._replace(overlays=overlays), worker.workflow)
    if before is None or after is None:
        return
    if any(set(gates) - set(after.gates.get(place, ())) for place, gates in before.gates.items()):
        check_right(tx, by, Right.FORCE, worker.workflow)


def _rules(tx: Transaction, worker: Worker, workflow_name: str) -> Workflow | None:
    """A workflow, if it is still loaded: the worker's own one with the overlays that it has."""
    if workflow_name not in tx.workflows.by_name:
        return None
    overlays = worker.overlays if workflow_name == worker.workflow else ()
    return tx.workflows.for_worker(workflow_name, overlays)
