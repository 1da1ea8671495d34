"""History is bounded: what is kept, and what a watch is told that wants more."""

import asyncio
from typing import Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

HOUR_MS = 3_600_000


async def _create(client: Client, count: int) -> int:
    """Make so many tasks at once, each a revision of its own; the last revision."""
    request = v1.CreateTaskRequest(title="t")
    made = await asyncio.gather(*(client.tasks.CreateTask(request) for _ in range(count)))
    return max(answer.revision for answer in made)


async def _oldest(client: Client) -> int:
    return (await client.admin.GetStatus(v1.GetStatusRequest())).oldest_revision


async def _compacted_beyond(client: Client, clock: Any, revision: int) -> int:
    """Let time pass until history before a revision is gone; the oldest revision kept."""
    while (oldest := await _oldest(client)) <= revision:
        clock.advance(60_000)
    return oldest


async def test_old_revisions_are_forgotten(start_server: Any, clock: Any) -> None:
    """Beyond the number of revisions kept, the oldest go, and a watch from there is refused.

    Asked after a restart: a server may remember more than its file.
    """
    async with (
        start_server(clock=clock, history_revisions=100) as server,
        Client(server.address) as client,
    ):
        last = await _create(client, 700)
        oldest = await _compacted_beyond(client, clock, 1)
        assert oldest <= last - 100 + 1
    async with start_server(clock=clock) as server, Client(server.address) as client:
        watch = client.watch(start_revision=1)
        assert (await anext(watch)).HasField("created")
        with pytest.raises(TaskloomError) as refused:
            await anext(watch)
        assert refused.value.reason == "REVISION_COMPACTED"
        assert refused.value.code is grpc.StatusCode.OUT_OF_RANGE
        assert refused.value.metadata["oldest_revision"] == str(oldest)


async def test_what_is_kept_is_kept_whole(start_server: Any, clock: Any) -> None:
    """From the oldest revision on a watch sees every revision, also after a restart."""
    async with (
        start_server(clock=clock, history_revisions=100) as server,
        Client(server.address) as client,
    ):
        last = await _create(client, 700)
        oldest = await _compacted_beyond(client, clock, 1)
    async with start_server(clock=clock) as server, Client(server.address) as client:
        assert await _oldest(client) == oldest
        seen = []
        async with client.watch(start_revision=oldest) as watch:
            async for message in watch:
                if message.HasField("events"):
                    seen.append(message.revision)
                if message.revision == last:
                    break
        assert seen == list(range(oldest, last + 1))


async def test_history_is_forgotten_by_age(start_server: Any, clock: Any) -> None:
    """History older than the age that is kept goes, though it is short."""
    async with (
        start_server(clock=clock, history_hours=1) as server,
        Client(server.address) as client,
    ):
        old = await _create(client, 600)
        clock.advance(2 * HOUR_MS)
        await _create(client, 600)
        assert await _compacted_beyond(client, clock, 1) <= old + 1
        clock.advance(10 * 60_000)
        assert await _oldest(client) <= old + 1


async def test_young_history_stays(timed_client: Client, clock: Any) -> None:
    """Within the limits nothing is forgotten, however often it is looked for."""
    await _create(timed_client, 600)
    for _ in range(5):
        clock.advance(60_000)
        await _create(timed_client, 1)
    assert await _oldest(timed_client) == 1
