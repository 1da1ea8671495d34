"""The tables, defined with Peewee. Their names and columns are a contract: see the design.

Times are Unix milliseconds and end in ``_at``, durations end in ``_ms``. A change here needs
a migration beside it, and a test compares the two.
"""

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
from playhouse.apsw_ext import APSWDatabase

# Queries are built against this one and run on any connection: it is never connected.
DIALECT = APSWDatabase(None)


class _Table(Model):
    class Meta:
        database = DIALECT
        legacy_table_names = False


class Tasks(_Table):
    """One row a task, deleted ones included."""

    number = AutoField()  # order of creation
    id = TextField(unique=True)
    title = TextField()
    description = TextField()
    status = TextField()
    phase = TextField(null=True)
    priority = IntegerField()
    worker_id = TextField(null=True)
    claimed_at = BigIntegerField(null=True)
    needed_tags = TextField()  # JSON array, sorted
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
    parent_id = TextField(null=True)  # of the `contains` dependency, kept here for its readers
    revision = BigIntegerField()
    claim_revision = BigIntegerField(null=True)
    lease_ms = BigIntegerField(null=True)
    lease_since = BigIntegerField(null=True)
    parked_lease_ms = BigIntegerField(null=True)
    advisory_claims = TextField(null=True)  # JSON: [[worker, claim revision, since, lease ms], …]
    lapsed_worker_id = TextField(null=True)
    lapsed_claim_revision = BigIntegerField(null=True)
    not_before = BigIntegerField(null=True)  # NULL again once it has passed
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
    # The group of ready tasks that this one belongs to, NULL while it is not ready; negative
    # where somebody works on it by an advisory claim, since such tasks are given out last. The
    # database derives it, so that no verb can forget to.
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

    max_cost_usd = DoubleField(null=True)  # of it and all below it together
    max_subtree_attempts = IntegerField(null=True)  # likewise
    budgets = IntegerField(constraints=[SQL("DEFAULT 0")])  # that are over it, its own included
    lease_until = BigIntegerField(null=True)  # over budget: the lease ends then and is not renewed
    delete_revision = BigIntegerField(null=True)  # what was deleted together shares it

    class Meta:
        table_name = "tasks"


# A claim reads the first entry of a group; nothing else about ready tasks costs it anything.
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
# Of all, in the order in which they are listed. Of the deleted ones, too: else SQLite would take
# this for the shortest way to whatever is not deleted, and look up each task of it on its own.
Tasks.add_index(Tasks.priority.desc(), Tasks.number, Tasks.deleted_at, name="tasks_first")
# Of the ready ones of all groups. Its last column is only looked at. It is made after the one
# before, for of two that fit as well SQLite takes the younger.
Tasks.add_index(
    Tasks.priority.desc(),
    Tasks.number,
    Tasks.ready_as,
    where=Tasks.ready_as.is_null(False),
    name="tasks_ready_first",
)
# How many tasks are in a state with a limit is counted in the index alone, and its best are found.
Tasks.add_index(
    Tasks.status,
    Tasks.workflow,
    Tasks.priority.desc(),
    where=Tasks.deleted_at.is_null(),
    name="tasks_status",
)
Tasks.add_index(Tasks.parent_id, where=Tasks.parent_id.is_null(False), name="tasks_parent")
Tasks.add_index(Tasks.worker_id, where=Tasks.claim_revision.is_null(False), name="tasks_claimed")
Tasks.add_index(Tasks.not_before, where=Tasks.not_before.is_null(False), name="tasks_delayed")


class Requirements(_Table):
    """What groups of tasks ask of a worker; a workflow's tasks with equal tags share a row."""

    id = AutoField()
    needed_tags = TextField()  # JSON array, sorted
    wanted_tags = TextField()
    workflow = TextField()

    class Meta:
        table_name = "requirements"
        indexes = ((("needed_tags", "wanted_tags", "workflow"), True),)


class TaskSequence(_Table):
    """One row a transition; a NULL status or phase means unchanged."""

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
    """One row a worker that ever connected."""

    id = TextField(primary_key=True)
    tags = TextField()  # JSON array, sorted
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
    overlays = TextField(constraints=[SQL("DEFAULT '[]'")])  # JSON array, in their order
    current_thought = TextField(null=True)
    thought_at = BigIntegerField(null=True)

    class Meta:
        table_name = "workers"


class AdvisoryClaims(_Table):
    """The advisory claims of workers; what they are stands with the tasks."""

    worker_id = TextField()
    task_id = TextField()

    class Meta:
        table_name = "advisory_claims"
        primary_key = CompositeKey("worker_id", "task_id")
        without_rowid = True


class Pauses(_Table):
    """One row a paused subtree."""

    task_id = TextField(primary_key=True)
    by = TextField()
    reason = TextField()
    paused_at = BigIntegerField()

    class Meta:
        table_name = "pauses"
        without_rowid = True


