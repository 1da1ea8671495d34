"""What is done to tasks: add, update, signal, boost, cancel, delete, link, unlink."""

from collections.abc import Iterable
from typing import Annotated

import typer
from taskloom import v1

from taskloom_client.cli.arguments import (
    ClaimRevision,
    DependencyName,
    Estimate,
    Force,
    MaxAttempts,
    MaxCost,
    MaxSubtreeAttempts,
    NotBefore,
    OnBehalfOf,
    Points,
    Priority,
    Reason,
    RetryDelay,
    TaskId,
)
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.prompts import note_warnings, print_prompts
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.values import (
    count,
    parse_revision,
    show_temperature,
    to_duration,
    to_timestamp,
)

# What can be cleared is called as the option that sets it; the fields of UpdateTaskRequest.
_CLEARED = {
    "description": "description",
    "phase": "phase",
    "points": "points",
    "estimate": "time_estimate",
    "not-before": "not_before",
    "retry-delay": "retry_delay",
    "max-cost": "max_cost_usd",
    "max-subtree-attempts": "max_subtree_attempts",
    "tag": "tags",
    "needs": "needed_tags",
    "wants": "wanted_tags",
    "assign": "assignee",
}


@remote
async def add(
    session: Session,
    *,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What is to be done.")],
    id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Else the server makes one up.")
    ] = "",
    description: Annotated[str, typer.Option("--description", "-d", metavar="TEXT")] = "",
    parent: Annotated[
        str, typer.Option("--parent", metavar="ID", help="The task that contains it.")
    ] = "",
    blocked_by: Annotated[
        list[str] | None,
        typer.Option("--blocked-by", metavar="ID", help="A task that must end first; repeatable."),
    ] = None,
    priority: Priority = None,
    points: Points = None,
    estimate: Estimate = None,
    phase: Annotated[
        str, typer.Option("--phase", metavar="PHASE", help="A phase of the workflow.")
    ] = "",
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="A label; repeatable.")
    ] = None,
    needs: Annotated[
        list[str] | None,
        typer.Option(
            "--needs", metavar="TAG", help="A worker must have all tags named so; repeatable."
        ),
    ] = None,
    wants: Annotated[
        list[str] | None,
        typer.Option(
            "--wants",
            metavar="TAG",
            help="A worker must have one of the tags named so; repeatable.",
        ),
    ] = None,
    not_before: NotBefore = None,
    max_attempts: MaxAttempts = None,
    retry_delay: RetryDelay = None,
    max_cost: MaxCost = None,
    max_subtree_attempts: MaxSubtreeAttempts = None,
    workflow: Annotated[
        str,
        typer.Option("--workflow", metavar="NAME", help="Else the parent's, or the default one."),
    ] = "",
    worker: OnBehalfOf = "",
) -> None:
    """Add a task, in the initial state of its workflow."""
    answer = await session.client.tasks.CreateTask(
        v1.CreateTaskRequest(
            id=id,
            title=title,
            description=description,
            parent_id=parent,
            blocked_by=blocked_by,
            priority=priority,
            points=points,
            time_estimate=to_duration(estimate),
            phase=phase,
            tags=tag,
            needed_tags=needs,
            wanted_tags=wants,
            not_before=to_timestamp(not_before),
            max_attempts=max_attempts or 0,
            retry_delay=to_duration(retry_delay),
            workflow=workflow,
            worker_id=worker,
            max_cost_usd=max_cost,
            max_subtree_attempts=max_subtree_attempts,
        )
    )
    state = "ready" if answer.task.ready else answer.task.status
    session.tell(answer, f"added {answer.task.id} ({state})")


