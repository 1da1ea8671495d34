"""What differs between two snapshots: rows that came, that went, and what changed in others.

Of all rows only the key and a digest are kept, and of those that differ the rows themselves, in a
second reading. Contents of attachments stand in for themselves by their SHA-256.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from taskloom_client.snapshot_file import BadSnapshot, Row, SnapshotFile

Key = tuple[Any, ...]

# What names a row; the rows of other tables are named by all that stands in them.
KEYS: dict[str, tuple[str, ...]] = {
    "tasks": ("id",),
    "dependencies": ("from_task_id", "to_task_id", "dep_type"),
    "attachments": ("task_id", "attachment_type", "sequence"),
    "task_tags": ("task_id", "tag"),
    "task_needed_tags": ("task_id", "tag"),
    "task_wanted_tags": ("task_id", "tag"),
    "task_sequence": ("id",),
}
# Tables that say again what stands in a column of the task.
_TAG_COLUMNS = {
    "task_tags": "tags",
    "task_needed_tags": "needed_tags",
    "task_wanted_tags": "wanted_tags",
}
# Of large attachments, whose rows name their SHA-256.
_CONTENTS = "media"
_SEEN = b""  # in the place of the digest of a row that the other file has, too


@dataclass(frozen=True)
class Changed:
    """A row that is in both. ``fields``: what is another, as it was and as it is."""

    key: Key
    fields: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class TableDiff:
    """What differs in one table, each part in the order of its file."""

    added: list[Row] = field(default_factory=list)
    removed: list[Row] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Difference:
    """What differs between two snapshots, and the tables that only one of them has."""

    tables: dict[str, TableDiff]
    only_in_one: list[str]

    def __bool__(self) -> bool:
        """Whether anything differs in the tables that both have."""
        return any(self.tables.values())


def diff(a: SnapshotFile, b: SnapshotFile, *, ignore: Iterable[str] = ()) -> Difference:
    """What must happen to ``a`` to make it ``b``.

    ``ignore``: columns that are not looked at. An absent column is as one that is null. Raises
    OSError, and BadSnapshot for a file that is damaged, is of another version, or has two rows of
    one key.
    """
    ignored = frozenset(ignore)
    digests = _digests(a, ignored)
    added: set[tuple[str, Key]] = set()
    changed: set[tuple[str, Key]] = set()
    for table, key, row in _rows(b, ignored):
        digest = digests.get((table, key))
        if digest is _SEEN or (table, key) in added:
            raise _twice(b, table, key)
        if digest is None:
            added.add((table, key))
            continue
        digests[table, key] = _SEEN
        if digest != _digest(row):
            changed.add((table, key))
    both = [table for table in b.tables if table in a.tables and table != _CONTENTS]
    tables = {table: TableDiff() for table in both}
    before: dict[tuple[str, Key], Row] = {}
    if changed or any(digest is not _SEEN for digest in digests.values()):
        for table, key, row in _rows(a, ignored):
            if (table, key) in changed:
                before[table, key] = row
            elif table in tables and digests[table, key] is not _SEEN:
                tables[table].removed.append(row)
    if added or changed:
        for table, key, row in _rows(b, ignored):
            if (table, key) in added and table in tables:
                tables[table].added.append(row)
            elif (table, key) in changed:
                fields = _fields(before[table, key], row)
                tables[table].changed.append(Changed(key, fields))
    _leave_out_repeated_tags(tables)
    return Difference(tables, sorted(({*a.tables} ^ {*b.tables}) - {_CONTENTS}))


def _digests(file: SnapshotFile, ignored: frozenset[str]) -> dict[tuple[str, Key], bytes]:
    digests: dict[tuple[str, Key], bytes] = {}
    for table, key, row in _rows(file, ignored):
        if (table, key) in digests:
            raise _twice(file, table, key)
        digests[table, key] = _digest(row)
    return digests


def _twice(file: SnapshotFile, table: str, key: Key) -> BadSnapshot:
    return file.bad(f"tables.{table}: {', '.join(map(repr, key))} stands there twice")


def _rows(file: SnapshotFile, ignored: frozenset[str]) -> Iterator[tuple[str, Key, Row]]:
    for table, raw in file.rows():
        if table == _CONTENTS:
            continue
        row = _comparable(file, table, raw)
        names = KEYS.get(table)
        if names is None:
            key: Key = (json.dumps(row, sort_keys=True),)
        else:
            key = tuple(row.get(name) for name in names)
        if not all(part is None or isinstance(part, str | int) for part in key):
            raise file.bad(f"tables.{table} has a row whose key is {key!r}")
        named = names or ()
        yield table, key, {n: v for n, v in row.items() if n not in ignored or n in named}


def _comparable(file: SnapshotFile, table: str, row: Row) -> Row:
    """The row without what is absent, and with the hash of a content in its place."""
    row = {name: value for name, value in row.items() if value is not None}
    if table == "attachments":
        row.setdefault("sequence", 0)
        content = str(row.pop("content", "")).encode(errors="surrogatepass")
        if row.pop("content_encoding", "utf-8") == "base64":
            try:
                content = base64.b64decode(content, validate=True)
            except binascii.Error as error:
                raise file.bad("tables.attachments has a content that is no base64") from error
        row["size"] = len(content)
        row["sha256"] = hashlib.sha256(content).hexdigest()
    return row


def _digest(row: Row) -> bytes:
    text = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _fields(before: Row, after: Row) -> dict[str, tuple[Any, Any]]:
    names = [*before, *(name for name in after if name not in before)]
    return {
        name: (before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    }


def _leave_out_repeated_tags(tables: dict[str, TableDiff]) -> None:
    """Drop rows of the tables of tags that say what is told of their task already."""
    told = tables.get("tasks", TableDiff())
    whole = {row["id"] for row in (*told.added, *told.removed)}
    for table, column in _TAG_COLUMNS.items():
        if table in tables:
            known = whole | {one.key[0] for one in told.changed if column in one.fields}
            one = tables[table]
            tables[table] = TableDiff(
                [row for row in one.added if row["task_id"] not in known],
                [row for row in one.removed if row["task_id"] not in known],
                one.changed,
            )
