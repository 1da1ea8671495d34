"""Claims of a named task: what one gives, with what words a worker is refused, what is counted.

What ClaimNextTask gives is in test_claim_next. How claims end, and assignments, are in
test_claim_endings, leases in test_leases, claim revisions in test_claim_revisions, crowds in
test_claims_concurrently, and what makes a task ready in test_readiness.
"""

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    counters,
    create,
    ids,
    refusal,
    release,
    show,
    update,
)

if TYPE_CHECKING:
    from tests.conftest import TestClock

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def subjects(error: TaskloomError) -> list[str]:
    """What a refusal's details say stands in the way."""
    assert {violation.type for violation in error.violations} == {error.reason}
    return [violation.subject for violation in error.violations]


async def test_claim_starts_a_task(timed_client: Client, clock: "TestClock") -> None:
    """A claim puts the task to work under a lease; its token is the revision that made it."""
    await create(timed_client, "task")
    await connect(timed_client, "w", lease=Duration(seconds=60))
    clock.advance(1_000)
    answer = await timed_client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="task"))
    task = answer.task
    assert (task.status, task.worker_id, task.ready) == ("working", "w", False)
    assert task.claim_revision == task.revision == answer.revision
    assert task.lease_expire_time.ToMilliseconds() == clock.now() + 60_000
    assert task.claim_time.ToMilliseconds() == clock.now()
    assert task.start_time.ToMilliseconds() == clock.now()
    assert task == await show(timed_client, "task")


async def test_claim_of_a_held_task_changes_nothing(client: Client) -> None:
    """Claiming what one holds already keeps the claim revision and makes no event."""
    await create(client, "task")
    await connect(client, "w")
    first = await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="task"))
    again = await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="task"))
    assert again.revision == first.revision
    assert again.task.claim_revision == first.task.claim_revision


async def test_claim_of_a_task_that_is_not_there(client: Client) -> None:
    """A task that nobody created is TASK_NOT_FOUND, and the details name it."""
    await connect(client, "w")
    error = await refusal(claim(client, "w", "nothing"))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    assert error.resource is not None
    assert (error.resource.type, error.resource.name) == ("task", "nothing")


