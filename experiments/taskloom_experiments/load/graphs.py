"""Graphs of any size to measure on, as database files, made once and kept.

A million tasks by CreateTask take minutes, so one of each kind is made by the server, and its rows
are multiplied in the file: what the server writes of a task is there, in every table but the events
and the answers kept for retries, which are of calls that nobody made. So a graph is right for
whatever tables this version of the server has; the file's name says for which.
"""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path

import apsw
from taskloom import v1
from taskloom_client import Client
from taskloom_server.server import serving
from taskloom_server.settings import Settings
from taskloom_server.store.connections import Database, writing
from taskloom_server.store.schema import prepare

from taskloom_experiments.load.serving import DATABASE
from taskloom_experiments.whole_files import written_whole

# Where the rows of a task are, and by which column.
_OF_A_TASK = (
    ("tasks", "id"),
    ("task_sequence", "task_id"),
    ("task_tags", "task_id"),
    ("task_needed_tags", "task_id"),
    ("dependencies", "to_task_id"),
)
_EDITION = 1  # of what is made; raise it when that changes
GATE = "gate"
GATE_TAG = "nobody-has-this"
_WIDTH = 1_000  # blockers of one task, where many lead to one
_MOST_TAGS = 64  # of a worker


@dataclass(frozen=True, slots=True)
class Graph:
    """How many tasks (``task-1``…), how many of them are ready, and what they ask.

    ``requirements``: so many different pairs of tags are asked for, in turn. ``shape``: ``flat``,
    all that is not ready waits for one task that nobody may take; ``chains``, it waits for the
    task before it, so that each completion frees the next; ``fan-in``, as flat, but every thousand
    tasks lead to one that waits for all the ready ones among them.
    """

    tasks: int
    ready: float = 1.0
    requirements: int = 1
    shape: str = "flat"

    @property
    def name(self) -> str:
        """What its file is called, in the main."""
        return f"{self.shape}-{self.tasks}-{self.ready:g}-{self.requirements}"

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of tags that tasks ask for. Raises ValueError for too many."""
        tags = [f"skill-{n}" for n in range(_MOST_TAGS)]
        # By the later one of the two, so that few pairs have few tags.
        pairs = ((tags[low], tags[high]) for high in range(1, len(tags)) for low in range(high))
        found = list(islice(pairs, self.requirements))
        if len(found) < self.requirements:
            raise ValueError(f"there are {len(found)} pairs of {_MOST_TAGS} tags")
        return found

    @property
    def tags(self) -> list[str]:
        """The tags by which a worker may do any of them."""
        return sorted({tag for pair in self.pairs for tag in pair})

    def is_ready(self, number: int) -> bool:
        """Whether task ``number`` is; spread evenly."""
        return ceil(number * self.ready) > ceil((number - 1) * self.ready)

    def is_joint(self, number: int) -> bool:
        """Whether many lead to task ``number``."""
        joint = number % (_WIDTH + 1) == 0 or number == self.tasks
        return self.shape == "fan-in" and joint

    def plan(self) -> Iterator[tuple[int, str, str, int]]:
        """Of each task its number, id, example and priority."""
        for number in range(1, self.tasks + 1):
            kind = "ready" if self.is_ready(number) and not self.is_joint(number) else "blocked"
            # Neighbours in the file are no neighbours in the order of taking.
            priority = number * 7919 % 11
            yield number, f"task-{number}", f"{kind}-{number % self.requirements}", priority

    def edges(self) -> Iterator[tuple[str, str]]:
        """Which task blocks which."""
        leading: list[str] = []
        for number, id, example, _ in self.plan():
            if self.is_joint(number):
                yield from ((one, id) for one in leading)
                leading = []
            elif example.startswith("ready"):
                leading.append(id)
            else:
                yield (f"task-{number - 1}" if self.shape == "chains" else GATE), id


async def graph_file(graph: Graph, kept: Path) -> Path:
    """The file of a graph, in the folder in which such are kept; made if it is not there."""
    with tempfile.TemporaryDirectory(prefix=".graph-", dir=kept) as place:
        folder = Path(place)
        database = folder / DATABASE
        prepare(database)
        file = kept / f"graph-{graph.name}-{_schema(database)}.db"
        if not file.exists():
            await _make_examples(graph, folder)
            await _multiply(graph, database)
            with written_whole(file) as whole:
                shutil.move(database, whole)
    return file


async def lay_out(graph: Graph, kept: Path, folder: Path) -> None:
    """Put a copy of a graph's file where ``serving`` looks for the database."""
    await asyncio.to_thread(shutil.copyfile, await graph_file(graph, kept), folder / DATABASE)


