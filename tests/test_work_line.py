"""The one line in which streams of work and calls that wait stand: first come, first served."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.calls import claim, complete, connect, create, duration, show_worker, update
from tests.work_streams import working

if TYPE_CHECKING:
    from tests.conftest import TestClock


async def waiting_call(
    client: Client, clock: "TestClock", worker: str, **fields: Any
) -> "asyncio.Task[list[str]]":
    """A call of ClaimNextTask that has taken its place in the line."""
    request = v1.ClaimNextTaskRequest(worker_id=worker, wait=duration(60_000), **fields)

    async def call() -> list[str]:
        return [task.id for task in (await client.claims.ClaimNextTask(request)).tasks]

    clock.advance(1)
    before = (await show_worker(client, worker)).heartbeat_time.ToMilliseconds()
    waiting = asyncio.create_task(call())
    while (await show_worker(client, worker)).heartbeat_time.ToMilliseconds() == before:
        pass
    return waiting


async def test_streams_and_calls_stand_in_one_line(
    timed_client: Client, clock: "TestClock"
) -> None:
    """Tasks go to whoever waits longest, by a stream or by a call; who comes again is last."""
    await create(timed_client, "open", needed_tags=["nobody-has-this"])
    await connect(timed_client, "s1", "c1", "s2", "c2", max_claims=9)
    async with working(timed_client, "s1", credit=2) as s1:
        await s1.waiting()
        c1 = await waiting_call(timed_client, clock, "c1")
        async with working(timed_client, "s2", credit=1) as s2:
            await s2.waiting()
            c2 = await waiting_call(timed_client, clock, "c2")
            for n in range(4):
                await create(timed_client, f"t{n}")
            assert await s1.assigned() == ["t0"]
            assert await c1 == ["t1"]
            assert await s2.assigned() == ["t2"]
            assert await c2 == ["t3"]
            assert await s1.waiting() == v1.CLAIM_OUTCOME_NONE_READY
            await create(timed_client, "t4")
            assert await s1.assigned() == ["t4"]


async def test_line_is_kept_by_tags(timed_client: Client, clock: "TestClock") -> None:
    """A task goes to the first in line who may take it, whatever the tags and scopes of others."""
    await create(timed_client, "top")
    await create(timed_client, "open", parent_id="top", needed_tags=["nobody-has-this"])
    await connect(timed_client, "plain")
    await connect(timed_client, "gpu1", "gpu2", tags=["gpu"])
    async with working(timed_client, "plain", credit=1) as plain:
        await plain.waiting()
        below = await waiting_call(timed_client, clock, "gpu1", parent_id="top")
        async with working(timed_client, "gpu2", credit=1) as anywhere:
            await anywhere.waiting()
            await create(timed_client, "elsewhere", needed_tags=["gpu"])
            assert await anywhere.assigned() == ["elsewhere"]
            await create(timed_client, "there", needed_tags=["gpu"], parent_id="top")
            assert await below == ["there"]
            await create(timed_client, "any")
            assert await plain.assigned() == ["any"]


async def test_end_of_a_scope_holds_nobody_up(timed_client: Client, clock: "TestClock") -> None:
    """The end that lets one know that all is done, and frees a task for the next, does both."""
    await create(timed_client, "open", needed_tags=["nobody-has-this"])
    await create(timed_client, "tree")
    await create(timed_client, "leaf", parent_id="tree")
    await create(timed_client, "freed", blocked_by=["leaf"])
    await connect(timed_client, "busy", "scoped", "next")
    await claim(timed_client, "busy", "leaf")
    scoped = await waiting_call(timed_client, clock, "scoped", parent_id="tree")
    next_ = await waiting_call(timed_client, clock, "next")
    await complete(timed_client, "busy", "leaf")
    assert await scoped == []
    async with asyncio.timeout(2):
        assert await next_ == ["freed"]


async def test_end_of_a_scope_is_told_beside_what_it_frees(
    timed_client: Client, clock: "TestClock"
) -> None:
    """Who waits below a task learns that all there has ended, though that frees a task elsewhere.

    The freed one is for others: nobody who waits may take it.
    """
    await create(timed_client, "tree")
    await create(timed_client, "leaf", parent_id="tree")
    await create(timed_client, "freed", blocked_by=["leaf"], needed_tags=["nobody-has-this"])
    await connect(timed_client, "busy", "scoped")
    await claim(timed_client, "busy", "leaf")
    scoped = await waiting_call(timed_client, clock, "scoped", parent_id="tree")
    await complete(timed_client, "busy", "leaf")
    async with asyncio.timeout(2):
        assert await scoped == []


@pytest.mark.parametrize("way", ["calls", "streams"])
async def test_who_holds_its_limit_holds_nobody_up(
    timed_client: Client, clock: "TestClock", way: str
) -> None:
    """A task goes past one who came to hold its max_claims while it waited, to the next."""
    await create(timed_client, "open", needed_tags=["nobody-has-this"])
    await create(timed_client, "later", blocked_by=["open"])
    await connect(timed_client, "full", "next")
    async with working(timed_client, "full") as full, working(timed_client, "next") as next_:
        if way == "calls":
            await waiting_call(timed_client, clock, "full")
            waits = await waiting_call(timed_client, clock, "next")
        else:
            for stream in (full, next_):
                await stream.send(credit=1)
                await stream.waiting()
            waits = asyncio.create_task(next_.assigned())
        await update(timed_client, "later", assignee="full")
        await create(timed_client, "a")
        async with asyncio.timeout(2):
            assert await waits == ["a"]
