"""Advisory claims: a worker's word that it works on a task, which keeps nobody else from it.

Here is how they are made and what they mean to others; how they end is in test_advisory_endings.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client, TaskloomError
from taskloom_server.coordinator import claims
from taskloom_server.coordinator.admission import Held
from taskloom_server.graph.events import EventType

from tests.lone_writer import LoneWriter, lone_writer

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

    StartServer: TypeAlias = Callable[..., AbstractAsyncContextManager[Server]]

ADVISORY = v1.CLAIM_MODE_ADVISORY
LEASE = 60_000
"""Of every worker here, in ms."""


async def _connect(client: Client, id: str, **fields: Any) -> None:
    asked: dict[str, Any] = {"lease": Duration(seconds=LEASE // 1000), "max_claims": 10} | fields
    await client.workers.Connect(v1.ConnectRequest(worker_id=id, **asked))


async def _create(client: Client, id: str, **fields: Any) -> v1.Task:
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def _advise(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    """Claim a task by the worker's word alone."""
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task, mode=ADVISORY, **fields)
    return (await client.claims.ClaimTask(request)).task


async def _claim(client: Client, worker: str, task: str) -> v1.Task:
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task)
    return (await client.claims.ClaimTask(request)).task


async def _next(client: Client, worker: str, **fields: Any) -> list[str]:
    request = v1.ClaimNextTaskRequest(worker_id=worker, **fields)
    return [task.id for task in (await client.claims.ClaimNextTask(request)).tasks]


async def _outcome(client: Client, worker: str, **fields: Any) -> v1.ClaimOutcome.ValueType:
    request = v1.ClaimNextTaskRequest(worker_id=worker, **fields)
    return (await client.claims.ClaimNextTask(request)).outcome


async def _show(client: Client, task: str) -> v1.Task:
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def _worker(client: Client, id: str) -> v1.Worker:
    answer = await client.workers.ListWorkers(v1.ListWorkersRequest())
    return next(worker for worker in answer.workers if worker.id == id)


async def _refusal(call: Awaitable[object]) -> str:
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value.reason


# Making them


async def test_several_may_work_on_one_task(timed_client: Client, clock: "TestClock") -> None:
    """An advisory claim leaves the task ready, in its status and nobody's, for any number."""
    before = await _create(timed_client, "task")
    since = clock.now()
    for worker in ("a", "b"):
        await _connect(timed_client, worker)
    first = await timed_client.claims.ClaimTask(
        v1.ClaimTaskRequest(worker_id="a", task_id="task", mode=ADVISORY)
    )
    clock.advance(1_000)
    request = v1.ClaimTaskRequest(worker_id="b", task_id="task", mode=ADVISORY)
    request.lease.FromSeconds(5)
    second = await timed_client.claims.ClaimTask(request)
    task = second.task
    assert (task.status, task.ready, task.worker_id) == ("pending", True, "")
    assert (task.claim_revision, task.attempts) == (0, 0)
    assert not task.HasField("lease_expire_time")
    assert task.ready_time == before.ready_time
    assert [
        (c.worker_id, c.claim_revision, c.claim_time.ToMilliseconds(), c.lease.ToMilliseconds())
        for c in task.advisory_claims
    ] == [("a", first.revision, since, LEASE), ("b", second.revision, since + 1_000, 5_000)]
    assert task == await _show(timed_client, "task")
    ready = v1.ListTasksRequest(ready=True, claimed=False)
    assert list((await timed_client.tasks.ListTasks(ready)).tasks) == [task]


async def test_the_stream_tells_of_it(timed_client: Client) -> None:
    """One event says who works on the task, and shows it as the answer and a reader do."""
    await _create(timed_client, "task")
    await _connect(timed_client, "a")
    task = await _advise(timed_client, "a", "task")
    async with timed_client.watch(start_revision=task.revision) as watch:
        event = await anext(watch.events())
    assert event.type == v1.EVENT_TYPE_ADVISORY_CLAIM_MADE
    assert (event.task_id, event.worker_id, event.previous_status) == ("task", "a", "")
    assert event.task == task == await _show(timed_client, "task")