def _schema(database: Path) -> str:
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        tables = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    finally:
        connection.close()
    return hashlib.sha256(f"{_EDITION}{tables}".encode()).hexdigest()[:8]


async def _make_examples(graph: Graph, folder: Path) -> None:
    """One task of each kind, by the server, which needs no process of its own for that."""
    settings = Settings(db=folder / DATABASE, listen="127.0.0.1:0")
    async with serving(settings) as server, Client(server.address) as client:

        async def make(id: str, tags: tuple[str, ...], *blockers: str) -> None:
            await client.tasks.CreateTask(
                v1.CreateTaskRequest(
                    id=id,
                    title=f"Write the parser, {id}",
                    description="It reads what the printer writes.",
                    needed_tags=tags,
                    tags=["code"],
                    blocked_by=blockers,
                )
            )

        await make(GATE, (GATE_TAG,))
        for index, pair in enumerate(graph.pairs):
            await make(f"ready-{index}", pair)
            await make(f"blocked-{index}", pair, GATE)


async def _multiply(graph: Graph, path: Path) -> None:
    """Make many of the examples; cancelled, it stops at once."""
    database: Database = writing(path)
    database.connect()
    connection: apsw.Connection = database.connection()
    making = asyncio.ensure_future(asyncio.to_thread(_copy_all, graph, connection))
    try:
        await asyncio.shield(making)
    except asyncio.CancelledError:
        connection.interrupt()
        await asyncio.wait((making,))
        making.exception()  # that it was interrupted
        raise
    finally:
        database.close()


def _copy_all(graph: Graph, connection: apsw.Connection) -> None:
    connection.pragma("synchronous", 0)
    connection.execute("BEGIN")
    _copy_rows(graph, connection)
    connection.execute("COMMIT")
    connection.execute("INSERT INTO task_search (task_search) VALUES ('optimize')")
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.pragma("journal_mode", "delete")  # one file to copy


def _copy_rows(graph: Graph, connection: apsw.Connection) -> None:
    execute = connection.execute
    execute(
        "CREATE TEMP TABLE plan "
        "(number INTEGER PRIMARY KEY, id TEXT, example TEXT, priority INTEGER)"
    )
    connection.executemany("INSERT INTO plan VALUES (?, ?, ?, ?)", graph.plan())
    tasks = execute("SELECT max(number) FROM tasks").get
    moves = execute("SELECT max(id) FROM task_sequence").get
    moved = {"id": f"{moves} + plan.number", "task_id": "plan.id"}
    _copy(connection, "task_sequence", "task_id", moved)
    task = {
        "number": f"{tasks} + plan.number",
        "id": "plan.id",
        "title": "'Write the parser, ' || plan.id",
        "priority": "plan.priority",
        "sequence_id": f"{moves} + plan.number",
    }
    _copy(connection, "tasks", "id", task)
    for table in ("task_tags", "task_needed_tags"):
        _copy(connection, table, "task_id", {"task_id": "plan.id"})
    connection.executemany("INSERT INTO dependencies VALUES (?, ?, 'blocks')", graph.edges())
    execute(
        "UPDATE tasks SET unmet_blockers = (SELECT count(*) FROM dependencies "
        "WHERE to_task_id = tasks.id AND dep_type = 'blocks') WHERE unmet_blockers > 0"
    )
    examples = [(example,) for example in _examples(graph)]
    for table, column in _OF_A_TASK:
        connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", examples)


def _copy(connection: apsw.Connection, table: str, key: str, other: dict[str, str]) -> None:
    """Copy the example's rows for each task of the plan, but for what is other in them."""
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]  # stored ones
    values = (other.get(column, f"example.{column}") for column in columns)
    connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} "
        f"FROM plan JOIN {table} AS example ON example.{key} = plan.example ORDER BY plan.number"
    )


def _examples(graph: Graph) -> list[str]:
    return [f"{kind}-{n}" for n in range(graph.requirements) for kind in ("ready", "blocked")]
