"""Who is at work on which file: marks and locks."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.arguments import ClaimRevision, Worker
from taskloom_client.cli.session import DEFAULT_TIMEOUT, Session, remote
from taskloom_client.cli.values import count, moment_of, parse_duration, to_duration

_PAGE = 1000
_Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH...", help="Files, or lock:NAME.", show_default=False),
]
_SomePaths = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PATH]...", help="Only these.", show_default=False),
]
_ForTask = Annotated[
    str, typer.Option("--task", "-t", metavar="ID", help="The task for which they are marked.")
]


@remote
async def mark(
    session: Session,
    *,
    paths: _Paths,
    worker: Worker,
    task: _ForTask = "",
    claim_revision: ClaimRevision = 0,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for those who meet the marks.")
    ] = "",
    wait: Annotated[
        timedelta | None,
        typer.Option(
            "--wait",
            metavar="TIME",
            parser=parse_duration,
            help="Wait so long for locks that others hold, such as 10m.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Mark files as worked on, and take locks.

    Marks keep nobody out: where others are at work on a file, it is said. A path such as
    lock:git-commit is held by one worker at a time; while another one has it nothing is marked.
    """
    answer = await session.client.files.MarkFiles(
        v1.MarkFilesRequest(
            worker_id=worker,
            paths=paths,
            task_id=task,
            claim_revision=claim_revision,
            reason=reason,
            wait=to_duration(wait),
        ),
        timeout=session.patience(DEFAULT_TIMEOUT) + (wait or timedelta()).total_seconds(),
    )
    session.tell(answer, f"marked {count(len(answer.marks), 'path')} for {worker}")
    tell_conflicts(answer.conflicts)


@remote
async def unmark(
    session: Session,
    *,
    paths: _SomePaths = None,
    worker: Worker,
    task: _ForTask = "",
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")
    ] = "",
) -> None:
    """Remove marks and locks of a worker: on these paths, for this task, or all."""
    answer = await session.client.files.UnmarkFiles(
        v1.UnmarkFilesRequest(worker_id=worker, paths=paths, task_id=task, reason=reason)
    )
    session.tell(answer, f"unmarked {count(len(answer.unmarked_paths), 'path')} of {worker}")


@remote
async def list_marks(
    session: Session,
    *,
    paths: _SomePaths = None,
    worker: Annotated[
        str, typer.Option("--worker", "-w", metavar="WORKER", help="Only of this worker.")
    ] = "",
    task: _ForTask = "",
) -> None:
    """List marks and locks, by path: who, since when, for which task, why."""
    request = v1.ListFileMarksRequest(paths=paths, worker_id=worker, task_id=task, page_size=_PAGE)
    marks: list[v1.FileMark] = []
    while True:
        page = await session.client.files.ListFileMarks(request)
        marks.extend(page.marks)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    if session.json:
        output.print_json([output.as_json(mark) for mark in marks])
    elif marks:
        _print_marks(marks)
    else:
        output.note("no marks")


def _print_marks(marks: "list[v1.FileMark]") -> None:
    columns = [
        output.Column("PATH"),
        output.Column("WORKER"),
        output.Column("TASK"),
        output.Column("SINCE"),
        output.Column("WHY", stretch=True),
    ]
    output.print_table(
        columns,
        [
            [
                output.styled(mark.path, "bold"),
                mark.worker_id,
                mark.task_id,
                moment_of(mark, "mark_time"),
                mark.reason,
            ]
            for mark in marks
        ],
    )


def tell_conflicts(marks: "Iterable[v1.FileMark]") -> None:
    """Say who else is at work on files."""
    for mark in marks:
        output.note(f"warning: {told_mark(mark)}")


def told_mark(mark: "v1.FileMark") -> str:
    """Such as "a.py is marked by ann since 2026-05-01 09:00:00 for t1: rework"."""
    verb = "held" if mark.path.startswith("lock:") else "marked"
    task = f" for {mark.task_id}" if mark.task_id else ""
    why = f": {mark.reason}" if mark.reason else ""
    return (
        f"{mark.path} is {verb} by {mark.worker_id} since {moment_of(mark, 'mark_time')}{task}{why}"
    )
