"""An agent: takes one task after another from a server, hands them over, and ends them.

Here is what an agent is over time: its connection and its signs of life, the order in which it
looks for work and rests, and what becomes of its tasks when it goes. How it gets a task is in
``pull``, ``pull_watch`` and ``pull_stream``, what can be done with one in ``held_task``.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import grpc
from grpc import aio
from taskloom import v1

from taskloom_client.backoff import delays
from taskloom_client.client import Client
from taskloom_client.counters import Counters
from taskloom_client.durations import proto_duration
from taskloom_client.errors import NotFound, TaskloomError, WorkerNotFound
from taskloom_client.held_task import Ended, Ending, HeldTask, is_loss, is_parked
from taskloom_client.interceptors import with_request_id
from taskloom_client.pull import Closable, Pull, Pulled, pull_next, pull_poll
from taskloom_client.pull_stream import PullStream
from taskloom_client.pull_watch import PullWatch

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_log = logging.getLogger(__name__)

_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 2.0
_LONGEST_IDLE_S = 1.0
# How long an agent waits for a task until it sees whether there is anything left to wait for: a
# thousand that wait on a graph at rest must cost next to nothing.
_SHORTEST_WAIT = timedelta(seconds=10)
_LONGEST_WAIT = timedelta(minutes=5)
# What an agent that leaves may spend on saying so. Who hears nothing waits for the lease.
_FAREWELL_S = 5.0
_LONGEST_REASON = 1_000
# Refusals to begin a task that is the worker's: it is not, or not to be worked on.
_NOT_TO_BEGIN = {"TASK_CLAIMED", "ILLEGAL_TRANSITION"}
# Outcomes that something may have been assigned to the worker.
_HELD_MEANWHILE = {
    v1.CLAIM_OUTCOME_LIMIT_REACHED,
    v1.CLAIM_OUTCOME_ROLE_FORBIDS,
    v1.CLAIM_OUTCOME_ASSIGNED,
}
_NOTHING_READY = {v1.CLAIM_OUTCOME_NONE_READY, v1.CLAIM_OUTCOME_ROLE_FORBIDS}


PULLS: dict[str, Callable[["Agent"], Pull]] = {
    "next": lambda _: pull_next,
    "stream": PullStream,
    "watch": PullWatch,
    "poll": lambda _: pull_poll,
}
"""The ways of pulling that are known by name, each for one agent."""


class Agent:
    """A worker that takes tasks, one after another, until there is nothing left to do.

        async with Agent(client, tags=["python"]) as agent:
            async for task in agent.tasks():
                await task.attach("note", do_the_work(task.task))

    Entering it connects the worker, leaving it disconnects. When the body leaves with tasks in
    hand they are failed, to be retried, where it raised an exception, and released where it was
    cancelled or just left. In between, heartbeats keep the claims alive.

    A server that is down or restarts is waited for: every call is repeated, with its request_id,
    for up to ``patience`` seconds. A server that no longer knows the worker, as after a reset, is
    connected to again.

    ``worker_id``, ``tags``, ``workflow``, ``max_claims``, ``lease`` and ``cool_down`` are those of
    ConnectRequest. ``pull`` is how it gets tasks: "next", "stream", "watch", "poll", or a Pull of
    one's own. ``order_by`` is which of the ready tasks it takes first: ORDER_BY_PRIORITY, or
    ORDER_BY_TEMPERATURE. ``idle_interval`` is how many seconds it rests first where it asks again
    and again; it grows to one second. ``shortest_wait`` is how long an attempt that waits for a
    task goes on before the agent sees what is left to wait for; while nothing changes it grows to
    five minutes.
    """

    def __init__(
        self,
        client: Client,
        worker_id: str = "",
        *,
        tags: Iterable[str] = (),
        workflow: str = "",
        max_claims: int = 1,
        lease: timedelta | None = None,
        cool_down: timedelta | None = None,
        pull: str | Pull = "next",
        order_by: "v1.OrderBy.ValueType" = v1.ORDER_BY_PRIORITY,
        patience: float = 60.0,
        idle_interval: float = 0.2,
        shortest_wait: timedelta = _SHORTEST_WAIT,
    ) -> None:
        if isinstance(pull, str) and pull not in PULLS:
            raise ValueError(f"no way of pulling is called {pull!r}; there are {', '.join(PULLS)}")
        self.client = client
        self.worker_id = worker_id
        """The worker's id; once connected, never empty."""
        self.worker = v1.Worker()
        """The registration, as the server told last."""
        self.incarnation = ""
        """Which life of the database the agent is connected to."""
        self.prompts: list[v1.Prompt] = []
        """What the workflow says to the worker as it connects, of no task in particular."""
        self.order_by = order_by
        self.patience = patience
        self.idle_interval = idle_interval
        self.counters = Counters()
        self.looking = 0
        self.shortest_wait = shortest_wait
        self._longest_wait = max(shortest_wait, _LONGEST_WAIT)
        self.wait = self.shortest_wait
        """How long an attempt at getting a task waits before the agent sees what is left."""
        self._revision = -1
        """How many iterations of ``tasks`` wait for a task."""
        self._registration = v1.ConnectRequest(
            tags=tags,
            workflow=workflow,
            max_claims=max_claims,
            lease=proto_duration(lease),
            cool_down=proto_duration(cool_down),
        )
        self._pull: Pull = PULLS[pull](self) if isinstance(pull, str) else pull
        self._stream = self._pull if isinstance(self._pull, PullStream) else None
        # What it holds, by task and claim, but not what is parked: that is in nobody's hands.
        self._at_hand: dict[tuple[str, int], HeldTask] = {}
        self._inherited: deque[v1.Task] = deque()
        # What was assigned to it and cannot begin for now: tried again after each attempt to pull.
        self._put_off: dict[tuple[str, int], v1.Task] = {}
        self._holds_more = False
        # Taking tasks and counting what is held must not cross: a task could be handed out twice.
        self._taking = asyncio.Lock()
        self._connecting = asyncio.Lock()
        self._connections = 0
        self._heartbeat: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._connect()
        except asyncio.CancelledError:
            await self._leave(None)
            raise
        self._heartbeat = asyncio.create_task(self._beat(), name=f"heartbeat of {self.worker_id}")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.wait([self._heartbeat])
        end: Callable[[HeldTask], Awaitable[object]] | None = None
        if isinstance(exc, Exception):
            end = partial(HeldTask.fail, reason=_reason(exc), retry=True)
        elif exc is not None:
            end = partial(HeldTask.release, reason="cancelled")
        try:
            await self._leave(end)
        finally:
            if isinstance(self._pull, Closable):
                await self._pull.aclose()

    async def tasks(self) -> AsyncGenerator[HeldTask, None]:
        """Tasks to work on, each held by the worker until it ends.

        Whoever comes back for the next one without having ended or parked the last has completed
        it. A claim that is lost meanwhile ends nothing but the work on that task.

        What the worker holds from an earlier connection comes first. The iteration is over when
        nothing is left that could become ready by itself: nothing ready, nothing claimed by
        anybody, nothing waiting for its time, nothing paused. It may be run several times at once,
        where the worker's ``max_claims`` allows that.
        """
        clock = asyncio.get_running_loop().time
        task = await self._next(None)
        while task is not None:
            begun = clock()
            try:
                yield task
            finally:
                self.counters.seconds_working += clock() - begun
            task = await self._next(task)

    async def call(
        self,
        method: aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is the call's, not this coroutine's
    ) -> _Response:
        """Make a call as this agent makes its own: see ``insist``. Always by one request_id.

        ``timeout``: the deadline of each attempt, in seconds; None: the client's.
        """
        return await self.insist(self._calling(method, with_request_id(request), timeout))

    async def insist(self, attempt: Callable[[], Awaitable[_Response]]) -> _Response:
        """Repeat an attempt while the server is away and patience lasts; connect if need be.

        Raises TaskloomError.
        """
        connection = self._connections
        try:
            return await self._patiently(attempt)
        except WorkerNotFound:
            async with self._connecting:
                if connection == self._connections:  # nobody else connected meanwhile
                    await self._connect()
            return await self._patiently(attempt)

    async def end(self, ending: Ending, *, go_on: bool = False) -> Ended:
        """End a task, the way that this agent pulls, and say how it is then.

        Raises TaskloomError.
        """
        if self._stream is not None:
            return await self._stream.end(ending, go_on=go_on)
        claims = self.client.claims
        match ending:
            case v1.CompleteTaskRequest():
                return await self.call(claims.CompleteTask, ending)
            case v1.FailTaskRequest():
                return await self.call(claims.FailTask, ending)
            case _:
                return await self.call(claims.ReleaseTask, ending)

    def hold(self, task: v1.Task, prompts: Iterable[v1.Prompt] = ()) -> HeldTask:
        """Note that the worker holds a task; once for each claim, however often it is told.

        ``prompts``: those that came with it, of which the task's own are taken.
        """
        held = self._at_hand.get((task.id, task.claim_revision))
        if held is None or held.lost:
            held = HeldTask(self, task)
            self.keep(held)
        held.hear(prompts)
        return held

    def keep(self, task: HeldTask) -> None:
        """Note that a task is in somebody's hands."""
        self._at_hand[task.id, task.claim_revision] = task

    def let_go(self, task: HeldTask) -> None:
        """Note that a task is in nobody's hands any more: it ended, was lost, or is parked."""
        if self._at_hand.get((task.id, task.claim_revision)) is task:
            del self._at_hand[task.id, task.claim_revision]

    @property
    def inherits(self) -> bool:
        """True when the worker holds tasks that are in nobody's hands yet."""
        return bool(self._inherited)

    async def find_held(self) -> None:
        """Look for tasks that the worker holds in nobody's hands, as those that a lead assigns."""
        held = await self.call(
            self.client.tasks.ListTasks,
            v1.ListTasksRequest(owner=self.worker_id, claimed=True, page_size=1_000),
        )
        self._inherit(held.tasks)

    def take_stock(self, worker: v1.Worker, incarnation: str, held: Iterable[v1.Task]) -> None:
        """Take over what the server says of the worker, and find out what is lost and what new."""
        self.worker = worker
        self.worker_id = worker.id
        self.incarnation = incarnation
        tasks = list(held)
        claims = {task.id: task.claim_revision for task in tasks}
        for task in self._at_hand.values():
            if not task.ending and claims.get(task.id) != task.claim_revision:
                task.lost_event.set()
        self._inherit(tasks)

    def _calling(
        self,
        method: aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        timeout: float | None = None,
    ) -> Callable[[], Awaitable[_Response]]:
        async def attempt() -> _Response:
            self.counters.calls += 1
            return await method(request, timeout=timeout)

        return attempt

    async def _patiently(self, attempt: Callable[[], Awaitable[_Response]]) -> _Response:
        """Repeat the attempt while the server is away and patience lasts."""
        clock = asyncio.get_running_loop().time
        pauses = delays(_FIRST_RETRY_S, _LONGEST_RETRY_S)
        give_up: float | None = None
        while True:
            try:
                return await attempt()
            except TaskloomError as error:
                advised = error.retry_delay.total_seconds() if error.retry_delay else 0.0
                pause = max(next(pauses), advised)
                give_up = give_up or clock() + self.patience
                if not error.transient or clock() + pause > give_up:
                    raise
            await asyncio.sleep(pause)

    async def _connect(self) -> None:
        request = v1.ConnectRequest(worker_id=self.worker_id)
        request.MergeFrom(self._registration)
        named = with_request_id(request)
        answer = await self._patiently(self._calling(self.client.workers.Connect, named))
        self._connections += 1
        self.take_stock(answer.worker, answer.incarnation, answer.held_tasks)
        self.prompts = [one for one in answer.prompts if not one.task_id]
        if self._stream is not None:
            await self._stream.renew()

    def _inherit(self, held: Iterable[v1.Task]) -> None:
        """Note which of the held tasks are in nobody's hands yet."""
        at_hand = {task.id for task in self._at_hand.values() if not task.lost}
        found = {
            (task.id, task.claim_revision): task
            for task in held
            if task.id not in at_hand and not is_parked(task)
        }
        self._inherited = deque(task for claim, task in found.items() if claim not in self._put_off)
        self._put_off = {claim: task for claim, task in found.items() if claim in self._put_off}

    async def _beat(self) -> None:
        """Give a sign of life every third of the lease, and notice claims that are gone."""
        while True:
            await asyncio.sleep(self.worker.lease.ToTimedelta().total_seconds() / 3 or 300.0)
            try:
                answer = await self._sign_of_life()
                self.worker = answer.worker
                working = len(self._working_on())
                if answer.worker.claims_held < working:
                    await self._find_lost()
                self._holds_more = answer.worker.claims_held > working
            except TaskloomError as error:
                _log.warning("no heartbeat of worker %s: %s", self.worker_id, error)

    async def _sign_of_life(self) -> v1.HeartbeatResponse:
        if self._stream is not None:
            return await self._stream.heartbeat()
        request = v1.HeartbeatRequest(worker_id=self.worker_id)
        return await self.call(self.client.workers.Heartbeat, request)

    def _working_on(self) -> list[HeldTask]:
        held = self._at_hand.values()
        return [task for task in held if not (task.ended or task.ending or task.lost)]

    async def _find_lost(self) -> None:
        for task in self._working_on():
            try:
                answer = await self.call(
                    self.client.tasks.GetTask, v1.GetTaskRequest(task_id=task.id)
                )
            except NotFound:
                task.lost_event.set()
                continue
            claim = (answer.task.worker_id, answer.task.claim_revision)
            if claim != (self.worker_id, task.claim_revision) and not (task.ending or task.ended):
                task.lost_event.set()

    async def _next(self, last: HeldTask | None) -> HeldTask | None:
        """The next task; the last one is completed, if nothing else was said of it."""
        self.looking += 1
        try:
            if last is not None:
                if not (last.ended or last.parked):
                    await last.complete(go_on=True)
                self.let_go(last)
            return await self._look_for_work()
        finally:
            self.looking -= 1
            if self._stream is not None:
                self._stream.settle()

    async def _look_for_work(self) -> HeldTask | None:
        """The next task, once there is one; None when there will be none."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        pauses = delays(self.idle_interval, max(self.idle_interval, _LONGEST_IDLE_S))
        try:
            while True:
                async with self._taking:
                    pulled = await self._take()
                    if (task := pulled.task) is not None:
                        if task.begun:
                            continue  # it was told of twice
                        task.begun = True
                        return task
                    if await self._is_over(pulled):
                        return None
                if self._inherited or pulled.waited:
                    continue
                pause = next(pauses)
                if pulled.retry_after is not None:
                    pause = pulled.retry_after.total_seconds()
                await asyncio.sleep(pause)
        finally:
            self.counters.seconds_idle += clock() - begun

    async def _take(self) -> Pulled:
        """A task held from before, else what pulling brings."""
        if self._holds_more:
            self._holds_more = False
            await self.find_held()
        self._inherited.extend(self._put_off.values())
        self._put_off.clear()
        while self._inherited:
            taken = await self._take_up(self._inherited.popleft())
            if taken is not None:
                held = self.hold(taken.task, taken.prompts)
                return Pulled(held, v1.CLAIM_OUTCOME_CLAIMED)
        if self._put_off:
            self.wait = self.shortest_wait
        pulled = await self._pull(self)
        if pulled.outcome in _HELD_MEANWHILE:
            await self.find_held()
        return pulled

    async def _take_up(self, task: v1.Task) -> v1.ClaimTaskResponse | None:
        """The task as it is once this worker has (again) begun it; None when it has not."""
        try:
            return await self.call(
                self.client.claims.ClaimTask,
                v1.ClaimTaskRequest(worker_id=self.worker_id, task_id=task.id),
            )
        except TaskloomError as error:
            if is_loss(error) or error.reason in _NOT_TO_BEGIN:
                return None
            if error.reason == "BUDGET_EXCEEDED" and await self._is_begun(task):
                # It costs nothing more to hold, and its work may be brought to an end.
                return v1.ClaimTaskResponse(task=task)
            if (
                error.code is grpc.StatusCode.FAILED_PRECONDITION
                or error.reason == "WORKFLOW_NOT_FOUND"
            ):
                self._put_off[task.id, task.claim_revision] = task
                return None
            raise

    async def _is_begun(self, task: v1.Task) -> bool:
        """Whether a held task is not just assigned."""
        request = v1.GetWorkflowRequest(name=task.workflow)
        answer = await self.call(self.client.admin.GetWorkflow, request)
        return task.status != answer.workflow.assign_state

    async def _is_over(self, pulled: Pulled) -> bool:
        if pulled.outcome == v1.CLAIM_OUTCOME_ALL_DONE:
            return True
        if pulled.outcome in {v1.CLAIM_OUTCOME_PAUSED, v1.CLAIM_OUTCOME_WIP_LIMIT}:
            self._wait_longer()
        if pulled.outcome not in _NOTHING_READY:
            return False
        status = await self.call(self.client.admin.GetStatus, v1.GetStatusRequest())
        self._wait_longer(unless_changed=status.revision)
        to_come = status.ready_tasks or status.claimed_tasks or status.delayed_tasks
        return not (to_come or (status.open_tasks and status.paused_subtrees))

    def _wait_longer(self, unless_changed: int | None = None) -> None:
        """Look for what is left ever more rarely, while the graph rests as well."""
        if unless_changed is not None and unless_changed != self._revision:
            self._revision = unless_changed
            self.wait = self.shortest_wait
        else:
            self.wait = min(4 * self.wait, self._longest_wait)

    async def _leave(self, end: Callable[[HeldTask], Awaitable[object]] | None) -> None:
        """End the tasks that are worked on, if need be, and disconnect; within a few seconds."""
        unfinished = [task for task in self._at_hand.values() if task.begun and not task.ended]
        goodbye = v1.DisconnectRequest(worker_id=self.worker_id)
        try:
            async with asyncio.timeout(_FAREWELL_S):
                if end is not None:
                    for task in unfinished:
                        await self._farewell(end(task))
                if self.worker_id:
                    attempt = self._calling(self.client.workers.Disconnect, goodbye)
                    await self._farewell(self._patiently(attempt))
        except TimeoutError:
            _log.warning("worker %s left without the server's knowledge", self.worker_id)

    async def _farewell(self, last_words: Awaitable[object]) -> None:
        try:
            await last_words
        except WorkerNotFound:
            pass  # nothing is its any more
        except TaskloomError as error:
            _log.warning("worker %s left in disorder: %s", self.worker_id, error)


def _reason(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text[:_LONGEST_REASON]
