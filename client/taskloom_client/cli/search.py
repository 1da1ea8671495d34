"""What is looked for: tasks by their words, and anything by SQL."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.values import count, parse_duration, to_duration
from taskloom_client.cli.workflows import require_statuses

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAGE = 1000
_START = 15.0
"""Seconds to wait beyond the time that a query may take."""

Cell = int | float | str | bytes | None


@remote
async def search(
    session: Session,
    *,
    query: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY...",
            help='Words, "a phrase", begin*, AND, OR, NOT, ( ). Quote it for the shell.',
            show_default=False,
        ),
    ],
    status: Annotated[
        list[str] | None,
        typer.Option("--status", "-s", metavar="STATUS", help="Any of these; repeatable."),
    ] = None,
    parent: Annotated[
        str, typer.Option("--parent", metavar="ID", help="Only below this task, at any depth.")
    ] = "",
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Has one of these; repeatable.")
    ] = None,
    all_tags: Annotated[
        list[str] | None,
        typer.Option("--all-tags", metavar="TAG", help="Has all of these; repeatable."),
    ] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Also deleted tasks.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many.")
    ] = 20,
) -> None:
    """Find tasks by the words of their titles, descriptions and attachments, the best first."""
    await require_statuses(session.client, status or ())
    request = v1.SearchTasksRequest(
        query=" ".join(query),
        statuses=status,
        parent_id=parent,
        tags_any=tag,
        tags_all=all_tags,
        include_deleted=deleted,
    )
    found: list[v1.SearchResult] = []
    while True:
        request.page_size = min(limit - len(found), _PAGE)
        page = await session.client.tasks.SearchTasks(request)
        found.extend(page.results)
        if len(found) >= limit or not page.next_page_token:
            break
        request.page_token = page.next_page_token
    if session.json:
        output.print_json([output.as_json(result) for result in found])
        return
    for result in found:
        _print_result(result)
    if not found:
        output.note("no tasks")
    elif page.total > len(found):
        output.note(f"{len(found):,} of {count(page.total, 'task')}; --limit shows more")


def _print_result(result: "v1.SearchResult") -> None:
    task = result.task
    line = output.styled(task.id, "bold").append("  ").append_text(output.status_text(task.status))
    line.append(" (deleted)  " if task.HasField("delete_time") else "  ")
    title = [s for s in result.snippets if s.source == v1.SNIPPET_SOURCE_TITLE]
    line.append_text(_marked(title[0].parts) if title else output.styled(task.title))
    output.print_text(line, keep=len(task.id))
    for snippet in result.snippets:
        if snippet.source == v1.SNIPPET_SOURCE_TITLE:
            continue
        where = "description"
        if snippet.source == v1.SNIPPET_SOURCE_ATTACHMENT:
            where = f"{snippet.attachment_type} {snippet.sequence}"
        text = Text("    ").append_text(output.styled(f"{where}: ", "dim"))
        output.print_text(text.append_text(_marked(snippet.parts)), keep=len(where))


def _marked(parts: "Iterable[v1.SnippetPart]") -> Text:
    """What was found in bold on a terminal, in brackets elsewhere."""
    text = Text()
    for part in parts:
        if part.found and not sys.stdout.isatty():
            text.append_text(output.styled(f"[{part.text}]"))
        else:
            text.append_text(output.styled(part.text, "bold yellow" if part.found else ""))
    return text


@remote
async def query(
    session: Session,
    *,
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL",
            help="One statement that reads; - reads it from standard input.",
            show_default=False,
        ),
    ],
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="NAME=VALUE",
            help="For :NAME; a number, null or a string as in JSON, else text; repeatable.",
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with a line of names.")] = False,
    max_rows: Annotated[
        int,
        typer.Option("--max-rows", "-n", min=1, max=10_000, metavar="N", help="At most so many."),
    ] = 1_000,
    max_time: Annotated[
        timedelta | None,
        typer.Option(
            "--max-time",
            metavar="TIME",
            parser=parse_duration,
            help="How long it may take, at most 60s; else 5s.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Ask the database in SQL; nothing can be changed by it."""
    if as_csv and session.json:
        raise Failure("--csv and --json exclude each other", ExitCode.USAGE)
    request = v1.QueryRequest(
        sql=_standard_input() if sql == "-" else sql,
        named_parameters=_parameters(param or ()),
        max_rows=max_rows,
        max_time=to_duration(max_time),
    )
    seconds = max_time.total_seconds() if max_time else 5.0
    answer = await session.client.admin.Query(request, timeout=session.patience(seconds + _START))
    rows = [[_cell(value) for value in row.values] for row in answer.rows]
    if session.json:
        _print_document(answer, rows)
    elif as_csv:
        _print_csv(answer.columns, rows)
    elif rows:
        _print_rows(answer.columns, rows)
    else:
        output.note("no rows")
    if answer.truncation == v1.QUERY_TRUNCATION_ROWS:
        more = "; --max-rows shows more" if max_rows < 10_000 else ""
        output.note(f"only the first {count(len(rows), 'row')}{more}")
    elif answer.truncation == v1.QUERY_TRUNCATION_BYTES:
        output.note(f"only the first {count(len(rows), 'row')}, which is all that an answer holds")


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise Failure("standard input is not valid UTF-8", ExitCode.USAGE) from None


