"""Files that are written whole or not at all."""

import os
from pathlib import Path

import pytest
from taskloom_experiments.whole_files import written_whole


def test_file_appears_at_the_end(tmp_path: Path) -> None:
    """While it is written the file is what it was before, and nothing else is left after it."""
    target = tmp_path / "report.md"
    target.write_text("old")
    with written_whole(target) as unfinished:
        unfinished.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """What was half written is removed."""
    target = tmp_path / "report.md"
    target.write_text("old")

    def fail_half_way() -> None:
        with written_whole(target) as unfinished:
            unfinished.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    """Nobody is told of a file that they did not name."""
    target = tmp_path / "nowhere" / "report.md"
    refused = pytest.raises(FileNotFoundError)
    with refused as raised, written_whole(target) as unfinished:
        unfinished.write_text("new")
    assert raised.value.filename == str(target)
    assert os.listdir(tmp_path) == []
