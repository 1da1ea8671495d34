"""What limits on states need: tasks counted by workflow and state, and grouped by workflow.

Copies of the tables, on purpose: migrations do not change.
"""

from typing import Any

from peewee import AutoField, BigIntegerField, IntegerField, Model, TextField


class _Table(Model):
    class Meta:
        legacy_table_names = False


class Tasks(_Table):
    """Only what the index is of."""

    number = AutoField()
    status = TextField()
    workflow = TextField()
    requirement_id = IntegerField()
    deleted_at = BigIntegerField(null=True)

    class Meta:
        table_name = "tasks"


Tasks.add_index(Tasks.status, Tasks.workflow, where=Tasks.deleted_at.is_null(), name="tasks_status")


class Requirements(_Table):
    id = AutoField()
    needed_tags = TextField()
    wanted_tags = TextField()
    workflow = TextField()

    class Meta:
        table_name = "requirements"
        indexes = ((("needed_tags", "wanted_tags", "workflow"), True),)


def up(migrator: Any, db: Any) -> None:
    """Make the index and the table of groups anew, and put each task into its group."""
    with db.bind_ctx([Tasks, Requirements]):
        db.execute_sql('DROP INDEX "tasks_status"')
        Tasks._schema.create_indexes(safe=False)  # type: ignore[attr-defined]
        db.execute_sql('DROP INDEX "requirements_needed_tags_wanted_tags"')
        db.execute_sql('ALTER TABLE "requirements" RENAME TO "old_requirements"')
        Requirements.create_table(safe=False)
        db.execute_sql(
            'INSERT INTO "requirements" ("needed_tags", "wanted_tags", "workflow") '
            'SELECT DISTINCT o."needed_tags", o."wanted_tags", t."workflow" '
            'FROM "tasks" AS t JOIN "old_requirements" AS o ON o."id" = t."requirement_id"'
        )
        db.execute_sql(
            'UPDATE "tasks" SET "requirement_id" = (SELECT n."id" FROM "requirements" AS n '
            'JOIN "old_requirements" AS o ON o."needed_tags" = n."needed_tags" '
            'AND o."wanted_tags" = n."wanted_tags" '
            'WHERE o."id" = "tasks"."requirement_id" AND n."workflow" = "tasks"."workflow")'
        )
        db.execute_sql('DROP TABLE "old_requirements"')