class Budgets(_Table):
    """One row a task with a budget: what was spent of it, by the task and all below it."""

    task_id = TextField(primary_key=True)
    cost_usd = DoubleField()
    attempts = IntegerField()
    is_spent = SmallIntegerField()  # 1: counted in ``paused`` of all that it is over

    class Meta:
        table_name = "budgets"
        without_rowid = True


class Renames(_Table):
    """The ids that tasks had before, for those who still use them."""

    previous_id = TextField(primary_key=True)
    task_id = TextField(index=True)

    class Meta:
        table_name = "renames"
        without_rowid = True


class WorkerMetrics(_Table):
    """What each worker logged for each task; an empty worker: a person."""

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


class Dependencies(_Table):
    """The edges of the graph."""

    from_task_id = TextField()
    to_task_id = TextField()
    dep_type = TextField()

    class Meta:
        table_name = "dependencies"
        primary_key = CompositeKey("from_task_id", "to_task_id", "dep_type")
        indexes = ((("to_task_id", "dep_type", "from_task_id"), False),)
        without_rowid = True


class TaskTags(_Table):
    """The tags of tasks, to be searched."""

    task_id = TextField()
    tag = TextField()

    class Meta:
        table_name = "task_tags"
        primary_key = CompositeKey("tag", "task_id")
        indexes = ((("task_id",), False),)
        without_rowid = True


class TaskNeededTags(_Table):
    """The needed tags of tasks, to be searched."""

    task_id = TextField()
    tag = TextField()

    class Meta:
        table_name = "task_needed_tags"
        primary_key = CompositeKey("tag", "task_id")
        indexes = ((("task_id",), False),)
        without_rowid = True


class TaskWantedTags(_Table):
    """The wanted tags of tasks, to be searched."""

    task_id = TextField()
    tag = TextField()

    class Meta:
        table_name = "task_wanted_tags"
        primary_key = CompositeKey("tag", "task_id")
        indexes = ((("task_id",), False),)
        without_rowid = True


class Attachments(_Table):
    """What is kept with tasks."""

    task_id = TextField()
    attachment_type = TextField()
    sequence = IntegerField()
    name = TextField()
    mime_type = TextField()
    content = BlobField(null=True)
    file_path = TextField(null=True)  # of content kept in the media folder: its name there
    created_at = BigIntegerField()
    size = BigIntegerField(null=True)  # of content kept in the media folder, in bytes

    class Meta:
        table_name = "attachments"
        primary_key = CompositeKey("task_id", "attachment_type", "sequence")


Attachments.add_index(
    Attachments.file_path, where=Attachments.file_path.is_null(False), name="attachments_file"
)


class FileLocks(_Table):
    """The file marks that stand."""

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
    """The history of file marks: a row when one is made, a row when it goes."""

    id = AutoField()
    file_path = TextField()
    worker_id = TextField()
    task_id = TextField(null=True)
    event = TextField()  # claimed, released
    reason = TextField(null=True)
    timestamp = BigIntegerField()
    end_timestamp = BigIntegerField(null=True)  # of a claimed row: when it was released

    class Meta:
        table_name = "claim_sequence"
        indexes = ((("file_path", "worker_id"), False),)


class Events(_Table):
    """What happened, by revision; ``after`` is the object as JSON.

    With row numbers, though none is used: without them rows of above 1,000 bytes, which most are,
    would each take a page of their own.
    """

    revision = BigIntegerField()
    ordinal = IntegerField()
    time = BigIntegerField()
    type = SmallIntegerField()
    task_id = TextField(null=True)
    worker_id = TextField(null=True)
    reason = TextField(null=True)
    after = TextField(null=True)
    before = TextField(null=True)  # JSON array: the aspect of the task before
    ancestors = TextField(null=True)  # JSON array

    class Meta:
        table_name = "events"
        primary_key = CompositeKey("revision", "ordinal")


class Requests(_Table):
    """The answers that were given, by request_id, for as long as they are remembered."""

    number = AutoField()
    id = TextField(unique=True)
    fingerprint = BlobField()
    response = BlobField()
    created_at = BigIntegerField()

    class Meta:
        table_name = "requests"


class System(_Table):
    """One row: the state of the whole."""

    id = IntegerField(primary_key=True)  # 1
    incarnation = TextField()
    revision = BigIntegerField()
    oldest_revision = BigIntegerField()  # that is kept
    paused_by = TextField(null=True)
    paused_reason = TextField(null=True)
    paused_at = BigIntegerField(null=True)
    created_at = BigIntegerField()

    class Meta:
        table_name = "system"


TABLES = (
    Tasks,
    AdvisoryClaims,
    Pauses,
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
    Budgets,
    Renames,
    WorkerMetrics,
)
