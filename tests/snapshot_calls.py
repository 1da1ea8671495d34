"""Importing, exporting and comparing snapshots, for the tests that do."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

from taskloom import v1
from taskloom_client import Client

Row: TypeAlias = dict[str, Any]
Document: TypeAlias = dict[str, Any]

TEMPLATE = v1.IMPORT_MODE_TEMPLATE
RESTORE = v1.IMPORT_MODE_RESTORE
MERGE = v1.IMPORT_MODE_MERGE
REPLACE = v1.IMPORT_MODE_REPLACE
SKIP = v1.CLASH_POLICY_SKIP
OVERWRITE = v1.CLASH_POLICY_OVERWRITE
_CHUNK = 1 << 20


async def bring_in(
    client: Client,
    snapshot: Document | bytes,
    mode: v1.ImportMode.ValueType = MERGE,
    **options: Any,
) -> v1.ImportSnapshotResponse:
    """Import a snapshot."""
    contents = snapshot if isinstance(snapshot, bytes) else json.dumps(snapshot).encode()

    async def requests() -> AsyncIterator[v1.ImportSnapshotRequest]:
        yield v1.ImportSnapshotRequest(options=v1.ImportOptions(mode=mode, **options))
        for start in range(0, len(contents), _CHUNK):
            yield v1.ImportSnapshotRequest(chunk=contents[start : start + _CHUNK])

    return await client.admin.ImportSnapshot(requests())


async def take_out(client: Client, **options: Any) -> bytes:
    """Export the graph."""
    request = v1.ExportSnapshotRequest(**options)
    return b"".join([answer.chunk async for answer in client.admin.ExportSnapshot(request)])


def headless(export: bytes) -> bytes:
    """An export without the lines of its header that say when it was made, and hash that."""
    return re.sub(rb'\n  "(?:exported_at|header_sha256)": "[^"]*",(?=\n)', b"", export, count=2)


def tables_of(export: bytes) -> dict[str, list[Row]]:
    """The tables of an export, tasks and their tags in the order of ids: a merge makes another."""
    tables: dict[str, list[Row]] = json.loads(export)["tables"]
    for table, rows in tables.items():
        if table.startswith("task") and table != "task_sequence":
            rows.sort(key=lambda row: (row.get("id") or row["task_id"], row.get("tag")))
    return tables


def resealed(export: bytes) -> bytes:
    """The file with the hashes that its contents and its header have."""
    start = export.index(b'\n  "tables": ') + 1
    seal = hashlib.sha256(export[start:]).hexdigest().encode()
    export = re.sub(rb'"content_sha256": "[0-9a-f]*"', b'"content_sha256": "' + seal + b'"', export)
    end = export.index(b'\n  "header_sha256": ') + 1
    seal = hashlib.sha256(export[:end]).hexdigest().encode()
    return re.sub(rb'"header_sha256": "[0-9a-f]*"', b'"header_sha256": "' + seal + b'"', export)


def document(**tables: Any) -> Document:
    """A snapshot of these tables."""
    return {"schema_version": 3, "tables": tables}


def task(id: str, /, **columns: Any) -> Row:
    """A row of ``tasks``."""
    return {"id": id, "title": id.upper(), "status": "pending"} | columns


def link(from_: str, to: str, type_: str = "blocks") -> Row:
    """A row of ``dependencies``."""
    return {"from_task_id": from_, "to_task_id": to, "dep_type": type_}


def note(task_id: str, content: str = "x", **columns: Any) -> Row:
    """A row of ``attachments``."""
    return {"task_id": task_id, "attachment_type": "note", "content": content} | columns


async def task_of(client: Client, task_id: str) -> v1.Task:
    """A task, as it is."""
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task_id))).task


async def ids_of(client: Client, **filters: Any) -> set[str]:
    """The ids of the tasks that pass the filters."""
    answer = await client.tasks.ListTasks(v1.ListTasksRequest(page_size=1_000, **filters))
    return {one.id for one in answer.tasks}
