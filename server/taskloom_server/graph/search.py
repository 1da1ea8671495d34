"""What a person types to find tasks, read into an expression. No such text is an error of syntax.

    parser            a word                    "exit code"     a phrase
    pars*             words that begin so       "exit co"*      a phrase whose last word does
    one two           both, also: one AND two   one OR two      one of them
    one NOT two       the first, not the second (one OR two) three

NOT binds more tightly than AND, and that than OR. Operators are written in capitals. Whatever
cannot be meant is read kindly: a quote or a parenthesis that is not closed ends with the text,
an operator that lacks a side and a stray parenthesis are passed over, and any other sign
(``:``, ``-``, ``^``) merely separates words, as it does in what is searched.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from taskloom_server.graph.errors import InvalidField

MAX_TERMS = 100
_MAX_DEPTH = 50
_NOTHING_FOUND = "says only what is not to be found; put before NOT what is"

# A phrase (closed or not) with its star, a parenthesis, or a word: all but blanks and these.
_TOKEN = re.compile(r'"(?P<phrase>[^"]*)(?:"(?P<star>\*)?|$)|(?P<sign>[()])|(?P<word>[^\s"()]+)')


@dataclass(frozen=True, slots=True)
class Term:
    """A word or a phrase; with ``prefix``, the last word of it is only the beginning of one."""

    text: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class All:
    """All of ``parts``, of which there is at least one, and none of ``without``."""

    parts: tuple["Expression", ...]
    without: tuple["Expression", ...] = ()


@dataclass(frozen=True, slots=True)
class Either:
    """One of ``parts``, of which there are at least two."""

    parts: tuple["Expression", ...]


Expression = Term | All | Either


def wanted(expression: Expression) -> Iterator[Term]:
    """The terms that are to be found, as opposed to those after a NOT."""
    if isinstance(expression, Term):
        yield expression
    else:
        for part in expression.parts:
            yield from wanted(part)


def parse(text: str, words_of: Callable[[str], object]) -> Expression:
    """What the text asks for.

    ``words_of`` says which words are in a term, as the index counts them; a term without any
    cannot be found anywhere, and is passed over. Raises InvalidField.
    """
    return _Parser(text, words_of).parse()


@dataclass(slots=True)
class _Level:
    """What was read of the innermost parenthesis so far."""

    ored: list[Expression]
    anded: list[Expression]
    without: list[Expression]
    negated: bool = False  # whether a NOT came just now


class _Parser:
    def __init__(self, text: str, words_of: Callable[[str], object]) -> None:
        self._text = text.replace("\0", " ")
        self._words_of = words_of
        self._terms = 0

    def parse(self) -> Expression:
        levels = [_Level([], [], [])]
        for match in _TOKEN.finditer(self._text):
            word, sign = match["word"], match["sign"]
            if sign == "(":
                if len(levels) > _MAX_DEPTH:
                    raise InvalidField("query", f"has more than {_MAX_DEPTH} open parentheses")
                levels.append(_Level([], [], []))
            elif sign == ")":
                if len(levels) > 1:
                    self._close(levels)
            elif word == "NOT":
                levels[-1].negated = True
            elif word == "OR":
                _end_alternative(levels[-1])
            elif word != "AND":
                _add(levels[-1], self._term(match))
        while len(levels) > 1:
            self._close(levels)
        expression = _whole(levels[0])
        if expression is None:
            raise InvalidField("query", "has no word to search for")
        return expression

    def _term(self, match: re.Match[str]) -> Term | None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise InvalidField("query", f"has more than {MAX_TERMS} terms, its limit")
        word = match["word"]
        if word is None:
            term = Term(match["phrase"], bool(match["star"]))
        else:
            term = Term(word, word.endswith("*"))
        return term if self._words_of(term.text) else None

    @staticmethod
    def _close(levels: list[_Level]) -> None:
        inner = _whole(levels.pop())
        _add(levels[-1], inner)


def _add(level: _Level, part: Expression | None) -> None:
    if part is not None:
        (level.without if level.negated else level.anded).append(part)
    level.negated = False


def _end_alternative(level: _Level) -> None:
    """Put what stands between two ORs with the other alternatives."""
    if level.without and not level.anded:
        raise InvalidField("query", _NOTHING_FOUND)
    if len(level.anded) == 1 and not level.without:
        level.ored.append(level.anded[0])
    elif level.anded:
        level.ored.append(All(tuple(level.anded), tuple(level.without)))
    level.anded, level.without, level.negated = [], [], False


def _whole(level: _Level) -> Expression | None:
    """All that stood in a parenthesis; None if there was nothing."""
    _end_alternative(level)
    if len(level.ored) > 1:
        return Either(tuple(level.ored))
    return level.ored[0] if level.ored else None
