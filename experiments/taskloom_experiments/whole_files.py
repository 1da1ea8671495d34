"""Files that are there whole or not at all, however the process ends that writes them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A file to write instead of ``target``, which it replaces when the context is left.

    Left by an exception it is removed, and ``target`` stays what it was. A process that is killed
    leaves a hidden file beside it: ``.NAME.PID``.
    """
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(target)
    except OSError as error:
        error.filename = str(target)  # nobody was told of the other name
        raise
    finally:
        unfinished.unlink(missing_ok=True)
