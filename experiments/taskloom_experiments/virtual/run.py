"""One run in the simulation: the folder that a run of processes leaves, without any process.

The agents are the coroutines that processes run, the coordinator is what a server has behind its
transport, and both are in one thread. Times in the database are those of the virtual clock, which
begins at the same moment in every run.
"""

import asyncio
import logging
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import cast

from grpc import aio
from taskloom_client import Client, TaskloomError
from taskloom_server.server import INLINE, guard_of, housed
from taskloom_server.settings import read_settings
from taskloom_server.store.connections import exclusive
from taskloom_server.store.inline import InlineWriter
from taskloom_server.store.schema import prepare
from taskloom_server.workflow_files import load_workflows

from taskloom_experiments.definition_parts import CallCosts
from taskloom_experiments.interruption import Interrupted, Interruption
from taskloom_experiments.observing import observe, tasks_left
from taskloom_experiments.pace import pace
from taskloom_experiments.planned_runs import COORDINATOR
from taskloom_experiments.planning import RunPlan
from taskloom_experiments.progress import Show, Teller
from taskloom_experiments.results import AGENTS_LOG, DATABASE_FILE, SNAPSHOT_FILE
from taskloom_experiments.runner import first_record
from taskloom_experiments.runs import RunRecord
from taskloom_experiments.snapshots import export_snapshot, import_template
from taskloom_experiments.virtual.costs import Desk, Ways
from taskloom_experiments.virtual.fleet import Fleet
from taskloom_experiments.virtual.loop import VirtualClock, VirtualLoop
from taskloom_experiments.virtual.transport import TARGET, Channel, Handlers

EPOCH = 1_767_225_600_000
"""When a simulation begins, in Unix ms: the first of January 2026."""

_FREE = CallCosts(call_s=0.0, server_s=0.0, commit_s=0.0)
_FOR_EVER_HOURS = 1e6  # of history, for the figures are made of it
_ALL_REVISIONS = 1 << 62


