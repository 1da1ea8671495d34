"""Getting tasks by waiting in the stream for what is assigned to one: no queue is looked at."""

import asyncio
import random

from taskloom import v1
from taskloom_client import Agent, Pulled
from taskloom_client.pull import claim

from taskloom_experiments.following import Following
from taskloom_experiments.modes import PART


class PullAssigned:
    """Wait for an assignment and begin it, for one agent.

    With ``helps``, as in hybrid runs, who has no assignment takes a part that another agent made of
    its task and nobody has begun: any of those it knows, by the luck of its seed, for if all who
    are free reached for the first they would get in each other's way.

    Who waits makes no calls; whenever the graph has changed and is quiet again, two calls see what
    is left to wait for.
    """

    def __init__(self, *, helps: bool = False, seed: int = 1) -> None:
        self._helps = helps
        self._seed = seed
        self._news = asyncio.Event()
        self._assigned: Following | None = None
        self._parts: Following | None = None
        self._luck = random.Random(seed)
        self._waiting = False
        self._seen_at = 0

    async def __call__(self, agent: Agent) -> Pulled:
        """Begin what is assigned; where nothing is, wait until there is news."""
        assigned, parts = self._follow(agent)
        while True:
            self._news.clear()
            await agent.insist(assigned.follow)
            if parts is not None:
                await agent.insist(parts.follow)
            if assigned.tasks:
                source, task_id = assigned, next(iter(assigned.tasks))
            elif parts is not None and parts.tasks:
                source, task_id = parts, self._luck.choice(list(parts.tasks))
            else:
                if await self._news_or_look(agent, assigned):
                    continue
                agent.counters.empty_polls += 1
                return Pulled(None, v1.CLAIM_OUTCOME_NONE_READY, waited=True)
            pulled = await claim(agent, task_id)
            if pulled.task is None and pulled.outcome != v1.CLAIM_OUTCOME_UNSPECIFIED:
                return pulled
            source.tasks.pop(task_id, None)
            if pulled.task is not None:
                self._waiting = False
                return pulled

    async def aclose(self) -> None:
        """End the watches."""
        for following in (self._assigned, self._parts):
            if following is not None:
                await following.aclose()

    def _follow(self, agent: Agent) -> tuple[Following, Following | None]:
        if self._assigned is None:
            self._luck = random.Random(f"{self._seed}:{agent.worker_id}")
            mine = v1.WatchFilter(assignee=agent.worker_id)
            self._assigned = Following(agent, mine, self._news)
            if self._helps:
                of_others = v1.WatchFilter(ready_for=agent.worker_id, tags=[PART])
                self._parts = Following(agent, of_others, self._news)
        return self._assigned, self._parts

    async def _news_or_look(self, agent: Agent, following: Following) -> bool:
        """Wait for news. False: see what is left to wait for.

        That is at once when the waiting begins, then whenever something else has changed and it has
        become quiet, and at the latest after ``agent.wait``, for the server may be gone.
        """
        if not self._waiting:
            self._waiting = True
            self._seen_at = following.heard_at
            return False
        try:
            async with asyncio.timeout(agent.wait.total_seconds()):
                await self._news.wait()
        except TimeoutError:
            return False
        if following.quiet_at <= self._seen_at:
            return True
        self._seen_at = following.quiet_at
        return False
