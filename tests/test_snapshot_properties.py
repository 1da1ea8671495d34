"""Export, restore, export: whatever the graph, the second export is the first one's bytes.

Graphs are made in two ways: by verbs, so that they are as real ones are, and as files with
something in every column, so that they are as nobody would make them by verbs.
"""

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Server, TestClock

Row: TypeAlias = dict[str, Any]

START = 1_800_000_000_000  # where the test's clock stands, Unix ms
YEAR_MS = 365 * 24 * 3600 * 1000
# The server is the same for all examples: each begins with a reset.
PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def take_out(client: Client) -> bytes:
    """Export the graph."""
    answers = client.admin.ExportSnapshot(v1.ExportSnapshotRequest())
    return b"".join([answer.chunk async for answer in answers])


async def restore(client: Client, contents: bytes) -> list[str]:
    """Restore a snapshot into an emptied graph; the warnings."""
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))

    async def requests() -> "AsyncIterator[v1.ImportSnapshotRequest]":
        yield v1.ImportSnapshotRequest(options=v1.ImportOptions(mode=v1.IMPORT_MODE_RESTORE))
        for start in range(0, len(contents), 10_000):
            yield v1.ImportSnapshotRequest(chunk=contents[start : start + 10_000])

    return list((await client.admin.ImportSnapshot(requests())).warnings)


def headless(export: bytes) -> bytes:
    """An export without the line of its header that says when it was made."""
    return re.sub(rb'\n  "(?:exported_at|header_sha256)": "[^"]*",(?=\n)', b"", export, count=2)


async def seen(client: Client) -> dict[str, tuple[v1.Task, bool]]:
    """Each task as it is read, without what a restore makes anew, and whether it is blocked."""
    tasks = await client.tasks.ListTasks(v1.ListTasksRequest(include_deleted=True))
    blocked = await client.tasks.ListTasks(v1.ListTasksRequest(blocked=True))
    assert not tasks.next_page_token
    blocked_ids = {task.id for task in blocked.tasks}
    for task in tasks.tasks:
        task.revision = 0
        task.claim_revision = min(task.claim_revision, 1)
        task.ClearField("lease_expire_time")
    return {task.id: (task, task.id in blocked_ids) for task in tasks.tasks}


# Graphs made by verbs.

IDS = st.sampled_from(["a", "b", "c", "d", "é/✓", "';--"])
WORKERS = st.sampled_from(["ada", "bob"])
TEXT = st.text(max_size=20)
# Of attachments: nothing that looks like a path, or that cannot be shown.
LABELS = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/\\"),
    max_size=20,
).filter(lambda name: name not in (".", ".."))
TITLES = st.text(min_size=1, max_size=20).filter(str.strip)
TAG_NAMES = ["x", "y", "ß", '"']
TAGS = st.lists(st.sampled_from(TAG_NAMES), max_size=3)
AMOUNTS = st.integers(0, 2**60)


def duration(ms: int) -> Duration:
    """A Duration of so many ms."""
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


