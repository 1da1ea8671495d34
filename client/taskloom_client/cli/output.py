"""What the commands print: tables and lines for people, JSON for programs.

People get no boxes, so that a table looks the same on a terminal, in a pipe and in a mail; on a
terminal long titles are shortened to its width, in a pipe nothing is. Ids are never cut. Standard
output carries what was asked for, standard error everything that is said about it.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf import json_format
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from taskloom_client.cli.exits import ExitCode

if TYPE_CHECKING:
    from google.protobuf.message import Message

# Terminals obey control characters, and titles are written by anybody.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

_GAP = 2
_LEAST_STRETCH = 20

_STATUS_STYLES = {
    "working": "cyan",
    "assigned": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "dim",
}


@dataclass(frozen=True)
class Column:
    """A column of a table. ``stretch``: it may be shortened so that a row fits on a line."""

    heading: str
    justify: Literal["left", "right"] = "left"
    stretch: bool = False


def as_json(message: "Message") -> dict[str, Any]:
    """A message in protobuf's JSON mapping, with the names of the contract.

    Fields that have no value to tell from an absent one are always there, so that a program can
    ask for ``ready`` or ``tags`` of any task.
    """
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def print_json(value: object, *, line: bool = False) -> None:
    """Print a document: indented on a terminal, on one line for a program or with ``line``."""
    write(
        json.dumps(
            value,
            ensure_ascii=sys.stdout.encoding.lower().replace("-", "") != "utf8",
            indent=2 if sys.stdout.isatty() and not line else None,
        )
        + "\n"
    )


def print_line(text: str) -> None:
    """Print one line."""
    write(one_line(text) + "\n")


def print_text(text: Text, *, keep: int) -> None:
    """Print one styled line, shortened to the width of a terminal but for its beginning."""
    console = _console()
    if console.is_terminal:
        text.truncate(max(console.width, keep), overflow="ellipsis")
    _print(console, text, width=text.cell_len)


def note(text: str) -> None:
    """Say something about the output, on standard error."""
    print(one_line(text), file=sys.stderr, flush=True)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> None:
    """Print rows under headings, without the columns that are empty in all rows.

    At most one column is to stretch.
    """
    cells = [[cell if isinstance(cell, Text) else styled(cell) for cell in row] for row in rows]
    used = [i for i in range(len(columns)) if any(row[i].plain for row in cells)]
    widths = {i: max(len(columns[i].heading), *(row[i].cell_len for row in cells)) for i in used}
    console = _console()
    # Rather a row that the terminal breaks than an id that is cut.
    for i in used:
        if columns[i].stretch:
            others = sum(width + _GAP for j, width in widths.items() if j != i)
            widths[i] = min(widths[i], max(console.width - others, _LEAST_STRETCH))
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for i in used:
        table.add_column(
            columns[i].heading,
            justify=columns[i].justify,
            width=widths[i],
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in cells:
        table.add_row(*(row[i] for i in used))
    _print(console, table, width=sum(widths.values()) + _GAP * len(used))


def print_fields(fields: Iterable[tuple[str, str | Text]]) -> None:
    """Print names and values, a line each, without those that have no value."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        cell = value if isinstance(value, Text) else Text(printable(value))
        if cell.plain:
            table.add_row(name, cell)
    _print(_console(), table)


def print_block(text: str) -> None:
    """Print text of several lines as it is, after an empty line."""
    write("\n" + printable(text).rstrip("\n") + "\n")


def print_tree(tree: Tree, *, least_width: int) -> None:
    """Print a tree; its lines are shortened to the width of a terminal, but not below."""
    console = _console()
    _print(console, tree, width=max(console.width, least_width))


def styled(text: str, style: str = "") -> Text:
    """One line of text, in a style of rich's."""
    return Text(one_line(text), style=style)


def status_text(status: str) -> Text:
    """A status in its colour, where it has one."""
    return styled(status, _STATUS_STYLES.get(status, ""))


def printable(text: str) -> str:
    """The text with whatever could upset a terminal replaced; lines and tabs stay."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The text as one line."""
    return printable(" ".join(text.split()) if "\n" in text or "\t" in text else text)


def write(text: str) -> None:
    """Write to standard output at once, so that a reader that went away is noticed here."""
    sys.stdout.write(text)
    sys.stdout.flush()


def reader_gone() -> ExitCode:
    """Give up standard output, which nobody reads any more; the exit code for that."""
    # Python flushes it once more as it ends, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.PIPE_CLOSED


def _console() -> Console:
    """A console for standard output that is as wide as it takes where there is no terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = 100_000
    return console


def _print(console: Console, renderable: RenderableType, *, width: int | None = None) -> None:
    # Captured: rich itself would end the process when the reader of a pipe goes away.
    console.width = width or console.width
    with console.capture() as captured:
        console.print(renderable, crop=False)
    write("".join(line.rstrip() + "\n" for line in captured.get().rstrip("\n").split("\n")))
