"""Reading prompts: Jinja templates, in a sandbox, that may speak of ``graph.prompts.VARIABLES``.

A template that speaks of anything else is refused when it is read, not when a worker waits for it.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from taskloom_server.graph.prompts import VARIABLES

# With every variable set, and with every one that can be empty empty.
_SAMPLES: tuple[Mapping[str, object], ...] = (
    {
        "current_status": "working",
        "valid_exits": ["completed", "failed"],
        "current_phase": "implement",
        "valid_phases": ["implement", "review"],
        "task": {
            "id": "parser",
            "title": "Write the parser",
            "description": "A parser.",
            "priority": 5,
            "tags": ["backend"],
            "attempts": 1,
            "max_attempts": 5,
            "parent_id": "compiler",
            "points": 3,
        },
        "worker": {"id": "brisk-otter-41", "tags": ["python"], "role": "worker", "max_claims": 1},
        "workflow": {"name": "swarm", "description": "Alike agents."},
    },
    {
        "current_status": "completed",
        "valid_exits": [],
        "current_phase": "",
        "valid_phases": [],
        "task": {
            "id": "parser",
            "title": "Write the parser",
            "description": "",
            "priority": 0,
            "tags": [],
            "attempts": 0,
            "max_attempts": 1,
            "parent_id": "",
            "points": 0,
        },
        "worker": {"id": "", "tags": [], "role": "", "max_claims": 0},
        "workflow": {"name": "swarm", "description": ""},
    },
)


class PromptError(Exception):
    """A template cannot be used; ``str()`` says why, ``line`` where, counted from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class TemplatePrompt:
    """A template that was read; see graph.prompts.Prompt. Two of the same text are equal."""

    text: str
    _template: Template = field(repr=False, compare=False)

    def render(self, variables: Mapping[str, object]) -> str:
        """The prompt for a worker. Raises what the template raises for these variables."""
        return self._template.render(variables).strip()


def _shown(value: Any) -> Any:
    """A list as people write one."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # prompts are text, not HTML
)
# Nothing to call but filters: a prompt has no use for `range` or `lipsum`.
_ENVIRONMENT.globals.clear()


def compile_prompt(text: str) -> TemplatePrompt:
    """Read a template.

    Raises PromptError for one that Jinja cannot read, that speaks of a variable, or of a field of
    one, that there is not, or that fails whatever the variables are.
    """
    try:
        tree = _ENVIRONMENT.parse(text)
        _check_names(tree)
        template = Template.from_code(_ENVIRONMENT, _ENVIRONMENT.compile(tree), {})
    except TemplateSyntaxError as error:
        message = (error.message or "it is no template").rstrip(".")
        raise PromptError(f"is not a template that can be read: {message}", error.lineno) from error
    for sample in _SAMPLES:
        try:
            template.render(sample)
        except Exception as error:
            raise PromptError(f"cannot be filled in: {str(error).rstrip('.')}", 1) from error
    return TemplatePrompt(text, template)


def _check_names(tree: nodes.Template) -> None:
    for reference in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise PromptError("takes in another template, which a prompt cannot", reference.lineno)
    unknown = meta.find_undeclared_variables(tree) - VARIABLES.keys()
    for name in tree.find_all(nodes.Name):
        if name.name in unknown:
            raise _unknown("variable", name.name, VARIABLES, name.lineno)
    for part in tree.find_all(nodes.Getattr):
        _check_field(part.node, part.attr)
    for item in tree.find_all(nodes.Getitem):
        if isinstance(item.arg, nodes.Const):
            _check_field(item.node, item.arg.value)


def _check_field(whole: nodes.Expr, asked: object) -> None:
    fields = VARIABLES.get(whole.name, ()) if isinstance(whole, nodes.Name) else ()
    if fields and isinstance(whole, nodes.Name) and asked not in fields:
        dotted = [f"{whole.name}.{each}" for each in fields]
        raise _unknown("variable", f"{whole.name}.{asked}", dotted, whole.lineno)


def _unknown(what: str, name: str, known: Iterable[str], line: int) -> PromptError:
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return PromptError(f"speaks of {name!r}, which is no {what}; {hint}", line)
