"""Workflow files: reading them, and saying what is wrong with one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from taskloom_server.graph.workflows import Parents, Phase, State, Unknown, Workflow, Workflows

SHIPPED = Path(__file__).parent / "workflows"


class WorkflowFileError(Exception):
    """A workflow file cannot be used; ``str()`` says which, where in it, and why."""


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    exits: list[str]
    timed: bool = False
    terminal: bool = False
    parked: bool = False


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    initial_state: str
    assign_state: str
    claim_state: str
    complete_state: str
    fail_state: str
    cancel_state: str
    disconnect_state: str
    blocking_states: list[str]
    parents: Parents = Parents.ROLLUP
    unknown_phase: Unknown = Unknown.REJECT


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    description: str = ""
    states: dict[str, _State]
    phases: list[str] = []
    settings: _Settings

    @model_validator(mode="after")
    def _states_exist(self) -> Self:
        for name, state in self.states.items():
            self._check(f"states.{name}.exits", state.exits)
        for field, value in self.settings:
            if field.endswith("_state"):
                self._check(f"settings.{field}", [value])
        self._check("settings.blocking_states", self.settings.blocking_states)
        for name, state in self.states.items():
            if state.parked and (state.terminal or not state.exits):
                raise ValueError(f"states.{name}.parked: a task in it has ended")
        for field in ("initial_state", "assign_state", "claim_state", "disconnect_state"):
            name = getattr(self.settings, field)
            if self.states[name].parked:
                raise ValueError(f"settings.{field}: {name!r} is parked, and holds its worker")
        if self.settings.initial_state != self.settings.disconnect_state:
            exits = self.states[self.settings.disconnect_state].exits
            if self.settings.initial_state not in exits:
                raise ValueError("settings.disconnect_state: has no exit to the initial state")
        return self

    def _check(self, where: str, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.states:
                raise ValueError(f"{where}: there is no state {name!r}")


def read_workflow(path: Path) -> Workflow:
    """The workflow in a file. Raises WorkflowFileError."""
    try:
        file = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WorkflowFileError(f"{path}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WorkflowFileError(f"{path}: {where}{': ' if where else ''}{first['msg']}") from error
    settings = file.settings
    return Workflow(
        name=file.name,
        description=" ".join(file.description.split()),
        states={
            name: State(
                name,
                tuple(s.exits),
                timed=s.timed,
                terminal=s.terminal or not s.exits,
                parked=s.parked,
            )
            for name, s in file.states.items()
        },
        phases={name: Phase(name) for name in file.phases},
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
    )


def load_workflows(default_name: str, folder: Path | None = None) -> Workflows:
    """The shipped workflows and those of a folder, which may take a shipped one's name.

    Raises WorkflowFileError.
    """
    by_name: dict[str, Workflow] = {}
    for place in (SHIPPED, folder):
        if place is None:
            continue
        if not place.is_dir():
            raise WorkflowFileError(f"{place} is not a folder of workflow files")
        for path in sorted(place.glob("*.yaml")):
            workflow = read_workflow(path)
            by_name[workflow.name] = workflow
    if default_name not in by_name:
        raise WorkflowFileError(
            f"there is no workflow {default_name!r} to be the default; "
            f"there are {', '.join(sorted(by_name))}"
        )
    return Workflows(by_name, default_name)
