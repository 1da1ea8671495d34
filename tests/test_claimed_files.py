"""Files given with a claim: the claim and its marks come or fail together."""

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    duration,
    fail,
    show_worker,
    update,
)
from tests.test_files import mark, marked, refusal, unmark
from tests.test_hot_statements import Statements, statements
from tests.test_locks import waiting_for

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

__all__ = ["statements"]

LOCK = "lock:git-commit"
WAIT = duration(600_000)
LOCKED = v1.CLAIM_OUTCOME_FILES_LOCKED
NONE = v1.CLAIM_OUTCOME_NONE_READY


async def waiting(
    client: Client, clock: "TestClock", worker: str, *files: str, **fields: Any
) -> "asyncio.Task[v1.ClaimNextTaskResponse]":
    """A claim that waits in line."""
    clock.advance(1)
    call = asyncio.create_task(claim_next(client, worker, wait=WAIT, files=files, **fields))
    while (await show_worker(client, worker)).heartbeat_time.ToMilliseconds() < clock.now():
        pass
    return call


def given(answer: v1.ClaimNextTaskResponse) -> list[str]:
    """The ids of the tasks in an answer."""
    return [task.id for task in answer.tasks]


async def test_a_named_claim_marks_its_files(client: Client) -> None:
    """The files are marked for the task, with the reason, and the answer lists the conflicts."""
    await connect(client, "v", "w")
    await create(client, "a")
    await mark(client, "v", "a.py", reason="mine")
    request = v1.ClaimTaskRequest(
        worker_id="w", task_id="a", files=["a.py", "b.py", LOCK], mark_reason="rework"
    )
    answer = await client.claims.ClaimTask(request)
    assert answer.task.worker_id == "w"
    assert [(m.path, m.worker_id, m.reason) for m in answer.conflicts] == [("a.py", "v", "mine")]
    listed = await client.files.ListFileMarks(v1.ListFileMarksRequest(worker_id="w"))
    assert [(m.path, m.task_id, m.reason) for m in listed.marks] == [
        ("a.py", "a", "rework"),
        ("b.py", "a", "rework"),
        (LOCK, "a", "rework"),
    ]
    assert listed.revision == answer.revision, "one revision for the claim and its files"
    await complete(client, "w", "a")
    assert await marked(client) == [("a.py", "v")]


async def test_a_named_claim_fails_with_its_locks(client: Client) -> None:
    """Where another one holds a lock, nothing is claimed and nothing marked; it is an attempt."""
    await connect(client, "v", "w")
    await create(client, "a")
    await mark(client, "v", LOCK, reason="rebasing")
    error = await refusal(claim(client, "w", "a", files=["a.py", LOCK]))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FILE_LOCKED")
    assert (error.metadata["holder"], error.metadata["reason"]) == ("v", "rebasing")
    task = (await client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))).task
    assert (task.status, task.worker_id, task.ready) == ("pending", "", True)
    assert await marked(client) == [(LOCK, "v")]
    worker = await show_worker(client, "w")
    assert (worker.claim_attempts, worker.claims_granted, worker.claims_lost) == (1, 0, 0)


async def test_what_is_wrong_with_the_task_comes_first(client: Client) -> None:
    """A task that another one has is refused as such, and its files are not marked."""
    await connect(client, "v", "w")
    await create(client, "a")
    await claim(client, "v", "a")
    error = await refusal(claim(client, "w", "a", files=["a.py"]))
    assert error.reason == "TASK_CLAIMED"
    assert await marked(client) == []


async def test_a_claim_that_is_renewed_adds_files(client: Client) -> None:
    """Claiming again what one holds marks more files for it, or fails as a whole."""
    await connect(client, "v", "w")
    await create(client, "a")
    first = await claim(client, "w", "a", files=["a.py"])
    again = await claim(client, "w", "a", files=["b.py"])
    assert again.claim_revision == first.claim_revision
    await mark(client, "v", LOCK)
    assert (await refusal(claim(client, "w", "a", files=["c.py", LOCK]))).reason == "FILE_LOCKED"
    assert await marked(client, worker_id="w") == [("a.py", "w"), ("b.py", "w")]
    worker = await show_worker(client, "w")
    assert worker.claim_attempts == 1, "what one holds one does not try to take"


