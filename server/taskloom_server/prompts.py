"""Reading prompts: Jinja templates, in a sandbox, that may speak of ``graph.prompts.VARIABLES``.

A template that speaks of anything else is refused when it is read, not when a worker waits for it.
What the sandbox lets them do is in ``prompt_sandbox``.
"""

import difflib
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jinja2 import Template, TemplateSyntaxError, meta, nodes

from taskloom_server.graph.prompts import MAX_PROMPT, VARIABLES
from taskloom_server.prompt_sandbox import (
    ENVIRONMENT,
    FILTERS,
    bounded,
    guarded,
    misfit,
)

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
        """The prompt for a worker, or the beginning of one that is longer than MAX_PROMPT.

        Raises what the template raises for these variables.
        """
        parts, size = [], 0
        # There are no globals to be joined to them, which would take as long as the rest.
        context = self._template.new_context(dict(variables), shared=True)
        with bounded():
            try:
                for part in self._template.root_render_func(context):
                    parts.append(part)
                    size += len(part)
                    if size > 2 * MAX_PROMPT:  # as much as says, blanks or not, that it is longer
                        break
            except Exception:
                ENVIRONMENT.handle_exception()  # raises it anew, with the template's lines
        return "".join(parts).strip()


def compile_prompt(text: str) -> TemplatePrompt:
    """Read a template.

    Raises PromptError for one that Jinja cannot read, that speaks of a variable, or of a field of
    one, that there is not, that does what no prompt may, or that fails or comes to more than
    MAX_PROMPT characters whatever the variables are.
    """
    try:
        tree = ENVIRONMENT.parse(text)
        _check_names(tree)
        template = ENVIRONMENT.from_string(guarded(tree))
    except TemplateSyntaxError as error:
        message = (error.message or "it is no template").rstrip(".")
        raise PromptError(f"is not a template that can be read: {message}", error.lineno) from error
    except (RecursionError, SyntaxError) as error:
        raise PromptError("is nested too deeply to be read; make it flat", 1) from error
    prompt = TemplatePrompt(text, template)
    for sample in _SAMPLES:
        try:
            length = len(prompt.render(sample))
        except Exception as error:
            reason = str(error).rstrip(".")
            raise PromptError(f"cannot be filled in: {reason}", _line(error)) from error
        if length > MAX_PROMPT:
            raise PromptError(f"comes to more than {MAX_PROMPT:,} characters; shorten it", 1)
    return prompt


def _line(error: Exception) -> int:
    """The line of the template in which it failed."""
    lines = [
        number
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == "<template>"
    ]
    return lines[-1] if lines else 1


def _check_names(tree: nodes.Template) -> None:
    """Raise PromptError for a name that is not known, also where no sample comes by."""
    for kind, known in ((nodes.Filter, FILTERS), (nodes.Test, ENVIRONMENT.tests)):
        for one in tree.find_all(kind):
            if one.name not in known:
                raise _unknown(kind.__name__.lower(), one.name, known, one.lineno)
    unknown = meta.find_undeclared_variables(tree) - VARIABLES.keys()
    for name in tree.find_all(nodes.Name):
        if name.name in unknown:
            raise _unknown("variable", name.name, VARIABLES, name.lineno)
    if found := misfit(tree):
        raise PromptError(*found)
    parts: list[nodes.Getattr | nodes.Getitem] = [
        *tree.find_all(nodes.Getattr),
        *tree.find_all(nodes.Getitem),
    ]
    for part in parts:
        _check_field(part)


def _check_field(part: nodes.Getattr | nodes.Getitem) -> None:
    """A variable may have fields; what is in a field has none, and neither has a text."""
    whole = part.node
    if isinstance(whole, nodes.Getattr | nodes.Getitem):
        _check_field(whole)  # what stands first is told first
    asked = _asked(part)
    if asked is None:
        return
    if isinstance(whole, nodes.Const):
        raise PromptError(f"speaks of {asked!r} of {whole.value!r}, which has no fields", 1)
    path = _path(whole)
    if not path or path[0] not in VARIABLES:  # a variable of the template's own, such as `loop`
        return
    fields = VARIABLES[path[0]] if len(path) == 1 else ()
    if asked not in fields:
        dotted = [f"{path[0]}.{each}" for each in fields]
        if dotted:
            raise _unknown("variable", f"{path[0]}.{asked}", dotted, part.lineno)
        full = ".".join(path)
        raise PromptError(f"speaks of '{full}.{asked}', but {full} has no fields", part.lineno)


def _asked(part: nodes.Node) -> str | None:
    """The field that is asked for by name; None: it is worked out, or a place in a list."""
    if isinstance(part, nodes.Getattr):
        return part.attr
    if isinstance(part, nodes.Getitem) and isinstance(part.arg, nodes.Const):
        return part.arg.value if isinstance(part.arg.value, str) else None
    return None


def _path(node: nodes.Node) -> list[str]:
    """What stands between dots; empty: something else than a variable and its fields."""
    if isinstance(node, nodes.Name):
        return [node.name]
    asked = _asked(node)
    if asked is None or not isinstance(node, nodes.Getattr | nodes.Getitem):
        return []
    return [*above, asked] if (above := _path(node.node)) else []


def _unknown(what: str, name: str, known: Iterable[str], line: int) -> PromptError:
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return PromptError(f"speaks of {name!r}, which is no {what}; {hint}", line)
