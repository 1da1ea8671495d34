"""Snapshots: the whole graph in, as work to be done or as it was, and the whole graph out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from taskloom_server.graph import cycles
from taskloom_server.graph.errors import Cycle, InvalidSnapshot, NotEmpty, TaskExists
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import (
    CONTAINS,
    START_BLOCKING,
    Attachment,
    Dependency,
    Task,
    Transition,
)
from taskloom_server.graph.temperature import born, settled
from taskloom_server.graph.workers import Worker
from taskloom_server.store.transaction import Transaction

_RESTORED_LEASE_MS = 900_000


class Mode(Enum):
    """What an import makes of a snapshot."""

    TEMPLATE = "template"  # work to be done
    RESTORE = "restore"  # the graph as it was


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole graph. Tasks stand in the order of their creation; an empty workflow: any."""

    tasks: Sequence[Task]
    dependencies: Sequence[Dependency]
    attachments: Sequence[Attachment]
    transitions: Sequence[Transition]


@dataclass(frozen=True, slots=True)
class Import:
    """A snapshot to be brought in; ``warnings`` are what was tolerated in its file."""

    snapshot: Snapshot
    mode: Mode
    workflow: str  # for tasks that name none
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Imported:
    """How many rows of each table came in."""

    rows: dict[str, int]
    warnings: list[str]
    revision: int


@dataclass(frozen=True, slots=True)
class Exported:
    """The graph at one moment."""

    snapshot: Snapshot
    exported_at: int  # Unix ms
    revision: int


def export_snapshot(tx: Transaction, _: None) -> Exported:
    """The whole graph, deleted tasks included."""
    snapshot = Snapshot(
        list(tx.tasks.all()),
        list(tx.dependencies.all()),
        list(tx.attachments.all()),
        list(tx.transitions.all()),
    )
    return Exported(snapshot, tx.now, tx.seen)


def import_snapshot(tx: Transaction, ask: Import) -> Imported:
    """Bring in a snapshot, all of it or nothing.

    Raises InvalidSnapshot, Cycle, TaskExists, NotEmpty, WorkflowNotFound.
    """
    snapshot = ask.snapshot
    if ask.mode is Mode.RESTORE and not tx.tasks.empty():
        raise NotEmpty("the graph has tasks; reset it before a restore")
    known = _check_tasks(tx, snapshot, ask)
    parents = _check_dependencies(snapshot, known)
    _check_references(snapshot, known)

    starting = {row.id: _starting(tx, row, ask) for row in snapshot.tasks}
    tasks = _count(tx, starting, snapshot.dependencies, parents)
    written = [_write_task(tx, task, ask.mode) for task in tasks]
    for dependency in snapshot.dependencies:
        tx.dependencies.insert(dependency)
    for attachment in snapshot.attachments:
        created_at = tx.now if ask.mode is Mode.TEMPLATE else attachment.created_at
        tx.attachments.insert(attachment._replace(created_at=created_at))
    if ask.mode is Mode.RESTORE:
        _restore_history(tx, snapshot.transitions, written)
        _restore_workers(tx, written)
    _tell(tx, written, snapshot)
    return Imported(
        {
            "tasks": len(snapshot.tasks),
            "dependencies": len(snapshot.dependencies),
            "attachments": len(snapshot.attachments),
            "task_sequence": (
                len(snapshot.transitions) if ask.mode is Mode.RESTORE else len(written)
            ),
        },
        ask.warnings,
        tx.seen,
    )


def _check_tasks(tx: Transaction, snapshot: Snapshot, ask: Import) -> dict[str, Task]:
    known: dict[str, Task] = {}
    for n, row in enumerate(snapshot.tasks):
        if row.id in known:
            raise InvalidSnapshot(f"tables.tasks[{n}].id: {row.id!r} stands there twice")
        if tx.tasks.exists(row.id):
            raise TaskExists(
                f"tables.tasks[{n}].id: there is a task {row.id!r} already", subjects=(row.id,)
            )
        if row.workflow and row.workflow not in tx.workflows.by_name:
            raise InvalidSnapshot(
                f"tables.tasks[{n}].workflow: there is no workflow {row.workflow!r}; there are "
                f"{', '.join(sorted(tx.workflows.by_name))}"
            )
        workflow = tx.workflows.get(row.workflow or ask.workflow)
        if ask.mode is Mode.RESTORE and row.status and row.status not in workflow.states:
            raise InvalidSnapshot(
                f"tables.tasks[{n}].status: workflow {workflow.name!r} has no state {row.status!r}"
            )
        known[row.id] = row
    return known


