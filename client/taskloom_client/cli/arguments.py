"""Arguments and options that several commands have, said once."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, get_args

import typer

from taskloom_client.cli.values import parse_duration, parse_moment, parse_number, parse_revision

DependencyName = Literal["blocks", "follows", "contains", "duplicate", "see-also", "relates-to"]
DEPENDENCY_NAMES: tuple[str, ...] = get_args(DependencyName)

TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task.", show_default=False)]
Worker = Annotated[
    str,
    typer.Option(
        "--worker",
        "-w",
        metavar="WORKER",
        envvar="TASKLOOM_WORKER",
        show_envvar=True,
        help="The worker, as it connected.",
        show_default=False,
    ),
]
# Not from the environment: a change in a worker's name may be refused where a person's is not.
OnBehalfOf = Annotated[
    str,
    typer.Option(
        "--worker", "-w", metavar="WORKER", help="The worker that does it; else a person."
    ),
]
ClaimRevision = Annotated[
    int,
    typer.Option(
        "--claim-revision",
        metavar="REVISION",
        parser=parse_revision,
        help="Refuse unless the claim is still this one.",
        show_default=False,
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
Lease = Annotated[
    timedelta | None,
    typer.Option(
        "--lease",
        metavar="TIME",
        parser=parse_duration,
        help="How long claims last without a sign of life, such as 15m.",
        show_default=False,
    ),
]

# Fields of a task, as `task add` and `task update` take them.
Priority = Annotated[
    int | None,
    typer.Option("--priority", "-p", min=0, max=10, metavar="0-10", help="Higher goes first."),
]
Points = Annotated[
    int | None, typer.Option("--points", metavar="N", parser=parse_number, help="Its size.")
]
Estimate = Annotated[
    timedelta | None,
    typer.Option(
        "--estimate",
        metavar="TIME",
        parser=parse_duration,
        help="How long it should take, such as 90m; 0s: not estimated.",
    ),
]
NotBefore = Annotated[
    datetime | None,
    typer.Option(
        "--not-before",
        metavar="WHEN",
        parser=parse_moment,
        help="It cannot be taken before: 2h from now, or 2026-05-01T09:00 (local time).",
    ),
]
RetryDelay = Annotated[
    timedelta | None,
    typer.Option(
        "--retry-delay",
        metavar="TIME",
        parser=parse_duration,
        help="It rests so long after a failed attempt, doubled with each; 0s: not at all.",
        show_default=False,
    ),
]
MaxAttempts = Annotated[
    int | None,
    typer.Option(
        "--max-attempts",
        min=1,
        max=1000,
        metavar="N",
        help="It fails when so many claims ended without its completion.",
    ),
]

Force = Annotated[
    bool,
    typer.Option("--force", help="Go past gates that may be forced; the history says that it was."),
]
