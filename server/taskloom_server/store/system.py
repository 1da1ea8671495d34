"""``system``: the one row about the whole."""

import uuid
from typing import NamedTuple

import apsw
from peewee import SQL, fn

from taskloom_server.graph.workers import Pause
from taskloom_server.store.search_tables import EMPTY_INDEX, SearchedAttachments
from taskloom_server.store.statements import Statement, arg
from taskloom_server.store.tables import (
    TABLES,
    Attachments,
    Dependencies,
    System,
    Tasks,
    TaskSequence,
)

_GET = Statement(
    System.select(
        System.incarnation,
        System.revision,
        System.oldest_revision,
        System.paused_by,
        System.paused_reason,
        System.paused_at,
    ).where(System.id == 1)
)
_INSERT = Statement(
    System.insert(
        {
            System.id: 1,
            System.incarnation: arg("incarnation"),
            System.revision: arg("revision"),
            System.oldest_revision: arg("oldest"),
            System.created_at: arg("now"),
        }
    ),
    "incarnation",
    "revision",
    "oldest",
    "now",
)
_ADVANCE = Statement(
    System.update({System.revision: arg("revision")}).where(System.id == 1), "revision"
)
_FORGET_HISTORY = Statement(
    System.update({System.oldest_revision: arg("oldest")}).where(System.id == 1), "oldest"
)
_OTHER_LIFE = Statement(
    System.update(
        {
            System.incarnation: arg("incarnation"),
            System.oldest_revision: System.revision + 1,
        }
    ).where(System.id == 1),
    "incarnation",
)
_PAUSE = Statement(
    System.update(
        {
            System.paused_by: arg("by"),
            System.paused_reason: arg("reason"),
            System.paused_at: arg("at"),
        }
    ).where(System.id == 1),
    "by",
    "reason",
    "at",
)


_COUNTS = {
    table._meta.table_name: Statement(table.select(fn.COUNT(SQL("*"))))
    for table in (Tasks, Dependencies, Attachments, TaskSequence)
}


class SystemRow(NamedTuple):
    """The state of the whole."""

    incarnation: str
    revision: int
    oldest_revision: int
    paused: Pause | None


class SystemTable:
    """``system`` on one connection.

    What was read once is kept, for it is asked for with every claim. ``forget`` is for a reader,
    behind whose back it changes, and for a writer whose changes are rolled back.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._known: SystemRow | None = None

    def forget(self) -> None:
        """Drop what was read."""
        self._known = None

    def get(self) -> SystemRow:
        """The row. It is there from the first start on."""
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> SystemRow:
        row = _GET.one(self._connection)
        assert row is not None
        incarnation, revision, oldest, by, reason, at = row
        paused = None if at is None else Pause(by, reason, at)
        return SystemRow(incarnation, revision, oldest, paused)

    def advance(self, revision: int) -> None:
        """Note the latest revision."""
        _ADVANCE.run(self._connection, revision)
        if self._known is not None:
            self._known = self._known._replace(revision=revision)

    def forget_history(self, oldest: int) -> None:
        """Note the oldest revision that is kept."""
        _FORGET_HISTORY.run(self._connection, oldest)
        self.forget()

    def begin_incarnation(self) -> bool:
        """Begin another incarnation with what there is; False: nothing has begun in the file."""
        if _GET.one(self._connection) is None:
            return False
        _OTHER_LIFE.run(self._connection, uuid.uuid4().hex)
        return True

    def token(self) -> int:
        """The token of the file; 0: it never had one. See store.life."""
        token: int = self._connection.pragma("user_version")
        return token

    def put_token(self, token: int) -> None:
        """Give the file another token, of 31 bits."""
        self._connection.pragma("user_version", token)

    def pause(self, pause: Pause | None) -> None:
        """Note who stopped new claims, or that nobody does."""
        _PAUSE.run(self._connection, *(pause[:3] if pause else (None, None, None)))
        self.forget()

    def row_counts(self) -> dict[str, int]:
        """How many rows there are in each table of a snapshot."""
        rows = {name: count.one(self._connection) for name, count in _COUNTS.items()}
        return {name: row[0] for name, row in rows.items() if row}

    def begin(self, revision: int, now: int) -> str:
        """Empty every table and begin a new incarnation after ``revision``; its name."""
        # The index at once and first: task by task the triggers would take it apart, 300 µs each.
        self._connection.execute(*EMPTY_INDEX)
        for table in (SearchedAttachments, *TABLES):
            Statement(table.delete()).run(self._connection)
        incarnation = uuid.uuid4().hex
        _INSERT.run(self._connection, incarnation, revision, revision + 1, now)
        self.forget()
        return incarnation
