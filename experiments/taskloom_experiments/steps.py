"""The steps of a run one at a time, on a folder's ``tasks.db``: reset, import, export, wait.

Each goes through a server of its own that lives as long as the step, so that nothing but a server
ever writes a database; a database that another server has open is refused by it. Waiting reads
only, so that it can be done beside a server at work.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from taskloom_client import Client

from taskloom_experiments.database import open_database
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.history import ENDED
from taskloom_experiments.results import (
    DATABASE_FILE,
    SERVER_LOG,
    SNAPSHOT_FILE,
    is_at_work,
    is_served,
)
from taskloom_experiments.runs import UNFINISHED, RunRecord
from taskloom_experiments.serving import serving
from taskloom_experiments.snapshots import export_snapshot, import_template, reset
from taskloom_experiments.tables import read_tables
from taskloom_experiments.templates import Template


class NothingThere(ExperimentError):
    """A folder lacks what a step works on; the text is one sentence."""


async def reset_in(folder: Path) -> None:
    """Make the folder's database an empty one. Raises ServerFailed and TaskloomError."""
    async with _client_of(folder) as client:
        await reset(client)


async def import_into(folder: Path, template: Template, workflow: str) -> int:
    """Import a template into the folder's database, made where there is none; return the tasks.

    Raises ServerFailed and TaskloomError, the latter where the tasks are there already.
    """
    async with _client_of(folder) as client:
        answer = await import_template(client, template.content, workflow)
        return answer.rows["tasks"]


async def export_from(folder: Path) -> Path:
    """Write the snapshot of the folder's database; return the file.

    Raises NothingThere, ServerFailed and TaskloomError.
    """
    _database_in(folder)
    target = folder / SNAPSHOT_FILE
    async with _client_of(folder) as client:
        await export_snapshot(client, target)
    return target


def wait_until_ended(folder: Path, every_s: float, show: Callable[[int, int], None]) -> str | None:
    """Wait until every task of the folder's database has ended, looking ``every_s`` seconds.

    ``show`` hears each time how many have ended, of how many. Returns None when all is done, and a
    clause where it is not or not as it should be: when a runner made the run and has left, nobody
    serves the database any more, or its record calls the run partial. Raises NothingThere where
    there is no database or no task in it, DatabaseUnreadable and RunRecordError.
    """
    database = _database_in(folder)
    while True:
        with open_database(database) as connection:
            tasks = read_tables(connection, database).tasks
        if not tasks:
            raise NothingThere(f"{database} holds no tasks, so there is nothing to wait for")
        ended = sum(task.status in ENDED for task in tasks)
        show(ended, len(tasks))
        record = RunRecord.beside(database)
        if record is None and ended == len(tasks):
            return None
        if record and not (record.partial_reason == UNFINISHED and is_at_work(folder)):
            if ended == len(tasks):
                return record.partial_reason
            if not is_served(database):
                return record.partial_reason or f"{len(tasks) - ended} tasks have not ended"
        time.sleep(every_s)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _database_in(folder: Path) -> Path:
    database = folder / DATABASE_FILE
    if not database.is_file():
        raise NothingThere(f"there is no {DATABASE_FILE} in {folder}; name the folder of a run")
    return database


@asynccontextmanager
async def _client_of(folder: Path) -> AsyncIterator[Client]:
    _make(folder)
    async with (
        serving(folder / DATABASE_FILE, folder / SERVER_LOG) as server,
        Client(server.target) as client,
    ):
        yield client
