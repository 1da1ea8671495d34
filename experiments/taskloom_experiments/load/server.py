"""The server process of a measurement: taskloom's own, with the no-op calls beside its services.

    python -m taskloom_experiments.load.server DATABASE [NAME=VALUE...]

Settings are given by name. It says where it listens as ``taskloom serve`` does, and on a second
line where a bare grpc.aio server of the same process serves the no-op calls alone.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpc import aio
from taskloom_server.logs import configure_logging
from taskloom_server.main import settle
from taskloom_server.server import serving
from taskloom_server.settings import Settings, read_settings

from taskloom_experiments.load.noop import add_noop

LISTENING = "taskloom is listening on "
BARE = "without interceptors: "


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    bare = aio.server()
    add_noop(bare)
    port = bare.add_insecure_port("127.0.0.1:0")
    async with serving(settings, also=add_noop) as server:
        await bare.start()
        settle()
        print(f"{LISTENING}{server.address}\n{BARE}127.0.0.1:{port}", flush=True)
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait((stopped, server.failed), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await bare.stop(0)


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM."""
    database, *rest = arguments
    given: dict[str, Any] = {"listen": "127.0.0.1:0"}
    given |= dict(one.split("=", 1) for one in rest)
    settings = read_settings(None, db=Path(database), **given)
    configure_logging("warning", "json")
    asyncio.run(_serve(settings))


if __name__ == "__main__":
    main(sys.argv[1:])
