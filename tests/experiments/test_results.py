"""Which folders take results: new ones, empty ones, and those of an earlier experiment."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from taskloom_experiments.results import ResultsError, claimed_output, default_output
from taskloom_experiments.runs import RunRecord


@pytest.fixture
def earlier(tmp_path: Path, new_record: Callable[..., RunRecord]) -> Path:
    """The results of an experiment of two runs."""
    folder = tmp_path / "earlier"
    for name in ("pull-1-poll", "pull-1-next"):
        run = folder / name
        run.mkdir(parents=True)
        new_record().save(run)
        for file in ("tasks.db", "tasks.db-wal", "snapshot.json", "metrics.json", "server.log"):
            (run / file).touch()
    (folder / "report.md").touch()
    (folder / "throughput.png").touch()
    return folder


def test_missing_folder_is_made(tmp_path: Path) -> None:
    """A folder that is not there is made, with those above it."""
    with claimed_output(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_earlier_results_make_room(earlier: Path) -> None:
    """Running an experiment again replaces what it left the last time, all of it."""
    with claimed_output(earlier):
        assert list(earlier.iterdir()) == []


def test_single_run_makes_room(earlier: Path) -> None:
    """A folder that is one run's, with its report, is replaced as well."""
    run = earlier / "pull-1-next"
    (run / "report.md").touch()
    with claimed_output(run):
        assert list(run.iterdir()) == []


@pytest.mark.parametrize("place", [".", "pull-1-next"])
def test_somebody_elses_file_is_safe(earlier: Path, place: str) -> None:
    """Where anything lies that no experiment wrote, nothing at all is removed."""
    notes = earlier / place / "notes.txt"
    notes.touch()
    before = sorted(earlier.rglob("*"))
    with pytest.raises(ResultsError, match="choose another folder"), claimed_output(earlier):
        pytest.fail("the folder was taken")
    assert sorted(earlier.rglob("*")) == before


def test_database_without_a_record_is_safe(tmp_path: Path) -> None:
    """A tasks.db that no run recorded may be what somebody works with."""
    (tmp_path / "tasks.db").touch()
    with pytest.raises(ResultsError, match=r"tasks\.db"), claimed_output(tmp_path):
        pytest.fail("the folder was taken")
    assert (tmp_path / "tasks.db").exists()


def test_link_is_not_followed(earlier: Path, tmp_path: Path) -> None:
    """A link that looks like a run is somebody's, and so is what it leads to."""
    (earlier / "linked").symlink_to(earlier / "pull-1-next")
    with pytest.raises(ResultsError, match="linked"), claimed_output(earlier):
        pytest.fail("the folder was taken")


def test_two_experiments_cannot_share_a_folder(tmp_path: Path) -> None:
    """The second one is refused for as long as the first one is there."""
    with claimed_output(tmp_path):
        refused = pytest.raises(ResultsError, match="another experiment")
        with refused, claimed_output(tmp_path):
            pytest.fail("the folder was taken twice")
    with claimed_output(tmp_path):
        pass


def test_default_folder_is_new_each_time() -> None:
    """Without --output the name and the time make the folder."""
    now = datetime(2026, 1, 2, 3, 4, 5)
    assert default_output("pure-pull", now) == Path("results/pure-pull-20260102-030405")
    assert default_output("../any thing", now) == Path("results/any-thing-20260102-030405")
