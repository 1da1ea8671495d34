"""The collector of cycles, at rest while many objects are made that have none.

A collection looks at all objects there are, again each time that they have grown by a quarter: a
quarter of the time of a large import, in which everything goes by its count of references.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_users: list[bool] = []  # those who let it rest, and whether it was at work before the first


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Let it rest within; several threads may at a time."""
    with _lock:
        _users.append(gc.isenabled() or any(_users))
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            was_at_work = _users.pop()
            if was_at_work and not _users:
                gc.enable()