async def test_what_was_assigned_begins_with_its_files(client: Client) -> None:
    """A task assigned to a worker is begun, and its files marked, or neither."""
    await connect(client, "v", "w")
    await create(client, "a")
    await update(client, "a", assignee="w")
    await mark(client, "v", LOCK)
    assert (await refusal(claim(client, "w", "a", files=[LOCK]))).reason == "FILE_LOCKED"
    await unmark(client, "v")
    assert (await claim(client, "w", "a", files=[LOCK])).status == "working"
    assert await marked(client) == [(LOCK, "w")]


async def test_an_advisory_claim_marks_its_files(client: Client) -> None:
    """Files of an advisory claim are marked, and go with it."""
    await connect(client, "w")
    await create(client, "a")
    for _ in range(2):
        await claim(client, "w", "a", mode=v1.CLAIM_MODE_ADVISORY, files=["a.py", LOCK])
    assert await marked(client) == [("a.py", "w"), (LOCK, "w")]
    await client.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="w", task_id="a"))
    assert await marked(client) == []


async def test_the_next_task_comes_with_its_files(client: Client) -> None:
    """ClaimNextTask marks the files for the task that it gives."""
    await connect(client, "v", "w")
    await create(client, "a")
    await mark(client, "v", "a.py")
    answer = await claim_next(client, "w", files=["a.py", LOCK], mark_reason="why")
    assert given(answer) == ["a"]
    assert [m.worker_id for m in answer.conflicts] == ["v"]
    assert await marked(client, task_id="a") == [("a.py", "w"), (LOCK, "w")]


async def test_a_held_lock_is_an_outcome(client: Client) -> None:
    """While another one holds a lock nothing is claimed; the answer says whose it is."""
    await connect(client, "v", "w")
    await create(client, "a")
    await mark(client, "v", LOCK, reason="rebasing")
    answer = await claim_next(client, "w", files=["a.py", LOCK], request_id="r")
    assert (given(answer), answer.outcome) == ([], LOCKED)
    assert [(m.path, m.worker_id, m.reason) for m in answer.conflicts] == [(LOCK, "v", "rebasing")]
    assert await marked(client) == [(LOCK, "v")]
    await unmark(client, "v")
    again = await claim_next(client, "w", files=["a.py", LOCK], request_id="r")
    assert given(again) == ["a"], "such an answer is not remembered"


async def test_without_a_task_nothing_is_marked(client: Client) -> None:
    """Where there is no task to be had, the outcome says so, and the files stay unmarked."""
    await connect(client, "w")
    await create(client, "a", needed_tags=["x"])
    assert (await claim_next(client, "w", files=["a.py", LOCK])).outcome == NONE
    assert await marked(client) == []


async def test_when_all_is_done_no_lock_matters(client: Client) -> None:
    """Who is kept off by a lock hears all the same that every task has ended."""
    await connect(client, "v", "w")
    await mark(client, "v", LOCK)
    answer = await claim_next(client, "w", files=[LOCK], wait=WAIT)
    assert answer.outcome == v1.CLAIM_OUTCOME_ALL_DONE


async def test_files_go_with_one_task(client: Client) -> None:
    """A mark is for one task, so files and several tasks are refused."""
    await connect(client, "w")
    error = await refusal(claim_next(client, "w", files=["a.py"], max_tasks=2))
    assert (error.reason, error.field_violations[0].field) == ("INVALID_FIELD", "files")


