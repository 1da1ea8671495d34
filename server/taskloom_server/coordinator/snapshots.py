"""Snapshots: the whole graph out, and in: as work to be done or as it was, beside what is there
or in its place.

What is to be written is found out in snapshot_plan, what a task begins as in snapshot_tasks, and
what a merge does to tasks that are there in snapshot_merge.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskloom_server.coordinator import budgets, snapshot_merge, snapshot_tasks, system
from taskloom_server.coordinator.snapshot_plan import Import, Plan, plan
from taskloom_server.graph.errors import NotEmpty, TaskClaimed
from taskloom_server.graph.events import EventType
from taskloom_server.graph.snapshots import (
    ATTACHMENTS,
    DEPENDENCIES,
    HISTORY,
    TABLES,
    TASKS,
    Mode,
    OnClash,
    Snapshot,
)
from taskloom_server.graph.tasks import Task, Transition
from taskloom_server.store.transaction import Transaction

__all__ = [
    "DryRun",
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
class Exported:
    """The graph at one moment."""

    snapshot: Snapshot
    exported_at: int  # Unix ms
    revision: int


def export_snapshot(tx: Transaction, tables: frozenset[str] | None) -> Exported:
    """The whole graph, deleted tasks included, or of it the tables that are chosen."""
    chosen = frozenset(TABLES) if tables is None else tables
    snapshot = Snapshot(
        list(tx.tasks.all()),
        list(tx.dependencies.all()) if DEPENDENCIES in chosen else [],
        list(tx.attachments.all()) if ATTACHMENTS in chosen else [],
        list(tx.transitions.all()) if HISTORY in chosen else [],
        chosen,
    )
    return Exported(snapshot, tx.now, tx.seen)


def import_snapshot(tx: Transaction, ask: Import) -> Imported:
    """Bring in a snapshot, all of it or nothing.

    Raises what ``plan`` does, NotEmpty, TaskClaimed; of a dry run that went well, DryRun.
    """
    seen, incarnation = tx.seen, tx.incarnation
    removed: Counter[str] = Counter()
    if ask.mode is Mode.RESTORE and not tx.tasks.empty():
        raise NotEmpty("the graph has tasks; reset it before a restore, or merge, or replace")
    if ask.mode is Mode.REPLACE:
        removed.update(_clear(tx, force=ask.force))
    made = plan(tx, ask)
    starting = {row.id: snapshot_tasks.starting(tx, row, ask) for row in made.rows}
    tasks = snapshot_tasks.counted(tx, starting, made)
    snapshot_merge.drop_dependencies(tx, made)
    for dependency in made.fresh:
        tx.dependencies.insert(dependency)
    written, changed = _write_tasks(tx, ask, made, tasks)
    history = _write_history(tx, ask, made, written)
    if ask.keeps_the_past:
        snapshot_tasks.restore_workers(tx, written)
    removed.update(history)
    _tell_tasks(tx, made, written, changed)
    _tell_dependencies(tx, made, written)
    removed.update(_write_attachments(tx, ask, made, written))
    removed[DEPENDENCIES] += len(made.dropped)
    removed[TASKS] += len(changed)
    snapshot_merge.settle(tx, made, written)
    for task in written:
        if task.max_cost_usd is not None or task.max_subtree_attempts is not None:
            budgets.set_limits(tx, task)
    keeps_history = ask.keeps_the_past and HISTORY in ask.snapshot.tables
    imported = Imported(
        rows={
            TASKS: len(made.rows),
            DEPENDENCIES: len(made.fresh),
            ATTACHMENTS: len(made.attachments),
            HISTORY: len(made.transitions)
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


def _write_tasks(
    tx: Transaction, ask: Import, made: Plan, tasks: Iterable[Task]
) -> tuple[list[Task], dict[str, Task]]:
    """Write the rows; the tasks as they are then, and those that were another before."""
    written: list[Task] = []
    changed: dict[str, Task] = {}
    for task in tasks:
        before = made.overwritten.get(task.id)
        if before is None:
            written.append(_insert(tx, task, ask))
            continue
        after = snapshot_merge.overwrite(tx, before, task, ask)
        if after != before:
            changed[task.id] = before
        written.append(after)
    return written, changed


def _insert(tx: Transaction, task: Task, ask: Import) -> Task:
    if not ask.keeps_the_past:
        if task.deleted_at is None:
            row = Transition(0, task.id, None, task.status, task.phase, None, tx.now, None)
            task = task._replace(sequence_id=tx.transitions.append(row, closes=None))
        if task.ready:
            task = task._replace(ready_at=tx.now)
    if task.not_before is not None:
        tx.wake_at(task.not_before)
    return tx.tasks.insert(task)


def _write_history(tx: Transaction, ask: Import, made: Plan, tasks: list[Task]) -> dict[str, int]:
    """Write the transitions as they were, in place of those that were there; how many went.

    They keep their ids where none is taken, and else get new ones in their order.
    """
    if not ask.keeps_the_past or HISTORY not in ask.snapshot.tables:
        return {}
    removed = sum(tx.transitions.forget(task_id) for task_id in made.overwritten)
    is_taken = bool(made.clashing or ask.mode is Mode.MERGE) and any(
        tx.transitions.exists(transition.id) for transition in made.transitions
    )
    latest: dict[str, int] = {}
    for transition in sorted(made.transitions) if is_taken else made.transitions:
        if is_taken:
            id_ = tx.transitions.append(transition, closes=None)
        else:
            tx.transitions.restore(transition)
            id_ = transition.id
        if transition.end_timestamp is None:
            latest[transition.task_id] = id_
    for n, task in enumerate(tasks):
        sequence_id = latest.get(task.id)
        if sequence_id != task.sequence_id:
            tasks[n] = tx.tasks.change(task, sequence_id=sequence_id)
    return {HISTORY: removed}


def _write_attachments(
    tx: Transaction, ask: Import, made: Plan, tasks: Sequence[Task]
) -> dict[str, int]:
    """Write the attachments, in place of those of what is overwritten; how many went."""
    live = {task.id: task for task in tasks if task.deleted_at is None}
    standing: frozenset[tuple[str, str, int]] = frozenset()
    removed = 0
    if ATTACHMENTS in ask.snapshot.tables and made.overwritten:
        standing, removed = snapshot_merge.clear_attachments(tx, made, live)
    for attachment in made.attachments:
        if attachment[:3] in standing:
            continue
        created_at = attachment.created_at if ask.keeps_the_past else tx.now
        tx.attachments.insert(attachment._replace(created_at=created_at))
        if (owner := live.get(attachment.task_id)) is not None:
            info = attachment._replace(content=None, created_at=created_at)
            tx.tell(EventType.ATTACHMENT_ADDED, info, task_id=owner.id, task=owner)
    return {ATTACHMENTS: removed}


def _tell_tasks(
    tx: Transaction, made: Plan, tasks: Iterable[Task], changed: Mapping[str, Task]
) -> None:
    for task in tasks:
        if task.deleted_at is not None:
            continue
        lease = tx.now + task.lease_ms if task.claimed and task.lease_ms else None
        shown = task._replace(lease_expires_at=lease)
        if task.id not in made.overwritten:
            tx.tell_task(EventType.TASK_CREATED, shown, None)
        elif task.id in changed:
            tx.tell_task(EventType.TASK_UPDATED, shown, changed[task.id])


def _tell_dependencies(tx: Transaction, made: Plan, tasks: Iterable[Task]) -> None:
    known = {**made.there, **{task.id: task for task in tasks}}
    live = {task.id for task in known.values() if task.deleted_at is None}
    for type_, dependencies in (
        (EventType.DEPENDENCY_REMOVED, made.dropped),
        (EventType.DEPENDENCY_ADDED, made.fresh),
    ):
        for dependency in dependencies:
            if live.issuperset(dependency[:2]):
                to = known[dependency.to_task_id]
                tx.tell(type_, dependency, task_id=to.id, task=to)
