"""taskloom task gates: what keeps a task where it is, before one tries."""

from typing import TYPE_CHECKING, Annotated

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.arguments import OnBehalfOf, TaskId
from taskloom_client.cli.exits import ExitCode
from taskloom_client.cli.session import Session, remote

if TYPE_CHECKING:
    from rich.text import Text


@remote
async def gates(
    session: Session,
    *,
    task_id: TaskId,
    status: Annotated[
        str,
        typer.Option("--status", metavar="STATUS", help="Where it is to go; else to its end."),
    ] = "",
    worker: OnBehalfOf = "",
    phase: Annotated[
        str | None, typer.Option("--phase", metavar="PHASE", help="Likewise; empty: to no phase.")
    ] = None,
) -> None:
    """Say which gates a task would have to pass, and what is missing.

    Where no exit leads there, it says so, and shows the gates on the shortest way. Exits with 1
    when the move would be refused, though it may be that --force goes past.
    """
    answer = await session.client.tasks.CheckGates(
        v1.CheckGatesRequest(task_id=task_id, status=status, phase=phase, worker_id=worker)
    )
    if session.json:
        output.print_json(output.as_json(answer))
    else:
        if answer.gates:
            _print_gates(answer)
        output.print_line(_verdict(task_id, answer))
    if not answer.passes:
        raise typer.Exit(ExitCode.REFUSED)


def _print_gates(answer: "v1.CheckGatesResponse") -> None:
    columns = [
        output.Column("GATE"),
        output.Column("IN"),
        output.Column("LEAVING"),
        output.Column("ASKS FOR"),
        output.Column("ELSE"),
        output.Column("THERE"),
        output.Column("ABOUT", stretch=True),
    ]
    rows: list[list[str | Text]] = [
        [
            output.styled(gate.name, "bold"),
            gate.status,
            gate.leaving,
            gate.attachment_type,
            gate.enforcement,
            output.styled("yes", "green") if gate.satisfied else output.styled("no", "red"),
            gate.description,
        ]
        for gate in answer.gates
    ]
    output.print_table(columns, rows)


def _verdict(task_id: str, answer: "v1.CheckGatesResponse") -> str:
    if answer.obstacle:
        return answer.obstacle
    if not answer.gates:
        return f"{task_id} has no gate to pass"
    if answer.passes:
        return f"{task_id} can go on"
    if answer.passes_forced:
        return f"{task_id} cannot go on but with --force"
    return f"{task_id} cannot go on"
