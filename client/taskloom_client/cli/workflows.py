"""The workflows in force: list, show; and which statuses they give tasks."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.exits import ExitCode, Failure
from taskloom_client.cli.session import Session, remote

if TYPE_CHECKING:
    from taskloom_client.client import Client


@remote
async def list_workflows(session: Session) -> None:
    """List the workflows, and which is the default."""
    answer = await session.client.admin.ListWorkflows(v1.ListWorkflowsRequest())
    if session.json:
        output.print_json(output.as_json(answer))
        return
    output.print_table(
        [output.Column("WORKFLOW"), output.Column("DEFAULT")],
        [[name, "yes" if name == answer.default_name else ""] for name in answer.names],
    )


@remote
async def show(
    session: Session,
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Else the default one.", show_default=False)
    ] = "",
) -> None:
    """Show a workflow: its states, and what leads where."""
    answer = await session.client.admin.GetWorkflow(v1.GetWorkflowRequest(name=name))
    if session.json:
        output.print_json(output.as_json(answer))
        return
    workflow = answer.workflow
    output.print_fields(
        [
            ("workflow", output.styled(workflow.name, "bold")),
            ("about", workflow.description),
            ("phases", ", ".join(workflow.phases)),
            ("tasks begin", workflow.initial_state),
            ("a claim", workflow.claim_state),
            ("a completion", workflow.complete_state),
            ("a failure", workflow.fail_state),
            ("a lost claim", workflow.disconnect_state),
            ("blocking", ", ".join(workflow.blocking_states)),
        ]
    )
    output.write("\n")
    output.print_table(
        [
            output.Column("STATE"),
            output.Column("TIMED"),
            output.Column("ENDS"),
            output.Column("PARKED"),
            output.Column("EXITS TO", stretch=True),
        ],
        [
            [
                output.status_text(state.name),
                "yes" if state.timed else "",
                "yes" if state.terminal else "",
                "yes" if state.parked else "",
                ", ".join(state.exits),
            ]
            for state in workflow.states
        ],
    )


async def require_statuses(client: "Client", names: Iterable[str]) -> None:
    """Raise Failure for a status that no workflow has: nothing will ever be in it."""
    asked = list(names)
    if not asked:
        return
    known = await client.admin.ListWorkflows(v1.ListWorkflowsRequest())
    workflows = await asyncio.gather(
        *(client.admin.GetWorkflow(v1.GetWorkflowRequest(name=name)) for name in known.names)
    )
    there = {state.name: None for each in workflows for state in each.workflow.states}
    for name in asked:
        if name not in there:
            raise Failure(
                f"no workflow has a status '{name}'; there are {', '.join(there)}", ExitCode.USAGE
            )
