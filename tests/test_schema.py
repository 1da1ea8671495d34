"""The tables: what migrations make is what the code believes in, and what others rely on."""

import shutil
from pathlib import Path

import apsw
import pytest
from playhouse.migrations import Runner
from taskloom_server.store.connections import APPLICATION_ID, CannotOpen, exclusive, writing
from taskloom_server.store.schema import MIGRATIONS, prepare
from taskloom_server.store.search_tables import SEARCH_TABLES, TRIGGERS
from taskloom_server.store.tables import TABLES

# Stored queries and others' scripts read these; see the design, section 3.
FIXED = {
    "tasks": "id title description status phase priority worker_id claimed_at needed_tags "
    "wanted_tags tags points time_estimate_ms time_actual_ms started_at completed_at "
    "current_thought metric_0 metric_1 metric_2 metric_3 metric_4 metric_5 metric_6 metric_7 "
    "cost_usd deleted_at deleted_by deleted_reason created_at updated_at",
    "task_sequence": "id task_id worker_id status phase reason timestamp end_timestamp",
    "workers": "id tags max_claims registered_at last_heartbeat workflow last_status last_phase",
    "dependencies": "from_task_id to_task_id dep_type",
    "attachments": "task_id attachment_type sequence name mime_type content file_path created_at",
    "file_locks": "file_path worker_id",
    "claim_sequence": "file_path worker_id",
    "task_tags": "task_id tag",
    "task_needed_tags": "task_id tag",
    "task_wanted_tags": "task_id tag",
    "events": "revision time type task_id after",
    "requests": "id",
    "system": "incarnation",
}


def _declared(path: Path) -> dict[str, str]:
    """The statements that made the tables and indexes of a file, by name."""
    connection = apsw.Connection(str(path))
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'schema_%'"
    ).fetchall()
    connection.close()
    return {str(name): str(sql) for name, sql in rows}


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    """A file to which all migrations have been applied."""
    path = tmp_path / "migrated.db"
    prepare(path)
    return path


def test_migrations_make_the_tables_of_the_code(migrated: Path, tmp_path: Path) -> None:
    """A migrated file has just the tables, indexes and triggers that the code defines."""
    made = tmp_path / "made.db"
    database = writing(made)
    tables = (*TABLES, *SEARCH_TABLES)
    with database.bind_ctx(tables), database.connection_context():
        database.create_tables(tables, safe=False)
        for trigger in TRIGGERS:
            database.execute_sql(trigger)
    assert _declared(migrated) == _declared(made)


@pytest.mark.parametrize("table", FIXED)
def test_fixed_columns_are_there(migrated: Path, table: str) -> None:
    """The names that the design fixes are names of tables and columns."""
    connection = apsw.Connection(str(migrated))
    columns = {row[1] for row in connection.execute(f"PRAGMA table_xinfo({table})")}
    connection.close()
    assert set(FIXED[table].split()) <= columns


def test_migrating_again_changes_nothing(migrated: Path) -> None:
    """A file that is up to date is left as it is."""
    before = _declared(migrated)
    assert prepare(migrated) == []
    assert _declared(migrated) == before


def test_events_are_kept_as_their_table_is_made_anew(tmp_path: Path) -> None:
    """A file of before 0010 has the same events after it, in their order."""
    path, before = tmp_path / "old.db", tmp_path / "migrations"
    before.mkdir()
    for migration in MIGRATIONS.glob("000*.py"):
        shutil.copy(migration, before)
    database = writing(path)
    database.connect()
    database.pragma("application_id", APPLICATION_ID)
    Runner(database, str(before)).up()
    rows = [
        (revision, ordinal, 5, 6, f"t{ordinal}", "w", None, "é" * 2_000, "[]", None)
        for revision in (300, 20, 1_000)
        for ordinal in (1, 0)
    ]
    connection = database.connection()
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    database.close()
    assert prepare(path)
    after = apsw.Connection(str(path))
    assert after.execute("SELECT * FROM events").fetchall() == sorted(rows)
    after.close()


def test_a_newer_file_is_left_alone(migrated: Path) -> None:
    """A file that a newer taskloom has migrated is refused, with not a byte of it changed."""
    connection = apsw.Connection(str(migrated))
    connection.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_new', '')")
    connection.close()
    before = migrated.read_bytes()
    with pytest.raises(CannotOpen, match="9999_new"):
        prepare(migrated)
    assert migrated.read_bytes() == before


def test_a_file_is_one_file_by_every_name(migrated: Path) -> None:
    """Who holds a file holds it against those who come by another name, and only till the end."""
    link = migrated.with_name("link.db")
    link.symlink_to(migrated)
    for held, asked in ((migrated, link), (link, migrated), (link, link)):
        with exclusive(held), pytest.raises(CannotOpen, match="in use"), exclusive(asked):
            pytest.fail("two hold it")


def test_a_file_with_two_names_is_refused(migrated: Path) -> None:
    """A file that hard links give a second name is not opened by either, until one is gone."""
    second = migrated.with_name("second.db")
    second.hardlink_to(migrated)
    for name in (migrated, second):
        with pytest.raises(CannotOpen, match="2 names"), exclusive(name):
            pytest.fail("it was opened")
    second.unlink()
    with exclusive(migrated):
        pass
