"""Failed attempts: how long a task rests after each, how many it has, and who has it next.

When leases end is in test_leases; here is what the end of one does to the task.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    duration,
    event,
    events,
    fail,
    refusal,
    release,
    show,
    show_worker,
    status,
    update,
)
from tests.work_streams import working

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

    StartServer: TypeAlias = Callable[..., AbstractAsyncContextManager[Server]]

LEASE = 60_000
"""Of every worker here, in ms."""
DAY = 86_400_000
READY = v1.EVENT_TYPE_TASK_READY
EXPIRED = v1.EVENT_TYPE_TASK_LEASE_EXPIRED


def at(ms: int) -> Timestamp:
    """A time in Unix ms."""
    return Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


async def begin(client: Client, **fields: Any) -> v1.Task:
    """A task of these fields, and a worker that holds it."""
    await connect(client, "w", lease=duration(LEASE))
    await create(client, "a", **fields)
    return await claim(client, "w", "a")


async def by_failing(client: Client, clock: "TestClock") -> v1.Task:
    """The worker says that it failed."""
    return await fail(client, "w", "a", retry=True)


async def by_silence(client: Client, clock: "TestClock") -> v1.Task:
    """The worker's lease runs out."""
    since = (await status(client)).revision
    clock.advance(LEASE)
    return (await event(client, EXPIRED, "a", since)).task


async def by_a_broken_stream(client: Client, clock: "TestClock") -> v1.Task:
    """The worker's stream breaks, and it does not come back."""
    since = (await status(client)).revision
    async with working(client, "w", grace=duration(5_000)):
        pass
    while not (await show_worker(client, "w")).HasField("grace_expire_time"):
        pass
    clock.advance(5_000)
    return (await event(client, EXPIRED, "a", since)).task


FAILURES = [by_failing, by_silence, by_a_broken_stream]
Failure: TypeAlias = "Callable[[Client, TestClock], Awaitable[v1.Task]]"


async def rested(client: Client, clock: "TestClock", rest: int) -> v1.Task:
    """The task once it has rested, which it must do for so long, and no less."""
    resting = await show(client, "a")
    assert resting.not_before.ToMilliseconds() == clock.now() + rest
    assert not resting.ready
    clock.advance(rest - 1)
    error = await refusal(claim(client, "w", "a"))
    assert error.reason == "NOT_YET"
    assert error.retry_delay is not None
    assert error.retry_delay.total_seconds() == 0.001
    clock.advance(1)
    await event(client, READY, "a", since=resting.revision)
    task = await show(client, "a")
    assert task.ready
    assert not task.HasField("not_before")
    return task


# The rest


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
async def test_rest_doubles(timed_client: Client, clock: "TestClock", failure: Failure) -> None:
    """After each failed attempt the task rests, twice as long as after the one before."""
    await begin(timed_client, retry_delay=duration(3_000), max_attempts=9)
    for attempt in (1, 2, 3, 4):
        task = await failure(timed_client, clock)
        assert (task.status, task.attempts, task.worker_id) == ("pending", attempt, "")
        await rested(timed_client, clock, 3_000 << (attempt - 1))
        await claim(timed_client, "w", "a")


