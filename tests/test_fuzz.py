"""Random calls: whatever is asked, in whatever order, no answer is INTERNAL or UNKNOWN.

Requests are made from the descriptors of their messages, so a new field or call is tried as
soon as it is there.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import structlog.testing
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
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

# Values that make sense, by the field's name: few, so that calls meet what others have made.
TASKS = st.sampled_from(["a", "b", "c", "d", "e"])
MAYBE_WORKER = st.sampled_from(["", "w", "w", "w", "v"])
STATES = ["pending", "assigned", "working", "completed", "failed", "cancelled"]
TAGS = st.lists(st.sampled_from(["css", "js"]), max_size=2)
SENSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "task_id": TASKS,
    "from_task_id": TASKS,
    "to_task_id": TASKS,
    "id": st.one_of(st.just(""), TASKS),
    "parent_id": st.one_of(st.just(""), TASKS),
    "subtree_of": TASKS,
    "blocked_by": st.lists(TASKS, max_size=2),
    "worker_id": MAYBE_WORKER,
    "qualified_for_worker_id": MAYBE_WORKER,
    "owner": MAYBE_WORKER,
    "assignee": MAYBE_WORKER,
    "claim_revision": st.sampled_from([0, 0, 0, 7, 8, 9]),
    "etag": st.sampled_from([0, 0, 0, 3, 4, 5]),
    "workflow": st.sampled_from(["", "swarm"]),
    "name": st.sampled_from(["", "swarm"]),
    "status": st.sampled_from(STATES),
    "statuses": st.lists(st.sampled_from(STATES), max_size=2),
    "phase": st.sampled_from(["", "test", "design"]),
    "tags": TAGS,
    "needed_tags": TAGS,
    "wanted_tags": TAGS,
    "tags_any": TAGS,
    "tags_all": TAGS,
    "values": TAGS,
    "request_id": st.sampled_from(["", "", "", "", "r1", "r2"]),
    "page_token": st.just(""),
    "paths": st.lists(st.sampled_from(["a.py", "b.py"]), max_size=2),
    "confirm": st.just(""),
    "title": st.just("x"),
    "type": st.just("note"),  # of attachments; of dependencies it is a number
    "nanos": st.just(0),
    "query": st.sampled_from(["a", "a OR b", "a* NOT x", '"']),
    "sql": st.sampled_from(["", "SELECT id FROM tasks", "SELECT ?", "DELETE FROM tasks"]),
    "seconds": st.one_of(st.integers(0, 100), st.just(2_000_000_000)),
}
LISTS = frozenset(
    {"blocked_by", "paths", "statuses", "values", *(n for n in SENSIBLE if "tags" in n)}
)
# And values of which nothing can be made, or hardly anything.
WORDS = ["", "swarm", "reset", "note", "a", "w", "a b", "\x00", "é" * 200, "\u200b", "🦜", "%s%n"]
TEXTS = st.one_of(st.sampled_from(WORDS), st.text(max_size=5))


def whole_numbers(bits: int) -> st.SearchStrategy[int]:
    """Numbers of a field of so many bits: anywhere, and on the edges."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    edges = [low, high, -1, 0, 11, 101, 1_001]
    return st.one_of(st.sampled_from(edges), st.integers(low, high))


def wild(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values that protobuf takes for a field, whether they make sense or not."""
    return {
        FieldDescriptor.TYPE_STRING: TEXTS,
        FieldDescriptor.TYPE_BYTES: st.binary(max_size=20),
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_ENUM: whole_numbers(32),
        FieldDescriptor.TYPE_INT32: whole_numbers(32),
        FieldDescriptor.TYPE_INT64: whole_numbers(64),
        FieldDescriptor.TYPE_DOUBLE: st.floats(),
    }[field.type]


def tame(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values that are of the field's form."""
    if field.type == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.name in SENSIBLE:
        return SENSIBLE[field.name]
    if field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64):
        return st.integers(0, 5)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return st.floats(0, 1)
    return wild(field)


@st.composite
def messages(draw: st.DrawFn, of: Descriptor, *, is_tame: bool, depth: int = 0) -> Message:
    """Any message of a kind; what calls need is mostly there, the other fields now and then."""
    message: Any = GetMessageClass(of)()
    for field in of.fields:
        likely = field.name.endswith("id") or field.name in (
            "title",
            "type",
            "root",
            "paths",
            "query",
        )
        if depth > 3 or draw(st.integers(0, 9)) >= (9 if likely else 3):
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            assert field.message_type is not None
            below = messages(field.message_type, is_tame=is_tame, depth=depth + 1)
            if field.message_type.GetOptions().map_entry:
                value = field.message_type.fields_by_name["value"].message_type
                assert value is not None
                named = messages(value, is_tame=is_tame, depth=depth + 1)
                for key, each in draw(st.dictionaries(TEXTS, named, max_size=3)).items():
                    getattr(message, field.name)[key].CopyFrom(each)
            elif field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(below, max_size=3)))
            else:
                getattr(message, field.name).CopyFrom(draw(below))
        elif field.is_repeated:
            one = tame(field) if is_tame else wild(field)
            many = one if is_tame and field.name in LISTS else st.lists(one, max_size=3)
            getattr(message, field.name).extend(draw(many))
        else:
            setattr(message, field.name, draw(tame(field) if is_tame else wild(field)))
    assert isinstance(message, Message)
    return message


@st.composite
def calls(draw: st.DrawFn) -> tuple[MethodDescriptor, Message]:
    """A call of any unary method, in most cases one that could be meant."""
    method = draw(st.sampled_from(METHODS))
    return method, draw(messages(method.input_type, is_tame=draw(st.integers(0, 3)) > 0))


async def check(client: Client, method: MethodDescriptor, request: Message) -> None:
    """A call is answered, or refused with a reason of the contract."""
    stub = getattr(client, STUBS[method.containing_service.name])
    call = f"{method.name}({request})"
    answer: object
    with structlog.testing.capture_logs() as logs:
        [answer] = await asyncio.gather(
            getattr(stub, method.name)(request, timeout=10), return_exceptions=True
        )
    assert not logs, (call, logs)
    if isinstance(answer, TaskloomError):
        assert answer.code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), call
        assert answer.reason, (call, answer)
    else:
        assert isinstance(answer, GetMessageClass(method.output_type)), (call, answer)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(calls(), min_size=20, max_size=60))
async def test_every_call_is_answered_or_refused(
    client: Client, script: list[tuple[MethodDescriptor, Message]]
) -> None:
    """Whatever calls are made of a graph, each is answered or refused with a reason."""
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    for worker in ("w", "v"):
        await client.workers.Connect(v1.ConnectRequest(worker_id=worker, max_claims=2))
    for task in ("a", "b", "c", "d"):
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
