"""The workflows in force: list, show."""

from typing import Annotated

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.session import Session, remote


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
            output.Column("EXITS TO", stretch=True),
        ],
        [
            [
                output.status_text(state.name),
                "yes" if state.timed else "",
                "yes" if state.terminal else "",
                ", ".join(state.exits),
            ]
            for state in workflow.states
        ],
    )
