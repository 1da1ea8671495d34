"""taskloom diff: what differs between two snapshots, or a snapshot and the live graph."""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.snapshots import receive
from taskloom_client.cli.values import count
from taskloom_client.diff import KEYS, Difference, TableDiff, diff
from taskloom_client.errors import TaskloomError
from taskloom_client.snapshot_file import BadSnapshot, SnapshotFile

_LIVE = "live:"
_NOUNS = {
    "tasks": "task",
    "dependencies": "dependency",
    "attachments": "attachment",
    "task_sequence": "transition",
}


@remote
async def diff_snapshots(
    session: Session,
    *,
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A snapshot; - is standard input, live: the graph at --server."
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, likewise.")] = "",
    live: Annotated[
        bool, typer.Option("--live", help="Compare with the live graph, which is B then.")
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore",
            metavar="COLUMN",
            help="Do not look at this column, such as updated_at; may be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show what differs between two snapshots, or a snapshot and the live graph.

    As of diff(1), the exit code is 0 when nothing differs, 1 when something does, 2 when it
    cannot be said. Tables that only one of the two has are not compared.
    """
    if bool(b) == live:
        raise Failure("name a second snapshot, or say --live", ExitCode.USAGE)
    b = b or _LIVE
    if a == b and a in {"-", _LIVE}:
        raise Failure(f"{a} cannot be both of the two", ExitCode.USAGE)
    try:
        with ExitStack() as stack:
            first = await _file(session, a, stack)
            second = await _file(session, b, stack)
            found = await asyncio.to_thread(diff, first, second, ignore=ignore or ())
    except (TaskloomError, BadSnapshot) as error:
        raise Failure(str(error), ExitCode.USAGE) from error
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{what}{error.strerror or error}", ExitCode.USAGE) from error
    for table in found.only_in_one:
        output.note(f"note: {table} is not compared, for only one of the two has it")
    if session.json:
        output.print_json(_document(found))
    else:
        for line in _lines(found):
            output.print_line(line)
    if found:
        raise typer.Exit(1)


async def _file(session: Session, name: str, stack: ExitStack) -> SnapshotFile:
    """The snapshot of this name as a file that can be read twice."""
    if name not in {"-", _LIVE}:
        return SnapshotFile(Path(name))
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="taskloom-"))
    file = SnapshotFile(Path(folder) / "graph.json", name)
    with file.path.open("wb") as spool:
        if name == _LIVE:
            await receive(session, v1.ExportSnapshotRequest(gzip=True), into=spool)
        else:
            await asyncio.to_thread(shutil.copyfileobj, sys.stdin.buffer, spool)
    return file


def _document(found: Difference) -> dict[str, Any]:
    return {
        "same": not found,
        "tables": {
            table: {
                "added": one.added,
                "removed": one.removed,
                "changed": [
                    {
                        "key": dict(zip(KEYS.get(table, ("row",)), changed.key, strict=True)),
                        "fields": {
                            name: {"from": before, "to": after}
                            for name, (before, after) in changed.fields.items()
                        },
                    }
                    for changed in one.changed
                ],
            }
            for table, one in found.tables.items()
            if one
        },
        "not_compared": found.only_in_one,
    }


def _lines(found: Difference) -> Iterator[str]:
    """A line of totals, then a line a row, for each table that differs."""
    for table, one in found.tables.items():
        if not one:
            continue
        parts = [
            f"{len(rows):,} {what}"
            for rows, what in (
                (one.added, "added"),
                (one.removed, "removed"),
                (one.changed, "changed"),
            )
            if rows
        ]
        yield f"{table.replace('_', ' ')}: {', '.join(parts)}"
        yield from _table_lines(table, one)


def _table_lines(table: str, one: TableDiff) -> Iterator[str]:
    for sign, rows in (("+", one.added), ("-", one.removed)):
        for row in rows:
            yield f"{sign} {_named(table, row)}"
    for changed in one.changed:
        key = dict(zip(KEYS.get(table, ("row",)), changed.key, strict=True))
        yield f"~ {_named(table, key)}"
        for name, (before, after) in changed.fields.items():
            yield f"    {name}: {_value(before)} -> {_value(after)}"


def _named(table: str, row: dict[str, Any]) -> str:
    """A row as people speak of it."""
    if table == "tasks":
        title = f" {row['title']}" if "title" in row else ""
        return f"{row.get('id')}{title}"
    if table == "dependencies":
        return f"{row['from_task_id']} {row['dep_type']} {row['to_task_id']}"
    if table == "attachments":
        size = f" ({count(row['size'], 'byte')}, {row['sha256'][:12]})" if "size" in row else ""
        return f"{row['task_id']} {row['attachment_type']}/{row['sequence']}{size}"
    return " ".join(f"{name}={_value(value)}" for name, value in row.items())


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
