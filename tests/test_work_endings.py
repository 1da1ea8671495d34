"""The Work stream: how it ends, and what becomes of the worker's claims then."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from grpc import aio
from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    complete,
    connect,
    create,
    duration,
    event,
    heartbeat,
    show,
    show_worker,
    status,
    update,
)
from tests.work_streams import WorkStream, opened, working

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

LEASE = 60_000
GRACE = 10_000
"""Of every worker and stream here, in ms, unless it says otherwise."""
EXPIRED = v1.EVENT_TYPE_TASK_LEASE_EXPIRED


async def begin(client: Client, *ids: str) -> None:
    """A worker, and tasks that it holds."""
    await connect(client, "w", max_claims=9, lease=duration(LEASE))
    for id in ids:
        await create(client, id)
        await claim(client, "w", id)


@asynccontextmanager
async def streaming(
    client: Client, worker: str = "w", credit: int = 0
) -> AsyncIterator[WorkStream]:
    """A stream that has started, and breaks at the end of the context."""
    async with working(client, worker, credit=credit, grace=duration(GRACE)) as stream:
        yield stream


async def grace_of(client: Client, worker: str = "w") -> int:
    """Until when the claims of a worker last whose stream broke: once the server noticed."""
    while True:
        shown = await show_worker(client, worker)
        if shown.HasField("grace_expire_time"):
            return shown.grace_expire_time.ToMilliseconds()


async def passed(client: Client, clock: "TestClock", ms: int) -> None:
    """Let so much time pass, and the server do what is due by then."""
    id = f"at-{clock.now() + ms}"
    request = v1.CreateTaskRequest(id=id, title=id, needed_tags=["nobody-has-this"])
    request.not_before.FromMilliseconds(clock.now() + ms)
    await client.tasks.CreateTask(request)
    clock.advance(ms)
    await event(client, v1.EVENT_TYPE_TASK_READY, id)


# As agreed


async def test_drain_takes_the_credit_back(client: Client) -> None:
    """After `drained` nothing is assigned, whatever credit is granted; calls are still answered."""
    await connect(client, "w", max_claims=9)
    async with working(client, "w", credit=5) as stream:
        assert await stream.waiting() == v1.CLAIM_OUTCOME_ALL_DONE
        await create(client, "a")
        assert await stream.assigned() == ["a"]
        assert await stream.waiting() == v1.CLAIM_OUTCOME_NONE_READY
        assert (await stream.ask(drain=v1.WorkDrain())).HasField("drained")
        await create(client, "b")
        await stream.send(credit=3)
        await stream.quiet()
        assert (await show(client, "b")).ready
        done = await stream.ask(complete=v1.CompleteTaskRequest(task_id="a"))
        assert done.completed.task.status == "completed"
        assert (await stream.ask(drain=v1.WorkDrain())).HasField("drained")


async def test_drained_stream_leaves_the_line(client: Client) -> None:
    """A task does not go to a stream that is drained, but to the next in line."""
    await connect(client, "w", "next")
    async with working(client, "w", credit=1) as stream, working(client, "next", credit=1) as other:
        await stream.waiting()
        await other.waiting()
        assert (await stream.ask(drain=v1.WorkDrain())).HasField("drained")
        await create(client, "a")
        assert await other.assigned() == ["a"]


async def test_drained_and_closed_ends_well(timed_client: Client, clock: "TestClock") -> None:
    """Such a stream ends with OK, no grace begins, and the claims last their lease."""
    await begin(timed_client, "a")
    async with streaming(timed_client) as stream:
        await stream.finish()
        assert (await stream.call.code()).name == "OK"
    await passed(timed_client, clock, GRACE + 1)
    assert not (await show_worker(timed_client, "w")).HasField("grace_expire_time")
    assert (await show(timed_client, "a")).worker_id == "w"
    clock.advance(LEASE)
    assert "lease" in (await event(timed_client, EXPIRED, "a")).reason


async def test_calls_before_the_close_are_answered(client: Client) -> None:
    """What was sent before the worker closed its side is answered before the stream ends."""
    await connect(client, "w", max_claims=99)
    for n in range(50):
        await create(client, f"t{n}")
        await claim(client, "w", f"t{n}")
    async with working(client, "w") as stream:
        await stream.send(drain=v1.WorkDrain())
        for n in range(50):
            await stream.send(complete=v1.CompleteTaskRequest(task_id=f"t{n}"), call_id=n + 1)
        await stream.call.done_writing()
        await stream.hear("drained")
        assert [(await stream.hear("completed")).call_id for _ in range(50)] == list(range(1, 51))
        assert await stream.read() is None


# A break


async def by_cancel(client: Client, stream: WorkStream) -> None:
    """The call is cancelled."""
    stream.call.cancel()


async def by_close(client: Client, stream: WorkStream) -> None:
    """The connection is closed."""
    await client.close()


async def by_half_close(client: Client, stream: WorkStream) -> None:
    """The worker closes its side without a drain, which ends the call with OK."""
    await stream.call.done_writing()
    assert await stream.read() is None


async def by_mistake(client: Client, stream: WorkStream) -> None:
    """The worker sends what cannot be."""
    await stream.send(credit=-1)
    await stream.end()


BREAKS = [by_cancel, by_close, by_half_close, by_mistake]


@pytest.mark.parametrize("break_", BREAKS, ids=lambda break_: break_.__name__)
async def test_claims_last_the_grace(
    timed_server: "Server",
    timed_client: Client,
    clock: "TestClock",
    break_: Callable[[Client, WorkStream], Awaitable[None]],
) -> None:
    """When the last stream breaks, the claims end after the grace: to the ms, each an attempt."""
    await begin(timed_client, "a", "b")
    async with Client(timed_server.address) as own, streaming(own) as stream:
        clock.advance(1_000)
        await break_(own, stream)
        assert await grace_of(timed_client) == clock.now() + GRACE
        await passed(timed_client, clock, GRACE - 1)
        assert (await show(timed_client, "a")).worker_id == "w"
        clock.advance(1)
        for id in ("a", "b"):
            ended = await event(timed_client, EXPIRED, id)
            assert ended.time.ToMilliseconds() == clock.now()
            assert (ended.task.ready, ended.task.attempts) == (True, 1)
            assert "stream" in ended.reason


async def test_drained_and_cut_is_broken(timed_client: Client, clock: "TestClock") -> None:
    """A stream that was drained, and breaks before the worker closed its side, has broken."""
    await begin(timed_client, "a")
    async with streaming(timed_client) as stream:
        assert (await stream.ask(drain=v1.WorkDrain())).HasField("drained")
    async with asyncio.timeout(2):
        assert await grace_of(timed_client) == clock.now() + GRACE


async def test_grace_is_no_longer_than_the_lease(timed_client: Client, clock: "TestClock") -> None:
    """A claim whose lease is shorter than the grace ends with its lease."""
    await begin(timed_client, "a")
    await create(timed_client, "short")
    await claim(timed_client, "w", "short", lease=duration(GRACE - 4_000))
    async with streaming(timed_client):
        pass
    await grace_of(timed_client)
    clock.advance(GRACE - 4_000)
    assert "lease" in (await event(timed_client, EXPIRED, "short")).reason
    assert (await show(timed_client, "a")).worker_id == "w"
    clock.advance(4_000)
    await event(timed_client, EXPIRED, "a")


async def test_grace_of_its_own_accord(timed_client: Client, clock: "TestClock") -> None:
    """A start without a grace has one of 30 s."""
    await begin(timed_client, "a")
    async with working(timed_client, "w"):
        pass
    assert await grace_of(timed_client) == clock.now() + 30_000
    clock.advance(30_000)
    await event(timed_client, EXPIRED, "a")


async def test_parked_outlives_the_grace(timed_client: Client, clock: "TestClock") -> None:
    """What waits for a person stays its worker's, however its stream ended."""
    await begin(timed_client, "a", "parked")
    await update(timed_client, "parked", status="waiting")
    async with streaming(timed_client):
        pass
    await grace_of(timed_client)
    clock.advance(GRACE)
    await event(timed_client, EXPIRED, "a")
    clock.advance(LEASE * 100)
    assert (await show(timed_client, "parked")).worker_id == "w"