CREATE = st.builds(
    v1.CreateTaskRequest,
    id=IDS,
    title=TITLES,
    description=TEXT,
    priority=st.none() | st.integers(0, 10),
    points=st.none() | st.integers(0, 2**31 - 1),
    time_estimate=st.none() | st.integers(0, YEAR_MS).map(duration),
    phase=st.sampled_from(["", "design", "test"]),
    tags=TAGS,
    wanted_tags=TAGS,
    not_before=st.none() | st.just(Timestamp(seconds=(START + YEAR_MS) // 1000)),
    max_attempts=st.integers(0, 3),
)
VERBS: dict[str, st.SearchStrategy[Any]] = {
    "UpdateTask": st.builds(
        v1.UpdateTaskRequest,
        task_id=IDS,
        title=st.none() | TITLES,
        status=st.none() | st.sampled_from(["pending", "cancelled", "completed", "failed"]),
        phase=st.none() | st.sampled_from(["", "review"]),
        tags=st.none() | st.builds(v1.Tags, values=TAGS),
        needed_tags=st.none() | st.builds(v1.Tags, values=TAGS),
        reason=TEXT,
    ),
    "LinkTasks": st.builds(
        v1.LinkTasksRequest,
        from_task_id=IDS,
        to_task_id=IDS,
        type=st.sampled_from(v1.DependencyType.values()),
    ),
    "UnlinkTasks": st.builds(v1.UnlinkTasksRequest, from_task_id=IDS, to_task_id=IDS),
    "DeleteTask": st.builds(
        v1.DeleteTaskRequest, task_id=IDS, worker_id=st.just("") | WORKERS, reason=TEXT
    ),
    "ClaimNextTask": st.builds(
        v1.ClaimNextTaskRequest, worker_id=WORKERS, max_tasks=st.integers(0, 3)
    ),
    "Attach": st.builds(
        v1.AttachRequest,
        task_id=IDS,
        type=st.sampled_from(["note", "gate/results", "é"]),
        name=TEXT,
        mime_type=st.sampled_from(["", "image/png"]),
        content=st.binary(max_size=30) | TEXT.map(str.encode),
    ),
    "Detach": st.builds(
        v1.DetachRequest, task_id=IDS, type=st.just("note"), sequence=st.integers(0, 1)
    ),
    "LogMetrics": st.builds(
        v1.LogMetricsRequest,
        task_id=IDS,
        metrics=st.builds(
            v1.Metrics,
            tokens_in=AMOUNTS,
            tokens_audio=AMOUNTS,
            metric_7=AMOUNTS,
            cost_usd=st.floats(0, 1e6),
        ),
    ),
    "Disconnect": st.builds(v1.DisconnectRequest, worker_id=WORKERS, reason=TEXT),
}
# What becomes of a task, as the verbs that bring it about in order.
FATES: dict[str, list[Message]] = {
    "pending": [],
    "assigned": [v1.UpdateTaskRequest(assignee="ada")],
    "working": [v1.ClaimTaskRequest(worker_id="ada")],
    "completed": [
        v1.ClaimTaskRequest(worker_id="ada"),
        v1.CompleteTaskRequest(worker_id="ada", reason="ok"),
    ],
    "reopened": [
        v1.ClaimTaskRequest(worker_id="ada"),
        v1.CompleteTaskRequest(worker_id="ada"),
        v1.UpdateTaskRequest(status="pending"),
    ],
    "failed": [
        v1.ClaimTaskRequest(worker_id="bob"),
        v1.FailTaskRequest(worker_id="bob", reason="ouch"),
    ],
    "retried": [
        v1.ClaimTaskRequest(worker_id="bob"),
        v1.FailTaskRequest(worker_id="bob", retry=True),
    ],
    "released": [v1.ClaimTaskRequest(worker_id="bob"), v1.ReleaseTaskRequest(worker_id="bob")],
    "cancelled": [v1.UpdateTaskRequest(status="cancelled")],
    "deleted": [v1.DeleteTaskRequest(reason="no more", cascade=True)],
    "deleted while held": [
        v1.ClaimTaskRequest(worker_id="ada"),
        v1.DeleteTaskRequest(worker_id="bob", force=True),
    ],
}


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[int, Message]]:
    """Verbs that make a graph and bring its tasks to their fates, each some ms after the last."""
    creates = draw(st.lists(CREATE, min_size=2, max_size=6, unique_by=lambda create: create.id))
    for n, create in enumerate(creates[1:], 1):
        create.parent_id = draw(st.sampled_from(["", *(one.id for one in creates[:n])]))
    verbs: list[Message] = [*creates, *draw(st.lists(VERBS["LinkTasks"], max_size=4))]
    for create in creates:
        for step in FATES[draw(st.sampled_from(sorted(FATES)))]:
            verb = type(step)()
            verb.CopyFrom(step)
            verb.task_id = create.id  # type: ignore[attr-defined]
            verbs.append(verb)
    for verb in draw(st.lists(st.one_of(*VERBS.values()), max_size=8)):
        verbs.insert(draw(st.integers(len(creates), len(verbs))), verb)
    return [(draw(st.integers(0, 3_600_000)), verb) for verb in verbs]


STUBS = {
    method: stub
    for stub, methods in {
        "workers": ["Connect", "Disconnect"],
        "tasks": ["CreateTask", "UpdateTask", "DeleteTask", "LinkTasks", "UnlinkTasks"],
        "claims": ["ClaimTask", "ClaimNextTask", "ReleaseTask", "CompleteTask", "FailTask"],
        "attachments": ["Attach", "Detach"],
    }.items()
    for method in methods
} | {"LogMetrics": "tasks"}


async def do(client: Client, request: Message) -> bool:
    """Make the call of which this is the request; whether it was not refused."""
    method = request.DESCRIPTOR.name.removesuffix("Request")
    try:
        await getattr(getattr(client, STUBS[method]), method)(request)
    except TaskloomError as error:
        if error.code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}:
            raise
        return False
    return True


@PROPERTY
@given(
    life=lives(),
)
async def test_graphs_made_by_verbs(
    timed_client: Client, clock: "TestClock", life: list[tuple[int, Message]]
) -> None:
    """A graph made by verbs is the same after a restore: its export, its tasks, what is ready."""
    client = timed_client
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    for worker in ("ada", "bob"):
        lease = duration(7 * 24 * 3600 * 1000)
        await client.workers.Connect(
            v1.ConnectRequest(worker_id=worker, max_claims=9, tags=TAG_NAMES, lease=lease)
        )
    for passed, verb in life:
        clock.advance(passed)
        await do(client, verb)
    first, before = await take_out(client), await seen(client)
    assert await restore(client, first) == []
    assert await seen(client) == before
    assert headless(await take_out(client)) == headless(first)


# Graphs as nobody would make them.

STATUSES = st.sampled_from(["pending", "assigned", "working", "completed", "failed", "cancelled"])
TIMES = st.integers(-62_135_596_800_000, 253_402_300_799_999)
SPANS = st.integers(0, 315_576_000_000_000)
COUNTS = st.integers(0, 2**63 - 1)
PRINTABLE = st.characters(exclude_categories=("C", "Z"))
NAMES = st.text(PRINTABLE, min_size=1, max_size=8)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """That, or nothing."""
    return st.none() | strategy