def _check_dependencies(snapshot: Snapshot, known: dict[str, Task]) -> dict[str, str]:
    """Each child's parent. Raises InvalidSnapshot and Cycle, naming the row."""
    parents: dict[str, str] = {}
    seen: set[Dependency] = set()
    waits: dict[str, list[str]] = defaultdict(list)
    row_of: dict[tuple[str, str], int] = {}
    for n, dependency in enumerate(snapshot.dependencies):
        row = f"tables.dependencies[{n}]"
        for column, task_id in zip(dependency._fields, dependency[:2], strict=False):
            if task_id not in known:
                raise InvalidSnapshot(f"{row}.{column}: there is no task {task_id!r}")
        if dependency in seen:
            raise InvalidSnapshot(f"{row}: stands there twice")
        seen.add(dependency)
        if dependency.from_task_id == dependency.to_task_id:
            raise Cycle(
                f"{row}: task {dependency.to_task_id!r} cannot depend on itself",
                subjects=(dependency.to_task_id,),
            )
        if dependency.dep_type == CONTAINS:
            if dependency.to_task_id in parents:
                raise InvalidSnapshot(
                    f"{row}: task {dependency.to_task_id!r} has a parent already, "
                    f"{parents[dependency.to_task_id]!r}"
                )
            parents[dependency.to_task_id] = dependency.from_task_id
        gone = any(known[task_id].deleted_at is not None for task_id in dependency[:2])
        if not gone and (arrow := cycles.arrow(*dependency)):
            start, end = arrow
            waits[end].append(start)
            row_of[arrow] = n
    ring = cycles.find_cycle(waits)
    if ring is not None:
        # The sorter lists a cycle's nodes so that each is a predecessor of the next.
        closing = max(row_of[step] for step in pairwise(ring))
        raise Cycle(
            f"tables.dependencies[{closing}]: closes a cycle: {' -> '.join(ring)}", subjects=ring
        )
    return parents


def _check_references(snapshot: Snapshot, known: dict[str, Task]) -> None:
    places = set()
    for n, attachment in enumerate(snapshot.attachments):
        row = f"tables.attachments[{n}]"
        if attachment.task_id not in known:
            raise InvalidSnapshot(f"{row}.task_id: there is no task {attachment.task_id!r}")
        place = attachment[:3]
        if place in places:
            raise InvalidSnapshot(f"{row}: task, type and sequence stand there twice")
        places.add(place)
    ids = set()
    for n, transition in enumerate(snapshot.transitions):
        row = f"tables.task_sequence[{n}]"
        if transition.task_id not in known:
            raise InvalidSnapshot(f"{row}.task_id: there is no task {transition.task_id!r}")
        if transition.id in ids:
            raise InvalidSnapshot(f"{row}.id: {transition.id} stands there twice")
        ids.add(transition.id)


def _starting(tx: Transaction, row: Task, ask: Import) -> Task:
    """A row as the task that it is to be, but for its counts."""
    workflow = tx.workflows.get(row.workflow or ask.workflow)
    task = row._replace(
        workflow=workflow.name,
        revision=tx.revision,
        requirement_id=tx.requirements.id_of(row.needed_tags, row.wanted_tags, workflow.name),
    )
    if ask.mode is Mode.TEMPLATE:
        initial = workflow.initial_state
        not_before = task.not_before
        return task._replace(
            status=initial,
            worker_id=None,
            claimed_at=None,
            time_actual_ms=0,
            started_at=None,
            completed_at=None,
            current_thought=None,
            **{f"metric_{n}": 0 for n in range(8)},  # type: ignore[arg-type]
            cost_usd=0.0,
            created_at=tx.now,
            updated_at=tx.now,
            **born(task.priority, tx.now, tx.weights)._asdict(),
            lease_ms=None,
            parked_lease_ms=None,
            not_before=not_before if not_before and not_before > tx.now else None,
            attempts=0,
            ready_at=None,
            claimable=int(task.deleted_at is None),
            state_since=tx.now if workflow.states[initial].timed else None,
        )
    task = task._replace(
        status=task.status or workflow.initial_state,
        heat=settled(task.warmth, task.priority, tx.weights).heat,
    )
    state = workflow.states[task.status]
    held = (
        task.worker_id is not None
        and not state.terminal
        and not workflow.begins(task.status)
        and task.deleted_at is None
    )
    lease_ms = task.lease_ms or task.parked_lease_ms or _RESTORED_LEASE_MS
    return task._replace(
        claim_revision=tx.revision if held else None,
        lease_ms=lease_ms if held and not state.parked else None,
        lease_since=tx.now if held else None,
        parked_lease_ms=lease_ms if held and state.parked else None,
        claimable=int(workflow.begins(task.status) and task.deleted_at is None),
    )


