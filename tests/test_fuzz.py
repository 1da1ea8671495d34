"""Random calls: whatever is asked, in whatever order, no answer is INTERNAL or UNKNOWN.

Requests are made from the descriptors of their messages, so a new field or call is tried as
soon as it is there.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc import aio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import Server

STUBS = {
    "WorkerService": "workers",
    "TaskService": "tasks",
    "ClaimService": "claims",
    "FileService": "files",
    "AttachmentService": "attachments",
    "AdminService": "admin",
}
METHODS: list[MethodDescriptor] = [
    method
    for service in STUBS
    for method in descriptor_pool.Default().FindServiceByName(f"taskloom.v1.{service}").methods
    if not method.client_streaming and not method.server_streaming
]

# Few enough that calls meet what other calls have made, and some that nothing can be made of.
WORDS = ["a", "b", "c", "w", "v", "css", "pending", "working", "completed", "cancelled", "test"]
ODD_WORDS = ["", "swarm", "reset", "a b", "\x00", "é" * 200, "\u200b", "🦜", "%s%n", "'--"]
TEXTS = st.one_of(st.sampled_from(WORDS), st.sampled_from(ODD_WORDS), st.text(max_size=5))
SMALL = st.integers(-1, 12)


def whole_numbers(bits: int) -> st.SearchStrategy[int]:
    """Numbers of a field of so many bits: mostly small, some anywhere, some on the edge."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    edges = st.sampled_from([low, high, 253_402_300_800, -62_135_596_801])
    return st.one_of(SMALL, st.integers(low, high), edges.map(lambda n: max(low, min(high, n))))


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    """Values that protobuf takes for a field, whether they make sense or not."""
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        assert field.message_type is not None
        return messages(field.message_type, depth + 1)
    if field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM):
        return whole_numbers(32)
    return {
        FieldDescriptor.TYPE_STRING: TEXTS,
        FieldDescriptor.TYPE_BYTES: st.binary(max_size=20),
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_INT64: whole_numbers(64),
        FieldDescriptor.TYPE_DOUBLE: st.floats(),
    }[field.type]


@st.composite
def messages(draw: st.DrawFn, of: Descriptor, depth: int = 0) -> Message:
    """Any message of a kind; ids are mostly there, other fields now and then."""
    message: Any = of._concrete_class()
    for field in of.fields:
        likely = field.name.endswith("id") or field.name in ("title", "type", "seconds", "root")
        if depth > 3 or draw(st.integers(0, 9)) >= (9 if likely else 3):
            continue
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(values(field, depth), max_size=3)))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(draw(values(field, depth)))
        else:
            setattr(message, field.name, draw(values(field, depth)))
    return message


@st.composite
def calls(draw: st.DrawFn) -> tuple[MethodDescriptor, Message]:
    """A call of any unary method."""
    method = draw(st.sampled_from(METHODS))
    return method, draw(messages(method.input_type))


async def check(client: Client, method: MethodDescriptor, request: Message) -> None:
    """A call is answered, or refused with a reason of the contract."""
    stub = getattr(client, STUBS[method.containing_service.name])
    try:
        answer = await getattr(stub, method.name)(request, timeout=10)
    except TaskloomError as error:
        assert error.code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), (
            method.name,
            request,
        )
        assert error.reason, (method.name, request, error)
    else:
        assert isinstance(answer, method.output_type._concrete_class)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(calls(), min_size=10, max_size=40))
async def test_every_call_is_answered_or_refused(
    client: Client, script: list[tuple[MethodDescriptor, Message]]
) -> None:
    """Whatever calls are made of a graph, each is answered or refused with a reason."""
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    for worker in ("w", "v"):
        await client.workers.Connect(v1.ConnectRequest(worker_id=worker, max_claims=2))
    for task in ("a", "b"):
        await client.tasks.CreateTask(v1.CreateTaskRequest(id=task, title=task))
    for method, request in script:
        await check(client, method, request)
    # And the graph can still be shown, listed and exported.
    listed = await client.tasks.ListTasks(v1.ListTasksRequest(include_deleted=True))
    for each in listed.tasks:
        await client.tasks.GetTask(v1.GetTaskRequest(task_id=each.id))
    exported = client.admin.ExportSnapshot(v1.ExportSnapshotRequest())
    contents = b"".join([answer.chunk async for answer in exported])
    assert contents.startswith(b"{")
    options = v1.ImportOptions(mode=v1.IMPORT_MODE_RESTORE)
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    chunks = [
        v1.ImportSnapshotRequest(options=options),
        v1.ImportSnapshotRequest(chunk=contents),
    ]
    restored = await client.admin.ImportSnapshot(iter(chunks))
    assert restored.rows["tasks"] == len(listed.tasks)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(method=st.sampled_from(METHODS), contents=st.binary(max_size=64))
@example(method=METHODS[0], contents=b"\xff")
async def test_every_bytes_are_answered_or_refused(
    server: "Server", method: MethodDescriptor, contents: bytes
) -> None:
    """Random bytes are a request, or an invalid one."""
    async with aio.insecure_channel(server.address) as channel:
        call: aio.UnaryUnaryMultiCallable[Any, Any]
        call = channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}")
        code = await asyncio.wait_for(call(contents).code(), 10)
    assert code in (
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
    )
