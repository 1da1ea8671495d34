"""The clock, so that a test can bring its own."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time, and waits for it."""

    def now(self) -> int:
        """The time in Unix ms."""
        ...

    async def until(self, deadline: int) -> None:
        """Return once it is that time, in Unix ms."""
        ...


class WallClock:
    """The machine's clock."""

    def now(self) -> int:
        """The time in Unix ms."""
        return time.time_ns() // 1_000_000

    async def until(self, deadline: int) -> None:
        """Return once it is that time, in Unix ms."""
        while (left := deadline - self.now()) > 0:  # noqa: ASYNC110  time has no event
            # In parts, so that a clock that is set is noticed.
            await asyncio.sleep(min(left / 1000, 60))
