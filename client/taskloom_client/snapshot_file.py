"""Snapshot files, read row by row: a large one is never in memory as a whole.

Standard library only, so that files can be compared where no server is installed.
"""

import codecs
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

Row = dict[str, Any]

SCHEMA_VERSION = 3
_HASHED_FROM = b'\n  "tables": '
_HEADER_HASHED_TO = b'\n  "header_sha256": '
_LONGEST_HEADER = 1 << 18  # bytes; what is longer is no export's
_CHUNK = 1 << 16
_BLANKS = " \t\r\n"
_IN_NUMBERS = "0123456789.eE+-"
_decode = json.JSONDecoder().raw_decode


class BadSnapshot(Exception):
    """A file is no snapshot, or not whole; ``str()`` names it and says what is wrong."""


class SnapshotFile:
    """A snapshot on disk, JSON or gzipped JSON; ``name`` is what people call it, else its path.

    ``header`` and ``tables``, in the order of the file, are known when ``rows`` came to its end.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = path
        self.name = name or str(path)
        self.header: Row = {}
        self.tables: list[str] = []

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Each row, with its table's name.

        Raises OSError, and BadSnapshot: at the end, too, when the hash is another.
        """
        self.header, self.tables = {}, []
        with self.path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
            text = _Text(stream)
            try:
                yield from self._rows(text)
                text.close()
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise self.bad(f"the gzip file is damaged or truncated: {error}") from error
            except UnicodeDecodeError as error:
                raise self.bad("is not whole JSON: it is not UTF-8") from error
            except _Broken as error:
                raise self.bad(f"is not whole JSON: {error}") from error
        self._check(text)

    def bad(self, problem: str) -> BadSnapshot:
        """The refusal of this file."""
        return BadSnapshot(f"{self.name}: {problem}")

    def _rows(self, text: "_Text") -> Iterator[tuple[str, Row]]:
        for key in text.object_keys():
            if key != "tables":
                self.header[key] = text.value()
                continue
            for table in text.object_keys():
                self.tables.append(table)
                for row in text.array_items():
                    if not isinstance(row, dict):
                        raise self.bad(f"tables.{table} has a row that is no object")
                    yield table, row

    def _check(self, text: "_Text") -> None:
        version = self.header.get("schema_version")
        if version != SCHEMA_VERSION:
            raise self.bad(f"schema_version is {version!r}; this is for version {SCHEMA_VERSION}")
        for name, found in (
            ("content_sha256", text.sha256()),
            ("header_sha256", text.header_sha256()),
        ):
            said = self.header.get(name)
            if said is not None and said != found:
                raise self.bad(
                    f"was damaged or changed since its export: {name} is of other contents; "
                    f"to take it as it is, remove {name}"
                )


class _Broken(Exception):
    """What was read is not JSON."""


class _Text:
    """JSON that is read piece by piece, and hashed from its tables on."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._ended = False
        self._hash = hashlib.sha256()
        self._before: bytes | None = b""  # all before the tables; None: there is no such line
        self._in_tables = False

    def sha256(self) -> str | None:
        """Of the bytes from the line of the tables on; None if there is no such line."""
        return self._hash.hexdigest() if self._in_tables else None

    def header_sha256(self) -> str | None:
        """Of the bytes before the line with the hash of the header; None if there is none."""
        end = (self._before or b"").find(_HEADER_HASHED_TO)
        return hashlib.sha256((self._before or b"")[: end + 1]).hexdigest() if end >= 0 else None

    def object_keys(self) -> Iterator[str]:
        """The keys of the object that comes; the value of each is to be read before the next."""
        for _ in self._members("{", "}"):
            key = self.value()
            if not isinstance(key, str):
                raise _Broken("a key is no string")
            self._take(":")
            yield key

    def array_items(self) -> Iterator[Any]:
        """The items of the array that comes, or of none for null."""
        if self._peek() == "n" and self.value() is None:
            return
        for _ in self._members("[", "]"):
            yield self.value()

    def value(self) -> Any:
        """The value that comes."""
        self._peek()
        wanted = _CHUNK
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if self._ended or isinstance(error, RecursionError):
                    raise _Broken(str(error)) from error
            else:
                # A number may go on beyond what was read, and "1." is read as 1.
                goes_on = self._text[end : end + 1] in _IN_NUMBERS  # as the empty one is
                if self._ended or not goes_on:
                    self._at = end
                    return value
            self._read(wanted)
            wanted *= 2  # else a large value is begun again too often

    def close(self) -> None:
        """Read to the end. Raises _Broken if there is anything but blanks."""
        if self._peek():
            raise _Broken("something comes after its end")

    def _members(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self._peek() == closing:
            self._at += 1
            return
        while True:
            yield
            if self._peek() == closing:
                self._at += 1
                return
            self._take(",")

    def _take(self, character: str) -> None:
        found = self._peek()
        if found != character:
            raise _Broken(f"{character!r} was expected, and {found or 'the end'!r} came")
        self._at += 1

    def _peek(self) -> str:
        """The next character that is no blank; empty: the end."""
        while True:
            while self._at < len(self._text):
                if (character := self._text[self._at]) not in _BLANKS:
                    return character
                self._at += 1
            if self._ended:
                return ""
            self._read(_CHUNK)

    def _read(self, size: int) -> None:
        chunk = self._stream.read(size)
        self._ended = not chunk
        self._note(chunk)
        self._text = self._text[self._at :] + self._decoder.decode(chunk, final=not chunk)
        self._at = 0

    def _note(self, chunk: bytes) -> None:
        if self._in_tables:
            self._hash.update(chunk)
            return
        if self._before is None:
            return
        self._before += chunk
        start = self._before.find(_HASHED_FROM)
        if start >= 0:
            self._in_tables = True
            self._hash.update(self._before[start + 1 :])
            self._before = self._before[: start + 1]
        elif len(self._before) > _LONGEST_HEADER:
            self._before = None
