"""The sandbox of prompts: which Jinja they may use, and how much one may make of it.

Prompts are filled in while a worker waits for its answer, so that none may take long or become
large, whatever its template says. Three things see to that: what can call or repeat itself is no
part of the language (calls, macros, recursive loops); filters are those of a list; and every value
that an expression makes is counted, in characters and in steps, where possible before it is made.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

_MAX_VALUE = 1 << 20  # characters of a value on the way; a description has at most 64 Ki
_MAX_BITS = 1_024  # of a whole number
_MAX_WIDTH = 1_000  # of what is indented or centred
_MAX_STEPS = 100_000

_FILTERS = """
abs capitalize center count d default dictsort e escape filesizeformat first float groupby indent
int items join last length list lower map max min reject rejectattr replace reverse round safe
select selectattr sort string striptags sum title trim truncate unique upper wordcount
""".split()  # noqa: SIM905  as in graph.names
_NO_PART: dict[type[nodes.Node], str] = {
    nodes.Include: "takes in another template",
    nodes.Import: "takes in another template",
    nodes.FromImport: "takes in another template",
    nodes.Extends: "takes in another template",
    nodes.Call: "calls something; use a filter",
    nodes.CallBlock: "calls something; use a filter",
    nodes.Macro: "defines a macro; write the text out",
    nodes.AssignBlock: "sets a variable to a block; write {% set name = value %}",
    nodes.FilterBlock: "filters a block; filter what is in it",
}


class TooMuch(Exception):
    """A template makes more than a prompt may."""


_steps_left: ContextVar[int | None] = ContextVar("steps_left", default=None)


@contextmanager
def bounded() -> Iterator[None]:
    """Within this a template may take so many steps; TooMuch is raised at the next."""
    token = _steps_left.set(_MAX_STEPS)
    try:
        yield
    finally:
        _steps_left.reset(token)


def misfit(tree: nodes.Template) -> tuple[str, int] | None:
    """What of a template is no part of the language of prompts, and its line; None: nothing."""
    for node in tree.find_all(tuple(_NO_PART)):
        return f"{_NO_PART[type(node)]}, which a prompt cannot", node.lineno
    for loop in tree.find_all(nodes.For):
        if loop.recursive:
            return "has a loop that calls itself, which a prompt cannot", loop.lineno
    return None


def guarded(tree: nodes.Template) -> nodes.Template:
    """The template, with all that it makes counted."""
    counted: nodes.Template = _Guard().visit(tree)
    counted.set_environment(ENVIRONMENT)
    return counted


class _Guard(NodeTransformer):
    """Wraps what makes values into filters that look at them."""

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        """A field of a variable is an entry of a mapping: to be looked for there first."""
        self.generic_visit(node)
        key = nodes.Const(node.attr, lineno=node.lineno)
        return nodes.Getitem(node.node, key, node.ctx, lineno=node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.Tuple(node.nodes, "load", lineno=node.lineno)
        return _filtered(parts, "_concat")

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._looked_at(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._looked_at(node)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        return self._looked_at(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self._looked_at(node) if node.ctx == "load" else node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        assert isinstance(node.iter, nodes.Expr)
        node.iter = _filtered(node.iter, "_counted")
        return node

    def _looked_at(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_looked_at")


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _size(value: object) -> int:
    """Characters of a value as a text, about; of a large one no more than is too much."""
    size, waiting = 0, [value]
    while waiting and size <= _MAX_VALUE:
        one = waiting.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, dict):
            size += len(one)
            waiting.extend(one.keys())
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            size += len(one)
            waiting.extend(one)
        else:
            size += 1
    return size


def _allow(size: int) -> None:
    """Raise TooMuch for a value that is too large, or one value too many."""
    if size > _MAX_VALUE:
        raise TooMuch(f"makes a value of more than {_MAX_VALUE:,} characters")
    left = _steps_left.get()
    if left is None:  # Jinja works constants out as it reads a template
        return
    left -= 1 + size // 1_000
    if left < 0:
        raise TooMuch(f"takes more than {_MAX_STEPS:,} steps")
    _steps_left.set(left)


def _looked_at(value: Any) -> Any:
    if isinstance(value, Iterator):  # such as of `map`, which works as it is read
        value = list(value)
    _allow(_size(value))
    return value


def _counted(values: Iterable[Any]) -> list[Any]:
    """All that a loop runs over; every turn is a step, paid as it begins."""
    found = list(values)
    _allow(_size(found))
    return _Turns(found)


class _Turns(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            _allow(0)
            yield one


def _concat(parts: Iterable[Any]) -> str:
    whole = list(parts)
    _allow(_size(whole))
    return "".join(map(str, whole))


def _shown(value: Any) -> Any:
    """A list as people write one."""
    _allow(_size(value))
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


class _Environment(ImmutableSandboxedEnvironment):
    """Operators count what they will make before they make it."""

    intercepted_binops = frozenset("+ - * / // % **".split())  # noqa: SIM905

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        texts = [one for one in (left, right) if isinstance(one, str | list | tuple)]
        bits = [one.bit_length() for one in (left, right) if isinstance(one, int)]
        if operator == "%" and texts:
            raise TooMuch("formats a text by %; use ~ instead")
        if operator == "**" and isinstance(right, int):
            bits = [max(1, *bits) * abs(right)]
        if sum(bits) > _MAX_BITS and operator in ("*", "**"):
            raise TooMuch(f"makes a number of more than {_MAX_BITS:,} bits")
        if operator == "*" and texts:
            times = next((one for one in (left, right) if isinstance(one, int)), 1)
            _allow(_size(texts[0]) * max(0, times) + max(0, times))
        else:
            _allow(sum(map(_size, texts)))
        return super().call_binop(context, operator, left, right)


def _within(width: Any) -> None:
    if isinstance(width, int) and abs(width) > _MAX_WIDTH:
        raise TooMuch(f"asks for a width of {width:,}; at most {_MAX_WIDTH:,} are allowed")


ENVIRONMENT = _Environment(
    undefined=StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # prompts are text, not HTML
)
# Nothing to call but filters: a prompt has no use for `range` or `lipsum`.
ENVIRONMENT.globals.clear()
FILTERS = {name: ENVIRONMENT.filters[name] for name in _FILTERS}
"""By name, as they are asked for; each looks at what it is to make where that may be much."""


def _center(value: str, width: int = 80) -> str:
    _within(width)
    made: str = _ORIGINAL["center"](value, width)
    return made


def _indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    _within(width)
    margin = width if isinstance(width, int) else len(width)
    _allow((len(s) + 1) + (s.count("\n") + 1) * max(0, margin))
    made: str = _ORIGINAL["indent"](s, width, first, blank)
    return made


def _join(eval_ctx: Any, value: Any, d: str = "", attribute: Any = None) -> Any:
    values = list(value)
    _allow(_size(values) + len(values) * len(str(d)))
    return _ORIGINAL["join"](eval_ctx, values, d, attribute)


def _replace(eval_ctx: Any, s: str, old: str, new: str, count: int | None = None) -> Any:
    times = str(s).count(str(old))
    _allow(len(str(s)) + times * len(str(new)))
    return _ORIGINAL["replace"](eval_ctx, s, old, new, count)


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if abs(precision) > 15:
        raise TooMuch(f"rounds to {precision} places; at most 15 are allowed")
    made: float = _ORIGINAL["round"](value, precision, method)
    return made


_ORIGINAL: dict[str, Callable[..., Any]] = dict(FILTERS)
for _function in (_center, _indent, _join, _replace, _round):
    _name = _function.__name__[1:]
    # What Jinja is to pass to a filter beside its values is noted on the filter.
    _function.__dict__.update(_ORIGINAL[_name].__dict__)
    FILTERS[_name] = _function
ENVIRONMENT.filters = {
    **FILTERS,
    "_looked_at": _looked_at,
    "_counted": _counted,
    "_concat": _concat,
}
