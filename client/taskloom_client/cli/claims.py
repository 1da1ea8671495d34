"""Taking tasks, and ending, failing or returning them."""

from datetime import timedelta
from typing import Annotated, Literal

import typer
from taskloom import v1

from taskloom_client import errors
from taskloom_client.cli import output
from taskloom_client.cli.arguments import ClaimRevision, Force, Lease, Reason, TaskId, Worker
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.files import tell_conflicts, told_mark
from taskloom_client.cli.prompts import note_warnings, print_prompts
from taskloom_client.cli.session import DEFAULT_TIMEOUT, Session, remote
from taskloom_client.cli.tasks import freed
from taskloom_client.cli.values import moment_of, parse_duration, show_duration, to_duration


@remote
async def claim(
    session: Session,
    *,
    worker: Worker,
    task_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The task; else the best that is to be had.", show_default=False
        ),
    ] = "",
    parent: Annotated[
        str, typer.Option("--parent", metavar="ID", help="Without an ID: only below this task.")
    ] = "",
    max_tasks: Annotated[
        int,
        typer.Option("--max-tasks", min=1, max=100, metavar="N", help="Without an ID: so many."),
    ] = 1,
    lease: Lease = None,
    advisory: Annotated[
        bool,
        typer.Option(
            "--advisory", help="Say that the worker works on it, and keep nobody else away."
        ),
    ] = False,
    order: Annotated[
        Literal["priority", "temperature"],
        typer.Option("--order", "-o", help="Without an ID: what goes first."),
    ] = "priority",
    wait: Annotated[
        timedelta | None,
        typer.Option(
            "--wait",
            metavar="TIME",
            parser=parse_duration,
            help="Without an ID: wait so long for a task, such as 10m.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            metavar="PATH",
            help="Mark it with the claim, or take the lock:NAME; repeatable.",
        ),
    ] = None,
    mark_reason: Annotated[
        str, typer.Option("--mark-reason", metavar="TEXT", help="Why, for who meets the marks.")
    ] = "",
    connect: Annotated[
        bool, typer.Option("--connect", help="Connect the worker first if it is not connected.")
    ] = False,
) -> None:
    """Take a task: the one that is named, or the best one.

    Exits with 5 when there is nothing to claim, with --wait when there was nothing all the time.
    """
    if task_id and (parent or max_tasks > 1 or wait or order != "priority"):
        raise Failure("--parent, --max-tasks, --order and --wait go without an ID", ExitCode.USAGE)
    mode = v1.CLAIM_MODE_ADVISORY if advisory else v1.CLAIM_MODE_EXCLUSIVE

    async def take() -> None:
        if task_id:
            await _claim_task(
                session,
                v1.ClaimTaskRequest(
                    worker_id=worker,
                    task_id=task_id,
                    lease=to_duration(lease),
                    mode=mode,
                    files=file,
                    mark_reason=mark_reason,
                ),
            )
        else:
            request = v1.ClaimNextTaskRequest(
                worker_id=worker,
                max_tasks=max_tasks,
                parent_id=parent,
                lease=to_duration(lease),
                wait=to_duration(wait),
                order_by=v1.OrderBy.Value(f"ORDER_BY_{order.upper()}"),
                mode=mode,
                files=file,
                mark_reason=mark_reason,
            )
            await _claim_next(session, request, wait or timedelta())

    try:
        await take()
    except errors.WorkerNotFound as error:
        if not connect:
            raise Failure(
                f"worker {worker} is not connected: "
                f"'taskloom worker connect {worker}' does it, or --connect here",
                ExitCode.NOT_FOUND,
            ) from error
        await session.client.workers.Connect(v1.ConnectRequest(worker_id=worker))
        await take()


async def _claim_task(session: Session, request: v1.ClaimTaskRequest) -> None:
    answer = await session.client.claims.ClaimTask(request)
    _tell_claimed(session, answer, [answer.task], request.worker_id)


async def _claim_next(session: Session, request: v1.ClaimNextTaskRequest, wait: timedelta) -> None:
    answer = await session.client.claims.ClaimNextTask(
        request, timeout=session.patience(DEFAULT_TIMEOUT) + wait.total_seconds()
    )
    if answer.tasks:
        _tell_claimed(session, answer, list(answer.tasks), request.worker_id)
        return
    if session.json:
        output.print_json(output.as_json(answer))
    output.note(_why_nothing(answer, request.worker_id, request.parent_id))
    raise typer.Exit(ExitCode.NOTHING_TO_CLAIM)


