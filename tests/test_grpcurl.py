"""The service as a person meets it: with grpcurl, which knows what the server says of itself."""

import asyncio
import json
import os
import shutil
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Server

TOOLS = Path(__file__).parents[1] / ".tools" / "bin"
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), str(TOOLS)])
SERVICES = [
    "AdminService",
    "AttachmentService",
    "ClaimService",
    "FileService",
    "TaskService",
    "WatchService",
    "WorkerService",
]

Grpcurl = Callable[..., Awaitable[str]]


@pytest.fixture(scope="session")
def binary() -> str:
    """Where grpcurl is."""
    found = shutil.which("grpcurl", path=SEARCH_PATH)
    if found is None:
        if shutil.which("go") is None:
            pytest.skip("grpcurl comes from the Go module proxy, and there is no Go here")
        pytest.fail("grpcurl is not installed: run .ci/run, which puts it into .tools/bin")
    return found


@pytest.fixture
def grpcurl(binary: str, server: "Server") -> Grpcurl:
    """Run grpcurl against the server; what it prints, also where it fails."""

    async def run(*arguments: str, data: str = "", flags: Sequence[str] = (), code: int = 0) -> str:
        given = ["-plaintext", *flags, *(["-d", data] if data else [])]
        process = await asyncio.create_subprocess_exec(
            *(binary, *given, server.address, *arguments), stdout=PIPE, stderr=PIPE
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode == code, err.decode()
        return (out or err).decode()

    return run


async def test_lists_the_services(grpcurl: Grpcurl) -> None:
    """`list` names the services of the design, health and reflection, and nothing else."""
    assert (await grpcurl("list")).split() == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        *(f"taskloom.v1.{service}" for service in SERVICES),
    ]


async def test_lists_the_methods(grpcurl: Grpcurl) -> None:
    """`list` with a service names its methods."""
    assert (await grpcurl("list", "taskloom.v1.WorkerService")).split() == [
        f"taskloom.v1.WorkerService.{method}"
        for method in (
            *("AddOverlay", "Connect", "Disconnect"),
            *("Heartbeat", "ListWorkers", "RemoveOverlay", "SetThought"),
        )
    ]


@pytest.mark.parametrize("service", SERVICES)
async def test_describes_the_services(grpcurl: Grpcurl, service: str) -> None:
    """`describe` shows every service with the types of its methods."""
    shown = await grpcurl("describe", f"taskloom.v1.{service}")
    assert f"service {service} {{" in shown
    assert "returns (" in shown


async def test_describes_a_method(grpcurl: Grpcurl) -> None:
    """`describe` shows a method, and that it streams."""
    shown = await grpcurl("describe", "taskloom.v1.WatchService.WatchTasks")
    assert "( .taskloom.v1.WatchTasksRequest )" in shown
    assert "( stream .taskloom.v1.WatchTasksResponse )" in shown


async def test_describes_a_message(grpcurl: Grpcurl) -> None:
    """`describe` shows a message's fields, and a template to fill in."""
    shown = await grpcurl("describe", "taskloom.v1.CreateTaskRequest", flags=["-msg-template"])
    for part in ("string title = 2;", "optional int32 priority = 6;", '"blocked_by": ['):
        assert part in shown


async def test_says_that_it_is_well(grpcurl: Grpcurl) -> None:
    """The health service answers for the server and for each of its services."""
    assert json.loads(await grpcurl("grpc.health.v1.Health/Check")) == {"status": "SERVING"}
    for service in SERVICES:
        asked = json.dumps({"service": f"taskloom.v1.{service}"})
        answer = await grpcurl("grpc.health.v1.Health/Check", data=asked)
        assert json.loads(answer) == {"status": "SERVING"}
    unknown = await grpcurl(
        "grpc.health.v1.Health/Check", data='{"service": "taskloom.v1.Oops"}', code=69
    )
    assert "NotFound" in unknown


