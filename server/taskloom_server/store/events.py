"""``events``: what happened, by revision, with images as JSON."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import compress, groupby
from operator import itemgetter, ne
from typing import Any, get_origin, get_type_hints

import apsw

from taskloom_server.graph.events import After, Aspect, Event, EventType, Revision
from taskloom_server.graph.tasks import Attachment, Dependency, FileMark, Task
from taskloom_server.graph.temperature import heat_of
from taskloom_server.graph.workers import Pause, Worker
from taskloom_server.store import json_text
from taskloom_server.store.statements import Row, Statement, arg
from taskloom_server.store.tables import Events

_COLUMNS = (
    "revision",
    "ordinal",
    "time",
    "type",
    "task_id",
    "worker_id",
    "reason",
    "after",
    "before",
    "ancestors",
)
_INSERT = Statement(Events.insert({getattr(Events, c): arg(c) for c in _COLUMNS}), *_COLUMNS)
_FROM = Statement(
    Events.select(*(getattr(Events, c) for c in _COLUMNS))
    .where((Events.revision >= arg("first")) & (Events.revision <= arg("last")))
    .order_by(Events.revision, Events.ordinal),
    "first",
    "last",
)
# The revision of the so-maniest event from here on: where a page of events may end.
_PAGE_END = Statement(
    Events.select(Events.revision)
    .where(Events.revision >= arg("first"))
    .order_by(Events.revision, Events.ordinal)
    .limit(1)
    .offset(arg("events")),
    "first",
    "events",
)
_LATEST = Statement(Events.select(Events.revision).order_by(Events.revision.desc()).limit(1))

_STEP = Statement(
    Events.select(Events.revision, Events.time)
    .order_by(Events.revision, Events.ordinal)
    .limit(1)
    .offset(arg("events")),
    "events",
)
_FOLLOWING = Statement(
    Events.select(Events.revision, Events.time)
    .where(Events.revision > arg("revision"))
    .order_by(Events.revision, Events.ordinal)
    .limit(1),
    "revision",
)
_FORGET = Statement(Events.delete().where(Events.revision < arg("before")), "before")

# Of an image: large, or nothing that an event shows.
_LEFT_OUT = frozenset(("content", "activity", "breakthrough", "progressed_at", "budgets"))
_NOUNS: dict[str, Any] = {
    "task": Task,
    "worker": Worker,
    "dependency": Dependency,
    "file_mark": FileMark,
    "attachment": Attachment,
    "pause": Pause,
}
_NOTHING = {int: 0, float: 0.0, str: "", tuple: ()}


def _blank(record: Any) -> dict[str, Any]:
    """What the columns are that an image does not have: NULL, or nothing where NULL cannot be."""
    hints = get_type_hints(record)
    blank = {c: _NOTHING.get(get_origin(hints[c]) or hints[c]) for c in record._fields}
    if record is Task:
        blank["heat"] = heat_of(0.5, 0)  # of an image of before 0002
    return blank


_BLANKS = {record: _blank(record) for record in _NOUNS.values()}
_SHOWN = {
    record: (
        noun,
        tuple(column for column in record._fields if column not in _LEFT_OUT),
        itemgetter(*(n for n, column in enumerate(record._fields) if column not in _LEFT_OUT)),
        tuple(blank for column, blank in _BLANKS[record].items() if column not in _LEFT_OUT),
    )
    for noun, record in _NOUNS.items()
}


def _write_after(after: After) -> str | None:
    """As ``{"task": {column: value, …}}``, without what is blank: a third less to write."""
    if after is None:
        return None
    noun, shown, take, blank = _SHOWN[type(after)]
    values = take(after)
    told = compress(zip(shown, values, strict=True), map(ne, values, blank))
    return json_text.write({noun: dict(told)})


def _read_after(text: str | None) -> After:
    if text is None:
        return None
    [(noun, image)] = json_text.read(text).items()
    record = _NOUNS[noun]
    for tags in ("tags", "needed_tags", "wanted_tags", "overlays"):
        if tags in image:
            image[tags] = tuple(image[tags])
    if "advisory_claims" in image:
        image["advisory_claims"] = tuple(map(tuple, image["advisory_claims"]))
    after: After = record(**_BLANKS[record] | image)
    return after


def _write_row(revision: int, ordinal: int, event: Event) -> Row:
    return (
        revision,
        ordinal,
        event.time,
        int(event.type),
        event.task_id,
        event.worker_id,
        event.reason,
        _write_after(event.after),
        None if event.before is None else _write_aspect(event.before),
        None if not event.ancestors else json_text.write(event.ancestors),
    )


@lru_cache(maxsize=256)
def _write_aspect(aspect: Aspect) -> str:
    """As an array. The many events of an import have the same few, hence the cache."""
    return json_text.write(tuple(aspect))


def _read_aspect(text: str) -> Aspect:
    status, worker_id, phase, tags, ancestors, *rest = json_text.read(text)
    ready_for = None
    if rest and rest[0] is not None:  # events of before 0002 do not have it
        needed, wanted = rest[0]
        ready_for = tuple(needed), tuple(wanted)
    return Aspect(status, worker_id, phase, tuple(tags), tuple(ancestors), ready_for)


def _read_row(row: Row) -> Event:
    _, _, time, type_, task_id, worker_id, reason, after, before, ancestors = row
    aspect = None
    if before is not None:
        aspect = _read_aspect(before)
    return Event(
        EventType(type_),
        time,
        task_id,
        worker_id,
        reason,
        _read_after(after),
        aspect,
        tuple(json_text.read(ancestors)) if ancestors else (),
    )


class EventTable:
    """``events`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def insert(self, revision: int, events: Iterable[Event], after: int = 0) -> None:
        """Add the events of one revision, in their order, after so many that are there."""
        rows = [_write_row(revision, n, event) for n, event in enumerate(events, after)]
        _INSERT.many(self._connection, rows)

    def step(self, events: int) -> tuple[int, int] | None:
        """A revision that has about so many events before it, and its time; None: there is none.

        A revision is forgotten whole or not at all, so a large one makes a large step.
        """
        first = _STEP.one(self._connection, 0)
        place = _STEP.one(self._connection, events)
        if first is not None and place is not None and place[0] == first[0]:
            place = _FOLLOWING.one(self._connection, first[0])
        return None if place is None else (place[0], place[1])

    def forget(self, before: int) -> None:
        """Delete the events of the revisions before this one."""
        _FORGET.run(self._connection, before)

    def are_more(self, events: int, first: int) -> bool:
        """Whether there are more events than so many from a revision on."""
        return _PAGE_END.one(self._connection, first, events) is not None

    def since(self, first: int, about: int) -> list[Revision]:
        """Whole revisions from ``first`` on, ``about`` so many events of them."""
        end = _PAGE_END.one(self._connection, first, about) or _LATEST.one(self._connection)
        if end is None:
            return []
        rows = _FROM.all(self._connection, first, end[0])
        return [
            Revision(number, tuple(map(_read_row, group)))
            for number, group in groupby(rows, key=itemgetter(0))
        ]
