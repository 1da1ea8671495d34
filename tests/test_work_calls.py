"""The Work stream: what a worker reports is answered, refused and remembered as calls are."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.message import Message
from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    complete,
    connect,
    create,
    duration,
    event,
    fail,
    pause,
    refusal,
    release,
    show,
    show_worker,
    status,
    update,
)
from tests.work_streams import WorkStream, working

if TYPE_CHECKING:
    from tests.conftest import TestClock

NUMBER_OF: dict[str, int] = {code.name: code.value[0] for code in grpc.StatusCode}


# Answers


async def test_every_call_is_answered(timed_client: Client, clock: "TestClock") -> None:
    """complete, fail, release and heartbeat are answered as the calls of these names are."""
    await connect(timed_client, "w", max_claims=9, lease=duration(60_000))
    for id in ("a", "b", "c", "d"):
        await create(timed_client, id)
    await create(timed_client, "next", blocked_by=["a"])
    async with working(timed_client, "w", credit=4) as stream:
        a, b, c, _ = await stream.take(4)
        clock.advance(1_000)

        answer = await stream.ask(
            complete=v1.CompleteTaskRequest(
                task_id="a", claim_revision=a.claim_revision, reason="done"
            )
        )
        assert answer.completed.task == await show(timed_client, "a")
        assert answer.completed.task.status == "completed"
        assert list(answer.completed.unblocked_task_ids) == ["next"]
        assert answer.revision == answer.completed.revision == answer.completed.task.revision

        answer = await stream.ask(
            fail=v1.FailTaskRequest(task_id="b", claim_revision=b.claim_revision, reason="broken")
        )
        assert answer.failed.task == await show(timed_client, "b")
        assert (answer.failed.task.status, answer.failed.task.attempts) == ("failed", 1)
        assert answer.revision == answer.failed.revision == answer.failed.task.revision

        answer = await stream.ask(
            release=v1.ReleaseTaskRequest(task_id="c", claim_revision=c.claim_revision)
        )
        assert answer.released.task == await show(timed_client, "c")
        assert answer.released.task.ready
        assert answer.revision == answer.released.revision == answer.released.task.revision

        answer = await stream.ask(heartbeat=v1.HeartbeatRequest())
        assert answer.alive.worker == await show_worker(timed_client, "w")
        assert answer.alive.lease_expire_time.ToMilliseconds() == clock.now() + 60_000
        assert answer.revision == (await status(timed_client)).revision


async def test_answers_come_in_order(client: Client) -> None:
    """Calls are done in the order in which they came, each answered with its call_id, 0 or not."""
    await connect(client, "w", max_claims=9)
    for n in range(5):
        await create(client, f"t{n}")
        await claim(client, "w", f"t{n}")
    async with working(client, "w") as stream:
        for n in (3, 1, 4, 0, 2):
            await stream.send(complete=v1.CompleteTaskRequest(task_id=f"t{n}"), call_id=n)
        answers = [await stream.hear("completed") for _ in range(5)]
        assert [(each.call_id, each.completed.task.id) for each in answers] == [
            (n, f"t{n}") for n in (3, 1, 4, 0, 2)
        ]
        assert [each.revision for each in answers] == sorted(each.revision for each in answers)


async def test_stream_that_is_open_is_no_sign_of_life(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A lease ends under a stream on which nothing is sent; a message of any kind renews it."""
    await connect(timed_client, "w", max_claims=9, lease=duration(60_000))
    await connect(timed_client, "x", lease=duration(60_000))
    await create(timed_client, "a")
    await create(timed_client, "b")
    async with (
        working(timed_client, "w", credit=1) as alive,
        working(timed_client, "x", credit=1) as silent,
    ):
        assert await alive.assigned() == ["a"]
        assert await silent.assigned() == ["b"]
        clock.advance(30_000)
        await alive.quiet()
        clock.advance(30_000)
        await event(timed_client, v1.EVENT_TYPE_TASK_LEASE_EXPIRED, "b")
        assert (await show(timed_client, "a")).worker_id == "w"
        await silent.quiet()


async def no_sign_of_life(client: Client, clock: "TestClock", credit: int, others_do: str) -> None:
    """What a stream with so much credit is told, when others do something, renews no lease."""
    await connect(client, "w", max_claims=9, lease=duration(60_000))
    await create(client, "a")
    async with working(client, "w", credit=credit) as stream:
        assert await stream.assigned() == ["a"]
        await stream.waiting()
        await stream.quiet()
        before = await show_worker(client, "w")
        clock.advance(30_000)
        if others_do == "pause":
            await pause(client)
            await stream.waiting()
        else:
            await create(client, "b")
            assert await stream.assigned() == ["b"]
        await connect(client, "other")  # behind all that the server does by itself
        after = await show_worker(client, "w")
        assert after.heartbeat_time == before.heartbeat_time


