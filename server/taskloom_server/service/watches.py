"""WatchService: reading the events after a cursor, and waiting on the feed when there are none."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any

from taskloom.v1 import watch_service_pb2 as pb
from taskloom.v1 import watch_service_pb2_grpc

from taskloom_server.coordinator import watches
from taskloom_server.coordinator.watches import Passed, Watched
from taskloom_server.feed import Feed
from taskloom_server.graph.errors import (
    IncarnationChanged,
    InvalidField,
    RevisionCompacted,
    ShuttingDown,
)
from taskloom_server.graph.events import Event, EventType, Revision
from taskloom_server.graph.tasks import Task
from taskloom_server.service import read, show
from taskloom_server.service.calls import Calls
from taskloom_server.service.unread import Unread
from taskloom_server.store.tail import Tail

EVENTS_A_MESSAGE = 500
_EVENTS_A_READ = 100  # a watch that is stuck keeps what it has read
_DEFAULT_PROGRESS_MS = 30_000
_AT_REST = 30.0  # seconds
# A task that is to be told is there some four times over: as read, in a message, and twice as its
# bytes. Each has some 1,000 bytes beside the description.
_COPIES, _TASK = 4, 1_000
_EVENT_TYPES = frozenset(map(int, EventType))
_shown = lru_cache(maxsize=32)(show.event)  # of those who watch for different things, too
_FEW_EVENTS, _KEPT = 8, 16


class WatchServicer(watch_service_pb2_grpc.WatchServiceServicer):
    """See watch_service.proto. A watch holds a cursor and nothing else, once it has told the
    state of which ``unread`` bounds how much is held.

    Hence the loops: a ``for`` would keep the last message and all that it was made of.
    """

    def __init__(self, calls: Calls, feed: Feed, tail: Tail, unread: Unread) -> None:
        self._calls = calls
        self._unread = unread
        self._feed = feed
        self._tail = tail
        self._told = _Told()

    async def WatchTasks(  # noqa: D102
        self, request: pb.WatchTasksRequest, context: Any
    ) -> AsyncIterator[pb.WatchTasksResponse]:
        watched = _watched(request.filter)
        start = read.revision("start_revision", request.start_revision)
        if start and request.include_state:
            raise InvalidField("include_state", "goes with start_revision 0 only")
        progress_ms = read.duration_ms(
            "progress_interval",
            request,
            "progress_interval",
            low=1_000,
            high=3_600_000,
            default=_DEFAULT_PROGRESS_MS,
        )
        incarnation = self._feed.incarnation
        if request.incarnation not in ("", incarnation):
            raise _changed(incarnation)

        if request.include_state:
            state = await self._calls.read(watches.list_state, watched)
            watched, cursor, incarnation = state.watched, state.revision, state.incarnation
            size = sum(_TASK + len(task.description) for task in state.tasks)
            self._unread.hold(context, _COPIES * size)
            yield _message(0, created=pb.WatchCreated(incarnation=incarnation))
            messages = _state_messages(state.tasks)
            del state
            while (message := next(messages, None)) is not None:
                yield message
            self._unread.release(context)
            yield _message(cursor, synced=pb.WatchSynced())
        else:
            watched = await self._calls.read(watches.begin_watch, watched)
            cursor = start - 1 if start else self._feed.revision
            created = pb.WatchCreated(incarnation=incarnation)
            yield _message(cursor, created=created)

        interval = (progress_ms or _DEFAULT_PROGRESS_MS) / 1000
        clock = asyncio.get_running_loop().time
        said_at, said = clock(), cursor  # when it said anything, and how far it said that it is
        keys = watches.interest(watched)
        while True:
            closed = self._feed.closed
            if self._feed.incarnation != incarnation:
                raise _changed(self._feed.incarnation)
            revisions = iter(await self._since(cursor + 1, incarnation))
            while (revision := next(revisions, None)) is not None:
                cursor = revision.number
                messages = self._told.messages(watched, revision)
                while (message := next(messages, None)) is not None:
                    yield message
                    said_at = clock()
            # All that there is has been told, but for those who are far behind: they resume.
            if closed and not self._tail.since(cursor + 1, 1):
                raise ShuttingDown(
                    f"the server is shutting down; resume from revision {cursor + 1}",
                    metadata={"revision": str(cursor)},
                    retry_after_ms=1000,
                )
            # To repeat each second that nothing happens cost a tenth of a core for 1,000 watches.
            soon, late = said_at + interval, said_at + max(interval, _AT_REST)
            if clock() >= (soon if cursor > said else late):
                yield _message(cursor, progress=pb.WatchProgress())
                said_at, said = clock(), cursor
                soon, late = said_at + interval, said_at + max(interval, _AT_REST)
            if clock() < soon:
                cursor = await self._feed.until(cursor, incarnation, keys, soon) - 1
            else:  # how far it has come is to be said with the next change of any kind
                cursor = await self._feed.until(cursor, incarnation, (watches.ANY,), late) - 1

    async def _since(self, first: int, incarnation: str) -> list[Revision]:
        """The next revisions: from memory for those who keep up, or else from the table."""
        if first > self._feed.revision:
            return []
        recent = self._tail.since(first, _EVENTS_A_READ)
        if recent is not None:
            return recent
        history = await self._calls.read(
            watches.history_since, watches.Since(first, _EVENTS_A_READ)
        )
        if history.incarnation != incarnation:
            raise _changed(history.incarnation)
        if first < history.oldest_revision:
            raise RevisionCompacted(
                f"revision {first} is compacted; history begins at revision "
                f"{history.oldest_revision}: start anew with include_state",
                metadata={"oldest_revision": str(history.oldest_revision)},
            )
        return history.revisions


class _Told:
    """What those who watch alike are told of a revision: made once for all of them.

    They are given one and the same message, of which the guard makes the bytes once, too.
    """

    def __init__(self) -> None:
        self._made: OrderedDict[
            tuple[int, Watched], tuple[Revision, list[pb.WatchTasksResponse]]
        ] = OrderedDict()

    def messages(self, watched: Watched, revision: Revision) -> Iterator[pb.WatchTasksResponse]:
        """The events of a revision that pass, as messages; none where none does."""
        number = revision.number
        if len(revision.events) > _FEW_EVENTS:
            return _messages(number, watches.passing(watched, revision))
        key = number, watched
        made = self._made.get(key)
        if made is None or made[0] is not revision:  # a number can be of another incarnation
            messages = list(_messages(number, watches.passing(watched, revision)))
            made = self._made[key] = revision, messages
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return iter(made[1])


def _watched(message: pb.WatchFilter) -> Watched:
    for type_ in message.event_types:
        if int(type_) not in _EVENT_TYPES:
            raise InvalidField("filter.event_types", f"has {type_}, which is no type of event")
    return Watched(
        statuses=frozenset(read.identifiers("filter.statuses", message.statuses, 1_000)),
        tags=frozenset(read.identifiers("filter.tags", message.tags, 1_000)),
        owner=read.identifier("filter.owner", message.owner, optional=True),
        subtree_of=read.identifier("filter.subtree_of", message.subtree_of, optional=True),
        task_ids=frozenset(read.identifiers("filter.task_ids", message.task_ids, 1_000)),
        phases=frozenset(read.identifiers("filter.phases", message.phases, 1_000)),
        types=frozenset(map(EventType, message.event_types)),
        assignee=read.identifier("filter.assignee", message.assignee, optional=True),
        ready_for=read.identifier("filter.ready_for", message.ready_for, optional=True),
    )


def _changed(incarnation: str) -> IncarnationChanged:
    return IncarnationChanged(
        "the database is another one now; start anew with include_state",
        metadata={"incarnation": incarnation},
    )


def _message(revision: int, **content: Any) -> pb.WatchTasksResponse:
    return pb.WatchTasksResponse(revision=revision, **content)


def _messages(revision: int, passed: list[Passed]) -> Iterator[pb.WatchTasksResponse]:
    """One revision as one message, or as several where it is large."""
    last = len(passed) - 1
    for start in range(0, len(passed), EVENTS_A_MESSAGE):
        part = passed[start : start + EVENTS_A_MESSAGE]
        more = start + len(part) <= last
        events = pb.WatchEvents(events=map(_shown, part), more=more)
        yield _message(0 if more else revision, events=events)


def _state_messages(tasks: list[Task]) -> Iterator[pb.WatchTasksResponse]:
    for start in range(0, len(tasks), EVENTS_A_MESSAGE):
        events = [
            show.event(
                Passed(
                    Event(EventType.TASK_LISTED, task.updated_at, task.id, None, None, task),
                    left=False,
                )
            )
            for task in tasks[start : start + EVENTS_A_MESSAGE]
        ]
        yield _message(0, events=pb.WatchEvents(events=events))
