"""Snapshots that are refused: each with the place named, and nothing changed."""

import gzip
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import Server

Row: TypeAlias = dict[str, Any]
Document: TypeAlias = dict[str, Any]

TEMPLATE = v1.IMPORT_MODE_TEMPLATE
RESTORE = v1.IMPORT_MODE_RESTORE
MIB = 1 << 20


async def bring_in(
    client: Client, snapshot: Document | bytes, mode: v1.ImportMode.ValueType = TEMPLATE
) -> None:
    """Import a snapshot."""
    contents = snapshot if isinstance(snapshot, bytes) else json.dumps(snapshot).encode()

    async def requests() -> AsyncIterator[v1.ImportSnapshotRequest]:
        yield v1.ImportSnapshotRequest(options=v1.ImportOptions(mode=mode))
        for start in range(0, len(contents), MIB):
            yield v1.ImportSnapshotRequest(chunk=contents[start : start + MIB])

    await client.admin.ImportSnapshot(requests())


async def take_out(client: Client) -> bytes:
    """Export the graph, without the line of the header that says when that was."""
    answers = client.admin.ExportSnapshot(v1.ExportSnapshotRequest())
    export = b"".join([answer.chunk async for answer in answers])
    return re.sub(rb'\n  "(?:exported_at|header_sha256)": "[^"]*",(?=\n)', b"", export, count=2)


async def ids_of(client: Client) -> set[str]:
    """The ids of the tasks there are."""
    answer = await client.tasks.ListTasks(v1.ListTasksRequest())
    return {task.id for task in answer.tasks}


def document(**tables: Any) -> Document:
    """A snapshot of these tables."""
    return {"schema_version": 3, "tables": tables}


def task(id: str, /, **columns: Any) -> Row:
    """A row of ``tasks``."""
    return {"id": id, "title": id.upper(), "status": "pending"} | columns


def link(from_: str, to: str, type_: str = "blocks") -> Row:
    """A row of ``dependencies``."""
    return {"from_task_id": from_, "to_task_id": to, "dep_type": type_}


# The messages.


async def refusal(client: Client, *messages: v1.ImportSnapshotRequest) -> TaskloomError:
    """The refusal of an import that consists of these messages."""

    async def each() -> AsyncIterator[v1.ImportSnapshotRequest]:
        for message in messages:
            yield message

    with pytest.raises(TaskloomError) as caught:
        await client.admin.ImportSnapshot(each())
    return caught.value


async def test_options_come_once_and_first(server: "Server", client: Client) -> None:
    """An import without options, with bytes before them, or with them twice, is refused."""
    options = v1.ImportSnapshotRequest(options=v1.ImportOptions())
    chunk = v1.ImportSnapshotRequest(chunk=json.dumps(document(tasks=[task("t")])).encode())
    # What is wrong comes last: gRPC's client hears nothing well while it still has to speak.
    for messages in ((), (chunk,), (options, options), (options, chunk, options)):
        error = await refusal(client, *messages)
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in error.field_violations] == ["options"]
    assert await ids_of(client) == set()


async def test_bad_options(server: "Server", client: Client) -> None:
    """A mode that is none, a bad workflow name and a bad request_id are named."""
    for options, field in (
        (v1.ImportOptions(mode=9), "options.mode"),  # type: ignore[arg-type]
        (v1.ImportOptions(workflow="a b"), "options.workflow"),
        (v1.ImportOptions(request_id="a\nb"), "request_id"),
    ):
        contents = json.dumps(document(tasks=[task("t")])).encode()
        error = await refusal(
            client,
            v1.ImportSnapshotRequest(options=options),
            v1.ImportSnapshotRequest(chunk=contents),
        )
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in error.field_violations] == [field]


async def test_a_chunk_that_is_too_large(server: "Server", client: Client) -> None:
    """A chunk of more than 1 MiB is refused."""
    error = await refusal(
        client,
        v1.ImportSnapshotRequest(options=v1.ImportOptions()),
        v1.ImportSnapshotRequest(chunk=b" " * (MIB + 1)),
    )
    assert [violation.field for violation in error.field_violations] == ["chunk"]


async def test_an_empty_message(server: "Server", client: Client) -> None:
    """A message with neither options nor bytes is passed over where bytes may come."""
    contents = json.dumps(document(tasks=[task("t")])).encode()

    async def each() -> AsyncIterator[v1.ImportSnapshotRequest]:
        yield v1.ImportSnapshotRequest(options=v1.ImportOptions())
        yield v1.ImportSnapshotRequest()
        yield v1.ImportSnapshotRequest(chunk=contents)

    await client.admin.ImportSnapshot(each())
    assert await ids_of(client) == {"t"}


