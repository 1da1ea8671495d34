"""The state of the whole, and what is done to all of it: status, pause, resume, reset."""

import getpass
import sys
from datetime import timedelta
from typing import Annotated

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.session import (
    Connection,
    Json,
    Server,
    Session,
    Timeout,
    connection,
    remote,
    run,
)
from taskloom_client.cli.values import count, show_duration, show_moment

By = Annotated[
    str,
    typer.Option(
        "--by", metavar="NAME", help="Who says so; else your user name.", show_default=False
    ),
]
Subtree = Annotated[
    str, typer.Option("--task", metavar="ID", help="Only this task and all below it.")
]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who wait.")]


@remote
async def status(session: Session) -> None:
    """Show how the whole stands."""
    answer = await session.client.admin.GetStatus(v1.GetStatusRequest())
    if session.json:
        output.print_json(output.as_json(answer))
        return
    up = answer.server_time.ToDatetime() - answer.start_time.ToDatetime()
    total = sum(answer.tasks_by_status.values())
    by_status = ", ".join(
        f"{number:,} {name}" for name, number in sorted(answer.tasks_by_status.items()) if number
    )
    output.print_fields(
        [
            (
                "server",
                f"taskloom {answer.version} at {session.connection.server}, "
                f"up {show_duration(max(up, timedelta()))}",
            ),
            ("paused", _paused(answer.paused) if answer.HasField("paused") else "no"),
            *((f"paused {state.task_id}", _paused(state)) for state in answer.paused_subtrees),
            ("over budget", ", ".join(answer.over_budget_task_ids)),
            ("tasks", f"{total:,}" + (f": {by_status}" if by_status else "")),
            (
                "open",
                f"{answer.open_tasks:,}: {answer.ready_tasks:,} ready, "
                f"{answer.claimed_tasks:,} claimed, {answer.delayed_tasks:,} delayed",
            ),
            (
                "unmatched",
                f"{count(answer.unmatched_tasks, 'ready task')} for which no connected worker has "
                "the tags; 'taskloom task why ID' says which"
                if answer.unmatched_tasks
                else "",
            ),
            ("workers", f"{answer.connected_workers:,} connected"),
            ("revision", f"{answer.revision} (history from {answer.oldest_revision})"),
            ("incarnation", answer.incarnation),
        ]
    )


def _paused(state: "v1.PauseState") -> str:
    by = f" by {state.by}" if state.by else ""
    since = f" since {show_moment(state.time)}" if state.HasField("time") else ""
    because = f": {state.reason}" if state.reason else ""
    return f"yes{by}{since}{because}"


@remote
async def pause(session: Session, *, task: Subtree = "", reason: Why = "", by: By = "") -> None:
    """Stop new claims, until resume; workers finish what they hold."""
    answer = await session.client.admin.Pause(
        v1.PauseRequest(by=by or _user(), reason=reason, task_id=task)
    )
    if task:
        session.tell(
            answer,
            f"paused {task} and all below it: no new claims there "
            f"until 'taskloom resume --task {task}'",
        )
    else:
        session.tell(answer, "paused: no new claims until 'taskloom resume'")


@remote
async def resume(session: Session, *, task: Subtree = "", reason: Why = "", by: By = "") -> None:
    """Let claims go on."""
    answer = await session.client.admin.Resume(
        v1.ResumeRequest(by=by or _user(), reason=reason, task_id=task)
    )
    session.tell(answer, f"resumed {task}" if task else "resumed")


def _user() -> str:
    """The name that the user is logged in by; empty where there is none, as in containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def reset(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Delete everything for good: tasks, workers, history. Asks first."""
    where = connection(ctx, server=server, timeout=timeout, json=json)
    if not yes:
        _ask(where)
    run(where, _reset)


def _ask(where: Connection) -> None:
    """Return if the user agrees. Outside of any event loop, so that Ctrl-C ends the question."""
    if not sys.stdin.isatty():
        raise Failure("reset asks first, and there is nobody to ask: add --yes", ExitCode.USAGE)
    status = run(where, _status)
    total = sum(status.tasks_by_status.values())
    print(
        f"This deletes {count(total, 'task')} and the whole history "
        f"of the server at {where.server}, for good.",
        file=sys.stderr,
    )
    if not typer.confirm("Go on?", err=True):
        raise Failure("nothing was deleted")


async def _status(session: Session) -> "v1.GetStatusResponse":
    return await session.client.admin.GetStatus(v1.GetStatusRequest())


async def _reset(session: Session) -> None:
    answer = await session.client.admin.Reset(v1.ResetRequest(confirm="reset"))
    session.tell(answer, f"reset: the incarnation is {answer.incarnation} now")
