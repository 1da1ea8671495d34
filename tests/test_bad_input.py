"""Bad input: whatever is sent, the answer is a clear status that names the field.

Ids and names are in test_bad_names, bytes that are no message in test_bad_bytes, page tokens in
test_listing, trees in test_task_trees; random input is in test_fuzz.
"""

from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client

from tests.calls import refusal
from tests.good_requests import INVALID, Fields, check_refused

DAY = 24 * 3600
LEASES = [
    Duration(nanos=999_000_000),
    Duration(seconds=7 * DAY, nanos=1_000_000),
    Duration(seconds=-60),
    Duration(seconds=60, nanos=-1),
    Duration(seconds=60, nanos=10**9),
    Duration(seconds=60, nanos=-(2**31)),
    Duration(seconds=2**63 - 1),
    Duration(seconds=-(2**63)),
]
RETRY_DELAYS = [Duration(seconds=DAY, nanos=1_000_000), Duration(seconds=-1), Duration(nanos=-1)]
TIMES = [
    Timestamp(seconds=253_402_300_800),
    Timestamp(seconds=-62_135_596_801),
    Timestamp(seconds=2**63 - 1),
    Timestamp(seconds=-(2**63)),
    Timestamp(seconds=2_000_000_000, nanos=10**9),
    Timestamp(seconds=2_000_000_000, nanos=-1),
]
NEGATIVE = [-1, -(2**63)]
SMALL_NEGATIVE = [-1, -(2**31)]
TAGS = [f"t{n}" for n in range(65)]


def each(field: str, values: Iterable[Any]) -> list[tuple[Fields, str]]:
    """Every value is wrong for the field."""
    return [({field: value}, field) for value in values]


def estimates() -> list[tuple[Fields, str]]:
    """Wrong estimates: negative, malformed, or of more than a year."""
    wrong = [
        Duration(seconds=366 * DAY, nanos=1_000_000),
        Duration(nanos=-1),
        Duration(seconds=-1),
        Duration(seconds=1, nanos=-1),
        Duration(nanos=2 * 10**9),
    ]
    return each("time_estimate", wrong)


def budgets() -> list[tuple[Fields, str]]:
    """Wrong limits of budgets."""
    return [
        *each("max_cost_usd", [-0.01, float("nan"), float("inf"), float("-inf")]),
        *each("max_subtree_attempts", [*SMALL_NEGATIVE, 1_000_001]),
    ]


