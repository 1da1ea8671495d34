"""One run, from an empty folder to its results: server, import, agents, export, record.

Whatever happens, the server and the agents are gone when a run is over, what it left is kept, and
a run that did not end as it should is called partial: ``run.json`` says so from its first moment,
and only a run that came to its end takes it back.
"""

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from taskloom import v1
from taskloom_client import Client, TaskloomError

from taskloom_experiments import processes
from taskloom_experiments.fleet import LEAVING_S, Ending, Fleet, Settings, fleet
from taskloom_experiments.fleet import STARTUP_S as AGENTS_STARTUP_S
from taskloom_experiments.interruption import Interrupted, Interruption
from taskloom_experiments.observing import observe, tasks_left
from taskloom_experiments.planned_runs import COORDINATOR
from taskloom_experiments.planning import RunPlan
from taskloom_experiments.progress import Show, Teller
from taskloom_experiments.results import AGENTS_LOG, DATABASE_FILE, SERVER_LOG, SNAPSHOT_FILE
from taskloom_experiments.runs import UNFINISHED, RunRecord, describe_machine
from taskloom_experiments.serving import Server, ServerFailed, last_words, serving
from taskloom_experiments.snapshots import export_snapshot, import_template
from taskloom_experiments.steps import export_from

_DISCONNECT_S = 2.0


async def execute_run(plan: RunPlan, interruption: Interruption, teller: Teller) -> RunRecord:
    """Make one run in its folder, and return its record, which is in the folder as well.

    An error that no other run would be spared, such as a template that is refused, is raised:
    ServerFailed, TaskloomError. The folder then holds a record that says so.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    record = first_record(plan)
    record.save(plan.folder)
    run = _Run(plan, teller)
    try:
        async with AsyncExitStack() as stack:
            try:
                async with interruption.scope():
                    problem = await run.drive(stack)
            except Interrupted as error:
                problem = f"{error} after {run.elapsed_s:.1f} s"
            await run.stop_agents()
            not_exported = await run.export()
            if problem is None and (crashed := run.crashes()):
                problem = f"{crashed}; the others went on"
            problem = problem or not_exported
        problem = problem or run.disorder()
    except (ServerFailed, TaskloomError) as error:
        replace(record, partial_reason=str(error)).save(plan.folder)
        raise
    finally:
        _remove_if_empty(plan.folder / AGENTS_LOG)
    record = replace(
        record,
        started_at=run.started_at or record.started_at,
        ended_at=run.ended_at or _now_ms(),
        partial=problem is not None,
        partial_reason=problem,
        agent_counters=run.agent_counters(),
    )
    record.save(plan.folder)
    return record


class _Run:
    """A run under way: its children, and what is known of it so far. Times are Unix ms."""

    def __init__(self, plan: RunPlan, teller: Teller) -> None:
        self._plan = plan
        self._teller = teller
        self._server: Server | None = None
        self._client: Client | None = None
        self._agents: Fleet | None = None
        self._farewells: set[asyncio.Task[None]] = set()
        self.started_at: int | None = None
        self.ended_at: int | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the agents were let go; 0 before."""
        if self.started_at is None:
            return 0.0
        return ((self.ended_at or _now_ms()) - self.started_at) / 1000

    async def drive(self, stack: AsyncExitStack) -> str | None:
        """Start everything and wait for the end: None where every task ended, else why not.

        What was started ends with the stack. Raises ServerFailed, and TaskloomError where the
        template is refused.
        """
        plan = self._plan
        folder = plan.folder
        server = await stack.enter_async_context(
            serving(folder / DATABASE_FILE, folder / SERVER_LOG)
        )
        client = await stack.enter_async_context(Client(server.target))
        self._server, self._client = server, client
        with self._teller.showing(plan.label) as show:
            await import_template(client, plan.template.content, plan.workflow)
            agents = self._agents = await stack.enter_async_context(
                fleet(
                    server.target,
                    _members(plan),
                    log=folder / AGENTS_LOG,
                    on_ending=self._say_farewell,
                )
            )
            try:
                await agents.ready()
            except TimeoutError:
                return f"the agents did not come up within {AGENTS_STARTUP_S:g} s"
            self.started_at = _now_ms()
            agents.go()
            try:
                return await self._until_over(server, client, agents, show)
            finally:
                self.ended_at = _now_ms()

    async def _until_over(
        self, server: Server, client: Client, agents: Fleet, show: Show
    ) -> str | None:
        agents_ended = asyncio.create_task(agents.ended())
        server_ended = asyncio.create_task(server.process.wait())
        observer = asyncio.create_task(observe(client, self._plan.expected_s, show))
        waiting: set[asyncio.Task[Any]] = {agents_ended, server_ended, observer}
        try:
            over, _ = await asyncio.wait(
                waiting, timeout=self._plan.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in waiting:
                task.cancel()
        if server_ended in over:
            return self._server_ended(server)
        if agents_ended in over:
            return await self._left_behind(server, client)
        if observer in over:
            why = observer.result()
            crashed = self.crashes()  # as a coordinator, without whom nobody gets a task
            return f"{why}; {crashed}" if why and crashed else why
        return f"given up after {self._plan.timeout_s:g} s, its timeout"

    async def _left_behind(self, server: Server, client: Client) -> str | None:
        try:
            left, tasks = await tasks_left(client)
        except TaskloomError as error:
            return self._server_ended(server) if _has_ended(server) else str(error)
        if not left:
            return None
        gone = self._agents.endings if self._agents else ()
        killed = [f"{ending.worker_id} {ending.how}" for ending in gone if ending.planned]
        told = [*killed, *([crashed] if (crashed := self.crashes()) else [])]
        how = f": {', '.join(told)}" if told else ""
        return f"the agents are gone and {left} of {tasks} tasks are open{how}"

    def _server_ended(self, server: Server) -> str:
        return f"the server ended {processes.ending(server.process)} after {self.elapsed_s:.1f} s"

    def _say_farewell(self, ending: Ending) -> None:
        """An agent has ended. Of one that crashed the server is told, so that its task is free."""
        if ending.planned:  # nobody tells the server: its lease has to
            self._teller.say(f"{self._plan.label}: {ending.worker_id} {ending.how}")
        if not ending.crashed:
            return
        self._teller.say(f"{self._plan.label}: {ending.worker_id} {ending.how}; the others go on")
        if self._client and self._server and not _has_ended(self._server):
            farewell = asyncio.create_task(_disconnect(self._client, ending))
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)

    def crashes(self) -> str | None:
        """Which agents crashed, and how; None where none did."""
        endings = self._agents.endings if self._agents else ()
        crashed = [f"{ending.worker_id} {ending.how}" for ending in endings if ending.crashed]
        if not crashed:
            return None
        return ", ".join(crashed) + last_words(self._plan.folder / AGENTS_LOG)

    async def stop_agents(self) -> None:
        """End the agents that are still there; without a server they have nothing to say."""
        if self._agents:
            gone = self._server is None or _has_ended(self._server)
            await self._agents.stop(grace_s=0 if gone else LEAVING_S)
        if self._farewells:
            await asyncio.wait(self._farewells)

    async def export(self) -> str | None:
        """Write the snapshot; None where that went well, else why not."""
        folder = self._plan.folder
        try:
            if self._client and self._server and not _has_ended(self._server):
                await export_snapshot(self._client, folder / SNAPSHOT_FILE)
            elif (folder / DATABASE_FILE).exists():
                await export_from(folder)
        except (ServerFailed, TaskloomError) as error:
            return f"no snapshot could be exported: {error}"
        return None

    def disorder(self) -> str | None:
        """What was wrong with the server's end; None where it left one whole file, as asked."""
        if self._server and self._server.process.returncode != 0:
            return (
                f"the server did not shut down but ended {processes.ending(self._server.process)}"
            )
        return None

    def agent_counters(self) -> dict[str, dict[str, int]]:
        """What each agent counted, and how it ended, by its id."""
        return self._agents.counted() if self._agents else {}


