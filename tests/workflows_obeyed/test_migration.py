"""A file of before limits: its tasks come into the groups of their workflows, and go on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
from playhouse.migrations import Runner
from taskloom import v1
from taskloom_client import Client
from taskloom_server.graph.tasks import new_task
from taskloom_server.store import schema
from taskloom_server.store.connections import APPLICATION_ID, writing

from tests.calls import claim_next, connect, create

_BEFORE = ("0001", "0002")


def _old_file(path: Path, folder: Path) -> None:
    """A file with the tables of before, and tasks of two workflows that ask the same."""
    for migration in Path(schema.__file__).parent.joinpath("migrations").glob("0*.py"):
        if migration.name.startswith(_BEFORE):
            shutil.copy(migration, folder)
    database = writing(path)
    database.connect()
    database.pragma("application_id", APPLICATION_ID)
    Runner(database, str(folder)).up()
    database.close()
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO system VALUES (1, 'old', 0, 1, NULL, NULL, NULL, 1)")
    connection.execute("INSERT INTO requirements VALUES (1, '[]', '[]'), (2, '[\"x\"]', '[]')")
    for number, (workflow, requirement) in enumerate((("swarm", 1), ("gone", 1), ("swarm", 2)), 1):
        task = new_task(
            id=f"t{number}",
            title="old",
            description="",
            status="pending",
            workflow=workflow,
            now=1,
            revision=0,
        )
        row: dict[str, Any] = task._asdict() | {
            "number": number,
            "claimable": 1,
            "requirement_id": requirement,
            "advisory_claims": None,
            "tags": "[]",
            "needed_tags": '["x"]' if requirement == 2 else "[]",
            "wanted_tags": "[]",
        }
        del row["lease_expires_at"]
        columns = [column[1] for column in connection.execute("PRAGMA table_info(tasks)")]
        values = {name: value for name, value in row.items() if name in columns}
        slots = ", ".join("?" * len(values))
        connection.execute(
            f"INSERT INTO tasks ({', '.join(values)}) VALUES ({slots})", tuple(values.values())
        )
    connection.close()


async def test_an_older_file_goes_on(start_server: Callable[..., Any], tmp_path: Path) -> None:
    """Each task is grouped by its workflow as well, stays ready, and is claimed as before."""
    old, folder = tmp_path / "old.db", tmp_path / "migrations"
    folder.mkdir()
    _old_file(old, folder)
    async with start_server(db=old) as server, Client(server.address) as client:
        await create(client, "t4", needed_tags=["x"])
        await connect(client, "w", max_claims=9)
        await connect(client, "x", tags=["x"], max_claims=9)
        page = await client.tasks.ListTasks(v1.ListTasksRequest(ready=True))
        assert sorted(task.id for task in page.tasks) == ["t1", "t2", "t3", "t4"]
        connection = apsw.Connection(str(old), flags=apsw.SQLITE_OPEN_READONLY)
        grouped = connection.execute(
            "SELECT t.id, r.needed_tags, r.workflow FROM tasks AS t "
            "JOIN requirements AS r ON r.id = t.requirement_id ORDER BY t.id"
        ).fetchall()
        connection.close()
        assert grouped == [
            ("t1", "[]", "swarm"),
            ("t2", "[]", "gone"),
            ("t3", '["x"]', "swarm"),
            ("t4", '["x"]', "swarm"),
        ]
        assert [task.id for task in (await claim_next(client, "w")).tasks] == ["t1"]