async def test_claiming_again_is_a_sign_of_life(timed_client: Client, clock: "TestClock") -> None:
    """Who claims by its word what it works on already keeps its claim; nothing is told."""
    await _create(timed_client, "task")
    await _connect(timed_client, "a")
    task = await _advise(timed_client, "a", "task")
    clock.advance(1_000)
    assert await _advise(timed_client, "a", "task") == task
    worker = await _worker(timed_client, "a")
    assert worker.heartbeat_time.ToMilliseconds() == clock.now()
    assert (worker.claim_attempts, worker.claims_granted, worker.claims_held) == (1, 1, 1)


async def test_what_one_has_needs_no_word(timed_client: Client) -> None:
    """An advisory claim of a task that the worker holds exclusively changes nothing."""
    await _create(timed_client, "task")
    await _connect(timed_client, "a")
    held = await _claim(timed_client, "a", "task")
    assert await _advise(timed_client, "a", "task") == held


async def test_an_assigned_task_begins(timed_client: Client) -> None:
    """A claim of what is assigned to the worker begins it, in whatever mode it is made."""
    await _create(timed_client, "task")
    await _connect(timed_client, "a")
    await timed_client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="task", assignee="a"))
    task = await _advise(timed_client, "a", "task")
    assert (task.status, task.worker_id, len(task.advisory_claims)) == ("working", "a", 0)


async def test_it_is_no_move(timed_client: Client) -> None:
    """An advisory claim leaves the status of the last task that the worker moved."""
    await _create(timed_client, "task")
    await _connect(timed_client, "a")
    await _advise(timed_client, "a", "task")
    assert (await _worker(timed_client, "a")).last_status == ""


async def _block(client: Client) -> None:
    await _create(client, "blocker")
    await client.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id="blocker", to_task_id="task"))


async def _fill_hands(client: Client) -> None:
    await _connect(client, "a", max_claims=1)
    await _create(client, "other")
    await _advise(client, "a", "other")


async def _tire(client: Client) -> None:
    await _connect(client, "a", cool_down=Duration(seconds=60))
    await _create(client, "other")
    await _claim(client, "a", "other")
    await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="a", task_id="other"))


REFUSALS: dict[str, tuple[str, Callable[[Client], Awaitable[object]]]] = {
    "held": ("TASK_CLAIMED", lambda c: _claim(c, "b", "task")),
    "blocked": ("DEPENDENCIES_UNMET", _block),
    "parent": ("CHILDREN_OPEN", lambda c: _create(c, "child", parent_id="task")),
    "tags": (
        "TAGS_MISSING",
        lambda c: c.tasks.UpdateTask(
            v1.UpdateTaskRequest(task_id="task", needed_tags=v1.Tags(values=["gpu"]))
        ),
    ),
    "limit": ("CLAIM_LIMIT", _fill_hands),
    "rest": ("COOLING_DOWN", _tire),
    "ended": (
        "ILLEGAL_TRANSITION",
        lambda c: c.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="task", status="cancelled")),
    ),
    "deleted": (
        "TASK_DELETED",
        lambda c: c.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="task")),
    ),
    "paused": ("PAUSED", lambda c: c.admin.Pause(v1.PauseRequest())),
    "paused-subtree": ("PAUSED", lambda c: c.admin.Pause(v1.PauseRequest(task_id="task"))),
    "disconnected": (
        "WORKER_NOT_FOUND",
        lambda c: c.workers.Disconnect(v1.DisconnectRequest(worker_id="a")),
    ),
}


@pytest.mark.parametrize(("reason", "bring_about"), REFUSALS.values(), ids=list(REFUSALS))
async def test_it_is_refused_like_any_claim(
    timed_client: Client, reason: str, bring_about: Callable[[Client], Awaitable[object]]
) -> None:
    """What an exclusive claim would be refused for, an advisory one is refused for as well."""
    await _create(timed_client, "task")
    for worker in ("a", "b"):
        await _connect(timed_client, worker)
    await bring_about(timed_client)
    before = await _show(timed_client, "task")
    assert await _refusal(_advise(timed_client, "a", "task")) == reason
    assert await _show(timed_client, "task") == before


