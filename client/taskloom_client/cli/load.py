"""Measuring the server: load of any kind, and what it makes of it."""

from pathlib import Path
from typing import Annotated

import typer

from taskloom_client.cli import output as out
from taskloom_client.cli.exits import missing_extra


def load(
    *,
    scenarios: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENARIO]...", help="Else all of them.", show_default=False),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Where the report goes, and graphs."),
    ] = Path("results/bench"),
    agents: Annotated[
        int, typer.Option("--agents", metavar="N", help="Who call at once.", min=1, max=10_000)
    ] = 64,
    tasks: Annotated[
        list[int] | None,
        typer.Option(
            "--tasks",
            metavar="N",
            help="Sizes of graphs, else each scenario's own; repeatable.",
            min=100,
            max=10_000_000,
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option("--rounds", metavar="N", help="Of which the median is told.", min=1, max=999),
    ] = 9,
    seconds: Annotated[
        float,
        typer.Option("--seconds", metavar="S", help="Of each turn in a round.", min=0.05, max=600),
    ] = 1.0,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare",
            metavar="A B",
            help="Measure nothing: two outputs beside each other.",
            show_default=False,
        ),
    ] = None,
    names: Annotated[
        bool, typer.Option("--list", help="Measure nothing: which scenarios there are.")
    ] = False,
) -> None:
    """Measure how fast the server is and what it needs, beside calls that do nothing.

    Servers and load generators are processes of its own, gone when it ends.
    Linux only. Exits with 0 also where a bar is missed: the report says it. 1
    when something could not be measured, 2 for wrong input, 128 plus the
    number of the signal when interrupted; what was measured until then stays.
    """
    try:
        from taskloom_experiments.load import commands  # noqa: PLC0415 - an extra
        from taskloom_experiments.load.scenarios import SCENARIOS, Choice  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise missing_extra("experiments", error.name) from error
    if names:
        for name, one in SCENARIOS.items():
            out.print_line(f"{name:14}{one.about}; about {one.minutes:g} min")
        raise typer.Exit
    if compare is not None:
        raise typer.Exit(commands.compare_command(*compare))
    choice = Choice(agents, tuple(sorted(tasks or ())), rounds, seconds)
    raise typer.Exit(commands.load_command(scenarios or (), output, choice))


def soak(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the report goes.")
    ] = Path("results/soak"),
    minutes: Annotated[
        float,
        typer.Option("--minutes", metavar="N", help="For how long.", min=0.2, max=100_000),
    ] = 60.0,
    every: Annotated[
        float,
        typer.Option("--every", metavar="S", help="How often it is looked at.", min=0.5, max=600),
    ] = 10.0,
    rest: Annotated[
        float,
        typer.Option(
            "--rest",
            metavar="S",
            help="Of each client between two rounds, on the average.",
            min=0,
            max=60,
        ),
    ] = 1.0,
) -> None:
    """See whether a server grows on which clients come and go for long.

    Connections and streams are opened and cancelled all the time, by agents of
    all kinds, watches and uploads; memory, open files, threads, the database
    and its log at the end are compared with those after five minutes (of a
    shorter run: after half of it).
    Linux only. Exits with 0, or 1 where something grew more than it may, 2 for
    wrong input, 128 plus the number of the signal when interrupted; what was
    seen until then is reported.
    """
    try:
        from taskloom_experiments.load import commands  # noqa: PLC0415 - an extra
        from taskloom_experiments.load.soak import SoakSettings  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise missing_extra("experiments", error.name) from error
    settings = SoakSettings(seconds=60 * minutes, every_s=every, rest_s=rest)
    raise typer.Exit(commands.soak_command(output, settings))
