"""``requirements``: ready tasks are grouped by what they ask of a worker, and by their workflow.

By workflow, too, since one may have no room for another task while the others have.
"""

from collections.abc import Collection

import apsw

from taskloom_server.graph.tasks import Requirement
from taskloom_server.store.json_text import read_tags, write_tags
from taskloom_server.store.statements import Statement, arg
from taskloom_server.store.tables import Requirements

_FIND = Statement(
    Requirements.select(Requirements.id).where(
        (Requirements.needed_tags == arg("needed"))
        & (Requirements.wanted_tags == arg("wanted"))
        & (Requirements.workflow == arg("workflow"))
    ),
    "needed",
    "wanted",
    "workflow",
)
_INSERT = Statement(
    Requirements.insert(
        {
            Requirements.needed_tags: arg("needed"),
            Requirements.wanted_tags: arg("wanted"),
            Requirements.workflow: arg("workflow"),
        }
    ),
    "needed",
    "wanted",
    "workflow",
)
_AFTER = Statement(
    Requirements.select(
        Requirements.id, Requirements.needed_tags, Requirements.wanted_tags, Requirements.workflow
    )
    .where(Requirements.id > arg("id"))
    .order_by(Requirements.id),
    "id",
)


class RequirementTable:
    """``requirements`` on one connection.

    Rows are only ever added, so what was read once stays true. ``forget`` is for the writer,
    whose additions may be rolled back, and for a reset; ``look_again`` for a reader, behind whose
    back there may be more.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._known: list[Requirement] = []
        self._has_all = False
        self._admitting: dict[tuple[str, ...], list[Requirement]] = {}
        self._workflows: set[str] = set()

    def forget(self) -> None:
        """Drop what was read."""
        self._known.clear()
        self._admitting.clear()
        self._workflows.clear()
        self._has_all = False

    def look_again(self) -> None:
        """Expect others beside those that were read."""
        self._has_all = False

    def id_of(self, needed: tuple[str, ...], wanted: tuple[str, ...], workflow: str) -> int:
        """The group of a workflow's tasks with these tags, made if it is new."""
        key = write_tags(needed), write_tags(wanted), workflow
        row = _FIND.one(self._connection, *key)
        if row is not None:
            found: int = row[0]
            return found
        _INSERT.run(self._connection, *key)
        self.forget()
        return self._connection.last_insert_rowid()

    def admitting(self, tags: tuple[str, ...], without: Collection[str] = ()) -> list[int]:
        """The groups from which a worker with these tags may take a task.

        ``without``: workflows whose tasks are not to be had.
        """
        self._read()
        if tags not in self._admitting:
            have = frozenset(tags)
            self._admitting[tags] = [r for r in self._known if r.admits(have)]
        return [r.id for r in self._admitting[tags] if r.workflow not in without]

    def asked(self) -> dict[int, tuple[frozenset[str], frozenset[str]]]:
        """The needed and the wanted tags of each group."""
        self._read()
        return {r.id: (r.needed_tags, r.wanted_tags) for r in self._known}

    def among(self, workflows: Collection[str]) -> Collection[str]:
        """Those of the workflows that have tasks, or had some."""
        self._read()
        return self._workflows.intersection(workflows)

    def of_workflow(self, workflow: str) -> list[int]:
        """The groups of a workflow's tasks."""
        self._read()
        return [r.id for r in self._known if r.workflow == workflow]

    def _read(self) -> None:
        """Get to know the groups that were added since."""
        if self._has_all:
            return
        last = self._known[-1].id if self._known else 0
        if news := _AFTER.all(self._connection, last):
            self._admitting.clear()
            for id_, needed, wanted, workflow in news:
                self._workflows.add(workflow)
                self._known.append(
                    Requirement(
                        id_, frozenset(read_tags(needed)), frozenset(read_tags(wanted)), workflow
                    )
                )
        self._has_all = True
