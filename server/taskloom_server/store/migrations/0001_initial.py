"""The tables as they were in the beginning. A copy, on purpose: migrations do not change."""

from typing import Any

from peewee import (
    SQL,
    AutoField,
    BigIntegerField,
    BlobField,
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
    lapsed_worker_id = TextField(null=True)
    lapsed_claim_revision = BigIntegerField(null=True)
    not_before = BigIntegerField(null=True)
    attempts = IntegerField()
    max_attempts = IntegerField()
    ready_at = BigIntegerField(null=True)
    unmet_blockers = IntegerField()
    open_children = IntegerField()
    claimable = SmallIntegerField()
    requirement_id = IntegerField()
    sequence_id = BigIntegerField(null=True)
    state_since = BigIntegerField(null=True)

    ready_as = IntegerField(
        null=True,
        constraints=[
            SQL(
                "GENERATED ALWAYS AS (CASE WHEN claimable = 1 AND unmet_blockers = 0 "
                "AND open_children = 0 AND not_before IS NULL THEN requirement_id END) VIRTUAL"
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
Tasks.add_index(Tasks.status, where=Tasks.deleted_at.is_null(), name="tasks_status")
Tasks.add_index(Tasks.parent_id, where=Tasks.parent_id.is_null(False), name="tasks_parent")
Tasks.add_index(Tasks.worker_id, where=Tasks.claim_revision.is_null(False), name="tasks_claimed")
Tasks.add_index(Tasks.not_before, where=Tasks.not_before.is_null(False), name="tasks_delayed")


class Requirements(_Table):
    id = AutoField()
    needed_tags = TextField()
    wanted_tags = TextField()

    class Meta:
        table_name = "requirements"
        indexes = ((("needed_tags", "wanted_tags"), True),)


class TaskSequence(_Table):
    id = AutoField()
    task_id = TextField(index=True)
    worker_id = TextField(null=True)
    status = TextField(null=True)
    phase = TextField(null=True)
    reason = TextField(null=True)
    timestamp = BigIntegerField()
    end_timestamp = BigIntegerField(null=True)

    class Meta:
        table_name = "task_sequence"


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

    class Meta:
        table_name = "workers"


class Dependencies(_Table):
    from_task_id = TextField()
    to_task_id = TextField()
    dep_type = TextField()

    class Meta:
        table_name = "dependencies"
        primary_key = CompositeKey("from_task_id", "to_task_id", "dep_type")
        indexes = ((("to_task_id", "dep_type", "from_task_id"), False),)
        without_rowid = True


class TaskTags(_Table):
    task_id = TextField()
    tag = TextField()

    class Meta:
        table_name = "task_tags"
        primary_key = CompositeKey("tag", "task_id")
        indexes = ((("task_id",), False),)
        without_rowid = True


class TaskNeededTags(_Table):
    task_id = TextField()
    tag = TextField()

    class Meta:
        table_name = "task_needed_tags"
        primary_key = CompositeKey("tag", "task_id")
        indexes = ((("task_id",), False),)
        without_rowid = True


class TaskWantedTags(_Table):
    task_id = TextField()
    tag = TextField()

    class Meta:
        table_name = "task_wanted_tags"
        primary_key = CompositeKey("tag", "task_id")
        indexes = ((("task_id",), False),)
        without_rowid = True


class Attachments(_Table):
    task_id = TextField()
    attachment_type = TextField()
    sequence = IntegerField()
    name = TextField()
    mime_type = TextField()
    content = BlobField(null=True)
    file_path = TextField(null=True)
    created_at = BigIntegerField()

    class Meta:
        table_name = "attachments"
        primary_key = CompositeKey("task_id", "attachment_type", "sequence")


class FileLocks(_Table):
    file_path = TextField()
    worker_id = TextField(index=True)
    task_id = TextField(null=True, index=True)
    reason = TextField(null=True)
    locked_at = BigIntegerField()

    class Meta:
        table_name = "file_locks"
        primary_key = CompositeKey("file_path", "worker_id")
        without_rowid = True


class ClaimSequence(_Table):
    id = AutoField()
    file_path = TextField()
    worker_id = TextField()
    task_id = TextField(null=True)
    event = TextField()
    reason = TextField(null=True)
    timestamp = BigIntegerField()
    end_timestamp = BigIntegerField(null=True)

    class Meta:
        table_name = "claim_sequence"
        indexes = ((("file_path", "worker_id"), False),)


class Events(_Table):
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
        table_name = "events"
        primary_key = CompositeKey("revision", "ordinal")
        without_rowid = True


class Requests(_Table):
    number = AutoField()
    id = TextField(unique=True)
    fingerprint = BlobField()
    response = BlobField()
    created_at = BigIntegerField()

    class Meta:
        table_name = "requests"


class System(_Table):
    id = IntegerField(primary_key=True)
    incarnation = TextField()
    revision = BigIntegerField()
    oldest_revision = BigIntegerField()
    paused_by = TextField(null=True)
    paused_reason = TextField(null=True)
    paused_at = BigIntegerField(null=True)
    created_at = BigIntegerField()

    class Meta:
        table_name = "system"


TABLES = (
    Tasks,
    Requirements,
    TaskSequence,
    Workers,
    Dependencies,
    TaskTags,
    TaskNeededTags,
    TaskWantedTags,
    Attachments,
    FileLocks,
    ClaimSequence,
    Events,
    Requests,
    System,
)


def up(migrator: Any, db: Any) -> None:
    """Create them all."""
    with db.bind_ctx(TABLES):
        db.create_tables(TABLES, safe=False)
