"""The tail: the latest revisions in memory, so that watches that keep up read no table."""

from collections import deque
from itertools import islice

from taskloom_server.graph.events import Event, Revision
from taskloom_server.graph.tasks import Task


class Tail:
    """The last so many events, whole revisions at a time. Lives on the event loop.

    Bounded by events and by their texts, not by watchers: one that falls behind reads the table
    instead.
    """

    def __init__(self, revision: int, limit: int = 10_000, text_limit: int = 16 << 20) -> None:
        """``text_limit``: of characters in the descriptions of tasks, which make up the most."""
        self._revisions: deque[Revision] = deque()
        self._events = 0
        self._text = 0
        self._limit = limit
        self._text_limit = text_limit
        self._first = revision + 1  # nothing before is here

    def append(self, revision: Revision) -> None:
        """Add the next revision; where its events are in the table alone, begin anew after it."""
        if not revision.events:
            self.forget(revision.number)
            return
        self._revisions.append(revision)
        self._events += len(revision.events)
        self._text += sum(map(_text, revision.events))
        while self._events > self._limit or self._text > self._text_limit:
            gone = self._revisions.popleft()
            self._events -= len(gone.events)
            self._text -= sum(map(_text, gone.events))
            self._first = gone.number + 1

    def forget(self, revision: int) -> None:
        """Begin anew after this revision, as after a reset: what was before is no history."""
        self._revisions.clear()
        self._events = self._text = 0
        self._first = revision + 1

    def since(self, first: int, about: int) -> list[Revision] | None:
        """The revisions from ``first`` on, about so many events of them.

        None when they are not here any more.
        """
        if first < self._first:
            return None
        if not self._revisions:
            return []
        # Revisions have no gaps, so the place of one is a subtraction, and each has an event.
        start = max(0, first - self._revisions[0].number)
        end = min(len(self._revisions), start + about)
        if start > len(self._revisions) // 2:
            behind = len(self._revisions) - start
            taken = list(islice(reversed(self._revisions), behind))[::-1] if behind > 0 else []
        else:
            taken = list(islice(self._revisions, start, end))
        events = 0
        for n, revision in enumerate(taken, 1):
            events += len(revision.events)
            if events >= about:
                return taken[:n]
        return taken


def _text(event: Event) -> int:
    return len(event.after.description) if isinstance(event.after, Task) else 0