async def by_heartbeat(client: Client) -> None:
    """A heartbeat."""
    await heartbeat(client, "w")


async def by_completion(client: Client) -> None:
    """The end of another task."""
    await complete(client, "w", "b")


async def by_claim(client: Client) -> None:
    """A claim, of no avail."""
    request = v1.ClaimNextTaskRequest(worker_id="w", max_tasks=1)
    await client.claims.ClaimNextTask(request)


async def by_update(client: Client) -> None:
    """A change of the task."""
    await update(client, "a", worker_id="w", title="another")


async def by_connect(client: Client) -> None:
    """A new registration."""
    await connect(client, "w", max_claims=9, lease=duration(LEASE))


SIGNS = [by_heartbeat, by_completion, by_claim, by_update, by_connect]


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.__name__)
async def test_sign_of_life_ends_the_grace(
    timed_client: Client, clock: "TestClock", sign: Callable[[Client], Awaitable[None]]
) -> None:
    """A worker that is heard of within the grace keeps what it holds, for its lease from then."""
    await begin(timed_client, "a", "b")
    async with streaming(timed_client):
        pass
    await grace_of(timed_client)
    await passed(timed_client, clock, GRACE - 1)
    await sign(timed_client)
    assert not (await show_worker(timed_client, "w")).HasField("grace_expire_time")
    await passed(timed_client, clock, LEASE - 1)
    assert (await show(timed_client, "a")).worker_id == "w"
    clock.advance(1)
    assert "lease" in (await event(timed_client, EXPIRED, "a")).reason