@remote
async def update(
    session: Session,
    *,
    task_ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="The task, or several.", show_default=False),
    ],
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT")] = None,
    description: Annotated[str | None, typer.Option("--description", "-d", metavar="TEXT")] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="One that the present one exits to."),
    ] = None,
    phase: Annotated[
        str | None, typer.Option("--phase", metavar="PHASE", help="Empty: no phase.")
    ] = None,
    priority: Priority = None,
    points: Points = None,
    estimate: Estimate = None,
    not_before: NotBefore = None,
    max_attempts: MaxAttempts = None,
    retry_delay: RetryDelay = None,
    max_cost: MaxCost = None,
    max_subtree_attempts: MaxSubtreeAttempts = None,
    workflow: Annotated[
        str | None,
        typer.Option("--workflow", metavar="NAME", help="That it follows from now on."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="Its tags from now on; repeatable; empty: none."),
    ] = None,
    needs: Annotated[
        list[str] | None, typer.Option("--needs", metavar="TAG", help="Likewise the needed tags.")
    ] = None,
    wants: Annotated[
        list[str] | None, typer.Option("--wants", metavar="TAG", help="Likewise the wanted tags.")
    ] = None,
    assign: Annotated[
        str | None,
        typer.Option(
            "--assign", metavar="WORKER", help="Hand it to a worker; empty: take it back."
        ),
    ] = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(
            "--clear",
            metavar="NAME",
            help=f"Have none of it any more; repeatable: {', '.join(_CLEARED)}.",
        ),
    ] = None,
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
    claim_revision: ClaimRevision = 0,
    force: Force = False,
) -> None:
    """Change what is given of a task, and nothing else.

    Of several tasks likewise: all of them in one revision, or none.
    """
    change = v1.UpdateTaskRequest(
        title=title,
        description=description,
        status=status,
        phase=phase,
        priority=priority,
        points=points,
        time_estimate=to_duration(estimate),
        not_before=to_timestamp(not_before),
        max_attempts=max_attempts,
        retry_delay=to_duration(retry_delay),
        tags=_tags(tag),
        needed_tags=_tags(needs),
        wanted_tags=_tags(wants),
        assignee=assign,
        max_cost_usd=max_cost,
        max_subtree_attempts=max_subtree_attempts,
        workflow=workflow,
    )
    _clear(change, clear or ())
    if not change.ListFields():
        raise Failure("nothing to change is given", ExitCode.USAGE)
    change.reason = reason
    change.worker_id = worker
    change.force = force
    if len(task_ids) > 1:
        if etag or claim_revision:
            raise Failure("--etag and --claim-revision go with one task", ExitCode.USAGE)
        await _update_all(session, task_ids, change)
        return
    change.task_id = task_ids[0]
    change.etag = etag
    change.claim_revision = claim_revision
    answer = await session.client.tasks.UpdateTask(change)
    task = answer.task
    session.tell(answer, f"updated {task.id} ({task.status})" + freed(answer.unblocked_task_ids))
    note_warnings(answer)
    print_prompts(session, answer)


async def _update_all(
    session: Session, task_ids: Iterable[str], change: "v1.UpdateTaskRequest"
) -> None:
    request = v1.UpdateTasksRequest()
    for task_id in dict.fromkeys(task_ids):
        update = request.updates.add(task_id=task_id)
        update.MergeFrom(change)
    answer = await session.client.tasks.UpdateTasks(request)
    names = ", ".join(f"{task.id} ({task.status})" for task in answer.tasks)
    session.tell(answer, f"updated {names}" + freed(answer.unblocked_task_ids))


def _clear(change: "v1.UpdateTaskRequest", names: Iterable[str]) -> None:
    """Put into a change that there is to be none of these: most are present then, and empty."""
    for name in dict.fromkeys(names):
        if name not in _CLEARED:
            clearable = ", ".join(_CLEARED)
            raise Failure(f"'{name}' cannot be cleared; what can: {clearable}", ExitCode.USAGE)
        field = change.DESCRIPTOR.fields_by_name[_CLEARED[name]]
        if change.HasField(field.name):  # type: ignore[arg-type]
            raise Failure(f"--clear {name} goes without --{name}", ExitCode.USAGE)
        if name == "points":
            change.clear_points = True
        elif field.message_type:
            getattr(change, field.name).SetInParent()
        else:
            setattr(change, field.name, field.default_value)


@remote
async def signal(
    session: Session,
    *,
    task_id: TaskId,
    breakthrough: Annotated[
        bool, typer.Option("--breakthrough", help="Not mere progress: it counts for more.")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="What happened, for those who watch.")
    ] = "",
    worker: OnBehalfOf = "",
    claim_revision: ClaimRevision = 0,
) -> None:
    """Tell of progress on a task, which makes it hotter."""
    type = v1.SIGNAL_TYPE_BREAKTHROUGH if breakthrough else v1.SIGNAL_TYPE_PROGRESS
    answer = await session.client.tasks.SignalTask(
        v1.SignalTaskRequest(
            task_id=task_id,
            worker_id=worker,
            claim_revision=claim_revision,
            type=type,
            reason=reason,
        )
    )
    what = "a breakthrough" if breakthrough else "progress"
    session.tell(answer, f"told of {what} on {_and_temperature(answer.task)}")


@remote
async def boost(
    session: Session,
    *,
    task_id: TaskId,
    amount: Annotated[
        float,
        typer.Argument(metavar="0-1", min=0, max=1, help="How much; 0 takes the boost back."),
    ] = 1.0,
    reason: Reason = "",
    worker: OnBehalfOf = "",
) -> None:
    """Make a task hotter, because you want it so."""
    answer = await session.client.tasks.BoostTask(
        v1.BoostTaskRequest(task_id=task_id, boost=amount, worker_id=worker, reason=reason)
    )
    done = f"boosted by {amount:g}:" if amount else "took back the boost of"
    session.tell(answer, f"{done} {_and_temperature(answer.task)}")


