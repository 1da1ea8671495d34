"""Locks: what one worker holds at a time, for how long, and how the others wait for it."""

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    complete,
    connect,
    create,
    disconnect,
    duration,
    fail,
    heartbeat,
    release,
    show_worker,
    update,
)
from tests.test_files import events_since, mark, marked, refusal, unmark

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Server, TestClock

LOCK = "lock:git-commit"
LEASE = 20_000
WAIT = duration(600_000)


async def holders(client: Client, *paths: str) -> list[tuple[str, str]]:
    """Path and worker of each lock."""
    return await marked(client, paths=paths or [LOCK])


async def waiting_for(
    client: Client, clock: "TestClock", worker: str, *paths: str, **fields: Any
) -> "asyncio.Task[v1.MarkFilesResponse]":
    """A call that waits for locks."""
    clock.advance(1)
    call = asyncio.create_task(mark(client, worker, *(paths or (LOCK,)), wait=WAIT, **fields))
    while (await show_worker(client, worker)).heartbeat_time.ToMilliseconds() < clock.now():
        pass
    return call


async def unlocked(client: Client, revision: int) -> v1.Event:
    """The next event about a mark that has gone."""
    filter = v1.WatchFilter(event_types=[v1.EVENT_TYPE_FILE_UNMARKED])
    async with client.watch(filter, start_revision=revision + 1) as watch:
        async for message in watch:
            for event in message.events.events:
                return event
    raise AssertionError("the watch ended")


async def test_a_lock_is_one_workers(client: Client) -> None:
    """Whoever asks for a held lock is told who has it, since when and why, and for which task."""
    await connect(client, "v", "w")
    await create(client, "a")
    held = await mark(client, "w", LOCK, task_id="a", reason="rebasing")
    error = await refusal(mark(client, "v", LOCK))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FILE_LOCKED")
    since = held.marks[0].mark_time.ToDatetime().isoformat(timespec="milliseconds") + "+00:00"
    assert error.metadata == {
        "holder": "w",
        "since": since,
        "task_id": "a",
        "reason": "rebasing",
    }
    assert [violation.subject for violation in error.violations] == [LOCK]
    assert str(error).startswith(
        f"'{LOCK}' is held by worker 'w' since {since} for task 'a': rebasing"
    )
    assert await holders(client) == [(LOCK, "w")]


async def test_all_of_a_call_or_nothing(client: Client) -> None:
    """A call with a lock that another holds marks none of its paths, and tells no event."""
    await connect(client, "v", "w")
    made = await mark(client, "w", "lock:b", "lock:d")
    error = await refusal(mark(client, "v", "a.py", "lock:a", "lock:b", "lock:d"))
    assert [violation.subject for violation in error.violations] == ["lock:b", "lock:d"]
    assert await marked(client) == [("lock:b", "w"), ("lock:d", "w")]
    after = await client.files.ListFileMarks(v1.ListFileMarksRequest())
    assert after.revision == made.revision


async def test_a_refused_worker_has_given_a_sign_of_life(
    timed_client: Client, clock: "TestClock"
) -> None:
    """Asking for a lock in vain renews the worker's leases as any call does."""
    await connect(timed_client, "v", "w", lease=duration(LEASE))
    await mark(timed_client, "w", LOCK)
    clock.advance(1_000)
    await refusal(mark(timed_client, "v", LOCK))
    assert (await show_worker(timed_client, "v")).heartbeat_time.ToMilliseconds() == clock.now()


async def test_ones_own_lock_can_be_asked_for_again(client: Client) -> None:
    """Who holds a lock takes it again for another task and reason; it keeps its time."""
    await connect(client, "w")
    await create(client, "a")
    first = (await mark(client, "w", LOCK, reason="one")).marks[0]
    second = await mark(client, "w", LOCK, task_id="a", reason="two")
    assert second.marks[0].mark_time == first.mark_time
    assert (second.marks[0].task_id, second.marks[0].reason) == ("a", "two")
    assert not second.conflicts