def _tell_claimed(
    session: Session,
    answer: "v1.ClaimTaskResponse | v1.ClaimNextTaskResponse",
    tasks: "list[v1.Task]",
    worker: str,
) -> None:
    if session.json:
        output.print_json(output.as_json(answer))
        return
    for task in tasks:
        output.print_line(f"claimed {task.id} ({_claim(task, worker)})")
        output.print_line(f"  {task.title}")
    if len(tasks) == 1 and tasks[0].description:
        output.print_block(tasks[0].description)
    print_prompts(session, answer, several=len(tasks) > 1)
    tell_conflicts(answer.conflicts)


def _claim(task: "v1.Task", worker: str) -> str:
    """What is to be said of the worker's claim."""
    if not task.claim_revision:
        for claim in task.advisory_claims:
            if claim.worker_id == worker:
                return f"advisory, claim revision {claim.claim_revision}"
    until = moment_of(task, "lease_expire_time")
    return f"claim revision {task.claim_revision}" + (f", until {until}" if until else "")


def _why_nothing(answer: "v1.ClaimNextTaskResponse", worker: str, parent: str) -> str:
    where = f" below {parent}" if parent else ""
    match answer.outcome:
        case v1.CLAIM_OUTCOME_ALL_DONE:
            return f"nothing to claim: every task{where} has ended"
        case v1.CLAIM_OUTCOME_PAUSED:
            return "nothing to claim: paused, until 'taskloom resume'"
        case v1.CLAIM_OUTCOME_COOLING_DOWN:
            return f"nothing to claim: {worker} rests for {show_duration(answer.retry_after)} still"
        case v1.CLAIM_OUTCOME_LIMIT_REACHED:
            return f"nothing to claim: {worker} holds as many tasks as it may"
        case v1.CLAIM_OUTCOME_WIP_LIMIT:
            return (
                "nothing to claim: as many tasks are worked on as the workflow allows "
                "('taskloom task why ID' names them)"
            )
        case v1.CLAIM_OUTCOME_FILES_LOCKED:
            return f"nothing to claim: {'; '.join(map(told_mark, answer.conflicts))}"
        case v1.CLAIM_OUTCOME_ROLE_FORBIDS:
            return f"nothing to claim: {worker} begins only what is assigned to it"
        case v1.CLAIM_OUTCOME_ASSIGNED:
            return f"nothing to claim but what is assigned to {worker}: name it"
        case _:
            return f"nothing to claim: no task{where} that {worker} may take is ready"


@remote
async def complete(
    session: Session,
    *,
    task_id: TaskId,
    worker: Worker,
    claim_revision: ClaimRevision = 0,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="What came out, for the history.")
    ] = "",
    force: Force = False,
) -> None:
    """End a task well."""
    answer = await session.client.claims.CompleteTask(
        v1.CompleteTaskRequest(
            worker_id=worker,
            task_id=task_id,
            claim_revision=claim_revision,
            reason=reason,
            force=force,
        )
    )
    session.tell(answer, f"completed {answer.task.id}" + freed(answer.unblocked_task_ids))
    note_warnings(answer)
    print_prompts(session, answer)


@remote
async def release(
    session: Session,
    *,
    task_id: TaskId,
    worker: Worker,
    claim_revision: ClaimRevision = 0,
    reason: Reason = "",
) -> None:
    """Give a task back, for anybody to take."""
    answer = await session.client.claims.ReleaseTask(
        v1.ReleaseTaskRequest(
            worker_id=worker, task_id=task_id, claim_revision=claim_revision, reason=reason
        )
    )
    session.tell(answer, f"released {answer.task.id} ({answer.task.status})")
    print_prompts(session, answer)


@remote
async def fail(
    session: Session,
    *,
    task_id: TaskId,
    worker: Worker,
    claim_revision: ClaimRevision = 0,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="What went wrong, for the history.")
    ] = "",
    retry: Annotated[
        bool, typer.Option("--retry", help="Let it be tried again while attempts are left.")
    ] = False,
    retry_delay: Annotated[
        timedelta | None,
        typer.Option(
            "--retry-delay",
            metavar="TIME",
            parser=parse_duration,
            help="With --retry: not before this has passed, such as 5m.",
        ),
    ] = None,
) -> None:
    """Say that the work on a task failed."""
    if retry_delay is not None and not retry:
        raise Failure("--retry-delay goes with --retry", ExitCode.USAGE)
    answer = await session.client.claims.FailTask(
        v1.FailTaskRequest(
            worker_id=worker,
            task_id=task_id,
            claim_revision=claim_revision,
            reason=reason,
            retry=retry,
            retry_delay=to_duration(retry_delay),
        )
    )
    task = answer.task
    session.tell(
        answer,
        f"failed {task.id} ({task.status}, attempt {task.attempts} of {task.max_attempts})"
        + freed(answer.unblocked_task_ids),
    )
    print_prompts(session, answer)
