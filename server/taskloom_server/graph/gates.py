"""Gates: which of them a move has to pass.

A gate guards a state or a phase that a task leaves by going on. Taking a task up, giving it back
and giving it up leave states, too, but are open: a gate must never keep a task with a worker who
cannot go on with it, and a lease that ends asks nobody.
"""

from dataclasses import dataclass

from taskloom_server.graph.workflows import Enforcement, Gate, Workflow


@dataclass(frozen=True, slots=True)
class Asked:
    """A gate that a move has to pass, on what is left by it, and whether it is satisfied."""

    leaving: str  # such as "status:working"
    gate: Gate
    status: str  # the state that the task is in when it has to pass it
    satisfied: bool = False

    @property
    def sentence(self) -> str:
        """What is to be done about it."""
        what = f" ({self.gate.description})" if self.gate.description else ""
        return (
            f"gate {self.gate.name!r} on leaving {self.leaving} asks for an attachment of type "
            f"{self.gate.attachment_type!r}{what}"
        )


def asked(
    workflow: Workflow, status: str, phase: str | None, to: str, to_phase: str | None
) -> list[Asked]:
    """The gates on a task's way from a status and a phase to others."""
    if not workflow.gates:
        return []
    left = []
    if to != status and not _is_open(workflow, status, to):
        left.append(f"status:{status}")
    if phase and (to_phase != phase or (to != status and to == workflow.complete_state)):
        left.append(f"phase:{phase}")  # what ends well is through with its phase
    return [Asked(place, gate, status) for place in left for gate in workflow.gates.get(place, ())]


def _is_open(workflow: Workflow, status: str, to: str) -> bool:
    """Whether a move takes a task up, gives it back, or gives it up."""
    taken_up = to in (workflow.assign_state, workflow.claim_state) and (
        workflow.begins(status) or status == workflow.assign_state
    )
    back = workflow.begins(to) or to == workflow.disconnect_state
    return taken_up or back or to in (workflow.fail_state, workflow.cancel_state)


def forcible(gates: list[Asked]) -> bool:
    """Whether force goes past all of these gates that are not satisfied."""
    return all(one.satisfied or one.gate.enforcement is not Enforcement.REJECT for one in gates)
