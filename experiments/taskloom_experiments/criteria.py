"""Success criteria: a condition is read once, at load, and evaluated on figures without any risk.

A condition compares figures by name with numbers and with each other: ``+ - * /``, comparisons,
AND, OR, NOT, parentheses. Nothing else parses: no call, no attribute, no index, no text. Figures
that are not there make the answer "cannot tell", never a guess. Which runs a condition is asked
of is decided in ``comparison``.
"""

import ast
import operator
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from simpleeval import SimpleEval

from taskloom_experiments.catalogue import agents_of_throughput, synonyms

Outcome = Literal["pass", "fail", "cannot tell"]

_LONGEST = 1_000
_SQL_WORD = re.compile(r"\b(AND|OR|NOT)\b", re.IGNORECASE)
_LONE_EQUALS = re.compile(r"(?<![<>=!:])=(?!=)")

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_SHAPES = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.BinOp, ast.Compare)
_ALLOWED = (*_SHAPES, ast.Name, ast.Load, ast.Constant, *_OPERATORS)


class ConditionError(Exception):
    """A condition cannot be used; the text is a clause that says what to write instead."""


@dataclass(frozen=True)
class Condition:
    """A condition that was checked: as written, as evaluated, and the figures it names."""

    text: str
    expression: str
    names: frozenset[str]

    @property
    def asks_single_runs(self) -> bool:
        """Whether it names figures of one run, and so is asked of every run."""
        return any(not agents_of_throughput(name) for name in self.names)


def parse_condition(text: str) -> Condition:
    """Check a condition, SQL's AND, OR and NOT included. Raises ConditionError."""
    if len(text) > _LONGEST:
        raise ConditionError(f"is longer than {_LONGEST} characters; make it several criteria")
    expression = _SQL_WORD.sub(lambda word: word.group().lower(), " ".join(text.split()))
    if _LONE_EQUALS.search(expression):
        raise ConditionError("uses '='; to compare, write '=='")
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise ConditionError(
            f"does not parse ({reason}); write a comparison such as 'claim_success_rate > 0.9'"
        ) from error
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            raise ConditionError(
                "calls a function; only figures, numbers and comparisons may stand"
            )
        if not isinstance(node, _ALLOWED) or (
            isinstance(node, ast.Constant) and not isinstance(node.value, int | float)
        ):
            what = type(node).__name__.lower()
            raise ConditionError(
                f"holds something else than figures, numbers and comparisons ({what}); leave it out"
            )
        if isinstance(node, ast.Name):
            names.add(node.id)
    if not _is_truth(tree.body):
        raise ConditionError("is neither true nor false; compare it with something")
    if not names:
        raise ConditionError("names no figure, so no run can change it; name one")
    return Condition(text, expression, frozenset(names))


def evaluate(
    condition: Condition, figures: Mapping[str, float], missing: Mapping[str, str]
) -> tuple[Outcome, str]:
    """Whether the condition holds, and a clause with the figures that decided it.

    ``missing`` says why a figure that exists in principle is not there.
    """
    other_names = synonyms()
    values: dict[str, float] = {}
    for name in sorted(condition.names):
        known = name if name in figures else other_names.get(name, name)
        if known in figures:
            values[name] = figures[known]
        elif known in missing:
            return "cannot tell", f"no {name}: {missing[known]}"
        else:
            return "cannot tell", f"no metric named {name}"
    shown = ", ".join(f"{name} = {value:.4g}" for name, value in values.items())
    evaluator = SimpleEval(operators=_OPERATORS, functions={}, names=values)
    try:
        holds = evaluator.eval(condition.expression)
    except ZeroDivisionError:
        return "cannot tell", f"it divides by zero with {shown}"
    except Exception as error:
        return "cannot tell", f"it cannot be evaluated with {shown}: {error}"
    return ("pass" if holds else "fail"), shown


def _is_truth(node: ast.expr) -> bool:
    match node:
        case ast.Compare():
            return True
        case ast.BoolOp(values=values):
            return all(_is_truth(value) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _is_truth(operand)
        case _:
            return False
