"""The workflows in force: list, show; files of them: check; and which statuses they give tasks."""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from taskloom import v1

from taskloom_client.cli import output
from taskloom_client.cli.exits import ExitCode, Failure, missing_extra
from taskloom_client.cli.session import Session, remote

if TYPE_CHECKING:
    from taskloom_client.client import Client


OverlayNames = Annotated[
    list[str] | None,
    typer.Option("--overlay", metavar="NAME", help="With this overlay on it; repeatable."),
]


@remote
async def list_workflows(session: Session) -> None:
    """List the workflows, which is the default, and the overlays."""
    answer = await session.client.admin.ListWorkflows(v1.ListWorkflowsRequest())
    if session.json:
        output.print_json(output.as_json(answer))
        return
    output.print_table(
        [output.Column("WORKFLOW"), output.Column("DEFAULT")],
        [[name, "yes" if name == answer.default_name else ""] for name in answer.names],
    )
    if answer.overlays:
        output.write("\n")
        output.print_table(
            [output.Column("OVERLAY"), output.Column("FOR"), output.Column("ABOUT", stretch=True)],
            [[o.name, ", ".join(o.workflows) or "any", o.description] for o in answer.overlays],
        )
    if answer.load_error:
        output.note(f"the files were changed, and cannot be used: {answer.load_error}")


@remote
async def show(
    session: Session,
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Else the default one.", show_default=False)
    ] = "",
    overlay: OverlayNames = None,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Also what it says to workers.")
    ] = False,
) -> None:
    """Show a workflow: its states, what leads where, its roles and gates."""
    request = v1.GetWorkflowRequest(name=name, overlays=overlay)
    answer = await session.client.admin.GetWorkflow(request)
    if session.json:
        output.print_json(output.as_json(answer))
        return
    _print_workflow(answer.workflow)
    if prompts:
        _print_prompts(answer.workflow)


def _print_workflow(workflow: "v1.Workflow") -> None:
    topology = workflow.topology
    output.print_fields(
        [
            ("workflow", output.styled(workflow.name, "bold")),
            ("about", workflow.description),
            ("coordination", topology.coordination),
            ("granularity", topology.granularity),
            ("phase model", topology.phase_model),
            ("dependencies", topology.default_dependencies),
            ("agents", topology.agents),
            ("phases", ", ".join(phase.name for phase in workflow.phases)),
            ("other phases", workflow.unknown_phase),
            ("tasks begin", workflow.initial_state),
            ("a claim", workflow.claim_state),
            ("a completion", workflow.complete_state),
            ("a failure", workflow.fail_state),
            ("a lost claim", workflow.disconnect_state),
            ("once unblocked", workflow.auto_advance),
            ("blocking", ", ".join(workflow.blocking_states)),
            ("parents", workflow.parents),
        ]
    )
    output.write("\n")
    output.print_table(
        [
            output.Column("STATE"),
            output.Column("TIMED"),
            output.Column("ENDS"),
            output.Column("PARKED"),
            output.Column("LIMIT", justify="right"),
            output.Column("EXITS TO", stretch=True),
        ],
        [
            [
                output.status_text(state.name),
                "yes" if state.timed else "",
                "yes" if state.terminal else "",
                "yes" if state.parked else "",
                str(state.wip_limit or ""),
                ", ".join(state.exits),
            ]
            for state in workflow.states
        ],
    )
    if workflow.roles:
        output.write("\n")
        output.print_table(
            [
                output.Column("ROLE"),
                output.Column("TAGS"),
                output.Column("CLAIMS", justify="right"),
                output.Column("MAY"),
                output.Column("ABOUT", stretch=True),
            ],
            [
                [
                    role.name,
                    ", ".join(role.tags) or "any",
                    str(role.max_claims or ""),
                    ", ".join(_rights(role)) or "none of these",
                    role.description,
                ]
                for role in workflow.roles
            ],
        )
    if workflow.gates:
        output.write("\n")
        output.print_table(
            [
                output.Column("GATE"),
                output.Column("ON LEAVING"),
                output.Column("NEEDS"),
                output.Column("ELSE"),
                output.Column("ABOUT", stretch=True),
            ],
            [
                [gate.name, gate.leaving, gate.attachment_type, gate.enforcement, gate.description]
                for gate in workflow.gates
            ],
        )


def _rights(role: "v1.Role") -> Iterator[str]:
    yield "claim" if role.can_claim else "begin what is assigned"
    if role.can_assign:
        yield "assign"
    if role.can_create_subtasks:
        yield "create subtasks"
    if role.can_force:
        yield "force"


def _print_prompts(workflow: "v1.Workflow") -> None:
    said = [("connect", workflow.connect_prompt)]
    said += [(f"role {role.name}", role.prompt) for role in workflow.roles]
    for state in workflow.states:
        said += [(f"entering {state.name}", state.enter_prompt)]
        said += [(f"leaving {state.name}", state.exit_prompt)]
    for phase in workflow.phases:
        said += [(f"entering phase {phase.name}", phase.enter_prompt)]
        said += [(f"leaving phase {phase.name}", phase.exit_prompt)]
    said += [
        (f"in {each.state} and {each.phase}", each.prompt) for each in workflow.combination_prompts
    ]
    for when, text in said:
        if text:
            output.write("\n")
            output.print_line(f"{when}:")
            output.write(f"{text.rstrip()}\n")


def check(
    *,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Workflow files, or overlay files in a folder named overlays.",
            show_default=False,
        ),
    ],
) -> None:
    """Say whether workflow files can be used, or what is wrong, and where; without a server."""
    try:
        from taskloom_server.workflow_files import (  # noqa: PLC0415 - an extra
            WorkflowFileError,
            check_file,
        )
    except ModuleNotFoundError as error:
        raise missing_extra("server", error.name) from error
    wrong = 0
    for path in files:
        try:
            found = check_file(path)
        except WorkflowFileError as error:
            wrong += 1
            if len(files) == 1:
                raise Failure(str(error), ExitCode.USAGE) from error
            output.note(f"error: {error}")
        else:
            kind = type(found).__name__.lower()
            output.print_line(f"{path}: {kind} {found.name!r} can be used")
    if wrong:
        raise Failure(f"{wrong} of {len(files)} files cannot be used", ExitCode.USAGE)


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
