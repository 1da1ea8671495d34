"""A watch as it is on the wire, and what its messages say: shared by the tests beside this file."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from grpc import aio
from taskloom import v1
from taskloom_client import Client
from taskloom_client.interceptors import interceptors

Message: TypeAlias = v1.WatchTasksResponse
Stream: TypeAlias = AsyncIterator[Message]
Told: TypeAlias = tuple[str, str]
"""An event by its type's name, without the prefix, and its task's id."""


@asynccontextmanager
async def watching(client: Client, **request: Any) -> AsyncIterator[Stream]:
    """A watch by the bare call, as it is on the wire; it ends with the context."""
    call = client.watches.WatchTasks(v1.WatchTasksRequest(**request))
    try:
        async with asyncio.timeout(30):
            yield aiter(call)
    finally:
        call.cancel()


@asynccontextmanager
async def watching_slowly(address: str, **request: Any) -> AsyncIterator[Stream]:
    """A watch on a connection of its own, whose window does not grow: unless it is read, the
    server is held up after some 90 KB, where gRPC would else take 5 MB from it.
    """
    options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    channel = aio.insecure_channel(address, options, interceptors=interceptors(address, None))
    call = v1.WatchServiceStub(channel).WatchTasks(v1.WatchTasksRequest(**request))
    try:
        async with asyncio.timeout(60):
            yield aiter(call)
    finally:
        call.cancel()
        await channel.close()


async def until(stream: Stream, revision: int) -> list[Message]:
    """The messages up to the one that says that the stream is so far, included."""
    messages = []
    async for message in stream:
        messages.append(message)
        if message.revision >= revision:
            return messages
    raise AssertionError(f"the watch ended before revision {revision}")


async def all_of(stream: Stream, messages: list[Message]) -> None:
    """Add what a watch still has to tell, up to its end, which is an error."""
    async for message in stream:
        messages.append(message)


async def heard(client: Client, revision: int, **request: Any) -> list[Message]:
    """The messages of a watch of its own, without `created`, up to a revision."""
    async with watching(client, **request) as stream:
        created = await anext(stream)
        assert created.WhichOneof("content") == "created"
        return await until(stream, revision) if created.revision < revision else []


def events_of(messages: Iterable[Message]) -> list[v1.Event]:
    """The events alone, in order."""
    return [event for message in messages for event in message.events.events]


def told(messages: Iterable[Message]) -> list[Told]:
    """The events of messages by type and task."""
    return [(name_of(event), event.task_id) for event in events_of(messages)]


def name_of(event: v1.Event) -> str:
    """The name of an event's type, without its prefix."""
    return v1.EventType.Name(event.type).removeprefix("EVENT_TYPE_")


def wire(messages: Iterable[Message]) -> list[bytes]:
    """The messages about revisions as bytes; what a resumed stream must repeat exactly."""
    return [
        message.SerializeToString(deterministic=True)
        for message in messages
        if message.WhichOneof("content") == "events"
    ]
