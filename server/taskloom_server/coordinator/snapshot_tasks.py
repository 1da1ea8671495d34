"""The tasks of a snapshot as an import begins them, and what it counts on them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain

from taskloom_server.coordinator.snapshot_plan import Import, Plan
from taskloom_server.graph.tasks import CONTAINS, START_BLOCKING, Task
from taskloom_server.graph.temperature import born, settled
from taskloom_server.graph.workers import Worker
from taskloom_server.store.transaction import Transaction

_RESTORED_LEASE_MS = 900_000


def starting(tx: Transaction, row: Task, ask: Import) -> Task:
    """A row as the task that it is to be, but for its counts."""
    workflow = tx.workflows.get(row.workflow or ask.workflow)
    task = row._replace(
        workflow=workflow.name,
        revision=tx.revision,
        requirement_id=tx.requirements.id_of(row.needed_tags, row.wanted_tags, workflow.name),
    )
    if not ask.keeps_the_past:
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


def counted(tx: Transaction, tasks: Mapping[str, Task], made: Plan) -> list[Task]:
    """The tasks with their parents, and with what holds each of them back counted.

    One that is overwritten keeps its parent and its pauses here: it is moved later.
    """
    others = (task for id_, task in made.there.items() if id_ not in tasks)
    holding = {
        task.id
        for task in chain(tasks.values(), others)
        if task.deleted_at is None and tx.workflows.get(task.workflow).blocks(task.status)
    }
    edges = list(chain(made.fresh, made.kept))
    blockers = {d[:2] for d in edges if d.dep_type in START_BLOCKING}
    unmet = Counter(to for from_, to in blockers if from_ in holding)
    children = Counter(
        d.from_task_id for d in edges if d.dep_type == CONTAINS and d.to_task_id in holding
    )
    paused = _paused(made)
    return [
        task._replace(
            parent_id=before.parent_id if before else made.parents.get(task.id),
            paused=before.paused if before else paused.get(task.id, 0),
            unmet_blockers=unmet[task.id],
            open_children=children[task.id],
        )
        for task in tasks.values()
        for before in (made.overwritten.get(task.id),)
    ]


def _paused(made: Plan) -> dict[str, int]:
    """How many pauses of the graph's tasks are above each new one that has such above it."""
    paused = {
        task.id: task.paused
        for task in chain(made.there.values(), made.overwritten.values())
        if task.paused
    }
    if not paused:
        return {}
    below: dict[str, list[str]] = {}
    for child, parent in made.parents.items():
        if child not in made.there and child not in made.overwritten:
            below.setdefault(parent, []).append(child)
    stack = list(paused)
    while stack:
        parent = stack.pop()
        for child in below.get(parent, ()):
            paused[child] = paused[parent]
            stack.append(child)
    return paused


def restore_workers(tx: Transaction, tasks: Iterable[Task]) -> None:
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
