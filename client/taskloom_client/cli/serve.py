"""Running the service. What a flag leaves out comes from the environment or the YAML file."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from taskloom_client.cli.exits import missing_extra


def serve(
    *,
    db: Annotated[
        Path | None, typer.Option("--db", metavar="FILE", help="The database, made if absent.")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Where to; else 127.0.0.1:50051; port 0: any."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="A YAML file of settings.")
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option("--log-level")
    ] = None,
    log_format: Annotated[
        Literal["auto", "console", "json"] | None,
        typer.Option("--log-format", help="auto: for people on a terminal, else JSON."),
    ] = None,
    workflow_dir: Annotated[
        Path | None,
        typer.Option("--workflow-dir", metavar="DIR", help="Workflow files beside the built-in."),
    ] = None,
    default_workflow: Annotated[
        str | None,
        typer.Option("--default-workflow", metavar="NAME", help="For tasks that name none."),
    ] = None,
) -> None:
    """Run the server, until Ctrl-C or SIGTERM."""
    try:
        from taskloom_server.main import run  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise missing_extra("server", error.name) from error
    flags: dict[str, Any] = {
        "db": db,
        "listen": listen,
        "config": config,
        "log_level": log_level,
        "log_format": log_format,
        "workflow_dir": workflow_dir,
        "default_workflow": default_workflow,
    }
    raise typer.Exit(run(**{name: value for name, value in flags.items() if value is not None}))
