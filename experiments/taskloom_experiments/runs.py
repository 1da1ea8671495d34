"""What is known of a run beside its database: the ``run.json`` next to ``tasks.db``.

The runner writes it, the analysis reads it. What can be told from the tables is not in here.
"""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.modes import Mode
from taskloom_experiments.pulls import Pull
from taskloom_experiments.whole_files import written_whole

RUN_FILE = "run.json"
SCHEMA_VERSION = 1

UNFINISHED = "the runner ended before the run did"
"""Why a run is partial, from its first moment until its runner knows better."""


class RunRecordError(ExperimentError):
    """A ``run.json`` cannot be used; the text is one sentence naming the file and the reason."""


@dataclass(frozen=True)
class RunRecord:
    """How a run was made, as its runner knew it.

    ``agents`` is how many worked; ``coordinators`` are the ids of those who did not, but handed out
    tasks. ``pull`` is how agents got their tasks. ``speed`` is simulated time over real time: an
    agent works a task for its estimate divided by it. ``started_at`` and ``ended_at`` are Unix
    milliseconds. ``agent_counters`` holds what each agent counted on its own side, by worker id:
    ``calls``, ``empty_polls``, and more.
    ``machine`` is ``describe_machine()`` of the machine it ran on. ``partial_reason`` is a clause
    such as "interrupted after 12 s", and None exactly where ``partial`` is false. ``simulated`` is
    empty of a run of processes; of a simulation it says what calls cost in it, how many were
    ``served``, and how long it took (``took_s``). ``repeats`` is the name of the run in the
    definition of which this is one repeat, with a seed of its own; empty where there is one only.
    ``swept`` is what a sweep had changed in it: the value, as written, by its key.
    """

    name: str
    pull: Pull
    agents: int
    speed: float
    seed: int
    started_at: int
    ended_at: int
    partial: bool
    partial_reason: str | None
    template: str
    workflow: str
    agent_counters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    machine: Mapping[str, str | int] = field(default_factory=dict)
    mode: Mode = "pull"
    coordinators: tuple[str, ...] = ()
    repeats: str = ""
    swept: Mapping[str, str] = field(default_factory=dict)
    simulated: Mapping[str, float] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def save(self, folder: Path) -> Path:
        """Write ``run.json`` into the folder of ``tasks.db``, whole or not at all; return it."""
        target = folder / RUN_FILE
        with written_whole(target) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        return target

    @staticmethod
    def load(file: Path) -> "RunRecord":
        """Read a ``run.json``; unknown keys are ignored. Raises RunRecordError."""
        try:
            record = _RECORD.validate_json(file.read_bytes())
        except OSError as error:
            raise RunRecordError(f"{file}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise RunRecordError(f"{file}: {where}: {first['msg']}") from error
        if record.schema_version != SCHEMA_VERSION:
            raise RunRecordError(
                f"{file}: has schema_version {record.schema_version}, and this taskloom reads "
                f"{SCHEMA_VERSION}"
            )
        return record

    @staticmethod
    def beside(database: Path) -> "RunRecord | None":
        """The record next to a database; None where there is none. Raises RunRecordError."""
        file = database.parent / RUN_FILE
        return RunRecord.load(file) if file.is_file() else None


_RECORD = TypeAdapter(RunRecord)


def describe_machine() -> dict[str, str | int]:
    """This machine and the versions that matter to a run, for ``RunRecord.machine``."""
    import apsw  # noqa: PLC0415  (a reader of run.json alone does not need it)

    return {
        "cpu_count": os.cpu_count() or 0,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "taskloom": _version("taskloom"),
        "sqlite": apsw.sqlite_lib_version(),
        "grpc": _version("grpcio"),
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
