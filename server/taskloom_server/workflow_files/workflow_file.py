"""A workflow file: its form, and the workflow in it. See docs/workflows.md."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from taskloom_server.graph.soundness import first_problem
from taskloom_server.graph.workflows import Parents, State, Topology, Unknown, Workflow
from taskloom_server.workflow_files import parts
from taskloom_server.workflow_files.marked_yaml import Marked, once_a_text, read_yaml
from taskloom_server.workflow_files.parts import HeadPart, Name, Part, PromptsPart


class _Topology(Part):
    phase_model: str = ""
    coordination: str = ""
    granularity: str = ""
    default_dependencies: str = ""
    agents: str = ""


class _State(Part):
    exits: list[Name]
    timed: bool = False
    terminal: bool | None = None
    parked: bool = False
    wip_limit: int | None = None
    prompts: PromptsPart = PromptsPart()


_Parents = Annotated[Parents, Field(strict=False)]
_Unknown = Annotated[Unknown, Field(strict=False)]


class _Settings(Part):
    initial_state: Name
    assign_state: Name
    claim_state: Name
    complete_state: Name
    fail_state: Name
    cancel_state: Name
    disconnect_state: Name
    blocking_states: list[Name]
    parents: _Parents = Parents.ROLLUP
    unknown_phase: _Unknown = Unknown.REJECT
    unknown_attachment_type: _Unknown = Unknown.ALLOW
    auto_advance: Name | None = None


class _File(HeadPart):
    topology: _Topology = _Topology()
    states: dict[Name, _State]
    settings: _Settings
    connect_prompt: str = ""


def read_workflow(path: Path) -> Workflow:
    """The workflow in a file. Raises WorkflowFileError."""
    return workflow_in(read_yaml(path))


@once_a_text
def workflow_in(marked: Marked) -> Workflow:
    """The workflow in what was read of a file. Raises WorkflowFileError."""
    file = parts.parse(marked, _File)
    settings = file.settings
    workflow = Workflow(
        name=file.name,
        description=parts.line(file.description),
        states={name: _state(marked, name, each) for name, each in file.states.items()},
        phases=parts.phases(marked, file.phases),
        initial_state=settings.initial_state,
        assign_state=settings.assign_state,
        claim_state=settings.claim_state,
        complete_state=settings.complete_state,
        cancel_state=settings.cancel_state,
        fail_state=settings.fail_state,
        disconnect_state=settings.disconnect_state,
        blocking_states=frozenset(settings.blocking_states),
        parents=settings.parents,
        unknown_phase=settings.unknown_phase,
        topology=Topology(**{key: parts.line(text) for key, text in file.topology}),
        combination_prompts=parts.combinations(marked, file.combinations),
        gates=parts.gates(file.gates),
        roles=parts.roles(marked, file.roles),
        attachment_types=parts.attachment_types(file.attachment_types),
        unknown_attachment_type=settings.unknown_attachment_type,
        auto_advance=settings.auto_advance or "",
        connect_prompt=parts.prompt(marked, file.connect_prompt, ("connect_prompt",)),
    )
    problem = first_problem(workflow)
    if problem is not None:
        raise marked.error(problem.where, problem.what)
    return workflow


def _state(marked: Marked, name: str, part: _State) -> State:
    here = ("states", name)
    if part.terminal is False and not part.exits:
        raise marked.error(
            (*here, "terminal"),
            "says false, but without exits a task in it has ended; give it exits or drop this",
        )
    return State(
        name,
        tuple(part.exits),
        timed=part.timed,
        terminal=bool(part.terminal) or not part.exits,
        parked=part.parked,
        wip_limit=part.wip_limit,
        enter_prompt=parts.prompt(marked, part.prompts.enter, (*here, "prompts", "enter")),
        exit_prompt=parts.prompt(marked, part.prompts.exit, (*here, "prompts", "exit")),
    )
