"""The parts of which workflow files and overlay files are made, and how they become records."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from taskloom_server.graph.prompts import Prompt
from taskloom_server.graph.soundness import near
from taskloom_server.graph.workflows import (
    AttachmentType,
    Enforcement,
    Gate,
    Keeping,
    Phase,
    Role,
)
from taskloom_server.prompts import PromptError, compile_prompt
from taskloom_server.workflow_files.marked_yaml import Marked, Place, WorkflowFileError, shown

_MAX_NAME = 128
# The two ways of writing phases; named so that no phase is called the same.
_LIST, _MAPPING = "<list>", "<mapping>"


def _check_name(name: str) -> str:
    if not 0 < len(name) <= _MAX_NAME:
        raise ValueError(f"must have 1 to {_MAX_NAME} characters")
    for character in name:
        if not (character.isalnum() or character in "-_."):
            raise ValueError(
                f"{name!r} has {character!r} in it; names are made of letters, digits, '-', '_' "
                "and '.'"
            )
    return name


Name = Annotated[str, AfterValidator(_check_name)]


class Part(BaseModel):
    """A mapping with known keys; an unknown one is refused with what may have been meant."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, raw: Any) -> Any:
        for key in raw if isinstance(raw, dict) else ():
            if key not in cls.model_fields:
                hint = near(key, cls.model_fields)
                raise PydanticCustomError(
                    "unknown_key", "is no key here; {hint}", {"key": key, "hint": hint}
                )
        return raw


class PromptsPart(Part):
    """What is said on entering and on leaving."""

    enter: str = ""
    exit: str = ""


class PhasePart(Part):
    """A phase with something to say."""

    prompts: PromptsPart = PromptsPart()


def _way_of_phases(raw: Any) -> str | None:
    if isinstance(raw, list):
        return _LIST
    return _MAPPING if isinstance(raw, dict) else None


Phases = Annotated[
    Annotated[list[Name], Tag(_LIST)] | Annotated[dict[Name, PhasePart | None], Tag(_MAPPING)],
    Discriminator(_way_of_phases),
]


class GatePart(Part):
    """What must be attached."""

    attachment: Name
    enforcement: Annotated[Enforcement, Field(strict=False)] = Enforcement.WARN
    name: Name | None = None  # else the attachment's type
    description: str = ""


class RolePart(Part):
    """What workers with these tags may do."""

    tags: list[Name]
    description: str = ""
    max_claims: int | None = None
    can_assign: bool = True
    can_create_subtasks: bool = True
    can_force: bool = True
    can_claim: Literal[True, "assigned"] = True
    prompt: str = ""


class AttachmentTypePart(Part):
    """What is attached under this name."""

    mime_type: str = ""
    mode: Annotated[Keeping, Field(strict=False)] = Keeping.APPEND
    description: str = ""


class HeadPart(Part):
    """What both kinds of file have: a name, and things hung on states and phases."""

    name: Name
    description: str = ""
    phases: Phases = Field(default_factory=list)
    combinations: dict[str, str] = {}
    gates: dict[str, list[GatePart]] = {}
    roles: dict[Name, RolePart] = {}
    attachment_types: dict[Name, AttachmentTypePart] = {}


Read = TypeVar("Read", bound=Part)


def parse(marked: Marked, kind: type[Read]) -> Read:
    """The file as it should be. Raises WorkflowFileError for the first thing that is not."""
    if not isinstance(marked.data, dict):
        raise marked.error((), f"must be a mapping of keys to values, and is {shown(marked.data)}")
    try:
        return kind.model_validate(marked.data)
    except ValidationError as error:
        raise _error_of(marked, error.errors()[0]) from error