async def simulate_run(plan: RunPlan, interruption: Interruption, teller: Teller) -> RunRecord:
    """Make one run in its folder, and return its record; ``plan.simulate`` says what calls cost.

    Raises TaskloomError where the template is refused. The folder then holds a record that says so.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    record = first_record(plan)
    record.save(plan.folder)
    began = time.perf_counter()
    with teller.showing(plan.label) as show:
        try:
            run = await _in_a_thread(_World(plan, show), interruption)
        except TaskloomError as error:
            replace(record, partial_reason=str(error)).save(plan.folder)
            raise
    record = replace(
        record,
        started_at=run.started_at,
        ended_at=run.ended_at,
        partial=run.problem is not None,
        partial_reason=run.problem,
        agent_counters=run.counters,
        simulated={
            **run.costs.model_dump(),
            "served": run.served,
            "took_s": round(time.perf_counter() - began, 3),
        },
    )
    record.save(plan.folder)
    return record


async def _in_a_thread(world: "_World", interruption: Interruption) -> "_World":
    """Let a world run its course, on a loop of its own beside the one that hears signals."""
    running = asyncio.create_task(asyncio.to_thread(world.run))
    try:
        async with interruption.scope():
            await asyncio.shield(running)
    except Interrupted as error:
        world.interrupt(str(error))
        await running
    except asyncio.CancelledError:
        world.interrupt("interrupted")
        raise
    return world


@dataclass
class _World:
    """A run under way: what is known of it so far. Times are Unix ms of the virtual clock."""

    plan: RunPlan
    show: Show
    problem: str | None = None
    started_at: int = EPOCH
    ended_at: int = EPOCH
    served: int = 0
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    _loop: VirtualLoop | None = None
    _main: "asyncio.Task[None] | None" = None
    _interrupted: str | None = None

    @property
    def costs(self) -> CallCosts:
        """What calls cost."""
        return self.plan.simulate or CallCosts()

    def run(self) -> None:
        """Run from the start to the end, on the thread that calls it. Raises TaskloomError."""
        log = logging.getLogger("taskloom_client")
        kept = logging.FileHandler(self.plan.folder / AGENTS_LOG, delay=True)
        log.addHandler(kept)
        propagates, log.propagate = log.propagate, False
        state = random.getstate()
        random.seed(self.plan.seed)  # the pauses of those who try again are drawn from it
        try:
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                runner.run(self._run())
        finally:
            random.setstate(state)
            log.propagate = propagates
            log.removeHandler(kept)
            kept.close()

    def interrupt(self, why: str) -> None:
        """End it early; called from another thread."""
        self._interrupted = why
        if self._loop is not None and self._main is not None:
            self._loop.call_soon_threadsafe(self._main.cancel)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        clock = VirtualClock(loop, EPOCH)
        database = self.plan.folder / DATABASE_FILE
        settings = read_settings(
            db=database, history_hours=_FOR_EVER_HOURS, history_revisions=_ALL_REVISIONS
        )
        workflows = load_workflows(settings.default_workflow, settings.workflow_dir)
        async with AsyncExitStack() as stack:
            stack.enter_context(exclusive(database))
            prepare(database)
            rng = random.Random(self.plan.seed)
            house = await stack.enter_async_context(housed(settings, workflows, clock, rng, INLINE))
            handlers = Handlers()
            house.furnish(guard_of(settings).before(cast("aio.Server", handlers)))
            free = Channel(handlers, Ways(_FREE, ""), Desk(0.0))
            client = await stack.enter_async_context(Client(TARGET, channel=free))
            plan = self.plan
            await import_template(client, plan.template.content, plan.workflow)
            self.started_at = clock.now()
            self._loop, self._main = loop, asyncio.current_task()
            desk = Desk(self.costs.server_s)
            if isinstance(house.writer, InlineWriter):
                house.writer.commit_s = self.costs.commit_s

            def connect(worker_id: str) -> Channel:
                return Channel(handlers, Ways(self.costs, f"{plan.seed}:{worker_id}"), desk)

            fleet = Fleet(connect, client)
            if plan.coordinator is not None:
                fleet.coordinate(COORDINATOR, plan.coordinator)
            fleet.go(plan.fleet)
            problem = await self._until_over(client, fleet)
            self._main = None
            self.ended_at = clock.now()
            await fleet.stop()
            await export_snapshot(client, plan.folder / SNAPSHOT_FILE)
            self.served = desk.served
            self.counters = dict(sorted(fleet.counted.items()))
            house.send_away()
        if problem is None and fleet.failed:
            problem = f"{', '.join(fleet.failed)}; the others went on"
        self.problem = problem

    async def _until_over(self, client: Client, fleet: Fleet) -> str | None:
        """Wait for the end: None where every task ended, else why not."""
        plan = self.plan
        observer = asyncio.create_task(
            observe(client, plan.expected_s, self.show, pace=pace(plan.speed))
        )
        ended = asyncio.create_task(fleet.ended())
        try:
            over, _ = await asyncio.wait(
                [ended, observer],
                timeout=plan.timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:
            if self._interrupted is None or self._main is None:
                raise
            self._main.uncancel()
            return f"{self._interrupted} after {self._elapsed_s:.1f} s"
        finally:
            observer.cancel()
            ended.cancel()
        if ended in over:
            ended.result()  # raises what nobody foresaw
            left, tasks = await tasks_left(client)
            if not left:
                return None
            how = f": {', '.join(told)}" if (told := [*fleet.killed, *fleet.failed]) else ""
            return f"the agents are gone and {left} of {tasks} tasks are open{how}"
        if observer in over:
            return observer.result()
        return f"given up after {plan.timeout_s:g} s, its timeout"

    @property
    def _elapsed_s(self) -> float:
        return self._loop.time() if self._loop else 0.0
