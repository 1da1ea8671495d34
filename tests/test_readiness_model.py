"""Any sequence of verbs compared with a model that knows no counters, events or tables.

The verbs run on a real writer and a real file. The model, in ``readiness_model``, works out anew
who is ready, what each verb is refused with, what it frees, and which parents complete by
themselves.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from taskloom.v1 import task_pb2
from taskloom_server.coordinator import (
    claims,
    counts,
    dependencies,
    restoring,
    system,
    tasks,
    workers,
)
from taskloom_server.coordinator.admission import Held
from taskloom_server.graph.errors import DomainError
from taskloom_server.graph.tasks import Dependency, Task
from taskloom_server.graph.workers import ClaimOrder, Outcome
from taskloom_server.service import show
from taskloom_server.store.ledger import Committed
from taskloom_server.store.schema import prepare
from taskloom_server.store.transaction import Transaction
from taskloom_server.store.writer import Writer
from taskloom_server.workflow_files import load_workflows

from tests.readiness_model import ENDED, HELD, MAX_ATTEMPTS, STEP, TYPES, Model, Refused, Verb

TASKS = ("a", "b", "c", "d", "e", "f")
WORKERS = ("v", "w")
HOLDER = "the holder"
"""Stands for whoever holds the task."""


def _create(id: str, priority: int, parent: str, blockers: tuple[str, ...]) -> tuple[Any, Any]:
    root = tasks.NewTask(
        id=id, title=id, priority=priority, blocked_by=blockers, max_attempts=MAX_ATTEMPTS
    )
    return tasks.create_tasks, tasks.CreateTasks(root, parent, workflow="", worker_id="")


def _update(id: str, **changes: Any) -> tuple[Any, Any]:
    ask = tasks.UpdateTask(id, worker_id="", claim_revision=0, etag=0, reason="", **changes)
    return tasks.update_task, ask


CALLS: dict[str, Callable[..., tuple[Any, Any]]] = {
    "create": _create,
    "link": lambda from_, to, type_: (
        dependencies.link_tasks,
        dependencies.Link(from_, to, type_, ""),
    ),
    "unlink": lambda from_, to, type_: (
        dependencies.unlink_tasks,
        dependencies.Link(from_, to, type_, ""),
    ),
    "claim": lambda worker, id: (claims.claim_task, claims.Claim(worker, id, None)),
    "claim_next": lambda worker: (claims.claim_next, claims.ClaimNext(worker, 1, None, "")),
    "complete": lambda worker, id: (claims.complete, Held(worker, id, 0, "")),
    "fail": lambda worker, id, retry: (
        claims.fail,
        claims.Fail(worker, id, 0, "", retry=retry, retry_delay_ms=None),
    ),
    "release": lambda worker, id: (claims.release, Held(worker, id, 0, "")),
    "update": lambda id, status: _update(id, status=status),
    "assign": lambda id, worker: _update(id, assignee=worker),
    "unassign": lambda id: _update(id, assignee=""),
    "delete": lambda id, cascade, force: (
        tasks.delete_task,
        tasks.DeleteTask(id, worker_id="", reason="", cascade=cascade, force=force),
    ),
    "restore": lambda id, cascade: (
        restoring.restore_task,
        restoring.Restore(id, worker_id="", reason="", cascade=cascade),
    ),
    "relink": lambda gone, new: (
        dependencies.relink_tasks,
        dependencies.Relink((Dependency(*gone),), (Dependency(*new),), worker_id=""),
    ),
}
TELLS_WHAT_IT_FREED = {
    "complete": 2,
    "fail": 2,
    "update": 1,
    "assign": 1,
    "unassign": 1,
    "delete": 1,
    "unlink": 0,
    "relink": 0,
}
"""Verbs that tell, and the place in them of the task that they are about: of that the event of
the move says by itself that it is ready."""


@dataclass(frozen=True)
class Seen:
    """The graph as the tables have it."""

    tasks: list[Task]
    ready: list[str]
    status: system.Status


def _see(tx: Transaction, _: None) -> Seen:
    ready = tx.ready.best(tx.requirements.admitting(()), ClaimOrder.PRIORITY, 100)
    return Seen(list(tx.tasks.all()), ready, system.get_status(tx, None))


class _Graph:
    """A writer on a file of its own, driven from outside of its event loop."""

    def __init__(self, runner: asyncio.Runner, db: Path) -> None:
        self._runner = runner
        self.now = 1_800_000_000_000
        self.told: dict[str, Task] = {}  # by the last event about each task
        prepare(db)
        self._writer: Writer = runner.run(self._start(db))

    async def _start(self, db: Path) -> Writer:
        writer = Writer(
            db,
            load_workflows("swarm"),
            clock=lambda: self.now,
            rng=random.Random(0),
            on_commit=self._committed,
            on_failure=lambda error: pytest.fail(f"the writer failed: {error}"),
        )
        await writer.start()
        return writer

    def _committed(self, committed: Committed) -> None:
        for revision in committed.revisions:
            for happened in revision.events:
                if isinstance(happened.after, Task):
                    assert happened.after.revision == revision.number
                    self.told[happened.after.id] = happened.after

    def run(self, verb: Callable[[Transaction, Any], Any], ask: Any) -> Any:
        """Run a verb; its answer, or its refusal."""
        try:
            return self._runner.run(self._writer.run(verb, ask))
        except DomainError as refusal:
            return refusal

    def begin(self) -> None:
        """Begin with nothing but two workers, which never go."""
        self.run(system.reset, None)
        self.told.clear()
        for worker in WORKERS:
            ask = workers.Connect(
                worker, "", (), max_claims=100, lease_ms=7 * 86_400_000, cool_down_ms=0
            )
            self.run(workers.connect, ask)

    def stop(self) -> None:
        self._runner.run(self._writer.stop())


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[_Graph]:
    """A graph to try sequences on, one after another."""
    with asyncio.Runner() as runner:
        graph = _Graph(runner, tmp_path / "tasks.db")
        yield graph
        graph.stop()


task = st.sampled_from(TASKS)
worker = st.sampled_from(WORKERS)
holder = st.sampled_from([HOLDER] * 7 + [*WORKERS])
either = st.booleans()
priority = st.integers(0, 2)
parent = st.one_of(st.just(""), task)
blockers = st.lists(task, max_size=2, unique=True).map(tuple)


edge = st.tuples(task, task, st.sampled_from(TYPES))
SELDOM = ("working", "completed", "failed", "cancelled")
ARGUMENTS: dict[str, list[st.SearchStrategy[Any]]] = {
    "create": [st.sampled_from(["x", "y"]), priority, parent, blockers],
    "link": [task, task, st.sampled_from(TYPES)],
    "unlink": [task, task, st.sampled_from([*TYPES, ""])],
    "claim": [worker, task],
    "claim_next": [worker],
    "complete": [holder, task],
    "fail": [holder, task, either],
    "release": [holder, task],
    "update": [task, st.sampled_from([*["pending"] * 4, *["waiting"] * 2, *SELDOM])],
    "assign": [task, worker],
    "unassign": [task],
    "delete": [task, either, either],
    "restore": [task, either],
    "relink": [edge, edge],
}
WEIGHTS = {
    "restore": 3,
    "relink": 3,
    "delete": 2,
    "link": 4,
    "unlink": 2,
    "claim": 2,
    "claim_next": 4,
    "complete": 6,
    "update": 5,
}
names = st.sampled_from([name for name in ARGUMENTS for _ in range(WEIGHTS.get(name, 1))])
verbs = names.flatmap(lambda name: st.tuples(st.just(name), *ARGUMENTS[name]))
AIMED_FROM = {
    "pending": ("completed", "failed"),
    "waiting": ("working",),
    "working": ("waiting", "assigned"),
}
beginnings = st.lists(st.tuples(priority, parent, blockers), min_size=6, max_size=6)


def _aim(model: Model, step: Verb) -> Verb:
    """Point a verb that most tasks would refuse at the next that will not: held, or ended."""
    name, *arguments = step
    if arguments[0] == HOLDER:
        id = _next(model, arguments[1], HELD)
        return name, model.nodes[id].holder or WORKERS[0], id, *arguments[2:]
    if name == "restore":
        gone_ids = [each for each in TASKS if not model.alive(each)] or [arguments[0]]
        return name, gone_ids[TASKS.index(arguments[0]) % len(gone_ids)], arguments[1]
    if name == "relink" and model.edges:
        there = sorted(model.edges)
        gone = there[TASKS.index(arguments[0][0]) % len(there)]
        new: tuple[str, str, str] = arguments[1]
        if TASKS.index(new[0]) % 2:  # to another parent, or by another blocker
            new = new[0], gone[1], gone[2]
        return name, gone, new
    if name == "update" and arguments[1] in AIMED_FROM:
        return name, _next(model, arguments[0], AIMED_FROM[arguments[1]]), arguments[1]
    return step


def _next(model: Model, id: str, statuses: tuple[str, ...]) -> str:
    """The task itself or the next after it that has one of the statuses; itself if none has."""
    start = TASKS.index(id)
    around = (*TASKS[start:], *TASKS[:start])
    return next(
        (each for each in around if model.alive(each) and model.nodes[each].status in statuses), id
    )


@pytest.fixture(autouse=True)
def _counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a status that is known be counted on by events, however few tasks there are."""
    monkeypatch.setattr(counts, "_EVENTS_A_TASK", 1_000)


