"""The whole graph as a file: import and export."""

import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.values import count

_CHUNK = 256 * 1024
_PATIENCE = 600.0
"""Seconds to wait for a snapshot to be read or made, unless the user says otherwise."""


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
        bool,
        typer.Option(
            "--restore/--template",
            help="The graph as it was, with its times and history; or as work to be done.",
        ),
    ] = False,
    workflow: Annotated[
        str,
        typer.Option(
            "--workflow", metavar="NAME", help="For tasks that name none; else the default one."
        ),
    ] = "",
) -> None:
    """Import a snapshot: all of it, or nothing."""
    options = v1.ImportOptions(
        mode=v1.IMPORT_MODE_RESTORE if restore else v1.IMPORT_MODE_TEMPLATE, workflow=workflow
    )
    with _opened(file) as stream:
        answer = await session.client.admin.ImportSnapshot(
            _import_messages(options, stream, file), timeout=session.patience(_PATIENCE)
        )
    for warning in answer.warnings:
        output.note(f"warning: {warning}")
    rows = ", ".join(
        f"{number:,} {table.replace('_', ' ')}"
        for table, number in sorted(answer.rows.items(), key=lambda row: (row[0] != "tasks", row))
        if number
    )
    session.tell(answer, f"imported {rows or 'nothing'}")


async def _import_messages(
    options: "v1.ImportOptions", stream: IO[bytes], file: Path
) -> "AsyncIterator[v1.ImportSnapshotRequest]":
    yield v1.ImportSnapshotRequest(options=options)
    while chunk := stream.read(_CHUNK):
        yield v1.ImportSnapshotRequest(chunk=chunk)


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
) -> None:
    """Export the whole graph at one moment, as a snapshot.

    FILE is replaced only when all of it has come.
    """
    gzip = gzip or file.suffix == ".gz"
    if str(file) == "-":
        if gzip and sys.stdout.isatty():
            raise Failure("a gzipped snapshot is nothing for a terminal", ExitCode.USAGE)
        await _receive(session, gzip=gzip, into=sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with _replacing(file) as stream:
        size, revision = await _receive(session, gzip=gzip, into=stream)
    if session.json:
        output.print_json({"file": str(file), "bytes": str(size), "revision": str(revision)})
    else:
        output.print_line(f"exported revision {revision} to {file} ({count(size, 'byte')})")


async def _receive(session: Session, *, gzip: bool, into: IO[bytes]) -> tuple[int, int]:
    """Write the snapshot: how many bytes, and as of which revision."""
    size = revision = 0
    messages = session.client.admin.ExportSnapshot(
        v1.ExportSnapshotRequest(gzip=gzip), timeout=session.patience(_PATIENCE)
    )
    async for message in messages:
        revision = revision or message.revision
        size += into.write(message.chunk)
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
