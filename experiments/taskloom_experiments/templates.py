"""Template files as the runner sees them: their bytes, and how long their work will take.

Whether a template is valid is for the server to say, which names the row; here it must only be
possible to tell beforehand how long a run should take.
"""

import gzip
import json
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskloom_experiments import simulation
from taskloom_experiments.errors import ExperimentError
from taskloom_experiments.schedule import ScheduleError, best_possible
from taskloom_experiments.tables import CONTAINS, Dependency

_GZIP = b"\x1f\x8b"


class TemplateError(ExperimentError):
    """A template cannot be used; the text is one sentence naming the file and the reason."""


@dataclass(frozen=True)
class Template:
    """A template: the file as it is, the estimates of its tasks in ms, and their dependencies.

    A task without an estimate has None; one that contains others is no work and has 0. ``tags`` are
    all that any task needs or wants of a worker: who has them may take every task. ``asked`` is
    what tasks that are to be worked need and want, each pair once, with the first task of which it
    is true.
    """

    file: Path
    content: bytes
    estimates_ms: Mapping[str, float | None]
    dependencies: tuple[Dependency, ...]
    tags: tuple[str, ...]
    asked: Mapping[tuple[frozenset[str], frozenset[str]], str]

    def best_seconds(self, agents: int, *, seed: int, speed: float) -> float:
        """The best possible time of a run, in real seconds; 0 where the graph allows none."""
        durations_ms = {
            task_id: 0
            if estimate == 0
            else round(
                1000
                * simulation.work_for(
                    task_id, None if estimate is None else estimate / 1000, seed=seed, speed=speed
                ).seconds
            )
            for task_id, estimate in self.estimates_ms.items()
        }
        try:
            return best_possible(durations_ms, self.dependencies, agents).makespan_ms / 1000
        except ScheduleError:
            return 0.0


def read_template(file: Path) -> Template:
    """Read a ``.json`` or gzipped template. Raises TemplateError."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise TemplateError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        text = gzip.decompress(content) if content.startswith(_GZIP) else content
        tables = json.loads(text)["tables"]
        dependencies = tuple(_dependencies(tables.get("dependencies") or ()))
        parents = {edge.from_task_id for edge in dependencies if edge.dep_type == CONTAINS}
        estimates = {
            str(task["id"]): 0.0 if task["id"] in parents else _number(task.get("time_estimate_ms"))
            for task in tables["tasks"]
        }
        tags = tuple(sorted(set(_tags(tables))))
        asked = _asked(tables, parents)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise TemplateError(f"{file}: is not a snapshot: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise TemplateError(f"{file}: is not a snapshot: it has no tables of tasks") from error
    return Template(file, content, estimates, dependencies, tags, asked)


def _dependencies(rows: Iterable[Mapping[str, Any]]) -> Iterable[Dependency]:
    for row in rows:
        yield Dependency(
            str(row["from_task_id"]), str(row["to_task_id"]), str(row.get("dep_type", "blocks"))
        )


def _tags(tables: Mapping[str, Any]) -> Iterable[str]:
    for kind in ("needed_tags", "wanted_tags"):
        for task in tables["tasks"]:
            yield from (str(tag) for tag in task.get(kind) or ())
        for row in tables.get(f"task_{kind}") or ():
            yield str(row["tag"])


def _asked(
    tables: Mapping[str, Any], parents: Collection[str]
) -> dict[tuple[frozenset[str], frozenset[str]], str]:
    of_tasks: dict[str, dict[str, set[str]]] = {"needed_tags": {}, "wanted_tags": {}}
    for kind, of_kind in of_tasks.items():
        for row in tables.get(f"task_{kind}") or ():
            of_kind.setdefault(str(row["task_id"]), set()).add(str(row["tag"]))
    asked: dict[tuple[frozenset[str], frozenset[str]], str] = {}
    for task in tables["tasks"]:
        task_id = str(task["id"])
        if task_id in parents or task.get("completed_at") or task.get("deleted_at"):
            continue
        needs, wants = (
            frozenset(map(str, task.get(kind) or ())) | of_kind.get(task_id, set())
            for kind, of_kind in of_tasks.items()
        )
        asked.setdefault((needs, wants), task_id)
    return asked


def lacking_tags(
    needed: Collection[str], wanted: Collection[str], skills: Iterable[Collection[str]]
) -> tuple[frozenset[str], frozenset[str]] | None:
    """What keeps a task from all workers, given the tags of each: tags needed, and tags wanted.

    Tags that it needs and that some worker has, but none together with the others, are among them.
    None: some worker may take it.
    """
    needs, wants = frozenset(needed), frozenset(wanted)
    having = [frozenset(tags) for tags in skills]
    able = [tags for tags in having if needs <= tags]
    if not able:
        return needs - frozenset().union(*having) or needs, frozenset()
    return None if not wants or any(wants & tags for tags in able) else (frozenset(), wants)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