async def test_new_stream_goes_on(timed_client: Client, clock: "TestClock") -> None:
    """A worker that is back with a stream within the grace goes on with what it held."""
    await begin(timed_client, "a")
    async with streaming(timed_client):
        pass
    await grace_of(timed_client)
    await passed(timed_client, clock, GRACE - 1)
    async with opened(timed_client) as stream:
        await stream.send(start=v1.WorkStart(worker_id="w", grace=duration(GRACE)))
        started = (await stream.hear("started")).started
        [held] = started.held_tasks
        assert not started.worker.HasField("grace_expire_time")
        await passed(timed_client, clock, GRACE)
        request = v1.CompleteTaskRequest(task_id="a", claim_revision=held.claim_revision)
        assert (await stream.ask(complete=request)).completed.task.attempts == 0


async def test_too_late_is_lost(timed_client: Client, clock: "TestClock") -> None:
    """After the grace the old claim is lost, once another worker has the task."""
    await begin(timed_client, "a")
    await connect(timed_client, "other")
    held = await show(timed_client, "a")
    async with working(timed_client, "other", credit=1) as other:
        await other.waiting()
        async with streaming(timed_client):
            pass
        await grace_of(timed_client)
        clock.advance(GRACE)
        assert await other.assigned() == ["a"]
        async with streaming(timed_client) as stream:
            request = v1.CompleteTaskRequest(task_id="a", claim_revision=held.claim_revision)
            refused = (await stream.ask(complete=request)).refused
            assert (refused.reason, refused.metadata["holder"]) == ("CLAIM_LOST", "other")


# Several streams of one worker


async def test_one_of_two_breaks(timed_client: Client, clock: "TestClock") -> None:
    """While a worker has another stream nothing ends; the break of the last one counts."""
    await begin(timed_client, "a")
    async with streaming(timed_client) as first:
        async with streaming(timed_client) as second:
            first.call.cancel()
            await passed(timed_client, clock, GRACE + 1)
            assert not (await show_worker(timed_client, "w")).HasField("grace_expire_time")
            assert (await show(timed_client, "a")).worker_id == "w"
            await second.quiet()
        assert await grace_of(timed_client) == clock.now() + GRACE
        clock.advance(GRACE)
        await event(timed_client, EXPIRED, "a")


@pytest.mark.parametrize("last", ["finish", "break"])
async def test_only_the_last_end_counts(
    timed_client: Client, clock: "TestClock", last: str
) -> None:
    """Whether a grace begins is for the last stream to say, however those before it ended."""
    await begin(timed_client, "a")
    async with streaming(timed_client) as first, streaming(timed_client) as second:
        if last == "finish":
            first.call.cancel()
            await second.quiet()
            await second.finish()
        else:
            await first.finish()
            second.call.cancel()
            await grace_of(timed_client)
    await passed(timed_client, clock, GRACE + 1)
    assert (await show(timed_client, "a")).worker_id == ("w" if last == "finish" else "")