def _perform(model: Model, graph: _Graph, step: Verb) -> None:
    """Do the same to both, and compare what they say and how they are afterwards."""
    step = _aim(model, step)
    graph.now += STEP
    model.now += STEP
    refusal, freed, best = "", set[str](), model.best()
    before: Seen = graph.run(_see, None)
    try:
        freed = model.perform(step)
    except Refused as refused:
        refusal = str(refused)
    name, *arguments = step
    event(f"{name}: {refusal or 'done'}")
    answer = graph.run(*CALLS[name](*arguments))
    after: Seen = graph.run(_see, None)
    assert graph.run(system.get_status, before.status) == after.status, "from what it was before"
    if isinstance(answer, DomainError):
        assert answer.reason == refusal
        assert after.status.revision == before.status.revision
    elif name == "claim_next":
        assert [t.id for t in answer.tasks] == best[:1]
        assert (answer.outcome is Outcome.CLAIMED) == bool(best)
    else:
        assert not refusal
        if name in TELLS_WHAT_IT_FREED:
            assert set(answer.unblocked) == freed - {step[TELLS_WHAT_IT_FREED[name]]}
    _compare(model, after, graph.told)


def _compare(model: Model, seen: Seen, told: dict[str, Task]) -> None:
    """Compare all that both know."""
    assert {actual.id for actual in seen.tasks} == set(model.nodes)
    for actual in seen.tasks:
        node = model.nodes[actual.id]
        assert (actual.deleted_at is not None) == node.deleted
        if node.deleted:
            assert not actual.claimed
            continue  # nothing is told of it any more
        assert _as_told(told[actual.id]) == _as_told(actual)
        assert (actual.status, actual.attempts) == (node.status, node.attempts)
        assert (actual.worker_id or "") == node.holder
        assert actual.claimed == (node.status in HELD)
        assert actual.unmet_blockers == len(model.blockers(actual.id))
        assert actual.open_children == len(model.open_children(actual.id))
        assert actual.time_actual_ms == node.worked_ms
        assert actual.parent_id == model.parent(actual.id)
    assert {actual.id for actual in seen.tasks if actual.ready} == model.ready()
    assert seen.ready == model.best()
    alive = [node for node in model.nodes.values() if not node.deleted]
    assert sum(seen.status.counts.by_status.values()) == len(alive)
    assert seen.status.ready == len(seen.ready)
    assert seen.status.claimed == sum(node.status in HELD for node in alive)
    assert seen.status.open == sum(node.status not in ENDED for node in alive)


def _as_told(record: Task) -> task_pb2.Task:
    """As a client sees it; but for the end of the lease, which signs of life move untold."""
    message = show.task(record)
    message.ClearField("lease_expire_time")
    return message


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(beginning=beginnings, sequence=st.lists(verbs, min_size=15, max_size=40))
def test_any_sequence_of_verbs_goes_as_in_the_model(
    graph: _Graph, beginning: list[tuple[int, str, tuple[str, ...]]], sequence: list[Verb]
) -> None:
    """Readiness, refusals, frees, roll-ups, times and events are those of a naive model."""
    graph.begin()
    model = Model()
    for n, (priority, parent, blockers) in enumerate(beginning):
        there = TASKS[:n]
        _perform(
            model,
            graph,
            (
                "create",
                TASKS[n],
                priority,
                parent if parent in there else "",
                tuple(id for id in blockers if id in there and not parent),
            ),
        )
    for step in sequence:
        _perform(model, graph, step)