# What it means to others


@pytest.mark.parametrize("scope", ["", "top"], ids=["anywhere", "below-a-task"])
@pytest.mark.parametrize(
    "order", [v1.ORDER_BY_PRIORITY, v1.ORDER_BY_TEMPERATURE], ids=["priority", "temperature"]
)
@pytest.mark.parametrize("mode", [v1.CLAIM_MODE_EXCLUSIVE, ADVISORY], ids=["exclusive", "advisory"])
async def test_tasks_on_which_nobody_works_come_first(
    timed_client: Client,
    mode: v1.ClaimMode.ValueType,
    order: v1.OrderBy.ValueType,
    scope: str,
) -> None:
    """A task on which somebody works comes after all others, however urgent; then by the order."""
    await _create(timed_client, "top", needed_tags=["nobody-has-this"])
    for id, priority in (("low", 1), ("urgent", 10), ("high", 8), ("middle", 5)):
        await _create(timed_client, id, priority=priority, parent_id="top")
    for worker in ("a", "b"):
        await _connect(timed_client, worker)
    for id in ("high", "urgent"):
        await _advise(timed_client, "a", id)
    asked: dict[str, Any] = {"order_by": order, "parent_id": scope, "mode": mode}
    assert await _next(timed_client, "b", **asked) == ["middle"]
    assert await _next(timed_client, "b", **asked, max_tasks=2) == ["low", "urgent"]
    assert await _next(timed_client, "b", **asked) == ["high"]


async def test_the_last_word_taken_back_puts_a_task_first_again(timed_client: Client) -> None:
    """A task comes last as long as anybody works on it, and no longer."""
    for id, priority in (("urgent", 9), ("low", 1), ("lower", 0)):
        await _create(timed_client, id, priority=priority)
    for worker in ("a", "b", "c"):
        await _connect(timed_client, worker)
    for worker in ("a", "b"):
        await _advise(timed_client, worker, "urgent")
    release = v1.ReleaseTaskRequest(worker_id="a", task_id="urgent")
    await timed_client.claims.ReleaseTask(release)
    assert await _next(timed_client, "c") == ["low"]
    await timed_client.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="b", task_id="urgent"))
    assert await _next(timed_client, "c") == ["urgent"]


async def test_no_worker_is_given_a_task_twice(timed_client: Client) -> None:
    """By advisory claims a worker is given each ready task once, and others are given it, too."""
    await _create(timed_client, "one", priority=9)
    await _create(timed_client, "two")
    await _create(timed_client, "three")
    for worker in ("a", "b"):
        await _connect(timed_client, worker)
    asked: dict[str, Any] = {"mode": ADVISORY}
    assert await _next(timed_client, "a", **asked) == ["one"]
    assert await _next(timed_client, "a", **asked, max_tasks=9) == ["two", "three"]
    assert await _outcome(timed_client, "a", **asked) == v1.CLAIM_OUTCOME_NONE_READY
    assert await _next(timed_client, "b", **asked, max_tasks=9) == ["one", "two", "three"]
    task = await _show(timed_client, "one")
    assert [claim.worker_id for claim in task.advisory_claims] == ["a", "b"]
    assert task.ready


async def test_an_exclusive_claim_next_takes_over_what_one_works_on(timed_client: Client) -> None:
    """Asked for a task to itself, a worker may be given the one that it works on already."""
    await _create(timed_client, "task")
    await _connect(timed_client, "a")
    await _advise(timed_client, "a", "task")
    assert await _next(timed_client, "a") == ["task"]
    task = await _show(timed_client, "task")
    assert (task.status, task.worker_id, len(task.advisory_claims)) == ("working", "a", 0)
    assert (await _worker(timed_client, "a")).claims_held == 1


