"""Opening a run's ``tasks.db`` so that nothing can write it, and running a definition's queries.

A definition comes from anybody, and its queries run as they stand. Three locks hold, each alone
enough for the file: it is opened read-only, ``query_only`` is set, and an authorizer lets pass
nothing but reads; the authorizer also keeps a query from other files (ATTACH). A query has a limit
of rows and of time. What the queries mean is no business of this module.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from taskloom_experiments.errors import ExperimentError

Value = int | float | str | None
"""A cell as reports and files show it: a blob is told by its size, a long text is cut."""

_LONGEST_TEXT = 2_000
_LARGEST_VALUE_BYTES = 4 * 1024 * 1024  # what a query may build: an attachment has 1 MiB
_STEPS_BETWEEN_LOOKS_AT_THE_CLOCK = 2_000
_BUSY_TIMEOUT_MS = 5_000

_READS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS = frozenset(
    {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}
)


class DatabaseUnreadable(ExperimentError):
    """A file cannot be analysed as a run; the text is one sentence naming it and the reason."""


@dataclass(frozen=True)
class QueryLimits:
    """How much one query may take: rows kept, and seconds until it is stopped."""

    rows: int = 10_000
    seconds: float = 10.0


@dataclass(frozen=True)
class QueryResult:
    """What a query returned; ``cut`` says that there were more rows than are kept."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    cut: bool = False


@dataclass(frozen=True)
class MeasurementError:
    """Why a measurement has no result: a clause for the report. The run's others go on."""

    reason: str


@contextmanager
def open_database(file: Path) -> Iterator[apsw.Connection]:
    """One unchanging view of a run's database, which cannot be written through it.

    Leaves no file beside it and needs no right to write there. A database that a server has open
    is seen as of now. Raises DatabaseUnreadable.
    """
    connection = _connect(file)
    try:
        connection.pragma("query_only", True)
        connection.execute("BEGIN")
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except apsw.Error as error:
            raise DatabaseUnreadable(f"{file}: cannot be read: {error}") from error
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE_BYTES)
        connection.authorizer = _only_reads
        yield connection
    finally:
        connection.close()


def run_query(
    connection: apsw.Connection, query: str, limits: QueryLimits | None = None
) -> QueryResult | MeasurementError:
    """Run a definition's query as it stands: one statement, nothing but reads.

    Whatever is wrong with it is the result, never an exception.
    """
    limits = limits or QueryLimits()
    statements: list[tuple[str, ...]] = []

    def each_statement(cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
        if not cursor.is_readonly:  # VACUUM INTO is none of the authorizer's actions
            raise apsw.ReadOnlyError
        columns = tuple(str(column[0]) for column in cursor.get_description())
        if columns:  # a comment behind the last semicolon has none
            statements.append(columns)
        return len(statements) <= 1

    deadline = time.monotonic() + limits.seconds
    connection.set_progress_handler(
        lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS_AT_THE_CLOCK
    )
    cursor = connection.cursor()
    cursor.exec_trace = each_statement
    try:
        # one more than is kept tells whether there are more
        each = (tuple(_shown(value) for value in row) for row in cursor.execute(query))
        found = tuple(itertools.islice(each, limits.rows + 1))
    except apsw.Error as error:
        return MeasurementError(_why_not(error, limits))
    finally:
        cursor.close(force=True)
        connection.set_progress_handler(None)
    if not statements:
        return MeasurementError("failed: it holds no statement that returns rows")
    return QueryResult(statements[0], found[: limits.rows], cut=len(found) > limits.rows)


def check_query(connection: apsw.Connection, query: str) -> MeasurementError | None:
    """Why a query could have no answer, whatever the rows; it is prepared, and not run."""
    explained = query.lstrip()[:7].upper() == "EXPLAIN"
    answer = run_query(connection, query if explained else f"EXPLAIN {query}")
    return answer if isinstance(answer, MeasurementError) else None


def table_columns(connection: apsw.Connection, table: str) -> frozenset[str]:
    """The columns that a table has in this database; empty where there is no such table."""
    found = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return frozenset(str(row[0]) for row in found)


def _why_not(error: apsw.Error, limits: QueryLimits) -> str:
    match error:
        case apsw.InterruptError():
            return f"stopped after {limits.seconds:g} s, the time a query may take"
        case apsw.ExecTraceAbort():
            return "refused: it holds more than one statement"
        case apsw.AuthError() | apsw.ReadOnlyError():
            return "refused: it does more than read this database"
        case apsw.SQLError() if "not authorized" in str(error):  # a forbidden function
            return "refused: it does more than read this database"
        case _:
            return f"failed: {error}"


def _connect(file: Path) -> apsw.Connection:
    try:
        with file.open("rb") as opened:
            header = opened.read(20)
    except OSError as error:
        raise DatabaseUnreadable(f"{file}: cannot be read: {error.strerror}") from error
    if not header.startswith(b"SQLite format 3\0"):
        raise DatabaseUnreadable(f"{file}: is not an SQLite database")
    # A WAL database that nobody has open would get -wal and -shm files from a mere reader, which
    # a reader cannot remove. Without a -wal the file alone is the whole of it, and stands still.
    write_ahead = header[18:20] == b"\x02\x02"
    at_rest = write_ahead and not file.with_name(file.name + "-wal").exists()
    uri = file.resolve().as_uri() + ("?immutable=1" if at_rest else "")
    try:
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    except apsw.Error as error:
        raise DatabaseUnreadable(f"{file}: cannot be opened: {error}") from error
    connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
    return connection


def _only_reads(
    action: int, first: str | None, second: str | None, _schema: str | None, _trigger: str | None
) -> int:
    allowed = (
        action in _READS
        or (action == apsw.SQLITE_FUNCTION and second not in _FORBIDDEN_FUNCTIONS)
        or (action == apsw.SQLITE_PRAGMA and first == "table_info")
    )
    return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY


def _shown(value: object) -> Value:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return value[:_LONGEST_TEXT] + "…"
    if value is None or isinstance(value, int | float | str):
        return value
    return str(value)
