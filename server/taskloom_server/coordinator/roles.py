"""Roles: what a worker may do, by the role that its tags give it in its workflow."""

from enum import Enum

from taskloom_server.graph.errors import RoleForbids
from taskloom_server.graph.workers import Worker
from taskloom_server.graph.workflows import Role, Workflow
from taskloom_server.store.transaction import Transaction


class Right(Enum):
    """What a role may or may not let a worker do; the value is how it is called in a refusal."""

    ASSIGN = "assign"
    CREATE_SUBTASKS = "create_subtasks"
    FORCE = "force"
    CLAIM = "claim"

    def of(self, role: Role) -> bool:
        """Whether a role has it."""
        return {
            Right.ASSIGN: role.can_assign,
            Right.CREATE_SUBTASKS: role.can_create_subtasks,
            Right.FORCE: role.can_force,
            Right.CLAIM: role.can_claim,
        }[self]


_TO = {
    Right.ASSIGN: "assign tasks",
    Right.CREATE_SUBTASKS: "create subtasks",
    Right.FORCE: "force anything",
    Right.CLAIM: "claim what is not assigned to it",
}


def role_of(tx: Transaction, worker: Worker) -> Role | None:
    """The worker's role in its workflow; None: it has none."""
    workflow = _workflow_of(tx, worker)
    return workflow.role_of(worker.tags) if workflow is not None else None


def role_name(tx: Transaction, worker: Worker) -> str:
    """What the worker's role is called; empty: it has none."""
    role = role_of(tx, worker)
    return role.name if role is not None else ""


def check_right(tx: Transaction, worker: Worker | None, right: Right) -> None:
    """Raise RoleForbids unless the worker may do this. A person may do everything."""
    if worker is not None and (error := refusal(tx, worker, right)):
        raise error


def has_right(tx: Transaction, worker: Worker, right: Right) -> bool:
    """Whether the worker may do this.

    Where there are roles, a worker that has none of them has no right that one of them lacks: else
    to connect without tags would be a way around it.
    """
    workflow = _workflow_of(tx, worker)
    if workflow is None or all(right.of(role) for role in workflow.roles):
        return True
    role = workflow.role_of(worker.tags)
    return role is not None and right.of(role)


def refusal(tx: Transaction, worker: Worker, right: Right) -> RoleForbids | None:
    """Why the worker may not do this, and which roles may; None when it may."""
    workflow = _workflow_of(tx, worker)
    if workflow is None or has_right(tx, worker, right):
        return None
    role = workflow.role_of(worker.tags)
    having = [one for one in workflow.roles if right.of(one)]
    who = f"role {role.name!r} of worker {worker.id!r}" if role else f"worker {worker.id!r}"
    lacks = "" if role else f", which has no role in workflow {workflow.name!r},"
    may = ", ".join(
        f"{one.name!r} (tags: {', '.join(sorted(one.tags)) or 'any'})" for one in having
    )
    return RoleForbids(
        f"{who}{lacks} may not {_TO[right]}; "
        + (f"what may: {may}" if having else f"no role of workflow {workflow.name!r} may"),
        subjects=[one.name for one in having],
        metadata={
            "role": role.name if role else "",
            "right": right.value,
            "roles": ",".join(one.name for one in having),
        },
    )


def _workflow_of(tx: Transaction, worker: Worker) -> Workflow | None:
    """The workflow that the worker connected to, with its overlays, if it is still loaded."""
    if worker.workflow not in tx.workflows.by_name:
        return None
    return tx.workflows.for_worker(worker.workflow, worker.overlays)