async def test_to_be_assigned_is_no_sign_of_life(timed_client: Client, clock: "TestClock") -> None:
    """Nor is what the server assigns to a worker: it may have hung up long ago."""
    await no_sign_of_life(timed_client, clock, credit=2, others_do="create")


@pytest.mark.parametrize("others_do", ["pause", "create"])
async def test_to_stand_in_line_is_no_sign_of_life(
    timed_client: Client, clock: "TestClock", others_do: str
) -> None:
    """Nor is that its stream stands in line anew, for the credit that is left."""
    await no_sign_of_life(timed_client, clock, credit=9, others_do=others_do)


# Refusals


async def held_by_other(client: Client) -> None:
    """Somebody else has the task."""
    await create(client, "a")
    await connect(client, "other")
    await claim(client, "other", "a")


async def with_open_children(client: Client) -> None:
    """The task is the worker's and was given children."""
    await create(client, "a")
    await claim(client, "w", "a")
    for id in ("child", "another"):
        await create(client, id, parent_id="a")


async def deleted(client: Client) -> None:
    """The task was the worker's."""
    await create(client, "a")
    await claim(client, "w", "a")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="a", force=True))


async def assigned(client: Client) -> None:
    """The task is the worker's, who has not begun it: no end is open to it."""
    await create(client, "a")
    await update(client, "a", assignee="w")


async def nothing(client: Client) -> None:
    """There is no task."""


COMPLETE = v1.CompleteTaskRequest(task_id="a")
REFUSED: list[tuple[str, Callable[[Client], Awaitable[None]], dict[str, Message]]] = [
    ("TASK_NOT_FOUND", nothing, {"complete": COMPLETE}),
    ("CLAIM_LOST", held_by_other, {"complete": COMPLETE}),
    ("CLAIM_LOST", held_by_other, {"fail": v1.FailTaskRequest(task_id="a")}),
    ("CLAIM_LOST", held_by_other, {"release": v1.ReleaseTaskRequest(task_id="a")}),
    ("CHILDREN_OPEN", with_open_children, {"complete": COMPLETE}),
    ("TASK_DELETED", deleted, {"complete": COMPLETE}),
    ("ILLEGAL_TRANSITION", assigned, {"complete": COMPLETE}),
    ("INVALID_FIELD", nothing, {"complete": v1.CompleteTaskRequest()}),
    ("INVALID_FIELD", nothing, {"fail": v1.FailTaskRequest(task_id="a", reason="x" * 4_001)}),
    ("INVALID_FIELD", nothing, {"release": v1.ReleaseTaskRequest(task_id="a b")}),
]


@pytest.mark.parametrize(("reason", "prepare", "call"), REFUSED)
async def test_refused_as_the_call_is(
    client: Client,
    reason: str,
    prepare: Callable[[Client], Awaitable[None]],
    call: dict[str, Message],
) -> None:
    """A refusal says all that the call of its name is refused with, and the stream goes on."""
    await connect(client, "w", max_claims=9)
    await prepare(client)
    [(kind, request)] = call.items()
    unary: Any = type(request)()
    unary.CopyFrom(request)
    unary.worker_id = "w"
    error = await refusal(getattr(client.claims, f"{kind.capitalize()}Task")(unary))
    assert error.reason == reason

    async with working(client, "w") as stream:
        before = (await status(client)).revision
        answer = await stream.ask(**call)
        refused = answer.refused
        assert (refused.code, refused.reason) == (NUMBER_OF[error.code.name], reason)
        assert refused.message == error.message
        assert dict(refused.metadata) == error.metadata
        assert list(refused.subjects) == [
            *(violation.subject for violation in error.violations),
            *(violation.field for violation in error.field_violations),
            *([error.resource.name] if error.resource else []),
        ]
        await stream.quiet()
        assert (await status(client)).revision == before


async def test_lost_claim_names_the_holder(client: Client) -> None:
    """CLAIM_LOST tells who holds the task now, and in what state it is."""
    await connect(client, "w")
    await held_by_other(client)
    async with working(client, "w") as stream:
        refused = (await stream.ask(complete=COMPLETE)).refused
        assert refused.code == NUMBER_OF["ABORTED"]
        assert dict(refused.metadata) == {"holder": "other", "status": "working"}


