"""Following what changes: one line an event, for as long as somebody reads, or until tasks are
where one waits for them.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from taskloom import v1

from taskloom_client import errors
from taskloom_client.cli import output
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.goal import Goal
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.tasks import dependency_name
from taskloom_client.cli.values import local_time, parse_revision, show_duration

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from taskloom_client.watch import Watch

_PREFIX = "EVENT_TYPE_"
_UNTIL = "Waiting, for scripts"
_CONCERNED = {"task_ids", "subtree_of"}


@remote
async def watch(
    session: Session,
    *,
    start: Annotated[
        int,
        typer.Option(
            "--from",
            metavar="REVISION",
            parser=parse_revision,
            help="Begin with what this revision changed; else with what comes next.",
            show_default=False,
        ),
    ] = 0,
    state: Annotated[
        bool, typer.Option("--state", help="First the tasks as they are now, then what changes.")
    ] = False,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", "-s", metavar="STATUS", help="Tasks in any of these; repeatable."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="Tasks with any of these; repeatable."),
    ] = None,
    owner: Annotated[
        str, typer.Option("--owner", metavar="WORKER", help="Tasks it holds, or held last.")
    ] = "",
    subtree: Annotated[
        str, typer.Option("--subtree", metavar="ID", help="This task and all below it.")
    ] = "",
    task: Annotated[
        list[str] | None, typer.Option("--task", metavar="ID", help="This task; repeatable.")
    ] = None,
    phase: Annotated[
        list[str] | None,
        typer.Option("--phase", metavar="PHASE", help="Tasks in any of these; repeatable."),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event", metavar="TYPE", help="Such as task-completed or paused; repeatable."
        ),
    ] = None,
    assignee: Annotated[
        str,
        typer.Option("--assignee", metavar="WORKER", help="Tasks assigned to it and not begun."),
    ] = "",
    ready_for: Annotated[
        str, typer.Option("--ready-for", metavar="WORKER", help="Ready tasks that it may take.")
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="End after so many events."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="STATUS[,STATUS]",
            help="End when all these tasks are in one of them: --task, --subtree, or else all.",
            rich_help_panel=_UNTIL,
        ),
    ] = None,
    until_done: Annotated[
        bool,
        typer.Option(
            "--until-done",
            help="End when all of them have ended, well or not, or are deleted.",
            rich_help_panel=_UNTIL,
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print no events.", rich_help_panel=_UNTIL),
    ] = False,
) -> None:
    """Follow what changes, a line an event.

    Until Ctrl-C, which is exit code 130. It resumes by itself when the
    connection is lost or the server restarts.

    With --until or --until-done it ends by itself, with exit code 0, as soon as
    all the tasks are there, at once if they are; with 6 when one of them
    ended otherwise, though somebody may reopen it, was deleted or has
    another id since; with 7 when --timeout has passed; with 3 when there is no such task. Where
    there is no task at all, all are there.

    With --json a line is an object with a revision and the fields of an
    event, or one of created, synced and progress, as they come.
    """
    wanted = v1.WatchFilter(
        statuses=status,
        tags=tag,
        owner=owner,
        subtree_of=subtree,
        task_ids=task,
        phases=phase,
        event_types=[_event_type(name) for name in event or ()],
        assignee=assignee,
        ready_for=ready_for,
    )
    if state and start:
        raise Failure("--state goes without --from", ExitCode.USAGE)
    if until is not None or until_done:
        if until is not None and until_done:
            raise Failure("--until goes without --until-done", ExitCode.USAGE)
        if start or limit or {field.name for field, _ in wanted.ListFields()} - _CONCERNED:
            raise Failure("--until goes with --task or --subtree only", ExitCode.USAGE)
        if task and subtree:
            raise Failure("--until goes with --task or with --subtree", ExitCode.USAGE)
        statuses = [] if until is None else [name.strip() for name in until.split(",")]
        goal = await _goal(session, statuses, [*(task or ()), *([subtree] if subtree else ())])
        await _watch_until(session, wanted, goal, state=state, quiet=quiet)
        return
    if quiet:
        raise Failure("--quiet goes with --until or --until-done", ExitCode.USAGE)
    if start:
        await _hint_at_the_future(session, start)
    left = limit
    watching = session.client.watch(wanted, start_revision=start, include_state=state)
    async with watching:
        async for message in watching:
            events = message.events.events[:left]
            _print(session, message, events)
            if left is not None:
                left -= len(events)
                if left == 0:
                    return


async def _hint_at_the_future(session: Session, start: int) -> None:
    """Say so where a watch begins so late that nothing may come for long."""
    now = (await session.client.admin.GetStatus(v1.GetStatusRequest())).revision
    if start > now + 1:
        output.note(f"revision {start} is yet to come: the graph is at revision {now}")


async def _goal(session: Session, statuses: Sequence[str], named: Sequence[str]) -> Goal:
    """What to wait for. Raises Failure for statuses that no workflow has."""
    admin = session.client.admin
    names = (await admin.ListWorkflows(v1.ListWorkflowsRequest())).names
    workflows = [
        (await admin.GetWorkflow(v1.GetWorkflowRequest(name=name))).workflow for name in names
    ]
    known = list(dict.fromkeys(state.name for each in workflows for state in each.states))
    for status in statuses:
        if status not in known:
            raise Failure(
                f"no workflow has a status '{status}'; there are {', '.join(known)}",
                ExitCode.USAGE,
            )
    return Goal(statuses, named, workflows)


async def _watch_until(
    session: Session, wanted: "v1.WatchFilter", goal: Goal, *, state: bool, quiet: bool
) -> None:
    """Follow what changes until all are there. Raises Failure when it is too late for that."""
    loop = asyncio.get_running_loop()
    timeout = session.connection.timeout
    deadline = loop.time() + timeout if timeout else None
    while True:
        watching = session.client.watch(wanted, include_state=True)
        # A watch that is closed tells its reader so, and no cancellation can get lost.
        timer = asyncio.create_task(_close_at(watching, deadline)) if deadline else None
        try:
            async with watching:
                async for message in watching:
                    goal.tell(message)
                    if message.HasField("synced"):
                        for task_id in sorted(goal.unseen):
                            request = v1.GetTaskRequest(task_id=task_id)
                            goal.find((await session.client.tasks.GetTask(request)).task)
                    if not quiet:
                        _print(session, message, _told(message, state=state))
                    if goal.reached():
                        return
            raise goal.too_late(show_duration(timedelta(seconds=timeout or 0)))
        except errors.HistoryLost as lost:
            # The state is all that is needed, unless it is that of another graph.
            if lost.reason != "REVISION_COMPACTED":
                raise
        finally:
            if timer is not None:
                timer.cancel()


async def _close_at(watching: "Watch", deadline: float) -> None:
    """End a watch at this time of the event loop's clock."""
    await asyncio.sleep(deadline - asyncio.get_running_loop().time())
    await watching.aclose()


