"""Opening a run's database: nothing can be written through it, and no query takes it all."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from taskloom_experiments.database import (
    DatabaseUnreadable,
    MeasurementError,
    QueryLimits,
    QueryResult,
    open_database,
    run_query,
)
from taskloom_experiments.tables import read_tables


@pytest.fixture
def file(small_run: Any) -> Path:
    """The database of the small run."""
    saved: Path = small_run.save()
    return saved


def ask(file: Path, query: str, **limits: Any) -> QueryResult | MeasurementError:
    """What a query answers on a database."""
    with open_database(file) as connection:
        return run_query(connection, query, QueryLimits(**limits))


def reason(file: Path, query: str, **limits: Any) -> str:
    """Why a query has no answer."""
    answer = ask(file, query, **limits)
    assert isinstance(answer, MeasurementError)
    return answer.reason


def test_query_answers_columns_and_rows(file: Path) -> None:
    """An answer has the query's own column names, also when it has no rows."""
    assert ask(file, "\nSELECT id AS task, points FROM tasks WHERE id < 'c' ORDER BY id;\n") == (
        QueryResult(("task", "points"), (("a", 2.0), ("b", 2.0)))
    )
    assert ask(file, "SELECT id FROM tasks WHERE 0") == QueryResult(("id",), ())


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM tasks",
        "INSERT INTO tasks (id, status) VALUES ('x', 'pending') RETURNING id",
        "UPDATE tasks SET status = 'completed'",
        "DROP TABLE tasks",
        "CREATE TEMP TABLE t AS SELECT * FROM tasks",
        "ATTACH 'other.db' AS other",
        "PRAGMA query_only = 0",
        "PRAGMA journal_mode = DELETE",
        "COMMIT",
        "REINDEX",
        "SELECT load_extension('x')",
        "WITH gone AS (SELECT 1) DELETE FROM tasks",
    ],
)
def test_query_that_does_more_than_read_is_refused(file: Path, query: str) -> None:
    """Writing, attaching and changing settings are refused, and nothing is changed."""
    before = file.read_bytes()
    assert reason(file, query) == "refused: it does more than read this database"
    assert file.read_bytes() == before
    assert [entry.name for entry in file.parent.iterdir()] == ["tasks.db"]


def test_query_cannot_copy_the_database(file: Path, tmp_path: Path) -> None:
    """VACUUM INTO writes no copy, whatever SQLite says of it."""
    copy = tmp_path / "copy.db"
    assert reason(file, f"VACUUM INTO '{copy}'")
    assert not copy.exists()


def test_second_statement_is_refused(file: Path) -> None:
    """A query is one statement: a second, however harmless, is refused; a comment is not one."""
    assert reason(file, "SELECT 1; SELECT 2") == "refused: it holds more than one statement"
    assert "refused" in reason(file, "SELECT 1; DROP TABLE tasks")
    assert ask(file, "SELECT 1 AS n; -- that is all") == QueryResult(("n",), ((1,),))


def test_connection_itself_cannot_write(file: Path) -> None:
    """Without the authorizer the file still cannot be written: it is open read-only."""
    with open_database(file) as connection:
        connection.authorizer = None
        with pytest.raises(apsw.ReadOnlyError):
            connection.execute("DELETE FROM tasks")


def test_query_that_fails_tells_why(file: Path) -> None:
    """A failing query is an answer with SQLite's reason."""
    assert reason(file, "SELECT nobody FROM tasks") == "failed: no such column: nobody"
    assert "failed" in reason(file, "SELEC 1")
    assert "no statement" in reason(file, "  -- nothing\n")


