"""Snapshots: the whole graph out, and in: as work to be done or as it was, beside what is there
or in its place.

What is to be written is found out in snapshot_plan, what a task begins as in snapshot_tasks, and
what a merge does to tasks that are there in snapshot_merge.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from taskloom_server.coordinator import budgets, snapshot_merge, system
from taskloom_server.coordinator.lookup import require_task
from taskloom_server.coordinator.snapshot_plan import Import, Plan, plan
from taskloom_server.coordinator.snapshot_tasks import Starting, restore_worker
from taskloom_server.graph.errors import NotEmpty, TaskClaimed
from taskloom_server.graph.events import Aspect, EventType, aspect_of
from taskloom_server.graph.snapshots import (
    ATTACHMENTS,
    DEPENDENCIES,
    HISTORY,
    TABLES,
    TAG_TABLES,
    TASKS,
    Mode,
    OnClash,
    Snapshot,
)
from taskloom_server.graph.tasks import Task, Transition
from taskloom_server.store.collector import collector_at_rest
from taskloom_server.store.transaction import Transaction

_AT_ONCE = 1_000  # events between two looks at how many there are

__all__ = [
    "DryRun",
    "Export",
    "Exported",
    "Import",
    "Imported",
    "Mode",
    "OnClash",
    "Snapshot",
    "export_snapshot",
    "import_snapshot",
]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import brought, or, of a dry run, would bring: rows by table."""

    rows: dict[str, int]
    warnings: list[str]
    revision: int
    skipped: dict[str, int]  # of the snapshot, left out because of what is there
    removed: dict[str, int]  # that were there, and have gone
    clashing: list[str]  # tasks that were there already
    incarnation: str


