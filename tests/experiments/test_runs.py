"""run.json: written whole, read back equal, refused with a sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from taskloom_experiments.runs import RunRecord, RunRecordError, describe_machine


def test_record_is_read_as_it_was_written(tmp_path: Path, new_record: Callable[..., Any]) -> None:
    """Save and load give an equal record, and leave no other file."""
    record = new_record(
        partial=True,
        partial_reason="interrupted after 12 s",
        agent_counters={"agent-1": {"calls": 7, "empty_polls": 1}},
        machine=describe_machine(),
    )
    file = record.save(tmp_path)
    assert file == tmp_path / "run.json"
    assert RunRecord.load(file) == record
    assert RunRecord.beside(tmp_path / "tasks.db") == record
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_no_record_is_none(tmp_path: Path) -> None:
    """A database without run.json beside it has no record."""
    assert RunRecord.beside(tmp_path / "tasks.db") is None


def test_unknown_keys_are_ignored(tmp_path: Path, new_record: Callable[..., Any]) -> None:
    """A later runner may say more."""
    file = new_record().save(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), "mood": "good"}))
    assert RunRecord.load(file) == new_record()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schema_version": 2}, "has schema_version 2, and this taskloom reads 1"),
        ({"pull": 7}, "pull: Input should be a valid string"),
        ({"agents": "many"}, "agents: Input should be a valid integer"),
    ],
)
def test_record_that_cannot_be_used(
    tmp_path: Path, new_record: Callable[..., Any], changes: dict[str, Any], sentence: str
) -> None:
    """A wrong record is refused, the field named."""
    file = new_record().save(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(RunRecordError, match=sentence):
        RunRecord.load(file)


def test_file_that_is_no_record(tmp_path: Path) -> None:
    """Broken JSON and an absent file are refused with a sentence."""
    file = tmp_path / "run.json"
    with pytest.raises(RunRecordError, match="cannot be read: No such file"):
        RunRecord.load(file)
    file.write_text("{")
    with pytest.raises(RunRecordError, match="the file: Invalid JSON"):
        RunRecord.load(file)


def test_machine_is_described() -> None:
    """The facts that a report names are all there."""
    machine = describe_machine()
    assert list(machine) == ["cpu_count", "platform", "python", "taskloom", "sqlite", "grpc"]
    assert all(machine.values())
