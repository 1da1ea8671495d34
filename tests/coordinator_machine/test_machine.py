"""Any sequence of calls, with time passing between them, goes as in a naive model.

The calls are done by the server's own servicers, verbs, writer, line and alarm on a real file.
Time passes when the machine says so: up to a deadline, onto it, past it, and with a call that
comes before the alarm. After every step all that a client could read is compared, and so is who
was answered, with what, and what was told of it.

``TASKLOOM_MACHINE_EXAMPLES=5000`` tries so many sequences at random, for hours if need be, and
``TASKLOOM_MACHINE_STEPS`` says how long they are.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from taskloom_server.store.schema import prepare

from tests.coordinator_machine import asks
from tests.coordinator_machine.pair import Pair
from tests.coordinator_machine.world import DAY, HELD, Next, Node, Task, Terms

EXAMPLES = int(os.environ.get("TASKLOOM_MACHINE_EXAMPLES", "0"))
STEPS = int(os.environ.get("TASKLOOM_MACHINE_STEPS", "50"))

WORKERS = ("ada", "bob", "cyd")
MOST_TASKS = 12
HOLDER = ""
"""Stands for whoever holds the task."""

T = TypeVar("T")

nth = st.integers(0, 11)
"""Which of those that there are, counting around."""
maybe = st.one_of(st.none(), nth)
worker = st.sampled_from(WORKERS)
by = st.sampled_from(("", *WORKERS))
holder = st.sampled_from((*[HOLDER] * 6, *WORKERS))
flag = st.booleans()
seldom = st.integers(0, 4).map(lambda n: n == 4)
no_tags = st.just(frozenset[str]())
tags = st.one_of(no_tags, no_tags, no_tags, st.frozensets(st.sampled_from(("gpu", "net"))))
skills = st.frozensets(st.sampled_from(("gpu", "net")))
lease = st.sampled_from((0, 5_000, 8_000, 20_000))
cool_down = st.sampled_from((0, 0, 3_000))
priority = st.integers(0, 2)
mostly_current = st.sampled_from((*["current"] * 4, "none", "stale"))
"""Of the claims that a worker may show, which."""
mostly_none = st.sampled_from((*["none"] * 4, "current", "stale"))
"""Likewise, where mostly none is shown."""
node = st.builds(
    Node,
    id=st.just(""),
    priority=priority,
    needed=tags,
    wanted=tags,
    not_before=st.sampled_from((None, None, None, -1_000, 3_000, 10_000)),
    max_attempts=st.integers(1, 3),
    retry_delay=st.sampled_from((0, 0, 2_000)),
)


class Coordinator(RuleBasedStateMachine):
    """What may happen, in any order."""

    def __init__(self, db: Path) -> None:
        super().__init__()
        self.db = db
        self.pair = Pair(db)
        self.world = self.pair.world

    def teardown(self) -> None:
        """Take the server down, whatever came of it."""
        self.pair.end()
        for path in self.db.parent.glob(f"{self.db.name}*"):
            path.unlink()

    # Which of those that there are

    def any_task(self, n: int) -> Task:
        """Any task, deleted ones included."""
        return _pick(n, list(self.world.tasks.values()))

    def some(self, n: int, *statuses: str) -> Task:
        """A task with one of the statuses that is not deleted; any task if there is none."""
        found = [task for task in self.world.living() if task.status in statuses]
        return _pick(n, found) if found else self.any_task(n)

    def id_of(self, n: int | None) -> str:
        """The id of any task; nothing for None, and where there is no task."""
        return "" if n is None or not self.world.tasks else self.any_task(n).id

    def claimed(self) -> list[tuple[Task, str, int]]:
        """The claims of both modes: the task, the worker, and the claim's token."""
        living = self.world.living()
        alone = [(task, task.worker, task.claim) for task in living if task.held]
        return alone + [(task, one.worker, one.claim) for task in living for one in task.advice]

    def lapsed(self) -> list[Task]:
        """The tasks whose lease ran out, and which nobody has taken since."""
        return [task for task in self.world.tasks.values() if task.lapsed[0]]

    def absent(self) -> list[str]:
        """The workers that have disconnected."""
        return [id for id, worker in self.world.workers.items() if not worker.connected]

    # Workers

    @initialize(
        registrations=st.lists(
            st.builds(Terms, skills, st.integers(1, 2), lease, cool_down),
            min_size=len(WORKERS),
            max_size=len(WORKERS),
        ),
        nodes=st.lists(st.tuples(node, maybe, maybe), min_size=3, max_size=6),
    )
    def begin(
        self,
        registrations: list[Terms],
        nodes: list[tuple[Node, int | None, int | None]],
    ) -> None:
        """Some workers, and some tasks that wait for each other."""
        for id, terms in zip(WORKERS, registrations, strict=True):
            asks.connect(self.pair, id, terms, remember=False)
        for one, parent, blocker in nodes:
            blockers = () if blocker is None or blocker == parent else (blocker,)
            planned = self._planned(one, 0, blockers)
            asks.create(self.pair, planned, self.id_of(parent), "", remember=False)

    @rule(
        id=worker,
        terms=st.builds(Terms, skills, st.integers(0, 2), lease, cool_down),
        remember=flag,
    )
    def connect(self, *, id: str, terms: Terms, remember: bool) -> None:
        """A worker registers anew."""
        asks.connect(self.pair, id, terms, remember=remember)

    @precondition(lambda self: self.absent())
    @rule(n=nth, most=st.integers(1, 2), lease=lease)
    def come_back(self, *, n: int, most: int, lease: int) -> None:
        """A worker that has disconnected is back."""
        id = _pick(n, self.absent())
        terms = Terms(self.world.workers[id].tags, most, lease)
        asks.connect(self.pair, id, terms, remember=False)

    @precondition(lambda self: not self.absent())
    @rule(id=worker, remember=flag)
    def disconnect(self, *, id: str, remember: bool) -> None:
        """A worker goes."""
        asks.disconnect(self.pair, id, remember=remember)

    @rule(id=worker)
    def heartbeat(self, *, id: str) -> None:
        """A worker lives."""
        asks.heartbeat(self.pair, id)

    @rule(id=worker, grace=st.sampled_from((1_000, 4_000, 30_000)))
    def lose_stream(self, *, id: str, grace: int) -> None:
        """A worker's Work stream breaks."""
        self.pair.lose_stream(id, grace)

    # The graph

    def _planned(self, node: Node, place: int, blockers: Sequence[int], *also: str) -> Node:
        """The node with an id and blockers, and its time counted from now."""
        ids = filter(None, map(self.id_of, blockers))
        return replace(
            node,
            id=f"t{len(self.world.tasks) + place}",
            not_before=None if node.not_before is None else self.world.now + node.not_before,
            blocked_by=tuple(dict.fromkeys((*ids, *also))),
        )

    @precondition(lambda self: len(self.world.tasks) < MOST_TASKS)
    @rule(node=node, parent=maybe, blockers=st.lists(nth, max_size=2), by=by, remember=flag)
    def create(
        self, *, node: Node, parent: int | None, blockers: list[int], by: str, remember: bool
    ) -> None:
        """A task is added."""
        node = self._planned(node, 0, blockers)
        asks.create(self.pair, node, self.id_of(parent), by, remember=remember)

    @precondition(lambda self: len(self.world.tasks) < MOST_TASKS - 2)
    @rule(
        nodes=st.tuples(node, node, node),
        chained=flag,
        deep=flag,
        parent=maybe,
        blockers=st.lists(nth, max_size=1),
        by=by,
        remember=flag,
    )
    def create_tree(
        self,
        *,
        nodes: tuple[Node, Node, Node],
        chained: bool,
        deep: bool,
        parent: int | None,
        blockers: list[int],
        by: str,
        remember: bool,
    ) -> None:
        """A tree of three is added: a chain or two children, the last blocked by the second."""
        first, second = (self._planned(nodes[place], place, ()) for place in (0, 1))
        third = self._planned(nodes[2], 2, blockers, *([second.id] if chained else []))
        below = (replace(second, children=(third,)),) if deep else (second, third)
        root = replace(first, children=below)
        asks.create_tree(self.pair, root, self.id_of(parent), by, remember=remember)

    @precondition(lambda self: self.world.tasks)
    @rule(
        from_=nth,
        to=nth,
        type_=st.sampled_from(("blocks", "follows", "contains", "duplicate")),
        remember=flag,
    )
    def link(self, *, from_: int, to: int, type_: str, remember: bool) -> None:
        """A dependency is added."""
        ends = self.id_of(from_), self.id_of(to)
        asks.link(self.pair, *ends, type_, remember=remember)

    @precondition(lambda self: self.world.edges)
    @rule(n=nth, of_all_types=flag, remember=flag)
    def unlink(self, *, n: int, of_all_types: bool, remember: bool) -> None:
        """A dependency is removed."""
        from_, to, type_ = _pick(n, sorted(self.world.edges))
        asks.unlink(self.pair, from_, to, "" if of_all_types else type_, remember=remember)

    @precondition(lambda self: self.world.tasks)
    @rule(
        n=nth,
        status=st.sampled_from(
            (*["pending", "working", "waiting"] * 2, "completed", "failed", "cancelled")
        ),
        by=by,
        claim=mostly_none,
        remember=flag,
    )
    def move(self, *, n: int, status: str, by: str, claim: str, remember: bool) -> None:
        """A task is put into another state, mostly one that can be."""
        sources = {"pending": ("completed", "failed", *HELD), "working": ("assigned", "waiting")}
        sources |= {"cancelled": ("pending", "assigned", "waiting")}
        task = self.some(n, *sources.get(status, ("working",)))
        shown = _shown(claim, task.claim)
        asks.update(self.pair, task.id, by, claim=shown, status=status, remember=remember)

    @precondition(lambda self: self.world.tasks)
    @rule(n=nth, by=by, to=by, remember=flag)
    def assign(self, *, n: int, by: str, to: str, remember: bool) -> None:
        """A task is handed to a worker, or taken back."""
        task = self.some(n, *(("pending",) if to else HELD))
        asks.update(self.pair, task.id, by, assignee=to, remember=remember)

    @precondition(lambda self: self.world.tasks)
    @rule(
        n=nth,
        by=by,
        fields=st.fixed_dictionaries(
            {},
            optional={
                "priority": priority,
                "needed": tags,
                "wanted": tags,
                "not_before": st.sampled_from((-1_000, 3_000, 10_000)),
                "max_attempts": st.integers(1, 3),
                "retry_delay": st.sampled_from((0, 2_000)),
            },
        ),
        claim=mostly_none,
        etag=mostly_none,
        remember=flag,
    )
    def change(
        self, *, n: int, by: str, fields: dict[str, Any], claim: str, etag: str, remember: bool
    ) -> None:
        """What is told of a task is changed."""
        task = self.any_task(n)
        if "not_before" in fields:
            fields = fields | {"not_before": self.world.now + fields["not_before"]}
        shown = {"claim": _shown(claim, task.claim), "etag": _shown(etag, task.revision)}
        asks.update(self.pair, task.id, by, **shown, remember=remember, **fields)

    @precondition(lambda self: self.world.tasks)
    @rule(n=nth, by=by, cascade=flag, force=flag, remember=flag)
    def delete(self, *, n: int, by: str, cascade: bool, force: bool, remember: bool) -> None:
        """A task is deleted, or a whole subtree."""
        named = {"cascade": cascade, "force": force, "remember": remember}
        asks.delete(self.pair, self.id_of(n), by, **named)

    @precondition(lambda self: self.world.tasks)
    @rule(n=nth, by=by, claim=mostly_none, breakthrough=flag, remember=flag)
    def signal(self, *, n: int, by: str, claim: str, breakthrough: bool, remember: bool) -> None:
        """Somebody tells of progress."""
        task = self.any_task(n)
        shown = _shown(claim, task.claim)
        named = {"breakthrough": breakthrough, "remember": remember}
        asks.signal(self.pair, task.id, by, shown, **named)

    @precondition(lambda self: self.world.tasks)
    @rule(n=nth, by=by, amount=st.sampled_from((0.0, 0.25, 1.0)), remember=flag)
    def boost(self, *, n: int, by: str, amount: float, remember: bool) -> None:
        """Somebody wants attention for a task."""
        asks.boost(self.pair, self.id_of(n), by, amount, remember=remember)

    # Claims

    @precondition(lambda self: self.world.tasks)
    @rule(worker=worker, n=nth, any_task=seldom, lease=lease, advisory=flag, remember=flag)
    def claim(
        self, *, worker: str, n: int, any_task: bool, lease: int, advisory: bool, remember: bool
    ) -> None:
        """A worker claims the task that it names."""
        id = self.id_of(n) if any_task else self.some(n, "pending", "assigned").id
        asks.claim(self.pair, worker, id, lease, advisory=advisory, remember=remember)

    @rule(
        worker=worker,
        max_tasks=st.integers(1, 2),
        lease=lease,
        scope=st.one_of(st.none(), st.none(), nth),
        wait=st.sampled_from((0, 4_000, 15_000, 600_000)),
        when_done=flag,
        hottest=seldom,
        advisory=seldom,
        remember=flag,
    )
    def claim_next(self, *, worker: str, scope: int | None, remember: bool, **options: Any) -> None:
        """A worker claims what is best, or waits for it."""
        ask = Next(worker, scope=self.id_of(scope), **options)
        asks.claim_next(self.pair, ask, remember=remember)

    @rule(worker=worker, advisory=seldom, remember=flag)
    def wait(self, *, worker: str, advisory: bool, remember: bool) -> None:
        """A worker waits for whatever there will be."""
        ask = Next(worker, wait=600_000, when_done=True, advisory=advisory)
        asks.claim_next(self.pair, ask, remember=remember)

    @precondition(lambda self: self.pair.waiting)
    @rule(n=nth)
    def give_up(self, *, n: int) -> None:
        """Somebody waits no longer."""
        self.pair.cancel(_pick(n, self.pair.waiting))

    @precondition(lambda self: self.claimed())
    @rule(n=nth, worker=holder, claim=mostly_current, remember=flag)
    def complete(self, *, n: int, worker: str, claim: str, remember: bool) -> None:
        """A worker ends its task well."""
        asks.complete(self.pair, self._shown_by(n, worker, claim), remember=remember)

    @precondition(lambda self: self.claimed())
    @rule(n=nth, worker=holder, claim=mostly_current, remember=flag)
    def release(self, *, n: int, worker: str, claim: str, remember: bool) -> None:
        """A worker gives its task back."""
        asks.release(self.pair, self._shown_by(n, worker, claim), remember=remember)

    @precondition(lambda self: self.claimed())
    @rule(
        n=nth,
        worker=holder,
        claim=mostly_current,
        retry=flag,
        delay=st.sampled_from((0, 3_000)),
        remember=flag,
    )
    def fail(
        self, *, n: int, worker: str, claim: str, retry: bool, delay: int, remember: bool
    ) -> None:
        """A worker fails."""
        held = self._shown_by(n, worker, claim)
        asks.fail(self.pair, held, retry=retry, delay=delay, remember=remember)

    def _shown_by(self, n: int, worker: str, claim: str) -> asks.Held:
        task, holder, token = _pick(n, self.claimed())
        return worker or holder, task.id, _shown(claim, token)

    @precondition(lambda self: self.lapsed())
    @rule(n=nth, worker=holder, claim=mostly_current, remember=flag)
    def complete_late(self, *, n: int, worker: str, claim: str, remember: bool) -> None:
        """A worker whose lease ran out brings its work in all the same."""
        task = _pick(n, self.lapsed())
        holder, token = task.lapsed
        held = (worker or holder, task.id, _shown(claim, token))
        asks.complete(self.pair, held, remember=remember)

    # What agents do most, so that it happens most

    @rule(what=st.sampled_from(("take", "wait", "complete", "fail")), n=nth, worker=worker)
    def work(self, *, what: str, n: int, worker: str) -> None:
        """The next step in an agent's life."""
        match what:
            case "wait":
                ask = Next(worker, wait=600_000, when_done=True)
                asks.claim_next(self.pair, ask, remember=False)
            case "take":
                asks.claim_next(self.pair, Next(worker), remember=False)
            case "complete" if self.claimed():
                asks.complete(self.pair, self._shown_by(n, HOLDER, "current"), remember=False)
            case "fail" if self.claimed():
                held = self._shown_by(n, HOLDER, "current")
                delay = 3_000 if n % 2 else 0
                asks.fail(self.pair, held, retry=True, delay=delay, remember=False)

    @rule(what=st.sampled_from(("take", "complete")), n=nth, worker=worker)
    def work_on(self, *, what: str, n: int, worker: str) -> None:
        """Likewise."""
        self.work(what=what, n=n, worker=worker)

    @rule(n=nth, worker=worker)
    def work_well(self, *, n: int, worker: str) -> None:
        """Likewise."""
        self.work(what="complete" if self.claimed() else "take", n=n, worker=worker)

    # The whole

    @precondition(lambda self: self.claimed())
    @rule(top=maybe, remember=flag)
    def pause(self, *, top: int | None, remember: bool) -> None:
        """Everything is paused, or a subtree."""
        asks.pause(self.pair, self.id_of(top), remember=remember)

    @precondition(lambda self: self.world.paused or self.world.pauses or self.pair.waiting)
    @rule(top=maybe, remember=flag)
    def resume(self, *, top: int | None, remember: bool) -> None:
        """Everything is resumed, or a subtree."""
        asks.resume(self.pair, self.id_of(top), remember=remember)

    @precondition(lambda self: self.world.paused or self.world.pauses)
    @rule(n=nth)
    def resume_soon(self, *, n: int) -> None:
        """What is paused is resumed."""
        paused = [*([""] if self.world.paused else []), *sorted(self.world.pauses)]
        asks.resume(self.pair, _pick(n, paused), remember=False)

    @precondition(lambda self: self.pair.past)
    @rule(n=nth)
    def repeat(self, *, n: int) -> None:
        """A call comes again, with its request_id."""
        self.pair.again(_pick(n, self.pair.past[::-1]))

    @rule()
    def restart(self) -> None:
        """The server goes down, and comes up again."""
        self.pair.restart()

    # Time, and what happens at once

    @rule(ms=st.sampled_from((1, 1_000, 3_000, 3_000, 5_000, 8_000, 20_000, DAY)))
    def let_time_pass(self, *, ms: int) -> None:
        """Nothing happens for a while."""
        self.pair.advance(ms)

    @precondition(lambda self: self.pair.model.deadlines())
    @rule(n=st.integers(0, 3), off=st.sampled_from((-1, 0, 1)))
    def reach_deadline(self, *, n: int, off: int) -> None:
        """It is nearly time for something, just time, or just past it."""
        deadline = _pick(n, self.pair.model.deadlines())
        if deadline + off > self.world.now:
            self.pair.advance(deadline + off - self.world.now)

    @precondition(lambda self: self.pair.model.deadlines())
    @rule(n=st.integers(0, 3), off=st.sampled_from((0, 1)))
    def be_late(self, *, n: int, off: int) -> None:
        """The next call comes when something is due, and before the alarm rings."""
        deadline = _pick(n, self.pair.model.deadlines())
        self.pair.be_late(deadline + off - self.world.now)

    @rule()
    def hold_next(self) -> None:
        """The next two calls share a transaction."""
        self.pair.hold_next()

    @rule()
    def interrupt_next(self) -> None:
        """Whoever is given something by the next call is gone in that instant."""
        self.pair.interrupt_next()


def _pick(n: int, items: Sequence[T]) -> T:
    return items[n % len(items)]


def _shown(which: str, current: int) -> int:
    """A claim, or an etag, as it is shown: 0 is none."""
    return {"current": current, "none": 0, "stale": max(1, current - 1)}[which]


@pytest.fixture
def new_machine(tmp_path: Path) -> Callable[[], Coordinator]:
    """A machine on a fresh file, as often as one is wanted."""
    empty = tmp_path / "empty.db"
    prepare(empty)
    numbers = count()

    def new() -> Coordinator:
        db = tmp_path / f"{next(numbers)}.db"
        shutil.copy(empty, db)
        return Coordinator(db)

    return new


@pytest.mark.timeout(0 if EXAMPLES else 900)  # to shrink what fails takes some minutes
def test_any_sequence_of_calls_goes_as_in_the_model(
    new_machine: Callable[[], Coordinator],
) -> None:
    """Claims, leases, retries, rests, waits, pauses and readiness are those of a naive model."""
    run_state_machine_as_test(
        new_machine,  # type: ignore[arg-type]  # a function does as well as a class
        settings=settings(
            max_examples=EXAMPLES or 100,
            stateful_step_count=STEPS,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
            print_blob=True,
        ),
    )
