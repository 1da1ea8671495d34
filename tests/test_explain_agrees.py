"""What ExplainTask says agrees with what a claim would meet, whatever the graph has come to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from taskloom_server.coordinator import claims, explain, system
from taskloom_server.graph.errors import DomainError
from taskloom_server.graph.obstacles import ObstacleType
from taskloom_server.graph.tasks import Requirement, Task
from taskloom_server.store.transaction import Transaction

from tests.lone_writer import LoneWriter, lone_writer

TASKS = ("a", "b", "c", "d", "e")
WORKERS = ("plain", "gpu", "both", "gone")
TAGS = {"plain": (), "gpu": ("gpu",), "both": ("gpu", "net"), "gone": ("gpu", "net")}
COOL_DOWN = 20_000
LEASE = 60_000
TOLD_BY = {
    "TASK_CLAIMED": {ObstacleType.CLAIMED},
    "DEPENDENCIES_UNMET": {ObstacleType.BLOCKER},
    "CHILDREN_OPEN": {ObstacleType.CHILD},
    "NOT_YET": {ObstacleType.NOT_BEFORE},
    "TAGS_MISSING": {ObstacleType.TAGS},
    "WORKER_NOT_FOUND": {ObstacleType.NOT_CONNECTED},
    "CLAIM_LIMIT": {ObstacleType.CLAIM_LIMIT},
    "COOLING_DOWN": {ObstacleType.COOLING_DOWN},
    "PAUSED": {ObstacleType.PAUSED, ObstacleType.SUBTREE_PAUSED},
}
"""The obstacles that tell what a claim is refused with."""


@dataclass(frozen=True)
class Seen:
    """The graph, the refusal of each worker's claim of each task, and what is explained of it."""

    tasks: dict[str, Task]
    status: system.Status
    connected: list[frozenset[str]]
    refusals: dict[tuple[str, str], str]  # empty: it would succeed
    obstacles: dict[tuple[str, str], list[ObstacleType]]  # of a task and a worker, or nobody