# What is wrong, and the field that is to be named.
WRONG: dict[str, list[tuple[Fields, str]]] = {
    "Connect": [
        *each("max_claims", [*SMALL_NEGATIVE, 1_001]),
        *each("lease", LEASES),
        *each("cool_down", [Duration(seconds=DAY + 1), Duration(seconds=-1), Duration(nanos=-1)]),
        *each("tags", [TAGS]),
        *each("overlays", [[f"o{n}" for n in range(17)]]),
    ],
    "Disconnect": each("reason", ["x" * 4_001]),
    "ListWorkers": [
        *each("page_size", SMALL_NEGATIVE),
        *each("stale_after", [Duration(seconds=-1), Duration(seconds=3_660 * DAY + 1)]),
        *each("tags_all", [TAGS]),
    ],
    "SetThought": [
        *each("thought", ["x" * 4_001]),
        *each("claim_revision", NEGATIVE),
        ({"claim_revision": 1}, "claim_revision"),
    ],
    "UpdateTasks": [
        *each("updates", [[v1.UpdateTaskRequest(task_id="a")] * 1_001]),
        *[
            ({"updates": [v1.UpdateTaskRequest(task_id="a"), wrong]}, f"updates[1].{field}")
            for wrong, field in (
                (v1.UpdateTaskRequest(), "task_id"),
                (v1.UpdateTaskRequest(task_id="a", request_id="r"), "request_id"),
                (v1.UpdateTaskRequest(task_id="a", priority=11), "priority"),
            )
        ],
    ],
    "RenameTask": [*each("etag", NEGATIVE), *each("reason", ["x" * 4_001])],
    "RestoreTask": each("reason", ["x" * 4_001]),
    "ObliterateTask": each("reason", ["x" * 4_001]),
    "RelinkTasks": [
        *each("add", [[v1.Dependency(from_task_id="a", to_task_id="b")] * 1_001]),
        ({"add": [v1.Dependency(from_task_id="a")]}, "add[0].to_task_id"),
        ({"remove": [v1.Dependency(to_task_id="a")]}, "remove[0].from_task_id"),
        *[
            (
                {"remove": [v1.Dependency(from_task_id="a", to_task_id="b", type=wrong)]},  # type: ignore[arg-type]
                "remove[0].type",
            )
            for wrong in (7, -1)
        ],
    ],
    "ScanTasks": [
        *each("depth", SMALL_NEGATIVE),
        *each("page_size", SMALL_NEGATIVE),
        *[({"directions": [1, wrong]}, "directions[1]") for wrong in (0, 5, -1)],
    ],
    "GetMetrics": [
        ({"recursive": True}, "recursive"),
        ({"task_id": "a", "worker_id": "w"}, "worker_id"),
    ],
    "CreateTask": [
        *each("title", [" \n", "x" * 1_001]),
        *each("description", ["x" * ((64 << 10) + 1), "é" * ((32 << 10) + 1)]),
        *each("priority", [-1, 11, 2**31 - 1, -(2**31)]),
        *each("points", SMALL_NEGATIVE),
        *each("max_attempts", [*SMALL_NEGATIVE, 1_001]),
        *each("retry_delay", RETRY_DELAYS),
        *each("not_before", TIMES),
        *estimates(),
        *budgets(),
        *each("tags", [TAGS]),
        *each("needed_tags", [TAGS]),
        *each("wanted_tags", [TAGS]),
        *each("blocked_by", [[f"t{n}" for n in range(1_001)]]),
        ({"blocked_by": ["a", ""]}, "blocked_by[1]"),
        ({"tags": [""]}, "tags[0]"),
    ],
    "ListTasks": [
        *each("page_size", SMALL_NEGATIVE),
        *each("order_by", [6, 99, -1]),
        *each("heat", [4, -1]),
        *each("tags_any", [TAGS]),
        *each("tags_all", [TAGS]),
    ],
    "UpdateTask": [
        *each("title", ["", " ", "x" * 1_001]),
        *each("description", ["x" * ((64 << 10) + 1)]),
        *each("status", [""]),
        *each("priority", [-1, 11]),
        *each("points", SMALL_NEGATIVE),
        *each("max_attempts", [-1, 0, 1_001]),
        *each("retry_delay", RETRY_DELAYS),
        *each("not_before", TIMES),
        *estimates(),
        *each("claim_revision", NEGATIVE),
        *each("etag", NEGATIVE),
        *each("reason", ["x" * 4_001]),
        *each("workflow", [""]),
        *budgets(),
        ({"points": 1, "clear_points": True}, "clear_points"),
        ({"tags": v1.Tags(values=TAGS)}, "tags.values"),
        ({"needed_tags": v1.Tags(values=["x", ""])}, "needed_tags.values[1]"),
    ],
    "DeleteTask": each("reason", ["x" * 4_001]),
    "LinkTasks": each("type", [7, -1]),
    "UnlinkTasks": each("type", [7, -1]),
    "ListTransitions": [
        *each("page_size", SMALL_NEGATIVE),
        *each("start_time", TIMES),
        *each("end_time", TIMES),
    ],
    "SignalTask": [
        *each("claim_revision", NEGATIVE),
        *each("type", [3, -1]),
        *each("reason", ["x" * 4_001]),
    ],
    "BoostTask": [
        *each("boost", [-0.01, 1.01, float("nan"), float("inf"), float("-inf")]),
        *each("reason", ["x" * 4_001]),
    ],
    "LogMetrics": [
        *each("claim_revision", NEGATIVE),
        *[
            ({"metrics": v1.Metrics(**{name: value})}, f"metrics.{name}")
            for name in [f"tokens_{kind}" for kind in ("in", "out", "cached", "thinking")]
            + ["tokens_image", "tokens_audio", "metric_6", "metric_7"]
            for value in NEGATIVE
        ],
        *[
            ({"metrics": v1.Metrics(cost_usd=value)}, "metrics.cost_usd")
            for value in (-0.01, float("nan"), float("inf"), float("-inf"))
        ],
    ],
    "ClaimTask": [*each("lease", LEASES), *each("mode", [3, -1])],
    "ClaimNextTask": [
        *each("lease", LEASES),
        *each("max_tasks", [*SMALL_NEGATIVE, 101]),
        *each("wait", [Duration(seconds=DAY + 1), Duration(seconds=-1), Duration(nanos=10**9)]),
        *each("order_by", [3, 4, 5, 99, -1]),
        *each("mode", [3, -1]),
    ],
    "ReleaseTask": [*each("claim_revision", NEGATIVE), *each("reason", ["x" * 4_001])],
    "CompleteTask": [*each("claim_revision", NEGATIVE), *each("reason", ["x" * 4_001])],
    "FailTask": [
        *each("claim_revision", NEGATIVE),
        *each("reason", ["x" * 4_001]),
        *each("retry_delay", [Duration(seconds=7 * DAY + 1), Duration(seconds=-1)]),
        *each("retry_delay", [Duration(seconds=1, nanos=-1), Duration(nanos=10**9)]),
    ],
    "MarkFiles": [
        *each("claim_revision", NEGATIVE),
        *each("reason", ["x" * 4_001]),
        *each("paths", [[f"p{n}" for n in range(1_001)]]),
        ({"paths": ["p", ""]}, "paths[1]"),
        ({"paths": ["x" * 1_025]}, "paths[0]"),
        ({"paths": ["a\x00b"]}, "paths[0]"),
    ],
    "UnmarkFiles": [
        *each("reason", ["x" * 4_001]),
        *each("paths", [[f"p{n}" for n in range(1_001)]]),
        ({"paths": ["x" * 1_025]}, "paths[0]"),
    ],
    "ListFileMarks": [
        *each("page_size", SMALL_NEGATIVE),
        *each("paths", [[f"p{n}" for n in range(1_001)]]),
        ({"paths": [""]}, "paths[0]"),
    ],
    "Attach": [
        *each("claim_revision", NEGATIVE),
        *each("name", ["x" * 256]),
        *each("mime_type", ["x" * 256]),
        *each("content", [b"x" * ((1 << 20) + 1)]),
    ],
    "ListAttachments": each("page_size", SMALL_NEGATIVE),
    "Detach": each("claim_revision", NEGATIVE),
    "Pause": [*each("by", ["x" * 129]), *each("reason", ["x" * 4_001])],
    "Resume": [*each("by", ["x" * 129]), *each("reason", ["x" * 4_001])],
    "Reset": each("confirm", ["", "Reset", "reset ", "yes"]),
    "WatchTasks": [
        *each("start_revision", NEGATIVE),
        *each("progress_interval", [Duration(nanos=999_000_000), Duration(seconds=3_601)]),
        ({"include_state": True, "start_revision": 1}, "include_state"),
        ({"filter": v1.WatchFilter(event_types=[99])}, "filter.event_types"),  # type: ignore[list-item]
    ],
}


