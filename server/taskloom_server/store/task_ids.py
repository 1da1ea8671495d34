"""Every column that holds a task's id, so that one can be given another id, or go without a trace.

All but ``events``, which tell of tasks by the ids of their time. A test compares the list with the
tables.
"""

from typing import Any

import apsw
from peewee import Field

from taskloom_server.store.statements import Statement, arg
from taskloom_server.store.tables import (
    AdvisoryClaims,
    Attachments,
    Budgets,
    ClaimSequence,
    Dependencies,
    FileLocks,
    Pauses,
    Renames,
    TaskNeededTags,
    Tasks,
    TaskSequence,
    TaskTags,
    TaskWantedTags,
    WorkerMetrics,
)

TASK_ID_COLUMNS: tuple[Field, ...] = (
    Tasks.id,
    Tasks.parent_id,
    TaskSequence.task_id,
    Dependencies.from_task_id,
    Dependencies.to_task_id,
    TaskTags.task_id,
    TaskNeededTags.task_id,
    TaskWantedTags.task_id,
    Attachments.task_id,
    FileLocks.task_id,
    ClaimSequence.task_id,
    AdvisoryClaims.task_id,
    Pauses.task_id,
    Budgets.task_id,
    WorkerMetrics.task_id,
    Renames.task_id,
)


def _table(column: Field) -> Any:
    return column.model


_RENAME = tuple(
    Statement(_table(c).update({c: arg("new")}).where(c == arg("old")), "new", "old")
    for c in TASK_ID_COLUMNS
)
_REMOVE = tuple(
    Statement(_table(c).delete().where(c == arg("task_id")), "task_id")
    for c in TASK_ID_COLUMNS
    if c is not Tasks.parent_id
)
_WAS = Statement(
    Renames.insert({Renames.previous_id: arg("old"), Renames.task_id: arg("new")}).on_conflict(
        conflict_target=[Renames.previous_id], update={Renames.task_id: arg("new")}
    ),
    "old",
    "new",
)
_IS_AGAIN = Statement(Renames.delete().where(Renames.previous_id == arg("id")), "id")
_RENAMED_TO = Statement(
    Renames.select(Renames.task_id).where(Renames.previous_id == arg("id")), "id"
)


class TaskIds:
    """All columns that hold ids of tasks, on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rename(self, old: str, new: str) -> None:
        """Put the new id, which is free, in the place of the old one everywhere."""
        for statement in _RENAME:
            statement.run(self._connection, new, old)
        _WAS.run(self._connection, old, new)
        _IS_AGAIN.run(self._connection, new)

    def remove(self, task_id: str) -> None:
        """Delete every row that is about the task."""
        for statement in _REMOVE:
            statement.run(self._connection, task_id)

    def renamed_to(self, task_id: str) -> str | None:
        """The id that the task of this id has now; None if none ever had it."""
        row = _RENAMED_TO.one(self._connection, task_id)
        return row[0] if row else None
