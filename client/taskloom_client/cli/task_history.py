"""What became of tasks: the transitions of one, or of all."""

from datetime import datetime
from typing import Annotated

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.values import moment_of, parse_moment_past, show_duration, to_timestamp

_PAGE = 1000


@remote
async def history(
    session: Session,
    *,
    task_id: Annotated[
        str, typer.Argument(metavar="ID", help="The task; else all of them.", show_default=False)
    ] = "",
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            parser=parse_moment_past,
            help="Begun then or later: 2h ago, or 2026-05-01T09:00 (local time).",
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", metavar="WHEN", parser=parse_moment_past, help="Begun before."),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", "-s", metavar="STATUS", help="Into one of these; repeatable."),
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="WORKER", help="Caused by it.")] = "",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-n", min=1, metavar="N", help="Only the latest N; 100 of all tasks."
        ),
    ] = None,
) -> None:
    """List the transitions of a task, or the latest ones of all tasks, oldest first."""
    request = v1.ListTransitionsRequest(
        task_id=task_id,
        start_time=to_timestamp(since),
        end_time=to_timestamp(until),
        statuses=status,
        worker_id=by,
        newest_first=True,
    )
    left = limit or (None if task_id else 100)
    transitions: list[v1.Transition] = []
    while left is None or len(transitions) < left:
        request.page_size = _PAGE if left is None else min(left - len(transitions), _PAGE)
        page = await session.client.tasks.ListTransitions(request)
        transitions.extend(page.transitions)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    transitions.reverse()
    if session.json:
        output.print_json([output.as_json(transition) for transition in transitions])
        return
    if not transitions:
        output.note("no transitions")
        return
    columns = [
        output.Column("SINCE"),
        output.Column("FOR", justify="right"),
        output.Column("TASK"),
        output.Column("STATUS"),
        output.Column("PHASE"),
        output.Column("WORKER"),
        output.Column("REASON", stretch=True),
    ]
    rows = [
        [
            moment_of(step, "start_time"),
            _stay(step),
            "" if task_id else output.styled(step.task_id, "bold"),
            output.status_text(step.status) if step.HasField("status") else "",
            step.phase if step.HasField("phase") else "",
            step.worker_id,
            step.reason,
        ]
        for step in transitions
    ]
    output.print_table(columns, rows)


def _stay(step: "v1.Transition") -> str:
    """How long it stayed so; empty for the latest one."""
    if not step.HasField("end_time"):
        return ""
    return show_duration(step.end_time.ToDatetime() - step.start_time.ToDatetime())