class Tried(Exception):
    """What was seen by claims that are undone again: raised, so that they leave no trace."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen


def _try(tx: Transaction, _: None) -> None:
    tasks = {task.id: task for task in tx.tasks.all()}
    status = system.get_status(tx, None)
    connected = [frozenset(tags) for tags in tx.workers.connected_tags()]
    refusals = {}
    obstacles = {}
    for id in TASKS:
        for worker in ("", *WORKERS):
            explained = explain.explain_task(tx, explain.Explain(id, worker))
            obstacles[id, worker] = [obstacle.type for obstacle in explained.obstacles]
        for worker in WORKERS:
            tx.connection.execute("SAVEPOINT try")
            try:
                met = claims.claim_task(tx, claims.Claim(worker, id, None))
            except DomainError as refused:
                met = refused
            refusals[id, worker] = met.reason if isinstance(met, DomainError) else ""
            tx.connection.execute("ROLLBACK TO try")
    raise Tried(Seen(tasks, status, connected, refusals, obstacles))


def _see(writer: LoneWriter) -> Seen:
    with pytest.raises(Tried) as tried:
        writer.run(_try, None)
    return tried.value.seen


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LoneWriter]:
    """A writer to try graphs on, one after another."""
    with lone_writer(tmp_path / "tasks.db") as writer:
        yield writer


def _connect(writer: LoneWriter, worker: str) -> None:
    writer.connect(worker, *TAGS[worker], max_claims=1, lease_ms=LEASE, cool_down_ms=COOL_DOWN)


def _work(writer: LoneWriter, worker: str) -> None:
    given = writer.claim_next(worker)
    if not isinstance(given, DomainError):
        for task in given.tasks:
            writer.end(claims.complete, worker, task.id)


task = st.sampled_from(TASKS)
worker = st.sampled_from(WORKERS)
some_tags = st.sampled_from([*[()] * 8, ("gpu",), ("gpu", "net"), ("nobody-has-this",)])
delay = st.sampled_from([*[None] * 6, 5_000, 40_000])
steps: dict[str, tuple[Callable[..., Any], tuple[st.SearchStrategy[Any], ...]]] = {
    "link": (
        lambda w, *a: w.link(*a),
        (task, task, st.sampled_from(["blocks", "blocks", "follows", "contains", "see-also"])),
    ),
    "claim": (lambda w, *a: w.claim(*a), (worker, task)),
    "advise": (lambda w, *a: w.claim(*a, advisory=True), (worker, task)),
    "claim next": (lambda w, *a: w.claim_next(*a), (worker,)),
    "complete": (lambda w, *a: w.end(claims.complete, *a), (worker, task)),
    "work": (_work, (worker,)),
    "release": (lambda w, *a: w.end(claims.release, *a), (worker, task)),
    "fail": (lambda w, *a: w.fail(*a), (worker, task)),
    "retry": (lambda w, *a: w.fail(*a, retry=True), (worker, task)),
    "assign": (lambda w, one, id: w.update(id, assignee=one), (worker, task)),
    "move": (
        lambda w, id, status: w.update(id, status=status),
        (task, st.sampled_from(["waiting", "cancelled", "pending", "working"])),
    ),
    "delete": (lambda w, *a: w.delete(*a), (task,)),
    "pause": (lambda w, *a: w.pause(*a), (st.one_of(st.none(), task),)),
    "resume": (lambda w, *a: w.resume(*a), (st.one_of(st.none(), task),)),
    "connect": (_connect, (worker,)),
    "disconnect": (lambda w, *a: w.disconnect(*a), (worker,)),
    "pass time": (lambda w, *a: w.pass_time(*a), (st.sampled_from([1_000, 20_000, LEASE]),)),
}
WEIGHTS = {"link": 5, "claim": 3, "advise": 2, "work": 4, "pause": 3}
names = st.sampled_from([name for name in steps for _ in range(WEIGHTS.get(name, 1))])
sequences = st.lists(
    names.flatmap(lambda name: st.tuples(st.just(name), *steps[name][1])), min_size=4, max_size=15
)
beginnings = st.lists(
    st.tuples(some_tags, some_tags, delay), min_size=len(TASKS), max_size=len(TASKS)
)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(beginning=beginnings, sequence=sequences)
def test_obstacles_are_what_claims_meet(
    writer: LoneWriter,
    beginning: list[tuple[tuple[str, ...], tuple[str, ...], int | None]],
    sequence: list[tuple[str, Any]],
) -> None:
    """A worker meets no obstacle just when its claim succeeds, and else the one it is refused for.

    For nobody in particular there is none just when the task is ready, nothing is paused, and
    somebody who is connected has its tags. The tasks that nobody has the tags for are counted.
    """
    writer.begin()
    for one in WORKERS:
        _connect(writer, one)
    for id, (needed, wanted, delay) in zip(TASKS, beginning, strict=True):
        not_before = None if delay is None else writer.now + delay
        writer.create(id, needed_tags=needed, wanted_tags=wanted, not_before=not_before)
    writer.disconnect("gone")
    for name, *arguments in sequence:
        steps[name][0](writer, *arguments)
    seen = _see(writer)
    for pair, refusal in seen.refusals.items():
        event(refusal or "claimed")
        assert bool(seen.obstacles[pair]) == bool(refusal)
        assert not refusal or _says(refusal, seen.obstacles[pair])
    unmatched = 0
    for id, found in seen.tasks.items():
        asks = Requirement(0, frozenset(found.needed_tags), frozenset(found.wanted_tags))
        matched = any(asks.admits(tags) for tags in seen.connected)
        takeable = found.ready and matched and seen.status.paused is None
        assert (not seen.obstacles[id, ""]) == takeable
        unmatched += found.ready and not matched
    assert seen.status.unmatched == unmatched


def _says(refusal: str, obstacles: list[ObstacleType]) -> bool:
    """Whether the obstacles tell the reason of a refusal; of what is over they tell only that."""
    if {ObstacleType.ENDED, ObstacleType.DELETED} & set(obstacles):
        return len(obstacles) == 1
    return bool(TOLD_BY[refusal] & set(obstacles))
