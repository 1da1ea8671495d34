"""The whole graph as a file: import and export."""

import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Literal

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.progress import transferring
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.values import count
from taskloom_client.transfers import Progress

ModeName = Literal["template", "restore", "merge", "replace"]
ClashName = Literal["fail", "skip", "overwrite"]

_CHUNK = 256 * 1024
PATIENCE = 600.0
"""Seconds to wait for a snapshot to be read or made, unless the user says otherwise."""


Tables = Annotated[
    str,
    typer.Option(
        "--tables",
        metavar="NAMES",
        help="Only these, such as tasks,dependencies; else all. Tasks must be among them.",
        show_default=False,
    ),
]
WithoutHistory = Annotated[
    bool, typer.Option("--without-history", help="Leave the history of the tasks out.")
]


@remote
async def import_snapshot(
    session: Session,
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="JSON or gzipped JSON; - reads standard input.", show_default=False
        ),
    ],
    restore: Annotated[
        bool | None,
        typer.Option(
            "--restore/--template",
            help="As --mode restore, or --mode template.",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        ModeName | None,
        typer.Option(
            "--mode",
            help="As work to be done; or the graph as it was, with its times and history: into an "
            "empty one, beside what is there, or in its place.",
            show_default="template",
        ),
    ] = None,
    on_clash: Annotated[
        ClashName | None,
        typer.Option(
            "--on-clash",
            help="What a merge makes of tasks that are there already.",
            show_default="fail",
        ),
    ] = None,
    tables: Tables = "",
    without_history: WithoutHistory = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace also while workers hold tasks.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and count everything, and change nothing.")
    ] = False,
    workflow: Annotated[
        str,
        typer.Option(
            "--workflow", metavar="NAME", help="For tasks that name none; else the default one."
        ),
    ] = "",
) -> None:
    """Import a snapshot: all of it, or nothing."""
    said = "restore" if restore else "template"
    if mode is not None and restore is not None and mode != said:
        raise Failure(f"--{said} and --mode {mode} do not go together", ExitCode.USAGE)
    how = mode or said
    options = v1.ImportOptions(
        mode=v1.ImportMode.Value(f"IMPORT_MODE_{how.upper()}"),
        workflow=workflow,
        on_clash=v1.ClashPolicy.Value(f"CLASH_POLICY_{(on_clash or 'unspecified').upper()}"),
        tables=_names(tables),
        without_history=without_history,
        force=force,
        dry_run=dry_run,
    )
    with _opened(file) as stream, transferring("importing", _size(file)) as progress:
        answer = await session.client.admin.ImportSnapshot(
            _import_messages(options, stream, progress), timeout=session.patience(PATIENCE)
        )
    for warning in answer.warnings:
        output.note(f"warning: {warning}")
    session.tell(answer, _sentence(answer))


def _names(tables: str) -> list[str]:
    return [name.strip() for name in tables.split(",") if name.strip()]


def _sentence(answer: "v1.ImportSnapshotResponse") -> str:
    brought = _rows(answer.rows) or "nothing"
    said = f"would import {brought}" if answer.dry_run else f"imported {brought}"
    if answer.removed_rows:
        said += (
            f"; {'would replace' if answer.dry_run else 'replaced'} {_rows(answer.removed_rows)}"
        )
    if answer.skipped_rows:
        said += f"; skipped {_rows(answer.skipped_rows)}"
    return said


def _rows(rows: "Mapping[str, int]") -> str:
    """Such as "3 tasks, 2 dependencies"."""
    return ", ".join(
        f"{number:,} {table.replace('_', ' ')}"
        for table, number in sorted(rows.items(), key=lambda row: (row[0] != "tasks", row))
        if number
    )


async def _import_messages(
    options: "v1.ImportOptions", stream: IO[bytes], progress: Progress | None
) -> "AsyncIterator[v1.ImportSnapshotRequest]":
    yield v1.ImportSnapshotRequest(options=options)
    sent = 0
    while chunk := stream.read(_CHUNK):
        yield v1.ImportSnapshotRequest(chunk=chunk)
        sent += len(chunk)
        if progress is not None:
            progress(sent)


def _size(file: Path) -> int | None:
    """How large a file is; None for what has no size, as a pipe."""
    there = None if str(file) == "-" else file.stat()
    return there.st_size if there is not None and stat.S_ISREG(there.st_mode) else None


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        with file.open("rb") as stream:
            # Opening a directory fails here, not in the midst of the call.
            stream.peek(1)
            yield stream
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror or error}", ExitCode.USAGE) from error


@remote
async def export_snapshot(
    session: Session,
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Where to; - writes to standard output.", show_default=False
        ),
    ],
    gzip: Annotated[
        bool, typer.Option("--gzip", help="Gzip it; goes without saying for a FILE in .gz.")
    ] = False,
    tables: Tables = "",
    without_history: WithoutHistory = False,
    with_media: Annotated[
        bool,
        typer.Option(
            "--with-media",
            help="With the contents of large attachments, which else stay in the media folder.",
        ),
    ] = False,
) -> None:
    """Export the whole graph at one moment, as a snapshot.

    FILE is replaced only when all of it has come.
    """
    gzip = gzip or file.suffix == ".gz"
    request = v1.ExportSnapshotRequest(
        gzip=gzip,
        tables=_names(tables),
        without_history=without_history,
        with_media=with_media,
    )
    if str(file) == "-":
        if gzip and sys.stdout.isatty():
            raise Failure("a gzipped snapshot is nothing for a terminal", ExitCode.USAGE)
        await receive(session, request, into=sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with _replacing(file) as stream, transferring("exporting") as progress:
        size, revision = await receive(session, request, into=stream, progress=progress)
    if session.json:
        output.print_json({"file": str(file), "bytes": str(size), "revision": str(revision)})
    else:
        output.print_line(f"exported revision {revision} to {file} ({count(size, 'byte')})")


async def receive(
    session: Session,
    request: "v1.ExportSnapshotRequest",
    *,
    into: IO[bytes],
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Write the snapshot: how many bytes, and as of which revision."""
    size = revision = 0
    messages = session.client.admin.ExportSnapshot(request, timeout=session.patience(PATIENCE))
    async for message in messages:
        revision = revision or message.revision
        size += into.write(message.chunk)
        if progress is not None:
            progress(size)
    return size, revision


@contextmanager
def _replacing(file: Path) -> Iterator[IO[bytes]]:
    """A stream to a new file beside, which takes the name when all went well, or is removed."""
    try:
        if file.exists() and not stat.S_ISREG(file.stat().st_mode):
            # A device or a pipe is written to; to put a file in its place would do harm.
            with file.open("wb") as stream:
                yield stream
            return
        target = file.resolve()  # of a link, not the link itself
        beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with beside.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failure(f"cannot write {file}: {error.strerror or error}") from error
