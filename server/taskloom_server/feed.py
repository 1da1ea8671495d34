"""The feed: "the revision is now N". It holds no events, and lives on the event loop."""

import asyncio


class Feed:
    """Tells everybody who waits that a later revision has been committed."""

    def __init__(self, revision: int, incarnation: str) -> None:
        self.revision = revision
        self.incarnation = incarnation
        self.closed = False
        self._changed = asyncio.Event()

    def announce(self, revision: int, incarnation: str) -> None:
        """The revision is now this one. Called on the event loop."""
        if (revision, incarnation) != (self.revision, self.incarnation):
            self.revision, self.incarnation = revision, incarnation
            self._wake()

    def close(self) -> None:
        """There will be no later revision: the server is going."""
        self.closed = True
        self._wake()

    async def beyond(self, revision: int, incarnation: str) -> None:
        """Return once the revision is beyond this one, or can never be."""
        while self.revision <= revision and self.incarnation == incarnation and not self.closed:
            await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
