"""The alarm: meets deadlines when they are due, without anybody asking.

It sleeps until the earliest deadline that it has been told of. Leases that are renewed move
theirs away without telling, so it may wake for nothing, but never late.
"""

import asyncio
from collections.abc import Awaitable, Callable

from taskloom_server.clock import Clock


class Alarm:
    """Calls ``meet`` whenever something is due; that returns when the next is."""

    def __init__(self, clock: Clock, meet: Callable[[], Awaitable[int | None]]) -> None:
        self._clock = clock
        self._meet = meet
        self._deadline: int | None = None
        self._sooner = asyncio.Event()

    def set(self, deadline: int | None) -> None:
        """Something is due then, in Unix ms."""
        if deadline is not None and (self._deadline is None or deadline < self._deadline):
            self._deadline = deadline
            self._sooner.set()

    async def run(self) -> None:
        """Meet deadlines until cancelled."""
        while True:
            self._sooner.clear()
            if self._deadline is None:
                await self._sooner.wait()
                continue
            waits = {
                asyncio.ensure_future(self._clock.until(self._deadline)),
                asyncio.ensure_future(self._sooner.wait()),
            }
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if self._deadline <= self._clock.now():
                self._deadline = None
                self.set(await self._meet())
