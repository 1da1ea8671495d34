"""Any sequence of verbs: each advisory claim is told when it is made, and once when it ends."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from taskloom_server.coordinator import claims, deadlines
from taskloom_server.graph.events import EventType
from taskloom_server.graph.tasks import Task
from taskloom_server.store.transaction import Transaction

from tests.lone_writer import LoneWriter, lone_writer

WORKERS = ("v", "w", "x")
TASKS = ("a", "b", "c", "d")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LoneWriter]:
    """A writer to try sequences on, one after another."""
    with lone_writer(tmp_path / "tasks.db") as writer:
        yield writer


def _assign(writer: LoneWriter, worker: str, task: str) -> Any:
    return writer.update(task, assignee=worker)


def _silence(writer: LoneWriter, worker: str, seconds: int) -> None:
    writer.now += seconds * 1_000
    for one in WORKERS:
        if one != worker:
            writer.run(deadlines.end_leases, one)


worker = st.sampled_from(WORKERS)
task = st.sampled_from(TASKS)
steps: dict[str, tuple[Callable[..., Any], tuple[st.SearchStrategy[Any], ...]]] = {
    "advise": (lambda w, *a: w.claim(*a, advisory=True), (worker, task)),
    "claim": (lambda w, *a: w.claim(*a), (worker, task)),
    "advise next": (lambda w, *a: w.claim_next(*a, advisory=True), (worker, st.integers(1, 3))),
    "claim next": (lambda w, *a: w.claim_next(*a), (worker,)),
    "advise nobody": (
        lambda w, one: w.run_for_nobody(
            claims.claim_next, claims.ClaimNext(one, 2, None, "", advisory=True), claims.give_back
        ),
        (worker,),
    ),
    "release": (lambda w, *a: w.end(claims.release, *a), (worker, task)),
    "complete": (lambda w, *a: w.end(claims.complete, *a), (worker, task)),
    "fail": (lambda w, *a: w.fail(*a), (worker, task)),
    "retry": (lambda w, *a: w.fail(*a, retry=True), (worker, task)),
    "assign": (_assign, (worker, task)),
    "move": (
        lambda w, t, s: w.update(t, status=s),
        (task, st.sampled_from(["cancelled", "pending"])),
    ),
    "delete": (lambda w, *a: w.delete(*a), (task,)),
    "link": (lambda w, *a: w.link(*a), (task, task, st.sampled_from(["blocks", "contains"]))),
    "disconnect": (lambda w, *a: w.disconnect(*a), (worker,)),
    "connect": (lambda w, *a: w.connect(*a, lease_ms=60_000), (worker,)),
    "silence": (_silence, (worker, st.integers(1, 70))),
    "create": (lambda w, *a: w.create(*a), (st.sampled_from("efgh"),)),
}
WEIGHTS = {"advise": 8, "advise next": 4, "release": 2, "silence": 2}
names = st.sampled_from([name for name in steps for _ in range(WEIGHTS.get(name, 1))])
sequences = st.lists(
    names.flatmap(lambda name: st.tuples(st.just(name), *steps[name][1])), min_size=5, max_size=40
)


def _standing(tx: Transaction, _: None) -> tuple[list[Task], set[tuple[str, str]]]:
    """The tasks, and the claims as the workers' table has them."""
    claims = {(one, task) for one in WORKERS for task in tx.advisory_claims.of(one)}
    return list(tx.tasks.all()), claims


def _told_of(writer: LoneWriter) -> set[tuple[str, str]]:
    """The claims that stand by what was told: none was made or ended twice."""
    standing: set[tuple[str, str]] = set()
    for told in writer.told:
        claim = (told.worker_id or "", told.task_id or "")
        if told.type is EventType.ADVISORY_CLAIM_MADE:
            assert claim not in standing
            standing.add(claim)
        elif told.type is EventType.ADVISORY_CLAIM_ENDED:
            standing.remove(claim)
        else:
            continue
        assert isinstance(told.after, Task)
        assert (told.after.advisory_claim(claim[0]) is not None) == (claim in standing)
    return standing


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=sequences)
def test_what_was_made_is_ended_once(writer: LoneWriter, sequence: list[tuple[str, Any]]) -> None:
    """Whatever is done, each claim is told when it is made and when it ends, and only then.

    Those that stand are the tasks', the workers' and those that the stream has told of, alike; and
    each is that of a connected worker on an open task.
    """
    writer.begin()
    for one in WORKERS:
        writer.connect(one, lease_ms=60_000)
    for id in TASKS:
        writer.create(id)
    for name, *arguments in sequence:
        steps[name][0](writer, *arguments)
        event(name)
    found, by_workers = writer.run(_standing, None)
    by_tasks = {(claim[0], task.id) for task in found for claim in task.advisory_claims}
    assert by_tasks == by_workers == _told_of(writer)
    for task in found:
        tokens = [claim[1] for claim in task.advisory_claims]
        assert tokens == sorted(tokens)
        if tokens:
            assert task.deleted_at is None
            assert task.status not in ("completed", "failed", "cancelled")
    for one in WORKERS:
        writer.disconnect(one)
    assert not _told_of(writer)