async def test_creates_and_lists(grpcurl: Grpcurl) -> None:
    """Tasks can be made and listed by typing JSON, and what is shown is readable."""
    made = json.loads(
        await grpcurl(
            "taskloom.v1.TaskService/CreateTask",
            data='{"id": "parser", "title": "Write the parser", "priority": 7, "tags": ["rust"], '
            '"time_estimate": "1800s", "not_before": "2099-01-01T00:00:00Z"}',
        )
    )
    assert made["task"]["status"] == "pending"
    assert made["task"]["time_estimate"] == "1800s"
    assert made["task"]["not_before"] == "2099-01-01T00:00:00Z"
    assert made["revision"] == "1"
    await grpcurl(
        "taskloom.v1.TaskService/CreateTask", data='{"title": "Tests", "blocked_by": ["parser"]}'
    )
    listed = json.loads(await grpcurl("taskloom.v1.TaskService/ListTasks"))
    assert [task["title"] for task in listed["tasks"]] == ["Write the parser", "Tests"]
    blocked = await grpcurl("taskloom.v1.TaskService/ListTasks", data='{"blocked": true}')
    assert [task["title"] for task in json.loads(blocked)["tasks"]] == ["Tests"]


async def test_refusals_are_readable(grpcurl: Grpcurl) -> None:
    """A refusal shows its code, a sentence, and the details by name rather than as bytes."""
    refused = await grpcurl(
        "taskloom.v1.TaskService/CreateTask", data='{"title": "x", "priority": 11}', code=67
    )
    assert "Code: InvalidArgument" in refused
    assert "priority" in refused
    for part in ("google.rpc.ErrorInfo", "INVALID_FIELD", "google.rpc.BadRequest"):
        assert part in refused
    unknown = await grpcurl(
        "taskloom.v1.TaskService/GetTask", data='{"task_id": "nobody"}', code=69
    )
    for part in ("Code: NotFound", "TASK_NOT_FOUND", "google.rpc.ResourceInfo"):
        assert part in unknown


async def test_works_a_task(grpcurl: Grpcurl) -> None:
    """A person can take a task through its whole life with grpcurl alone."""

    async def call(method: str, **fields: Any) -> Any:
        return json.loads(await grpcurl(f"taskloom.v1.{method}", data=json.dumps(fields)))

    await call("TaskService/CreateTask", id="t", title="t")
    await call("WorkerService/Connect", worker_id="me", lease="3600s")
    claimed = await call("ClaimService/ClaimNextTask", worker_id="me")
    assert claimed["outcome"] == "CLAIM_OUTCOME_CLAIMED"
    await call("AttachmentService/Attach", task_id="t", type="note", content="aGVsbG8=")
    ended = await call(
        "ClaimService/CompleteTask",
        worker_id="me",
        task_id="t",
        claim_revision=claimed["tasks"][0]["claim_revision"],
    )
    assert ended["task"]["status"] == "completed"
    status = await call("AdminService/GetStatus")
    assert status["tasks_by_status"] == {"completed": "1"}


async def test_watches(binary: str, server: "Server", grpcurl: Grpcurl) -> None:
    """A watch prints what happens as it happens."""
    await grpcurl("taskloom.v1.TaskService/CreateTask", data='{"id": "a", "title": "a"}')
    process = await asyncio.create_subprocess_exec(
        *(binary, "-plaintext", "-d", '{"include_state": true}', server.address),
        "taskloom.v1.WatchService/WatchTasks",
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdout is not None
    text = ""
    messages: list[Any] = []
    made = False
    async with asyncio.timeout(30):
        while len(messages) < 4:
            text += (await process.stdout.readline()).decode()
            try:
                messages.append(json.loads(text))
            except json.JSONDecodeError:
                continue  # a message is printed over many lines
            text = ""
            if "synced" in messages[-1] and not made:
                made = True
                await grpcurl(
                    "taskloom.v1.TaskService/CreateTask", data='{"id": "b", "title": "b"}'
                )
    process.terminate()
    await process.communicate()
    assert "incarnation" in messages[0]["created"]
    assert messages[1]["events"]["events"][0]["type"] == "EVENT_TYPE_TASK_LISTED"
    assert messages[2] == {"revision": "1", "synced": {}}
    [event] = messages[3]["events"]["events"]
    assert (messages[3]["revision"], event["type"]) == ("2", "EVENT_TYPE_TASK_CREATED")
    assert event["task"]["title"] == "b"
