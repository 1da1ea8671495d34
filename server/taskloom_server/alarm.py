"""The alarm: sees to what is due when it is due, without anybody asking.

It sleeps until the earliest time that it has been told of. What a time belongs to is a name:
a worker, whose leases may end, or nothing, which is all the rest. One time a name is kept, the
earliest: a lease that is renewed moves away without telling, so the alarm may look for nothing,
but never late, and what it keeps does not grow with claims.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable

from taskloom_server.clock import Clock

EVERYTHING_ELSE = ""
_SPARE = 100  # times that nothing is due at any more, beside one for each that counts
_AT_ONCE = 100  # names seen to together, so that other calls come between them


class Alarm:
    """Calls ``meet`` with each name that is due; that returns when something of it is due next."""

    def __init__(self, clock: Clock, meet: Callable[[str], Awaitable[int | None]]) -> None:
        self._clock = clock
        self._meet = meet
        self._due_at: dict[str, int] = {}
        self._times: list[tuple[int, str]] = []
        self._sooner = asyncio.Event()

    def set(self, deadline: int | None, name: str = EVERYTHING_ELSE) -> None:
        """Something of this name is due then, in Unix ms."""
        if deadline is None or deadline >= self._due_at.get(name, deadline + 1):
            return
        if not self._times or deadline < self._times[0][0]:
            self._sooner.set()
        self._due_at[name] = deadline
        heapq.heappush(self._times, (deadline, name))
        if len(self._times) > 2 * len(self._due_at) + _SPARE:
            self._times = [(due_at, name) for name, due_at in self._due_at.items()]
            heapq.heapify(self._times)

    async def run(self) -> None:
        """See to what is due until cancelled."""
        while True:
            self._sooner.clear()
            due = self._take_due()
            for start in range(0, len(due), _AT_ONCE):
                await self._see_to(due[start : start + _AT_ONCE])
            if not due:
                await self._sleep()

    def _take_due(self) -> list[str]:
        """The names that are due, each once; they are forgotten until they are set again."""
        due = []
        now = self._clock.now()
        while self._times and self._times[0][0] <= now:
            deadline, name = heapq.heappop(self._times)
            if self._due_at.get(name) == deadline:
                del self._due_at[name]
                due.append(name)
        return due

    async def _see_to(self, names: Iterable[str]) -> None:
        async def one(name: str) -> None:
            self.set(await self._meet(name), name)

        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(one(name))

    async def _sleep(self) -> None:
        if not self._times:
            await self._sooner.wait()
            return
        waits = {
            asyncio.ensure_future(self._clock.until(self._times[0][0])),
            asyncio.ensure_future(self._sooner.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
