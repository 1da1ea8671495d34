"""How a snapshot file is laid out, for its rows to be read some at a time, and its hashes.

An export has its header on lines of its own, each table's name on one, and each row begins on one:

    {
      "schema_version": 3,
      …
      "content_sha256": "…",
      "header_sha256": "…",
      "tables": {
        "tasks": [
          {"id":"a",…},
          {"id":"b",…}
        ],
        "dependencies": []
      }
    }

A file that is laid out otherwise is read as a whole.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import IO, Any

import orjson

from taskloom_server.graph.errors import InvalidSnapshot

MAX_WHOLE = 256 << 20
"""Bytes of a file in another layout, which is read as a whole."""
HASH = "content_sha256"
HEADER_HASH = "header_sha256"
CHUNK = 256 << 10
_AT_ONCE = 1_000  # rows of a file that was read as a whole
# No string holds a line's end as it is, so these are nowhere else.
_TABLES = b'\n  "tables": '
_HEADER_HASHED_TO = b'\n  "header_sha256": '
_TABLE = re.compile(rb'\n    ("(?:[^"\\\n]|\\.)*"): \[(\]?)')
_ROW = b"\n      {"
_END_OF_ROWS = b"\n    ]"
_END = b"\n  }\n}"

Blocks = Iterator[tuple[str, list[Any]]]


class OtherLayout(Exception):
    """The file is laid out in another way than an export, or is not whole; why."""


class SnapshotText:
    """A snapshot file, unpacked; ``header`` is all of it but its tables."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        """``size``: of the file, in bytes. Raises InvalidSnapshot."""
        self._file = file
        self._size = size
        self._tables: dict[str, Any] | None = None  # of a file that was read as a whole
        self._start = 0  # of the rows
        try:
            self.header = self._read_header()
        except OtherLayout as error:
            self.read_whole(error)

    def hashes(self) -> dict[str, str | None]:
        """The hash of its contents and that of its header, by name; None: it cannot have one."""
        if self._start == 0:
            return {HASH: None, HEADER_HASH: None}
        self._file.seek(0)
        head = self._file.read(self._start)
        tables = head.index(_TABLES) + 1
        digest = hashlib.sha256(head[tables:])
        while chunk := self._file.read(CHUNK):
            digest.update(chunk)
        end = head.find(_HEADER_HASHED_TO, 0, tables)
        of_header = hashlib.sha256(head[: end + 1]).hexdigest() if end >= 0 else None
        return {HASH: digest.hexdigest(), HEADER_HASH: of_header}

    def blocks(self) -> Blocks:
        """The rows, some at a time, each time with the name of their table, in their order.

        A table without rows comes once, with none. Raises InvalidSnapshot, and OtherLayout: then
        it is to be read as a whole, and begun anew.
        """
        return self._by_line() if self._tables is None else _slices(self._tables)

    def read_whole(self, why: OtherLayout) -> None:
        """Read it as any JSON, whose layout means nothing. Raises InvalidSnapshot."""
        if self._size > MAX_WHOLE:
            raise InvalidSnapshot(
                f"the snapshot is not whole JSON, or it is laid out otherwise than an export and "
                f"larger than {MAX_WHOLE:,} bytes: {why}"
            ) from why
        self._file.seek(0)
        try:
            document = orjson.loads(self._file.read())
        except orjson.JSONDecodeError as error:
            raise InvalidSnapshot(f"the snapshot is not whole JSON: {error}") from error
        if not isinstance(document, dict):
            raise InvalidSnapshot("the snapshot is not a JSON object")
        self.header = document
        self._tables = document.pop("tables", None)
        if not isinstance(self._tables, dict):
            self._tables = {}
            self.header["tables"] = None  # missing, or not an object

    def _read_header(self) -> dict[str, Any]:
        self._file.seek(0)
        head = self._file.read(CHUNK)
        at = head.find(_TABLES + b"{")
        if at < 0:
            raise OtherLayout("it has no line of tables")
        try:
            header = orjson.loads(head[:at].rstrip(b",") + b"}")
        except orjson.JSONDecodeError as error:
            raise OtherLayout(str(error)) from error
        if not isinstance(header, dict) or "tables" in header:
            raise OtherLayout("the header is no object, or has tables twice")
        self._start = at + len(_TABLES) + 1
        return header

    def _by_line(self) -> Blocks:
        self._file.seek(self._start)
        buffer = self._file.read(CHUNK)
        seen: set[bytes] = set()
        while begins := _TABLE.match(buffer):
            name = begins[1]
            if name in seen:
                raise OtherLayout(f"table {name.decode(errors='replace')} comes twice")
            seen.add(name)
            table: str = _loads(name)
            buffer = buffer[begins.end() :]
            if begins[2]:
                yield table, []
            else:
                while True:
                    end = buffer.find(_END_OF_ROWS)
                    cut = end if end >= 0 else buffer.rfind(_ROW, 1)
                    if cut >= 0:
                        yield table, _rows(buffer[:cut], are_last=end >= 0)
                        buffer = buffer[cut:]
                        if end >= 0:
                            break
                    more = self._file.read(max(CHUNK, len(buffer)))
                    if not more:
                        raise OtherLayout(f"table {table!r} has no end")
                    buffer += more
                buffer = buffer[len(_END_OF_ROWS) :]
            if len(buffer) < CHUNK:
                buffer += self._file.read(CHUNK)
            if not buffer.startswith(b","):
                break
            buffer = buffer[1:]
            if not buffer.startswith(b'\n    "'):
                raise OtherLayout("a comma has nothing after it")
        if not buffer.startswith(_END) or (buffer[len(_END) :] + self._file.read(1)).strip():
            raise OtherLayout("its end is not where it should be")


def _rows(text: bytes, *, are_last: bool) -> list[Any]:
    """The rows of an array in a piece of it, which ends with a comma unless it is the last."""
    if not are_last:
        if not text.endswith(b","):
            raise OtherLayout("there is no comma between two rows")
        text = text[:-1]
    rows: list[Any] = _loads(b"[" + text + b"]")
    return rows


def _loads(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise OtherLayout(str(error)) from error


def _slices(tables: dict[str, Any]) -> Blocks:
    for table, there in tables.items():
        rows = [] if there is None else there
        if not isinstance(rows, list):
            raise InvalidSnapshot(f"tables.{table} is not an array")
        yield table, rows[:_AT_ONCE]
        for start in range(_AT_ONCE, len(rows), _AT_ONCE):
            yield table, rows[start : start + _AT_ONCE]