def _error_of(marked: Marked, first: ErrorDetails) -> WorkflowFileError:
    place: Place = tuple(part for part in first["loc"] if part not in (_LIST, _MAPPING, "[key]"))
    got, context = shown(first["input"]), first.get("ctx", {})
    match first["type"]:
        case "unknown_key":
            return marked.error((*place, context["key"]), first["msg"])
        case "missing":
            problem = "is required; add it"
        case "value_error":
            problem = str(context["error"])
        case "enum":
            problem = f"must be {context['expected']}, and is {got}"
            if isinstance(first["input"], str):
                choices = [word.strip("'") for word in context["expected"].split() if "'" in word]
                if alike := difflib.get_close_matches(first["input"], choices, 1):
                    problem += f"; did you mean {alike[0]!r}?"
        case "literal_error":
            problem = f"must be {context['expected'].replace('True', 'true')}, and is {got}"
        case "string_type":
            quotes = "" if isinstance(first["input"], dict | list | None) else "; put it in quotes"
            problem = f"must be a string, and is {got}{quotes}"
        case "bool_type":
            problem = f"must be a boolean, true or false, and is {got}"
        case "int_type":
            problem = f"must be a whole number, and is {got}"
        case "list_type":
            problem = f"must be a list, and is {got}; write it in brackets"
        case "union_tag_not_found":
            problem = f"must be a list of names, or a mapping of names to prompts, and is {got}"
        case "dict_type" | "model_type" | "model_attributes_type":
            problem = f"must be a mapping of keys to values, and is {got}"
        case _:
            problem = f"{first['msg']}, and is {got}"
    return marked.error(place, problem)


def line(text: str) -> str:
    """A text in one line, whatever lines it had."""
    return " ".join(text.split())


def prompt(marked: Marked, text: str, place: Place) -> Prompt | None:
    """The prompt that stands at a place; None for an empty one. Raises WorkflowFileError."""
    if not text.strip():
        return None
    try:
        return compile_prompt(text)
    except PromptError as error:
        raise marked.error(place, str(error), error.line) from error


def phases(marked: Marked, part: Mapping[str, PhasePart | None] | list[str]) -> dict[str, Phase]:
    """Phases, in either way of writing them. Raises WorkflowFileError."""
    if isinstance(part, list):
        for number, name in enumerate(part):
            if name in part[:number]:
                raise marked.error(("phases", number), f"{name!r} is there twice; drop one of both")
        return {name: Phase(name) for name in part}
    found: dict[str, Phase] = {}
    for name, phase in part.items():
        said = phase.prompts if phase else PromptsPart()
        here = ("phases", name, "prompts")
        found[name] = Phase(
            name,
            prompt(marked, said.enter, (*here, "enter")),
            prompt(marked, said.exit, (*here, "exit")),
        )
    return found


def combinations(marked: Marked, part: Mapping[str, str]) -> dict[tuple[str, str], Prompt]:
    """Prompts for a state together with a phase. Raises WorkflowFileError."""
    found: dict[tuple[str, str], Prompt] = {}
    for key, text in part.items():
        state, _, phase = key.partition("+")
        if not (state and phase):
            raise marked.error(
                ("combinations", key), "must be STATE+PHASE, such as working+implement"
            )
        said = prompt(marked, text, ("combinations", key))
        if said is None:
            raise marked.error(("combinations", key), "says nothing; write a prompt or drop it")
        found[state, phase] = said
    return found


def gates(part: Mapping[str, Iterable[GatePart]]) -> dict[str, tuple[Gate, ...]]:
    """Gates, by what is not to be left."""
    return {
        key: tuple(
            Gate(
                gate.name or gate.attachment,
                gate.attachment,
                gate.enforcement,
                line(gate.description),
            )
            for gate in each
        )
        for key, each in part.items()
    }


def roles(marked: Marked, part: Mapping[str, RolePart]) -> tuple[Role, ...]:
    """Roles, in their order. Raises WorkflowFileError."""
    return tuple(
        Role(
            name,
            frozenset(role.tags),
            line(role.description),
            role.max_claims,
            role.can_assign,
            role.can_create_subtasks,
            role.can_force,
            role.can_claim is True,
            prompt(marked, role.prompt, ("roles", name, "prompt")),
        )
        for name, role in part.items()
    )


def attachment_types(part: Mapping[str, AttachmentTypePart]) -> dict[str, AttachmentType]:
    """Types of attachments, by name."""
    return {
        name: AttachmentType(name, each.mime_type, each.mode, line(each.description))
        for name, each in part.items()
    }
