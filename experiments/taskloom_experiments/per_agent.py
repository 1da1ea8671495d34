"""What each agent of a run did: the rows of the per-agent table, and the figures of its spread."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from taskloom_experiments.coordination_metrics import between_tasks_ms
from taskloom_experiments.history import Span, Window, covered_ms
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.tables import Tables, Task, Worker


@dataclass(frozen=True)
class AgentFigures:
    """One agent of a run. Times are in ms.

    ``working_ms`` is spent in working stints, whatever came of them; ``present_ms`` from when it
    registered to when it left, within the run's window; ``between_ms`` with nothing in hand between
    two tasks; ``completed_ms`` is the working time of the tasks it completed. Of a task that was
    decomposed the parts count, and not what they are of. Claims are None where the database does
    not count them, ``calls`` and ``empty_polls`` where ``run.json`` does not.
    """

    worker_id: str
    tasks_completed: int
    points: float
    working_ms: int
    present_ms: int
    completed_ms: int
    cost_usd: float
    claim_attempts: int | None
    claims_granted: int | None
    claims_lost: int | None
    calls: int | None
    empty_polls: int | None
    between_ms: int = 0

    @property
    def mean_task_ms(self) -> float | None:
        """The mean working time of the tasks it completed."""
        return self.completed_ms / self.tasks_completed if self.tasks_completed else None

    @property
    def idle_ratio(self) -> float | None:
        """The part of its time in which it did not work; None where it was not there at all."""
        if self.present_ms <= 0:
            return None
        return (self.present_ms - self.working_ms) / self.present_ms


def per_agent(
    tables: Tables, record: RunRecord | None, seen: Window | None, worked: Sequence[Span]
) -> tuple[AgentFigures, ...]:
    """Every worker that registered or worked, agent-2 before agent-10."""
    registered = {worker.id: worker for worker in tables.workers}
    ids = {*registered, *(stint.worker_id for stint in worked if stint.worker_id)}
    counters: Mapping[str, Mapping[str, int]] = record.agent_counters if record else {}
    containers = frozenset(task.parent_id for task in tables.tasks if task.parent_id)
    between = between_tasks_ms(tables, worked, ids)
    return tuple(
        _agent(
            registered.get(worker_id) or _unregistered(worker_id),
            [task for task in tables.tasks if task.worker_id == worker_id],
            containers,
            counters=counters.get(worker_id, {}),
            presence=_presence(registered.get(worker_id), seen),
            worked=[stint for stint in worked if stint.worker_id == worker_id],
            between_ms=between[worker_id],
        )
        for worker_id in sorted(ids, key=_natural)
    )


def _natural(name: str) -> tuple[str, int, str]:
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0), name


def _unregistered(worker_id: str) -> Worker:
    return Worker(worker_id, None, None, None, None, None, None, None)


def _presence(worker: Worker | None, seen: Window | None) -> tuple[int, int] | None:
    """From when to when it was there within the run's window; None where there is no window."""
    if seen is None:
        return None
    registered_at = worker.registered_at if worker else None
    disconnected_at = worker.disconnected_at if worker else None
    return max(seen.start, registered_at or seen.start), min(seen.end, disconnected_at or seen.end)


def _agent(
    worker: Worker,
    mine: Sequence[Task],
    containers: Collection[str],
    *,
    counters: Mapping[str, int],
    presence: tuple[int, int] | None,
    worked: Sequence[Span],
    between_ms: int,
) -> AgentFigures:
    done = [task for task in mine if task.status == "completed" and task.id not in containers]
    present = 0
    busy = 0
    if presence:
        start, end = presence
        present = max(0, end - start)
        busy = covered_ms((max(start, stint.start), min(end, stint.end)) for stint in worked)
    return AgentFigures(
        worker_id=worker.id,
        tasks_completed=len(done),
        points=sum(1 if task.points is None else task.points for task in done),
        working_ms=busy,
        present_ms=present,
        completed_ms=sum(task.worked_ms for task in done),
        cost_usd=sum(task.cost_usd for task in mine),
        claim_attempts=worker.claim_attempts,
        claims_granted=worker.claims_granted,
        claims_lost=worker.claims_lost,
        calls=counters.get("calls"),
        empty_polls=counters.get("empty_polls"),
        between_ms=between_ms,
    )