async def test_both_modes_count_towards_max_claims(timed_client: Client) -> None:
    """A worker holds at most max_claims tasks, by claims of either mode together."""
    for n in range(5):
        await _create(timed_client, f"t{n}", priority=9 - n)
    await _connect(timed_client, "a", max_claims=3)
    assert await _next(timed_client, "a", mode=ADVISORY) == ["t0"]
    await _claim(timed_client, "a", "t1")
    assert (await _worker(timed_client, "a")).claims_held == 2
    assert await _next(timed_client, "a", mode=ADVISORY, max_tasks=9) == ["t2"]
    worker = await _worker(timed_client, "a")
    assert (worker.claims_held, worker.claim_attempts, worker.claims_granted) == (3, 3, 3)
    for mode in (ADVISORY, v1.CLAIM_MODE_EXCLUSIVE):
        limit = v1.CLAIM_OUTCOME_LIMIT_REACHED
        assert await _outcome(timed_client, "a", mode=mode) == limit
        request = v1.ClaimTaskRequest(worker_id="a", task_id="t3", mode=mode)
        assert await _refusal(timed_client.claims.ClaimTask(request)) == "CLAIM_LIMIT"
    await timed_client.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="a", task_id="t0"))
    assert await _next(timed_client, "a", mode=ADVISORY, max_tasks=9) == ["t0"]


async def test_it_keeps_nobody_away(timed_client: Client) -> None:
    """Another worker takes the task exclusively; who works on it stays on record."""
    await _create(timed_client, "task")
    for worker in ("a", "b"):
        await _connect(timed_client, worker)
    advised = await _advise(timed_client, "a", "task")
    taken = await _claim(timed_client, "b", "task")
    assert (taken.status, taken.worker_id, taken.ready) == ("working", "b", False)
    assert list(taken.advisory_claims) == list(advised.advisory_claims)
    assert (await _worker(timed_client, "a")).claims_lost == 0


# Waiting


def _wait(client: Client, worker: str, **fields: Any) -> asyncio.Task[Any]:
    request = v1.ClaimNextTaskRequest(worker_id=worker, **fields)
    request.wait.FromTimedelta(timedelta(seconds=20))

    async def call() -> v1.ClaimNextTaskResponse:
        return await client.claims.ClaimNextTask(request)

    return asyncio.create_task(call())


async def _in_line(client: Client, clock: "TestClock", *workers: tuple[str, Any]) -> list[Any]:
    """Calls that wait, in this order: each has given a sign of life before the next comes."""
    calls = []
    for worker, mode in workers:
        clock.advance(1)
        calls.append(_wait(client, worker, mode=mode))
        while (await _worker(client, worker)).heartbeat_time.ToMilliseconds() < clock.now():
            pass
    return calls


async def test_who_waits_to_share_leaves_the_task_to_the_next(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A task goes to all who wait for an advisory claim, and to the first who wants it alone."""
    await _create(timed_client, "open", needed_tags=["nobody-has-this"])
    for worker in ("a", "b", "c", "d", "e"):
        await _connect(timed_client, worker)
    calls = await _in_line(
        timed_client,
        clock,
        *(("a", ADVISORY), ("b", ADVISORY), ("c", None), ("d", ADVISORY), ("e", None)),
    )
    await _create(timed_client, "task")
    a, b, c = [(await call).tasks[0] for call in calls[:3]]
    assert not calls[3].done()
    assert not calls[4].done()
    for call in calls[3:]:
        call.cancel()
    assert [claim.worker_id for claim in b.advisory_claims] == ["a", "b"]
    assert (a.ready, b.ready, c.worker_id) == (True, True, "c")
    assert a.revision < b.revision < c.revision
    assert await _show(timed_client, "task") == c


async def test_who_wants_it_alone_and_came_first_has_it_alone(
    timed_client: Client, clock: "TestClock"
) -> None:
    """An advisory claim that waits behind an exclusive one goes on waiting."""
    await _create(timed_client, "open", needed_tags=["nobody-has-this"])
    for worker in ("a", "b"):
        await _connect(timed_client, worker)
    alone, shared = await _in_line(timed_client, clock, ("a", None), ("b", ADVISORY))
    await _create(timed_client, "task")
    assert [task.id for task in (await alone).tasks] == ["task"]
    assert not shared.done()
    await timed_client.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="a", task_id="task"))
    [task] = (await shared).tasks
    assert [claim.worker_id for claim in task.advisory_claims] == ["b"]


async def test_who_works_on_all_there_is_waits_for_more(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A worker that waits to share is not given again what it works on, but what comes next."""
    await _create(timed_client, "task")
    await _connect(timed_client, "a")
    await _advise(timed_client, "a", "task")
    [call] = await _in_line(timed_client, clock, ("a", ADVISORY))
    request = v1.UpdateTaskRequest(task_id="task", needed_tags=v1.Tags())
    await timed_client.tasks.UpdateTask(request)
    assert not call.done()
    await _create(timed_client, "more")
    assert [task.id for task in (await call).tasks] == ["more"]


# A caller that is gone, a server that starts again


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LoneWriter]:
    """A writer of a new file."""
    with lone_writer(tmp_path / "tasks.db") as writer:
        yield writer


