"""Workflows for tests: swarm, under another name, with what a test is about."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from taskloom_server.graph.workflows import Enforcement, Gate, Workflow
from taskloom_server.prompts import compile_prompt
from taskloom_server.workflow_files import SHIPPED, read_workflow

_SWARM = read_workflow(SHIPPED / "swarm.yaml")
SWARM = replace(
    _SWARM,
    states={
        name: replace(state, enter_prompt=None, exit_prompt=None, wip_limit=None)
        for name, state in _SWARM.states.items()
    },
    phases={
        name: replace(phase, enter_prompt=None, exit_prompt=None)
        for name, phase in _SWARM.phases.items()
    },
    combination_prompts={},
    gates={},
    roles=(),
    attachment_types={},
    connect_prompt=None,
)
"""Without all that the workflow may have beyond states and phases."""


def board(**changes: Any) -> Workflow:
    """A workflow that has just this beyond states and phases."""
    return replace(SWARM, **({"name": "board"} | changes))


def states(changes: Mapping[str, Mapping[str, Any]], base: Workflow = SWARM) -> dict[str, Any]:
    """The states of a workflow, some of them changed; as a change of a board."""
    changed = {name: replace(base.states[name], **of_it) for name, of_it in changes.items()}
    return {"states": {**base.states, **changed}}


def phases(changes: Mapping[str, Mapping[str, Any]], base: Workflow = SWARM) -> dict[str, Any]:
    """The phases likewise."""
    changed = {name: replace(base.phases[name], **of_it) for name, of_it in changes.items()}
    return {"phases": {**base.phases, **changed}}


def limited(limit: int, state: str = "working", name: str = "board") -> Workflow:
    """A workflow in one of whose states so many tasks may be at once."""
    return board(name=name, **states({state: {"wip_limit": limit}}))


def guarded(enforcement: Enforcement, leaving: str = "status:working") -> Workflow:
    """A workflow with one gate, "tested", which asks for an attachment of type "gate/tests"."""
    gate = Gate("tested", "gate/tests", enforcement, "the tests that were run")
    return board(gates={leaving: (gate,)})


prompt = compile_prompt
