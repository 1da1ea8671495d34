"""Refusals: every reason has one status, is promised by the protos, and arrives with details."""

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
import pytest
import structlog.testing
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb2
from grpc import aio
from grpc_status import rpc_status
from taskloom import v1
from taskloom_client import Client, TaskloomError
from taskloom_server.graph import errors
from taskloom_server.graph.errors import DomainError
from taskloom_server.service import show
from taskloom_server.service.errors import CODES, DOMAIN, code_of, message_of, status_of

from tests.calls import import_held

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Server

PROTOS = Path(__file__).parent.parent / "protos" / "taskloom" / "v1"
REFUSALS: list[type[DomainError]] = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, DomainError) and each is not DomainError
]
# Metadata that clients take unless told otherwise.
METADATA_LIMIT = 8 << 10


def promised() -> set[tuple[str, str]]:
    """Every CODE / REASON that stands in a comment of the protos."""
    found = set()
    for path in PROTOS.glob("*.proto"):
        comments = re.findall(r"^\s*//(.*)$", path.read_text(), re.MULTILINE)
        text = " ".join(" ".join(comments).split())
        for code, reasons in re.findall(r"\b([A-Z_]{5,}) / ([A-Z_]{5,}(?:, [A-Z_]{5,})*)", text):
            found |= {(code, reason) for reason in reasons.split(", ")}
    return found - {("CODE", "REASON")}


def made(refusal: type[DomainError], *subjects: str, **fields: Any) -> DomainError:
    """A refusal of a kind."""
    if refusal is errors.InvalidField:
        return errors.InvalidField(subjects[0] if subjects else "field", "is wrong")
    return refusal("no", subjects=subjects, **fields)


def test_every_refusal_stands_in_the_one_table() -> None:
    """Each domain error has a status code, and the table speaks of nothing else."""
    assert CODES.keys() == set(REFUSALS)
    assert len(REFUSALS) > 25


def test_reasons_are_unique_and_upper_snake() -> None:
    """No two refusals have one reason, and each is its class's name in upper snake."""
    reasons = [each.reason for each in REFUSALS]
    assert len(set(reasons)) == len(reasons)
    for each in REFUSALS:
        assert each.reason == re.sub(r"(?<!^)(?=[A-Z])", "_", each.__name__).upper()


def test_what_the_protos_promise_is_what_there_is() -> None:
    """Each CODE / REASON in the comments is one of the table, and the other way around."""
    table = {(CODES[each].name, each.reason) for each in REFUSALS}
    assert promised() == table


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_tells_its_reason(refusal: type[DomainError]) -> None:
    """Every status carries ErrorInfo with the reason and taskloom's domain, in the first place."""
    error = made(refusal, "x")
    status = status_of(error)
    info = details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (refusal.reason, DOMAIN) == (error.reason, "taskloom")
    assert status.code == CODES[refusal].value[0]
    assert status.message == message_of(error) == str(error)
    assert code_of(error) is CODES[refusal]


def test_no_refusal_is_the_servers_fault() -> None:
    """Codes that mean a fault of the server, or nothing, are no refusals."""
    code = grpc.StatusCode
    assert not {code.OK, code.UNKNOWN, code.INTERNAL, code.CANCELLED} & set(CODES.values())


def unpacked(error: DomainError) -> dict[str, Message]:
    """The details of a refusal, by the names of their messages; of several alike the first."""
    found: dict[str, Message] = {}
    for detail in status_of(error).details:
        name = detail.TypeName().rpartition(".")[2]
        message = getattr(details_pb2, name)()
        detail.Unpack(message)
        found.setdefault(name, message)
    return found