@pytest.mark.parametrize("path", ["Lock:x", "locks:x", " lock:x", "src/lock:x", "lock"])
async def test_what_does_not_begin_so_is_a_file(client: Client, path: str) -> None:
    """Only the very prefix makes a lock; all else is marked beside others."""
    await connect(client, "v", "w")
    await mark(client, "w", path)
    assert [each.worker_id for each in (await mark(client, "v", path)).conflicts] == ["w"]


@pytest.mark.parametrize("nameless", ["lock:", "lock: ", "lock:\t\u2003"])
async def test_a_lock_has_a_name(client: Client, nameless: str) -> None:
    """The prefix alone names nothing, and neither do blanks after it."""
    await connect(client, "w")
    error = await refusal(mark(client, "w", "a.py", nameless))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.field_violations[0].field == "paths[1]"


async def test_unmarking_frees_a_lock(client: Client) -> None:
    """What its holder lets go of, another one takes; its end is told in the stream."""
    await connect(client, "v", "w")
    made = await mark(client, "w", LOCK)
    assert await unmark(client, "v", LOCK) == []
    assert await unmark(client, "w", LOCK, reason="pushed") == [LOCK]
    [event] = await events_since(client, made.revision)
    assert (event.type, event.reason) == (v1.EVENT_TYPE_FILE_UNMARKED, "pushed")
    await mark(client, "v", LOCK)
    assert await holders(client) == [(LOCK, "v")]


@pytest.mark.parametrize(
    "ending", ["complete", "fail", "release", "cancel", "delete", "disconnect", "rollup"]
)
async def test_a_lock_goes_with_its_task(client: Client, ending: str) -> None:
    """However a task ends or is given back, the locks taken for it are free."""
    await connect(client, "v", "w", max_claims=2)
    await create(client, "top")
    await create(client, "a", parent_id="top")
    if ending != "cancel":
        await claim(client, "w", "a")
    await mark(client, "w", LOCK, task_id="top" if ending == "rollup" else "a")
    if ending in ("complete", "rollup"):
        await complete(client, "w", "a")
    elif ending == "fail":
        await fail(client, "w", "a")
    elif ending == "release":
        await release(client, "w", "a")
    elif ending == "cancel":
        await update(client, "a", status="cancelled")
    elif ending == "delete":
        await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="a", force=True))
    else:
        await disconnect(client, "w")
    assert await holders(client) == []
    await mark(client, "v", LOCK)


async def test_a_lock_goes_with_the_lease_of_its_task(
    timed_client: Client, clock: "TestClock"
) -> None:
    """When the claim for which a lock was taken ends by its lease, so does the lock."""
    client = timed_client
    await connect(client, "w", lease=duration(LEASE))
    await create(client, "a")
    await claim(client, "w", "a", lease=duration(3 * LEASE))
    made = await mark(client, "w", LOCK, task_id="a")
    clock.advance(3 * LEASE - 1)
    assert await holders(client) == [(LOCK, "w")]
    clock.advance(1)
    event = await unlocked(client, made.revision)
    assert (event.file_mark.path, event.task_id) == (LOCK, "a")


@pytest.mark.parametrize("task", ["", "another's", "nobody's"])
async def test_a_silent_worker_loses_its_locks(
    timed_client: Client, clock: "TestClock", task: str
) -> None:
    """A lock that no claim of its holder covers goes after its lease without a sign of life."""
    client = timed_client
    await connect(client, "v", "w", lease=duration(LEASE))
    await create(client, "another's")
    await create(client, "nobody's")
    await claim(client, "v", "another's", lease=duration(9 * LEASE))
    made = await mark(client, "w", LOCK, "a.py", task_id=task)
    clock.advance(LEASE - 1)
    await heartbeat(client, "w")
    clock.advance(LEASE - 1)
    assert await holders(client) == [(LOCK, "w")]
    clock.advance(1)
    event = await unlocked(client, made.revision)
    assert (event.file_mark.path, event.reason) == (LOCK, "the lease of worker 'w' ran out")
    assert await marked(client) == [("a.py", "w")], "a mark keeps nobody out, and stays"
    assert (await show_worker(client, "w")).id == "w"
    await mark(client, "v", LOCK)