@pytest.mark.parametrize("method", WRONG)
async def test_a_value_that_cannot_be_is_refused(client: Client, method: str) -> None:
    """A value out of its range, malformed, too long or too many is named by its field."""
    for fields, field in WRONG[method]:
        await check_refused(client, method, fields, field)


async def test_the_largest_values_are_taken(client: Client) -> None:
    """What stands just on the bound is accepted, everywhere at once."""
    await client.workers.Connect(
        v1.ConnectRequest(
            worker_id="w",
            tags=TAGS[:64],
            max_claims=1_000,
            lease=Duration(seconds=7 * DAY),
            cool_down=Duration(seconds=DAY),
        )
    )
    await client.workers.Connect(v1.ConnectRequest(lease=Duration(seconds=1)))
    for id in ("a", "b"):
        await client.tasks.CreateTask(
            v1.CreateTaskRequest(
                id=id,
                title="x" * 1_000,
                description="é" * (32 << 10),
                priority=10,
                points=2**31 - 1,
                time_estimate=Duration(seconds=366 * DAY),
                not_before=Timestamp(seconds=-62_135_596_800),
                max_attempts=1_000,
                retry_delay=Duration(seconds=DAY),
                tags=TAGS[:64],
                needed_tags=TAGS[:64],
                wanted_tags=TAGS[:64],
            )
        )
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="b", reason="x" * 4_000))
    await client.tasks.BoostTask(v1.BoostTaskRequest(task_id="b", boost=1, reason="x" * 4_000))
    await client.tasks.UpdateTask(
        v1.UpdateTaskRequest(
            task_id="b", not_before=Timestamp(seconds=253_402_300_799, nanos=999_999_999)
        )
    )
    await client.files.MarkFiles(
        v1.MarkFilesRequest(worker_id="w", paths=["é" * 1_024, *map(str, range(999))])
    )
    request = v1.AttachRequest(
        task_id="a", type="x" * 128, name="x" * 255, mime_type="x" * 255, content=b"x" * (1 << 20)
    )
    await client.attachments.Attach(request)
    await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="w", max_tasks=100))
    await client.claims.FailTask(
        v1.FailTaskRequest(
            worker_id="w", task_id="a", retry=True, retry_delay=Duration(seconds=7 * DAY)
        )
    )


async def test_less_than_a_millisecond_is_nothing(client: Client) -> None:
    """Times are to the millisecond: a shorter estimate is none, a shorter lease is too short."""
    request = v1.CreateTaskRequest(title="x", time_estimate=Duration(nanos=999_999))
    created = await client.tasks.CreateTask(request)
    assert not created.task.HasField("time_estimate")
    await check_refused(client, "Connect", {"lease": Duration(nanos=999_999)}, "lease")


# The stream that imports

OPTIONS = v1.ImportSnapshotRequest(options=v1.ImportOptions())
CHUNK = v1.ImportSnapshotRequest(chunk=b"{}")


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "options"),
        ([v1.ImportSnapshotRequest()], "options"),
        ([CHUNK], "options"),
        ([OPTIONS, OPTIONS], "options"),
        ([OPTIONS, v1.ImportSnapshotRequest(chunk=b" " * ((1 << 20) + 1))], "chunk"),
        (
            [v1.ImportSnapshotRequest(options=v1.ImportOptions(mode=9)), CHUNK],  # type: ignore[arg-type]
            "options.mode",
        ),
        (
            [v1.ImportSnapshotRequest(options=v1.ImportOptions(workflow="a b")), CHUNK],
            "options.workflow",
        ),
    ],
)
async def test_an_import_that_is_not_one(
    client: Client, messages: list[v1.ImportSnapshotRequest], field: str
) -> None:
    """Options come first and once, chunks are small, modes and names are of their form."""
    error = await refusal(client.admin.ImportSnapshot(iter(messages)))
    assert (error.code, error.reason) == (INVALID, "INVALID_FIELD")
    assert [violation.field for violation in error.field_violations] == [field]
