"""The command ``taskloom``: which commands there are, and how the process ends.

A command is a function in the module of its noun. This module puts them together, and is the only
one that ends the process: with an exit code of exits.py, and where something went wrong with one
sentence on standard error.
"""

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from taskloom_client.cli import (
    admin,
    attachments,
    claims,
    diff,
    experiments,
    files,
    gates,
    load,
    output,
    search,
    snapshots,
    task_history,
    task_surface,
    task_views,
    tasks,
    watch,
    workers,
    workflows,
)
from taskloom_client.cli.exits import MEANINGS, ExitCode, Failure
from taskloom_client.cli.serve import serve
from taskloom_client.cli.session import DEFAULT_SERVER, Connection, GlobalServer, Json, Timeout

_EXIT_CODES = "\n".join(f"{code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())

app = typer.Typer(
    name="taskloom",
    epilog=f"Exit codes:\n{_EXIT_CODES}",
    add_completion=True,
    rich_markup_mode="rich",
    no_args_is_help=True,
)


def _say_version(asked: bool) -> None:
    if asked:
        from importlib import metadata  # noqa: PLC0415 - 20 ms that only this option is worth

        try:
            version = metadata.version("taskloom")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        output.print_line(f"taskloom {version}")
        raise typer.Exit


@app.callback()
def taskloom(
    ctx: typer.Context,
    server: GlobalServer = DEFAULT_SERVER,
    timeout: Timeout = None,
    json: Json = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_say_version, help="Say it, and exit."),
    ] = False,
) -> None:
    """A task graph for fleets of agents: serve it, look at it, work on it.

    Times are typed as 90s, 15m, 2h, 1d. The options of a connection and
    --json may stand before or after the command.
    """
    ctx.obj = Connection(server=server, timeout=timeout, json=json)


def _add(panel: str, commands: dict[str, Callable[..., None]]) -> None:
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel)(command)


def _add_group(panel: str, name: str, about: str, commands: dict[str, Callable[..., None]]) -> None:
    group = typer.Typer(help=about, rich_markup_mode="rich", no_args_is_help=True)
    for verb, command in commands.items():
        group.command(verb)(command)
    app.add_typer(group, name=name, rich_help_panel=panel)


_GRAPH, _CLAIMS, _WHOLE = "The graph", "Claims", "The service"

_add_group(
    _GRAPH,
    "task",
    "Add tasks, look at them, change them, link them.",
    {
        "add": tasks.add,
        "list": task_views.list_tasks,
        "search": search.search,
        "show": task_views.show,
        "why": task_views.why,
        "tree": task_views.tree,
        "history": task_history.history,
        "update": tasks.update,
        "signal": tasks.signal,
        "boost": tasks.boost,
        "cancel": tasks.cancel,
        "delete": tasks.delete,
        "link": tasks.link,
        "unlink": tasks.unlink,
        "gates": gates.gates,
        "relink": task_surface.relink,
        "move": task_surface.move,
        "rename": task_surface.rename,
        "restore": task_surface.restore,
        "obliterate": task_surface.obliterate,
        "scan": task_surface.scan,
        "metrics": task_surface.metrics,
    },
)
_add(_GRAPH, {"watch": watch.watch})
_add_group(
    _CLAIMS,
    "worker",
    "Connect and disconnect workers, list them.",
    {
        "list": workers.list_workers,
        "connect": workers.connect,
        "disconnect": workers.disconnect,
        "add-overlay": workers.add_overlay,
        "remove-overlay": workers.remove_overlay,
        "thought": workers.thought,
    },
)
_add(
    _CLAIMS,
    {
        "claim": claims.claim,
        "complete": claims.complete,
        "release": claims.release,
        "fail": claims.fail,
    },
)
_add_group(
    _CLAIMS,
    "file",
    "Mark files as worked on, take locks, see who has them.",
    {"mark": files.mark, "unmark": files.unmark, "list": files.list_marks},
)
_add_group(
    _GRAPH,
    "attachment",
    "Keep results, notes and logs with tasks.",
    {
        "add": attachments.add,
        "get": attachments.get,
        "list": attachments.list_attachments,
        "remove": attachments.remove,
    },
)
_add(
    _WHOLE,
    {
        "serve": serve,
        "status": admin.status,
        "pause": admin.pause,
        "resume": admin.resume,
        "import": snapshots.import_snapshot,
        "export": snapshots.export_snapshot,
        "query": search.query,
        "diff": diff.diff_snapshots,
        "reset": admin.reset,
    },
)
_add_group(
    _WHOLE,
    "workflow",
    "Look at the workflows in force, and check files of them.",
    {"list": workflows.list_workflows, "show": workflows.show, "check": workflows.check},
)
_add_group(
    "Experiments",
    "experiment",
    "Measure how fleets of agents do.",
    {
        "run": experiments.run,
        "sweep": experiments.sweep,
        "compare": experiments.compare,
        "template": experiments.template,
    },
)
_add("Experiments", {"load": load.load, "soak": load.soak})


def main() -> None:
    """Run the command line of this process, and end it."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what the terminal cannot show
    try:
        code = app(prog_name="taskloom", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else ExitCode.OK
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return output.reader_gone()
    except Exception as error:
        sentence, code = _explanation(error)
        if sentence:
            output.note(f"error: {sentence}")
        return code


def _explanation(error: Exception) -> tuple[str, ExitCode]:
    """What to say of an error, and the exit code for it."""
    if isinstance(error, Failure):
        return str(error), error.code
    if type(error).__name__ == "NoArgsIsHelpError":  # typer's, which has shown the help
        return "", ExitCode.USAGE
    if isinstance(error, typer.TyperException):
        said = error.format_message().rstrip(".").replace("Value error, ", "")
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context else ""
        return said[:1].lower() + said[1:] + hint, ExitCode(error.exit_code)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", ExitCode.REFUSED
    if os.environ.get("TASKLOOM_DEBUG"):
        raise error
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{what}, which is a defect of taskloom (TASKLOOM_DEBUG=1 shows where)", ExitCode.REFUSED
