"""The ready tasks of all groups in one order: their list, and claims by those who may take any.

Copies of the tables, on purpose: migrations do not change.
"""

from typing import Any

from peewee import AutoField, IntegerField, Model


class Tasks(Model):
    """Only what the index is of."""

    number = AutoField()
    priority = IntegerField()
    ready_as = IntegerField(null=True)

    class Meta:
        legacy_table_names = False
        table_name = "tasks"


Tasks.add_index(
    Tasks.priority.desc(),
    Tasks.number,
    Tasks.ready_as,
    where=Tasks.ready_as.is_null(False),
    name="tasks_ready_first",
)


def up(migrator: Any, db: Any) -> None:
    """Make the index."""
    with db.bind_ctx([Tasks]):
        Tasks._schema.create_indexes(safe=False)  # type: ignore[attr-defined]
