"""What a simulated coordinator does: it watches what is ready and who is free, and assigns tasks.

What it decides is in ``coordinating``; here it listens, takes its time, and calls. Like an agent it
is written against the client alone, and waits by the clock of its event loop alone.
"""

import asyncio
from datetime import timedelta

import grpc
from taskloom import v1
from taskloom_client import Agent, Client, TaskloomError

from taskloom_experiments import simulation
from taskloom_experiments.agent_settings import CoordinatorSettings
from taskloom_experiments.coordinating import Assignment, Board
from taskloom_experiments.pace import pace

_STILL_S = 1.0
"""How long nothing may happen until it sees whether anything is left to hand out."""
_LONGEST_STILL_S = 60.0

_EVENTS = (
    v1.EVENT_TYPE_TASK_CREATED,
    v1.EVENT_TYPE_TASK_READY,
    v1.EVENT_TYPE_TASK_BLOCKED,
    v1.EVENT_TYPE_TASK_CLAIMED,
    v1.EVENT_TYPE_TASK_RELEASED,
    v1.EVENT_TYPE_TASK_LEASE_EXPIRED,
    v1.EVENT_TYPE_TASK_COMPLETED,
    v1.EVENT_TYPE_TASK_FAILED,
    v1.EVENT_TYPE_TASK_CANCELLED,
    v1.EVENT_TYPE_TASK_MOVED,
    v1.EVENT_TYPE_TASK_DELETED,
    v1.EVENT_TYPE_WORKER_CONNECTED,
    v1.EVENT_TYPE_WORKER_DISCONNECTED,
)
_REFUSED = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED)


def new_coordinator(client: Client, worker_id: str, settings: CoordinatorSettings) -> Agent:
    """The coordinator as a worker that takes no task, yet to be connected."""
    return Agent(
        client,
        worker_id=worker_id,
        tags=settings.tags,
        workflow=settings.workflow,
        lease=timedelta(seconds=settings.lease_s),
    )


async def hand_out(agent: Agent, settings: CoordinatorSettings) -> None:
    """Connect, assign every task that becomes ready, and leave when nothing is left.

    Raises TaskloomError when the server refuses or cannot be reached for long.
    """
    async with agent:
        desk = _Desk(agent, settings)
        try:
            await desk.work()
        finally:
            await desk.aclose()


