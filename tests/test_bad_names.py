"""Bad names: an id, a tag or a name that is missing or out of form is named, in every call.

Other fields are in test_bad_input.
"""

from typing import Any

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.calls import refusal
from tests.good_requests import GOOD, STUB_OF, Fields, check_refused

REQUIRED = {
    "Disconnect": ["worker_id"],
    "AddOverlay": ["worker_id", "overlay"],
    "RemoveOverlay": ["worker_id", "overlay"],
    "Heartbeat": ["worker_id"],
    "CreateTask": ["title"],
    "GetTask": ["task_id"],
    "UpdateTask": ["task_id"],
    "DeleteTask": ["task_id"],
    "LinkTasks": ["from_task_id", "to_task_id"],
    "UnlinkTasks": ["from_task_id", "to_task_id"],
    "ExplainTask": ["task_id"],
    "CheckGates": ["task_id"],
    "SignalTask": ["task_id"],
    "BoostTask": ["task_id"],
    "LogMetrics": ["task_id"],
    "ClaimTask": ["worker_id", "task_id"],
    "ClaimNextTask": ["worker_id"],
    "ReleaseTask": ["worker_id", "task_id"],
    "CompleteTask": ["worker_id", "task_id"],
    "FailTask": ["worker_id", "task_id"],
    "MarkFiles": ["worker_id", "paths"],
    "UnmarkFiles": ["worker_id"],
    "ListAttachments": ["task_id"],
    "Attach": ["task_id", "type"],
    "GetAttachment": ["task_id", "type"],
    "Detach": ["task_id", "type"],
    "SearchTasks": ["query"],
    "Query": ["sql"],
    "SetThought": ["worker_id"],
    "UpdateTasks": ["updates"],
    "RenameTask": ["task_id", "new_task_id"],
    "RestoreTask": ["task_id"],
    "ObliterateTask": ["task_id"],
    "ScanTasks": ["task_id"],
}
# Every field that holds an id, a tag, or the name of a state, phase or type; [] means a list.
IDS = {
    "Connect": ["worker_id", "workflow", "tags[]", "overlays[]", "request_id"],
    "Disconnect": ["worker_id", "request_id"],
    "AddOverlay": ["worker_id", "overlay", "by_worker_id", "request_id"],
    "RemoveOverlay": ["worker_id", "overlay", "by_worker_id", "request_id"],
    "Heartbeat": ["worker_id"],
    "CreateTask": [
        *["id", "parent_id", "phase", "workflow", "worker_id", "request_id"],
        *["blocked_by[]", "tags[]", "needed_tags[]", "wanted_tags[]"],
    ],
    "GetTask": ["task_id"],
    "ListTasks": [
        *["owner", "parent_id", "phase", "qualified_for_worker_id"],
        *["statuses[]", "tags_any[]", "tags_all[]"],
    ],
    "UpdateTask": [
        *["task_id", "worker_id", "status", "phase", "assignee", "workflow", "request_id"],
        *["tags.values[]", "needed_tags.values[]", "wanted_tags.values[]"],
    ],
    "DeleteTask": ["task_id", "worker_id", "request_id"],
    "LinkTasks": ["from_task_id", "to_task_id", "worker_id", "request_id"],
    "UnlinkTasks": ["from_task_id", "to_task_id", "worker_id", "request_id"],
    "ListTransitions": ["task_id", "worker_id", "statuses[]"],
    "ExplainTask": ["task_id", "worker_id"],
    "CheckGates": ["task_id", "status", "phase", "worker_id"],
    "SignalTask": ["task_id", "worker_id", "request_id"],
    "BoostTask": ["task_id", "worker_id", "request_id"],
    "LogMetrics": ["task_id", "worker_id", "request_id"],
    "ClaimTask": ["worker_id", "task_id", "request_id"],
    "ClaimNextTask": ["worker_id", "parent_id", "request_id"],
    "ReleaseTask": ["worker_id", "task_id", "request_id"],
    "CompleteTask": ["worker_id", "task_id", "request_id"],
    "FailTask": ["worker_id", "task_id", "request_id"],
    "MarkFiles": ["worker_id", "task_id", "request_id"],
    "UnmarkFiles": ["worker_id", "task_id", "request_id"],
    "ListFileMarks": ["worker_id", "task_id"],
    "Attach": ["worker_id", "task_id", "type", "request_id"],
    "ListAttachments": ["task_id", "type"],
    "GetAttachment": ["task_id", "type"],
    "Detach": ["worker_id", "task_id", "type", "request_id"],
    "Pause": ["task_id", "request_id"],
    "Resume": ["task_id", "request_id"],
    "GetWorkflow": ["name", "overlays[]"],
    "SearchTasks": ["parent_id", "statuses[]", "tags_any[]", "tags_all[]"],
    "Query": [],
    "WatchTasks": [
        *["filter.owner", "filter.subtree_of", "filter.statuses[]", "filter.tags[]"],
        *["filter.task_ids[]", "filter.phases[]"],
    ],
    "ListWorkers": ["tags_all[]"],
    "SetThought": ["worker_id", "task_id", "request_id"],
    "UpdateTasks": ["request_id"],
    "RenameTask": ["task_id", "new_task_id", "worker_id", "request_id"],
    "RestoreTask": ["task_id", "worker_id", "request_id"],
    "ObliterateTask": ["task_id", "worker_id", "request_id"],
    "RelinkTasks": ["worker_id", "request_id"],
    "ScanTasks": ["task_id"],
    "GetMetrics": ["task_id", "worker_id"],
}
ODD_IDS = {
    "a blank": " ",
    "a blank within": "a b",
    "a tab": "a\t",
    "a line break": "\na",
    "NUL": "a\x00b",
    "DEL": "\x7f",
    "a no-break space": "a\u00a0b",
    "an ideographic space": "\u3000",
    "a line separator": "a\u2028b",
    "a zero-width space": "a\u200bb",
    "a zero-width joiner": "a\u200d",
    "a byte order mark": "\ufeffa",
    "a change of direction": "\u202ea",
    "a private character": "\ue000",
    "an unassigned character": "\u0378",
    "too long": "x" * 129,
    "far too long": "é" * 100_000,
}
GOOD_IDS = [
    "x",
    "x" * 128,
    "🦜" * 128,
    "a/b:c#1",
    "Ünïcödé",
    "日本",
    "-",
    "';DROP-TABLE-tasks--",
    "%s",
]


