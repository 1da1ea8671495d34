"""Lists of tasks in the order of their priorities, of all and of those with a status.

Copies of the tables, on purpose: migrations do not change.
"""

from typing import Any

from peewee import AutoField, BigIntegerField, IntegerField, Model, TextField


class Tasks(Model):
    """Only what the indexes are of."""

    number = AutoField()
    status = TextField()
    workflow = TextField()
    priority = IntegerField()
    ready_as = IntegerField(null=True)
    deleted_at = BigIntegerField(null=True)

    class Meta:
        legacy_table_names = False
        table_name = "tasks"


Tasks.add_index(
    Tasks.status,
    Tasks.workflow,
    Tasks.priority.desc(),
    where=Tasks.deleted_at.is_null(),
    name="tasks_status",
)
Tasks.add_index(Tasks.priority.desc(), Tasks.number, Tasks.deleted_at, name="tasks_first")
Tasks.add_index(
    Tasks.priority.desc(),
    Tasks.number,
    Tasks.ready_as,
    where=Tasks.ready_as.is_null(False),
    name="tasks_ready_first",
)


def up(migrator: Any, db: Any) -> None:
    """Make the indexes; that of the ready ones anew, as the last: SQLite takes it for theirs."""
    with db.bind_ctx([Tasks]):
        db.execute_sql('DROP INDEX "tasks_status"')
        db.execute_sql('DROP INDEX "tasks_ready_first"')
        Tasks._schema.create_indexes(safe=False)  # type: ignore[attr-defined]
