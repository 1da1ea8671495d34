"""The tail: the latest revisions in memory, so that watches that keep up read no table."""

from collections import deque
from itertools import islice

from taskloom_server.graph.events import Revision


class Tail:
    """The last so many events, whole revisions at a time. Lives on the event loop.

    Bounded by events, not by watchers: one that falls behind reads the table instead.
    """

    def __init__(self, revision: int, limit: int = 10_000) -> None:
        self._revisions: deque[Revision] = deque()
        self._events = 0
        self._limit = limit
        self._first = revision + 1  # nothing before is here

    def append(self, revision: Revision) -> None:
        """Add the next revision."""
        self._revisions.append(revision)
        self._events += len(revision.events)
        while self._events > self._limit:
            gone = self._revisions.popleft()
            self._events -= len(gone.events)
            self._first = gone.number + 1

    def forget(self, revision: int) -> None:
        """Begin anew after this revision, as after a reset: what was before is no history."""
        self._revisions.clear()
        self._events = 0
        self._first = revision + 1

    def since(self, first: int) -> list[Revision] | None:
        """The revisions from ``first`` on; None when some of them are not here any more."""
        if first < self._first:
            return None
        if not self._revisions:
            return []
        # Revisions have no gaps, so the place of one is a subtraction.
        start = max(0, first - self._revisions[0].number)
        if start > len(self._revisions) // 2:
            behind = len(self._revisions) - start
            return list(islice(reversed(self._revisions), behind))[::-1] if behind > 0 else []
        return list(islice(self._revisions, start, None))
