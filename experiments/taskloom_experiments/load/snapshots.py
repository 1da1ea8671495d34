"""Snapshots: what import and export of a large graph cost, against raw inserts of the same rows.

The graph is imported as a template, exported, and restored from that export. Then the rows of its
tasks and dependencies, and in a second turn all rows that the import wrote, are inserted in one
transaction into an empty database of the same schema, by the same driver, by this process. Both
sides are told in processor time.
"""

import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw
from taskloom import v1
from taskloom_client import Client
from taskloom_server.store.connections import writing
from taskloom_server.store.schema import prepare

from taskloom_experiments.load.measured import Figure, Measured
from taskloom_experiments.load.serving import Served, serving

BAR = 3.0
_CHUNK = 1 << 18
_PATIENCE_S = 1_800.0
_MIB = 1 << 20
_ASKED = ("tasks", "dependencies")
_ALL = (*_ASKED, "task_sequence", "events")


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """How large the graph is; each task but the first waits for one or two of those before it."""

    tasks: int = 100_000
    dependencies: int = 200_000
    seed: int = 1


async def measure_snapshots(settings: SnapshotSettings, folder: Path) -> Measured:
    """Measure it with servers of its own, whose files lie in ``folder``."""
    template, exported = folder / "template.json", folder / "exported.json"
    template.write_text(_template(settings), encoding="utf-8")
    first, second = folder / "first", folder / "second"
    for place in (first, second):
        place.mkdir()
    async with serving(first) as server, Client(server.target) as client:
        begun, begun_peak = await _import(client, server, template, v1.IMPORT_MODE_TEMPLATE)
        used = server.cpu_seconds()
        with exported.open("wb") as file:
            request = v1.ExportSnapshotRequest()
            async for answer in client.admin.ExportSnapshot(request, timeout=_PATIENCE_S):
                file.write(answer.chunk)
        export = server.cpu_seconds() - used
    async with serving(second) as server, Client(server.target) as client:
        restored, restored_peak = await _import(client, server, exported, v1.IMPORT_MODE_RESTORE)
    asked = _insert(first / "tasks.db", folder / "asked.db", _ASKED)
    everything = _insert(first / "tasks.db", folder / "all.db", _ALL)
    return Measured(
        scenario=f"snapshots, {settings.tasks:,} tasks with {settings.dependencies:,} dependencies",
        settings=asdict(settings),
        figures=(
            Figure("server CPU of an import, against its rows raw", begun / asked, "times", BAR),
            Figure("the same, against all rows written", begun / everything, "times"),
            Figure("server CPU of a restore, against its rows raw", restored / asked, "times", BAR),
            Figure("the same, against all rows written", restored / everything, "times"),
            Figure("server CPU of an export, against the rows raw", export / asked, "times"),
            Figure("server CPU of an import", begun, "s"),
            Figure("server CPU of a restore", restored, "s"),
            Figure("server CPU of an export", export, "s"),
            Figure("raw inserts of tasks and dependencies", asked, "s"),
            Figure("raw inserts of all rows", everything, "s"),
            Figure("memory that an import took at the most", begun_peak / _MIB, "MiB"),
            Figure("memory that a restore took at the most", restored_peak / _MIB, "MiB"),
            Figure("size of the export", exported.stat().st_size / _MIB, "MiB"),
        ),
    )


def _template(settings: SnapshotSettings) -> str:
    luck = random.Random(settings.seed)
    ids = [f"task-{n:07}" for n in range(settings.tasks)]
    edges: dict[tuple[str, str], None] = {}
    while len(edges) < settings.dependencies:
        to = luck.randrange(1, settings.tasks)
        edges[ids[luck.randrange(max(0, to - 1_000), to)], ids[to]] = None
    tasks = [
        {
            "id": id_,
            "title": f"Do {id_}",
            "description": f"What {id_} is about, in a sentence or two, as people write them.",
            "priority": luck.randrange(11),
        }
        for id_ in ids
    ]
    dependencies = [
        {"from_task_id": from_, "to_task_id": to, "dep_type": "blocks"} for from_, to in edges
    ]
    tables = {"tasks": tasks, "dependencies": dependencies}
    return json.dumps({"schema_version": 3, "tables": tables}, indent=2)


async def _import(
    client: Client, server: Served, file: Path, mode: v1.ImportMode.ValueType
) -> tuple[float, int]:
    """Import a file: the server's CPU seconds, and by how many bytes its peak of memory grew."""

    async def messages() -> AsyncIterator[v1.ImportSnapshotRequest]:
        yield v1.ImportSnapshotRequest(options=v1.ImportOptions(mode=mode))
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield v1.ImportSnapshotRequest(chunk=chunk)

    used, resident = server.cpu_seconds(), server.resident_bytes()
    await client.admin.ImportSnapshot(messages(), timeout=_PATIENCE_S)
    return server.cpu_seconds() - used, server.peak_bytes() - resident


def _insert(source: Path, target: Path, tables: tuple[str, ...]) -> float:
    """Insert the rows of some tables of a database into a new one: CPU seconds that it took."""
    prepare(target)
    read = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
    database = writing(target)
    database.connect()
    try:
        connection = database.connection()
        rows = {table: list(_rows(read, table)) for table in tables}
        began = time.process_time()
        connection.execute("BEGIN IMMEDIATE")
        for table, (columns, *values) in rows.items():
            named = ", ".join(f'"{column}"' for column in columns)
            marks = ", ".join("?" * len(columns))
            connection.executemany(f'INSERT INTO "{table}" ({named}) VALUES ({marks})', values)
        connection.execute("COMMIT")
        return time.process_time() - began
    finally:
        database.close()
        read.close()


def _rows(connection: apsw.Connection, table: str) -> Iterator[tuple[object, ...]]:
    """The names of the columns that are stored, and then the rows."""
    columns = tuple(row[1] for row in connection.execute(f'PRAGMA table_info("{table}")'))
    yield columns
    named = ", ".join(f'"{column}"' for column in columns)
    yield from connection.execute(f'SELECT {named} FROM "{table}"')
