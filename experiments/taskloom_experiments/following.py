"""The tasks that match a filter, kept up to date by one watch, as they were told last."""

import asyncio
from datetime import timedelta

from taskloom import v1
from taskloom_client import Agent, TaskloomError

_LEAST_QUIET = timedelta(seconds=1)
"""How long nothing may happen until the stream says so: the least that there is."""


class Following:
    """The tasks that match a filter, oldest knowledge first, for one agent.

    ``news`` is set whenever something was heard; several may share one. Nothing is heard before
    ``follow``, which is to be awaited before each use: it begins the watch anew where it broke.
    """

    def __init__(self, agent: Agent, only: v1.WatchFilter, news: asyncio.Event) -> None:
        self.tasks: dict[str, v1.Task] = {}
        self.heard_at = 0
        """The revision up to which all is known."""
        self.quiet_at = 0
        """The revision at which it was told last that there was nothing to tell."""
        self._agent = agent
        self._only = only
        self._news = news
        self._reading: asyncio.Task[None] | None = None
        self._error: TaskloomError | None = None
        self._synced = asyncio.Event()

    async def follow(self) -> None:
        """See to it that there is a watch, and that it has told how things stand.

        Raises TaskloomError where that fails. A watch that ends later is only begun anew.
        """
        if self._reading is None or self._reading.done():
            self.tasks.clear()
            self._error = None
            self._synced.clear()
            self.heard_at = self.quiet_at = 0
            self._reading = asyncio.create_task(self._read())
        await self._synced.wait()
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        """End the watch."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        counters = self._agent.counters
        quiet = max(_LEAST_QUIET, self._agent.shortest_wait / 10)
        watch = self._agent.client.watch(self._only, include_state=True, progress_interval=quiet)
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
            self._synced.set()
            self._news.set()

    def _take(self, message: v1.WatchTasksResponse) -> None:
        for event in message.events.events:
            if event.left_filter:
                self.tasks.pop(event.task_id, None)
            elif event.HasField("task"):
                self.tasks[event.task_id] = event.task
        self.heard_at = max(self.heard_at, message.revision)
        if message.HasField("progress"):
            self.quiet_at = message.revision
        if message.HasField("synced"):
            self._synced.set()
