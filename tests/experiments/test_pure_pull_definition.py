"""What the queries of pure-pull.yaml answer about a small run whose figures are worked out by hand.

Three workers and three tasks under a root. Time in ms, from the import at 0; B sets the phase while
it works, at 250. `join` waits for both others.

    ms      0     100    200    300       600    700        1000
    A       .     build-1 ......|         .      join ......|
    B       .      .     build-2 .........|      .
    C       .      .      .     .         .      .

Here are only the columns that the queries read; that a server's file has them is tested with runs.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DEFINITION = Path(__file__).parents[2] / "experiments" / "definitions" / "pure-pull.yaml"

SCHEMA = """
CREATE TABLE tasks (id TEXT, status TEXT, worker_id TEXT, points INTEGER, created_at INTEGER,
    ready_at INTEGER, claimed_at INTEGER, started_at INTEGER, completed_at INTEGER,
    deleted_at INTEGER);
CREATE TABLE task_sequence (id INTEGER PRIMARY KEY, task_id TEXT, worker_id TEXT, status TEXT,
    phase TEXT, timestamp INTEGER, end_timestamp INTEGER);
CREATE TABLE workers (id TEXT, claim_attempts INTEGER, claims_granted INTEGER,
    claims_lost INTEGER);
"""

RUN = """
INSERT INTO tasks VALUES
    ('root',    'completed', NULL, NULL, 0, NULL, NULL, NULL, 1000, NULL),
    ('build-1', 'completed', 'A',  2,    0, 0,    100,  100,  300,  NULL),
    ('build-2', 'completed', 'B',  NULL, 0, 0,    200,  200,  600,  NULL),
    ('join',    'completed', 'A',  3,    0, 600,  700,  700,  1000, NULL),
    ('dropped', 'pending',   NULL, 1,    0, 0,    NULL, NULL, NULL, 50);
INSERT INTO task_sequence VALUES
    (1,  'root',    NULL, 'pending',   NULL,   0,    1000),
    (2,  'build-1', NULL, 'pending',   NULL,   0,    100),
    (3,  'build-2', NULL, 'pending',   NULL,   0,    200),
    (4,  'join',    NULL, 'pending',   NULL,   0,    700),
    (5,  'dropped', NULL, 'pending',   NULL,   0,    NULL),
    (6,  'build-1', 'A',  'working',   NULL,   100,  300),
    (7,  'build-2', 'B',  'working',   NULL,   200,  250),
    (8,  'build-2', 'B',  NULL,        'test', 250,  600),
    (9,  'build-1', 'A',  'completed', NULL,   300,  NULL),
    (10, 'build-2', 'B',  'completed', NULL,   600,  NULL),
    (11, 'join',    'A',  'working',   NULL,   700,  1000),
    (12, 'join',    'A',  'completed', NULL,   1000, NULL),
    (13, 'root',    NULL, 'completed', NULL,   1000, NULL);
INSERT INTO workers VALUES ('A', 2, 2, 0), ('B', 2, 1, 1), ('C', 0, 0, 0);
"""


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    """The tables, empty."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    yield connection
    connection.close()


def definition() -> dict[str, Any]:
    """The file, as YAML reads it."""
    content: dict[str, Any] = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))
    return content


def measurements() -> dict[str, dict[str, str]]:
    """All measurements of all groups, by name."""
    return {
        measurement["name"]: measurement
        for group in definition()["metrics"].values()
        for measurement in group["measurements"]
    }


QUERIES = {name: item["query"] for name, item in measurements().items() if "query" in item}


ANSWERS: dict[str, list[tuple[object, ...]]] = {
    "claim_success_rate": [("A", 2, 2, 0, 1.0), ("B", 2, 1, 1, 0.5), ("C", 0, 0, 0, None)],
    "queue_wait_time": [(3, 400 / 3, 200)],
    "tasks_per_agent": [("A", 2, 5), ("B", 1, 1), ("C", 0, 0)],
    "time_per_agent": [("A", 2, 500, 250.0), ("B", 1, 400, 400.0), ("C", 0, 0, None)],
    "tasks_per_hour": [(3, 900 / 3_600_000, 3 * 3_600_000 / 900)],
    "completion_timeline": [
        (300, "build-1", "A", 1),
        (600, "build-2", "B", 2),
        (1000, "join", "A", 3),
    ],
    # The root waits 1000, build-1 100, build-2 200, join 700.
    "blocking_ratio": [(900, 2000, 2000 / 2900)],
    # Nothing is ready from 200 to 600, nor after 700: C is starved for 700, A and B for 300 each.
    "starved_ratio": [(900, 1300, 1300 / 2200)],
    "rework_rate": [(3, 0, 0.0)],
}


@pytest.mark.parametrize("name", QUERIES)
def test_query_of_a_finished_run(database: sqlite3.Connection, name: str) -> None:
    """Each query answers what can be worked out by hand for the run above."""
    database.executescript(RUN)
    rows = database.execute(QUERIES[name]).fetchall()
    assert rows == [pytest.approx(row) for row in ANSWERS[name]]


@pytest.mark.parametrize("name", QUERIES)
def test_query_of_a_run_without_work(database: sqlite3.Connection, name: str) -> None:
    """A run in which nothing happened is answered, too, and not with an error."""
    assert len(database.execute(QUERIES[name]).fetchall()) <= 1


def test_rework_is_seen(database: sqlite3.Connection) -> None:
    """A task that was given back and worked again counts as reworked, once."""
    database.executescript(RUN)
    database.executescript("""
        UPDATE task_sequence SET status = 'pending' WHERE id = 9;
        INSERT INTO task_sequence VALUES
            (14, 'build-1', 'B', 'working',   NULL, 650, 800),
            (15, 'build-1', 'B', 'completed', NULL, 800, NULL);
    """)
    assert database.execute(QUERIES["rework_rate"]).fetchall() == [(3, 1, pytest.approx(1 / 3))]
    working_ms = {row[0]: row[2] for row in database.execute(QUERIES["time_per_agent"])}
    assert working_ms == {"A": 500, "B": 550, "C": 0}


def test_unfinished_work_counts_until_the_last_event(database: sqlite3.Connection) -> None:
    """In a run that was cut short, what is still being worked ends with the last transition."""
    database.executescript(RUN)
    database.executescript("""
        DELETE FROM task_sequence WHERE task_id = 'build-2' AND status = 'completed';
        UPDATE tasks SET status = 'working', completed_at = NULL WHERE id = 'build-2';
    """)
    [(working_ms, _, _)] = database.execute(QUERIES["blocking_ratio"])
    assert working_ms == 200 + 800 + 300
    [(working_ms, _, _)] = database.execute(QUERIES["starved_ratio"])
    assert working_ms == 200 + 800 + 300


def test_measurements_are_queried_or_derived() -> None:
    """Every measurement has a target and either a query or a derivation; a timeline has none."""
    for name, measurement in measurements().items():
        assert ("query" in measurement) != ("derivation" in measurement), name
        assert ("target" in measurement) == (name != "completion_timeline"), name


def test_runs_differ_by_their_agents_alone() -> None:
    """There are runs of 1, 2, 4 and 8 agents, with one configuration."""
    runs = definition()["runs"]
    assert [run["agents"] for run in runs] == [1, 2, 4, 8]
    assert [run["name"] for run in runs] == ["pull-1", "pull-2", "pull-4", "pull-8"]
    assert all(run["agent_config"] == runs[0]["agent_config"] for run in runs)
