"""Following what changes: one line an event, for as long as somebody reads."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.tasks import dependency_name
from taskloom_client.cli.values import local_time, parse_revision

if TYPE_CHECKING:
    from google.protobuf.message import Message

_PREFIX = "EVENT_TYPE_"


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
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="End after so many events."),
    ] = None,
) -> None:
    """Follow what changes, a line an event.

    Until Ctrl-C, which is exit code 130. It resumes by itself when the
    connection is lost or the server restarts.

    With --json a line is an object with a revision and the fields of an
    event, or one of created, synced and progress, as they come.
    """
    if state and start:
        raise Failure("--state goes without --from", ExitCode.USAGE)
    wanted = v1.WatchFilter(
        statuses=status,
        tags=tag,
        owner=owner,
        subtree_of=subtree,
        task_ids=task,
        phases=phase,
        event_types=[_event_type(name) for name in event or ()],
    )
    left = limit
    watching = session.client.watch(wanted, start_revision=start, include_state=state)
    async with watching:
        async for message in watching:
            if not message.HasField("events") and session.json:
                output.print_json(_in_order(message.revision, message), line=True)
            for happened in message.events.events:
                if session.json:
                    output.print_json(_in_order(message.revision, happened), line=True)
                else:
                    _print_line(message.revision, happened)
                if left is not None:
                    left -= 1
                    if left == 0:
                        return


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
    if event.left_filter:
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
