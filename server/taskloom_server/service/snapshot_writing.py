"""Snapshot files, written: a row a line, byte for byte alike for graphs that are alike."""

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from typing import IO, Any

import orjson

from taskloom_server import __version__
from taskloom_server.graph.snapshots import ATTACHMENTS, MEDIA, TASKS
from taskloom_server.graph.tasks import Attachment, Task
from taskloom_server.service.snapshot_files import SCHEMA_VERSION
from taskloom_server.service.snapshot_layout import CHUNK, HASH, HEADER_HASH
from taskloom_server.service.snapshot_rows import FORMS, TASK_COLUMNS

_LINES_AT_ONCE = 500
_PIECE = 192 << 10  # bytes of a content in one row
_PLACES = {column: n for n, column in enumerate((*Task._fields, "metrics"))}
_COLUMNS = itemgetter(*(_PLACES[column] for column in TASK_COLUMNS))


class SnapshotWriter:
    """Puts the tables of a snapshot into a file, one after the other, and the header before them.

    The hash stands before what it is of: so the tables are written first, and read for sending.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._tables = 0
        self.files: dict[str, int] = {}  # of the media folder that are referred to; their sizes
        self._put(b'  "tables": {')

    def table(self, name: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write a table, whose rows are as their records."""
        self._write(name, map(self._row(name), rows))

    def media(self, pieces: Callable[[str, int], Iterator[bytes]]) -> None:
        """Write the contents of the files that are referred to, as ``pieces`` gives them."""

        def rows() -> Iterator[dict[str, Any]]:
            for name, size in self.files.items():
                for piece in pieces(name, size):
                    for start in range(0, len(piece), _PIECE):
                        content = base64.b64encode(piece[start : start + _PIECE]).decode()
                        yield {"file_path": name, "content": content}

        self._write(MEDIA, rows(), at_once=1)

    def finish(self, exported_at: int) -> bytes:
        """Write the end; the header, which is to be sent first. ``exported_at`` in Unix ms."""
        self._put(b"\n  }\n}\n")
        header = {
            "schema_version": SCHEMA_VERSION,
            "export_version": __version__,
            "exported_at": datetime.fromtimestamp(exported_at / 1000, UTC).isoformat(),
            "exported_by": "taskloom",
            HASH: self._hash.hexdigest(),
        }
        text = orjson.dumps(header, option=orjson.OPT_INDENT_2).removesuffix(b"\n}") + b",\n"
        return text + f'  "{HEADER_HASH}": "{hashlib.sha256(text).hexdigest()}",\n'.encode()

    def _write(
        self, name: str, rows: Iterator[dict[str, Any]], at_once: int = _LINES_AT_ONCE
    ) -> None:
        self._put(b'%s\n    "%s": [' % (b"," if self._tables else b"", name.encode()))
        self._tables += 1
        first = True
        while some := [orjson.dumps(row) for row in islice(rows, at_once)]:
            self._put((b"\n      " if first else b",\n      ") + b",\n      ".join(some))
            first = False
        self._put(b"]" if first else b"\n    ]")

    def _row(self, table: str) -> Callable[[Any], dict[str, Any]]:
        if table == TASKS:
            return _task
        if table == ATTACHMENTS:
            return self._attachment
        columns = tuple(FORMS[table].model_fields)
        return lambda row: dict(zip(columns, row, strict=True))

    def _attachment(self, attachment: Attachment) -> dict[str, Any]:
        if attachment.file_path is not None:
            self.files[attachment.file_path] = attachment.size
            text, encoding = None, "utf-8"
        else:
            text, encoding = _text(attachment.content or b"")
        row = {
            "task_id": attachment.task_id,
            "attachment_type": attachment.attachment_type,
            "sequence": attachment.sequence,
            "name": attachment.name,
            "mime_type": attachment.mime_type,
            "content": text,
            "content_encoding": encoding,
            "file_path": attachment.file_path,
        }
        if attachment.file_path is not None:
            row["size"] = attachment.size
        return row | {"created_at": attachment.created_at}

    def _put(self, text: bytes) -> None:
        self._hash.update(text)
        self._file.write(text)


def chunks(header: bytes, file: IO[bytes], *, gzipped: bool) -> Iterator[bytes]:
    """A file that was written, to be sent."""
    parts = _chunks(header, file)
    return _gzipped(parts) if gzipped else parts


def _chunks(header: bytes, file: IO[bytes]) -> Iterator[bytes]:
    yield header
    file.seek(0)
    while chunk := file.read(CHUNK):
        yield chunk


def _gzipped(parts: Iterator[bytes]) -> Iterator[bytes]:
    # As gzip has it, but without a time stamp: the one in the file's header is enough.
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    waiting = b""
    for part in parts:
        waiting += packer.compress(part)
        if len(waiting) >= CHUNK:
            yield waiting
            waiting = b""
    yield waiting + packer.flush()


def _task(task: Task) -> dict[str, Any]:
    return dict(zip(TASK_COLUMNS, _COLUMNS((*task, task.metrics)), strict=True))


def _text(content: bytes) -> tuple[str, str]:
    """A content as text, and how it is encoded."""
    try:
        return content.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(content).decode(), "base64"