def test_query_that_never_ends_is_stopped(file: Path) -> None:
    """A query has a limit of time, and the connection is good for the next one."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with open_database(file) as connection:
        stopped = run_query(connection, endless, QueryLimits(seconds=0.05))
        assert stopped == MeasurementError("stopped after 0.05 s, the time a query may take")
        assert run_query(connection, "SELECT 1 AS n") == QueryResult(("n",), ((1,),))


def test_rows_are_limited(file: Path) -> None:
    """Rows past the limit are left out, and said to be."""
    query = "SELECT id FROM tasks ORDER BY id"
    assert ask(file, query, rows=2) == QueryResult(("id",), (("a",), ("b",)), cut=True)
    assert ask(file, query, rows=5) == ask(file, query)


def test_blobs_and_long_texts_are_told_not_kept(file: Path) -> None:
    """A blob is its size, a long text its beginning."""
    answer = ask(file, "SELECT x'0102' AS b, printf('%5000s', '') AS t")
    assert isinstance(answer, QueryResult)
    blob, text = answer.rows[0]
    assert blob == "<2 bytes>"
    assert isinstance(text, str)
    assert len(text) == 2001


def test_value_beyond_the_limit_fails_the_query(file: Path) -> None:
    """A query cannot build a value of any size."""
    assert "too big" in reason(file, "SELECT zeroblob(1000000000)")


def test_reading_leaves_no_files_and_needs_no_right_to_write(file: Path) -> None:
    """A finished run is read where nothing can be written, and nothing is left beside it."""
    file.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert isinstance(ask(file, "SELECT count(*) FROM tasks"), QueryResult)
    finally:
        file.parent.chmod(stat.S_IRWXU)
    assert [entry.name for entry in file.parent.iterdir()] == ["tasks.db"]


def test_database_of_a_running_server_is_seen_as_of_now(file: Path) -> None:
    """What is still in the write-ahead log counts; what is written while reading does not."""
    writer = apsw.Connection(str(file))
    writer.execute("UPDATE tasks SET points = 5 WHERE id = 'a'")
    with open_database(file) as connection:
        query = "SELECT points FROM tasks WHERE id = 'a'"
        assert run_query(connection, query) == QueryResult(("points",), ((5.0,),))
        writer.execute("UPDATE tasks SET points = 8 WHERE id = 'a'")
        assert run_query(connection, query) == QueryResult(("points",), ((5.0,),))
    writer.close()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is not an SQLite database"),
        (b"hello world, this is no database", "is not an SQLite database"),
        (b"SQLite format 3\0" + bytes(200), "cannot be"),
    ],
)
def test_file_that_is_no_database(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    """A file that cannot be a run is refused with one sentence."""
    file = tmp_path / "tasks.db"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DatabaseUnreadable, match=sentence), open_database(file):
        pass


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ("CREATE TABLE other (id)", "it has no table tasks"),
        (
            "CREATE TABLE tasks (id, status, worker_id, started_at)",
            "it has no column completed_at in its table tasks",
        ),
    ],
)
def test_database_of_something_else(tmp_path: Path, schema: str, sentence: str) -> None:
    """An SQLite file without taskloom's tables is refused, the missing part named."""
    file = tmp_path / "tasks.db"
    apsw.Connection(str(file)).execute(schema)
    with open_database(file) as connection, pytest.raises(DatabaseUnreadable, match=sentence):
        read_tables(connection, file)


def test_tables_without_the_later_columns_are_read(tmp_path: Path) -> None:
    """A database of the family without counters and ready times is read; they are None."""
    file = tmp_path / "tasks.db"
    connection = apsw.Connection(str(file))
    for statement in (
        "CREATE TABLE tasks (id, status, worker_id, started_at, completed_at)",
        "CREATE TABLE task_sequence (task_id, worker_id, status, timestamp)",
        "CREATE TABLE dependencies (from_task_id, to_task_id, dep_type)",
        "CREATE TABLE workers (id)",
        "INSERT INTO tasks VALUES ('a', 'completed', 'w', 1000, 3000)",
        "INSERT INTO workers VALUES ('w')",
    ):
        connection.execute(statement)
    connection.close()
    with open_database(file) as connection:
        tables = read_tables(connection, file)
    assert tables.tasks[0].worked_ms == 2000
    assert tables.tasks[0].ready_at is None
    assert tables.workers[0].claim_attempts is None
    assert tables.marks == ()


def test_reference_queries_run_as_they_stand(
    reference_definition: Path, small_run: Callable[[], Any]
) -> None:
    """Every query of the reference definition is answered on a run's tables."""
    from taskloom_experiments.definition import load_definition

    file = small_run.save()  # type: ignore[attr-defined]
    queries = [one for one in load_definition(reference_definition).measurements if one.query]
    answers = {one.name: ask(file, one.query or "") for one in queries}
    assert len(answers) == 8
    assert all(isinstance(answer, QueryResult) for answer in answers.values())
    assert answers["tasks_per_agent"] == QueryResult(
        ("worker_id", "tasks_completed", "points_completed"), (("w1", 2, 4.0), ("w2", 2, 4.0))
    )
    assert answers["rework_rate"] == QueryResult(("task_id", "working_periods"), ())
