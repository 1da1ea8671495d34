"""Workflows and overlays as protos."""

from taskloom.v1 import workflow_pb2 as pb

from taskloom_server.graph.overlays import Overlay
from taskloom_server.graph.prompts import Prompt
from taskloom_server.graph.workflows import Gate, Phase, Role, State, Topology, Workflow


def workflow(record: Workflow) -> pb.Workflow:
    """A workflow, with its prompts as the templates that they are."""
    return pb.Workflow(
        name=record.name,
        description=record.description,
        topology=_topology(record.topology),
        connect_prompt=_text(record.connect_prompt),
        states=map(_state, record.states.values()),
        phases=map(_phase, record.phases.values()),
        combination_prompts=[
            pb.CombinationPrompt(state=state, phase=phase, prompt=prompt.text)
            for (state, phase), prompt in record.combination_prompts.items()
        ],
        roles=map(_role, record.roles),
        gates=[_gate(key, gate) for key, gates in record.gates.items() for gate in gates],
        attachment_types=[
            pb.AttachmentType(
                name=each.name,
                mime_type=each.mime_type,
                mode=each.keeping,
                description=each.description,
            )
            for each in record.attachment_types.values()
        ],
        initial_state=record.initial_state,
        claim_state=record.claim_state,
        complete_state=record.complete_state,
        fail_state=record.fail_state,
        disconnect_state=record.disconnect_state,
        blocking_states=sorted(record.blocking_states),
        assign_state=record.assign_state,
        cancel_state=record.cancel_state,
        parents=record.parents,
        unknown_phase=record.unknown_phase,
        unknown_attachment_type=record.unknown_attachment_type,
        auto_advance=record.auto_advance,
    )


def overlay(record: Overlay) -> pb.Overlay:
    """What an overlay is for; what it does is seen on a workflow."""
    return pb.Overlay(name=record.name, description=record.description, workflows=record.workflows)


def _text(prompt: Prompt | None) -> str:
    return prompt.text if prompt else ""


def _topology(record: Topology) -> pb.Topology:
    return pb.Topology(
        phase_model=record.phase_model,
        coordination=record.coordination,
        granularity=record.granularity,
        default_dependencies=record.default_dependencies,
        agents=record.agents,
    )


def _state(record: State) -> pb.State:
    return pb.State(
        name=record.name,
        exits=record.exits,
        timed=record.timed,
        terminal=record.terminal,
        parked=record.parked,
        wip_limit=record.wip_limit or 0,
        enter_prompt=_text(record.enter_prompt),
        exit_prompt=_text(record.exit_prompt),
    )


def _phase(record: Phase) -> pb.Phase:
    return pb.Phase(
        name=record.name,
        enter_prompt=_text(record.enter_prompt),
        exit_prompt=_text(record.exit_prompt),
    )


def _role(record: Role) -> pb.Role:
    return pb.Role(
        name=record.name,
        tags=sorted(record.tags),
        description=record.description,
        max_claims=record.max_claims or 0,
        can_assign=record.can_assign,
        can_create_subtasks=record.can_create_subtasks,
        can_force=record.can_force,
        can_claim=record.can_claim,
        prompt=_text(record.prompt),
    )


def _gate(key: str, record: Gate) -> pb.Gate:
    return pb.Gate(
        leaving=key,
        name=record.name,
        attachment_type=record.attachment_type,
        enforcement=record.enforcement,
        description=record.description,
    )