class DryRun(Exception):
    """All went well, and is to be taken back: raised, because what raises is rolled back."""

    def __init__(self, imported: Imported) -> None:
        super().__init__("a dry run")
        self.imported = imported


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be exported, and who takes it: each table once, in the order of ``TABLES``."""

    tables: frozenset[str] | None  # None: all
    write: Callable[[str, Iterator[tuple[Any, ...]]], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """The moment of which an export is."""

    exported_at: int  # Unix ms
    revision: int


def export_snapshot(tx: Transaction, ask: Export) -> Exported:
    """The whole graph, deleted tasks included, or of it the tables that are chosen.

    Rows are as their records, those of a table of tags the id of the task and a tag.
    """
    rows: dict[str, Callable[[], Iterator[tuple[Any, ...]]]] = {
        TASKS: tx.tasks.all,
        DEPENDENCIES: tx.dependencies.all,
        ATTACHMENTS: tx.attachments.all,
        **{table: partial(tx.tasks.tags, column) for table, column in TAG_TABLES.items()},
        HISTORY: tx.transitions.all,
    }
    for table in TABLES:
        if ask.tables is None or table in ask.tables:
            ask.write(table, rows[table]())
    return Exported(tx.now, tx.seen)


def import_snapshot(tx: Transaction, ask: Import) -> Imported:
    """Bring in a snapshot, all of it or nothing.

    Raises what ``plan`` does, NotEmpty, TaskClaimed; of a dry run that went well, DryRun.
    """
    with collector_at_rest():
        return _import(tx, ask)


def _import(tx: Transaction, ask: Import) -> Imported:
    seen, incarnation = tx.seen, tx.incarnation
    removed: Counter[str] = Counter()
    if ask.mode is Mode.RESTORE and not tx.tasks.empty():
        raise NotEmpty("the graph has tasks; reset it before a restore, or merge, or replace")
    if ask.mode is Mode.REPLACE:
        removed.update(_clear(tx, force=ask.force))
    made = plan(tx, ask)
    snapshot_merge.drop_dependencies(tx, made)
    tx.dependencies.insert_many(made.fresh)
    keeps_history = ask.keeps_the_past and HISTORY in ask.snapshot.tables
    latest: dict[str, int] = {}
    if keeps_history:
        removed[HISTORY] += sum(tx.transitions.forget(task_id) for task_id in made.overwritten)
        latest = _write_history(tx, ask, made)
    written = _write_tasks(tx, ask, made, latest if keeps_history else None)
    _tell_dependencies(tx, made, written.live)
    removed[ATTACHMENTS] += _write_attachments(tx, ask, made, written.live)
    removed[DEPENDENCIES] += len(made.dropped)
    removed[TASKS] += written.changed
    snapshot_merge.settle(tx, made)
    for task_id in written.limited:
        budgets.set_limits(tx, require_task(tx, task_id))
    imported = Imported(
        rows={
            TASKS: len(made.rows),
            DEPENDENCIES: len(made.fresh),
            ATTACHMENTS: made.attachments,
            HISTORY: made.transitions
            if keeps_history
            else 0
            if ask.keeps_the_past
            else len(made.rows),
        },
        warnings=ask.warnings,
        revision=seen if ask.dry_run else tx.seen,
        skipped=dict(+made.skipped),
        removed=dict(+removed),
        clashing=list(made.clashing),
        incarnation=incarnation if ask.dry_run else tx.incarnation,
    )
    if ask.dry_run:
        raise DryRun(imported)
    return imported


def _clear(tx: Transaction, *, force: bool) -> dict[str, int]:
    """Begin the graph anew; how many rows went, by table. Raises TaskClaimed unless forced."""
    held = [] if force else tx.tasks.claims()
    if held:
        named = ", ".join(f"{task_id!r} by {worker_id!r}" for task_id, worker_id in held[:10])
        raise TaskClaimed(
            f"workers hold {len(held):,} tasks ({named}{', …' if len(held) > 10 else ''}); let "
            "them end, or replace by force",
            subjects=sorted({worker_id for _, worker_id in held}),
        )
    counts = tx.system.row_counts()
    system.reset(tx, None)
    return counts


@dataclass(slots=True)
class _Written:
    """What of the tasks that were written is needed by what comes after them."""

    live: dict[str, Aspect] = field(default_factory=dict)  # of those that are not deleted
    limited: list[str] = field(default_factory=list)  # that have a budget
    changed: int = 0  # of those that were there, how many are another now
    _aspects: dict[Aspect, Aspect] = field(default_factory=dict)

    def alike(self, aspect: Aspect) -> Aspect:
        """The same aspect, one of all tasks that are alike."""
        return self._aspects.setdefault(aspect, aspect)


def _write_tasks(
    tx: Transaction, ask: Import, made: Plan, latest: dict[str, int] | None
) -> _Written:
    """Write and tell the tasks. ``latest``: the open row of their history, where that comes."""
    written = _Written()
    starting = Starting(tx, ask, made)
    number = first = tx.tasks.next_number()
    overwritten: list[tuple[Task, Task, bool]] = []  # before, after, and whether they differ
    for rows in ask.snapshot.tasks.batches():
        tasks: list[Task] = []
        for row in rows:
            if made.left_as_it_is(row.id):
                continue
            before = made.overwritten.get(row.id)
            task = starting.task(row, number, latest)
            if before is None:
                tasks.append(task)
                number += 1
                continue
            after = snapshot_merge.overwrite(tx, before, task, ask)
            is_another = after != before
            if latest is not None and after.sequence_id != latest.get(task.id):
                after = tx.tasks.change(after, sequence_id=latest.get(task.id))
            overwritten.append((before, after, is_another))
        tx.tasks.insert_many(tasks)
        if not ask.keeps_the_past:
            tx.transitions.restore(starting.begun)
            starting.begun.clear()
        for task in tasks:
            if task.not_before is not None:
                tx.wake_at(task.not_before)
            ancestors = starting.ancestors(task.parent_id)
            _note(tx, ask, task, ancestors, written)
            if task.deleted_at is None:
                tx.tell_task(EventType.TASK_CREATED, _shown(tx, task), None, ancestors=ancestors)
        tx.write_down()
    tx.tasks.index_from(first)
    for before, after, is_another in overwritten:
        _note(tx, ask, after, tx.tasks.ancestors(after.parent_id), written)
        written.changed += is_another
        if is_another and after.deleted_at is None:
            tx.tell_task(EventType.TASK_UPDATED, _shown(tx, after), before)
    return written


def _note(
    tx: Transaction, ask: Import, task: Task, ancestors: tuple[str, ...], written: _Written
) -> None:
    """Note of a task that was written what comes after it must know."""
    if ask.keeps_the_past and task.claimed:
        restore_worker(tx, task)
    if task.max_cost_usd is not None or task.max_subtree_attempts is not None:
        written.limited.append(task.id)
    if task.deleted_at is None:
        written.live[task.id] = written.alike(aspect_of(task, ancestors))


def _shown(tx: Transaction, task: Task) -> Task:
    """A task as its event shows it."""
    if not (task.claimed and task.lease_ms):
        return task
    return task._replace(lease_expires_at=tx.now + task.lease_ms)


def _write_history(tx: Transaction, ask: Import, made: Plan) -> dict[str, int]:
    """Write the transitions as they were; the open one of each task.

    They keep their ids where none is taken, and else get new ones in their order.
    """
    rows: Iterable[Transition] = ask.snapshot.transitions
    if made.clashing:
        rows = (row for row in rows if not made.left_as_it_is(row.task_id))
    if ask.mode is Mode.MERGE:
        rows = list(rows)
        if any(tx.transitions.exists(row.id) for row in rows):
            ids = count(tx.transitions.next_id())
            rows = (row._replace(id=next(ids)) for row in sorted(rows))
    latest: dict[str, int] = {}

    def noting() -> Iterator[Transition]:
        for row in rows:
            if row.end_timestamp is None:
                latest[row.task_id] = row.id
            yield row

    tx.transitions.restore(noting())
    return latest


def _write_attachments(tx: Transaction, ask: Import, made: Plan, live: Mapping[str, Aspect]) -> int:
    """Write the attachments, in place of those of what is overwritten; how many went."""
    standing: frozenset[tuple[str, str, int]] = frozenset()
    removed = 0
    rows = ask.snapshot.attachments
    if ATTACHMENTS in ask.snapshot.tables and made.overwritten:
        standing, removed = snapshot_merge.clear_attachments(tx, made, rows, live)
    for attachment in rows:
        if attachment[:3] in standing or made.left_as_it_is(attachment.task_id):
            continue
        created_at = attachment.created_at if ask.keeps_the_past else tx.now
        tx.attachments.insert(attachment._replace(created_at=created_at))
        if (aspect := live.get(attachment.task_id)) is not None:
            info = attachment._replace(content=None, created_at=created_at)
            tx.tell(EventType.ATTACHMENT_ADDED, info, task_id=attachment.task_id, aspect=aspect)
            tx.write_down()
    return removed


def _tell_dependencies(tx: Transaction, made: Plan, written: Mapping[str, Aspect]) -> None:
    live = dict(written)
    for task in made.there.values():
        if task.deleted_at is None and task.id not in live:
            live[task.id] = aspect_of(task, tx.tasks.ancestors(task.parent_id))
    for type_, dependencies in (
        (EventType.DEPENDENCY_REMOVED, made.dropped),
        (EventType.DEPENDENCY_ADDED, made.fresh),
    ):
        for n, dependency in enumerate(dependencies, 1):
            aspect = live.get(dependency.to_task_id)
            if aspect is not None and dependency.from_task_id in live:
                tx.tell(type_, dependency, task_id=dependency.to_task_id, aspect=aspect)
            if n % _AT_ONCE == 0:
                tx.write_down()
