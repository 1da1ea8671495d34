"""What an import is to write, checked against itself and against what is there.

Nothing is changed here. A row that is wrong is named by its table, its number and its column.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from taskloom_server.graph import cycles
from taskloom_server.graph.errors import (
    Cycle,
    InvalidSnapshot,
    ParentExists,
    TaskClaimed,
    TaskDeleted,
    TaskExists,
)
from taskloom_server.graph.snapshots import (
    ATTACHMENTS,
    DEPENDENCIES,
    HISTORY,
    TASKS,
    Mode,
    OnClash,
    Outline,
    Snapshot,
)
from taskloom_server.graph.tasks import CONTAINS, Dependency, Task
from taskloom_server.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Import:
    """A snapshot to be brought in; ``warnings`` are what was tolerated in its file."""

    snapshot: Snapshot
    mode: Mode
    workflow: str  # for tasks that name none
    warnings: list[str]
    on_clash: OnClash = OnClash.FAIL  # of a merge
    dry_run: bool = False
    force: bool = False  # of a replacement: also while workers hold tasks

    @property
    def keeps_the_past(self) -> bool:
        """Whether tasks come as they were."""
        return self.mode is not Mode.TEMPLATE


@dataclass(slots=True)
class Plan:
    """What is to be written, and what of the graph it meets. Tasks are by id."""

    rows: list[Outline] = field(default_factory=list)  # of the snapshot, to be written
    clashing: dict[str, Task] = field(default_factory=dict)  # there already, as they are
    overwritten: dict[str, Task] = field(default_factory=dict)  # those of them that change
    there: dict[str, Task] = field(default_factory=dict)  # others that dependencies lead to
    fresh: list[Dependency] = field(default_factory=list)  # to be added
    kept: list[Dependency] = field(default_factory=list)  # those on what is overwritten that stay
    dropped: list[Dependency] = field(default_factory=list)  # those of them that go
    parents: dict[str, str] = field(default_factory=dict)  # of each child, by what is fresh
    attachments: int = 0  # how many are to be written
    transitions: int = 0  # likewise
    skipped: Counter[str] = field(default_factory=Counter)  # rows left out, by table

    def left_as_it_is(self, task_id: str) -> bool:
        """Whether a task of the snapshot is there already, and stays."""
        return task_id in self.clashing and task_id not in self.overwritten


def plan(tx: Transaction, ask: Import) -> Plan:
    """What an import is to write.

    Raises InvalidSnapshot, Cycle, TaskExists, TaskClaimed, TaskDeleted, ParentExists,
    WorkflowNotFound.
    """
    snapshot = ask.snapshot
    known = _rows_by_id(tx, ask)
    made = Plan()
    if not tx.tasks.empty():
        made.clashing = _clashing(tx, ask)
    if ask.on_clash is OnClash.OVERWRITE:
        made.overwritten = made.clashing
        _check_overwriting(snapshot.outlines, made.overwritten)
        made.rows = list(snapshot.outlines)
    else:
        made.there = dict(made.clashing)
        made.rows = [row for row in snapshot.outlines if row.id not in made.clashing]
        made.skipped[TASKS] = len(made.clashing)
    _plan_dependencies(tx, ask, known, made)
    _plan_what_hangs_on_tasks(snapshot, known, made)
    return made


def _rows_by_id(tx: Transaction, ask: Import) -> dict[str, Outline]:
    known: dict[str, Outline] = {}
    for n, row in enumerate(ask.snapshot.outlines):
        if row.id in known:
            raise InvalidSnapshot(f"tables.tasks[{n}].id: {row.id!r} stands there twice")
        if row.workflow and row.workflow not in tx.workflows.by_name:
            raise InvalidSnapshot(
                f"tables.tasks[{n}].workflow: there is no workflow {row.workflow!r}; there are "
                f"{', '.join(sorted(tx.workflows.by_name))}"
            )
        workflow = tx.workflows.get(row.workflow or ask.workflow)
        if ask.keeps_the_past and row.status and row.status not in workflow.states:
            raise InvalidSnapshot(
                f"tables.tasks[{n}].status: workflow {workflow.name!r} has no state {row.status!r}"
            )
        known[row.id] = row
    return known


def _clashing(tx: Transaction, ask: Import) -> dict[str, Task]:
    """The tasks of the snapshot that are there. Raises TaskExists where there is to be none."""
    rows = ask.snapshot.outlines
    clashing = {row.id: task for row in rows if (task := tx.tasks.get(row.id)) is not None}
    if clashing and (ask.mode is not Mode.MERGE or ask.on_clash is OnClash.FAIL):
        first, *others = clashing
        n = next(n for n, row in enumerate(rows) if row.id == first)
        also = (
            f", and so are {len(others):,} more of the snapshot: {', '.join(map(repr, others))}"
            if others
            else ""
        )
        raise TaskExists(
            f"tables.tasks[{n}].id: there is a task {first!r} already{also}",
            subjects=tuple(clashing),
        )
    return clashing


def _check_overwriting(rows: Sequence[Outline], overwritten: Mapping[str, Task]) -> None:
    for n, row in enumerate(rows):
        task = overwritten.get(row.id)
        if task is None:
            continue
        workers = [claim[0] for claim in task.advisory_claims]
        if task.claimed and task.worker_id is not None:
            workers.insert(0, task.worker_id)
        if workers:
            raise TaskClaimed(
                f"tables.tasks[{n}].id: task {row.id!r} is worked on by {workers[0]!r}, and cannot "
                "be overwritten meanwhile",
                subjects=workers,
            )
        if task.deleted_at is not None and not row.deleted:
            raise TaskDeleted(
                f"tables.tasks[{n}].id: task {row.id!r} is deleted, and overwriting does not bring "
                "it back",
                subjects=(row.id,),
            )
        if task.deleted_at is None and row.deleted:
            raise InvalidSnapshot(
                f"tables.tasks[{n}].deleted_at: task {row.id!r} is there, and overwriting deletes "
                "nothing"
            )


def _plan_dependencies(
    tx: Transaction, ask: Import, known: Mapping[str, Outline], made: Plan
) -> None:
    """Find out which dependencies come, stay and go. Raises as ``plan`` does, naming the row."""
    listed = ask.snapshot.dependencies
    is_merge = ask.mode is Mode.MERGE
    # All of the graph's, for a cycle may lead through any of them.
    standing = set(tx.dependencies.all()) if is_merge else set()
    if DEPENDENCIES in ask.snapshot.tables:
        inner = {d for d in standing if made.overwritten.keys() >= {d[0], d[1]}}
        made.dropped = sorted(inner.difference(listed)) if inner else []
        standing.difference_update(made.dropped)
    has_parent = {d.to_task_id: d.from_task_id for d in standing if d.dep_type == CONTAINS}
    written = {row.id for row in made.rows}
    parents: dict[str, str] = {}
    seen: set[Dependency] = set()
    for n, dependency in enumerate(listed):
        from_, to, type_ = dependency
        if from_ not in known or to not in known:
            for column, task_id in zip(dependency._fields, (from_, to), strict=False):
                if task_id not in known and task_id not in made.there:
                    where = f"tables.dependencies[{n}].{column}"
                    _meet(tx, made, task_id, where, is_merge=is_merge)
        if dependency in seen or from_ == to or type_ == CONTAINS:
            _check_dependency(f"tables.dependencies[{n}]", dependency, seen, parents)
        seen.add(dependency)
        comes = from_ in written or to in written or not (from_ in known or to in known)
        if not comes or dependency in standing:
            made.skipped[DEPENDENCIES] += 1
            continue
        if type_ == CONTAINS:
            if to in has_parent:
                raise ParentExists(
                    f"tables.dependencies[{n}]: task {to!r} has a parent already, "
                    f"{has_parent[to]!r}; unlink it first",
                    subjects=(has_parent[to],),
                )
            made.parents[to] = from_
        made.fresh.append(dependency)
    made.kept = sorted(d for d in standing if d[0] in made.overwritten or d[1] in made.overwritten)
    for dependency in made.kept:
        for task_id in dependency[:2]:
            if task_id not in known and task_id not in made.there:
                _meet(tx, made, task_id, "", is_merge=True)
    gone = tx.tasks.deleted_ids() if standing else set()
    gone.update(row.id for row in made.rows if row.deleted)
    gone.update(task.id for task in made.there.values() if task.deleted_at is not None)
    _check_acyclic((*standing, *made.fresh) if made.fresh else (), gone, listed)


def _check_dependency(
    row: str, dependency: Dependency, seen: set[Dependency], parents: dict[str, str]
) -> None:
    """Check one row for itself and against those before it."""
    from_, to, type_ = dependency
    if dependency in seen:
        raise InvalidSnapshot(f"{row}: stands there twice")
    if from_ == to:
        raise Cycle(f"{row}: task {to!r} cannot depend on itself", subjects=(to,))
    if type_ == CONTAINS:
        if to in parents:
            raise InvalidSnapshot(f"{row}: task {to!r} has a parent already, {parents[to]!r}")
        parents[to] = from_


def _meet(tx: Transaction, made: Plan, task_id: str, where: str, *, is_merge: bool) -> None:
    """Note a task of the graph that a dependency leads to. Raises InvalidSnapshot."""
    task = tx.tasks.get(task_id) if is_merge else None
    if task is None:
        also = ", neither in the snapshot nor in the graph" if is_merge else ""
        raise InvalidSnapshot(f"{where}: there is no task {task_id!r}{also}")
    made.there[task_id] = task


def _check_acyclic(
    dependencies: Iterable[Dependency], gone: set[str], listed: Sequence[Dependency]
) -> None:
    """Raise Cycle, naming the row that closes it. A ring through a deleted task is none."""
    waits: dict[str, list[str]] = defaultdict(list)
    for dependency in dependencies:
        arrow = cycles.arrow(*dependency)
        if arrow is not None and (not gone or gone.isdisjoint(arrow)):
            waits[arrow[1]].append(arrow[0])
    ring = cycles.find_cycle(waits)
    if ring is not None:
        row_of = {cycles.arrow(*dependency): n for n, dependency in enumerate(listed)}
        # The sorter lists a cycle's nodes so that each is a predecessor of the next.
        closing = max(row_of.get(step, -1) for step in pairwise(ring))
        raise Cycle(
            f"tables.dependencies[{closing}]: closes a cycle: {' -> '.join(ring)}", subjects=ring
        )


def _plan_what_hangs_on_tasks(snapshot: Snapshot, known: Mapping[str, Outline], made: Plan) -> None:
    places = set()
    for n, attachment in enumerate(snapshot.attachments):
        row = f"tables.attachments[{n}]"
        if attachment.task_id not in known:
            raise InvalidSnapshot(f"{row}.task_id: there is no task {attachment.task_id!r}")
        place = attachment[:3]
        if place in places:
            raise InvalidSnapshot(f"{row}: task, type and sequence stand there twice")
        places.add(place)
        made.skipped[ATTACHMENTS] += made.left_as_it_is(attachment.task_id)
    made.attachments = len(snapshot.attachments) - made.skipped[ATTACHMENTS]
    ids = set()
    for n, transition in enumerate(snapshot.transitions):
        row = f"tables.task_sequence[{n}]"
        if transition.task_id not in known:
            raise InvalidSnapshot(f"{row}.task_id: there is no task {transition.task_id!r}")
        if transition.id in ids:
            raise InvalidSnapshot(f"{row}.id: {transition.id} stands there twice")
        ids.add(transition.id)
        made.skipped[HISTORY] += made.left_as_it_is(transition.task_id)
    made.transitions = len(snapshot.transitions) - made.skipped[HISTORY]
