"""The disk alone: what it takes to have a little written for good, as every commit must."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_WRITTEN = bytes(8192)


@contextlib.contextmanager
def syncing(folder: Path) -> Iterator[Callable[[], int]]:
    """A function that writes eight KiB to a file in the folder and has them synced.

    It blocks, and returns how many nanoseconds it took.
    """
    with (folder / "synced").open("wb") as file:

        def sync() -> int:
            began = time.monotonic_ns()
            os.pwrite(file.fileno(), _WRITTEN, 0)
            os.fdatasync(file.fileno())
            return time.monotonic_ns() - began

        yield sync
