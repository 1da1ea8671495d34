"""Where results lie, and what may be written over.

    DIR/<run>[-r<n>][-<pull>]/   a run: tasks.db snapshot.json metrics.json run.json server.log
    DIR/                          the whole: report.md, report.html and the charts

``-<pull>`` stands there when a definition is run by more than one way of pulling, or when a run by
another way lies there already. A single run from the plain command line lies in DIR itself.

A run that is made again replaces what it left before, and the report and the charts of the whole
are written anew; an earlier experiment's other runs stay. Anything else is somebody's: a folder
that holds it is refused.
"""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import get_args

from taskloom_experiments.definition_parts import ChartKind
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.pulls import Pull
from taskloom_experiments.runs import RUN_FILE, RunRecord

DATABASE_FILE = "tasks.db"
SNAPSHOT_FILE = "snapshot.json"
METRICS_FILE = "metrics.json"
SERVER_LOG = "server.log"
AGENTS_LOG = "agents.log"

_UNFINISHED = r"\.({})\.\d+"  # as ``written_whole`` leaves it when its process is killed
_JSON = r"(snapshot|metrics|run)\.json"
_OF_A_RUN = re.compile(rf"tasks\.db.*|server\.log|agents\.log|{_JSON}|{_UNFINISHED.format(_JSON)}")
_CHARTS = "|".join([*get_args(ChartKind), "medians", "sweep"])
_REPORT = rf"report\.(md|html)|({_CHARTS})\.png"
_OF_THE_WHOLE = re.compile(rf"{_REPORT}|{_UNFINISHED.format(_REPORT)}")


class ResultsError(ExperimentError):
    """A folder cannot take results; the text is one sentence that says what to do."""


def default_output(name: str, now: datetime) -> Path:
    """Where results go when nobody says: a new folder for each time, below results/."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "experiment"
    return Path("results") / f"{plain}-{now:%Y%m%d-%H%M%S}"


def run_folder(output: Path, name: str, pull: Pull, *, by_several_ways: bool) -> Path:
    """Where a run goes: over the earlier one that it redoes, else where no other run lies.

    Raises RunRecordError.
    """
    places = [output / name, output / f"{name}-{pull}"]
    if by_several_ways:
        places.reverse()
    earlier = [RunRecord.beside(place / DATABASE_FILE) for place in places]
    for place, record in zip(places, earlier, strict=True):
        if record and (record.name, record.pull) == (name, pull):
            return place
    return places[0] if earlier[0] is None else places[1]


@contextlib.contextmanager
def claimed_output(folder: Path, runs: Collection[Path]) -> Iterator[tuple[Path, ...]]:
    """Make the folder for the results of an experiment, and keep other runners out of it.

    ``runs`` are the folders of the runs to be made: what an earlier experiment left in them is
    removed, and so is its report. The folders of its other runs stay; they are what is yielded.
    Raises ResultsError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ResultsError(f"{folder}: cannot be made: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ResultsError(
                f"{folder}: another experiment is being run there; wait for it, or choose another"
                " folder"
            ) from error
        yield _clear(folder, runs)
    finally:
        os.close(lock)


def is_at_work(run: Path) -> bool:
    """Whether a runner has this folder of a run, or the one above, for its results."""
    return any(_is_locked(folder) for folder in (run, run.resolve().parent))


def is_served(database: Path) -> bool:
    """Whether a server has the database open."""
    return _is_locked(database.resolve().with_name(f"{database.name}-lock"))


def _is_locked(place: Path) -> bool:
    try:
        descriptor = os.open(place, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _clear(folder: Path, runs: Collection[Path]) -> tuple[Path, ...]:
    """Remove what is to be written anew, all of it or nothing; return the runs that stay."""
    entries = sorted(folder.iterdir())
    for entry in entries:
        if not _is_ours(entry, folder):
            raise ResultsError(
                f"{folder}: holds {entry.name}, which is of no earlier experiment; "
                "choose another folder"
            )
    for entry in entries:
        if entry.is_dir():
            if entry in runs:
                shutil.rmtree(entry)
        elif folder in runs or _OF_THE_WHOLE.fullmatch(entry.name):
            entry.unlink()
    return tuple(place for place in (folder, *entries) if (place / RUN_FILE).is_file())


def _is_ours(entry: Path, folder: Path) -> bool:
    if entry.is_symlink():
        return False
    if entry.is_dir():
        return _is_run(entry)
    if _OF_THE_WHOLE.fullmatch(entry.name):
        return True
    return (folder / RUN_FILE).is_file() and _OF_A_RUN.fullmatch(entry.name) is not None


def _is_run(folder: Path) -> bool:
    """An empty folder, or one with a record of a run and nothing that a run does not write.

    A database without a record is no result: somebody may be working with it.
    """
    files = [entry for entry in folder.iterdir() if not _OF_THE_WHOLE.fullmatch(entry.name)]
    if not files:
        return True
    return (folder / RUN_FILE).is_file() and all(
        file.is_file() and _OF_A_RUN.fullmatch(file.name) for file in files
    )
