"""The process of one query: ``python -m taskloom_server.store.query_process``, and not imported.

A query is run as anybody wrote it, so it is given a process that may come to harm: no limit
within SQLite holds against a function that takes minutes for a single step, or a sort that takes
all memory. The kernel's do. Three things keep it from writing, each of them alone enough: the file
is opened read-only, ``query_only`` is set, and an authorizer lets pass nothing but reads. And no
file can be made to grow.

It reads an ask as JSON from standard input and writes an answer as JSON to standard output; see
``queries``, which is at the other end. It imports little, because it is started for each query.
"""

import base64
import contextlib
import json
import os
import re
import resource
import signal
import sys
from typing import Any

import apsw

MAX_BYTES = 16 << 20  # of all values together
_MAX_VALUE = 8 << 20
_HEAP = 256 << 20  # of SQLite: a clean end, "out of memory"
_ADDRESS_SPACE = 1 << 30  # of the process, should that not have been enough
_BUSY_MS = 1_000
_NICE = 5  # claims go first
_TELLING_SECONDS = 10.0
_LIMITS = (
    (apsw.SQLITE_LIMIT_LENGTH, _MAX_VALUE),
    (apsw.SQLITE_LIMIT_SQL_LENGTH, 1 << 20),
    (apsw.SQLITE_LIMIT_COLUMN, 500),
    (apsw.SQLITE_LIMIT_EXPR_DEPTH, 200),
    (apsw.SQLITE_LIMIT_COMPOUND_SELECT, 100),
    (apsw.SQLITE_LIMIT_VDBE_OP, 200_000),
    (apsw.SQLITE_LIMIT_ATTACHED, 0),
    (apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
    (apsw.SQLITE_LIMIT_WORKER_THREADS, 0),
)
_READS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS = frozenset(
    {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "sqlite_log"}
)
_SHOWN_ABOUT = frozenset(  # pragmas about what they are told
    {"table_info", "table_xinfo", "index_list", "index_info", "index_xinfo", "foreign_key_list"}
)
_SHOWN = frozenset(  # pragmas that would set something if they were told a value
    {
        "application_id",
        "collation_list",
        "compile_options",
        "data_version",  # which the index of words asks for
        "encoding",
        "freelist_count",
        "page_count",
        "page_size",
        "table_list",
        "user_version",
    }
)
# What may stand behind a statement: nothing but blanks, semicolons and comments.
_REST = re.compile(r"(?:[\s;]|--[^\n]*+|(?>/\*.*?(?:\*/|\Z)))*+\Z", re.DOTALL)
_READ_ONLY = "it does more than read; Query runs nothing but one statement that reads"


class _Refused(Exception):
    """What is told instead of rows: the kind of the refusal, and a sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _confine(seconds: float) -> None:
    """Put this process within its limits, for good."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    # Ends the process wherever it is, also when nobody is left to end it.
    signal.setitimer(signal.ITIMER_REAL, seconds)
    os.nice(_NICE)
    for limit, value in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, _ADDRESS_SPACE),
    ):
        with contextlib.suppress(OSError, ValueError):  # not every system has each of them
            resource.setrlimit(limit, (value, value))
    apsw.hard_heap_limit(_HEAP)


def _open(path: str) -> apsw.Connection:
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(_BUSY_MS)
    connection.pragma("query_only", 1)
    connection.pragma("temp_store", "memory")
    connection.pragma("cache_size", -16_000)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0)
    return connection


def _only_reads(
    action: int, first: str | None, second: str | None, _schema: str | None, _trigger: str | None
) -> int:
    allowed = (
        action in _READS
        or (action == apsw.SQLITE_FUNCTION and second not in _FORBIDDEN_FUNCTIONS)
        or (action == apsw.SQLITE_PRAGMA and first in _SHOWN_ABOUT)
        or (action == apsw.SQLITE_PRAGMA and first in _SHOWN and second is None)
    )
    return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode(errors="surrogatepass"))
    return len(value) if isinstance(value, bytes) else 8


def _run(ask: dict[str, Any]) -> dict[str, Any]:
    connection = _open(ask["path"])
    connection.execute("BEGIN")
    revision = connection.execute('SELECT revision FROM "system"').get
    for limit, value in _LIMITS:
        connection.limit(limit, value)
    connection.authorizer = _only_reads
    sql: str = ask["sql"]
    columns: list[str] = []
    statements = 0

    def begin(cursor: apsw.Cursor, statement: str, _bindings: object) -> bool:
        nonlocal statements
        if _REST.match(statement):  # a comment, or nothing, behind a semicolon
            return True
        statements += 1
        if statements > 1 or not _REST.match(sql, sql.index(statement) + len(statement)):
            raise _Refused("invalid", "it holds more than one statement; send them one by one")
        if not cursor.is_readonly:  # VACUUM INTO is none of the authorizer's actions
            raise _Refused("invalid", _READ_ONLY)
        columns.extend(str(column[0]) for column in cursor.get_description())
        return True

    cursor = connection.cursor()
    cursor.exec_trace = begin
    rows: list[list[Any]] = []
    truncation = ""
    size = 0
    named = ask["named_parameters"]
    parameters = ask["parameters"] if named is None else dict(named)
    for row in cursor.execute(sql, parameters, can_cache=False):
        if len(rows) == ask["max_rows"]:
            truncation = "rows"
            break
        size += 8 + sum(map(_size, row))
        if size > MAX_BYTES:
            truncation = "bytes"
            break
        rows.append(list(row))
    if not statements:
        raise _Refused("invalid", "it holds no statement")
    return {"columns": columns, "rows": rows, "truncation": truncation, "revision": revision}


def _refusal(error: Exception) -> dict[str, str]:
    """What went wrong, as the kind of refusal and the sentence for who asked."""
    match error:
        case _Refused():
            kind, message = error.kind, str(error)
        case apsw.AuthError() | apsw.ReadOnlyError():
            kind, message = "invalid", _READ_ONLY
        case apsw.SQLError() if "not authorized" in str(error) or "prohibited" in str(error):
            kind, message = "invalid", _READ_ONLY
        case apsw.TooBigError():
            kind, message = "value", f"a value has more than {_MAX_VALUE >> 20} MiB"
        case apsw.NoMemError() | MemoryError() | apsw.FullError() | apsw.IOError():
            kind, message = "memory", f"it takes more than {_HEAP >> 20} MiB of memory"
        case apsw.BindingsError() | KeyError():
            kind = "invalid"
            missing = f"there is no parameter {error}" if isinstance(error, KeyError) else error
            message = f"its parameters do not fit: {missing}"
        case UnicodeDecodeError():
            kind, message = "invalid", "a text is not UTF-8; ask for CAST(... AS BLOB) instead"
        case apsw.Error():
            kind, message = "invalid", str(error)
        case _:
            raise error
    return {"kind": kind, "message": message}


def _plain(value: Any) -> dict[str, str]:
    return {"blob": base64.b64encode(value).decode()}


def _read(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["blob"]) if value.keys() == {"blob"} else value


def main() -> None:
    """Answer what standard input asks."""
    ask = json.load(sys.stdin, object_hook=_read)
    _confine(ask["seconds"])
    try:
        answer: dict[str, Any] = _run(ask)
    except Exception as error:
        answer = _refusal(error)
    signal.setitimer(signal.ITIMER_REAL, _TELLING_SECONDS)  # what was found in time is told
    sys.stdout.write(json.dumps(answer, default=_plain))  # to a stream takes ten times as long
    sys.stdout.flush()
    os._exit(0)  # there is nothing to clean up that the end of the process does not


if __name__ == "__main__":
    main()
