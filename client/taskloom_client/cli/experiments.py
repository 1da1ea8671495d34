"""Measuring how fleets of agents do: run a definition, compare runs."""

from pathlib import Path
from typing import Annotated

import typer

from taskloom_client import PULLS
from taskloom_client.cli.exits import missing_extra

Charts = Annotated[bool, typer.Option("--charts/--no-charts", help="Draw them as PNG.")]

Repeat = Annotated[
    int,
    typer.Option("--repeat", metavar="N", help="Each run so often, by seeds from --seed on."),
]


def run(
    *,
    definition: Annotated[
        Path, typer.Argument(metavar="DEFINITION", help="A YAML file.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Where the results go; runs made again replace themselves there, others stay.",
        ),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option("--speed", metavar="FACTOR", help="So much faster than the estimates say."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Of the noise on the estimates.")
    ] = 1,
    pull: Annotated[
        list[str] | None,
        typer.Option(
            "--pull",
            metavar="|".join(PULLS),
            help="How agents get their tasks, else in all these ways; repeatable.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="NAME", help="Only this run; repeatable."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="End a run that takes longer.", min=0),
    ] = None,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="On a virtual clock, without processes and waiting."),
    ] = False,
    repeat: Repeat = 1,
    charts: Charts = True,
) -> None:
    """Run an experiment: servers and agents of its own, then a report.

    Exits with 0 when every required criterion holds, 1 when one does not,
    2 for wrong input, 3 when the results are partial, and 128 plus the number
    of the signal when interrupted.
    """
    try:
        from taskloom_experiments.commands import run_command  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise missing_extra("experiments", error.name) from error
    code = run_command(
        definition,
        output=output,
        speed=speed,
        seed=seed,
        pull=list(pull or ()),
        runs=list(only or ()),
        template=None,
        workflow=None,
        agents=None,
        timeout=timeout,
        charts=charts,
        simulate=simulate,
        repeat=repeat,
    )
    raise typer.Exit(code)


def sweep(
    *,
    definition: Annotated[
        Path, typer.Argument(metavar="DEFINITION", help="A YAML file.", show_default=False)
    ],
    over: Annotated[
        str,
        typer.Option(
            "--over",
            metavar="KEY=A,B,...",
            help="agents, decision_s, crash_rate or template, and its values.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where the results go.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="NAME", help="Only this run; repeatable."),
    ] = None,
    template_file: Annotated[
        Path | None,
        typer.Option("--template", metavar="FILE", help="Instead of the definition's."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Of the noise on the estimates.")
    ] = 1,
    repeat: Repeat = 5,
    charts: Charts = True,
) -> None:
    """Simulate a definition from value to value: who overtakes whom, and where.

    Of each mode and way of pulling one run is made, that with the most agents.
    """
    try:
        from taskloom_experiments.commands import sweep_command  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise missing_extra("experiments", error.name) from error
    code = sweep_command(
        definition,
        over=over,
        output=output,
        runs=list(only or ()),
        template=template_file,
        seed=seed,
        repeat=repeat,
        charts=charts,
    )
    raise typer.Exit(code)


def compare(
    *,
    databases: Annotated[
        list[Path],
        typer.Argument(metavar="DATABASE", help="A tasks.db a run.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PREFIX", help="What the files begin with.")
    ] = Path("comparison"),
    labels: Annotated[
        str, typer.Option("--labels", metavar="A,B,...", help="Names of the runs, in order.")
    ] = "",
    definition: Annotated[
        Path | None,
        typer.Option("--definition", metavar="FILE", help="Whose metrics and criteria to use."),
    ] = None,
    charts: Charts = True,
) -> None:
    """Compare the databases of runs, as a report with charts."""
    try:
        from taskloom_experiments.commands import compare_command  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise missing_extra("experiments", error.name) from error
    code = compare_command(
        databases,
        labels=[label.strip() for label in labels.split(",")] if labels else [],
        charts=charts,
        output=output,
        definition=definition,
    )
    raise typer.Exit(code)


def template(
    *,
    tasks: Annotated[int, typer.Option("--tasks", metavar="N", help="To be worked.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Gzipped, if it ends on .gz.")
    ],
    shape: Annotated[
        str, typer.Option("--shape", metavar="flat|phased|chains", help="What waits for what.")
    ] = "flat",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of estimates.")] = 1,
) -> None:
    """Make up a template of any size, for the run of an experiment."""
    try:
        from taskloom_experiments.commands import template_command  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise missing_extra("experiments", error.name) from error
    raise typer.Exit(template_command(tasks, shape, seed, output))
