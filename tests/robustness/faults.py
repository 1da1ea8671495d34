"""Faults: which, in which order, and how each is committed.

The schedule follows from the seed alone. A fault is due after so many calls, not after so much
time, and leaves everything as it should be behind: the server runs, and the relay passes all on.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.robustness.recording import now_ms
from tests.robustness.relay import Relay
from tests.robustness.server_process import ServerProcess

Fault = Callable[["Faults"], Awaitable[None]]

_KINDS: list[Fault] = []


def _kind(fault: Fault) -> Fault:
    _KINDS.append(fault)
    return fault


def schedule(seed: str, count: int) -> list[Fault]:
    """So many faults, each kind about as often as any other, in random order."""
    rng = random.Random(f"{seed}/schedule")
    faults: list[Fault] = []
    while len(faults) < count:
        kinds = list(_KINDS)
        rng.shuffle(kinds)
        faults += kinds
    return faults[:count]


class Faults:
    """Commits faults on one server and one relay."""

    def __init__(self, server: ServerProcess, relay: Relay, seed: str) -> None:
        self.server = server
        self.relay = relay
        self.rng = random.Random(f"{seed}/faults")
        self.committed: Counter[str] = Counter()
        self.times: list[tuple[float, float]] = []  # when, Unix ms

    async def commit(self, fault: Fault) -> None:
        """Commit one, and put everything right again."""
        self.committed[fault.__name__] += 1
        start = now_ms()
        try:
            await fault(self)
        finally:
            self.times.append((start, now_ms()))

    async def begin(self) -> None:
        """Start the server, and let everybody to it."""
        await self.server.start()
        self.relay.upstream_port = self.server.port


@_kind
async def kill(faults: Faults) -> None:
    """kill -9, and a new start, at once or after a while."""
    await faults.server.kill()
    await asyncio.sleep(faults.rng.choice((0, 0, 0.5, 1.5)))
    await faults.begin()


@_kind
async def kill_under_load(faults: Faults) -> None:
    """kill -9 while answers are kept from clients: what they were is in the file alone."""
    links = faults.relay.some(faults.rng, 0.7)
    for link in links:
        link.deaf_to_server = True
    await asyncio.sleep(faults.rng.uniform(0.01, 0.2))
    await faults.server.kill()
    faults.relay.cut(links, reset=True)
    await faults.begin()


@_kind
async def restart(faults: Faults) -> None:
    """SIGTERM, and a new start."""
    faults.server.restarts += 1
    await faults.server.terminate()
    await faults.begin()


@_kind
async def stop_and_continue(faults: Faults) -> None:
    """SIGSTOP and SIGCONT, for longer than the shortest leases sometimes."""
    await faults.server.pause(faults.rng.choice((0.05, 0.3, 1.3, 2.2)))


@_kind
async def cut_all(faults: Faults) -> None:
    """Every connection breaks at once."""
    faults.relay.cut(list(faults.relay.links), reset=faults.rng.random() < 0.5)
    await asyncio.sleep(0)


@_kind
async def cut_some(faults: Faults) -> None:
    """Some connections break, one after the other."""
    for link in faults.relay.some(faults.rng, 0.4):
        if link in faults.relay.links:
            faults.relay.cut([link], reset=faults.rng.random() < 0.5)
        await asyncio.sleep(faults.rng.uniform(0, 0.05))


@_kind
async def cut_in_the_middle(faults: Faults) -> None:
    """Some connections break in the middle of what is sent."""
    links = faults.relay.some(faults.rng, 0.4)
    for link in links:
        link.partial = True
    await asyncio.sleep(0.5)
    faults.relay.cut([link for link in links if link in faults.relay.links], reset=False)


@_kind
async def delay(faults: Faults) -> None:
    """Some connections are slow."""
    links = faults.relay.some(faults.rng, 0.5)
    for link in links:
        link.delay = faults.rng.uniform(0.02, 0.4)
    await asyncio.sleep(faults.rng.uniform(0.3, 1.5))
    for link in links:
        link.delay = 0.0


@_kind
async def delay_and_cut(faults: Faults) -> None:
    """Some connections are slow, and break while things are under way on them."""
    links = faults.relay.some(faults.rng, 0.5)
    for link in links:
        link.delay = faults.rng.uniform(0.05, 0.2)
    await asyncio.sleep(faults.rng.uniform(0.1, 0.5))
    faults.relay.cut([link for link in links if link in faults.relay.links], reset=True)


@_kind
async def fall_silent(faults: Faults) -> None:
    """Some connections swallow everything, and break in the end."""
    links = faults.relay.some(faults.rng, 0.4)
    for link in links:
        link.silent = True
    await asyncio.sleep(faults.rng.uniform(0.3, 3.5))
    faults.relay.cut(links, reset=faults.rng.random() < 0.5)


@_kind
async def swallow_answers(faults: Faults) -> None:
    """The server hears everything on some connections, and its answers are lost."""
    links = faults.relay.some(faults.rng, 0.6)
    for link in links:
        link.deaf_to_server = True
    await asyncio.sleep(faults.rng.uniform(0.05, 0.8))
    faults.relay.cut(links, reset=faults.rng.random() < 0.5)


@_kind
async def turn_away(faults: Faults) -> None:
    """Nobody can connect for a while, and everybody has to."""
    faults.relay.refusing = True
    faults.relay.cut(list(faults.relay.links), reset=False)
    await asyncio.sleep(faults.rng.uniform(0.1, 1.0))
    faults.relay.refusing = False