@pytest.mark.parametrize(
    ("files", "field"),
    [
        (["a.py", ""], "files[1]"),
        (["x" * 1_025], "files[0]"),
        (["a\0b"], "files[0]"),
        (["lock:"], "files[0]"),
        ([f"{n}.py" for n in range(1_001)], "files"),
    ],
)
async def test_bad_files_are_named(client: Client, files: list[str], field: str) -> None:
    """A path that cannot be marked is refused by its place, in both calls, and nothing claimed."""
    await connect(client, "w")
    await create(client, "a")
    for call in (claim_next(client, "w", files=files), claim(client, "w", "a", files=files)):
        error = await refusal(call)
        assert (error.reason, error.field_violations[0].field) == ("INVALID_FIELD", field)
    assert (await client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))).task.ready


# Waiting for a task and a lock


async def test_a_claim_waits_for_its_lock(timed_client: Client, clock: "TestClock") -> None:
    """With `wait`, a claim whose lock another one holds is given its task when that is free."""
    client = timed_client
    await connect(client, "v", "w")
    await create(client, "a")
    await mark(client, "v", LOCK)
    call = await waiting(client, clock, "w", LOCK)
    await create(client, "b", priority=10)
    await unmark(client, "v")
    assert given(await call) == ["b"]
    assert await marked(client) == [(LOCK, "w")]


async def test_one_after_the_other_has_the_lock(timed_client: Client, clock: "TestClock") -> None:
    """Claims that wait for one lock are given their tasks in turn, whenever one lets go of it."""
    client = timed_client
    await connect(client, "a", "b", "c", "v")
    for n in range(3):
        await create(client, f"t{n}")
    await mark(client, "v", LOCK)
    calls = [await waiting(client, clock, worker, LOCK) for worker in "abc"]
    await unmark(client, "v")
    assert given(await calls[0]) == ["t0"]
    await complete(client, "a", "t0")
    assert given(await calls[1]) == ["t1"]
    await fail(client, "b", "t1")
    assert given(await calls[2]) == ["t2"]


async def _a_lock_that_goes_with_a_blocker(client: Client) -> None:
    """The end of v's task frees a lock and makes another task ready, for a and b."""
    await connect(client, "a", "b", "v")
    await create(client, "first")
    await create(client, "second", blocked_by=["first"])
    await create(client, "open", needed_tags=["nobody-has-this"])
    await claim(client, "v", "first", files=[LOCK])


