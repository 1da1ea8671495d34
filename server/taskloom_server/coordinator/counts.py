"""How many tasks there are: counted, or counted on from what is known by the events since."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from taskloom_server.graph.events import Event, EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.store.transaction import Transaction

# What ready tasks ask of a worker: the tags that they need, and of which they want one.
Asked = tuple[frozenset[str], frozenset[str]]

_EVENTS_A_TASK = 1 / 200  # are read while it is counted


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
    by_status, ready = Counter(known.by_status), Counter(known.ready)
    most = int(by_status.total() * _EVENTS_A_TASK)
    if tx.events.are_more(most, since + 1):
        return count(tx)
    for revision in tx.events.since(since + 1, most):
        for event in revision.events:
            _count_event(event, by_status, ready)
    return Counts(+by_status, +ready)


def _count_event(event: Event, by_status: Counter[str], ready: Counter[Asked]) -> None:
    """Count one task as it was before an event no more, and as it is after it."""
    after, before = event.after, event.before
    if not isinstance(after, Task):
        return
    is_there = after.deleted_at is None
    if before is not None and (is_there or event.type is EventType.TASK_DELETED):
        by_status[before.status] -= 1
        if before.ready_for is not None:
            ready[_asked(*before.ready_for)] -= 1
    # A task that has another id is told of again, under that.
    if is_there and event.type is not EventType.TASK_RENAMED:
        by_status[after.status] += 1
        if after.ready:
            ready[_asked(after.needed_tags, after.wanted_tags)] += 1


def _asked(needed: tuple[str, ...], wanted: tuple[str, ...]) -> Asked:
    return frozenset(needed), frozenset(wanted)
