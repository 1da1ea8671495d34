"""What is kept with tasks: results, notes, logs, of any size up to 100 MB."""

import mimetypes
import stat
import sys
from pathlib import Path
from typing import Annotated

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.arguments import ClaimRevision, OnBehalfOf, TaskId
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.progress import transferring
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.values import count, moment_of, parse_number

_PATIENCE = 600.0
_PAGE = 1000

_Type = Annotated[
    str, typer.Argument(metavar="TYPE", help='Such as note, or "gate/tests".', show_default=False)
]


@remote
async def add(
    session: Session,
    *,
    task_id: TaskId,
    type: _Type,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="- reads standard input.", show_default=False),
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What to call it; else as FILE is called.")
    ] = "",
    mime_type: Annotated[
        str, typer.Option("--mime-type", metavar="TYPE", help="Else as FILE's name tells.")
    ] = "",
    worker: OnBehalfOf = "",
    claim_revision: ClaimRevision = 0,
) -> None:
    """Keep a file with a task, after those of its type that are there."""
    standard = str(file) == "-"
    if not standard:
        _check_readable(file)
        name = name or file.name
        mime_type = mime_type or mimetypes.guess_type(file.name)[0] or ""
    size = None if standard else file.stat().st_size
    with transferring("attaching", size) as progress:
        try:
            attachment = await session.client.upload(
                task_id,
                type,
                sys.stdin.buffer if standard else file,
                name=name,
                mime_type=mime_type,
                worker_id=worker,
                claim_revision=claim_revision,
                progress=progress,
                timeout=session.patience(_PATIENCE),
            )
        except OSError as error:
            raise _unreadable(file, error) from error
    session.tell(
        attachment,
        f"attached {type} {attachment.sequence} to {task_id} ({count(attachment.size, 'byte')})",
    )


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb") as stream:
            stream.peek(1)
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> Failure:
    return Failure(f"cannot read {file}: {error.strerror or error}", ExitCode.USAGE)


@remote
async def get(
    session: Session,
    *,
    task_id: TaskId,
    type: _Type,
    sequence: Annotated[
        int | None,
        typer.Argument(
            metavar="[SEQUENCE]",
            parser=parse_number,
            help="Else the latest of the type.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; - is standard output."),
    ] = Path("-"),
) -> None:
    """Bring the content of an attachment.

    FILE is replaced only when all of it has come.
    """
    download = session.client.download(task_id, type, sequence, timeout=session.patience(_PATIENCE))
    attachment = await download.attachment()
    if str(file) == "-":
        if sys.stdout.isatty() and not attachment.mime_type.startswith("text/"):
            raise Failure(
                f"{attachment.mime_type} is nothing for a terminal: name a file with --output",
                ExitCode.USAGE,
            )
        async for chunk in download:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    with transferring("fetching", attachment.size) as progress:
        try:
            if file.exists() and not stat.S_ISREG(file.stat().st_mode):
                # A device or a pipe is written to; to put a file in its place would do harm.
                with file.open("wb") as stream:
                    async for chunk in download:
                        stream.write(chunk)
            else:
                await download.save(file, progress=progress)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failure(f"cannot write {file}: {error.strerror or error}") from error
    what = f"{type} {attachment.sequence} of {task_id}"
    session.tell(attachment, f"wrote {what} to {file} ({count(attachment.size, 'byte')})")


@remote
async def list_attachments(
    session: Session,
    *,
    task_id: TaskId,
    type: Annotated[str, typer.Option("--type", metavar="TYPE", help="Only of this type.")] = "",
) -> None:
    """List a task's attachments, by type and sequence."""
    request = v1.ListAttachmentsRequest(task_id=task_id, type=type, page_size=_PAGE)
    found: list[v1.Attachment] = []
    while True:
        page = await session.client.attachments.ListAttachments(request)
        found.extend(page.attachments)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    if session.json:
        output.print_json([output.as_json(attachment) for attachment in found])
    elif found:
        _print_attachments(found)
    else:
        output.note("no attachments")


def _print_attachments(found: "list[v1.Attachment]") -> None:
    columns = [
        output.Column("TYPE"),
        output.Column("SEQUENCE", justify="right"),
        output.Column("BYTES", justify="right"),
        output.Column("MIME TYPE"),
        output.Column("ATTACHED"),
        output.Column("NAME", stretch=True),
    ]
    output.print_table(
        columns,
        [
            [
                output.styled(one.type, "bold"),
                str(one.sequence),
                f"{one.size:,}",
                one.mime_type,
                moment_of(one, "create_time"),
                one.name,
            ]
            for one in found
        ],
    )


@remote
async def remove(
    session: Session,
    *,
    task_id: TaskId,
    type: _Type,
    sequence: Annotated[
        int, typer.Argument(metavar="SEQUENCE", parser=parse_number, show_default=False)
    ],
    worker: OnBehalfOf = "",
    claim_revision: ClaimRevision = 0,
) -> None:
    """Remove an attachment; the numbers of the others stay."""
    answer = await session.client.attachments.Detach(
        v1.DetachRequest(
            task_id=task_id,
            type=type,
            sequence=sequence,
            worker_id=worker,
            claim_revision=claim_revision,
        )
    )
    session.tell(answer, f"removed {type} {sequence} of {task_id}")
