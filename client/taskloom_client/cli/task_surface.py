"""What is done to, and asked of, the graph at large: relink, rename, restore, scan, metrics."""

import sys
from functools import partial
from typing import Annotated

import typer
from rich.text import Text
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.arguments import DEPENDENCY_NAMES, OnBehalfOf, Reason, TaskId
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.tasks import dependency_name, dependency_type, freed
from taskloom_client.cli.values import (
    count,
    duration_of,
    parse_revision,
    show_duration,
)

_PAGE = 1000
_DIRECTIONS = ("before", "after", "above", "below")


@remote
async def rename(
    session: Session,
    *,
    task_id: TaskId,
    new_id: Annotated[str, typer.Argument(metavar="NEW", help="Its id from now on.")],
    reason: Reason = "",
    etag: Annotated[
        int,
        typer.Option(
            "--etag",
            metavar="REVISION",
            parser=parse_revision,
            help="Refuse if the task changed since this revision of it.",
            show_default=False,
        ),
    ] = 0,
    worker: OnBehalfOf = "",
) -> None:
    """Give a task another id, everywhere at once."""
    answer = await session.client.tasks.RenameTask(
        v1.RenameTaskRequest(
            task_id=task_id, new_task_id=new_id, reason=reason, etag=etag, worker_id=worker
        )
    )
    session.tell(answer, f"renamed {task_id} to {answer.task.id}")


@remote
async def restore(
    session: Session,
    *,
    task_id: TaskId,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Also what was deleted below it with it.")
    ] = False,
    reason: Reason = "",
    worker: OnBehalfOf = "",
) -> None:
    """Bring a deleted task back."""
    answer = await session.client.tasks.RestoreTask(
        v1.RestoreTaskRequest(task_id=task_id, cascade=cascade, reason=reason, worker_id=worker)
    )
    if not answer.tasks:
        sentence = f"{task_id} was not deleted"
    else:
        sentence = f"restored {task_id} ({answer.tasks[0].status})"
        if more := len(answer.tasks) - 1:
            sentence += f" and {count(more, 'task')} below it"
    session.tell(answer, sentence)


