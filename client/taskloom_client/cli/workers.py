"""Who takes part: list, connect, disconnect, and what they think."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.arguments import Lease, OnBehalfOf, Reason
from taskloom_client.cli.prompts import note_warnings, print_prompts
from taskloom_client.cli.session import Session, remote
from taskloom_client.cli.values import (
    count,
    moment_of,
    parse_duration,
    show_duration,
    to_duration,
)

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

WorkerId = Annotated[str, typer.Argument(metavar="WORKER", show_default=False)]

OverlayName = Annotated[str, typer.Argument(metavar="OVERLAY", show_default=False)]


@remote
async def list_workers(
    session: Session,
    *,
    all: Annotated[bool, typer.Option("--all", "-a", help="Also those that disconnected.")] = False,
    stale_after: Annotated[
        timedelta | None,
        typer.Option(
            "--stale-after",
            metavar="TIME",
            parser=parse_duration,
            help="Only those that gave no sign of life for so long, such as 5m.",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="Only those that have it; repeatable: all."),
    ] = None,
) -> None:
    """List the workers, by id."""
    request = v1.ListWorkersRequest(
        include_disconnected=all,
        page_size=1000,
        stale_after=to_duration(stale_after),
        tags_all=tag,
    )
    workers: list[v1.Worker] = []
    while True:
        page = await session.client.workers.ListWorkers(request)
        workers.extend(page.workers)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    if session.json:
        output.print_json([output.as_json(worker) for worker in workers])
    elif workers:
        _print_workers(workers, page.time)
    else:
        output.note("no workers" if all else "no connected workers")


def _print_workers(workers: "list[v1.Worker]", now: "Timestamp") -> None:
    columns = [
        output.Column("WORKER"),
        output.Column("HOLDS", justify="right"),
        output.Column("CLAIMED", justify="right"),
        output.Column("LOST", justify="right"),
        output.Column("LAST HEARD OF"),
        output.Column("GRACE UNTIL"),
        output.Column("GONE"),
        output.Column("ROLE"),
        output.Column("TAGS"),
        output.Column("THOUGHT", stretch=True),
    ]
    rows = [
        [
            output.styled(worker.id, "bold"),
            f"{worker.claims_held} of {worker.max_claims}",
            f"{worker.claims_granted:,}",
            f"{worker.claims_lost:,}",
            show_duration(now.ToDatetime() - worker.heartbeat_time.ToDatetime()) + " ago",
            moment_of(worker, "grace_expire_time"),
            "yes" if worker.HasField("disconnect_time") else "",
            worker.role,
            ", ".join(worker.tags),
            worker.current_thought,
        ]
        for worker in workers
    ]
    output.print_table(columns, rows)


@remote
async def connect(
    session: Session,
    *,
    worker_id: Annotated[
        str,
        typer.Argument(
            metavar="WORKER", help="Its id; else the server makes one up.", show_default=False
        ),
    ] = "",
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="Something that it can do; repeatable."),
    ] = None,
    max_claims: Annotated[
        int,
        typer.Option(
            "--max-claims", min=1, max=1000, metavar="N", help="So many tasks it may hold at once."
        ),
    ] = 1,
    lease: Lease = None,
    cool_down: Annotated[
        timedelta | None,
        typer.Option(
            "--cool-down",
            metavar="TIME",
            parser=parse_duration,
            help="How long it rests after it ended a task, such as 30s.",
        ),
    ] = None,
    workflow: Annotated[
        str, typer.Option("--workflow", metavar="NAME", help="Else the default one.")
    ] = "",
    overlay: Annotated[
        list[str] | None,
        typer.Option("--overlay", metavar="NAME", help="Put this on its workflow; repeatable."),
    ] = None,
) -> None:
    """Register a worker, or renew and change its registration."""
    answer = await session.client.workers.Connect(
        v1.ConnectRequest(
            worker_id=worker_id,
            tags=tag,
            max_claims=max_claims,
            lease=to_duration(lease),
            cool_down=to_duration(cool_down),
            workflow=workflow,
            overlays=overlay,
        )
    )
    worker = answer.worker
    name = f"{worker.id} ({worker.role})" if worker.role else worker.id
    sentence = f"connected {name}: holds up to {count(worker.max_claims, 'task')}"
    if worker.HasField("lease"):
        sentence += f", each for {show_duration(worker.lease)} without a sign of life"
    if answer.held_tasks:
        sentence += "; has " + ", ".join(task.id for task in answer.held_tasks)
    session.tell(answer, sentence)
    note_warnings(answer)
    print_prompts(session, answer, several=True)


@remote
async def disconnect(session: Session, *, worker_id: WorkerId, reason: Reason = "") -> None:
    """End a worker's registration, and give back what it holds."""
    answer = await session.client.workers.Disconnect(
        v1.DisconnectRequest(worker_id=worker_id, reason=reason)
    )
    released = ", ".join(answer.released_task_ids)
    gave_back = f"; gave back {released}" if released else ""
    session.tell(answer, f"disconnected {answer.worker.id}{gave_back}")


@remote
async def add_overlay(
    session: Session, *, worker_id: WorkerId, overlay: OverlayName, by: OnBehalfOf = ""
) -> None:
    """Lay an overlay over a worker's workflow."""
    answer = await session.client.workers.AddOverlay(
        v1.AddOverlayRequest(worker_id=worker_id, overlay=overlay, by_worker_id=by)
    )
    session.tell(answer, _overlays_of(answer.worker))


@remote
async def remove_overlay(
    session: Session, *, worker_id: WorkerId, overlay: OverlayName, by: OnBehalfOf = ""
) -> None:
    """Take an overlay from a worker; with --worker, only if that one may go past its gates."""
    answer = await session.client.workers.RemoveOverlay(
        v1.RemoveOverlayRequest(worker_id=worker_id, overlay=overlay, by_worker_id=by)
    )
    session.tell(answer, _overlays_of(answer.worker))


def _overlays_of(worker: "v1.Worker") -> str:
    overlays = ", ".join(worker.overlays)
    with_them = f" with {overlays}" if overlays else " without overlays"
    return f"{worker.id} goes by {worker.workflow}{with_them}"


@remote
async def thought(
    session: Session,
    *,
    worker_id: WorkerId,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="What it thinks; else none any more.")
    ] = "",
    task: Annotated[
        str, typer.Option("--task", metavar="ID", help="About this task; else all it holds.")
    ] = "",
) -> None:
    """Say what a worker thinks, for others to read."""
    answer = await session.client.workers.SetThought(
        v1.SetThoughtRequest(worker_id=worker_id, task_id=task, thought=text)
    )
    about = f" about {', '.join(answer.task_ids)}" if answer.task_ids else ""
    session.tell(
        answer, f"{worker_id} thinks{about}: {text}" if text else f"{worker_id} thinks no more"
    )
