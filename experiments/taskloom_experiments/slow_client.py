"""A client that responds slowly: some time passes before each of its calls."""

import asyncio
from typing import Any, cast

from taskloom_client import Client

_STUBS = ("workers", "tasks", "claims", "files", "attachments", "admin")


def slow(client: Client, seconds: float) -> Client:
    """The client, each of whose calls is made so many real seconds late; at 0 the client itself.

    Streams are not slowed: who is told something by one has yet to react to it.
    """
    return cast(Client, _SlowClient(client, seconds)) if seconds else client


class _SlowClient:
    def __init__(self, client: Client, seconds: float) -> None:
        for name in _STUBS:
            setattr(self, name, _SlowStub(getattr(client, name), seconds))
        self.watch = client.watch
        self.work = client.work


class _SlowStub:
    """A stub as generated, whose every method waits first."""

    def __init__(self, stub: object, seconds: float) -> None:
        self._stub = stub
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._stub, name)
        seconds = self._seconds

        async def call(request: object, **options: Any) -> object:
            await asyncio.sleep(seconds)
            return await method(request, **options)

        return call
