"""A bar for what takes long to go over the wire: on a terminal, and nowhere else."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from taskloom_client.transfers import Progress

_SHOWN_FROM = 1 << 20  # bytes; what is smaller has come before one could look


@contextmanager
def transferring(what: str, size: int | None = None) -> Iterator[Progress | None]:
    """A bar on standard error, where that is a terminal and the content is worth it.

    ``size`` in bytes; None: not known. None instead of a bar: nobody looks.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - of use to few calls
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    bar = Bar(
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(what, total=size)

    def gone(done: int) -> None:
        if done >= _SHOWN_FROM:
            bar.start()
        bar.update(task, completed=done)

    try:
        yield gone
    finally:
        bar.stop()
