"""``tasks`` and its tag tables: reading, writing, and the sets that change together."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Unpack

import apsw
from peewee import JOIN, SQL, Case, Field, fn

from taskloom_server.graph.tasks import START_BLOCKING, Task, TaskChanges
from taskloom_server.store.json_text import read, read_tags, write, write_tags
from taskloom_server.store.search_tables import TaskSearch
from taskloom_server.store.statements import Row, Statement, arg, by_no_index
from taskloom_server.store.subtrees import subtree
from taskloom_server.store.tables import (
    AdvisoryClaims,
    Dependencies,
    TaskNeededTags,
    Tasks,
    TaskTags,
    TaskWantedTags,
    Workers,
)

_STORED = Task._fields[:-1]  # lease_expires_at is worked out
_FIELDS: tuple[Field, ...] = tuple(getattr(Tasks, name) for name in _STORED)
# A lease counts from the worker's last sign of life. What is assigned to a worker that was idle
# counts from its assignment, which is no sign of the worker's life. In a parked state there is
# no lease, and so no end. A worker whose stream broke has a time by which it must be back,
# which is no end for what it is given after that.
_FULL_LEASE_END = (
    Case(
        None,
        [(Tasks.lease_since > Workers.last_heartbeat, Tasks.lease_since)],
        Workers.last_heartbeat,
    )
    + Tasks.lease_ms
)
_IS_GRACE = (Workers.grace_until > Tasks.lease_since) & (Workers.grace_until < _FULL_LEASE_END)
# What is over budget is not renewed: its lease has an end of its own.
_IS_FIXED = Tasks.lease_until.is_null(False) & (
    Workers.grace_until.is_null() | (Workers.grace_until > Tasks.lease_until)
)
_LEASE_END = Case(
    None,
    [(_IS_FIXED, Tasks.lease_until), (_IS_GRACE, Workers.grace_until)],
    _FULL_LEASE_END,
)
_LEASE_EXPIRES_AT = Case(None, [(Tasks.claim_revision.is_null(False), _LEASE_END)], None)
# What an UPDATE of many tells of those that were ready or are, which nobody holds: no lease ends.
_CHANGED = (*_FIELDS, SQL("NULL"))
TAG_TABLES: dict[str, Any] = {
    "tags": TaskTags,
    "needed_tags": TaskNeededTags,
    "wanted_tags": TaskWantedTags,
}


def select_tasks() -> Any:
    """A query for whole tasks; read its rows with ``task_of``."""
    return Tasks.select(*_FIELDS, _LEASE_EXPIRES_AT).join(
        Workers, JOIN.LEFT_OUTER, on=(Workers.id == Tasks.worker_id)
    )


def task_of(row: Row) -> Task:
    """The task in a row of ``select_tasks``."""
    claims = () if row[3] is None else tuple(map(tuple, read(row[3])))
    return Task(read_tags(row[0]), read_tags(row[1]), read_tags(row[2]), claims, *row[4:])


def _writable(values: dict[str, Any]) -> None:
    """Put the columns that hold arrays into the form that is stored."""
    for column in TAG_TABLES.keys() & values.keys():
        values[column] = write_tags(values[column])
    if "advisory_claims" in values:
        claims = values["advisory_claims"]
        values["advisory_claims"] = write(claims) if claims else None


_GET = Statement(select_tasks().where(Tasks.id == arg("id")), "id")
_NUMBERED = Statement(select_tasks().where(Tasks.number == arg("number")), "number")
_EXISTS = Statement(Tasks.select(Tasks.number).where(Tasks.id == arg("id")), "id")
_INSERTED = tuple(name for name in _STORED if name != "number")
_INSERT = Statement(
    Tasks.insert({getattr(Tasks, name): arg(name) for name in _INSERTED}), *_INSERTED
)
_INSERT_MANY = Statement(
    Tasks.insert({getattr(Tasks, name): arg(name) for name in _STORED}), *_STORED
)
_LAST_NUMBER = Statement(Tasks.select(fn.MAX(Tasks.number)))
_INDEX_FROM = Statement(
    TaskSearch.insert_from(
        Tasks.select(Tasks.number, Tasks.title, Tasks.description).where(
            Tasks.number >= arg("number")
        ),
        [TaskSearch.rowid, TaskSearch.title, TaskSearch.description],
    ),
    "number",
)
# By claims of either mode. What is parked waits for others, and keeps the worker from nothing.
_HELD_COUNT = Statement(
    Tasks.select(
        fn.COUNT(Tasks.number)
        + AdvisoryClaims.select(fn.COUNT(AdvisoryClaims.task_id)).where(
            AdvisoryClaims.worker_id == arg("worker_id")
        )
    ).where(
        (Tasks.worker_id == arg("worker_id"))
        & Tasks.claim_revision.is_null(False)
        & Tasks.parked_lease_ms.is_null()
    ),
    "worker_id",
)
# The shortest of those that are renewed, and how many are not.
_LEASES = Statement(
    Tasks.select(
        fn.MIN(Case(None, [(Tasks.lease_until.is_null(), Tasks.lease_ms)], None)),
        fn.COUNT(Tasks.lease_until),
    ).where((Tasks.worker_id == arg("worker_id")) & Tasks.claim_revision.is_null(False)),
    "worker_id",
)
_HELD = Statement(
    select_tasks()
    .where((Tasks.worker_id == arg("worker_id")) & Tasks.claim_revision.is_null(False))
    .order_by(Tasks.number),
    "worker_id",
)
_CHILDREN = Statement(
    select_tasks()
    .where((Tasks.parent_id == arg("parent_id")) & Tasks.deleted_at.is_null())
    .order_by(Tasks.number),
    "parent_id",
)
_HAS_CHILDREN = Statement(
    Tasks.select(Tasks.number)
    .where((Tasks.parent_id == arg("parent_id")) & Tasks.deleted_at.is_null())
    .limit(1),
    "parent_id",
)
_PARENT_ID = Statement(Tasks.select(Tasks.parent_id).where(Tasks.id == arg("id")), "id")


@cache
def _any_with_status(count: int) -> Statement:
    """For a list of known length, since SQLite has no array to bind."""
    slots = [f"s{n}" for n in range(count)]
    return Statement(
        Tasks.select(Tasks.number)
        .where(Tasks.deleted_at.is_null() & Tasks.status.in_([arg(slot) for slot in slots]))
        .limit(1),
        *slots,
    )


_BY_STATUS = Statement(
    Tasks.select(Tasks.status, fn.COUNT(Tasks.number))
    .where(Tasks.deleted_at.is_null())
    .group_by(Tasks.status)
)
_IN_STATE = (
    Tasks.deleted_at.is_null()
    & (Tasks.status == arg("status"))
    & (Tasks.workflow == arg("workflow"))
)
_COUNT_IN_STATE = Statement(
    Tasks.select(fn.COUNT(Tasks.number)).where(_IN_STATE), "status", "workflow"
)
_IDS_IN_STATE = Statement(
    Tasks.select(Tasks.id).where(_IN_STATE).order_by(Tasks.number), "status", "workflow"
)
_OPEN_BY_STATE = Statement(
    Tasks.select(Tasks.workflow, Tasks.status, fn.COUNT(Tasks.number))
    .where(by_no_index(Tasks.deleted_at).is_null() & Tasks.completed_at.is_null())
    .group_by(Tasks.workflow, Tasks.status)
    .order_by(Tasks.workflow, Tasks.status)
)
_OF_WORKFLOW = Statement(
    select_tasks()
    .where((Tasks.workflow == arg("workflow")) & Tasks.deleted_at.is_null())
    .order_by(Tasks.number),
    "workflow",
)
_READY_BY_GROUP = Statement(
    Tasks.select(Tasks.ready_as, fn.COUNT(Tasks.number))
    .where(Tasks.ready_as.is_null(False))
    .group_by(Tasks.ready_as)
)
_CLAIMED_COUNT = Statement(
    Tasks.select(fn.COUNT(Tasks.number)).where(Tasks.claim_revision.is_null(False))
)
_DELAYED_COUNT = Statement(
    Tasks.select(fn.COUNT(Tasks.number)).where(
        Tasks.not_before.is_null(False)
        & (Tasks.claimable == 1)
        & (Tasks.unmet_blockers == 0)
        & (Tasks.open_children == 0)
        & (Tasks.paused == 0)
    )
)
_DELETED_IDS = Statement(Tasks.select(Tasks.id).where(Tasks.deleted_at.is_null(False)))
_CLAIMS = Statement(
    Tasks.select(Tasks.id, Tasks.worker_id)
    .where(Tasks.claim_revision.is_null(False))
    .order_by(Tasks.number)
)
_EMPTY = Statement(Tasks.select(Tasks.number).limit(1))
_ALL = Statement(select_tasks().order_by(Tasks.number))
_ALL_TAGS = {
    column: Statement(
        Tasks.select(Tasks.id, getattr(Tasks, column))
        .where(getattr(Tasks, column) != "[]")
        .order_by(Tasks.number)
    )
    for column in TAG_TABLES
}
_LEASE_ENDS = Statement(
    Tasks.select(Tasks.worker_id, fn.MIN(_LEASE_END))
    .join(Workers, on=(Workers.id == Tasks.worker_id))
    .where(Tasks.claim_revision.is_null(False) & Tasks.lease_ms.is_null(False))
    .group_by(Tasks.worker_id)
)
_DUE = Statement(
    select_tasks()
    .where(
        Tasks.not_before.is_null(False)
        & (Tasks.not_before <= arg("now"))
        & Tasks.deleted_at.is_null()
    )
    .order_by(Tasks.not_before, Tasks.number),
    "now",
)
_NEXT_DUE = Statement(
    Tasks.select(fn.MIN(Tasks.not_before)).where(
        Tasks.not_before.is_null(False)
        & (Tasks.not_before > arg("after"))
        & Tasks.deleted_at.is_null()
    ),
    "after",
)

_DEPENDENTS = Dependencies.select(Dependencies.to_task_id).where(
    (Dependencies.from_task_id == arg("from_task_id")) & Dependencies.dep_type.in_(START_BLOCKING)
)
# Whether a task is ready but for its blockers, or for its being paused.
_NEARLY_READY = (Tasks.claimable == 1) & (Tasks.open_children == 0) & Tasks.not_before.is_null()
_READY_BUT_FOR_BLOCKERS = _NEARLY_READY & (Tasks.paused == 0)
_READY_BUT_FOR_PAUSES = _NEARLY_READY & (Tasks.unmet_blockers == 0)


def _shift_dependents(by: int, turning_at: int) -> Statement:
    """All dependents' counts of unmet blockers moved by one, in one statement.

    Those that are turned by it, into ready or out of it, get the revision; ``turning_at`` is
    their count before.
    """
    turned = _READY_BUT_FOR_BLOCKERS & (Tasks.unmet_blockers == turning_at)
    changes: dict[Field, Any] = {
        Tasks.unmet_blockers: Tasks.unmet_blockers + by,
        Tasks.revision: Case(None, [(turned, arg("revision"))], Tasks.revision),
        Tasks.updated_at: Case(None, [(turned, arg("now"))], Tasks.updated_at),
    }
    if by < 0:
        changes[Tasks.ready_at] = Case(None, [(turned, arg("now"))], Tasks.ready_at)
    query = (
        Tasks.update(changes)
        .where(Tasks.id.in_(_DEPENDENTS) & Tasks.deleted_at.is_null())
        .returning(*_CHANGED)
    )
    return Statement(query, "from_task_id", "revision", "now")


# To find that there are none takes 2 µs by this, and 20 by an update that returns what it changed.
_HAS_DEPENDENTS = Statement(_DEPENDENTS.limit(1), "from_task_id")
_Child: Any = Tasks.alias()
_DEPENDENT_PARENTS = Statement(
    Dependencies.select(Dependencies.to_task_id)
    .distinct()
    .join(_Child, on=(_Child.parent_id == Dependencies.to_task_id))
    .where(
        (Dependencies.from_task_id == arg("from_task_id"))
        & Dependencies.dep_type.in_(START_BLOCKING)
        & _Child.deleted_at.is_null()
    ),
    "from_task_id",
)
_UNBLOCK_DEPENDENTS = _shift_dependents(-1, turning_at=1)
_BLOCK_DEPENDENTS = _shift_dependents(+1, turning_at=0)

_SUBTREE: Any = subtree(arg("top"), also_deleted=True)
_TURNED_BY_PAUSE = _READY_BUT_FOR_PAUSES & (Tasks.paused == arg("turning_at"))
# Deleted ones too, so that the count is right when one comes back.
_SHIFT_PAUSED = Statement(
    Tasks.update(
        {
            Tasks.paused: Tasks.paused + arg("by"),
            Tasks.revision: Case(None, [(_TURNED_BY_PAUSE, arg("revision"))], Tasks.revision),
            Tasks.updated_at: Case(None, [(_TURNED_BY_PAUSE, arg("now"))], Tasks.updated_at),
            Tasks.ready_at: Case(
                None, [(_TURNED_BY_PAUSE & (arg("by") < 0), arg("now"))], Tasks.ready_at
            ),
        }
    )
    .where((Tasks.id == arg("top")) | Tasks.id.in_(_SUBTREE.select_from(_SUBTREE.c.id)))
    .returning(*_CHANGED),
    "top",
    "by",
    "turning_at",
    "revision",
    "now",
)

_SHIFT_BUDGETS = Statement(
    Tasks.update({Tasks.budgets: Tasks.budgets + arg("by")}).where(
        (Tasks.id == arg("top")) | Tasks.id.in_(_SUBTREE.select_from(_SUBTREE.c.id))
    ),
    "top",
    "by",
)
_HELD_BELOW = Statement(
    select_tasks()
    .where(
        Tasks.claim_revision.is_null(False)
        & Tasks.lease_ms.is_null(False)
        & ((Tasks.id == arg("top")) | Tasks.id.in_(_SUBTREE.select_from(_SUBTREE.c.id)))
    )
    .order_by(Tasks.number),
    "top",
)
_ALL_BELOW = Statement(
    select_tasks()
    .where((Tasks.id == arg("top")) | Tasks.id.in_(_SUBTREE.select_from(_SUBTREE.c.id)))
    .order_by(Tasks.number),
    "top",
)

_ADD_TAG = {
    column: Statement(
        table.insert({table.task_id: arg("task_id"), table.tag: arg("tag")}), "task_id", "tag"
    )
    for column, table in TAG_TABLES.items()
}
_REMOVE_TAGS = {
    column: Statement(table.delete().where(table.task_id == arg("task_id")), "task_id")
    for column, table in TAG_TABLES.items()
}


class TaskTable:
    """``tasks`` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._updates: dict[tuple[str, ...], Statement] = {}

    def get(self, task_id: str) -> Task | None:
        """The task of this id, deleted or not."""
        row = _GET.one(self._connection, task_id)
        return task_of(row) if row else None

    def numbered(self, number: int) -> Task | None:
        """The task of this number, which it keeps whatever its id is, deleted or not."""
        row = _NUMBERED.one(self._connection, number)
        return task_of(row) if row else None

    def exists(self, task_id: str) -> bool:
        """Whether the id is taken."""
        return _EXISTS.one(self._connection, task_id) is not None

    def insert(self, task: Task) -> Task:
        """Add a task; its ``number`` is made up here."""
        values = task._asdict()
        _writable(values)
        _INSERT.run(self._connection, *(values[name] for name in _INSERTED))
        for column, add in _ADD_TAG.items():
            if tags := getattr(task, column):
                add.many(self._connection, [(task.id, tag) for tag in set(tags)])
        return task._replace(number=self._connection.last_insert_rowid())

    def next_number(self) -> int:
        """The number that the next task gets."""
        row = _LAST_NUMBER.one(self._connection)
        return ((row and row[0]) or 0) + 1

    def insert_many(self, tasks: Sequence[Task]) -> None:
        """Add tasks with the numbers they have; ``index_from`` is to follow.

        Without the trigger, which takes three times as long as all the rest of a row.
        """
        self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        try:
            _INSERT_MANY.many(
                self._connection,
                [
                    (*(write_tags(tags) if tags else "[]" for tags in task[:3]), None, *task[4:-1])
                    for task in tasks
                ],
            )
        finally:
            self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)
        for column, add in _ADD_TAG.items():
            tagged = [(task.id, tag) for task in tasks for tag in set(getattr(task, column))]
            if tagged:
                add.many(self._connection, tagged)

    def index_from(self, number: int) -> None:
        """Put the words of the tasks from this number on into the index."""
        _INDEX_FROM.run(self._connection, number)

    def change(self, task: Task, **changes: Unpack[TaskChanges]) -> Task:
        """Write the changed columns; the task with them."""
        self.write(task, changes)
        return task.changed(changes)

    def write(self, task: Task, changes: TaskChanges) -> None:
        """Write the changed columns, and only those: an index is paid for when it is named."""
        columns = tuple(changes)
        update = self._updates.get(columns)
        if update is None:
            update = self._updates[columns] = Statement(
                Tasks.update({getattr(Tasks, c): arg(c) for c in columns}).where(
                    Tasks.number == arg("number")
                ),
                *columns,
                "number",
            )
        values: dict[str, Any] = {**changes}
        for column in TAG_TABLES.keys() & values.keys():
            _REMOVE_TAGS[column].run(self._connection, task.id)
            tags = set(values[column])
            _ADD_TAG[column].many(self._connection, [(task.id, tag) for tag in tags])
        _writable(values)
        update.run(self._connection, *values.values(), task.number)

    def unblock_dependents(self, task_id: str, revision: int, now: int) -> list[Task]:
        """Count one blocker less on all that the task blocks; those that have none left."""
        if _HAS_DEPENDENTS.one(self._connection, task_id) is None:
            return []
        rows = _UNBLOCK_DEPENDENTS.all(self._connection, task_id, revision, now)
        tasks = [task_of(row) for row in rows]
        return sorted((t for t in tasks if not t.unmet_blockers), key=lambda t: t.number)

    def dependent_parents(self, task_id: str) -> frozenset[str]:
        """Those that the task blocks and that have children which are not deleted."""
        return frozenset(row[0] for row in _DEPENDENT_PARENTS.each(self._connection, task_id))

    def block_dependents(self, task_id: str, revision: int, now: int) -> list[Task]:
        """Count one blocker more on all that the task blocks; those that were ready before."""
        if _HAS_DEPENDENTS.one(self._connection, task_id) is None:
            return []
        rows = _BLOCK_DEPENDENTS.all(self._connection, task_id, revision, now)
        tasks = [task_of(row) for row in rows]
        turned = (t for t in tasks if t._replace(unmet_blockers=t.unmet_blockers - 1).ready)
        return sorted(turned, key=lambda t: t.number)

    def shift_paused(self, task_id: str, by: int, revision: int, now: int) -> list[Task]:
        """Count so many pauses more on a task and all below it; those that are turned by it.

        A negative number: so many less.
        """
        turning_at = max(0, -by)
        rows = _SHIFT_PAUSED.all(self._connection, task_id, by, turning_at, revision, now)
        tasks = [task_of(row) for row in rows]
        turned = (t for t in tasks if t.ready != t._replace(paused=t.paused - by).ready)
        return sorted(turned, key=lambda t: t.number)

    def shift_budgets(self, task_id: str, by: int) -> None:
        """Count so many budgets more over a task and all below it."""
        _SHIFT_BUDGETS.run(self._connection, task_id, by)

    def held_below(self, task_id: str) -> list[Task]:
        """The task and those below it that are held under a lease that runs, oldest first."""
        return [task_of(row) for row in _HELD_BELOW.all(self._connection, task_id)]

    def all_below(self, task_id: str) -> list[Task]:
        """The task and all below it, deleted ones included, oldest first."""
        return [task_of(row) for row in _ALL_BELOW.all(self._connection, task_id)]

    def held_count(self, worker_id: str) -> int:
        """How many tasks the worker holds, parked ones not counted."""
        row = _HELD_COUNT.one(self._connection, worker_id)
        assert row is not None
        count: int = row[0]
        return count

    def leases(self, worker_id: str) -> tuple[int | None, int]:
        """Of the tasks that the worker holds: the shortest lease, in ms, and how many leases are
        over budget, which are not among those.
        """
        row = _LEASES.one(self._connection, worker_id)
        assert row is not None
        return row[0], row[1]

    def held(self, worker_id: str) -> list[Task]:
        """The tasks that the worker holds, oldest first."""
        return [task_of(row) for row in _HELD.each(self._connection, worker_id)]

    def children(self, task_id: str) -> list[Task]:
        """The children that are not deleted, oldest first."""
        return [task_of(row) for row in _CHILDREN.each(self._connection, task_id)]

    def has_children(self, task_id: str) -> bool:
        """Whether the task has children that are not deleted."""
        return _HAS_CHILDREN.one(self._connection, task_id) is not None

    def ancestors(self, parent_id: str | None) -> tuple[str, ...]:
        """The ids from this parent up to the root."""
        ids: list[str] = []
        while parent_id is not None:
            ids.append(parent_id)
            row = _PARENT_ID.one(self._connection, parent_id)
            parent_id = row[0] if row else None
        return tuple(ids)

    def any_with_status(self, statuses: tuple[str, ...]) -> bool:
        """Whether some task that is not deleted has one of these statuses."""
        return _any_with_status(len(statuses)).one(self._connection, *statuses) is not None

    def count_in(self, workflow: str, status: str) -> int:
        """How many of a workflow's tasks that are not deleted are in a state."""
        row = _COUNT_IN_STATE.one(self._connection, status, workflow)
        assert row is not None
        count: int = row[0]
        return count

    def ids_in(self, workflow: str, status: str) -> list[str]:
        """The ids of a workflow's tasks that are in a state, oldest first."""
        return [row[0] for row in _IDS_IN_STATE.each(self._connection, status, workflow)]

    def open_by_state(self) -> list[tuple[str, str, int]]:
        """How many tasks have not ended: by workflow and status."""
        return [(r[0], r[1], r[2]) for r in _OPEN_BY_STATE.all(self._connection)]

    def of_workflow(self, workflow: str) -> list[Task]:
        """The tasks of a workflow that are not deleted, oldest first."""
        return [task_of(row) for row in _OF_WORKFLOW.each(self._connection, workflow)]

    def deleted_ids(self) -> set[str]:
        """The ids of the tasks that are deleted."""
        return {row[0] for row in _DELETED_IDS.each(self._connection)}

    def claims(self) -> list[tuple[str, str]]:
        """Every task that a worker holds, and the worker, oldest task first."""
        return [(row[0], row[1]) for row in _CLAIMS.each(self._connection)]

    def empty(self) -> bool:
        """Whether there is no task at all, deleted ones included."""
        return _EMPTY.one(self._connection) is None

    def all(self) -> Iterator[Task]:
        """Every task, deleted ones included, in the order of creation."""
        return map(task_of, _ALL.each(self._connection))

    def tags(self, column: str) -> Iterator[tuple[str, str]]:
        """The ids of all tasks with their tags of a column, in the order of creation."""
        for task_id, tags in _ALL_TAGS[column].each(self._connection):
            for tag in read_tags(tags):
                yield task_id, tag

    def ready_by_requirement(self) -> dict[int, int]:
        """How many tasks are ready, by what they ask of a worker."""
        counts: dict[int, int] = {}
        for group, count in _READY_BY_GROUP.each(self._connection):
            counts[abs(group)] = counts.get(abs(group), 0) + count
        return counts

    def by_status(self) -> dict[str, int]:
        """How many tasks that are not deleted have each status."""
        return {row[0]: row[1] for row in _BY_STATUS.each(self._connection)}

    def claimed_count(self) -> int:
        """How many tasks are held."""
        return self._count(_CLAIMED_COUNT)

    def delayed_count(self) -> int:
        """How many tasks nothing but their not_before holds back."""
        return self._count(_DELAYED_COUNT)

    def _count(self, statement: Statement) -> int:
        row = statement.one(self._connection)
        return row[0] if row else 0

    def lease_ends(self) -> dict[str, int]:
        """When the first lease of each worker that holds a task ends, in Unix ms."""
        return {row[0]: row[1] for row in _LEASE_ENDS.each(self._connection)}

    def due(self, now: int) -> Iterator[Task]:
        """The tasks whose not_before has passed, the first one to pass first."""
        return map(task_of, _DUE.each(self._connection, now))

    def next_due(self, after: int) -> int | None:
        """When the next not_before after a time passes, in Unix ms."""
        row = _NEXT_DUE.one(self._connection, after)
        return row[0] if row else None