NEXT_TWO = claims.ClaimNext("a", 2, None, "", advisory=True)


def test_claims_of_a_caller_who_is_gone_are_undone(writer: LoneWriter) -> None:
    """What is given by advisory claims to a caller who had gone is taken back, and only that."""
    for id in ("one", "two", "three"):
        writer.create(id)
    for worker, id in (("a", "one"), ("b", "one"), ("b", "three")):
        writer.connect(worker)
        writer.claim(worker, id, advisory=True)
    writer.told.clear()
    writer.run_for_nobody(claims.claim_next, NEXT_TWO, claims.give_back)
    assert [(event.type, event.task_id, event.worker_id) for event in writer.told] == [
        (EventType.ADVISORY_CLAIM_MADE, "two", "a"),
        (EventType.ADVISORY_CLAIM_MADE, "three", "a"),
        (EventType.ADVISORY_CLAIM_ENDED, "two", "a"),
        (EventType.ADVISORY_CLAIM_ENDED, "three", "a"),
    ]
    given = writer.claim_next("a", 5, advisory=True)
    assert [task.id for task in given.tasks] == ["two", "three"]


def test_what_has_ended_meanwhile_is_not_undone(writer: LoneWriter) -> None:
    """A claim that was made for nobody and that its worker has let go of is left at that."""
    for id in ("one", "two"):
        writer.create(id)
    writer.connect("a")
    writer.told.clear()
    release = (claims.release, Held("a", "one", 0, ""))
    writer.run_for_nobody(claims.claim_next, NEXT_TWO, claims.give_back, meanwhile=release)
    ended = [e.task_id for e in writer.told if e.type is EventType.ADVISORY_CLAIM_ENDED]
    assert ended == ["one", "two"]


async def test_a_restart_keeps_them(
    start_server: "StartServer", clock: "TestClock", tmp_path: Path
) -> None:
    """Advisory claims outlive the server, and those whose time passed meanwhile end at once."""
    db = tmp_path / "tasks.db"
    async with start_server(db=db, clock=clock) as server, Client(server.address) as client:
        await _create(client, "task")
        for worker in ("overdue", "lasting"):
            await _connect(client, worker)
        await _advise(client, "overdue", "task")
        task = await _advise(client, "lasting", "task", lease=Duration(seconds=LEASE // 500))
    clock.advance(LEASE)
    async with start_server(db=db, clock=clock) as server, Client(server.address) as client:
        async with client.watch(start_revision=task.revision + 1) as watch:
            event = await anext(watch.events())
        assert event.type == v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED
        assert (event.worker_id, event.time.ToMilliseconds()) == ("overdue", clock.now())
        [left] = (await _show(client, "task")).advisory_claims
        assert left == task.advisory_claims[1]
        clock.advance(LEASE)
        async with client.watch(start_revision=task.revision + 2) as watch:
            event = await anext(watch.events())
        assert (event.worker_id, event.time.ToMilliseconds()) == ("lasting", clock.now())


async def test_reset_forgets_them(timed_client: Client) -> None:
    """After a reset no claim of before counts for anything."""
    await _create(timed_client, "task")
    await _connect(timed_client, "a", max_claims=1)
    await _advise(timed_client, "a", "task")
    await timed_client.admin.Reset(v1.ResetRequest(confirm="reset"))
    await _create(timed_client, "task")
    await _connect(timed_client, "a", max_claims=1)
    assert await _next(timed_client, "a", mode=ADVISORY) == ["task"]
