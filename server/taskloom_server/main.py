"""Main: settings, logging, signals, exit codes, and sentences instead of tracebacks."""

import asyncio
import contextlib
import gc
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import structlog

from taskloom_server.logs import configure_logging
from taskloom_server.server import CannotListen, serving
from taskloom_server.settings import Settings, SettingsError, read_settings
from taskloom_server.store.connections import CannotOpen
from taskloom_server.workflow_files import WorkflowFileError

EXIT_FAILED = 1  # the server had to stop: it could not write any more
EXIT_UNUSABLE = 2  # a setting, a file or an address cannot be used
_COLLECT_AFTER = 5_000  # new objects; by default 700


def run(config: Path | None = None, **flags: Any) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    Once it serves, one line on stdout says where: ``taskloom is listening on HOST:PORT``.
    Everything else is logged to stderr.
    """
    try:
        settings = read_settings(config, **flags)
        configure_logging(settings.log_level, settings.log_format)
        _allow_connections()
        return asyncio.run(_serve(settings))
    except (SettingsError, WorkflowFileError, CannotOpen, CannotListen) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_UNUSABLE


def _allow_connections() -> None:
    """Take as many files, and so connections, as the system lets this process have.

    The usual 1,024 would be fewer than there may be watches, each on a connection of its own.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS: says "no limit", and has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def settle() -> None:
    """Let the collector of cycles look seldom, and not at what is there to stay.

    By its defaults it takes a tenth of a call's time, and hardly ever finds anything.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


async def _serve(settings: Settings) -> int:
    log = structlog.get_logger("main")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings) as server:
        settle()
        print(f"taskloom is listening on {server.address}", flush=True)
        reloads: set[asyncio.Task[bool]] = set()

        def reload() -> None:
            task = asyncio.ensure_future(server.reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        log.info("listening", address=server.address, db=str(settings.db))
        stopped = asyncio.ensure_future(stop.wait())
        ends: tuple[asyncio.Future[Any], ...] = (stopped, server.failed)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        log.info("stopping")
    if server.failed.done():
        error = server.failed.result()
        log.error("cannot write any more", error=f"{type(error).__name__}: {error}")
        return EXIT_FAILED
    log.info("stopped")
    return 0