class _Desk:
    """A coordinator at work: what it knows, and what is under way."""

    def __init__(self, agent: Agent, settings: CoordinatorSettings) -> None:
        self._agent = agent
        self._settings = settings
        self._still_s = min(_STILL_S * pace(settings.speed), _LONGEST_STILL_S)
        self._board = Board(settings.costs.max_backlog)
        self._news = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._bookkeeping: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Round after round, until nothing is left that could become ready."""
        heard = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(heard))
        await heard.wait()
        await self._meet()
        while True:
            if self._listening.done():
                await self._listening  # raises what ended it
            self._news.clear()
            if self._board.can_decide():
                await self._round()
            elif not await self._news_came() and await self._is_over():
                return

    async def aclose(self) -> None:
        """Stop listening; what is still to be noted down is."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        if self._bookkeeping:
            await asyncio.wait(self._bookkeeping)

    async def _round(self) -> None:
        """Look, decide, hand out. What happens meanwhile is for the next round."""
        costs, speed = self._settings.costs, self._settings.speed
        clock = asyncio.get_running_loop().time
        began = clock()
        await asyncio.sleep(costs.notice_s / speed)
        assignments = self._board.decide(costs.batch)
        if not assignments:
            return  # what it set out for was done by then
        # By the clock, for a sleep is late by up to a millisecond, which is seconds here.
        decided_at = began + (costs.notice_s + costs.decision_s * len(assignments)) / speed
        await asyncio.sleep(max(0.0, decided_at - clock()))
        made = await asyncio.gather(*map(self._assign, assignments))
        spent_s = (clock() - began) * speed / len(assignments)
        for assignment in (one for one, done in zip(assignments, made, strict=True) if done):
            note = asyncio.create_task(self._note_down(assignment.task_id, spent_s))
            self._bookkeeping.add(note)
            note.add_done_callback(self._bookkeeping.discard)

    async def _assign(self, assignment: Assignment) -> bool:
        request = v1.UpdateTaskRequest(
            task_id=assignment.task_id,
            worker_id=self._agent.worker_id,
            assignee=assignment.worker_id,
        )
        try:
            answer = await self._agent.call(self._agent.client.tasks.UpdateTask, request)
        except TaskloomError as error:
            if error.code not in _REFUSED:
                raise
            # What was known of the task or of the worker is no longer true; an event will tell.
            if error.reason == "WORKER_NOT_FOUND":
                self._board.worker_left(assignment.worker_id)
            self._board.settle(assignment, None)
            return False
        self._board.settle(assignment, answer.task)
        return True

    async def _note_down(self, task_id: str, spent_s: float) -> None:
        """Book a decision's cost on its task: metric_6 has the time in simulated ms, metric_7 the
        cost in millionths of a dollar, so that both can be told from what the work took.
        """
        costs = self._settings.costs
        cost_usd = simulation.cost_usd(costs.tokens_in, costs.tokens_out)
        request = v1.LogMetricsRequest(
            worker_id=self._agent.worker_id,
            task_id=task_id,
            metrics=v1.Metrics(
                tokens_in=costs.tokens_in,
                tokens_out=costs.tokens_out,
                cost_usd=cost_usd,
                metric_6=round(1000 * spent_s),
                metric_7=round(1e6 * cost_usd),
            ),
        )
        await self._agent.call(self._agent.client.tasks.LogMetrics, request)

    async def _meet(self) -> None:
        """Find out who is there already."""
        request = v1.ListWorkersRequest(page_size=1_000)
        while True:
            answer = await self._agent.call(self._agent.client.workers.ListWorkers, request)
            for worker in answer.workers:
                self._came(worker)
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def _listen(self, heard: asyncio.Event) -> None:
        """Keep the board up to date; ``heard`` is set when it is for the first time, or fails."""
        counters = self._agent.counters
        counters.calls += 1
        watch = self._agent.client.watch(v1.WatchFilter(event_types=_EVENTS), include_state=True)
        resumes = 0
        try:
            async with watch:
                async for message in watch:
                    counters.calls += watch.resumes - resumes
                    resumes = watch.resumes
                    for event in message.events.events:
                        self._take(event)
                    if message.HasField("synced"):
                        heard.set()
                    if message.HasField("events"):
                        self._news.set()
        finally:
            heard.set()
            self._news.set()

    def _take(self, event: v1.Event) -> None:
        match event.type:
            case v1.EVENT_TYPE_WORKER_CONNECTED:
                self._came(event.worker)
                return
            case v1.EVENT_TYPE_WORKER_DISCONNECTED:
                self._board.worker_left(event.worker.id)
                return
            case v1.EVENT_TYPE_TASK_LEASE_EXPIRED:
                self._board.lease_expired(event.task_id)
            case _ if event.worker_id:
                self._board.heard_of(event.worker_id)
        ended = event.task.HasField("complete_time") or event.type == v1.EVENT_TYPE_TASK_DELETED
        self._board.task(event.task, ended=ended)

    def _came(self, worker: v1.Worker) -> None:
        if worker.id != self._agent.worker_id:
            self._board.worker_came(worker.id, frozenset(worker.tags))

    async def _news_came(self) -> bool:
        try:
            async with asyncio.timeout(self._still_s):
                return await self._news.wait()
        except TimeoutError:
            return False

    async def _is_over(self) -> bool:
        """Whether nothing is left that could become ready by itself."""
        if not self._board.at_rest:
            return False
        status = await self._agent.call(self._agent.client.admin.GetStatus, v1.GetStatusRequest())
        to_come = status.ready_tasks or status.claimed_tasks or status.delayed_tasks
        return not (to_come or (status.open_tasks and status.paused_subtrees))
