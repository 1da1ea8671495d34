"""Where results lie, and what may be written over.

    DIR/<run>[-<pull>]/   a run: tasks.db snapshot.json metrics.json run.json server.log
    DIR/                  the whole: report.md and the charts

``-<pull>`` stands there when a definition is run by more than one way of pulling. A single run from
the plain command line lies in DIR itself. Results of an earlier experiment are written over, as
one expects of running it again; anything else is somebody's, and is not touched.
"""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.runs import RUN_FILE

DATABASE_FILE = "tasks.db"
SNAPSHOT_FILE = "snapshot.json"
METRICS_FILE = "metrics.json"
SERVER_LOG = "server.log"
AGENTS_LOG = "agents.log"

_OF_A_RUN = re.compile(
    r"tasks\.db.*|snapshot\.json|metrics\.json|server\.log|agents\.log|\.?run\.json.*"
    r"|\.snapshot\.json\.\d+"
)
_OF_THE_WHOLE = re.compile(r"report\.md|[a-z_-]+\.png")


class ResultsError(ExperimentError):
    """A folder cannot take results; the text is one sentence that says what to do."""


def default_output(name: str, now: datetime) -> Path:
    """Where results go when nobody says: a new folder for each time, below results/."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "experiment"
    return Path("results") / f"{plain}-{now:%Y%m%d-%H%M%S}"


@contextlib.contextmanager
def claimed_output(folder: Path) -> Iterator[None]:
    """Make the folder for the results of an experiment, and keep other runners out of it.

    What an earlier experiment left there is removed. Raises ResultsError.
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
        _clear(folder)
        yield
    finally:
        os.close(lock)


def _clear(folder: Path) -> None:
    """Remove the results of an earlier experiment, all or none of them."""
    entries = sorted(folder.iterdir())
    for entry in entries:
        if not _is_ours(entry, folder):
            raise ResultsError(
                f"{folder}: holds {entry.name}, which is of no earlier experiment; "
                "choose another folder"
            )
    for entry in entries:
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _is_ours(entry: Path, folder: Path) -> bool:
    if entry.is_symlink():
        return False
    if entry.is_dir():
        return _is_run(entry)
    if _OF_THE_WHOLE.fullmatch(entry.name):
        return True
    return _is_run(folder) and _OF_A_RUN.fullmatch(entry.name) is not None


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