def _told(message: "v1.WatchTasksResponse", *, state: bool) -> "list[v1.Event]":
    """The events to print: without ``state`` only what happened."""
    return [
        event for event in message.events.events if state or event.type != v1.EVENT_TYPE_TASK_LISTED
    ]


def _print(
    session: Session, message: "v1.WatchTasksResponse", events: "Sequence[v1.Event]"
) -> None:
    """A line for each of the events; for programs also one for a message of another kind."""
    if session.json and not message.HasField("events"):
        output.print_json(_in_order(message.revision, message), line=True)
    for event in events:
        if session.json:
            output.print_json(_in_order(message.revision, event), line=True)
        else:
            _print_line(message.revision, event)


def _in_order(revision: int, message: "Message") -> dict[str, Any]:
    """The message for programs, after its revision, which is a string as in all of protobuf's."""
    return {"revision": str(revision)} | {
        name: value for name, value in output.as_json(message).items() if name != "revision"
    }


def _event_type(name: str) -> "v1.EventType.ValueType":
    """The value of the contract for a name such as task-completed."""
    values = {_event_word(type).replace(" ", "-"): type for type in v1.EventType.values()[1:]}
    word = name.lower().replace("_", "-")
    if word not in values:
        known = ", ".join(values)
        raise Failure(f"there are no events '{name}'; there are {known}", ExitCode.USAGE)
    return values[word]


def _event_word(type: "v1.EventType.ValueType") -> str:
    """Such as "task completed"."""
    return v1.EventType.Name(type).removeprefix(_PREFIX).replace("_", " ").lower()


def _print_line(revision: int, event: "v1.Event") -> None:
    """One event for people: revision, time, what, which, and then whatever else there is."""
    # Messages of the state that comes first have no revision.
    line = Text(f"{revision or '':>6}  {local_time(event.time):%H:%M:%S}  ")
    line.append(f"{_event_word(event.type):<18}  ", _style(event))
    line.append_text(output.styled(_subject(event), "bold"))
    ids_end = line.cell_len
    for detail in _details(event):
        line.append("  ").append_text(output.styled(detail))
    output.print_text(line, keep=ids_end + 1)


def _style(event: "v1.Event") -> str:
    match event.type:
        case v1.EVENT_TYPE_TASK_COMPLETED:
            return "green"
        case v1.EVENT_TYPE_TASK_FAILED | v1.EVENT_TYPE_TASK_LEASE_EXPIRED:
            return "red"
        case v1.EVENT_TYPE_TASK_CLAIMED:
            return "cyan"
        case _:
            return ""


def _subject(event: "v1.Event") -> str:
    match event.WhichOneof("after"):
        case "worker":
            return event.worker.id
        case "dependency":
            link = event.dependency
            return f"{link.from_task_id} {dependency_name(link.type)} {link.to_task_id}"
        case "file_mark":
            return event.file_mark.path
        case _:
            return event.task_id


def _details(event: "v1.Event") -> list[str]:
    details = []
    kind = event.WhichOneof("after")
    if event.type == v1.EVENT_TYPE_TASK_RENAMED:
        details.append(f"-> {event.task.id}")
    elif event.left_filter:
        details.append("(left the filter)")
    if event.type == v1.EVENT_TYPE_TASK_LISTED:
        details.append(event.task.status)
    elif event.previous_status:
        details.append(f"{event.previous_status} -> {event.task.status}")
    if event.worker_id and kind != "worker":
        details.append(f"by {event.worker_id}")
    if kind == "attachment":
        details.append(f"{event.attachment.type} #{event.attachment.sequence}")
    if event.reason:
        details.append(f"({event.reason})")
    if kind == "task":
        details.append(event.task.title)
    return details