async def test_both_kinds_of_failure_count_together(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A worker's word and a lease's end are attempts alike, and the rest grows by both."""
    await begin(timed_client, retry_delay=duration(1_000))
    await by_failing(timed_client, clock)
    await rested(timed_client, clock, 1_000)
    await claim(timed_client, "w", "a")
    await by_silence(timed_client, clock)
    await rested(timed_client, clock, 2_000)
    await claim(timed_client, "w", "a")
    await by_failing(timed_client, clock)
    await rested(timed_client, clock, 4_000)


@pytest.mark.parametrize("failure", FAILURES[:2], ids=lambda failure: failure.__name__)
async def test_rest_is_a_day_at_most(
    timed_client: Client, clock: "TestClock", failure: Failure
) -> None:
    """However many attempts there were, the task rests no longer than a day."""
    await begin(timed_client, retry_delay=duration(DAY // 3), max_attempts=1_000)
    for rest in (DAY // 3, DAY // 3 * 2, DAY, DAY):
        await failure(timed_client, clock)
        await rested(timed_client, clock, rest)
        await claim(timed_client, "w", "a")


async def test_rest_after_hundreds_of_attempts(timed_client: Client, clock: "TestClock") -> None:
    """The rest is a day still when its doubling would have left every number behind."""
    await begin(timed_client, retry_delay=duration(1), max_attempts=1_000)
    for attempt in range(1, 101):
        task = await by_failing(timed_client, clock)
        rest = min(DAY, 2 ** (attempt - 1))
        assert task.not_before.ToMilliseconds() == clock.now() + rest
        clock.advance(rest)
        await event(timed_client, READY, "a", since=task.revision)
        await claim(timed_client, "w", "a")


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
async def test_no_rest_unless_asked_for(
    timed_client: Client, clock: "TestClock", failure: Failure
) -> None:
    """Without a retry_delay a task is ready again at once."""
    await begin(timed_client)
    task = await failure(timed_client, clock)
    assert task.ready
    assert not task.HasField("not_before")
    assert not task.HasField("retry_delay")


async def test_who_fails_may_say_how_long(timed_client: Client, clock: "TestClock") -> None:
    """The retry_delay of FailTask is in place of the task's own, this once."""
    await begin(timed_client, retry_delay=duration(3_000))
    task = await fail(timed_client, "w", "a", retry=True, retry_delay=duration(50_000))
    assert task.retry_delay.ToMilliseconds() == 3_000
    await rested(timed_client, clock, 50_000)
    await claim(timed_client, "w", "a")
    await by_failing(timed_client, clock)
    await rested(timed_client, clock, 6_000)


async def test_rest_is_of_failures_alone(timed_client: Client) -> None:
    """Who gives a task back, or disconnects, spends no attempt and lets it rest for no time."""
    await begin(timed_client, retry_delay=duration(3_000))
    assert (await release(timed_client, "w", "a")).ready
    await claim(timed_client, "w", "a")
    await timed_client.workers.Disconnect(v1.DisconnectRequest(worker_id="w"))
    task = await show(timed_client, "a")
    assert (task.ready, task.attempts) == (True, 0)


async def test_rest_may_be_changed(timed_client: Client, clock: "TestClock") -> None:
    """A new retry_delay counts from the next failure on; zero takes it away."""
    await begin(timed_client, retry_delay=duration(3_000))
    await update(timed_client, "a", retry_delay=duration(10_000))
    await by_failing(timed_client, clock)
    await rested(timed_client, clock, 10_000)
    await claim(timed_client, "w", "a")
    await update(timed_client, "a", retry_delay=duration(0))
    assert (await by_failing(timed_client, clock)).ready


async def test_person_ends_the_rest(timed_client: Client, clock: "TestClock") -> None:
    """A person who sets not_before to the present makes a task ready that rests."""
    await begin(timed_client, retry_delay=duration(3_000))
    await by_failing(timed_client, clock)
    task = await update(timed_client, "a", not_before=at(clock.now()))
    assert task.ready
    await claim(timed_client, "w", "a")


async def test_later_not_before_stays(timed_client: Client, clock: "TestClock") -> None:
    """A not_before that somebody set while the task was worked outlives the end of its lease."""
    await begin(timed_client)
    until = clock.now() + 10 * LEASE
    await update(timed_client, "a", not_before=at(until))
    assert (await by_silence(timed_client, clock)).not_before == at(until)


@pytest.mark.parametrize(
    ("failure", "delay"), [(by_failing, 0), (by_failing, 3_000), (by_silence, 3_000)]
)
async def test_later_not_before_is_not_brought_forward(
    timed_client: Client, clock: "TestClock", failure: Failure, delay: int
) -> None:
    """Nor does a failure, with a rest or without, let the task be taken before that time."""
    await begin(timed_client, retry_delay=duration(delay))
    until = clock.now() + 10 * LEASE
    await update(timed_client, "a", not_before=at(until))
    assert (await failure(timed_client, clock)).not_before == at(until)


async def test_rest_over_a_restart(start_server: "StartServer", clock: "TestClock") -> None:
    """A task that rests when the server goes is ready at its time after it is back."""
    async with start_server(clock=clock) as server, Client(server.address) as client:
        await begin(client, retry_delay=duration(3_000))
        await by_failing(client, clock)
        clock.advance(1_000)
    async with start_server(clock=clock) as server, Client(server.address) as client:
        assert not (await show(client, "a")).ready
        await rested(client, clock, 2_000)
        assert (await show(client, "a")).retry_delay.ToMilliseconds() == 3_000


# The attempts


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
async def test_last_attempt_fails(
    timed_client: Client, clock: "TestClock", failure: Failure
) -> None:
    """With its attempts spent the task has failed, and does not rest for another one."""
    await begin(timed_client, retry_delay=duration(1_000), max_attempts=2)
    await failure(timed_client, clock)
    await rested(timed_client, clock, 1_000)
    await claim(timed_client, "w", "a")
    if failure is by_failing:
        await by_failing(timed_client, clock)
    else:
        clock.advance(LEASE)
    told = await event(timed_client, v1.EVENT_TYPE_TASK_FAILED, "a")
    task = told.task
    assert (task.status, task.attempts, task.worker_id) == ("failed", 2, "w")
    assert not task.HasField("not_before")
    assert task.claim_revision == 0
    assert await show(timed_client, "a") == task


async def test_failing_for_good_needs_no_attempts(timed_client: Client) -> None:
    """Without `retry` the first failure is the last, whatever attempts are left."""
    await begin(timed_client, retry_delay=duration(1_000))
    task = await fail(timed_client, "w", "a")
    assert (task.status, task.attempts) == ("failed", 1)
    assert not task.HasField("not_before")


@pytest.mark.parametrize("end", ["failed", "completed"])
async def test_reopened_begins_anew(timed_client: Client, clock: "TestClock", end: str) -> None:
    """A reopened task has all its attempts again, and its first rest is the shortest."""
    await begin(timed_client, retry_delay=duration(1_000), max_attempts=3)
    await by_failing(timed_client, clock)
    await rested(timed_client, clock, 1_000)
    await claim(timed_client, "w", "a")
    if end == "failed":
        await fail(timed_client, "w", "a")
    else:
        await complete(timed_client, "w", "a")
    task = await update(timed_client, "a", status="pending")
    assert (task.attempts, task.ready) == (0, True)
    for rest in (1_000, 2_000):
        await claim(timed_client, "w", "a")
        await by_failing(timed_client, clock)
        await rested(timed_client, clock, rest)
    await claim(timed_client, "w", "a")
    assert (await by_failing(timed_client, clock)).status == "failed"


async def test_more_attempts_by_a_person(timed_client: Client, clock: "TestClock") -> None:
    """A person may give a task more attempts before the last is spent."""
    await begin(timed_client, max_attempts=2)
    await by_failing(timed_client, clock)
    await claim(timed_client, "w", "a")
    await update(timed_client, "a", max_attempts=3)
    assert (await by_failing(timed_client, clock)).status == "pending"
    await claim(timed_client, "w", "a")
    assert (await by_failing(timed_client, clock)).status == "failed"


# Who has it next


async def test_resting_task_is_not_given(timed_client: Client, clock: "TestClock") -> None:
    """ClaimNextTask passes a resting task over, GetStatus counts it, and all is not done."""
    await begin(timed_client, retry_delay=duration(1_000))
    await by_failing(timed_client, clock)
    assert (await claim_next(timed_client, "w")).outcome == v1.CLAIM_OUTCOME_NONE_READY
    now = await status(timed_client)
    assert (now.delayed_tasks, now.ready_tasks, now.open_tasks) == (1, 0, 1)


@pytest.mark.parametrize("way", ["call", "stream"])
async def test_end_of_the_rest_wakes_who_waits(
    timed_client: Client, clock: "TestClock", way: str
) -> None:
    """The moment the rest is over the task goes to who waits, in the next revision."""
    await begin(timed_client, retry_delay=duration(1_000))
    await connect(timed_client, "other")
    failed = await by_failing(timed_client, clock)
    async with working(timed_client, "other") as stream:
        if way == "stream":
            await stream.send(credit=1)
            await stream.waiting()
            given = asyncio.create_task(stream.assigned())
        else:
            before = (await show_worker(timed_client, "other")).heartbeat_time
            clock.advance(1)
            given = asyncio.create_task(waited(timed_client, "other"))
            while (await show_worker(timed_client, "other")).heartbeat_time == before:
                pass
        clock.advance(1_000)
        assert await given == ["a"]
    task = await show(timed_client, "a")
    assert await events(timed_client, failed.revision + 1, task.revision) == [
        ("TASK_READY", "a", failed.revision + 1),
        ("TASK_CLAIMED", "a", failed.revision + 2),
    ]


async def waited(client: Client, worker: str) -> list[str]:
    """What a call of ClaimNextTask is given that waits."""
    answer = await claim_next(client, worker, wait=duration(600_000))
    return [task.id for task in answer.tasks]
