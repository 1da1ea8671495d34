"""How many tasks there are: counted, or counted on from what is known by the events since."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taskloom_server.graph.events import Aspect, Event, EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.store.transaction import Transaction

# What ready tasks ask of a worker: the tags that they need, and of which they want one.
Asked = tuple[frozenset[str], frozenset[str]]

_EVENTS_A_TASK = 1 / 200  # to read an event takes as long as to count 200 tasks


@dataclass(frozen=True, slots=True)
class Counts:
    """The tasks that are not deleted by status, and the ready ones by what they ask."""

    by_status: Mapping[str, int]
    ready: Mapping[Asked, int]


def count(tx: Transaction) -> Counts:
    """Count them. Costs as much as there are tasks."""
    asked = tx.requirements.asked()
    ready: Counter[Asked] = Counter()
    for id_, number in tx.tasks.ready_by_requirement().items():
        ready[asked[id_]] += number
    return Counts(tx.tasks.by_status(), ready)


def count_on(tx: Transaction, known: Counts, since: int) -> Counts:
    """Count them, from what they were as of a revision whose events have not been forgotten.

    Costs as much as there are events since, or tasks, whichever is less.
    """
    most = int(sum(known.by_status.values()) * _EVENTS_A_TASK)
    if tx.events.are_more(most, since + 1):
        return count(tx)
    revisions = tx.events.since(since + 1, most)
    counts = _changed(known, (event for revision in revisions for event in revision.events))
    return counts or count(tx)


def _changed(known: Counts, events: Iterable[Event]) -> Counts | None:
    """The counts after events; None where those cannot have led there.

    A task counts as it was before the first of them and as it is after the last, whatever the
    events of one verb say between: by its number, for its id may change.
    """
    first: dict[int, Aspect | None] = {}
    last: dict[int, Task] = {}
    for event in events:
        if isinstance(task := event.after, Task):
            was_there = task.deleted_at is None or event.type is EventType.TASK_DELETED
            first.setdefault(task.number, event.before if was_there else None)
            last[task.number] = task
    by_status, ready = Counter(known.by_status), Counter(known.ready)
    for before in first.values():
        if before is not None:
            by_status[before.status] -= 1
            if before.ready_for is not None:
                ready[_asked(*before.ready_for)] -= 1
    for task in last.values():
        if task.deleted_at is None:
            by_status[task.status] += 1
            if task.ready:
                ready[_asked(task.needed_tags, task.wanted_tags)] += 1
    if min([*by_status.values(), *ready.values()], default=0) < 0:
        return None
    return Counts(+by_status, +ready)


def _asked(needed: tuple[str, ...], wanted: tuple[str, ...]) -> Asked:
    return frozenset(needed), frozenset(wanted)