def _ask(*, task_id: str, yes: bool, **_: object) -> None:
    """Return if the user agrees."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(
            "obliterate asks first, and there is nobody to ask: add --yes", ExitCode.USAGE
        )
    if not typer.confirm(f"Remove {task_id} for good? There is no way back.", err=True):
        raise Failure("nothing was removed")


@partial(remote, ask=_ask)
async def obliterate(
    session: Session,
    *,
    task_id: TaskId,
    cascade: Annotated[bool, typer.Option("--cascade", help="Also everything below it.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also what is claimed: the claims are lost.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Reason = "",
    worker: OnBehalfOf = "",
) -> None:
    """Remove a task for good, with its history and all that hangs on it."""
    answer = await session.client.tasks.ObliterateTask(
        v1.ObliterateTaskRequest(
            task_id=task_id, cascade=cascade, force=force, reason=reason, worker_id=worker
        )
    )
    sentence = f"obliterated {task_id}"
    if more := len(answer.task_ids) - 1:
        sentence += f" and {count(more, 'task')} below it"
    session.tell(answer, sentence + freed(answer.unblocked_task_ids))


_LINK = "FROM:TO or FROM:TO:TYPE"


@remote
async def relink(
    session: Session,
    *,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar=_LINK, help="A dependency to go; repeatable."),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar=_LINK, help="A dependency to be; repeatable."),
    ] = None,
    worker: OnBehalfOf = "",
) -> None:
    """Remove dependencies and add others, at once. Without a type, FROM blocks TO."""
    if not remove and not add:
        raise Failure("nothing to remove or to add is given", ExitCode.USAGE)
    answer = await session.client.tasks.RelinkTasks(
        v1.RelinkTasksRequest(
            remove=map(_dependency, remove or ()), add=map(_dependency, add or ()), worker_id=worker
        )
    )
    changes = [
        f"{word} {d.from_task_id} {dependency_name(d.type)} {d.to_task_id}"
        for word, dependencies in (("removed", answer.removed), ("added", answer.added))
        for d in dependencies
    ]
    sentence = ", ".join(changes) or "all of it was so already"
    session.tell(answer, sentence + freed(answer.unblocked_task_ids))


def _dependency(text: str) -> "v1.Dependency":
    """Read a:b or a:b:contains. Ids may have colons of their own, where a type follows."""
    parts = text.split(":")
    type = "blocks"
    if len(parts) > 2 and parts[-1] in DEPENDENCY_NAMES:
        type = parts.pop()
    if len(parts) != 2 or not all(parts):
        raise Failure(f"'{text}' is not {_LINK}", ExitCode.USAGE)
    return v1.Dependency(from_task_id=parts[0], to_task_id=parts[1], type=dependency_type(type))


@remote
async def move(
    session: Session,
    *,
    task_id: TaskId,
    parent: Annotated[
        str,
        typer.Option("--parent", metavar="ID", help="Its parent from now on; empty: none."),
    ],
    worker: OnBehalfOf = "",
) -> None:
    """Put a task below another parent, at once."""
    task = (await session.client.tasks.GetTask(v1.GetTaskRequest(task_id=task_id))).task
    if task.parent_id == parent:
        raise Failure(f"{task_id} is there already", ExitCode.REFUSED)

    def below(parent_id: str) -> "list[v1.Dependency]":
        contains = v1.DEPENDENCY_TYPE_CONTAINS
        link = v1.Dependency(from_task_id=parent_id, to_task_id=task_id, type=contains)
        return [link] if parent_id else []

    answer = await session.client.tasks.RelinkTasks(
        v1.RelinkTasksRequest(remove=below(task.parent_id), add=below(parent), worker_id=worker)
    )
    where = f"below {parent}" if parent else "to the top"
    session.tell(answer, f"moved {task_id} {where}" + freed(answer.unblocked_task_ids))


@remote
async def scan(
    session: Session,
    *,
    task_id: TaskId,
    direction: Annotated[
        list[str] | None,
        typer.Option(
            "--direction",
            "-d",
            metavar="WHERE",
            help="before, after, above or below; repeatable; else all.",
        ),
    ] = None,
    depth: Annotated[
        int, typer.Option("--depth", min=0, metavar="N", help="How far; 0: as far as there is.")
    ] = 0,
) -> None:
    """List the tasks around one: before, after, above and below it."""
    for name in direction or ():
        if name not in _DIRECTIONS:
            raise Failure(f"'{name}' is none of {', '.join(_DIRECTIONS)}", ExitCode.USAGE)
    request = v1.ScanTasksRequest(
        task_id=task_id,
        directions=[v1.ScanDirection.Value(f"SCAN_DIRECTION_{d.upper()}") for d in direction or ()],
        depth=depth,
        page_size=_PAGE,
    )
    found: list[v1.ScannedTask] = []
    while True:
        page = await session.client.tasks.ScanTasks(request)
        found.extend(page.tasks)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    if session.json:
        output.print_json([output.as_json(one) for one in found])
        return
    if not found:
        output.note("nothing is around it")
        return
    columns = [
        output.Column("WHERE"),
        output.Column("AT", justify="right"),
        output.Column("ID"),
        output.Column("STATUS"),
        output.Column("READY"),
        output.Column("TITLE", stretch=True),
    ]
    rows: list[list[str | Text]] = [
        [
            v1.ScanDirection.Name(one.direction).removeprefix("SCAN_DIRECTION_").lower(),
            str(one.distance),
            output.styled(one.task.id, "bold"),
            output.status_text(one.task.status),
            "yes" if one.task.ready else "",
            one.task.title,
        ]
        for one in found
    ]
    output.print_table(columns, rows)


@remote
async def metrics(
    session: Session,
    *,
    task_id: Annotated[
        str, typer.Argument(metavar="ID", help="The task; else all of them.", show_default=False)
    ] = "",
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Of it and all below it.")
    ] = False,
    of_worker: Annotated[
        str, typer.Option("--of", metavar="WORKER", help="What this worker logged and did.")
    ] = "",
    running: Annotated[
        bool, typer.Option("--running", help="Count what still lasts, too.")
    ] = False,
) -> None:
    """Sum up what was consumed, and how long tasks stayed in which status."""
    answer = await session.client.tasks.GetMetrics(
        v1.GetMetricsRequest(
            task_id=task_id, recursive=recursive, worker_id=of_worker, include_running=running
        )
    )
    if session.json:
        output.print_json(output.as_json(answer))
        return
    output.print_fields(
        [
            *_amounts(answer.metrics),
            ("time spent", duration_of(answer, "time_actual")),
            ("failed attempts", f"{answer.attempts:,}" if answer.attempts else ""),
            ("budget", _budget(answer.budget) if answer.HasField("budget") else ""),
        ]
    )
    times = {one.status: one for one in answer.time_in_status}
    statuses = sorted({*times, *answer.tasks_by_status})
    columns = [
        output.Column("STATUS"),
        output.Column("TASKS", justify="right"),
        output.Column("STAYS", justify="right"),
        output.Column("TOGETHER", justify="right"),
    ]
    rows: list[list[str | Text]] = [
        [
            output.status_text(status),
            f"{answer.tasks_by_status.get(status, 0):,}",
            f"{times[status].stays:,}" if status in times else "",
            show_duration(times[status].duration) if status in times else "",
        ]
        for status in statuses
    ]
    if rows:
        output.print_table(columns, rows)


def _amounts(metrics: "v1.Metrics") -> list[tuple[str, str]]:
    return [
        ("cost", f"{value:.4g} USD")
        if field.name == "cost_usd"
        else (
            field.name.replace("_", " "),
            f"{value:,}",
        )
        for field, value in metrics.ListFields()
    ]


def _budget(budget: "v1.Budget") -> str:
    parts = []
    if budget.HasField("max_cost_usd"):
        parts.append(f"{budget.cost_usd:.4g} of {budget.max_cost_usd:.4g} USD")
    if budget.HasField("max_attempts"):
        parts.append(f"{budget.attempts} of {budget.max_attempts} failed attempts")
    return ", ".join(parts) + (": spent, nothing is given out" if budget.spent else "")
