"""The line of those who wait for a task: first come, first served, and nobody woken in vain.

A verb that finds nothing may answer ``Waiting``: ask me again when a task is ready that these
tags admit. Its job then stands in line, and costs nothing until that moment. Who stands in line
is a matter of the process, not of the file: after a restart the callers come again.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

J = TypeVar("J")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A verb's answer: nothing yet.

    ``tags`` are the worker's, which decide on the groups of ready tasks that it may draw on;
    ``scope`` is the task below which it looks, empty for anywhere. It is asked again at
    ``again_at`` at the latest, in Unix ms, when the wait is over or a rest has passed.
    """

    tags: tuple[str, ...]
    scope: str
    again_at: int


class WaitingLine(Generic[J]):
    """Jobs that wait, in the order in which they came. Lives on the writer's thread."""

    def __init__(self) -> None:
        self._tickets = count()
        # Workers with equal tags and scope stand in a line of their own: who is first among
        # those that may take a task is then found without asking everybody.
        self._lines: dict[tuple[tuple[str, ...], str], OrderedDict[int, J]] = {}
        self._places: dict[int, tuple[tuple[str, ...], str]] = {}
        self._ticket_of: dict[int, int] = {}  # by the job's identity
        self._times: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._places)

    def join(self, job: J, waiting: Waiting, ticket: int | None = None) -> None:
        """Stand in line: at the end, or with a ticket from before where one stood then."""
        if ticket is None:
            ticket = next(self._tickets)
        place = (waiting.tags, waiting.scope)
        line = self._lines.setdefault(place, OrderedDict())
        behind = [other for other in line if other > ticket]
        line[ticket] = job
        for other in behind:
            line.move_to_end(other)
        self._places[ticket] = place
        self._ticket_of[id(job)] = ticket
        heapq.heappush(self._times, (waiting.again_at, ticket))

    def leave(self, job: J) -> int | None:
        """Leave the line; the ticket to come back with, None if the job does not wait."""
        ticket = self._ticket_of.pop(id(job), None)
        if ticket is None:
            return None
        place = self._places.pop(ticket)
        line = self._lines[place]
        del line[ticket]
        if not line:
            del self._lines[place]
        return ticket

    def kinds(self) -> list[tuple[tuple[str, ...], str]]:
        """The tags and scopes for which somebody waits, those who wait longest first."""
        return sorted(self._lines, key=lambda place: next(iter(self._lines[place])))

    def first(self, tags: tuple[str, ...], scope: str) -> J | None:
        """Who waits longest with these tags and this scope."""
        line = self._lines.get((tags, scope))
        return next(iter(line.values())) if line else None

    def all(self) -> list[J]:
        """Everybody, in the order in which they came."""
        return [self._lines[self._places[t]][t] for t in sorted(self._places)]

    def due(self, now: int) -> list[J]:
        """Those who want to be asked again by now, the longest waiting first."""
        tickets = set()
        while self._times and self._times[0][0] <= now:
            _, ticket = heapq.heappop(self._times)
            if ticket in self._places:
                tickets.add(ticket)
        return [self._lines[self._places[t]][t] for t in sorted(tickets)]

    def next_time(self) -> int | None:
        """When somebody wants to be asked again, in Unix ms."""
        while self._times and self._times[0][1] not in self._places:
            heapq.heappop(self._times)
        return self._times[0][0] if self._times else None
