"""What is asked about tasks: list, show, why, tree."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text
from rich.tree import Tree
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.arguments import TaskId
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.tasks import dependency_name
from taskloom_client.cli.values import (
    duration_of,
    moment_of,
    show_degrees,
    show_temperature,
)
from taskloom_client.cli.workflows import require_statuses

if TYPE_CHECKING:
    from taskloom_client.client import Client

_PAGE = 1000
_LOOKED_UP = 20
"""Of so many blockers ``show`` asks for the status."""

Order = Literal["priority", "temperature", "created", "updated", "id"]
_ORDERS = {
    "priority": "ORDER_BY_PRIORITY",
    "temperature": "ORDER_BY_TEMPERATURE",
    "created": "ORDER_BY_CREATE_TIME",
    "updated": "ORDER_BY_UPDATE_TIME",
    "id": "ORDER_BY_ID",
}


@remote
async def list_tasks(
    session: Session,
    *,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", "-s", metavar="STATUS", help="Any of these; repeatable."),
    ] = None,
    ready: Annotated[
        bool | None, typer.Option("--ready/--not-ready", help="Could be claimed now, or not.")
    ] = None,
    blocked: Annotated[
        bool | None, typer.Option("--blocked/--not-blocked", help="Waits for a blocker, or not.")
    ] = None,
    claimed: Annotated[
        bool | None, typer.Option("--claimed/--unclaimed", help="Held by a worker, or not.")
    ] = None,
    owner: Annotated[
        str, typer.Option("--owner", metavar="WORKER", help="Who holds it, or held it last.")
    ] = "",
    parent: Annotated[
        str, typer.Option("--parent", metavar="ID", help="Only children of this task.")
    ] = "",
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="With --parent: all below it.")
    ] = False,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Has one of these; repeatable.")
    ] = None,
    all_tags: Annotated[
        list[str] | None,
        typer.Option("--all-tags", metavar="TAG", help="Has all of these; repeatable."),
    ] = None,
    phase: Annotated[str, typer.Option("--phase", metavar="PHASE")] = "",
    qualified_for: Annotated[
        str,
        typer.Option("--qualified-for", metavar="WORKER", help="The worker has the tags for it."),
    ] = "",
    hot: Annotated[bool, typer.Option("--hot", help="Of a temperature of 0.7 or more.")] = False,
    warm: Annotated[bool, typer.Option("--warm", help="Between hot and cold.")] = False,
    cold: Annotated[bool, typer.Option("--cold", help="Of a temperature below 0.3.")] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="Also deleted tasks.")] = False,
    order: Annotated[Order, typer.Option("--order", "-o", help="What goes first.")] = "priority",
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many; else all."),
    ] = None,
) -> None:
    """List the tasks that pass all the filters."""
    if recursive and not parent:
        raise Failure("--recursive goes with --parent", ExitCode.USAGE)
    heats = [heat for asked, heat in ((hot, "HOT"), (warm, "WARM"), (cold, "COLD")) if asked]
    if len(heats) > 1:
        raise Failure("a task is either hot, warm or cold", ExitCode.USAGE)
    await require_statuses(session.client, status or ())
    request = v1.ListTasksRequest(
        statuses=status,
        ready=ready,
        blocked=blocked,
        claimed=claimed,
        owner=owner,
        parent_id=parent,
        recursive=recursive,
        tags_any=tag,
        tags_all=all_tags,
        phase=phase,
        qualified_for_worker_id=qualified_for,
        order_by=v1.OrderBy.Value(_ORDERS[order]),
        include_deleted=deleted,
        heat=v1.Heat.Value(f"HEAT_{heats[0] if heats else 'UNSPECIFIED'}"),
    )
    tasks = [task async for task in all_tasks(session.client, request, limit)]
    if session.json:
        output.print_json([output.as_json(task) for task in tasks])
    elif tasks:
        _print_tasks(tasks, temperatures=bool(heats) or order == "temperature")
    else:
        output.note("no tasks")


async def all_tasks(
    client: "Client", request: "v1.ListTasksRequest", limit: int | None = None
) -> "AsyncIterator[v1.Task]":
    """The tasks of all pages, or of as many as it takes to have ``limit`` tasks."""
    left = limit
    while left is None or left > 0:
        request.page_size = _PAGE if left is None else min(left, _PAGE)
        page = await client.tasks.ListTasks(request)
        for task in page.tasks:
            yield task
        if left is not None:
            left -= len(page.tasks)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _print_tasks(tasks: "Iterable[v1.Task]", *, temperatures: bool) -> None:
    columns = [
        output.Column("ID"),
        output.Column("STATUS"),
        output.Column("READY"),
        output.Column("PRI", justify="right"),
        output.Column("TEMP", justify="right"),
        output.Column("PHASE"),
        output.Column("WORKER"),
        output.Column("TITLE", stretch=True),
    ]
    rows = [
        [
            output.styled(task.id, "bold"),
            _status(task),
            "yes" if task.ready else "",
            str(task.priority),
            show_degrees(task.temperature) if temperatures else "",
            task.phase,
            task.worker_id,
            task.title,
        ]
        for task in tasks
    ]
    output.print_table(columns, rows)


def _status(task: "v1.Task") -> Text:
    if task.HasField("delete_time"):
        return output.styled("deleted", "dim")
    return output.status_text(task.status)


@remote
async def show(session: Session, *, task_id: TaskId) -> None:
    """Show a task, what it waits for, and what waits for it."""
    answer = await session.client.tasks.GetTask(v1.GetTaskRequest(task_id=task_id))
    if session.json:
        output.print_json(output.as_json(answer))
        return
    neighbours = _neighbours(task_id, answer.dependencies)
    for name in ("blocked by", "follows"):
        neighbours[name] = await _with_statuses(session.client, neighbours[name])
    related = [(name, ", ".join(ids)) for name, ids in neighbours.items()]
    output.print_fields([*_fields(answer.task), *related])
    if answer.task.description:
        output.print_block(answer.task.description)


def _fields(task: "v1.Task") -> "Iterable[tuple[str, str | Text]]":
    status = _status(task)
    status.append(", ready" if task.ready else "")
    yield "id", output.styled(task.id, "bold")
    yield "title", output.styled(task.title)
    yield "status", status
    yield "phase", task.phase
    yield "priority", str(task.priority)
    yield "temperature", show_temperature(task.temperature)
    yield "boost", f"{task.boost:g}" if task.boost else ""
    yield "worker", task.worker_id
    yield "claim revision", str(task.claim_revision or "")
    yield "lease until", moment_of(task, "lease_expire_time")
    yield "also on it", ", ".join(map(_advisory, task.advisory_claims))
    yield "tags", ", ".join(task.tags)
    yield "needs all of", ", ".join(task.needed_tags)
    yield "wants one of", ", ".join(task.wanted_tags)
    yield "points", str(task.points) if task.HasField("points") else ""
    yield "estimate", duration_of(task, "time_estimate")
    yield "time spent", duration_of(task, "time_actual")
    yield "not before", moment_of(task, "not_before")
    yield "attempts", f"{task.attempts} of {task.max_attempts}" if task.attempts else ""
    yield "retry delay", duration_of(task, "retry_delay")
    yield "budget", _budget(task)
    yield "thought", task.current_thought
    yield "consumed", _consumed(task.metrics)
    yield "workflow", task.workflow
    yield "created", moment_of(task, "create_time")
    yield "updated", f"{moment_of(task, 'update_time')} (revision {task.revision})"
    yield "claimed", moment_of(task, "claim_time")
    yield "started", moment_of(task, "start_time")
    yield "ended", moment_of(task, "complete_time")
    if task.HasField("delete_time"):
        by = f" by {task.deleted_by}" if task.deleted_by else ""
        because = f": {task.deleted_reason}" if task.deleted_reason else ""
        yield "deleted", moment_of(task, "delete_time") + by + because


def _budget(task: "v1.Task") -> str:
    """Such as "5 USD, 10 failed attempts"; empty for none."""
    parts = [f"{task.max_cost_usd:g} USD"] if task.HasField("max_cost_usd") else []
    if task.HasField("max_subtree_attempts"):
        parts.append(f"{task.max_subtree_attempts} failed attempts")
    return ", ".join(parts)


def _advisory(claim: "v1.AdvisoryClaim") -> str:
    since = moment_of(claim, "claim_time")
    return f"{claim.worker_id} (since {since}, claim revision {claim.claim_revision})"


def _consumed(metrics: "v1.Metrics") -> str:
    """Such as "12,000 tokens in, 800 tokens out, 0.31 USD"; empty for nothing."""
    amounts = []
    for field, value in metrics.ListFields():
        if field.name == "cost_usd":
            amounts.append(f"{value:.4g} USD")
        elif field.name.startswith("tokens_"):
            amounts.append(f"{value:,} {field.name.replace('_', ' ')}")
        else:
            amounts.append(f"{field.name} {value:,}")
    return ", ".join(amounts)


# What a neighbour is to the task, by the type of the dependency: at its start, and at its end.
_RELATIONS = {
    "blocks": ("blocked by", "blocks"),
    "follows": ("follows", "followed by"),
    "contains": ("parent", "children"),
    "duplicate": ("has duplicate", "duplicate of"),
    "see-also": ("see also", "see also"),
    "relates-to": ("relates to", "relates to"),
}


def _neighbours(task_id: str, dependencies: "Iterable[v1.Dependency]") -> dict[str, list[str]]:
    """The ids of the tasks at the other ends, by what they are to this one."""
    neighbours: dict[str, list[str]] = {name: [] for pair in _RELATIONS.values() for name in pair}
    for dependency in dependencies:
        at_start, at_end = _RELATIONS[dependency_name(dependency.type)]
        if dependency.to_task_id == task_id:
            neighbours[at_start].append(dependency.from_task_id)
        else:
            neighbours[at_end].append(dependency.to_task_id)
    return neighbours


async def _with_statuses(client: "Client", task_ids: list[str]) -> list[str]:
    """The ids with the statuses behind them, for the first of them."""
    known = await asyncio.gather(
        *(client.tasks.GetTask(v1.GetTaskRequest(task_id=id)) for id in task_ids[:_LOOKED_UP])
    )
    return [f"{a.task.id} ({a.task.status})" for a in known] + task_ids[_LOOKED_UP:]


@remote
async def why(
    session: Session,
    *,
    task_id: TaskId,
    worker: Annotated[
        str,
        typer.Option(
            "--worker", "-w", metavar="WORKER", help="Why it cannot; else why nobody can."
        ),
    ] = "",
) -> None:
    """Say why a task cannot be taken, and what would have to happen."""
    answer = await session.client.tasks.ExplainTask(
        v1.ExplainTaskRequest(task_id=task_id, worker_id=worker)
    )
    if session.json:
        output.print_json(output.as_json(answer))
        return
    by_whom = f" by {worker}" if worker else ""
    if not answer.obstacles:
        output.print_line(f"{task_id} can be taken{by_whom}")
        return
    output.print_line(f"{task_id} cannot be taken{by_whom}:")
    for obstacle in answer.obstacles:
        output.print_line(f"  {obstacle.message}")
        if obstacle.remedy:
            output.print_line(f"    -> {obstacle.remedy}")


@remote
async def tree(
    session: Session,
    *,
    task_id: Annotated[
        str, typer.Argument(metavar="ID", help="Its top; else all tasks.", show_default=False)
    ] = "",
) -> None:
    """Show what contains what, as a tree."""
    client = session.client
    tasks: list[v1.Task] = []
    if task_id:
        answer = await client.tasks.GetTask(v1.GetTaskRequest(task_id=task_id))
        tasks.append(answer.task)
    below = v1.ListTasksRequest(
        parent_id=task_id, recursive=bool(task_id), order_by=v1.ORDER_BY_CREATE_TIME
    )
    tasks.extend([task async for task in all_tasks(client, below)])
    there = {task.id for task in tasks}
    children: dict[str, list[v1.Task]] = defaultdict(list)
    for task in tasks:
        at_top = task.id == task_id or task.parent_id not in there
        children["" if at_top else task.parent_id].append(task)
    if session.json:
        output.print_json([_nested(task, children) for task in children[""]])
        return
    for top in children[""]:
        drawn = Tree(_label(top))
        deepest = _draw(drawn, top, children)
        output.print_tree(drawn, least_width=deepest)
    if not tasks:
        output.note("no tasks")


def _nested(task: "v1.Task", children: "dict[str, list[v1.Task]]") -> dict[str, Any]:
    return {
        "task": output.as_json(task),
        "children": [_nested(child, children) for child in children.get(task.id, ())],
    }


def _draw(tree: Tree, task: "v1.Task", children: "dict[str, list[v1.Task]]") -> int:
    """Add what is below the task; how far to the right the ids reach, the task's included."""
    reach = len(task.id) + 1
    for child in children.get(task.id, ()):
        reach = max(reach, 4 + _draw(tree.add(_label(child)), child, children))
    return reach


def _label(task: "v1.Task") -> Text:
    label = Text(no_wrap=True, overflow="ellipsis")
    label.append_text(output.styled(task.id, "bold")).append("  ")
    label.append_text(_status(task))
    label.append(f" by {task.worker_id}" if task.worker_id else "")
    label.append(", ready" if task.ready else "")
    return label.append("  ").append_text(output.styled(task.title))
