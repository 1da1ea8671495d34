"""An event loop in which nobody sleeps: when nothing is to be done, it is later at once.

Its time begins at 0 and is that of the next timer whenever all that is ready has run. So what
happens in it is the same on a slow machine and on a fast one. The idea is an old one: asyncio asks
its selector to wait until the next timer, and this one only says that it has.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

_TURNS_BETWEEN_LOOKS = 256
"""Turns of the loop between two looks at what comes from other threads. A look costs 2 µs."""


class _LeapingSelector(selectors.DefaultSelector):
    """Waits for nothing but what comes from outside when there is nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What has come from outside. Where nothing is ready, it is the next timer's time."""
        if timeout is None:
            return super().select(None)
        if timeout > 0:
            self.now += timeout
        self._turns += 1
        return [] if self._turns % _TURNS_BETWEEN_LOOKS else super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. What would be run in a thread is run at once, and takes no time."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        """Seconds since the loop was made, as it sees them."""
        return self._leaping.now

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Run it now."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class VirtualClock:
    """The loop's time as a server's: Unix ms, ``epoch`` at the beginning."""

    def __init__(self, loop: VirtualLoop, epoch: int) -> None:
        self._loop = loop
        self._epoch = epoch

    def now(self) -> int:
        """The time in Unix ms."""
        return self._epoch + int(self._loop.time() * 1000 + 1e-6)

    async def until(self, deadline: int) -> None:
        """Return once it is that time, in Unix ms."""
        while (left := deadline - self.now()) > 0:  # noqa: ASYNC110  time has no event
            await asyncio.sleep(left / 1000)