def test_an_invalid_field_is_named() -> None:
    """The field's path and what is wrong with it stand in BadRequest."""
    details = unpacked(errors.InvalidField("root.title", "is required"))
    assert details.keys() == {"ErrorInfo", "BadRequest"}
    bad = details["BadRequest"]
    assert isinstance(bad, details_pb2.BadRequest)
    assert [(each.field, each.description) for each in bad.field_violations] == [
        ("root.title", "is required")
    ]


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (errors.TaskNotFound, "task"),
        (errors.TaskExists, "task"),
        (errors.WorkerNotFound, "worker"),
        (errors.WorkflowNotFound, "workflow"),
        (errors.AttachmentNotFound, "attachment"),
    ],
)
def test_what_is_missing_or_there_already_is_a_resource(
    refusal: type[DomainError], kind: str
) -> None:
    """What could be looked up stands in ResourceInfo, with its kind."""
    resource = unpacked(made(refusal, "x"))["ResourceInfo"]
    assert isinstance(resource, details_pb2.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == (kind, "x")


def test_what_stands_in_the_way_is_listed() -> None:
    """The subjects of a failed precondition are violations, each with the reason as its type."""
    failure = unpacked(made(errors.DependenciesUnmet, "a", "b"))["PreconditionFailure"]
    assert isinstance(failure, details_pb2.PreconditionFailure)
    assert [(each.type, each.subject) for each in failure.violations] == [
        ("DEPENDENCIES_UNMET", "a"),
        ("DEPENDENCIES_UNMET", "b"),
    ]


def test_a_delay_is_told() -> None:
    """When it is worth trying again stands in RetryInfo; without a delay there is none."""
    retry = unpacked(made(errors.CoolingDown, retry_after_ms=1_500))["RetryInfo"]
    assert isinstance(retry, details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1_500
    assert "RetryInfo" not in unpacked(made(errors.CoolingDown))


@pytest.mark.parametrize("character", ["x", "é", "🦜", " "])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_fits_into_metadata(refusal: type[DomainError], character: str) -> None:
    """However much there is to name, a refusal stays below the 8 KiB that clients take."""
    ids = [character * 128] * 1_000
    if refusal is errors.InvalidField:
        path = "root." + "children[4999]." * 98 + "blocked_by[999]"
        error: DomainError = errors.InvalidField(path, f"is {ids[0]!r}")
    else:
        error = refusal(f"task {ids[0]!r} waits for {', '.join(ids)}", subjects=ids)
    error.metadata = {"holder": ids[0], "task_id": ids[1]}
    error.retry_after_ms = 10**9
    status = status_of(error)
    in_base64 = len(status.SerializeToString()) * 4 / 3
    assert len(quote(status.message)) + in_base64 < METADATA_LIMIT
    assert status.message == message_of(error), "or the details are not accepted as its own"
    assert status.details[1].ByteSize() > 100, "something is named all the same"


async def test_details_go_over_the_wire(server: "Server") -> None:
    """A refusal arrives as google.rpc.Status, so that any client's library can read it."""
    async with aio.insecure_channel(server.address) as channel:
        stub = v1.TaskServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.GetTask(v1.GetTaskRequest(task_id="ä"))
    status = rpc_status.from_call(caught.value)
    assert status is not None
    expected = details_pb2.ErrorInfo(reason="TASK_NOT_FOUND", domain="taskloom")
    packed = any_pb2.Any()
    packed.Pack(expected)
    assert status.details[0] == packed
    assert status.message == caught.value.details() == "there is no task 'ä'"


async def test_calls_beyond_the_limit_are_turned_away(
    start_server: "Callable[..., Any]",
) -> None:
    """More calls at once than the server takes are told when to come back; then there is room."""
    async with start_server(max_calls=1) as server, Client(server.address) as client:
        held, error = await import_held(client)
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.reason == "TOO_MANY_CALLS"
        assert error.retry_delay is not None
        assert error.transient
        await held.write(v1.ImportSnapshotRequest(options=v1.ImportOptions()))
        await held.write(v1.ImportSnapshotRequest(chunk=b'{"schema_version": 3, "tables": {}}'))
        await held.done_writing()
        await held
        await client.admin.GetStatus(v1.GetStatusRequest())


async def test_an_unforeseen_error_tells_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that nobody foresaw is INTERNAL without its text; the log has it."""

    def broken(_: object) -> None:
        raise ValueError("the secret of the house")

    monkeypatch.setattr(show, "task", broken)
    with structlog.testing.capture_logs() as logs, pytest.raises(TaskloomError) as caught:
        await client.tasks.CreateTask(v1.CreateTaskRequest(title="x"))
    assert caught.value.code is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    [entry] = [each for each in logs if each["log_level"] == "error"]
    assert "secret" in str(entry["exc_info"])
    assert entry["method"] == "/taskloom.v1.TaskService/CreateTask"