async def test_open_children_are_named(client: Client) -> None:
    """CHILDREN_OPEN tells which children are open."""
    await connect(client, "w")
    await with_open_children(client)
    async with working(client, "w") as stream:
        refused = (await stream.ask(complete=COMPLETE)).refused
        assert refused.code == NUMBER_OF["FAILED_PRECONDITION"]
        assert list(refused.subjects) == ["child", "another"]


async def test_claim_revision_guards(client: Client) -> None:
    """A report with a claim revision that is not the claim's is refused, with the right one not."""
    await connect(client, "w")
    await create(client, "a")
    async with working(client, "w", credit=1) as stream:
        [task] = await stream.take(1)
        wrong = v1.CompleteTaskRequest(task_id="a", claim_revision=task.claim_revision + 1)
        assert (await stream.ask(complete=wrong)).refused.reason == "CLAIM_LOST"
        right = v1.CompleteTaskRequest(task_id="a", claim_revision=task.claim_revision)
        assert (await stream.ask(complete=right)).completed.task.status == "completed"


@pytest.mark.parametrize("kind", ["complete", "fail", "release", "heartbeat"])
async def test_stream_speaks_for_its_worker(client: Client, kind: str) -> None:
    """A call may name the stream's worker, and no other one; that is refused, and has no effect."""
    await connect(client, "w", "other")
    await create(client, "a")
    await create(client, "b")
    await claim(client, "w", "a")
    await claim(client, "other", "b")
    before = await show_worker(client, "other")
    requests: dict[str, type[Any]] = {
        "complete": v1.CompleteTaskRequest,
        "fail": v1.FailTaskRequest,
        "release": v1.ReleaseTaskRequest,
        "heartbeat": v1.HeartbeatRequest,
    }
    async with working(client, "w") as stream:
        others, own = requests[kind](worker_id="other"), requests[kind](worker_id="w")
        if kind != "heartbeat":
            others.task_id, own.task_id = "b", "a"
        refused = (await stream.ask(**{kind: others})).refused
        assert (refused.code, refused.reason) == (NUMBER_OF["INVALID_ARGUMENT"], "INVALID_FIELD")
        assert f"{kind}.worker_id" in refused.message
        assert await show_worker(client, "other") == before
        assert not (await stream.ask(**{kind: own})).HasField("refused")


# The same request again


async def test_one_request_by_stream_and_by_call(client: Client) -> None:
    """A request_id is the same request on a stream, on another stream, and in a unary call."""
    await connect(client, "w", max_claims=9)
    await create(client, "a")
    await create(client, "b")
    async with working(client, "w", credit=2) as stream:
        await stream.take(2)
        request = v1.CompleteTaskRequest(task_id="a", reason="done", request_id="r1")
        first = (await stream.ask(complete=request)).completed
        again = (await stream.ask(complete=request)).completed
        assert again == first
        async with working(client, "w") as other:
            assert (await other.ask(complete=request)).completed == first
        request.worker_id = "w"
        assert await client.claims.CompleteTask(request) == first

        unary = v1.FailTaskRequest(worker_id="w", task_id="b", request_id="r2")
        failed = await client.claims.FailTask(unary)
        assert (await stream.ask(fail=unary)).failed == failed
        unary.worker_id = ""
        assert (await stream.ask(fail=unary)).failed == failed
        assert (await status(client)).revision == failed.revision
        assert (await show(client, "b")).attempts == 1


async def test_request_id_of_something_else(client: Client) -> None:
    """A request_id that belongs to a request with other contents is refused on the stream."""
    await connect(client, "w", max_claims=9)
    for id in ("a", "b"):
        await create(client, id)
        await claim(client, "w", id)
    await complete(client, "w", "a", request_id="r1")
    async with working(client, "w") as stream:
        other = v1.CompleteTaskRequest(task_id="b", request_id="r1")
        refused = (await stream.ask(complete=other)).refused
        assert (refused.code, refused.reason) == (
            NUMBER_OF["INVALID_ARGUMENT"],
            "REQUEST_ID_REUSED",
        )
        assert (await show(client, "b")).status == "working"


