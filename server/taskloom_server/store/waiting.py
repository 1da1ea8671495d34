"""The line of those who wait for a task: first come, first served, and nobody woken in vain.

A verb that finds nothing may answer ``Waiting``: ask me again when a task is ready that these
tags admit. Its job then stands in line, and costs nothing until that moment. Who stands in line
is a matter of the process, not of the file: after a restart the callers come again.
"""

import heapq
from collections import OrderedDict
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Generic, TypeVar

from taskloom_server.graph.workers import Worker

_SPARE_TIMES = 64

J = TypeVar("J")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A verb's answer: nothing yet.

    ``tags`` are the worker's, which decide on the groups of ready tasks that it may draw on;
    ``scope`` is the task below which it looks, empty for anywhere. It is asked again at
    ``again_at`` at the latest, in Unix ms, when the wait is over or a rest has passed. A worker
    that ``cannot`` take any task just now is not asked because one is ready; one that ``shares``
    what it takes leaves it to those behind it, too; one that waits ``when_done`` is not asked
    because every task has ended. ``locks`` stand in its way: it is asked when one of them is free.
    """

    worker_id: str
    tags: tuple[str, ...]
    scope: str
    again_at: int
    cannot: bool
    shares: bool
    when_done: bool
    locks: tuple[str, ...] = ()
    for_task: bool = True  # False: for locks alone

    @property
    def kind(self) -> tuple[tuple[str, ...], str]:
        """What decides on the tasks that it may be given."""
        return self.tags, self.scope

    @classmethod
    def for_locks(cls, worker: Worker, locks: Sequence[str], until: int) -> "Waiting":
        """Nothing before these locks are free."""
        return cls(
            worker.id,
            (),
            "",
            until,
            cannot=True,
            shares=False,
            when_done=False,
            locks=tuple(locks),
            for_task=False,
        )


class WaitingLine(Generic[J]):
    """Jobs that wait, in the order in which they came. Lives on the writer's thread."""

    def __init__(self) -> None:
        self._tickets = count()
        self._waiting: dict[int, tuple[J, Waiting]] = {}
        # Workers with equal tags and scope stand in a line of their own: who is first among
        # those that may take a task is then found without asking everybody.
        self._lines: dict[tuple[tuple[str, ...], str], OrderedDict[int, J]] = {}
        self._of_worker: dict[str, set[int]] = {}
        self._ticket_of: dict[int, int] = {}  # by the job's identity
        self._named: dict[str, J] = {}
        self._of_lock: dict[str, set[int]] = {}
        self._times: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, job: J, waiting: Waiting, ticket: int | None = None, name: str = "") -> None:
        """Stand in line: at the end, or with a ticket from before where one stood then.

        ``name``: under which it can be found while it waits, if it has one.
        """
        if ticket is None:
            ticket = next(self._tickets)
        self._waiting[ticket] = (job, waiting)
        self._ticket_of[id(job)] = ticket
        self._of_worker.setdefault(waiting.worker_id, set()).add(ticket)
        for lock in waiting.locks:
            self._of_lock.setdefault(lock, set()).add(ticket)
        if name:
            self._named[name] = job
        heapq.heappush(self._times, (waiting.again_at, ticket))
        if len(self._times) > 2 * len(self._waiting) + _SPARE_TIMES:
            # Times of those who left, or came back with another one, need not be kept for long.
            self._times = [(one.again_at, place) for place, (_, one) in self._waiting.items()]
            heapq.heapify(self._times)
        if not waiting.cannot:
            self._stand(job, waiting, ticket)

    def _stand(self, job: J, waiting: Waiting, ticket: int) -> None:
        line = self._lines.setdefault((waiting.tags, waiting.scope), OrderedDict())
        newest = next(reversed(line), -1)
        line[ticket] = job
        if newest > ticket:
            for other in [other for other in line if other > ticket]:
                line.move_to_end(other)

    def leave(self, job: J, name: str = "") -> int | None:
        """Leave the line; the ticket to come back with, None if the job does not wait."""
        ticket = self._ticket_of.pop(id(job), None)
        if ticket is None:
            return None
        if self._named.get(name) is job:
            del self._named[name]
        _, waiting = self._waiting.pop(ticket)
        of_worker = self._of_worker[waiting.worker_id]
        of_worker.discard(ticket)
        if not of_worker:
            del self._of_worker[waiting.worker_id]
        for lock in waiting.locks:
            self._of_lock[lock].discard(ticket)
            if not self._of_lock[lock]:
                del self._of_lock[lock]
        if not waiting.cannot:
            place = (waiting.tags, waiting.scope)
            line = self._lines[place]
            del line[ticket]
            if not line:
                del self._lines[place]
        return ticket

    def kinds(self, scopes: Container[str] | None = None) -> list[tuple[tuple[str, ...], str]]:
        """The tags and scopes for which somebody waits, those who wait longest first.

        ``scopes``: only with one of these; None: with any.
        """
        places = self._lines if scopes is None else [p for p in self._lines if p[1] in scopes]
        return sorted(places, key=lambda place: next(iter(self._lines[place])))

    def in_turn(
        self, places: Collection[tuple[tuple[str, ...], str]]
    ) -> Iterator[tuple[J, Waiting]]:
        """Who waits with one of these tags and scopes, and may be able to take a task.

        The longest waiting first. They may leave the line meanwhile, and come back.
        """
        last = -1
        while True:
            lines = (self._lines.get(place, ()) for place in places)
            following = (next((t for t in line if t > last), None) for line in lines)
            last = min((ticket for ticket in following if ticket is not None), default=-1)
            if last < 0:
                return
            yield self._waiting[last]

    def waiting(self, job: J) -> Waiting | None:
        """What a job waits for; None if it does not."""
        ticket = self._ticket_of.get(id(job))
        return None if ticket is None else self._waiting[ticket][1]

    def may_again(self, job: J) -> None:
        """Let a job whose worker could take nothing stand with the others, in its old place."""
        ticket = self._ticket_of.get(id(job))
        if ticket is None:
            return
        waiting = self._waiting[ticket][1]
        if not (waiting.cannot and waiting.for_task):
            return
        waiting = replace(waiting, cannot=False)
        self._waiting[ticket] = (job, waiting)
        self._stand(job, waiting, ticket)

    def named(self, name: str) -> J | None:
        """Who waits under this name."""
        return self._named.get(name)

    def of_workers(self, worker_ids: Iterable[str]) -> list[J]:
        """Those who wait for these workers, in the order in which they came."""
        tickets = {t for worker_id in worker_ids for t in self._of_worker.get(worker_id, ())}
        return [self._waiting[t][0] for t in sorted(tickets)]

    def for_lock(self, lock: str) -> list[J]:
        """Those in whose way this lock stood when they were asked, in the order they came."""
        return [self._waiting[t][0] for t in sorted(self._of_lock.get(lock, ()))]

    def held_up(self) -> list[J]:
        """Those who cannot take any task just now, but would hear that every task has ended."""
        return [
            job
            for _, (job, one) in sorted(self._waiting.items())
            if one.cannot and one.for_task and not one.when_done
        ]

    def all(self) -> list[J]:
        """Everybody, in the order in which they came."""
        return [self._waiting[t][0] for t in sorted(self._waiting)]

    def due(self, now: int) -> list[J]:
        """Those who want to be asked again by now, the longest waiting first."""
        tickets = set()
        while self._times and self._times[0][0] <= now:
            _, ticket = heapq.heappop(self._times)
            if ticket in self._waiting:
                tickets.add(ticket)
        return [self._waiting[t][0] for t in sorted(tickets)]

    def next_time(self) -> int | None:
        """When somebody wants to be asked again, in Unix ms."""
        while self._times and self._times[0][1] not in self._waiting:
            heapq.heappop(self._times)
        return self._times[0][0] if self._times else None
