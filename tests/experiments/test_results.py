"""Which folders take results, and what of an earlier experiment makes room for them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from taskloom_experiments.pulls import Pull
from taskloom_experiments.results import (
    ResultsError,
    claimed_output,
    default_output,
    is_at_work,
    run_folder,
)
from taskloom_experiments.runs import RunRecord


@pytest.fixture
def earlier(tmp_path: Path, new_record: Callable[..., RunRecord]) -> Path:
    """The results of an experiment of two runs."""
    folder = tmp_path / "earlier"
    for pull in ("poll", "next"):
        run = folder / f"pull-1-{pull}"
        run.mkdir(parents=True)
        new_record(name="pull-1", pull=pull).save(run)
        for file in ("tasks.db", "tasks.db-wal", "snapshot.json", "metrics.json", "server.log"):
            (run / file).touch()
    (folder / "report.md").touch()
    (folder / "throughput.png").touch()
    return folder


def test_missing_folder_is_made(tmp_path: Path) -> None:
    """A folder that is not there is made, with those above it."""
    with claimed_output(tmp_path / "a" / "b", []):
        assert (tmp_path / "a" / "b").is_dir()


def test_runs_made_again_make_room(earlier: Path) -> None:
    """Making all runs again replaces all that they left the last time, the report included."""
    (earlier / ".report.md.123").touch()  # left by a runner that was killed
    with claimed_output(earlier, [earlier / "pull-1-poll", earlier / "pull-1-next"]) as kept:
        assert list(earlier.iterdir()) == []
        assert kept == ()


def test_other_runs_stay(earlier: Path) -> None:
    """A run that is not made again keeps every file; the report that spoke of all is gone."""
    before = sorted(path.name for path in (earlier / "pull-1-poll").iterdir())
    with claimed_output(earlier, [earlier / "pull-1-next", earlier / "pull-4-next"]) as kept:
        assert [path.name for path in earlier.iterdir()] == ["pull-1-poll"]
        assert kept == (earlier / "pull-1-poll",)
    assert sorted(path.name for path in (earlier / "pull-1-poll").iterdir()) == before


def test_single_run_makes_room(earlier: Path) -> None:
    """A folder that is one run's, with its report, is replaced as well."""
    run = earlier / "pull-1-next"
    (run / "report.md").touch()
    with claimed_output(run, [run]):
        assert list(run.iterdir()) == []


def test_single_run_and_runs_below_it_live_together(
    earlier: Path, new_record: Callable[..., RunRecord]
) -> None:
    """A run in the folder itself and runs in folders below replace each other in no order."""
    with claimed_output(earlier, [earlier]) as kept:
        assert len(kept) == 2
        new_record().save(earlier)
        (earlier / "tasks.db").touch()
    with claimed_output(earlier, [earlier / "pull-1-next"]) as kept:
        assert kept == (earlier, earlier / "pull-1-poll")
        assert (earlier / "tasks.db").exists()
    with claimed_output(earlier, [earlier]) as kept:
        assert kept == (earlier / "pull-1-poll",)
        assert not (earlier / "tasks.db").exists()


@pytest.mark.parametrize("place", [".", "pull-1-next", "pull-1-poll"])
@pytest.mark.parametrize("name", ["notes.txt", "holiday.png"])
def test_somebody_elses_file_is_safe(earlier: Path, place: str, name: str) -> None:
    """Where anything lies that no experiment wrote, nothing at all is removed."""
    (earlier / place / name).touch()
    before = sorted(earlier.rglob("*"))
    refused = pytest.raises(ResultsError, match="choose another folder")
    with refused, claimed_output(earlier, [earlier / "pull-1-next"]):
        pytest.fail("the folder was taken")
    assert sorted(earlier.rglob("*")) == before


def test_database_without_a_record_is_safe(tmp_path: Path) -> None:
    """A tasks.db that no run recorded may be what somebody works with."""
    (tmp_path / "tasks.db").touch()
    with pytest.raises(ResultsError, match=r"tasks\.db"), claimed_output(tmp_path, [tmp_path]):
        pytest.fail("the folder was taken")
    assert (tmp_path / "tasks.db").exists()


def test_link_is_not_followed(earlier: Path, tmp_path: Path) -> None:
    """A link that looks like a run is somebody's, and so is what it leads to."""
    (earlier / "linked").symlink_to(earlier / "pull-1-next")
    with pytest.raises(ResultsError, match="linked"), claimed_output(earlier, []):
        pytest.fail("the folder was taken")


def test_two_experiments_cannot_share_a_folder(tmp_path: Path) -> None:
    """The second one is refused for as long as the first one is there."""
    with claimed_output(tmp_path, []):
        refused = pytest.raises(ResultsError, match="another experiment")
        with refused, claimed_output(tmp_path, []):
            pytest.fail("the folder was taken twice")
    with claimed_output(tmp_path, []):
        pass


@pytest.mark.parametrize(
    ("run", "by_several_ways", "folder"),
    [
        (("pull-4", "next"), False, "pull-4"),
        (("pull-4", "next"), True, "pull-4-next"),
        (("pull-1", "next"), True, "pull-1-next"),
        (("pull-1", "next"), False, "pull-1-next"),  # there it lies already
        (("pull-2", "poll"), True, "pull-2"),
        (("pull-2", "next"), False, "pull-2-next"),  # poll lies in pull-2, and stays
    ],
)
def test_run_goes_where_it_lay_or_where_no_other_lies(
    earlier: Path,
    new_record: Callable[..., RunRecord],
    run: tuple[str, Pull],
    by_several_ways: bool,
    folder: str,
) -> None:
    """A run replaces itself, and never one by another way of pulling."""
    (earlier / "pull-2").mkdir()
    new_record(name="pull-2", pull="poll").save(earlier / "pull-2")
    place = run_folder(earlier, *run, by_several_ways=by_several_ways)
    assert place == earlier / folder


def test_who_is_at_work_is_seen(tmp_path: Path) -> None:
    """A runner is seen at its own folder and at those of its runs, for as long as it is there."""
    run = tmp_path / "out" / "pull-1"
    with claimed_output(tmp_path / "out", [run]):
        run.mkdir()
        assert is_at_work(run)
        assert is_at_work(tmp_path / "out")
    assert not is_at_work(run)
    assert not is_at_work(tmp_path / "nowhere")


def test_default_folder_is_new_each_time() -> None:
    """Without --output the name and the time make the folder."""
    now = datetime(2026, 1, 2, 3, 4, 5)
    assert default_output("pure-pull", now) == Path("results/pure-pull-20260102-030405")
    assert default_output("../any thing", now) == Path("results/any-thing-20260102-030405")
