"""``events`` as a table with row numbers, for rows of more than a kilobyte.

In a table without them SQLite keeps a quarter of a page of a row at the most, and puts the rest of
each into a page of its own: most events took more than one page of 4 KiB.

A copy of the table, on purpose: migrations do not change.
"""

from typing import Any

from peewee import BigIntegerField, CompositeKey, IntegerField, Model, SmallIntegerField, TextField


class Events(Model):
    """As it is from now on."""

    revision = BigIntegerField()
    ordinal = IntegerField()
    time = BigIntegerField()
    type = SmallIntegerField()
    task_id = TextField(null=True)
    worker_id = TextField(null=True)
    reason = TextField(null=True)
    after = TextField(null=True)
    before = TextField(null=True)
    ancestors = TextField(null=True)

    class Meta:
        legacy_table_names = False
        table_name = "events"
        primary_key = CompositeKey("revision", "ordinal")


def up(migrator: Any, db: Any) -> None:
    """Copy the table."""
    db.execute_sql('ALTER TABLE "events" RENAME TO "events_without_numbers"')
    with db.bind_ctx([Events]):
        Events._schema.create_table(safe=False)  # type: ignore[attr-defined]
    columns = ", ".join(f'"{name}"' for name in Events._meta.sorted_field_names)
    db.execute_sql(
        f'INSERT INTO "events" ({columns}) SELECT {columns} FROM "events_without_numbers" '
        'ORDER BY "revision", "ordinal"'
    )
    db.execute_sql('DROP TABLE "events_without_numbers"')