async def test_a_task_and_its_lock_go_to_who_waits_longest(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A verb that frees a lock and makes a task ready serves those who want both in their turn."""
    client = timed_client
    await _a_lock_that_goes_with_a_blocker(client)
    with_lock = await waiting(client, clock, "a", LOCK)
    without = await waiting(client, clock, "b")
    await complete(client, "v", "first")
    assert given(await with_lock) == ["second"]
    assert not without.done()
    without.cancel()


@pytest.mark.parametrize("alone_first", [True, False])
async def test_a_lock_goes_to_who_waits_longest_for_it_alone_or_with_a_task(
    timed_client: Client, clock: "TestClock", *, alone_first: bool
) -> None:
    """A verb that frees a lock and makes a task ready gives the lock to the first who wants it."""
    client = timed_client
    await _a_lock_that_goes_with_a_blocker(client)
    if alone_first:
        alone = await waiting_for(client, clock, "a", LOCK)
        both = await waiting(client, clock, "b", LOCK)
    else:
        both = await waiting(client, clock, "b", LOCK)
        alone = await waiting_for(client, clock, "a", LOCK)
    await complete(client, "v", "first")
    winner, other = (alone, both) if alone_first else (both, alone)
    await winner
    assert await marked(client) == [(LOCK, "a" if alone_first else "b")]
    assert not other.done()
    if alone_first:
        await unmark(client, "a")
        assert given(await both) == ["second"]
    else:
        await complete(client, "b", "second")
        await alone


async def test_a_lock_without_a_task_is_not_held_back(
    timed_client: Client, clock: "TestClock"
) -> None:
    """Who waits for a lock and finds no task waits for one, and gets both when there is one."""
    client = timed_client
    await connect(client, "a", "b", "v")
    await create(client, "open", needed_tags=["nobody-has-this"])
    await mark(client, "v", LOCK)
    calls = [await waiting(client, clock, worker, LOCK) for worker in "ab"]
    await unmark(client, "v")
    await mark(client, "v", "lock:other")  # a commit later: nobody has taken it
    assert await marked(client) == [("lock:other", "v")]
    await create(client, "one")
    assert given(await calls[0]) == ["one"]
    await create(client, "two")
    await complete(client, "a", "one")
    assert given(await calls[1]) == ["two"]


async def test_who_may_not_take_the_task_lets_the_next_one(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A free lock goes past those for whom there is no task, to one who has a use for it."""
    client = timed_client
    await connect(client, "a", "a2", "v")
    await connect(client, "b", tags=["x"])
    await create(client, "t", needed_tags=["x"])
    await mark(client, "v", LOCK)
    calls = [await waiting(client, clock, worker, LOCK) for worker in ("a", "a2", "b")]
    await unmark(client, "v")
    assert given(await calls[2]) == ["t"]
    for call in calls[:2]:
        assert not call.done()
        call.cancel()


async def test_a_claim_waits_in_vain(timed_client: Client, clock: "TestClock") -> None:
    """When the wait is over, the outcome says which lock it was."""
    client = timed_client
    await connect(client, "v", "w", lease=duration(3_600_000))
    await create(client, "a")
    await mark(client, "v", LOCK)
    request = v1.ClaimNextTaskRequest(worker_id="w", files=[LOCK], wait=duration(5_000))
    clock.advance(1)
    call = asyncio.ensure_future(client.claims.ClaimNextTask(request, timeout=60))
    while (await show_worker(client, "w")).heartbeat_time.ToMilliseconds() < clock.now():
        pass
    clock.advance(5_000)
    answer = await call
    assert (answer.outcome, [m.path for m in answer.conflicts]) == (LOCKED, [LOCK])


# Costs


async def test_a_lock_wakes_one_of_many(
    statements: Statements, timed_server: "Server", clock: "TestClock"
) -> None:
    """A lock that goes around among 100 claims that wait for it runs one claim each time."""
    count = 100
    async with Client(timed_server.address, timeout=120) as client:
        workers = [f"w{n}" for n in range(count)]
        await connect(client, "v", *workers)
        for n in range(count):
            await create(client, f"t{n}")
        await mark(client, "v", LOCK)
        clock.advance(1)
        calls = {
            worker: asyncio.create_task(claim_next(client, worker, files=[LOCK], wait=WAIT))
            for worker in workers
        }
        request = v1.ListWorkersRequest(page_size=1_000)
        while True:
            listed = (await client.workers.ListWorkers(request)).workers
            heard = [w for w in listed if w.heartbeat_time.ToMilliseconds() >= clock.now()]
            if len(heard) == count:
                break
        holder, task = "v", ""
        for _ in range(3):
            with statements.watched() as run:
                if task:
                    await complete(client, holder, task)
                else:
                    await unmark(client, holder)
                done, _ = await asyncio.wait(calls.values(), return_when=asyncio.FIRST_COMPLETED)
            [call] = done
            [holder] = [worker for worker, one in calls.items() if one is call]
            task = given(await calls.pop(holder))[0]
            assert sum(sql.startswith("SAVEPOINT") for sql, _ in run) == 2, "to free, and to claim"
        for call in calls.values():
            call.cancel()
        await asyncio.gather(*calls.values(), return_exceptions=True)


async def test_a_claim_without_files_asks_nothing_about_them(
    statements: Statements, timed_client: Client
) -> None:
    """Claims without files do not look at marks, whatever marks there are."""
    client = timed_client
    await connect(client, "v", "w")
    await create(client, "a")
    await create(client, "b")
    await mark(client, "v", LOCK, "a.py")
    with statements.watched() as run:
        await claim(client, "w", "a")
        await claim_next(client, "v")
    assert not [sql for sql, _ in run if "file_locks" in sql]
