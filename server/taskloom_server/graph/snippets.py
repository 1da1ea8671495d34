"""Snippets: the piece of a text that shows best why it was found."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Token = tuple[int, int, str]  # where in the UTF-8 text it begins and ends, and the word
Tokenize = Callable[[bytes], Sequence[Token]]

_WORDS = 24  # of a snippet
_WORDS_BEFORE = 4  # of those: before the first that was found
_STEP = 16 << 10  # bytes that are looked at at a time, since what is found is mostly near the top
_OVERLAP = 1 << 10
_MATCHES = 200  # that are looked at for the best piece
_LONGEST_PART = 300  # characters: a key or a picture in text form is one word
_ELLIPSIS = "…"
_BLANK = re.compile(r"\s+")


class Part(NamedTuple):
    """A piece of a snippet, and whether it is what was searched for."""

    text: str
    found: bool


@dataclass(frozen=True, slots=True)
class Sought:
    """The words of a term; with ``prefix``, the last is only the beginning of one."""

    words: tuple[str, ...]
    prefix: bool


class _Match(NamedTuple):
    first: int  # number of its first token
    last: int
    term: int


def snippet(text: bytes, terms: Sequence[Sought], tokenize: Tokenize) -> list[Part]:
    """The piece of a text with the most of the terms in it; empty where there is none of them."""
    for start in range(0, max(len(text), 1), _STEP):
        piece = text[start : start + _STEP + _OVERLAP]
        tokens = tokenize(piece)
        if matches := _matches([token[2] for token in tokens], terms):
            ends = start + len(piece) == len(text)
            return _parts(piece, tokens, matches, begins=start == 0, ends=ends)
    return []


def _matches(words: list[str], terms: Sequence[Sought]) -> list[_Match]:
    found = []
    for number, term in enumerate(terms):
        *whole, last = term.words
        length = len(term.words)
        for first in range(len(words) - length + 1):
            end = words[first + length - 1]
            if (end.startswith(last) if term.prefix else end == last) and (
                words[first : first + length - 1] == whole
            ):
                found.append(_Match(first, first + length - 1, number))
    return sorted(found)[:_MATCHES]


def _parts(
    text: bytes, tokens: Sequence[Token], matches: list[_Match], *, begins: bool, ends: bool
) -> list[Part]:
    """The best piece, cut where a match begins and ends."""

    def terms_from(match: _Match) -> int:
        till = match.first + _WORDS - _WORDS_BEFORE
        return len({other.term for other in matches if match.first <= other.first < till})

    best = max(matches, key=terms_from)  # the first of the best
    first = max(0, best.first - _WORDS_BEFORE)
    last = min(max(first + _WORDS - 1, best.last), len(tokens) - 1)
    begins = begins and first == 0
    ends = ends and last == len(tokens) - 1
    at = 0 if begins else tokens[first][0]
    end = len(text) if ends else tokens[last][1]
    parts = [] if begins else [Part(_ELLIPSIS, False)]

    def add(till: int, found: bool) -> None:
        nonlocal at
        if till > at:
            parts.append(Part(_shown(text[at:till]), found))
            at = till

    for match in matches:
        if match.first >= first and match.last <= last:
            add(tokens[match.first][0], False)
            add(tokens[match.last][1], True)
    add(end, False)
    if not ends:
        parts.append(Part(_ELLIPSIS, False))
    return parts


def _shown(text: bytes) -> str:
    """On one line, and of a length that can be shown."""
    line = _BLANK.sub(" ", text.decode(errors="replace").replace("\0", " "))
    return line if len(line) <= _LONGEST_PART else line[:_LONGEST_PART] + _ELLIPSIS
