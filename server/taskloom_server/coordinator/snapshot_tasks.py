"""The tasks of a snapshot as an import begins them, and what it counts on them."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import chain
from typing import Any

from taskloom_server.coordinator.snapshot_plan import Import, Plan
from taskloom_server.graph.tasks import CONTAINS, START_BLOCKING, Task, Transition
from taskloom_server.graph.temperature import born, settled_heat
from taskloom_server.graph.workers import Worker
from taskloom_server.store.transaction import Transaction

_RESTORED_LEASE_MS = 900_000
_METRICS: dict[str, Any] = {f"metric_{n}": 0 for n in range(8)}


class Starting:
    """Makes the rows of a snapshot the tasks that they are to be, as a plan says.

    Each task is made in one go: a changed copy of one has 70 columns to copy.
    """

    def __init__(self, tx: Transaction, ask: Import, made: Plan) -> None:
        self._tx = tx
        self._ask = ask
        self._made = made
        self._unmet, self._open = _counts(tx, ask, made)
        self._paused = _paused(made)
        # What many tasks have in common is found out once.
        self._requirement_id = cache(tx.requirements.id_of)
        self._work = cache(self._find_work)
        self.begun: list[Transition] = []  # of tasks since they were written last
        self._next_id = tx.transitions.next_id()
        self._above: dict[str, tuple[str, ...]] = {}

    def task(self, row: Task, number: int, latest: Mapping[str, int] | None) -> Task:
        """The task of a row, of this number; ``latest``: its open row of history, if any comes.

        One that is overwritten keeps its parent and its pauses here: it is moved later.
        """
        made, id_ = self._made, row.id
        before = made.overwritten.get(id_)
        workflow = row.workflow or self._ask.workflow
        begun = self._kept(row) if self._ask.keeps_the_past else self._begun(row)
        name = self._tx.workflows.get(workflow).name
        return row._replace(
            number=number,
            workflow=name,
            revision=self._tx.revision,
            requirement_id=self._requirement_id(row.needed_tags, row.wanted_tags, name),
            parent_id=before.parent_id if before else made.parents.get(id_),
            paused=before.paused if before else self._paused.get(id_, 0),
            unmet_blockers=self._unmet[id_],
            open_children=self._open[id_],
            sequence_id=self._sequence_id(row, latest),
            **begun,
        )

    def _sequence_id(self, row: Task, latest: Mapping[str, int] | None) -> int | None:
        if self._ask.keeps_the_past:
            return None if latest is None else latest.get(row.id)
        if row.deleted_at is not None:
            return None
        tx = self._tx
        workflow = tx.workflows.get(row.workflow or self._ask.workflow)
        first = Transition(
            self._next_id, row.id, None, workflow.initial_state, row.phase, None, tx.now, None
        )
        self.begun.append(first)
        self._next_id += 1
        return first.id

    def ancestors(self, parent_id: str | None) -> tuple[str, ...]:
        """The ids from this parent up to the root, also where none of them is written yet."""
        if parent_id is None:
            return ()
        above = self._above.get(parent_id)
        if above is None:
            made, top = self._made, parent_id
            line: dict[str, None] = {}
            while top not in line and top not in made.there and top not in made.overwritten:
                if (parent := made.parents.get(top)) is None:
                    break
                line[top] = None
                top = parent
            above = self._above[parent_id] = (*line, *self._tx.tasks.ancestors(top))
        return above

    def _find_work(self, workflow: str, priority: int) -> dict[str, Any]:
        """What all tasks to be done have in common."""
        tx = self._tx
        found = tx.workflows.get(workflow)
        return {
            "status": found.initial_state,
            "worker_id": None,
            "claimed_at": None,
            "time_actual_ms": 0,
            "started_at": None,
            "completed_at": None,
            "current_thought": None,
            **_METRICS,
            "cost_usd": 0.0,
            "created_at": tx.now,
            "updated_at": tx.now,
            **born(priority, tx.now, tx.weights)._asdict(),
            "lease_ms": None,
            "parked_lease_ms": None,
            "attempts": 0,
            "state_since": tx.now if found.states[found.initial_state].timed else None,
        }

    def _begun(self, row: Task) -> dict[str, Any]:
        """A row as work to be done."""
        now = self._tx.now
        not_before = row.not_before if row.not_before and row.not_before > now else None
        claimable = row.deleted_at is None
        is_ready = (
            claimable
            and not_before is None
            and not (self._unmet[row.id] or self._open[row.id] or self._paused.get(row.id))
        )
        return {
            **self._work(row.workflow or self._ask.workflow, row.priority),
            "not_before": not_before,
            "claimable": int(claimable),
            "ready_at": now if is_ready else None,
        }

    def _kept(self, row: Task) -> dict[str, Any]:
        """A row as it was."""
        tx = self._tx
        workflow = tx.workflows.get(row.workflow or self._ask.workflow)
        status = row.status or workflow.initial_state
        state = workflow.states[status]
        begins = workflow.begins(status)
        is_there = row.deleted_at is None
        held = row.worker_id is not None and not state.terminal and not begins and is_there
        lease_ms = row.lease_ms or row.parked_lease_ms or _RESTORED_LEASE_MS
        return {
            "status": status,
            "heat": settled_heat(
                row.activity,
                row.breakthrough,
                row.boost,
                row.active_at,
                row.progressed_at,
                row.priority,
                tx.weights,
            ),
            "claim_revision": tx.revision if held else None,
            "lease_ms": lease_ms if held and not state.parked else None,
            "lease_since": tx.now if held else None,
            "parked_lease_ms": lease_ms if held and state.parked else None,
            "claimable": int(begins and is_there),
        }


def _counts(tx: Transaction, ask: Import, made: Plan) -> tuple[Counter[str], Counter[str]]:
    """How many blockers hold each task back, and how many children do, by task."""
    holding = {task.id for task in made.there.values() if _holds(tx, task)}

    @cache
    def blocks(workflow: str, status: str) -> bool:
        found = tx.workflows.get(workflow or ask.workflow)
        begins_anew = not ask.keeps_the_past or not status
        return found.blocks(found.initial_state if begins_anew else status)

    for row in made.rows:
        if not row.deleted and blocks(row.workflow, row.status):
            holding.add(row.id)
        else:
            holding.discard(row.id)
    blockers = set()
    children: Counter[str] = Counter()
    for from_, to, type_ in chain(made.fresh, made.kept):
        if type_ in START_BLOCKING:
            if from_ in holding:
                blockers.add((from_, to))
        elif type_ == CONTAINS and to in holding:
            children[from_] += 1
    return Counter(to for _, to in blockers), children


def _holds(tx: Transaction, task: Task) -> bool:
    return task.deleted_at is None and tx.workflows.get(task.workflow).blocks(task.status)


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


def restore_worker(tx: Transaction, task: Task) -> None:
    """A claim comes back with a stand-in for its worker, who has a lease's time to connect."""
    lease_ms = task.lease_ms or task.parked_lease_ms
    if task.claimed and task.worker_id is not None and lease_ms is not None:
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