def set_id(fields: Fields, path: str, value: str) -> Fields:
    """Fields with an id somewhere in them."""
    name, _, rest = path.partition(".")
    if rest:
        parent: type = {"filter": v1.WatchFilter}.get(name, v1.Tags)
        return fields | {name: parent(**set_id({}, rest, value))}
    if name.endswith("[]"):
        return fields | {name[:-2]: ["before", value]}
    return fields | {name: value}


def test_every_call_is_here() -> None:
    """The tables speak of every call, and of every field that is named like an id."""
    without = {"CreateTaskTree", "ImportSnapshot", "ExportSnapshot", "Reset"}
    without |= {"GetStatus", "ListWorkflows"}
    without |= {"Work"}  # a stream of many kinds of messages: see test_work_refusals
    without |= {"UploadAttachment", "DownloadAttachment"}  # see test_media
    assert GOOD.keys() | without == STUB_OF.keys()
    for method in GOOD:
        for field in getattr(v1, f"{method}Request").DESCRIPTOR.fields:
            if field.name.endswith("_id") or field.name.endswith("tags"):
                named = {path.partition(".")[0].removesuffix("[]") for path in IDS[method]}
                assert field.name in named, f"{method}.{field.name}"


@pytest.mark.parametrize("method", REQUIRED)
async def test_what_is_required_must_be_there(client: Client, method: str) -> None:
    """A required field that is empty is named."""
    for field in REQUIRED[method]:
        empty: Any = [] if field == "paths" else ""
        await check_refused(client, method, {field: empty}, field)


@pytest.mark.parametrize("method", IDS)
async def test_odd_ids_are_refused(client: Client, method: str) -> None:
    """An id with blanks, control or invisible characters, or beyond 128 of them, is named."""
    for path in IDS[method]:
        for odd in ODD_IDS.values():
            field = path.replace("[]", "[1]")
            await check_refused(client, method, set_id({}, path, odd), field)


async def test_unusual_ids_are_ids(client: Client) -> None:
    """Everything visible of up to 128 characters is an id, and comes back as it was sent."""
    for id in GOOD_IDS:
        created = await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title="x", tags=[id]))
        assert (created.task.id, list(created.task.tags)) == (id, [id])
        shown = await client.tasks.GetTask(v1.GetTaskRequest(task_id=id))
        assert shown.task == created.task
        found = await client.tasks.ListTasks(v1.ListTasksRequest(tags_all=[id]))
        assert [task.id for task in found.tasks] == [id]
        await client.workers.Connect(v1.ConnectRequest(worker_id=id, request_id=id))
        request = v1.ClaimTaskRequest(worker_id=id, task_id=id)
        claimed = await client.claims.ClaimTask(request)
        assert claimed.task.worker_id == id
    error = await refusal(client.tasks.CreateTask(v1.CreateTaskRequest(id="🦜" * 128, title="x")))
    assert error.reason == "TASK_EXISTS"
