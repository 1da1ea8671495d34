"""Opening the database file: who may, and with which settings.

One connection writes, and it belongs to the writer's thread. Readers have read-only ones.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
from playhouse.apsw_ext import APSWDatabase

APPLICATION_ID = 0x746C6F6D  # "tlom", in the file's header: this is ours
_STATEMENTS_CACHED = 400  # more than there are compiled ones, so that none is prepared twice
WAL_LIMIT = 64 << 20  # bytes: what the log is cut to, should readers have kept it from checkpoints
_WRITER_PRAGMAS = (
    ("journal_mode", "wal"),
    ("synchronous", "full"),  # an answered write survives a power cut
    ("wal_autocheckpoint", 4000),  # pages: some 16 MB
    ("journal_size_limit", WAL_LIMIT),
    # KiB. More brought nothing (what is not in it is in the kernel's), and is memory that a server
    # takes for hours until it has it all: it keeps what was once written, like answers to retries.
    ("cache_size", -16_000),
    ("temp_store", "memory"),
)
_READER_PRAGMAS = (
    ("query_only", 1),
    ("cache_size", -4_000),
    ("temp_store", "memory"),
    ("wal_autocheckpoint", 0),  # only the writer checkpoints
)


class CannotOpen(Exception):
    """The file cannot be used; ``str()`` is the sentence for the person who named it."""


def _convert_binding(_cursor: apsw.Cursor, _number: int, value: Any) -> str:
    """Peewee's migration table stores a datetime, which APSW does not bind by itself."""
    return str(value)


def _keep_plans(connection: apsw.Connection) -> None:
    """Let plans not depend on the values bound.

    Else SQLite looks at them for the sake of the partial indexes, and plans a statement anew
    whenever they change: fetching a task with its worker took 47 µs so, and takes 6 µs now.
    """
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


class Database(APSWDatabase):  # type: ignore[misc]
    """Peewee's door to one file, with our settings on every connection that it opens."""

    def _add_conn_hooks(self, conn: apsw.Connection) -> None:
        conn.convert_binding = _convert_binding
        _keep_plans(conn)
        super()._add_conn_hooks(conn)


def writing(path: Path) -> Database:
    """The database for the one that writes."""
    return Database(
        str(path), pragmas=_WRITER_PRAGMAS, timeout=5, statementcachesize=_STATEMENTS_CACHED
    )


def open_reader(path: Path) -> apsw.Connection:
    """A connection on which nothing can be written."""
    connection = apsw.Connection(
        str(path), flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=_STATEMENTS_CACHED
    )
    _keep_plans(connection)
    connection.set_busy_timeout(5000)
    for name, value in _READER_PRAGMAS:
        connection.pragma(name, value)
    return connection


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold the file for this process alone: the descriptor of its lock file.

    Raises CannotOpen when another process has or may have it.

    A lock of our own beside the file: SQLite's are given up between transactions, and
    opening the database itself to lock it would drop them.
    """
    real = path.resolve()  # so that a file is one file, whatever links lead to it
    if real.is_file() and real.stat().st_nlink > 1:
        # SQLite logs beside the name by which a file was opened: by two names, it is ruined.
        raise CannotOpen(
            f"{path} has {real.stat().st_nlink} names (hard links), by each of which it could be "
            "opened; serve a copy"
        )
    lock = real.with_name(real.name + "-lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CannotOpen(f"cannot write beside {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CannotOpen(
                f"{path} is in use by another taskloom server; stop it, or serve another --db"
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)