def _members(plan: RunPlan) -> dict[str, Settings]:
    """All who take part, by their ids; the coordinator first, as it starts first."""
    coordinating = {COORDINATOR: plan.coordinator} if plan.coordinator else {}
    return {**coordinating, **plan.fleet}


async def _disconnect(client: Client, ending: Ending) -> None:
    # A lease that nobody renews would free the task as well, but later.
    request = v1.DisconnectRequest(worker_id=ending.worker_id, reason=f"its process {ending.how}")
    with contextlib.suppress(TaskloomError):
        await client.workers.Disconnect(request, timeout=_DISCONNECT_S)


def _has_ended(server: Server) -> bool:
    return server.process.returncode is not None


def first_record(plan: RunPlan) -> RunRecord:
    """The record of a run that has not ended: what it is if nobody comes to finish it."""
    now = _now_ms()
    return RunRecord(
        name=plan.name,
        mode=plan.mode,
        pull=plan.pull,
        agents=plan.agents,
        speed=plan.speed,
        seed=plan.seed,
        started_at=now,
        ended_at=now,
        partial=True,
        partial_reason=UNFINISHED,
        template=str(plan.template.file),
        workflow=plan.workflow,
        coordinators=(COORDINATOR,) if plan.coordinator else (),
        repeats=plan.repeats,
        swept=plan.swept,
        machine=describe_machine(),
    )


def summary(plan: RunPlan, record: RunRecord) -> str:
    """What became of a run, as one line."""
    took_s = (record.ended_at - record.started_at) / 1000
    if record.partial:
        return f"{plan.label}: partial: {record.partial_reason}"
    line = f"{plan.label}: all tasks ended in {took_s:.1f} s, {plan.expected_s:.1f} s at best"
    if record.simulated:
        line += f"; simulated in {record.simulated['took_s']:.1f} s"
    return line


def _remove_if_empty(file: Path) -> None:
    if file.exists() and not file.stat().st_size:
        file.unlink()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
