"""The feed: tells who waits that a revision has been committed in which there may be something.

It holds no events, and lives on the event loop. Who waits says by keys what it is about, and each
revision has keys: a watch that is about something else is not woken, so that a thousand watches
at rest cost a commit nothing.
"""

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence

from taskloom_server.graph.events import Revision

_LOOKED_AT = 500
"""Events of a revision at the most: to look at more would hold up everybody."""


class Feed:
    """The latest revision, and those who wait for a later one."""

    def __init__(
        self,
        revision: int,
        incarnation: str,
        keys_of: Callable[[Revision], Collection[Hashable]],
    ) -> None:
        """``keys_of``: all by which somebody may wait for a revision."""
        self.revision = revision
        self.incarnation = incarnation
        self.closed = False
        self._keys_of = keys_of
        self._waiting: dict[Hashable, set[asyncio.Future[int]]] = {}

    def announce(self, revision: int, incarnation: str, revisions: Sequence[Revision]) -> None:
        """The revision is now this one, since these. Called on the event loop."""
        if (revision, incarnation) == (self.revision, self.incarnation):
            return
        is_new_life = incarnation != self.incarnation
        self.revision, self.incarnation = revision, incarnation
        if is_new_life:
            self._wake(list(self._waiting), revision)
            return
        for one in revisions:
            if not self._waiting:
                break
            # What has no events in memory may have anything in it, and so may what has very many.
            few = 0 < len(one.events) <= _LOOKED_AT
            self._wake(self._keys_of(one) if few else list(self._waiting), one.number)

    def close(self) -> None:
        """There will be no later revision: the server is going."""
        self.closed = True
        self._wake(list(self._waiting), self.revision + 1)

    async def until(
        self, revision: int, incarnation: str, keys: Iterable[Hashable], deadline: float
    ) -> int:
        """The first revision after this one that has one of the keys.

        By the deadline, in the loop's time, the one that will follow the latest. At once, and no
        more than the next one, where there are later ones already, or will never be any.
        """
        if self.revision > revision or self.incarnation != incarnation or self.closed:
            return revision + 1
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        keys = tuple(keys)
        for key in keys:
            self._waiting.setdefault(key, set()).add(future)
        timer = loop.call_at(deadline, self._expire, future)
        try:
            return max(revision + 1, await future)
        finally:
            timer.cancel()
            for key in keys:
                self._waiting[key].discard(future)
                if not self._waiting[key]:
                    del self._waiting[key]

    def _expire(self, future: "asyncio.Future[int]") -> None:
        if not future.done():
            future.set_result(self.revision + 1)

    def _wake(self, keys: Iterable[Hashable], number: int) -> None:
        for key in keys:
            for future in self._waiting.get(key, ()):
                if not future.done():  # else it has been told of an earlier one
                    future.set_result(number)