async def test_back_before_the_break_is_noticed(timed_client: Client, clock: "TestClock") -> None:
    """A stream that begins while the server learns of the other's break is a stream all the same.

    The new one waits its turn behind a long write as the old one breaks.
    """
    await begin(timed_client, "a")
    nodes = [v1.TaskNode(title="x") for _ in range(4_000)]
    root = v1.TaskNode(title="x", children=nodes)
    async with streaming(timed_client) as old, opened(timed_client) as new:
        request = v1.CreateTaskTreeRequest(root=root)
        write = asyncio.create_task(answered(timed_client.tasks.CreateTaskTree(request)))
        await status(timed_client)
        await new.send(start=v1.WorkStart(worker_id="w", grace=duration(GRACE)))
        await status(timed_client)
        old.call.cancel()
        await status(timed_client)
        assert not write.done()
        await new.hear("started")
        await passed(timed_client, clock, GRACE + 1)
        assert not (await show_worker(timed_client, "w")).HasField("grace_expire_time")
        assert (await show(timed_client, "a")).worker_id == "w"


async def answered(call: Awaitable[object]) -> object:
    """The answer to a call."""
    return await call


# What was assigned and not sent


async def test_what_was_not_sent_is_undone(server: "Server", client: Client) -> None:
    """Tasks that were assigned to a stream which did not take them are ready again at its break."""
    await connect(client, "w", max_claims=99)
    options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with aio.insecure_channel(server.address, options) as narrow:
        call = v1.ClaimServiceStub(narrow).Work()
        await call.write(v1.WorkRequest(start=v1.WorkStart(worker_id="w"), credit=99))
        for n in range(40):
            await create(client, f"t{n}", description="x" * 60_000)
            await event(client, v1.EVENT_TYPE_TASK_CLAIMED, f"t{n}")
        call.cancel()
        await grace_of(client)
    tasks = [await show(client, f"t{n}") for n in range(40)]
    held = [task.id for task in tasks if task.worker_id]
    assert held == [f"t{n}" for n in range(len(held))], "the first were sent"
    assert len(held) < 20
    assert all(task.ready and not task.attempts for task in tasks[len(held) :])


async def test_broken_stream_leaves_the_line(client: Client) -> None:
    """A task that becomes ready after a break goes to the next in line."""
    await connect(client, "w", "next")
    async with working(client, "next") as other:
        async with working(client, "w", credit=1) as stream:
            await stream.waiting()
            await other.send(credit=1)
            await other.waiting()
        await grace_of(client)
        await create(client, "a")
        assert await other.assigned() == ["a"]


async def test_what_is_given_after_the_grace_lasts_its_lease(
    timed_client: Client, clock: "TestClock"
) -> None:
    """What is assigned to a worker whose grace is over has the lease of the worker."""
    await begin(timed_client, "a")
    async with streaming(timed_client):
        pass
    await grace_of(timed_client)
    clock.advance(GRACE)
    await event(timed_client, EXPIRED, "a")
    clock.advance(1_000)
    await create(timed_client, "late")
    late = await update(timed_client, "late", assignee="w")
    lease = (await show_worker(timed_client, "w")).lease.ToMilliseconds()
    assert late.lease_expire_time.ToMilliseconds() == clock.now() + lease
    clock.advance(lease)
    ended = await event(timed_client, EXPIRED, "late")
    assert ended.time.ToMilliseconds() == clock.now()


async def test_what_is_given_within_the_grace_ends_with_it(
    timed_client: Client, clock: "TestClock"
) -> None:
    """What is assigned to a worker while it may come back is taken from it with the rest."""
    await connect(timed_client, "w")
    async with streaming(timed_client):
        pass
    until = await grace_of(timed_client)
    clock.advance(1_000)
    await create(timed_client, "new")
    new = await update(timed_client, "new", assignee="w")
    assert new.lease_expire_time.ToMilliseconds() == until
    clock.advance(GRACE - 1_000)
    ended = await event(timed_client, EXPIRED, "new")
    assert ended.time.ToMilliseconds() == until