@remote
async def cancel(
    session: Session, task_id: TaskId, reason: Reason = "", worker: OnBehalfOf = ""
) -> None:
    """Cancel a task: move it to the status "cancelled"."""
    answer = await session.client.tasks.UpdateTask(
        v1.UpdateTaskRequest(task_id=task_id, status="cancelled", reason=reason, worker_id=worker)
    )
    session.tell(answer, f"cancelled {answer.task.id}" + freed(answer.unblocked_task_ids))


@remote
async def delete(
    session: Session,
    *,
    task_id: TaskId,
    cascade: Annotated[bool, typer.Option("--cascade", help="Also everything below it.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also what is claimed: the claims are lost.")
    ] = False,
    reason: Reason = "",
    worker: OnBehalfOf = "",
) -> None:
    """Delete a task softly: it stays on record and leaves the graph."""
    answer = await session.client.tasks.DeleteTask(
        v1.DeleteTaskRequest(
            task_id=task_id, cascade=cascade, force=force, reason=reason, worker_id=worker
        )
    )
    deleted = len(answer.deleted_task_ids)
    if deleted == 0:
        sentence = f"{task_id} was deleted before"
    elif deleted == 1:
        sentence = f"deleted {answer.deleted_task_ids[0]}"
    else:
        sentence = f"deleted {task_id} and {count(deleted - 1, 'task')} below it"
    session.tell(answer, sentence + freed(answer.unblocked_task_ids))


FromTask = Annotated[
    str, typer.Argument(metavar="FROM", help="The blocker, or the parent.", show_default=False)
]
ToTask = Annotated[
    str, typer.Argument(metavar="TO", help="The blocked task, or the child.", show_default=False)
]


@remote
async def link(
    session: Session,
    *,
    from_task: FromTask,
    to_task: ToTask,
    type: Annotated[DependencyName, typer.Option("--type", "-t", help="What it means.")] = "blocks",
    worker: OnBehalfOf = "",
) -> None:
    """Add a dependency: by default, TO cannot start before FROM has ended."""
    answer = await session.client.tasks.LinkTasks(
        v1.LinkTasksRequest(
            from_task_id=from_task,
            to_task_id=to_task,
            type=dependency_type(type),
            worker_id=worker,
        )
    )
    state = "linked" if answer.created else "linked already"
    session.tell(answer, f"{state}: {from_task} {type} {to_task}")


@remote
async def unlink(
    session: Session,
    *,
    from_task: FromTask,
    to_task: ToTask,
    type: Annotated[
        DependencyName | None,
        typer.Option("--type", "-t", help="Only this one; else all from FROM to TO."),
    ] = None,
    worker: OnBehalfOf = "",
) -> None:
    """Remove dependencies from FROM to TO."""
    answer = await session.client.tasks.UnlinkTasks(
        v1.UnlinkTasksRequest(
            from_task_id=from_task,
            to_task_id=to_task,
            type=dependency_type(type) if type else v1.DEPENDENCY_TYPE_UNSPECIFIED,
            worker_id=worker,
        )
    )
    removed = ", ".join(
        f"{d.from_task_id} {dependency_name(d.type)} {d.to_task_id}" for d in answer.removed
    )
    sentence = f"unlinked: {removed}" if removed else f"{from_task} and {to_task} were not linked"
    session.tell(answer, sentence + freed(answer.unblocked_task_ids))


def dependency_type(name: str) -> "v1.DependencyType.ValueType":
    """The value of the contract for a name such as "see-also"."""
    return v1.DependencyType.Value("DEPENDENCY_TYPE_" + name.replace("-", "_").upper())


def dependency_name(type: "v1.DependencyType.ValueType") -> str:
    """The name for a value of the contract, such as "see-also"."""
    return v1.DependencyType.Name(type).removeprefix("DEPENDENCY_TYPE_").replace("_", "-").lower()


def freed(task_ids: Iterable[str]) -> str:
    """The end of a sentence that says which tasks became ready by it."""
    ids = list(task_ids)
    if not ids:
        return ""
    more = f" and {len(ids) - 10:,} more" if len(ids) > 10 else ""
    return f"; now ready: {', '.join(ids[:10])}{more}"


def _and_temperature(task: "v1.Task") -> str:
    return f"{task.id} (temperature {show_temperature(task.temperature)})"


def _tags(values: list[str] | None) -> "v1.Tags | None":
    """The tags to set: absent where the option was not given, none where it was given empty."""
    if not values:
        return None
    return v1.Tags(values=[value for value in values if value])