async def test_a_lock_for_a_parked_task_goes_with_silence(
    timed_client: Client, clock: "TestClock"
) -> None:
    """While its task waits for somebody else, a lock is its worker's as long as that lives."""
    client = timed_client
    await connect(client, "w", lease=duration(LEASE))
    await create(client, "a")
    await claim(client, "w", "a", lease=duration(9 * LEASE))
    made = await mark(client, "w", LOCK, task_id="a")
    await update(client, "a", status="waiting", worker_id="w")
    clock.advance(LEASE - 1)
    assert await holders(client) == [(LOCK, "w")]
    clock.advance(1)
    assert (await unlocked(client, made.revision)).file_mark.path == LOCK
    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))).task
    assert (task.status, task.worker_id) == ("waiting", "w")


async def test_a_shorter_lease_is_kept_to(timed_client: Client, clock: "TestClock") -> None:
    """A worker that connects anew with a shorter lease loses its locks after that one."""
    client = timed_client
    await connect(client, "w", lease=duration(9 * LEASE))
    made = await mark(client, "w", LOCK)
    await connect(client, "w", lease=duration(LEASE))
    clock.advance(LEASE)
    assert (await unlocked(client, made.revision)).file_mark.path == LOCK


async def test_a_broken_stream_gives_its_grace(timed_client: Client, clock: "TestClock") -> None:
    """A worker whose stream broke, and that does not come back, loses its locks after the grace."""
    client = timed_client
    await connect(client, "w", lease=duration(LEASE))
    made = await mark(client, "w", LOCK)
    call = client.claims.Work()
    start = v1.WorkStart(worker_id="w", grace=duration(2_000))
    await call.write(v1.WorkRequest(start=start))
    await call.read()
    call.cancel()
    while not (await show_worker(client, "w")).HasField("grace_expire_time"):
        pass
    clock.advance(2_000)
    assert (await unlocked(client, made.revision)).file_mark.path == LOCK


async def test_locks_outlive_a_restart(
    start_server: "Callable[..., Any]", clock: "TestClock"
) -> None:
    """After a restart a lock is held as before, and goes as before."""
    async with start_server(clock=clock) as server, Client(server.address) as client:
        await connect(client, "v", "w", lease=duration(LEASE))
        made = await mark(client, "w", LOCK)
    async with start_server(clock=clock) as server, Client(server.address) as client:
        assert (await refusal(mark(client, "v", LOCK))).reason == "FILE_LOCKED"
        clock.advance(LEASE)
        assert (await unlocked(client, made.revision)).file_mark.path == LOCK


# Waiting


async def test_a_lock_goes_to_the_one_who_waits_longest(
    timed_client: Client, clock: "TestClock"
) -> None:
    """With `wait`, locks are given on in the order in which they were asked for."""
    client = timed_client
    await connect(client, "a", "b", "c", "d")
    await mark(client, "a", LOCK)
    calls = [await waiting_for(client, clock, worker, reason=worker) for worker in "bcd"]
    for worker, following, call in zip("abc", "bcd", calls, strict=True):
        assert await unmark(client, worker, LOCK) == [LOCK]
        assert (await call).marks[0].worker_id == following
        assert await holders(client) == [(LOCK, following)]


async def test_who_waits_is_given_what_silence_frees(
    timed_client: Client, clock: "TestClock"
) -> None:
    """An agent that died holds nobody back for longer than its lease."""
    client = timed_client
    await connect(client, "v", "w", lease=duration(LEASE))
    await mark(client, "w", LOCK)
    call = await waiting_for(client, clock, "v")
    clock.advance(LEASE)
    assert (await call).marks[0].worker_id == "v"


async def test_waiting_is_for_all_locks_of_a_call(timed_client: Client, clock: "TestClock") -> None:
    """Who waits for several holds none of them meanwhile, and gets them together."""
    client = timed_client
    await connect(client, "a", "b", "v", "w")
    await mark(client, "a", "lock:1")
    await mark(client, "b", "lock:2")
    both = await waiting_for(client, clock, "v", "lock:1", "lock:2", "x.py")
    one = await waiting_for(client, clock, "w", "lock:1")
    await unmark(client, "a")
    assert (await one).marks[0].path == "lock:1"
    await unmark(client, "b")
    await unmark(client, "w")
    assert [each.path for each in (await both).marks] == ["lock:1", "lock:2", "x.py"]


