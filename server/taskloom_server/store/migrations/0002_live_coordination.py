"""What live coordination needs: parked and advisory claims, back-off, paused subtrees, temperature.

Copies of the tables, on purpose: migrations do not change. ``tasks`` is made anew, because a
column that the database derives cannot be changed.
"""

import math
from typing import Any

from peewee import (
    SQL,
    AutoField,
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


class Tasks(_Table):
    number = AutoField()
    id = TextField(unique=True)
    title = TextField()
    description = TextField()
    status = TextField()
    phase = TextField(null=True)
    priority = IntegerField()
    worker_id = TextField(null=True)
    claimed_at = BigIntegerField(null=True)
    needed_tags = TextField()
    wanted_tags = TextField()
    tags = TextField()
    points = IntegerField(null=True)
    time_estimate_ms = BigIntegerField(null=True)
    time_actual_ms = BigIntegerField()
    started_at = BigIntegerField(null=True)
    completed_at = BigIntegerField(null=True)
    current_thought = TextField(null=True)
    metric_0 = BigIntegerField()
    metric_1 = BigIntegerField()
    metric_2 = BigIntegerField()
    metric_3 = BigIntegerField()
    metric_4 = BigIntegerField()
    metric_5 = BigIntegerField()
    metric_6 = BigIntegerField()
    metric_7 = BigIntegerField()
    cost_usd = DoubleField()
    deleted_at = BigIntegerField(null=True)
    deleted_by = TextField(null=True)
    deleted_reason = TextField(null=True)
    created_at = BigIntegerField()
    updated_at = BigIntegerField()

    workflow = TextField()
    parent_id = TextField(null=True)
    revision = BigIntegerField()
    claim_revision = BigIntegerField(null=True)
    lease_ms = BigIntegerField(null=True)
    lease_since = BigIntegerField(null=True)
    parked_lease_ms = BigIntegerField(null=True)
    advisory_claims = TextField(null=True)
    lapsed_worker_id = TextField(null=True)
    lapsed_claim_revision = BigIntegerField(null=True)
    not_before = BigIntegerField(null=True)
    attempts = IntegerField()
    max_attempts = IntegerField()
    retry_delay_ms = BigIntegerField(null=True)
    ready_at = BigIntegerField(null=True)
    unmet_blockers = IntegerField()
    open_children = IntegerField()
    claimable = SmallIntegerField()
    paused = IntegerField()
    requirement_id = IntegerField()
    sequence_id = BigIntegerField(null=True)
    state_since = BigIntegerField(null=True)
    activity = DoubleField()
    breakthrough = DoubleField()
    boost = DoubleField()
    active_at = BigIntegerField()
    progressed_at = BigIntegerField()
    heat = DoubleField()

    ready_as = IntegerField(
        null=True,
        constraints=[
            SQL(
                "GENERATED ALWAYS AS (CASE WHEN claimable = 1 AND unmet_blockers = 0 "
                "AND open_children = 0 AND not_before IS NULL AND paused = 0 THEN "
                "CASE WHEN advisory_claims IS NULL THEN requirement_id ELSE -requirement_id END "
                "END) VIRTUAL"
            )
        ],
    )

    class Meta:
        table_name = "tasks"


Tasks.add_index(
    Tasks.ready_as,
    Tasks.priority.desc(),
    Tasks.number,
    where=Tasks.ready_as.is_null(False),
    name="tasks_ready",
)
Tasks.add_index(
    Tasks.ready_as,
    Tasks.heat.desc(),
    Tasks.number,
    where=Tasks.ready_as.is_null(False),
    name="tasks_hottest",
)
Tasks.add_index(Tasks.status, where=Tasks.deleted_at.is_null(), name="tasks_status")
Tasks.add_index(Tasks.parent_id, where=Tasks.parent_id.is_null(False), name="tasks_parent")
Tasks.add_index(Tasks.worker_id, where=Tasks.claim_revision.is_null(False), name="tasks_claimed")
Tasks.add_index(Tasks.not_before, where=Tasks.not_before.is_null(False), name="tasks_delayed")


class Workers(_Table):
    id = TextField(primary_key=True)
    tags = TextField()
    max_claims = IntegerField()
    registered_at = BigIntegerField()
    last_heartbeat = BigIntegerField()
    disconnected_at = BigIntegerField(null=True)
    workflow = TextField()
    last_status = TextField(null=True)
    last_phase = TextField(null=True)
    lease_ms = BigIntegerField()
    cool_down_ms = BigIntegerField()
    cooling_until = BigIntegerField(null=True)
    claim_attempts = BigIntegerField()
    claims_granted = BigIntegerField()
    claims_lost = BigIntegerField()
    grace_until = BigIntegerField(null=True)

    class Meta:
        table_name = "workers"


class AdvisoryClaims(_Table):
    worker_id = TextField()
    task_id = TextField()

    class Meta:
        table_name = "advisory_claims"
        primary_key = CompositeKey("worker_id", "task_id")
        without_rowid = True


class Pauses(_Table):
    task_id = TextField(primary_key=True)
    by = TextField()
    reason = TextField()
    paused_at = BigIntegerField()

    class Meta:
        table_name = "pauses"
        without_rowid = True


_INDEXES = (
    "tasks_id",
    "tasks_ready",
    "tasks_status",
    "tasks_parent",
    "tasks_claimed",
    "tasks_delayed",
)
_HALF_LIFE_MS = 24 * 3600 * 1000
# What is new in ``tasks``, for the tasks that are there.
_VALUES = {
    "lease_since": "claimed_at",
    "paused": "0",
    "activity": "0.0",
    "breakthrough": "0.0",
    "boost": "0.0",
    "active_at": "updated_at",
    "progressed_at": "updated_at",
    "heat": "0.0",
}


def up(migrator: Any, db: Any) -> None:
    """Make the two tables anew around their rows, and add the others."""
    with db.bind_ctx([Tasks, Workers, AdvisoryClaims, Pauses]):
        for index in _INDEXES:
            db.execute_sql(f'DROP INDEX "{index}"')
        for table in (Tasks, Workers):
            name = table._meta.table_name
            had = [row[1] for row in db.execute_sql(f'PRAGMA table_info("{name}")').fetchall()]
            db.execute_sql(f'ALTER TABLE "{name}" RENAME TO "old_{name}"')
            table.create_table(safe=False)
            new = _VALUES if table is Tasks else {}
            into = ", ".join(f'"{column}"' for column in (*had, *new))
            values = ", ".join((*(f'"{column}"' for column in had), *new.values()))
            db.execute_sql(f'INSERT INTO "{name}" ({into}) SELECT {values} FROM "old_{name}"')
            db.execute_sql(f'DROP TABLE "old_{name}"')
        for priority in range(11):
            log = math.log2(max(priority / 10, 2.0**-20))
            heat = Tasks.updated_at / float(_HALF_LIFE_MS) + log
            Tasks.update({Tasks.heat: heat}).where(Tasks.priority == priority).execute()
        db.create_tables([AdvisoryClaims, Pauses], safe=False)