def _parameters(given: Iterable[str]) -> "dict[str, v1.QueryValue]":
    parameters = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise Failure(f"--param '{text}' is not NAME=VALUE", ExitCode.USAGE)
        parameters[name] = _to_value(name, value)
    return parameters


def _to_value(name: str, text: str) -> "v1.QueryValue":
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    match value:
        case bool() | list() | dict():
            return v1.QueryValue(text=text)
        case int() if not -(2**63) <= value < 2**63:
            raise Failure(f"--param {name}: {text} is beyond 64 bits", ExitCode.USAGE)
        case int():
            return v1.QueryValue(integer=value)
        case float():
            return v1.QueryValue(real=value)
        case str():
            return v1.QueryValue(text=value)
    return v1.QueryValue()


def _cell(value: "v1.QueryValue") -> Cell:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


def _print_document(answer: "v1.QueryResponse", rows: list[list[Cell]]) -> None:
    """All that came, with bytes in hexadecimal, and for infinity the text that SQLite prints."""

    def plain(cell: Cell) -> Any:
        if isinstance(cell, bytes):
            return cell.hex()
        return str(cell) if isinstance(cell, float) and math.isinf(cell) else cell

    output.print_json(
        {
            "columns": list(answer.columns),
            "rows": [list(map(plain, row)) for row in rows],
            "truncation": v1.QueryTruncation.Name(answer.truncation),
            "revision": str(answer.revision),
        }
    )


def _print_csv(columns: "Sequence[str]", rows: list[list[Cell]]) -> None:
    """NULL is nothing, bytes are in hexadecimal."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([c.hex() if isinstance(c, bytes) else c for c in row] for row in rows)
    output.write(text.getvalue())


def _print_rows(columns: "Sequence[str]", rows: list[list[Cell]]) -> None:
    numbers = [
        all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(columns))
    ]
    cells = [list(map(_shown, row)) for row in rows]
    widths = [max(cell[i].cell_len for cell in cells) for i in range(len(columns))]
    widest = widths.index(max(widths))
    output.print_table(
        [
            output.Column(name, justify="right" if number else "left", stretch=i == widest)
            for i, (name, number) in enumerate(zip(columns, numbers, strict=True))
        ],
        cells,
    )


def _shown(cell: Cell) -> Text:
    if cell is None:
        return output.styled("NULL", "dim")
    if isinstance(cell, bytes):
        return output.styled(f"<{count(len(cell), 'byte')}>", "dim")
    return output.styled(str(cell))
