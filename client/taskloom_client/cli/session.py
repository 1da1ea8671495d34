"""From a command line to a server: the options that all commands share, and the one place where
a client is opened, a coroutine run, and an error put into a sentence.
"""

import asyncio
import inspect
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from taskloom_client import client, errors
from taskloom_client.cli import output
from taskloom_client.cli.exits import ExitCode, Failure, for_status
from taskloom_client.cli.values import parse_address, parse_timeout

if TYPE_CHECKING:
    from google.protobuf.message import Message

T = TypeVar("T")

DEFAULT_SERVER = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 30.0

_PANEL = "Connection and output"

# Before the subcommand, with the defaults; and after it, where an absent one leaves what was said
# before. People type both.
GlobalServer = Annotated[
    str,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        envvar="TASKLOOM_SERVER",
        parser=parse_address,
        help="Where the server listens.",
        rich_help_panel=_PANEL,
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        parser=parse_address,
        help=f"Where the server listens; else $TASKLOOM_SERVER, else {DEFAULT_SERVER}.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        parser=parse_timeout,
        help="How long to wait for an answer, such as 5s; else 30s, snapshots 10m.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document, for programs.", rich_help_panel=_PANEL),
]


@dataclass(frozen=True)
class Connection:
    """Where the server is, how long to wait for an answer, and how to print it."""

    server: str = DEFAULT_SERVER
    timeout: float | None = None
    """Seconds; None when the user did not say."""
    json: bool = False


@dataclass(frozen=True)
class Session:
    """An open client, and what the user said about waiting and printing."""

    client: "client.Client"
    connection: Connection

    @property
    def json(self) -> bool:
        """Print for programs."""
        return self.connection.json

    def patience(self, seconds: float) -> float:
        """How long to wait for a call that takes longer than others, unless the user said."""
        return self.connection.timeout or seconds

    def tell(self, answer: "Message", sentence: str) -> None:
        """Print what a call did: the whole answer for programs, a sentence for people."""
        if self.json:
            output.print_json(output.as_json(answer))
        else:
            output.print_line(sentence)


def run(connection: Connection, work: Callable[[Session], Awaitable[T]]) -> T:
    """Open a client, do the work with it, close it; refusals become Failure."""
    # gRPC's own log lines are no sentences; what they are about comes as an error as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        return asyncio.run(_with_client(connection, work))
    except errors.TaskloomError as error:
        sentence = str(error)
        code = for_status(error.code.name)
        if code is ExitCode.UNREACHABLE and isinstance(error, errors.Unavailable):
            sentence += "" if error.reason else "; 'taskloom serve' starts one"
        raise Failure(sentence, code) from error
    except BrokenPipeError:
        # Not left to typer, which would make it an exit code of 1.
        raise typer.Exit(output.reader_gone()) from None


async def _with_client(connection: Connection, work: Callable[[Session], Awaitable[T]]) -> T:
    timeout = connection.timeout or DEFAULT_TIMEOUT
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    interrupted = False

    def insist() -> None:
        # Again and again: under load a cancellation was seen to get lost within grpc.aio.
        nonlocal interrupted
        interrupted = True
        if task is not None and not task.done():
            task.cancel()
            loop.call_later(0.2, insist)

    loop.add_signal_handler(signal.SIGINT, insist)
    try:
        async with client.Client(connection.server, timeout=timeout) as opened:
            return await work(Session(opened, connection))
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise


def remote(
    work: Callable[..., Awaitable[None]], *, ask: Callable[..., None] | None = None
) -> Callable[..., None]:
    """Make a typer command of a coroutine function that wants a session.

    The command has the parameters of the function but the first, and the options of a connection.
    ``ask`` is called with the arguments before: outside of any event loop, so that Ctrl-C ends
    its question.
    """

    @wraps(work)
    def command(
        ctx: typer.Context,
        server: str | None,
        timeout: float | None,
        json: bool,
        **arguments: Any,
    ) -> None:
        check_text(arguments)
        if ask is not None:
            ask(**arguments)
        given = connection(ctx, server=server, timeout=timeout, json=json)
        run(given, lambda session: work(session, **arguments))

    signature = inspect.signature(work)
    _, *own = signature.parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("server", keyword, default=None, annotation=Server),
        inspect.Parameter("timeout", keyword, default=None, annotation=Timeout),
        inspect.Parameter("json", keyword, default=False, annotation=Json),
    ]
    context = inspect.Parameter(
        "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    parameters = [context, *(p.replace(kind=keyword) for p in own), *shared]
    # typer looks at both, and would else follow __wrapped__ to the coroutine function.
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=None
    )
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def connection(
    ctx: typer.Context, *, server: str | None, timeout: float | None, json: bool
) -> Connection:
    """What was said before the subcommand, overridden by what was said after it."""
    said: Connection = ctx.obj
    return replace(
        said,
        server=server or said.server,
        timeout=timeout or said.timeout,
        json=json or said.json,
    )


def check_text(arguments: dict[str, Any]) -> None:
    """Refuse arguments that are no Unicode text; messages carry nothing else."""
    for value in arguments.values():
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str) and not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise Failure(f"{text!a} is not valid UTF-8", ExitCode.USAGE) from None
