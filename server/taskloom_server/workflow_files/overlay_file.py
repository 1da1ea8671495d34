"""An overlay file: its form, and the overlay in it. See docs/workflows.md."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from taskloom_server.graph.errors import OverlayUnfit
from taskloom_server.graph.overlays import Overlay, Prompts, Removed
from taskloom_server.graph.soundness import near
from taskloom_server.graph.workflows import Workflow
from taskloom_server.workflow_files import parts
from taskloom_server.workflow_files.marked_yaml import Marked, once_a_text, read_yaml
from taskloom_server.workflow_files.parts import HeadPart, Name, Part, PromptsPart


class _State(Part):
    prompts: PromptsPart


class _Remove(Part):
    states: list[Name] = Field(default_factory=list)
    exits: dict[Name, list[Name]] = Field(default_factory=dict)
    phases: list[Name] = Field(default_factory=list)
    gates: list[str] = Field(default_factory=list)
    prompts: list[str] = Field(default_factory=list)
    roles: list[Name] = Field(default_factory=list)
    attachment_types: list[Name] = Field(default_factory=list)


class _File(HeadPart):
    workflows: list[Name] = Field(default_factory=list)
    states: dict[Name, _State] = Field(default_factory=dict)
    remove: _Remove = _Remove()


def read_overlay(path: Path) -> Overlay:
    """The overlay in a file. Raises WorkflowFileError."""
    return overlay_in(read_yaml(path))


@once_a_text
def overlay_in(marked: Marked) -> Overlay:
    """The overlay in what was read of a file. Raises WorkflowFileError."""
    file = parts.parse(marked, _File)
    remove = file.remove
    return Overlay(
        name=file.name,
        description=parts.line(file.description),
        workflows=tuple(file.workflows),
        removed=Removed(
            states=tuple(remove.states),
            exits={state: tuple(exits) for state, exits in remove.exits.items()},
            phases=tuple(remove.phases),
            gates=tuple(remove.gates),
            prompts=tuple(remove.prompts),
            roles=tuple(remove.roles),
            attachment_types=tuple(remove.attachment_types),
        ),
        state_prompts={
            name: Prompts(
                parts.prompt(marked, each.prompts.enter, ("states", name, "prompts", "enter")),
                parts.prompt(marked, each.prompts.exit, ("states", name, "prompts", "exit")),
            )
            for name, each in file.states.items()
        },
        phases=parts.phases(marked, file.phases),
        combination_prompts=parts.combinations(marked, file.combinations),
        gates=parts.gates(file.gates),
        roles=parts.roles(marked, file.roles),
        attachment_types=parts.attachment_types(file.attachment_types),
    )


def check_fits(marked: Marked, overlay: Overlay, workflows: Mapping[str, Workflow]) -> None:
    """Raise WorkflowFileError unless the overlay fits those that it says it is for.

    One that is for any workflow must fit one at least.
    """
    for number, name in enumerate(overlay.workflows):
        if name not in workflows:
            raise marked.error(
                ("workflows", number), f"there is no workflow {name!r}; {near(name, workflows)}"
            )
    unfit: OverlayUnfit | None = None
    for name in overlay.workflows or workflows:
        try:
            overlay.over(workflows[name])
            if not overlay.workflows:
                return
        except OverlayUnfit as error:
            unfit = unfit or error
            if overlay.workflows:
                break
    if unfit is not None:
        raise marked.error(unfit.where, str(unfit)) from unfit