async def test_repeated_after_a_break(client: Client) -> None:
    """What was done before a stream broke is answered alike on the next, and done once."""
    await connect(client, "w", max_claims=9)
    await create(client, "a")
    request = v1.CompleteTaskRequest(task_id="a", request_id="r1")
    async with working(client, "w", credit=1) as stream:
        await stream.take(1)
        await stream.send(complete=request)
        done = await event(client, v1.EVENT_TYPE_TASK_COMPLETED, "a")
    async with working(client, "w") as stream:
        answer = (await stream.ask(complete=request)).completed
        assert answer.task == done.task
        assert answer.revision == done.task.revision


# A worker at its max_claims is given the next task the moment one of its tasks ends


async def by_stream(client: Client, stream: WorkStream) -> None:
    """It completes the task on the stream."""
    await stream.send(complete=v1.CompleteTaskRequest(task_id="first"))
    await stream.hear("completed")


async def by_failing(client: Client, stream: WorkStream) -> None:
    """It fails the task on the stream."""
    await stream.send(fail=v1.FailTaskRequest(task_id="first"))
    await stream.hear("failed")


async def by_call(client: Client, stream: WorkStream) -> None:
    """It completes the task by a call."""
    await complete(client, "w", "first")


async def by_failed_call(client: Client, stream: WorkStream) -> None:
    """It fails the task by a call."""
    await fail(client, "w", "first")


async def by_release(client: Client, stream: WorkStream) -> None:
    """It gives the task back, when another one is better."""
    await update(client, "second", priority=10)
    await release(client, "w", "first")


async def by_parking(client: Client, stream: WorkStream) -> None:
    """The task waits for somebody, and keeps the worker from nothing meanwhile."""
    await update(client, "first", status="waiting")


async def by_person(client: Client, stream: WorkStream) -> None:
    """A person takes the task away."""
    await update(client, "second", priority=10)
    await update(client, "first", assignee="")


async def by_persons_status(client: Client, stream: WorkStream) -> None:
    """A person ends the task."""
    await update(client, "first", status="failed")


async def by_own_status(client: Client, stream: WorkStream) -> None:
    """The worker ends the task by its status."""
    await update(client, "first", status="completed", worker_id="w")


async def by_deletion(client: Client, stream: WorkStream) -> None:
    """A person deletes the task."""
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="first", force=True))


async def by_room(client: Client, stream: WorkStream) -> None:
    """The worker connects anew and may hold more."""
    await connect(client, "w", max_claims=2)


ENDS = [
    by_stream,
    by_failing,
    by_call,
    by_failed_call,
    by_release,
    by_parking,
    by_person,
    by_persons_status,
    by_own_status,
    by_deletion,
    by_room,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_next_task_the_moment_there_is_room(
    client: Client, end: Callable[[Client, WorkStream], Awaitable[None]]
) -> None:
    """However a worker comes to hold less, its stream has the next task, in the next revision."""
    await connect(client, "w")
    await create(client, "first", priority=9)
    await create(client, "second")
    async with working(client, "w", credit=9) as stream:
        assert await stream.assigned() == ["first"]
        assert await stream.waiting() == v1.CLAIM_OUTCOME_LIMIT_REACHED
        await end(client, stream)
        message = await stream.hear("assigned")
        assert [task.id for task in message.assigned.tasks] == ["second"]
        log = await event(client, v1.EVENT_TYPE_TASK_CLAIMED, "second")
        assert log.task.claim_revision == message.revision


async def test_next_task_when_an_assignment_is_cancelled(client: Client) -> None:
    """A worker that was assigned all it may hold has room when a person cancels that."""
    await connect(client, "w")
    await create(client, "first")
    await create(client, "second")
    await update(client, "first", assignee="w")
    async with working(client, "w", credit=9) as stream:
        assert await stream.waiting() == v1.CLAIM_OUTCOME_LIMIT_REACHED
        await update(client, "first", status="cancelled")
        assert await stream.assigned() == ["second"]


async def test_next_task_when_a_lease_ends(timed_client: Client, clock: "TestClock") -> None:
    """A worker whose only task is taken from it by its lease's end has room for another one."""
    await connect(timed_client, "w", lease=duration(60_000))
    await create(timed_client, "first", priority=9, max_attempts=1)
    await create(timed_client, "second")
    async with working(timed_client, "w", credit=9) as stream:
        assert await stream.assigned() == ["first"]
        assert await stream.waiting() == v1.CLAIM_OUTCOME_LIMIT_REACHED
        await stream.quiet()  # its place in the line is taken by now
        clock.advance(60_000)
        assert await stream.assigned() == ["second"]
