"""Pulling by a watch: an agent is told what is ready, and claims the best of what it knows."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import timedelta
from math import log2
from typing import TYPE_CHECKING, TypeAlias

from taskloom import v1

from taskloom_client.backoff import delays
from taskloom_client.errors import TaskloomError
from taskloom_client.pull import Pulled, claim

if TYPE_CHECKING:
    from taskloom_client.agent import Agent

_Rank: TypeAlias = tuple[bool, float, int, str]
_Known: TypeAlias = tuple[_Rank, str]
"""What sorts a ready task, and its workflow."""

_DAY_NS = 86_400 * 10**9
_LONGEST_REST_S = 1.0

# How long nothing may happen until an agent that waits sees what is left to wait for: of its
# shortest wait. A second, unless it is told to wait longer than usual. At rest the stream says
# nothing more for half a minute.
_QUIET = 0.1
_SHORTEST_QUIET, _LONGEST_QUIET = timedelta(seconds=1), timedelta(hours=1)


class PullWatch:
    """Choose oneself, among what one watch of all that is ready tells: no calls but the claims.

    All agents are told the same and all try the best task first, so that one of them is given it
    and the others are refused. Who knows of none waits for the stream; whenever the graph has
    changed and is quiet again, two calls see what is left to wait for.

    Tasks of a workflow that has no room for another are passed over for a while, which grows to a
    second. When there is room, the stream does not tell.
    """

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self._reading: asyncio.Task[None] | None = None
        self._error: TaskloomError | None = None
        self._synced = False
        self._ready: dict[str, _Known] = {}
        self._full: dict[str, Pulled] = {}  # workflows that are passed over for now
        self._rests = self._new_rests()
        self._news = asyncio.Event()
        self._waiting = False
        # The revisions up to which the stream has told everything, up to which it then told that
        # there was nothing to tell, and at which it was last seen what is left to wait for.
        self._heard_at = 0
        self._quiet_at = 0
        self._seen_at = 0

    async def __call__(self, agent: "Agent") -> Pulled:
        """Claim the best task that is known; where none is, wait until there is news."""
        while True:
            await agent.insist(self._follow)
            if not self._ready:
                if await self._news_or_look():
                    continue
                agent.counters.empty_polls += 1
                await agent.find_held()  # no claim is made that would be refused for these
                return Pulled(None, v1.CLAIM_OUTCOME_NONE_READY, waited=True)
            best = self._best()
            if best is None:
                if await self._news_of_another():
                    continue
                refused, self._full = next(iter(self._full.values())), {}
                return replace(refused, waited=True)
            (*_, task_id), workflow = best
            pulled = await claim(agent, task_id)
            if pulled.of_workflow:
                self._full[workflow] = pulled
                continue
            if pulled.outcome == v1.CLAIM_OUTCOME_PAUSED:
                await agent.insist(self._resumed)
                return Pulled(None, pulled.outcome, waited=True)
            if pulled.task is None and pulled.outcome != v1.CLAIM_OUTCOME_UNSPECIFIED:
                return pulled
            if self._ready.get(task_id) is best:  # and not told of anew meanwhile
                del self._ready[task_id]
            if pulled.task is not None:
                self._waiting = False
                self._full.clear()
                self._rests = self._new_rests()
                return pulled

    async def aclose(self) -> None:
        """End the watch."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _follow(self) -> None:
        """See to it that there is a watch, and that it has told how things stand.

        Raises TaskloomError where that fails. A watch that ends later is only begun anew.
        """
        if self._ended():
            self._ready.clear()
            self._full.clear()
            self._error = None
            self._synced = self._waiting = False
            self._heard_at = self._quiet_at = 0
            self._reading = asyncio.create_task(self._read())
        while not (self._synced or self._ended()):
            if not await self._news_came():
                return
        if not self._synced and self._error is not None:
            raise self._error

    async def _read(self) -> None:
        """Keep what is ready, and how far that is true, up to date."""
        counters = self._agent.counters
        only = v1.WatchFilter(ready_for=self._agent.worker_id)
        quiet = min(max(_QUIET * self._agent.shortest_wait, _SHORTEST_QUIET), _LONGEST_QUIET)
        watch = self._agent.client.watch(only, include_state=True, progress_interval=quiet)
        counters.calls += 1
        resumes = 0
        try:
            async with watch:
                async for message in watch:
                    counters.calls += watch.resumes - resumes
                    resumes = watch.resumes
                    self._take(message)
                    self._news.set()
        except TaskloomError as error:
            self._error = error
        finally:
            self._news.set()

    def _take(self, message: v1.WatchTasksResponse) -> None:
        for event in message.events.events:
            if event.left_filter:
                self._ready.pop(event.task_id, None)
            elif event.HasField("task"):
                self._ready[event.task_id] = self._rank(event), event.task.workflow
        self._synced = self._synced or message.HasField("synced")
        self._heard_at = max(self._heard_at, message.revision)
        if message.HasField("progress"):
            self._quiet_at = message.revision

    def _rank(self, event: v1.Event) -> _Rank:
        """What sorts tasks as ClaimNextTask takes them."""
        task = event.task
        first = float(task.priority)
        if self._agent.order_by == v1.ORDER_BY_TEMPERATURE:
            # All temperatures halve in a day, so what was warm a day later is twice as warm.
            first = log2(max(task.temperature, 1e-300)) + event.time.ToNanoseconds() / _DAY_NS
        return bool(task.advisory_claims), -first, task.create_time.ToNanoseconds(), task.id

    async def _news_or_look(self) -> bool:
        """Wait for news, of which there may be none. False: see what is left to wait for.

        That is at once when the waiting begins, then whenever things that are not told here have
        changed and it has become quiet, and at the latest after ``agent.wait``, for the server may
        be gone.
        """
        if not self._waiting:
            self._waiting = True
            self._seen_at = self._heard_at
            return False
        if not await self._news_came():
            return False
        if self._quiet_at <= self._seen_at:
            return True
        self._seen_at = self._quiet_at
        return False

    def _best(self) -> _Known | None:
        """The best task that is not passed over."""
        known = (one for one in self._ready.values() if one[1] not in self._full)
        return min(known, default=None)

    async def _news_of_another(self) -> bool:
        """Wait for a task of a workflow that is not passed over. False: for long enough."""
        with suppress(TimeoutError):
            async with asyncio.timeout(next(self._rests)):
                while self._ready and self._best() is None and not self._ended():
                    self._news.clear()
                    await self._news.wait()
                return True
        return False

    def _ended(self) -> bool:
        return self._reading is None or self._reading.done()

    def _new_rests(self) -> Iterator[float]:
        """How long it passes over what has no room, one time after another, in seconds."""
        first = self._agent.idle_interval
        return delays(first, max(first, _LONGEST_REST_S))

    async def _news_came(self) -> bool:
        self._news.clear()
        try:
            async with asyncio.timeout(self._agent.wait.total_seconds()):
                return await self._news.wait()
        except TimeoutError:
            return False

    async def _resumed(self) -> None:
        """Wait until claims go on. Raises TaskloomError."""
        client, counters = self._agent.client, self._agent.counters
        counters.calls += 2
        only = v1.WatchFilter(event_types=[v1.EVENT_TYPE_RESUMED])
        async with client.watch(only) as watch, aclosing(watch.events()) as events:
            status = await client.admin.GetStatus(v1.GetStatusRequest())
            if status.HasField("paused"):
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._agent.wait.total_seconds()):
                        await anext(events)