@st.composite
def documents(draw: st.DrawFn) -> dict[str, list[Row]]:
    """Tables with something odd in every column, without a cycle."""
    ids = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    rows = {
        "title": TITLES,
        "description": TEXT,
        "status": STATUSES,
        "phase": optional(NAMES),
        "priority": st.integers(0, 10),
        "worker_id": optional(NAMES),
        "claimed_at": optional(TIMES),
        "needed_tags": st.lists(NAMES, max_size=3, unique=True).map(sorted),
        "wanted_tags": st.lists(NAMES, max_size=3, unique=True).map(sorted),
        "tags": st.lists(NAMES, max_size=3, unique=True).map(sorted),
        "points": optional(st.integers(0, 2**31 - 1)),
        "time_estimate_ms": optional(SPANS),
        "time_actual_ms": SPANS,
        "started_at": optional(TIMES),
        "completed_at": optional(TIMES),
        "current_thought": optional(TEXT),
        "metrics": st.lists(COUNTS, min_size=8, max_size=8),
        "cost_usd": st.floats(0, allow_nan=False, allow_infinity=False),
        "deleted_at": optional(TIMES),
        "deleted_by": optional(TEXT),
        "deleted_reason": optional(TEXT),
        "created_at": TIMES,
        "updated_at": TIMES,
        "workflow": st.just("swarm"),
        "not_before": optional(st.integers(START + 1, 253_402_300_799_999)),
        "attempts": st.integers(0, 1_000_000),
        "max_attempts": st.integers(1, 1_000),
        "ready_at": optional(TIMES),
        "state_since": optional(TIMES),
    }
    tasks = [{"id": id} | draw(st.fixed_dictionaries(rows)) for id in ids]
    places = st.integers(0, len(ids) - 1)
    dependencies = []
    has_parent = set()
    for one, other, type_ in draw(
        st.lists(
            st.tuples(
                places,
                places,
                st.sampled_from(
                    ["blocks", "follows", "contains", "duplicate", "see-also", "relates-to"]
                ),
            ),
            unique=True,
            max_size=8,
        )
    ):
        # What ends first comes first: a blocker before the blocked, a child before its parent.
        from_, to = sorted((one, other), reverse=type_ == "contains")
        row = {"from_task_id": ids[from_], "to_task_id": ids[to], "dep_type": type_}
        if one == other or row in dependencies or (type_ == "contains" and to in has_parent):
            continue
        if type_ == "contains":
            has_parent.add(to)
        dependencies.append(row)
    attachment = st.fixed_dictionaries(
        {
            "task_id": st.sampled_from(ids),
            "attachment_type": NAMES,
            "sequence": st.integers(0, 2**31 - 1),
            "name": LABELS,
            "mime_type": st.sampled_from(["text/plain", "é"]),
            "content": TEXT,
            "created_at": TIMES,
        }
    )
    step = st.fixed_dictionaries(
        {
            "id": COUNTS,
            "task_id": st.sampled_from(ids),
            "worker_id": optional(TEXT),
            "status": optional(STATUSES),
            "phase": optional(TEXT),
            "reason": optional(TEXT),
            "timestamp": TIMES,
            "end_timestamp": optional(TIMES),
        }
    )
    return {
        "tasks": tasks,
        "dependencies": dependencies,
        "attachments": draw(
            st.lists(
                attachment,
                max_size=3,
                unique_by=lambda row: (row["task_id"], row["attachment_type"], row["sequence"]),
            )
        ),
        "task_sequence": draw(st.lists(step, max_size=5, unique_by=lambda row: row["id"])),
    }


def by_order(table: str, rows: list[Row]) -> list[Row]:
    """The rows in the order in which an export has them."""
    keys = {
        "dependencies": ("from_task_id", "to_task_id", "dep_type"),
        "attachments": ("task_id", "attachment_type", "sequence"),
        "task_sequence": ("id",),
    }
    if table not in keys:
        return rows  # the order of creation
    return sorted(
        rows,
        key=lambda row: tuple(
            value.encode() if isinstance(value := row[key], str) else value for key in keys[table]
        ),
    )


@PROPERTY
@given(tables=documents())
async def test_graphs_of_files(
    timed_server: "Server", timed_client: Client, tables: dict[str, list[Row]]
) -> None:
    """A restored file keeps every value, and its export restored is the same bytes again."""
    contents = json.dumps({"schema_version": 3, "tables": tables}).encode()
    assert await restore(timed_client, contents) == []
    first = await take_out(timed_client)
    exported = json.loads(first)["tables"]
    for table, rows in tables.items():
        assert len(exported[table]) == len(rows)
        for row, kept in zip(by_order(table, rows), exported[table], strict=True):
            assert kept | row == kept
    assert await restore(timed_client, first) == []
    assert headless(await take_out(timed_client)) == headless(first)
    await seen(timed_client)  # and can be told: every value fits into the answers
