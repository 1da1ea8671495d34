"""What watches show: the state they begin with, and which events pass a filter."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, replace

from taskloom_server.coordinator import workers
from taskloom_server.coordinator.lookup import require_task
from taskloom_server.graph.events import Aspect, Event, EventType, Revision, aspect_of
from taskloom_server.graph.tasks import Task
from taskloom_server.store.listing import Filters
from taskloom_server.store.transaction import Transaction

_WHO_HAS_THE_TAGS = "who has the tags"


@dataclass(frozen=True, slots=True)
class Watched:
    """A filter on events; what is empty lets all pass."""

    statuses: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    owner: str = ""
    subtree_of: str = ""
    task_ids: frozenset[str] = frozenset()
    phases: frozenset[str] = frozenset()
    types: frozenset[EventType] = frozenset()
    assignee: str = ""
    ready_for: str = ""
    # What the last two come to, found out as the watch begins. Who asks for what is ready for a
    # worker watches then for those tags, whoever has them, and like all whose tags are the same.
    assign_statuses: frozenset[str] = frozenset()
    worker_tags: frozenset[str] = frozenset()

    @property
    def asks_about_tasks(self) -> bool:
        """Whether events that are about no task are of no interest."""
        return bool(
            self.statuses
            or self.tags
            or self.owner
            or self.subtree_of
            or self.task_ids
            or self.phases
            or self.assignee
            or self.ready_for
        )

    def matches(self, task_id: str, aspect: Aspect) -> bool:
        """Whether a task, seen in this aspect, passes."""
        return (
            (not self.task_ids or task_id in self.task_ids)
            and (not self.statuses or aspect.status in self.statuses)
            and (not self.tags or not self.tags.isdisjoint(aspect.tags))
            and (not self.owner or aspect.worker_id == self.owner)
            and (
                not self.subtree_of
                or self.subtree_of == task_id
                or self.subtree_of in aspect.ancestors
            )
            and (not self.phases or (aspect.phase or "") in self.phases)
            and (
                not self.assignee
                or (aspect.worker_id == self.assignee and aspect.status in self.assign_statuses)
            )
            and (not self.ready_for or self._may_take(aspect))
        )

    def _may_take(self, aspect: Aspect) -> bool:
        if aspect.ready_for is None:
            return False
        needed, wanted = aspect.ready_for
        return self.worker_tags.issuperset(needed) and (
            not wanted or not self.worker_tags.isdisjoint(wanted)
        )


@dataclass(frozen=True, slots=True)
class Passed:
    """An event that passes a filter; ``left``: the task does not match any more."""

    event: Event
    left: bool


@dataclass(frozen=True, slots=True)
class State:
    """All tasks that match, oldest first, as of one revision."""

    watched: Watched
    tasks: list[Task]
    incarnation: str
    revision: int


@dataclass(frozen=True, slots=True)
class Since:
    """Whole revisions from ``first`` on, about so many events of them."""

    first: int
    about: int


@dataclass(frozen=True, slots=True)
class History:
    """Revisions, and what a reader must know to go on from them."""

    revisions: list[Revision]
    incarnation: str
    oldest_revision: int
    revision: int


# Events after which there is no task of their task_id any more.
_GONE = frozenset((EventType.TASK_DELETED, EventType.TASK_RENAMED))


def passing(watched: Watched, revision: Revision) -> list[Passed]:
    """The events of a revision that pass, in order."""
    passed: list[Passed] = []
    for event in revision.events:
        left = False
        aspect = event.aspect()
        if aspect is not None and event.task_id is not None:
            now = event.type not in _GONE and watched.matches(event.task_id, aspect)
            before = event.before is not None and watched.matches(event.task_id, event.before)
            if not now and not before:
                continue
            # A deleted task is told as deleted, and that says it all.
            left = not now and event.type is not EventType.TASK_DELETED
        elif watched.asks_about_tasks:
            continue
        # Who asks for no tasks in particular keeps none that he would have to drop.
        must_know = left and watched.asks_about_tasks
        if watched.types and event.type not in watched.types and not must_know:
            continue
        passed.append(Passed(event, left))
    return passed


Key = tuple[str | EventType, ...]
ANY: Key = ("any",)
"""The key that every revision has."""


def keys_of(revision: Revision) -> set[Key]:
    """The keys by which a watch may wait for a revision; see ``interest``."""
    keys = {ANY}
    for event in revision.events:
        keys.add(("type", event.type))
        aspect = event.aspect()
        if aspect is None or event.task_id is None:
            continue
        keys.update((("task", event.task_id), ("below", event.task_id)))
        for one in (aspect, event.before):
            if one is None:
                continue
            keys.update((("status", one.status), ("phase", one.phase or "")))
            keys.update(("tag", tag) for tag in one.tags)
            keys.update(("below", id_) for id_ in one.ancestors)
            if one.worker_id is not None:
                keys.add(("worker", one.worker_id))
            if one.ready_for is not None:
                keys.add(("ready",))
    return keys


def interest(watched: Watched) -> list[Key]:
    """Keys of which every revision that has something for the watch has at least one.

    Those of one condition, for all must hold: the one that the fewest revisions are likely to meet.
    """
    if watched.task_ids:
        return [("task", id_) for id_ in watched.task_ids]
    if worker_id := watched.owner or watched.assignee:
        return [("worker", worker_id)]
    if watched.subtree_of:
        return [("below", watched.subtree_of)]
    if watched.tags:
        return [("tag", tag) for tag in watched.tags]
    if watched.phases:
        return [("phase", phase) for phase in watched.phases]
    if watched.statuses:
        return [("status", status) for status in watched.statuses]
    if watched.ready_for:
        return [("ready",)]
    if watched.types:
        return [("type", type_) for type_ in watched.types]
    return [ANY]


def list_state(tx: Transaction, watched: Watched) -> State:
    """The tasks that match now. Raises TaskNotFound and WorkerNotFound for what the filter names.

    All in one snapshot, for what follows must begin at just this revision.
    """
    watched = begin_watch(tx, watched)
    above: dict[str, tuple[str, ...]] = {}

    def ancestors(parent_id: str | None) -> tuple[str, ...]:
        if parent_id is None:
            return ()
        if parent_id not in above:
            above[parent_id] = tx.tasks.ancestors(parent_id)
        return above[parent_id]

    matching = [
        task
        for task in _candidates(tx, watched)
        if watched.matches(task.id, aspect_of(task, ancestors(task.parent_id)))
    ]
    return State(watched, matching, tx.incarnation, tx.seen)


def _candidates(tx: Transaction, watched: Watched) -> Iterable[Task]:
    """All that may match, oldest first: what the database can tell without looking at each."""
    if watched.task_ids:
        named = (tx.tasks.get(id_) for id_ in watched.task_ids)
        there = (task for task in named if task is not None and task.deleted_at is None)
        return sorted(there, key=lambda task: task.number)
    statuses = watched.statuses
    if watched.assignee:
        statuses = statuses & watched.assign_statuses if statuses else watched.assign_statuses
        if not statuses:
            return ()
    filters = Filters(
        statuses=tuple(sorted(statuses)),
        ready=True if watched.ready_for else None,
        owner=watched.owner or watched.assignee,
        tags_any=tuple(sorted(watched.tags)),
    )
    if not watched.subtree_of:
        return tx.listing.each(filters)
    root = require_task(tx, watched.subtree_of)
    if root.deleted_at is not None:
        return ()
    below = tx.listing.each(replace(filters, parent_id=root.id, recursive=True))
    return heapq.merge([root], below, key=lambda task: task.number)


def begin_watch(tx: Transaction, watched: Watched) -> Watched:
    """The filter with what it needs to know of the graph.

    Raises TaskNotFound and WorkerNotFound for what it names and is not there.
    """
    if watched.subtree_of:
        require_task(tx, watched.subtree_of)
    if watched.ready_for:
        tags = frozenset(workers.require(tx, watched.ready_for).tags)
        watched = replace(watched, ready_for=_WHO_HAS_THE_TAGS, worker_tags=tags)
    if watched.assignee:
        assign = frozenset(flow.assign_state for flow in tx.workflows.by_name.values())
        watched = replace(watched, assign_statuses=assign)
    return watched


def history_since(tx: Transaction, ask: Since) -> History:
    """What happened from a revision on."""
    system = tx.system.get()
    revisions = tx.events.since(ask.first, ask.about)
    return History(revisions, system.incarnation, system.oldest_revision, system.revision)
