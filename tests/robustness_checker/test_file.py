"""The file, and the account of what went wrong."""

from pathlib import Path
from typing import Any

import apsw

from tests.robustness import account
from tests.robustness.checker import check
from tests.robustness.rules import read_rules
from tests.robustness.story import Story


def test_damaged_file(story: Story, tmp_path: Any) -> None:
    """A file whose tables are not what history tells."""
    path = tmp_path / "tasks.db"
    _tables(path).close()
    history = story.history()
    history.truth.db = path
    found = check(history, read_rules()).violations
    assert {violation.promise for violation in found} == {"database"}


def _tables(path: Path) -> apsw.Connection:
    """A file with tables that are empty."""
    connection = apsw.Connection(str(path))
    for table in (
        "events (revision, ordinal, type, task_id, worker_id, reason, time)",
        "tasks (id, workflow, status, worker_id, claim_revision, title, priority, phase, "
        "parent_id, attempts, max_attempts, revision, metric_0, deleted_at, ready_as, "
        "unmet_blockers, open_children)",
        "dependencies (from_task_id, to_task_id, dep_type)",
        "task_sequence (id, task_id, status, end_timestamp)",
        "workers (id, claim_attempts, claims_granted, claims_lost, disconnected_at)",
        "file_locks (file_path, worker_id, task_id)",
        "advisory_claims (worker_id, task_id)",
        "pauses (task_id)",
        "attachments (task_id, attachment_type, sequence, name)",
        "system (revision, paused_at)",
        "requests (id, response)",
    ):
        connection.execute(f"CREATE TABLE {table}")
    return connection


def test_row_of_a_task_that_is_none(story: Story, tmp_path: Any) -> None:
    """A row that names a task by an id that it has no more."""
    path = tmp_path / "tasks.db"
    connection = _tables(path)
    connection.execute("INSERT INTO task_sequence (id, task_id) VALUES (1, 'gone')")
    connection.close()
    history = story.history()
    history.truth.db = path
    told = [one.text for one in check(history, read_rules()).violations]
    assert "task_sequence.task_id names ['gone'], which are no tasks" in told


def test_account_is_short(story: Story) -> None:
    """An account tells of the task and the worker concerned, and of nothing else."""
    story.claim("ann", "t2")
    old = story.claim("bob", "t1")
    story.wait(1_000)
    story.expire("t1")
    story.complete("bob", "t1", old - 1)
    [violation] = [one for one in story.judge() if one.promise == "fencing"]
    told = account.tell(violation, story.history())
    assert "LEASE_EXPIRED t1" in told
    assert "CompleteTask of t1 with claim 5" in told
    assert "t2" not in told
    assert "ann" not in told
    assert len(told.splitlines()) < 12