def _count(
    tx: Transaction,
    tasks: dict[str, Task],
    dependencies: Iterable[Dependency],
    parents: dict[str, str],
) -> list[Task]:
    """The tasks with their parents, and with what holds each of them back counted."""
    holding = {
        task.id
        for task in tasks.values()
        if task.deleted_at is None and tx.workflows.get(task.workflow).blocks(task.status)
    }
    blockers = {d[:2] for d in dependencies if d.dep_type in START_BLOCKING}
    unmet = Counter(to for from_, to in blockers if from_ in holding)
    children = Counter(parent for child, parent in parents.items() if child in holding)
    return [
        task._replace(
            parent_id=parents.get(task.id),
            unmet_blockers=unmet[task.id],
            open_children=children[task.id],
        )
        for task in tasks.values()
    ]


def _write_task(tx: Transaction, task: Task, mode: Mode) -> Task:
    if mode is Mode.TEMPLATE:
        if task.deleted_at is None:
            row = Transition(0, task.id, None, task.status, task.phase, None, tx.now, None)
            task = task._replace(sequence_id=tx.transitions.append(row, closes=None))
        if task.ready:
            task = task._replace(ready_at=tx.now)
    if task.not_before is not None:
        tx.wake_at(task.not_before)
    return tx.tasks.insert(task)


def _restore_history(
    tx: Transaction, transitions: Sequence[Transition], tasks: Iterable[Task]
) -> None:
    latest: dict[str, int] = {}
    for transition in transitions:
        tx.transitions.restore(transition)
        if transition.end_timestamp is None:
            latest[transition.task_id] = transition.id
    for task in tasks:
        if task.id in latest:
            tx.tasks.change(task, sequence_id=latest[task.id])


def _restore_workers(tx: Transaction, tasks: Iterable[Task]) -> None:
    """Claims come back with stand-ins for their workers, who have a lease's time to connect."""
    for task in tasks:
        lease_ms = task.lease_ms or task.parked_lease_ms
        if not task.claimed or task.worker_id is None or lease_ms is None:
            continue
        if tx.workers.get(task.worker_id) is None:
            tx.workers.put(
                Worker(
                    tags=(),
                    overlays=(),
                    id=task.worker_id,
                    max_claims=1,
                    registered_at=tx.now,
                    last_heartbeat=tx.now,
                    disconnected_at=None,
                    workflow=task.workflow,
                    last_status=None,
                    last_phase=None,
                    lease_ms=lease_ms,
                    cool_down_ms=0,
                    cooling_until=None,
                    claim_attempts=0,
                    claims_granted=0,
                    claims_lost=0,
                    grace_until=None,
                )
            )
        if task.lease_ms is not None:
            tx.lease_ends_at(task.worker_id, tx.now + task.lease_ms)


def _tell(tx: Transaction, tasks: Iterable[Task], snapshot: Snapshot) -> None:
    known: dict[str, Task] = {}
    for task in tasks:
        if task.deleted_at is None:
            known[task.id] = task
            lease = tx.now + task.lease_ms if task.claimed and task.lease_ms else None
            tx.tell_task(EventType.TASK_CREATED, task._replace(lease_expires_at=lease), None)
    for dependency in snapshot.dependencies:
        to = known.get(dependency.to_task_id)
        if to is not None and dependency.from_task_id in known:
            tx.tell(EventType.DEPENDENCY_ADDED, dependency, task_id=to.id, task=to)
    for attachment in snapshot.attachments:
        owner = known.get(attachment.task_id)
        if owner is not None:
            info = attachment._replace(content=None)
            tx.tell(EventType.ATTACHMENT_ADDED, info, task_id=owner.id, task=owner)
