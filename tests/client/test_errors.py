"""Errors as exceptions: what a refusal says arrives whole."""

import pickle
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from taskloom import v1
from taskloom_client import (
    ClaimLost,
    Client,
    FieldViolation,
    HistoryLost,
    NotFound,
    PreconditionViolation,
    Resource,
    TaskClaimed,
    TaskloomError,
    Unavailable,
    WorkerNotFound,
)
from taskloom_client.errors import from_rpc_error

if TYPE_CHECKING:
    from tests.client.conftest import Refuse, ScriptedServer

Context = aio.ServicerContext[Any, Any]
Code = grpc.StatusCode


async def _refusal(client: Client) -> TaskloomError:
    with pytest.raises(TaskloomError) as caught:
        await client.tasks.GetTask(v1.GetTaskRequest(task_id="t"))
    return caught.value


async def test_details_arrive(
    scripted: "ScriptedServer", scripted_client: Client, refuse: "Refuse"
) -> None:
    """Reason, metadata, violations, resource and delay are read from the status' details."""

    async def get(request: v1.GetTaskRequest, context: Context) -> None:
        await refuse(
            context,
            Code.FAILED_PRECONDITION,
            "TASK_CLAIMED",
            "task t is claimed by worker w.",
            error_details_pb2.BadRequest(
                field_violations=[{"field": "title", "description": "is empty"}]
            ),
            error_details_pb2.PreconditionFailure(
                violations=[{"type": "BLOCKER", "subject": "a", "description": "has not ended"}]
            ),
            error_details_pb2.ResourceInfo(resource_type="task", resource_name="t", owner="w"),
            metadata={"holder": "w"},
            retry_delay=timedelta(seconds=1.5),
        )

    scripted.answers["GetTask"] = get
    error = await _refusal(scripted_client)
    assert type(error) is TaskClaimed
    assert str(error) == "task t is claimed by worker w (TASK_CLAIMED)"
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "TASK_CLAIMED")
    assert error.metadata == {"holder": "w"}
    assert error.field_violations == (FieldViolation("title", "is empty"),)
    assert error.violations == (PreconditionViolation("BLOCKER", "a", "has not ended"),)
    assert error.resource == Resource("task", "t", "w", "")
    assert error.retry_delay == timedelta(seconds=1.5)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is TaskClaimed
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (Code.NOT_FOUND, "TASK_NOT_FOUND", NotFound),
        (Code.NOT_FOUND, "WORKER_NOT_FOUND", WorkerNotFound),
        (Code.ABORTED, "CLAIM_LOST", ClaimLost),
        (Code.ABORTED, "ETAG_MISMATCH", TaskloomError),
        (Code.OUT_OF_RANGE, "REVISION_COMPACTED", HistoryLost),
        (Code.OUT_OF_RANGE, "INCARNATION_CHANGED", HistoryLost),
        (Code.UNAVAILABLE, "SHUTTING_DOWN", Unavailable),
        (Code.INVALID_ARGUMENT, "A_REASON_OF_TOMORROW", TaskloomError),
    ],
)
async def test_reasons_have_classes(
    scripted: "ScriptedServer",
    scripted_client: Client,
    refuse: "Refuse",
    *,
    code: Code,
    reason: str,
    expected: type[TaskloomError],
) -> None:
    """The reason, else the code, decides which exception is raised; no detail is ever required."""

    async def get(request: v1.GetTaskRequest, context: Context) -> None:
        await refuse(context, code, reason)

    scripted.answers["GetTask"] = get
    error = await _refusal(scripted_client)
    assert type(error) is expected
    assert error.reason == reason
    assert error.resource is None
    assert error.retry_delay is None


async def test_bare_and_damaged_statuses(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """A status without details, or with damaged ones, is raised with what is left of it."""

    async def get(request: v1.GetTaskRequest, context: Context) -> None:
        damaged = (("grpc-status-details-bin", b"\xff\xff"),)
        await context.abort(Code.NOT_FOUND, "nothing here", damaged)

    scripted.answers["GetTask"] = get
    error = await _refusal(scripted_client)
    assert type(error) is NotFound
    assert str(error) == "nothing here (NOT_FOUND)"


async def test_long_lists_of_blockers_arrive(
    scripted: "ScriptedServer", scripted_client: Client, refuse: "Refuse"
) -> None:
    """A refusal that names 300 blockers is not cut off by gRPC's limit on metadata."""

    async def get(request: v1.GetTaskRequest, context: Context) -> None:
        failure = error_details_pb2.PreconditionFailure()
        for n in range(300):
            failure.violations.add(type="BLOCKER", subject=f"task-{n}" * 8, description="open")
        await refuse(context, Code.FAILED_PRECONDITION, "DEPENDENCIES_UNMET", "blocked", failure)

    scripted.answers["GetTask"] = get
    error = await _refusal(scripted_client)
    assert error.reason == "DEPENDENCIES_UNMET"
    assert len(error.violations) == 300


async def test_the_code_is_the_refusals(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """Where gRPC replaced the code of a refusal, as for its length, the refusal's own counts."""

    async def get(request: v1.GetTaskRequest, context: Context) -> None:
        said = status_pb2.Status(code=Code.FAILED_PRECONDITION.value[0], message="blocked")
        details = (("grpc-status-details-bin", said.SerializeToString()),)
        await context.abort(Code.RESOURCE_EXHAUSTED, "blocked", details)

    scripted.answers["GetTask"] = get
    assert (await _refusal(scripted_client)).code is Code.FAILED_PRECONDITION


async def test_unknown_method(scripted: "ScriptedServer", scripted_client: Client) -> None:
    """A server too old for a call is said to be that."""
    error = await _refusal(scripted_client)
    assert error.code is Code.UNIMPLEMENTED
    assert str(error) == f"the server at {scripted.address} does not know GetTask (UNIMPLEMENTED)"


@pytest.mark.parametrize(
    ("details", "cause"),
    [
        pytest.param(
            "errors resolving h:1: [field:lookup error:address lookup failed for h:1: "
            "Domain name not found]",
            "Domain name not found",
            id="unknown name",
        ),
        pytest.param(
            "failed to connect to all addresses; last error: UNKNOWN: ipv6:[::1]:1: "
            "connect: Connection refused (111)",
            "Connection refused (111)",
            id="nobody listens",
        ),
        pytest.param("", "no connection", id="nothing is said"),
    ],
)
def test_a_server_out_of_reach(details: str, cause: str) -> None:
    """What gRPC says of a connection is cut down to what happened."""
    error = aio.AioRpcError(Code.UNAVAILABLE, aio.Metadata(), aio.Metadata(), details)
    said = from_rpc_error(error, target="h:1", method="GetTask", timeout=None)
    assert type(said) is Unavailable
    assert str(said) == f"the server at h:1 cannot be reached: {cause} (UNAVAILABLE)"


def test_a_connection_that_breaks_under_a_write() -> None:
    """What gRPC calls an internal error then is one that a repetition may mend, as any break."""
    error = aio.AioRpcError(
        Code.INTERNAL, aio.Metadata(), aio.Metadata(), "Internal error from Core"
    )
    said = from_rpc_error(error, target="h:1", method="Work", timeout=None)
    assert type(said) is Unavailable
    assert said.transient
    other = aio.AioRpcError(Code.INTERNAL, aio.Metadata(), aio.Metadata(), "a defect")
    assert not from_rpc_error(other, target="h:1", method="Work", timeout=None).transient
