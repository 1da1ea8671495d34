"""SIGINT and SIGTERM as something that code can be ready for.

Inside a scope a signal cancels what goes on and comes out as Interrupted, so that there is time to
put away what was half done; between scopes it is remembered until the next one begins. Who insists
with a second signal cancels the whole task, and then children are killed rather than asked.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A signal asked to stop; the text is a clause such as "interrupted by SIGINT"."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"interrupted by {number.name}")


class Interruption:
    """The signals that arrived while a task was at work."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._scoped = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals for the current task; afterwards they do what they did before."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._arrived, number, task)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])

    @contextlib.asynccontextmanager
    async def scope(self) -> AsyncIterator[None]:
        """Code that a signal may end. Raises Interrupted, also for a signal from before."""
        self._raise_if_signalled()
        task = asyncio.current_task()
        assert task is not None
        self._scoped = True
        try:
            yield
        except asyncio.CancelledError:
            if task.uncancel() == 0:
                self._raise_if_signalled()
            raise
        finally:
            self._scoped = False

    def _raise_if_signalled(self) -> None:
        if self.signal is not None:
            raise Interrupted(self.signal) from None

    def _arrived(self, number: signal.Signals, task: asyncio.Task[object]) -> None:
        insists = self.signal is not None
        if self.signal is None:
            self.signal = number
        if self._scoped or insists:
            task.cancel()
