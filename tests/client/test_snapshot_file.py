"""Snapshot files, read row by row, and what differs between two of them."""

import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from taskloom_client import snapshot_file
from taskloom_client.diff import diff
from taskloom_client.snapshot_file import BadSnapshot, SnapshotFile

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), max_size=4)
TABLES = st.dictionaries(st.text(max_size=8), ROWS, max_size=3)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tables=TABLES,
    indent=st.sampled_from([None, 0, 2]),
    chunk=st.integers(1, 40),
    packed=st.booleans(),
    ascii_only=st.booleans(),
)
def test_rows_are_those_of_the_document(
    tmp_path: Path,
    *,
    tables: dict[str, list[dict[str, Any]]],
    indent: int | None,
    chunk: int,
    packed: bool,
    ascii_only: bool,
) -> None:
    """Whatever its layout, and wherever it is cut as it is read, the rows are the file's."""
    document = {"x": [tables], "tables": tables, "schema_version": 3, "y": 1.5}
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(text) if packed else text)
    file = SnapshotFile(path)
    with mock.patch.object(snapshot_file, "_CHUNK", chunk):
        rows = list(file.rows())
    assert rows == [(table, row) for table, rows in tables.items() for row in rows]
    assert file.tables == list(tables)
    assert file.header == {key: document[key] for key in ("x", "schema_version", "y")}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tables=TABLES, data=st.data())
def test_a_truncated_file_is_never_a_snapshot(
    tmp_path: Path, tables: dict[str, Any], data: st.DataObject
) -> None:
    """However a file is cut short, it is refused."""
    text = json.dumps({"schema_version": 3, "tables": tables}).encode()
    path = tmp_path / "file"
    path.write_bytes(text[: data.draw(st.integers(0, len(text) - 1))])
    with pytest.raises(BadSnapshot, match="not whole JSON"):
        list(SnapshotFile(path).rows())


def test_a_large_file_is_not_held(tmp_path: Path) -> None:
    """Comparing files takes memory for their keys, not for their contents."""
    path = tmp_path / "large.json.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        file = io.TextIOWrapper(packed)
        file.write('{"schema_version": 3, "tables": {"tasks": [')
        for n in range(3_000):
            row = {"id": f"t{n}", "title": "t", "description": "x" * 10_000}
            file.write(("," if n else "") + json.dumps(row))
        file.write("]}}")
        file.flush()
    tracemalloc.start()
    assert not diff(SnapshotFile(path), SnapshotFile(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000  # of 30 MB


WHOLE = json.dumps({"schema_version": 3, "tables": {"tasks": [{"id": "a"}]}}).encode()
PACKED = gzip.compress(WHOLE, mtime=0)


def of_tasks(*rows: Any) -> bytes:
    """A file with these rows of tasks."""
    return json.dumps({"schema_version": 3, "tables": {"tasks": rows}}).encode()


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (WHOLE[:-3], "JSON"),
        (b"", "JSON"),
        (PACKED[:-3], "gzip"),
        (PACKED[:20] + b"\xff" * 20, "gzip"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"schema_version": 3, "tables": {"tasks": [' + b"[" * 100_000, "JSON"),
        (b'{"schema_version": ' + b"9" * 5_000 + b"}", "JSON"),
        (WHOLE.replace(b": 3", b": 2"), "schema_version is 2"),
        (b"{}", "schema_version"),
        (of_tasks({"id": "a"}, {"id": "a"}), "'a' stands there twice"),
        (of_tasks({"id": "b"}, {"id": "b"}), "'b' stands there twice"),
        (of_tasks(7), "no object"),
        (of_tasks({"id": ["a"]}), "key"),
        (WHOLE + b"x", "JSON"),
        (WHOLE[:-1] + b', "content_sha256": "abc"}', "content_sha256"),
    ],
)
def test_bad_files(tmp_path: Path, contents: bytes, words: str) -> None:
    """A file that is damaged, no snapshot, or not one of this version is refused by its name."""
    (tmp_path / "good").write_bytes(WHOLE)
    (tmp_path / "bad").write_bytes(contents)
    good, bad = SnapshotFile(tmp_path / "good"), SnapshotFile(tmp_path / "bad", "it")
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(BadSnapshot, match=f"^it: .*({words})"):
            diff(*pair)


def test_unknown_tables_are_compared_by_their_rows(tmp_path: Path) -> None:
    """Rows of a table whose key nobody knows are the same when all that is in them is."""
    files = []
    for name, rows in (("a", [{"x": 1}, {"x": [2]}]), ("b", [{"x": [2]}, {"x": 3}])):
        path = tmp_path / name
        path.write_text(json.dumps({"schema_version": 3, "tables": {"budgets": rows}}))
        files.append(SnapshotFile(path))
    found = diff(*files).tables["budgets"]
    assert (found.added, found.removed, found.changed) == ([{"x": 3}], [{"x": 1}], [])
