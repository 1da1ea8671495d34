"""What thoughts, budgets, renames, restores and metrics by worker need.

Copies of the tables, on purpose: migrations do not change. ``tasks`` and ``workers`` get columns at
their end, which rewrites no row.
"""

from typing import Any

from peewee import (
    BigIntegerField,
    CompositeKey,
    DoubleField,
    IntegerField,
    Model,
    SmallIntegerField,
    TextField,
)


class _Table(Model):
    class Meta:
        legacy_table_names = False


class Budgets(_Table):
    task_id = TextField(primary_key=True)
    cost_usd = DoubleField()
    attempts = IntegerField()
    is_spent = SmallIntegerField()

    class Meta:
        table_name = "budgets"
        without_rowid = True


class Renames(_Table):
    previous_id = TextField(primary_key=True)
    task_id = TextField(index=True)

    class Meta:
        table_name = "renames"
        without_rowid = True


class WorkerMetrics(_Table):
    worker_id = TextField()
    task_id = TextField(index=True)
    metric_0 = BigIntegerField()
    metric_1 = BigIntegerField()
    metric_2 = BigIntegerField()
    metric_3 = BigIntegerField()
    metric_4 = BigIntegerField()
    metric_5 = BigIntegerField()
    metric_6 = BigIntegerField()
    metric_7 = BigIntegerField()
    cost_usd = DoubleField()

    class Meta:
        table_name = "worker_metrics"
        primary_key = CompositeKey("worker_id", "task_id")
        without_rowid = True


_COLUMNS = {
    "tasks": (
        '"max_cost_usd" REAL',
        '"max_subtree_attempts" INTEGER',
        '"budgets" INTEGER NOT NULL DEFAULT 0',
        '"lease_until" INTEGER',
        '"delete_revision" INTEGER',
    ),
    "workers": ('"current_thought" TEXT', '"thought_at" INTEGER'),
}


def up(migrator: Any, db: Any) -> None:
    """Add the columns and the tables. What was logged so far, nobody knows by whom."""
    for table, columns in _COLUMNS.items():
        for column in columns:
            db.execute_sql(f'ALTER TABLE "{table}" ADD COLUMN {column}')
    with db.bind_ctx([Budgets, Renames, WorkerMetrics]):
        db.create_tables([Budgets, Renames, WorkerMetrics], safe=False)
