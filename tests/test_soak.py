"""The short form of ``make soak``: nothing is left of clients that came and went.

Server and clients are in this process, so that what either forgets shows. What they have open and
hold after a few rounds of everything, when caches have filled, is compared with what it is after
more of them.
"""

import asyncio
import contextlib
import functools
import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from taskloom import v1
from taskloom_client import Client
from taskloom_experiments.load.commotion import Stage, play, set_up
from taskloom_server.service import show
from taskloom_server.store.connections import WAL_LIMIT
from taskloom_server.store.tail import Tail

WARM_UP, ROUNDS = 2, 6
# Pools start their threads when they are first needed.
POOLS = ("reader", "media", "asyncio")
MORE_DESCRIPTORS = 4  # gRPC's own
MORE_TASKS = 5  # of the loop's and the server's own, and of the call that looks
# Some forty connections and two hundred calls a round: what one of them left would be more.
MORE_OBJECTS = 40
# The loop's own timers that were cancelled: it forgets them when there are many. And what a cache
# keeps, up to a number: aspects, which are tuples of tuples.
NOT_COUNTED = {
    "asyncio.events.TimerHandle",
    "_contextvars.Context",
    "taskloom_server.graph.events.Aspect",
    "builtins.tuple",
}
TAIL = 10  # events in memory, so that they are as many before as after
AT_REST_S = 30.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is asked")


def _descriptors(but: Path) -> Counter[str]:
    """What is open, by kind (socket, pipe, ...); but not the database, by as many as read it."""
    kinds: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that by which they are listed
            target = os.readlink(entry)
            if not target.startswith(str(but)):
                kinds[target.partition("[")[0]] += 1
    return kinds


def _own_threads() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return sorted(name for name in names if not name.startswith(POOLS))


def _tasks() -> int:
    return len(asyncio.all_tasks())


def _objects() -> Counter[str]:
    # Times that are shared by messages: they are bounded, and more are different on a busy machine.
    show.timestamp.cache_clear()
    show.duration.cache_clear()
    for _ in range(3):
        gc.collect()
    kinds = (type(one) for one in gc.get_objects())
    counted = Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    for name in NOT_COUNTED:
        del counted[name]
    return counted


async def _at_rest(client: Client, tasks: int, db: Path, descriptors: int) -> None:
    """Return when what was broken off has ended at the server, too, or has had time enough.

    A closed channel of gRPC keeps its socket until the calls on it are collected.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(AT_REST_S):
            gc.collect()
            while _tasks() > tasks or _descriptors(db).total() > descriptors:
                gc.collect()
                await client.admin.GetStatus(v1.GetStatusRequest())


async def _grown_for_good(client: Client, before: Counter[str]) -> dict[str, int]:
    """Of what there are more objects than before; what is only not gone yet has time to go."""
    deadline = asyncio.get_running_loop().time() + AT_REST_S
    while True:
        found = _objects()
        found.subtract(before)
        grown = {name: more for name, more in found.items() if more > MORE_OBJECTS}
        if not grown or asyncio.get_running_loop().time() > deadline:
            return grown
        await client.admin.GetStatus(v1.GetStatusRequest())


def _checkpoint(path: Path) -> tuple[int, int]:
    """Pages in the log, and how many of them nobody's open transaction keeps there."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.pragma("user_version")  # the log is opened when something is read
        return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


async def test_nothing_is_left_of_those_who_came_and_went(
    start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open files, tasks, threads, objects and the log are as before, however many came and went."""
    monkeypatch.setattr("taskloom_server.server.Tail", functools.partial(Tail, limit=TAIL))
    async with start_server(history_revisions=200) as server, Client(server.address) as client:
        stage = Stage(server.address, linger_s=0.2)
        await set_up(stage)
        tasks, descriptors = (
            _tasks() + MORE_TASKS,
            _descriptors(server.db).total() + MORE_DESCRIPTORS,
        )
        threads = _own_threads()
        await play(stage, rounds=WARM_UP)
        await _at_rest(client, tasks, server.db, descriptors)
        before = _objects()

        await play(stage, rounds=ROUNDS)
        await _at_rest(client, tasks, server.db, descriptors)

        assert _tasks() <= tasks
        found = _descriptors(server.db)
        assert found.total() <= descriptors, found
        assert _own_threads() == threads
        assert await _grown_for_good(client, before) == {}
        log, free = _checkpoint(server.db)
        assert log == free
        assert server.db.with_name(f"{server.db.name}-wal").stat().st_size <= WAL_LIMIT
