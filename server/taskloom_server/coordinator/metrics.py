"""Metrics: what was consumed, for which task, by whom, and how long tasks stayed where."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from taskloom_server.coordinator import budgets, workers
from taskloom_server.coordinator.admission import check_claim
from taskloom_server.coordinator.changes import change, warmth
from taskloom_server.coordinator.lookup import require_task
from taskloom_server.graph.budgets import Budget
from taskloom_server.graph.errors import InvalidField, WorkerNotFound
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task, TaskChanges
from taskloom_server.graph.temperature import Activity
from taskloom_server.store.consumed import Consumed, Scope, Stay
from taskloom_server.store.transaction import Transaction

_MAX_METRIC = 2**63 - 1


@dataclass(frozen=True, slots=True)
class LogMetrics:
    """Amounts to add to what a task consumed."""

    task_id: str
    worker_id: str
    claim_revision: int
    metrics: tuple[int, ...]  # eight
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Logged:
    """A task with what it consumed so far."""

    task: Task
    revision: int


@dataclass(frozen=True, slots=True)
class GetMetrics:
    """Of a task, a subtree, a worker or of everything; ``include_running``: up to now."""

    scope: Scope
    include_running: bool


@dataclass(frozen=True, slots=True)
class StatusTime:
    """How long tasks were in a status together, in so many stays."""

    status: str
    duration_ms: int
    stays: int


@dataclass(frozen=True, slots=True)
class Summed:
    """What was consumed, and how the tasks stand."""

    consumed: Consumed
    tasks_by_status: dict[str, int]
    time_in_status: list[StatusTime]
    time_actual_ms: int
    attempts: int | None
    budget: Budget | None
    revision: int


def log_metrics(tx: Transaction, ask: LogMetrics) -> Logged:
    """Add to what a task consumed. Raises TaskNotFound, WorkerNotFound, ClaimLost, InvalidField."""
    workers.sign_of_life(tx, ask.worker_id)
    task = require_task(tx, ask.task_id)
    check_claim(tx, task, ask.worker_id, ask.claim_revision)
    sums = [have + more for have, more in zip(task.metrics, ask.metrics, strict=True)]
    if max(sums) > _MAX_METRIC:
        raise InvalidField("metrics", f"the sum would exceed {_MAX_METRIC}")
    changes: dict[str, Any] = {f"metric_{n}": value for n, value in enumerate(sums)}
    changes["cost_usd"] = task.cost_usd + ask.cost_usd
    if math.isinf(changes["cost_usd"]):
        raise InvalidField("metrics.cost_usd", "the sum would exceed the largest number there is")
    if all(getattr(task, column) == value for column, value in changes.items()):
        return Logged(task, tx.seen)
    changes |= warmth(tx, task, Activity(), task.priority)
    after = change(tx, task, TaskChanges(**changes))  # type: ignore[typeddict-item]
    tx.consumed.add(ask.worker_id, task.id, ask.metrics, ask.cost_usd)
    tx.tell_task(EventType.TASK_UPDATED, after, task, worker_id=ask.worker_id or None)
    if after.budgets and ask.cost_usd:
        after = budgets.spend(tx, after, cost_usd=ask.cost_usd)
    return Logged(after, tx.seen)


def get_metrics(tx: Transaction, ask: GetMetrics) -> Summed:
    """Sum up. Raises TaskNotFound, and WorkerNotFound for a worker that never connected."""
    scope = ask.scope
    budget = None
    if scope.task_id:
        require_task(tx, scope.task_id)
        budget = tx.budgets.get(scope.task_id)
    if scope.worker_id and tx.workers.get(scope.worker_id) is None:
        raise WorkerNotFound(
            f"worker {scope.worker_id!r} is unknown: nobody connected under this id",
            subjects=(scope.worker_id,),
        )
    times = _Times(tx, ask)
    for one, status, began_by, duration in _stays(tx, ask):
        times.add(one, status, began_by, duration)
    attempts: int | None = None
    if scope.worker_id:
        consumed = tx.consumed.by_worker(scope.worker_id)
        time_actual_ms = times.timed_ms
    else:
        consumed, attempts = tx.consumed.by_tasks(scope)
        time_actual_ms = sum(
            ms + _last_stay(tx, since, gone_at, running=ask.include_running)
            for ms, since, gone_at in tx.consumed.times(scope)
        )
    return Summed(
        consumed,
        tx.consumed.statuses(scope),
        times.all(),
        time_actual_ms,
        attempts,
        budget,
        tx.seen,
    )


def _last_stay(tx: Transaction, since: int | None, gone_at: int | None, *, running: bool) -> int:
    """How much of a stay in a timed state counts that time_actual_ms does not hold yet."""
    if since is None:
        return 0
    if gone_at is not None:  # it ended when the task was deleted
        return max(0, gone_at - since)
    return max(0, tx.now - since) if running else 0


def _stays(tx: Transaction, ask: GetMetrics) -> Iterator[tuple[Stay, str, str | None, int | None]]:
    """Every row of the history with the status it is a part of, who began that, and its length.

    A length of None: it still lasts, and does not count.
    """
    task_id, status, began_by = "", "", None
    for stay in tx.consumed.stays(ask.scope):
        if stay.task_id != task_id:
            task_id, status, began_by = stay.task_id, "", None
        if stay.status is not None:
            status, began_by = stay.status, stay.worker_id
        yield stay, status, began_by, _length(tx, stay, status, running=ask.include_running)


def _length(tx: Transaction, stay: Stay, status: str, *, running: bool) -> int | None:
    ended_at = stay.ended_at
    if ended_at is None:
        ended_at = stay.deleted_at
    if ended_at is None and running:
        workflow = tx.workflows.by_name.get(stay.workflow)
        state = workflow.states.get(status) if workflow else None
        if state is None or not state.terminal:
            ended_at = tx.now
    return None if ended_at is None else max(0, ended_at - stay.began_at)


class _Times:
    """Times in statuses as they are added up. A stay that a change of phase cuts in two is one."""

    def __init__(self, tx: Transaction, ask: GetMetrics) -> None:
        self._tx = tx
        self._worker_id = ask.scope.worker_id
        self._sums: dict[str, tuple[int, int]] = {}
        self.timed_ms = 0

    def add(self, stay: Stay, status: str, began_by: str | None, duration: int | None) -> None:
        """Count a row."""
        if duration is None or (self._worker_id and began_by != self._worker_id):
            return
        sum_ms, count = self._sums.get(status, (0, 0))
        self._sums[status] = sum_ms + duration, count + (stay.status is not None)
        workflow = self._tx.workflows.by_name.get(stay.workflow)
        state = workflow.states.get(status) if workflow else None
        if state is not None and state.timed:
            self.timed_ms += duration

    def all(self) -> list[StatusTime]:
        """The sums, by status."""
        return [StatusTime(status, *sums) for status, sums in sorted(self._sums.items())]
