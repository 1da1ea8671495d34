"""Pulling by a Work stream: the server assigns, and is told on the same stream how tasks ended."""

import asyncio
import logging
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from taskloom import v1

from taskloom_client.errors import TaskloomError, WorkerNotFound
from taskloom_client.held_task import Ended, Ending, HeldTask
from taskloom_client.interceptors import with_request_id
from taskloom_client.pull import Pulled
from taskloom_client.work import Work

if TYPE_CHECKING:
    from taskloom_client.agent import Agent

_log = logging.getLogger(__name__)

_SHORTEST_GRACE = timedelta(seconds=1)
_LONGEST_GRACE = timedelta(days=1)
_WAITING_IS_OVER = {
    v1.CLAIM_OUTCOME_ALL_DONE,
    v1.CLAIM_OUTCOME_LIMIT_REACHED,
    v1.CLAIM_OUTCOME_ASSIGNED,
}


class PullStream:
    """Let the server choose, as by next, but over one stream for all that an agent does.

    Completing a task and getting the next is one round trip, and an agent that waits makes no
    calls. There is never more credit than there are attempts to get a task, so that none is
    assigned for which nobody waits. Claims outlive a broken stream by the agent's patience.
    """

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self._work: Work | None = None
        self._arrived: deque[HeldTask] = deque()
        # Why there is nothing for the credit on the stream at hand.
        self._outcome = v1.CLAIM_OUTCOME_UNSPECIFIED
        self._news = asyncio.Event()
        self._finishing: set[asyncio.Task[None]] = set()

    async def __call__(self, agent: "Agent") -> Pulled:
        """Wait for a task, until it is known that none will come or ``agent.wait`` has passed."""
        return await agent.insist(self._attempt)

    async def end(self, ending: Ending, *, go_on: bool = False) -> Ended:
        """End a task, and say how it is then. ``go_on``: somebody waits for the next one already.

        Raises TaskloomError.
        """
        named = with_request_id(ending)

        async def attempt() -> Ended:
            work = self._opened()
            credit = self._lacking(work) if go_on else 0
            match named:
                case v1.CompleteTaskRequest():
                    return await work.complete(named, credit=credit)
                case v1.FailTaskRequest():
                    return await work.fail(named, credit=credit)
                case _:
                    return await work.release(named, credit=credit)

        return await self._agent.insist(attempt)

    async def heartbeat(self) -> v1.HeartbeatResponse:
        """Give a sign of life. Raises TaskloomError."""
        return await self._agent.insist(lambda: self._opened().heartbeat())

    def settle(self) -> None:
        """See to it that no task comes, or lies here, for which nobody waits any more."""
        work = self._work
        if work is not None and work.credit + len(self._arrived) > self._agent.looking:
            self._let_go()
            finishing = asyncio.create_task(self._finish(work))
            self._finishing.add(finishing)
            finishing.add_done_callback(self._finishing.discard)

    async def renew(self) -> None:
        """Begin a new stream, for a worker that has connected again."""
        if (work := self._let_go()) is not None:
            await work.aclose(WorkerNotFound("the worker has connected again"))
            self._opened()

    async def aclose(self) -> None:
        """End the stream."""
        for finishing in self._finishing:
            finishing.cancel()
        if self._finishing:
            await asyncio.wait(self._finishing)
        if (work := self._let_go()) is not None:
            await work.aclose()

    def received(self, message: v1.WorkResponse | None) -> None:
        """Take what the server tells by itself."""
        if message is None:
            pass  # the stream itself says why
        elif message.HasField("started"):
            started = message.started
            self._agent.take_stock(started.worker, started.incarnation, started.held_tasks)
            self._agent.prompts = [one for one in started.prompts if not one.task_id]
        elif message.HasField("assigned"):
            for task in message.assigned.tasks:
                self._agent.counters.claims_tried += 1
                self._agent.counters.claims_granted += 1
                self._arrived.append(self._agent.hold(task, message.assigned.prompts))
        elif message.HasField("waiting"):
            self._outcome = message.waiting.outcome
        self._news.set()

    def sent(self, message: v1.WorkRequest) -> None:
        """Count it."""
        self._agent.counters.calls += 1

    async def _attempt(self) -> Pulled:
        try:
            async with asyncio.timeout(self._agent.wait.total_seconds()):
                while (pulled := self._without_waiting()) is None:
                    self._news.clear()
                    await self._news.wait()
                return pulled
        except TimeoutError:
            return self._none(self._outcome or v1.CLAIM_OUTCOME_NONE_READY, waited=True)

    def _without_waiting(self) -> Pulled | None:
        """What there is to say at once; None where it may help to wait."""
        while self._arrived:
            task = self._arrived.popleft()
            if not (task.begun or task.lost):
                return Pulled(task, v1.CLAIM_OUTCOME_CLAIMED)
        if self._agent.inherits:
            return Pulled(None, v1.CLAIM_OUTCOME_UNSPECIFIED, waited=True)
        work = self._opened()
        if work.credit and self._outcome in _WAITING_IS_OVER:
            return self._none(self._outcome)
        if lacking := self._lacking(work):
            work.grant(lacking)
        return None

    def _none(self, outcome: "v1.ClaimOutcome.ValueType", *, waited: bool = False) -> Pulled:
        self._agent.counters.empty_polls += 1
        return Pulled(None, outcome, waited=waited)

    def _lacking(self, work: Work) -> int:
        """How much credit to grant, so that there is enough for all attempts to get a task.

        The server says anew why there is nothing when credit is granted where none was.
        """
        if not work.credit:
            self._outcome = v1.CLAIM_OUTCOME_UNSPECIFIED
        return max(0, self._agent.looking - len(self._arrived) - work.credit)

    def _opened(self) -> Work:
        """The stream at hand, or where there is none, a new one. Raises what ended the last one."""
        if self._work is not None and self._work.error is not None:
            error = self._work.error
            self._let_go()
            raise error
        if self._work is None:
            agent = self._agent
            grace = min(max(timedelta(seconds=agent.patience), _SHORTEST_GRACE), _LONGEST_GRACE)
            self._work = agent.client.work(
                agent.worker_id, order_by=agent.order_by, grace=grace, listener=self
            )
            self._work.open()
        return self._work

    def _let_go(self) -> Work | None:
        """The stream that was at hand and is not any more; who waits opens another one."""
        work, self._work = self._work, None
        self._news.set()
        return work

    async def _finish(self, work: Work) -> None:
        """Take back the credit of a stream, give back what came by it for nobody, and end it."""
        try:
            await work.drain()
            while len(self._arrived) > self._agent.looking:
                task = self._arrived.pop()
                if not (task.begun or task.lost):
                    self._agent.let_go(task)
                    await work.release(
                        v1.ReleaseTaskRequest(
                            task_id=task.id,
                            claim_revision=task.claim_revision,
                            reason="nobody waits for it any more",
                        )
                    )
            await work.finish()
        except WorkerNotFound:
            pass  # the agent has left, and nothing is its any more
        except TaskloomError as error:
            _log.warning("worker %s: no good end of its stream: %s", self._agent.worker_id, error)
        finally:
            await work.aclose()
