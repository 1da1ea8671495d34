"""The alarm: what it keeps, however often it is told."""

import asyncio
import tracemalloc
from typing import TYPE_CHECKING

from taskloom_server.alarm import Alarm

if TYPE_CHECKING:
    from tests.conftest import TestClock

LEASE_MS = 3_600_000


async def test_a_worker_whose_streams_break_again_and_again_is_one_name(
    clock: "TestClock",
) -> None:
    """What is due sooner, and then late again, leaves nothing behind, and is met each time."""
    met: asyncio.Queue[str] = asyncio.Queue()
    end = clock.now() + LEASE_MS

    async def meet(name: str) -> int | None:
        met.put_nowait(name)
        return end if clock.now() < end else None

    alarm = Alarm(clock, meet)
    running = asyncio.create_task(alarm.run())

    async def break_streams(times: int) -> None:
        for _ in range(times):
            alarm.set(clock.now() + 1, "w")
            clock.advance(1)
            assert await met.get() == "w"

    try:
        await break_streams(500)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await break_streams(2_000)
        after, _ = tracemalloc.get_traced_memory()
        clock.advance(LEASE_MS)
        assert await met.get() == "w"
        assert met.empty()
    finally:
        tracemalloc.stop()
        running.cancel()
    assert after - before < 20_000
