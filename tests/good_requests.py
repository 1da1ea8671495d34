"""Of each call a request whose fields are all of their form, and how one is refused otherwise."""

from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf import descriptor_pool
from taskloom import v1
from taskloom_client import Client

from tests.calls import refusal

STUBS = {
    "WorkerService": "workers",
    "TaskService": "tasks",
    "ClaimService": "claims",
    "WatchService": "watches",
    "FileService": "files",
    "AttachmentService": "attachments",
    "AdminService": "admin",
}
STUB_OF = {
    method.name: stub
    for service, stub in STUBS.items()
    for method in descriptor_pool.Default().FindServiceByName(f"taskloom.v1.{service}").methods
}
INVALID = grpc.StatusCode.INVALID_ARGUMENT

Fields: TypeAlias = dict[str, Any]

# Of each call, a request in which every field is of its form.
GOOD: dict[str, Fields] = {
    "Connect": {},
    "Disconnect": {"worker_id": "w"},
    "AddOverlay": {"worker_id": "w", "overlay": "tdd"},
    "RemoveOverlay": {"worker_id": "w", "overlay": "tdd"},
    "Heartbeat": {"worker_id": "w"},
    "ListWorkers": {},
    "CreateTask": {"title": "x"},
    "GetTask": {"task_id": "a"},
    "ListTasks": {},
    "UpdateTask": {"task_id": "a"},
    "DeleteTask": {"task_id": "a"},
    "LinkTasks": {"from_task_id": "a", "to_task_id": "b"},
    "UnlinkTasks": {"from_task_id": "a", "to_task_id": "b"},
    "ListTransitions": {},
    "ExplainTask": {"task_id": "a"},
    "CheckGates": {"task_id": "a"},
    "SignalTask": {"task_id": "a"},
    "BoostTask": {"task_id": "a"},
    "LogMetrics": {"task_id": "a"},
    "ClaimTask": {"worker_id": "w", "task_id": "a"},
    "ClaimNextTask": {"worker_id": "w"},
    "ReleaseTask": {"worker_id": "w", "task_id": "a"},
    "CompleteTask": {"worker_id": "w", "task_id": "a"},
    "FailTask": {"worker_id": "w", "task_id": "a"},
    "MarkFiles": {"worker_id": "w", "paths": ["p"]},
    "UnmarkFiles": {"worker_id": "w"},
    "ListFileMarks": {},
    "Attach": {"task_id": "a", "type": "note"},
    "ListAttachments": {"task_id": "a"},
    "GetAttachment": {"task_id": "a", "type": "note"},
    "Detach": {"task_id": "a", "type": "note"},
    "Pause": {},
    "Resume": {},
    "GetWorkflow": {},
    "WatchTasks": {},
    "SearchTasks": {"query": "x"},
    "Query": {"sql": "SELECT 1"},
    "SetThought": {"worker_id": "w"},
    "UpdateTasks": {"updates": [v1.UpdateTaskRequest(task_id="a")]},
    "RenameTask": {"task_id": "a", "new_task_id": "b"},
    "RestoreTask": {"task_id": "a"},
    "ObliterateTask": {"task_id": "a"},
    "RelinkTasks": {},
    "ScanTasks": {"task_id": "a"},
    "GetMetrics": {},
}


def request_of(method: str, fields: Fields) -> Any:
    """A request that is good but for some fields."""
    return getattr(v1, f"{method}Request")(**(GOOD.get(method, {}) | fields))


async def answer(client: Client, method: str, request: Any) -> Any:
    """What a call answers; of a stream the first message."""
    call = getattr(getattr(client, STUB_OF[method]), method)(request)
    if hasattr(call, "__aiter__"):
        return await anext(aiter(call))
    return await call


async def check_refused(client: Client, method: str, fields: Fields, field: str) -> None:
    """The field is named, with INVALID_ARGUMENT, in the details and in the sentence."""
    case = f"{method}({str(fields)[:200]})"
    try:
        error = await refusal(answer(client, method, request_of(method, fields)))
    except pytest.fail.Exception:
        pytest.fail(f"{case} was accepted")
    assert (error.code, error.reason) == (INVALID, "INVALID_FIELD"), case
    assert [violation.field for violation in error.field_violations] == [field], case
    assert error.field_violations[0].description, case
    assert error.message.startswith(f"{field}: "), case