# The contents.

A, B, C = task("a"), task("b"), task("c")
WHOLE = json.dumps(document(tasks=[A, B], dependencies=[link("a", "b")])).encode()
PACKED = gzip.compress(WHOLE)
NOTE = {"task_id": "a", "attachment_type": "note", "content": "x"}
STEP = {"id": 1, "task_id": "a", "status": "pending", "timestamp": 1}
BOTH = [TEMPLATE, RESTORE]

# What is wrong, the snapshot, in which modes it is, the reason, and what the message must say.
REFUSED: list[Any] = [
    ("truncated JSON", WHOLE[:-9], BOTH, "INVALID_SNAPSHOT", "JSON"),
    ("truncated to nothing", b"", BOTH, "INVALID_SNAPSHOT", "JSON"),
    ("not JSON", b"hello", BOTH, "INVALID_SNAPSHOT", "JSON"),
    ("not UTF-8", WHOLE.replace(b'"A"', b'"\xff"'), BOTH, "INVALID_SNAPSHOT", "JSON"),
    ("not an object", b"[]", BOTH, "INVALID_SNAPSHOT", "object"),
    ("null", b"null", BOTH, "INVALID_SNAPSHOT", "object"),
    ("too deep", b"[" * 100_000, BOTH, "INVALID_SNAPSHOT", "JSON"),
    ("NaN", WHOLE.replace(b'"A"', b"NaN"), BOTH, "INVALID_SNAPSHOT", "JSON"),
    ("truncated gzip", PACKED[:-9], BOTH, "INVALID_SNAPSHOT", "gzip"),
    ("gzip header alone", PACKED[:2], BOTH, "INVALID_SNAPSHOT", "gzip"),
    ("damaged gzip", PACKED[:40] + b"\x00" * 8 + PACKED[48:], BOTH, "INVALID_SNAPSHOT", "gzip"),
    ("gzip of the wrong sum", PACKED[:-8] + bytes(8), BOTH, "INVALID_SNAPSHOT", "gzip"),
    ("gzip of nothing", gzip.compress(b""), BOTH, "INVALID_SNAPSHOT", "JSON"),
    ("no version", {"tables": {"tasks": [A]}}, BOTH, "INVALID_SNAPSHOT", "schema_version"),
    ("old version", document(tasks=[A]) | {"schema_version": 2}, BOTH, "INVALID_SNAPSHOT", "2"),
    ("new version", document(tasks=[A]) | {"schema_version": 4}, BOTH, "INVALID_SNAPSHOT", "4"),
    ("text version", document() | {"schema_version": "3"}, BOTH, "INVALID_SNAPSHOT", "'3'"),
    ("no tables", {"schema_version": 3}, BOTH, "INVALID_SNAPSHOT", "tables"),
    ("tables a list", {"schema_version": 3, "tables": []}, BOTH, "INVALID_SNAPSHOT", "tables"),
    ("table no list", document(tasks={"a": A}), BOTH, "INVALID_SNAPSHOT", "tables.tasks"),
    ("row no object", document(tasks=[A, 7]), BOTH, "INVALID_SNAPSHOT", "tables.tasks[1]"),
    ("row null", document(tasks=[None]), BOTH, "INVALID_SNAPSHOT", "tables.tasks[0]"),
    ("no id", document(tasks=[A, {"title": "x"}]), BOTH, "INVALID_SNAPSHOT", "tables.tasks[1].id"),
    ("no title", document(tasks=[{"id": "a"}]), BOTH, "INVALID_SNAPSHOT", "tables.tasks[0].title"),
    ("same id", document(tasks=[A, B, A]), BOTH, "INVALID_SNAPSHOT", "tables.tasks[2].id"),
    (
        "no such workflow",
        document(tasks=[A, task("b", workflow="waterfall")]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.tasks[1].workflow",
    ),
    (
        "no such status",
        document(tasks=[A, task("b", status="paused")]),
        [RESTORE],
        "INVALID_SNAPSHOT",
        "tables.tasks[1].status",
    ),
    (
        "dangling from",
        document(tasks=[A], dependencies=[link("a", "a2"), link("x", "a")]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.dependencies[0].to_task_id",
    ),
    (
        "dangling to",
        document(tasks=[A, B], dependencies=[link("a", "b"), link("x", "a")]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.dependencies[1].from_task_id",
    ),
    (
        "same dependency",
        document(tasks=[A, B], dependencies=[link("a", "b"), link("a", "b")]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.dependencies[1]",
    ),
    (
        "no such type",
        document(tasks=[A, B], dependencies=[link("a", "b", "likes")]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.dependencies[0].dep_type",
    ),
    (
        "two parents",
        document(
            tasks=[A, B, C],
            dependencies=[link("a", "c", "contains"), link("b", "c", "contains")],
        ),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.dependencies[1]",
    ),
    (
        "self-link",
        document(tasks=[A, B], dependencies=[link("a", "b"), link("b", "b", "see-also")]),
        BOTH,
        "CYCLE",
        "tables.dependencies[1]",
    ),
    (
        "cycle",
        document(
            tasks=[A, B, C],
            dependencies=[link("b", "c"), link("a", "b", "follows"), link("c", "a")],
        ),
        BOTH,
        "CYCLE",
        "tables.dependencies[2]",
    ),
    (
        "a task before its own child",
        document(tasks=[A, B], dependencies=[link("a", "b", "contains"), link("a", "b")]),
        BOTH,
        "CYCLE",
        "tables.dependencies[1]",
    ),
    (
        "dangling attachment",
        document(tasks=[A], attachments=[NOTE, NOTE | {"task_id": "x"}]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.attachments[1].task_id",
    ),
    (
        "same attachment",
        document(tasks=[A], attachments=[NOTE, NOTE]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.attachments[1]",
    ),
    (
        "not base64",
        document(tasks=[A], attachments=[NOTE | {"content_encoding": "base64", "content": "é!"}]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.attachments[0].content",
    ),
    (
        "large attachment",
        document(tasks=[A], attachments=[NOTE | {"content": "x" * (MIB + 1)}]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.attachments[0].content",
    ),
    (
        "attachment elsewhere",
        document(tasks=[A], attachments=[NOTE | {"file_path": "/etc/passwd"}]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.attachments[0].file_path",
    ),
    *(
        (
            f"attachment with {column} = {value!r}",
            document(tasks=[A], attachments=[NOTE, NOTE | {"sequence": 1, column: value}]),
            BOTH,
            "INVALID_SNAPSHOT",
            f"tables.attachments[1].{column}",
        )
        for column, value in [
            ("attachment_type", "with blank"),
            ("name", "../../x"),
            ("name", "a\nb"),
            ("name", "x" * 256),
            ("mime_type", "text/\0"),
            ("mime_type", "x" * 256),
        ]
    ),
    (
        "dangling tag",
        document(tasks=[A], task_tags=[{"task_id": "a", "tag": "x"}, {"task_id": "z", "tag": "x"}]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.task_tags[1].task_id",
    ),
    (
        "dangling step",
        document(tasks=[A], task_sequence=[STEP, STEP | {"id": 2, "task_id": "x"}]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.task_sequence[1].task_id",
    ),
    (
        "same step",
        document(tasks=[A], task_sequence=[STEP, STEP]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.task_sequence[1].id",
    ),
    *(
        (
            f"{column} = {str(value)[:12]!r}",
            document(tasks=[A, task("b", **{column: value})]),
            BOTH,
            "INVALID_SNAPSHOT",
            f"tables.tasks[1].{column}",
        )
        for column, value in [
            ("id", "with blank"),
            ("id", ""),
            ("id", "x" * 129),
            ("id", 7),
            ("title", ""),
            ("title", "x" * 1_001),
            ("description", "é" * (32 * 1024 + 1)),
            ("description", ["x"]),
            ("priority", "high"),
            ("priority", 5.5),
            ("priority", True),
            ("tags", "a"),
            ("tags", ["a", 1]),
            ("tags", ["a b"]),
            ("tags", [f"t{n}" for n in range(65)]),
            ("points", -1),
            ("points", 2**31),
            ("time_estimate_ms", -1),
            ("time_estimate_ms", 2**63 - 1),
            ("time_actual_ms", 2**63),
            ("time_actual_ms", 2**63 - 1),
            ("metrics", [1] * 9),
            ("metrics", [-1]),
            ("metrics", {"0": 1}),
            ("cost_usd", -0.5),
            ("cost_usd", "1"),
            ("cost_usd", None),
            ("created_at", "2026-01-01"),
            ("created_at", 2**62),
            ("created_at", -(2**62)),
            ("updated_at", 2**62),
            ("claimed_at", 2**62),
            ("started_at", 2**62),
            ("completed_at", 2**62),
            ("deleted_at", 2**62),
            ("not_before", 2**62),
            ("ready_at", 2**62),
            ("state_since", 2**62),
            ("attempts", -1),
            ("attempts", 2**31),
            ("max_attempts", 0),
            ("max_attempts", 1_001),
            ("lease_ms", 999),
            ("worker_id", "with blank"),
            ("worker_id", "x" * 129),
        ]
    ),
    (
        "step out of time",
        document(tasks=[A], task_sequence=[STEP | {"timestamp": 2**62}]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.task_sequence[0].timestamp",
    ),
    (
        "attachment out of time",
        document(tasks=[A], attachments=[NOTE | {"created_at": 2**62}]),
        BOTH,
        "INVALID_SNAPSHOT",
        "tables.attachments[0].created_at",
    ),
]


@pytest.fixture
async def refused_mode(request: pytest.FixtureRequest, client: Client) -> v1.ImportMode.ValueType:
    """The mode of an import to be refused; a template finds a graph that it must not change."""
    mode: v1.ImportMode.ValueType = request.param
    if mode == TEMPLATE:
        mine = document(
            tasks=[task("mine"), task("also mine".replace(" ", "-"))],
            dependencies=[link("mine", "also-mine")],
        )
        await bring_in(client, mine)
    return mode


@pytest.mark.parametrize(
    ("refused_mode", "snapshot", "reason", "words"),
    [
        pytest.param(mode, snapshot, reason, words, id=f"{what}-{v1.ImportMode.Name(mode)[12:]}")
        for what, snapshot, modes, reason, words in REFUSED
        for mode in modes
    ],
    indirect=["refused_mode"],
)
async def test_refusals(  # noqa: PLR0917
    server: "Server",
    client: Client,
    refused_mode: v1.ImportMode.ValueType,
    snapshot: Document | bytes,
    reason: str,
    words: str,
) -> None:
    """A snapshot with something wrong is refused, the place is named, and nothing has changed."""
    before = await take_out(client)
    with pytest.raises(TaskloomError) as caught:
        await bring_in(client, snapshot, refused_mode)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.reason == reason
    assert words in caught.value.message
    assert await take_out(client) == before


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_task_that_is_there_already(
    server: "Server", client: Client, *, deleted: bool
) -> None:
    """A template with a task that is there, deleted or not, is refused, and brings nothing."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="b", title="mine"))
    if deleted:
        await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="b"))
    before = await take_out(client)
    with pytest.raises(TaskloomError, match=r"tables\.tasks\[1\]\.id") as caught:
        await bring_in(client, document(tasks=[A, B, C]))
    assert caught.value.code is grpc.StatusCode.ALREADY_EXISTS
    assert caught.value.reason == "TASK_EXISTS"
    assert caught.value.resource is not None
    assert caught.value.resource.name == "b"
    assert await take_out(client) == before


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_restore_into_a_graph(server: "Server", client: Client, *, deleted: bool) -> None:
    """A restore where there are tasks, and be they deleted ones, is refused."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="mine", title="mine"))
    if deleted:
        await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="mine"))
    before = await take_out(client)
    with pytest.raises(TaskloomError) as caught:
        await bring_in(client, document(tasks=[A]), RESTORE)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.reason == "NOT_EMPTY"
    assert await take_out(client) == before


async def test_refused_imports_leave_the_rest_alone(server: "Server", client: Client) -> None:
    """After refusals the same ids and the same tags can be brought in without a trace of before."""
    wrong = document(tasks=[task("a", needed_tags=["x"]), task("b", workflow="waterfall")])
    with pytest.raises(TaskloomError, match="INVALID_SNAPSHOT"):
        await bring_in(client, wrong)
    late = document(tasks=[task("a", needed_tags=["x"]), B], dependencies=[link("b", "b")])
    with pytest.raises(TaskloomError, match="CYCLE"):
        await bring_in(client, late)
    await bring_in(client, document(tasks=[task("a", needed_tags=["x"]), B]))
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", tags=["x"], max_claims=2))
    claimed = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="w", max_tasks=2))
    assert [task.id for task in claimed.tasks] == ["a", "b"]


# Sizes.


@pytest.fixture
async def limited(start_server: Callable[..., Any]) -> AsyncIterator[Client]:
    """A client of a server that takes no snapshot of more than a MiB."""
    async with start_server(max_snapshot_mib=1) as server, Client(server.address) as client:
        yield client


async def test_a_bomb(limited: Client) -> None:
    """A small file that unpacks to more than the limit is refused, and unpacked no further."""
    packed = gzip.compress(b" " * (MIB + 1), compresslevel=1) + gzip.compress(b" ") * 1_000
    assert len(packed) < MIB // 8
    with pytest.raises(TaskloomError) as caught:
        await bring_in(limited, packed)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.reason == "SNAPSHOT_TOO_LARGE"


async def test_a_file_beyond_the_limit(limited: Client) -> None:
    """A file that is larger than the limit is refused once it is, whatever would come then."""
    large = b" " * (MIB + 1)
    with pytest.raises(TaskloomError) as caught:
        await bring_in(limited, large)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.reason == "SNAPSHOT_TOO_LARGE"