async def test_waiting_in_vain_ends_with_the_refusal(
    timed_client: Client, clock: "TestClock"
) -> None:
    """When the wait is over and the lock is still another's, the call is refused as at once."""
    client = timed_client
    await connect(client, "v", "w", lease=duration(3_600_000))
    await mark(client, "w", LOCK)
    request = v1.MarkFilesRequest(worker_id="v", paths=[LOCK], wait=duration(5_000))
    clock.advance(1)
    call = asyncio.ensure_future(client.files.MarkFiles(request, timeout=60))
    while (await show_worker(client, "v")).heartbeat_time.ToMilliseconds() < clock.now():
        pass
    clock.advance(5_000)
    assert (await refusal(call)).metadata["holder"] == "w"


async def test_who_gives_up_leaves_the_line(timed_client: Client, clock: "TestClock") -> None:
    """A lock is not given to a caller that has gone."""
    client = timed_client
    await connect(client, "a", "b", "c")
    await mark(client, "a", LOCK)
    gone = await waiting_for(client, clock, "b")
    call = await waiting_for(client, clock, "c")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await unmark(client, "a")
    assert (await call).marks[0].worker_id == "c"


async def test_a_worker_that_disconnects_does_not_wait(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A call that waits for a lock ends with its worker's registration."""
    client = timed_client
    await connect(client, "v", "w")
    await mark(client, "w", LOCK)
    call = await waiting_for(client, clock, "v")
    await disconnect(client, "v")
    assert (await refusal(call)).reason == "WORKER_NOT_FOUND"


async def test_waiting_for_a_lock_is_no_waiting_for_a_task(
    timed_client: Client, clock: "TestClock"
) -> None:
    """Tasks that become ready pass by who waits for a lock, whatever else happens to him."""
    client = timed_client
    await connect(client, "v", "w", max_claims=2)
    await create(client, "mine")
    await claim(client, "v", "mine")
    await mark(client, "w", LOCK)
    call = await waiting_for(client, clock, "v")
    await complete(client, "v", "mine")
    await create(client, "a")
    assert (await client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))).task.ready
    await unmark(client, "w")
    assert (await call).marks[0].worker_id == "v"


async def test_a_call_that_waits_is_remembered(timed_client: Client, clock: "TestClock") -> None:
    """The same request again is answered as it was the first time, and gives nothing twice."""
    client = timed_client
    await connect(client, "v", "w")
    await mark(client, "w", LOCK)
    call = await waiting_for(client, clock, "v", request_id="once")
    await unmark(client, "w")
    first = await call
    await unmark(client, "v")
    again = await mark(client, "v", LOCK, wait=WAIT, request_id="once")
    assert again == first
    assert await holders(client) == []


async def test_a_server_that_goes_lets_nobody_wait(
    start_server: "Callable[..., Any]", clock: "TestClock"
) -> None:
    """Who waits for a lock is told that the server is shutting down."""
    async with start_server(clock=clock) as server:
        client = Client(server.address)
        await connect(client, "v", "w")
        await mark(client, "w", LOCK)
        stub = v1.FileServiceStub(grpc.aio.insecure_channel(server.address))
        request = v1.MarkFilesRequest(worker_id="v", paths=[LOCK], wait=WAIT)
        clock.advance(1)
        call = stub.MarkFiles(request)
        while (await show_worker(client, "v")).heartbeat_time.ToMilliseconds() < clock.now():
            pass
        await client.close()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_bad_waits_are_named(server: "Server", client: Client) -> None:
    """A wait beyond a day, or a negative one, is refused by its name."""
    await connect(client, "w")
    for ms in (86_400_001, -1_000):
        error = await refusal(mark(client, "w", LOCK, wait=duration(ms)))
        assert error.field_violations[0].field == "wait"