async def test_claim_of_a_claimed_task(client: Client) -> None:
    """A task that another worker has is TASK_CLAIMED, and the details name the holder."""
    await create(client, "task")
    await connect(client, "holder")
    await connect(client, "late")
    held = await claim(client, "holder", "task")
    error = await refusal(claim(client, "late", "task"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "TASK_CLAIMED")
    assert error.metadata["holder"] == "holder"
    assert subjects(error) == ["holder"]
    assert await show(client, "task") == held


async def test_claim_of_a_blocked_task(client: Client) -> None:
    """A blocked task is DEPENDENCIES_UNMET; the details list the blockers that are left."""
    await connect(client, "w")
    for id in ("done", "open", "followed"):
        await create(client, id)
    await create(client, "task", blocked_by=["done", "open"])
    follows = v1.LinkTasksRequest(
        from_task_id="followed", to_task_id="task", type=v1.DEPENDENCY_TYPE_FOLLOWS
    )
    await client.tasks.LinkTasks(follows)
    await claim(client, "w", "done")
    await complete(client, "w", "done")
    error = await refusal(claim(client, "w", "task"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "DEPENDENCIES_UNMET")
    assert sorted(subjects(error)) == ["followed", "open"]


async def test_claim_of_a_parent_with_open_children(client: Client) -> None:
    """A parent cannot be taken before its children ended: CHILDREN_OPEN lists the open ones."""
    await connect(client, "w")
    await create(client, "parent")
    for id in ("one", "two", "three"):
        await create(client, id, parent_id="parent")
    await update(client, "two", status="cancelled")
    error = await refusal(claim(client, "w", "parent"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "CHILDREN_OPEN")
    assert subjects(error) == ["one", "three"]


async def test_claim_before_its_time(timed_client: Client, clock: "TestClock") -> None:
    """A task whose not_before has not passed is NOT_YET, and RetryInfo says when it has."""
    not_before = Timestamp()
    not_before.FromMilliseconds(clock.now() + 90_000)
    await create(timed_client, "task", not_before=not_before)
    await connect(timed_client, "w")
    clock.advance(30_000)
    error = await refusal(claim(timed_client, "w", "task"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "NOT_YET")
    assert error.retry_delay is not None
    assert error.retry_delay.total_seconds() == 60


@pytest.mark.parametrize(
    ("needed", "wanted", "missing"),
    [
        (["linux", "rust"], [], ["rust"]),
        ([], ["gpu", "tpu"], ["gpu", "tpu"]),
        (["rust"], ["gpu"], ["rust"]),
    ],
)
async def test_claim_without_the_tags(
    client: Client, needed: list[str], wanted: list[str], missing: list[str]
) -> None:
    """A worker that lacks a needed tag, or every wanted one, is told which: TAGS_MISSING."""
    await create(client, "task", needed_tags=needed, wanted_tags=wanted)
    await connect(client, "w", tags=["linux"])
    error = await refusal(claim(client, "w", "task"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "TAGS_MISSING")
    assert sorted(subjects(error)) == missing


async def test_claim_beyond_the_limit(client: Client) -> None:
    """A worker that holds its max_claims is refused another task, and told how many it may."""
    await connect(client, "w", max_claims=2)
    for id in ("one", "two", "three"):
        await create(client, id)
    await claim(client, "w", "one")
    await claim(client, "w", "two")
    error = await refusal(claim(client, "w", "three"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "CLAIM_LIMIT")
    assert error.metadata["max_claims"] == "2"
    await complete(client, "w", "one")
    assert (await claim(client, "w", "three")).worker_id == "w"


async def test_claim_while_resting(timed_client: Client, clock: "TestClock") -> None:
    """A worker that rests after its last task is COOLING_DOWN; RetryInfo says for how long."""
    await create(timed_client, "one")
    await create(timed_client, "two")
    await connect(timed_client, "w", cool_down=Duration(seconds=30))
    await claim(timed_client, "w", "one")
    await complete(timed_client, "w", "one")
    clock.advance(20_000)
    error = await refusal(claim(timed_client, "w", "two"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "COOLING_DOWN")
    assert error.retry_delay is not None
    assert error.retry_delay.total_seconds() == 10
    clock.advance(10_000)
    assert (await claim(timed_client, "w", "two")).status == "working"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_claim_of_an_ended_task(client: Client, status: str) -> None:
    """A task that has ended is ILLEGAL_TRANSITION, whichever way it ended."""
    await create(client, "task")
    await connect(client, "w")
    if status != "cancelled":
        await claim(client, "w", "task")
    ended = await update(client, "task", status=status)
    error = await refusal(claim(client, "w", "task"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "ILLEGAL_TRANSITION")
    assert error.metadata["status"] == status
    assert await show(client, "task") == ended


async def test_claim_of_a_deleted_task(client: Client) -> None:
    """A deleted task is TASK_DELETED."""
    await create(client, "task")
    await connect(client, "w")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="task"))
    error = await refusal(claim(client, "w", "task"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "TASK_DELETED")


async def test_claim_while_paused(client: Client) -> None:
    """While claims are paused a claim is PAUSED, what is held goes on, and resume ends it."""
    await create(client, "held")
    await create(client, "free")
    await connect(client, "w", max_claims=2)
    await claim(client, "w", "held")
    await client.admin.Pause(v1.PauseRequest(by="ann", reason="lunch"))
    error = await refusal(claim(client, "w", "free"))
    assert (error.code, error.reason) == (FAILED_PRECONDITION, "PAUSED")
    assert (await complete(client, "w", "held")).status == "completed"
    await client.admin.Resume(v1.ResumeRequest())
    assert (await claim(client, "w", "free")).status == "working"


async def test_a_refusal_with_very_many_blockers_arrives(client: Client) -> None:
    """However many blockers a task has, its refusal is one that a client can receive."""
    blockers = [f"{n:03}-{'b' * 124}" for n in range(1_000)]
    nodes = [v1.TaskNode(id=id, title="b") for id in blockers]
    root = v1.TaskNode(id="root", title="r", children=nodes)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    await create(client, "task", blocked_by=blockers)
    await connect(client, "w")
    for task, reason in (("task", "DEPENDENCIES_UNMET"), ("root", "CHILDREN_OPEN")):
        error = await refusal(claim(client, "w", task))
        assert (error.code, error.reason) == (FAILED_PRECONDITION, reason)
        assert set(subjects(error)) <= set(blockers)


async def test_errors_are_rich_on_the_wire(client: Client) -> None:
    """A refusal carries google.rpc.Status: the same code, a reason, and the domain taskloom."""
    await create(client, "blocker")
    await create(client, "task", blocked_by=["blocker"])
    await connect(client, "w")
    error = await refusal(claim(client, "w", "task"))
    cause = error.__cause__
    assert isinstance(cause, aio.AioRpcError)
    status = rpc_status.from_call(cause)
    assert status is not None
    assert (status.code, status.message) == (cause.code().value[0], cause.details())
    info, failure = error_details_pb2.ErrorInfo(), error_details_pb2.PreconditionFailure()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("DEPENDENCIES_UNMET", "taskloom")
    assert status.details[1].Unpack(failure)
    assert [violation.subject for violation in failure.violations] == ["blocker"]


DAYS_8 = Duration(seconds=8 * 86_400)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (v1.ClaimTaskRequest(task_id="task"), "worker_id"),
        (v1.ClaimTaskRequest(worker_id="w"), "task_id"),
        (v1.ClaimTaskRequest(worker_id="w", task_id="t" * 129), "task_id"),
        (v1.ClaimTaskRequest(worker_id="w", task_id="a b"), "task_id"),
        (v1.ClaimTaskRequest(worker_id="w", task_id="a\x00b"), "task_id"),
        (v1.ClaimTaskRequest(worker_id="w", task_id="a\u200bb"), "task_id"),
        (v1.ClaimTaskRequest(worker_id="w", task_id="t", lease=Duration(nanos=10**8)), "lease"),
        (v1.ClaimTaskRequest(worker_id="w", task_id="t", lease=Duration(seconds=-1)), "lease"),
        (v1.ClaimTaskRequest(worker_id="w", task_id="t", lease=DAYS_8), "lease"),
        (v1.ClaimTaskRequest(worker_id="w", task_id="t", request_id="r" * 129), "request_id"),
        (v1.ClaimNextTaskRequest(), "worker_id"),
        (v1.ClaimNextTaskRequest(worker_id="w", max_tasks=-1), "max_tasks"),
        (v1.ClaimNextTaskRequest(worker_id="w", max_tasks=101), "max_tasks"),
        (v1.ClaimNextTaskRequest(worker_id="w", lease=DAYS_8), "lease"),
        (v1.ClaimNextTaskRequest(worker_id="w", parent_id="\t"), "parent_id"),
        (v1.ClaimNextTaskRequest(worker_id="w", order_by=v1.ORDER_BY_ID), "order_by"),
        (v1.ReleaseTaskRequest(task_id="task"), "worker_id"),
        (v1.ReleaseTaskRequest(worker_id="w"), "task_id"),
        (v1.ReleaseTaskRequest(worker_id="w", task_id="t", reason="r" * 4_001), "reason"),
        (v1.CompleteTaskRequest(task_id="task"), "worker_id"),
        (v1.CompleteTaskRequest(worker_id="w", task_id="t", claim_revision=-1), "claim_revision"),
        (v1.FailTaskRequest(worker_id="w"), "task_id"),
        (v1.FailTaskRequest(worker_id="w", task_id="t", retry_delay=DAYS_8), "retry_delay"),
    ],
)
async def test_a_field_that_is_not_of_its_form(client: Client, request_: Any, field: str) -> None:
    """A value out of form or bounds is INVALID_FIELD, and the details name the field."""
    verb = getattr(client.claims, type(request_).DESCRIPTOR.name.removesuffix("Request"))
    error = await refusal(verb(request_))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [violation.field for violation in error.field_violations] == [field]


# Counters


async def test_counters_are_honest(client: Client) -> None:
    """Each ClaimTask and each task given is an attempt; lost are those another worker had."""
    await connect(client, "w", max_claims=3)
    await connect(client, "rival", max_claims=3)
    await create(client, "held")
    await create(client, "ended")
    await create(client, "blocker")
    await create(client, "blocked", blocked_by=["blocker"])
    await create(client, "one")
    await create(client, "two")
    for id in ("held", "ended", "blocker"):
        await claim(client, "rival", id)
    await complete(client, "rival", "ended")
    assert await counters(client, "rival") == (3, 3, 0)

    assert (await refusal(claim(client, "w", "held"))).reason == "TASK_CLAIMED"
    assert await counters(client, "w") == (1, 0, 1)
    # It was free when w looked, perhaps, and is done when w asks for it: lost as well.
    assert (await refusal(claim(client, "w", "ended"))).reason == "ILLEGAL_TRANSITION"
    assert await counters(client, "w") == (2, 0, 2)
    assert (await refusal(claim(client, "w", "blocked"))).reason == "DEPENDENCIES_UNMET"
    assert await counters(client, "w") == (3, 0, 2)
    assert ids(await claim_next(client, "w", max_tasks=3)) == ["one", "two"]
    assert await counters(client, "w") == (5, 2, 2)
    assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_NONE_READY
    assert await counters(client, "w") == (5, 2, 2), "want of work is no attempt"
    await client.admin.Pause(v1.PauseRequest())
    assert (await refusal(claim(client, "w", "held"))).reason == "TASK_CLAIMED"
    await release(client, "w", "one")
    assert (await refusal(claim(client, "w", "one"))).reason == "PAUSED"
    assert await counters(client, "w") == (7, 2, 3)
    assert await counters(client, "rival") == (3, 3, 0)


async def test_own_tasks_are_never_lost(client: Client) -> None:
    """A worker that asks again for what it ended itself has lost nothing to anybody."""
    await connect(client, "w")
    await create(client, "task")
    await claim(client, "w", "task")
    await complete(client, "w", "task")
    assert (await refusal(claim(client, "w", "task"))).reason == "ILLEGAL_TRANSITION"
    assert await counters(client, "w") == (2, 1, 0)
