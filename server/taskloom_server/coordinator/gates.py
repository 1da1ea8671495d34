"""Gates: whether a task may leave a state or a phase, and telling so beforehand."""

from dataclasses import dataclass, replace
from itertools import pairwise

from taskloom_server.coordinator import workers
from taskloom_server.coordinator.lookup import require_task, workflow_for
from taskloom_server.coordinator.roles import may
from taskloom_server.graph.errors import GateUnsatisfied, IllegalTransition
from taskloom_server.graph.events import EventType
from taskloom_server.graph.gates import Asked, asked, forcible
from taskloom_server.graph.tasks import Task
from taskloom_server.graph.workflows import Enforcement, Right, Workflow
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class CheckGates:
    """A move of which is to be known what keeps it."""

    task_id: str
    status: str  # empty: none, or with no phase either the complete state
    phase: str | None  # None: the phase stays; empty: no phase
    worker_id: str = ""  # who would move it; empty: who holds it


@dataclass(frozen=True, slots=True)
class Checked:
    """The gates on the shortest way, and whether one move leads there and would go through."""

    task: Task
    gates: list[Asked]
    way: tuple[str, ...]  # the states after the present one; empty: none leads there, or none need
    exits: tuple[str, ...]
    obstacle: str  # why no single move leads there; empty: one does
    passes: bool
    passes_forced: bool
    revision: int


def check_gates(tx: Transaction, ask: CheckGates) -> Checked:
    """Which gates a task would have to pass.

    Raises TaskNotFound, WorkerNotFound, IllegalTransition.
    """
    task = require_task(tx, ask.task_id)
    who = ask.worker_id or (task.claimed and task.worker_id)
    worker = workers.require(tx, who) if who else None
    workflow = workflow_for(tx, task, worker)
    to = ask.status or (workflow.complete_state if ask.phase is None else task.status)
    if to != task.status and to not in workflow.states:
        raise IllegalTransition(
            f"workflow {workflow.name!r} has no state {to!r}; it has {', '.join(workflow.states)}",
            subjects=tuple(workflow.states),
        )
    phase = task.phase if ask.phase is None else ask.phase or None
    way = workflow.way(task.status, to)
    obstacle = _obstacle(workflow, task, to, way)
    stops = (task.status, *way) if way or obstacle else (task.status, to)
    gates = _looked_at(
        tx,
        task,
        [
            gate
            for at, following in pairwise(stops)  # the phase is left with the last move
            for gate in asked(
                workflow, at, task.phase, following, phase if following == to else task.phase
            )
        ],
    )
    passes = all(one.satisfied or one.gate.enforcement is Enforcement.ALLOW for one in gates)
    forced = passes or (forcible(gates) and may(tx, worker, Right.FORCE, task.workflow))
    return Checked(
        task,
        gates,
        way,
        workflow.exits_of(task.status),
        obstacle,
        passes and not obstacle,
        forced and not obstacle,
        tx.seen,
    )


def _obstacle(workflow: Workflow, task: Task, to: str, way: tuple[str, ...]) -> str:
    """Why no single move leads a task to a state; empty: one does, or it is there."""
    if to == task.status or len(way) == 1:
        return ""
    try:
        workflow.check_exit(task.id, task.status, to)
    except IllegalTransition as refusal:
        leads = f"the shortest way is {', then '.join(way)}" if way else "no way leads there"
        return f"{refusal}; {leads}"
    return ""


def pass_gates(
    tx: Transaction,
    workflow: Workflow,
    task: Task,
    to: str,
    phase: str | None,
    *,
    force: bool,
    leaving: str = "",
) -> str:
    """Let a task go to a state and a phase, past the gates on what it leaves.

    What gates were gone past by force, as is to be said in the history; empty: none. Those that
    only ask are warned of. ``leaving``: the state that it is leaving, where that is not where it
    stands. Raises GateUnsatisfied.
    """
    gates = _looked_at(tx, task, asked(workflow, leaving or task.status, task.phase, to, phase))
    missing = [one for one in gates if not one.satisfied]
    if not missing:
        return ""
    keeping = [one for one in missing if one.gate.enforcement is not Enforcement.ALLOW]
    if keeping and not (force and forcible(keeping)):
        raise _unsatisfied(task, keeping, force=force)
    for one in missing:
        tx.warn(f"{one.sentence}; {'forced' if one in keeping else 'it went on without'}")
    if not keeping:
        return ""
    return f"forced past {', '.join(f'gate {one.gate.name!r}' for one in keeping)}"


def tell_forced(tx: Transaction, task: Task, by: str | None, forced: str) -> None:
    """Tell that a task went past gates by force, after what tells of its move."""
    if forced:
        tx.tell_task(EventType.GATE_FORCED, task, task, worker_id=by, reason=forced)


def noting(reason: str, forced: str) -> str:
    """The reason for the history, with what was forced."""
    return "; ".join(part for part in (reason, forced) if part)


def _looked_at(tx: Transaction, task: Task, gates: list[Asked]) -> list[Asked]:
    """Gates, each with whether the task satisfies it."""
    return [
        replace(
            one,
            satisfied=tx.attachments.latest_sequence(task.id, one.gate.attachment_type) is not None,
        )
        for one in gates
    ]


def _unsatisfied(task: Task, keeping: list[Asked], *, force: bool) -> GateUnsatisfied:
    may_force = forcible(keeping)
    if may_force:
        remedy = "attach it, or say force"
    elif force:
        fixed = [one for one in keeping if one.gate.enforcement is Enforcement.REJECT]
        remedy = f"force does not go past {', '.join(repr(one.gate.name) for one in fixed)}"
    else:
        remedy = "attach it"
    return GateUnsatisfied(
        f"task {task.id!r} cannot go on: {'; '.join(one.sentence for one in keeping)}; {remedy}",
        subjects=[one.gate.name for one in keeping],
        metadata={
            "leaving": ",".join(dict.fromkeys(one.leaving for one in keeping)),
            "attachment_types": ",".join(one.gate.attachment_type for one in keeping),
            "forcible": "true" if may_force else "false",
        },
    )
