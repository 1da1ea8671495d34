"""AdminService: status, pause and resume, reset, workflows. Snapshots are in test_snapshots."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, HistoryLost, TaskloomError
from taskloom_server import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import TestClock


async def status(client: Client) -> v1.GetStatusResponse:
    """What GetStatus answers."""
    return await client.admin.GetStatus(v1.GetStatusRequest())


async def create(client: Client, id: str, **fields: Any) -> v1.Task:
    """A new task."""
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def connect(client: Client, id: str, **fields: Any) -> v1.ConnectResponse:
    """A new worker."""
    return await client.workers.Connect(v1.ConnectRequest(worker_id=id, **fields))


async def claim(client: Client, worker: str, task: str) -> None:
    """Claim a task by name."""
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id=worker, task_id=task))


async def claim_next(client: Client, worker: str) -> v1.ClaimNextTaskResponse:
    """What ClaimNextTask answers."""
    return await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id=worker))


async def update(client: Client, task: str, **fields: Any) -> None:
    """Change a task."""
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task, **fields))


async def pause(client: Client, by: str = "", reason: str = "") -> v1.PauseResponse:
    """What Pause answers."""
    return await client.admin.Pause(v1.PauseRequest(by=by, reason=reason))


async def resume(client: Client, by: str = "", reason: str = "") -> int:
    """The revision of Resume."""
    return (await client.admin.Resume(v1.ResumeRequest(by=by, reason=reason))).revision


async def reset(client: Client) -> v1.ResetResponse:
    """What Reset answers."""
    return await client.admin.Reset(v1.ResetRequest(confirm="reset"))


async def refusal(call: Awaitable[object]) -> TaskloomError:
    """The refusal with which a call ends."""
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


def time(ms: int) -> Timestamp:
    """Unix ms as a Timestamp."""
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


# Status


async def test_the_status_of_an_empty_graph(timed_client: Client, clock: "TestClock") -> None:
    """A new database has no tasks, no workers and no revision; nothing is paused."""
    start = clock.now()
    clock.advance(1_234)
    answer = await status(timed_client)
    assert len(answer.incarnation) == 32
    assert answer == v1.GetStatusResponse(
        version=__version__,
        incarnation=answer.incarnation,
        server_time=time(start + 1_234),
        start_time=time(start),
        oldest_revision=1,
    )


async def test_the_status_counts(timed_client: Client, clock: "TestClock") -> None:
    """Tasks by status, and of them the ready, claimed, delayed and open; deleted ones in none."""
    later = time(clock.now() + 60_000)
    await connect(timed_client, "w", max_claims=9)
    await connect(timed_client, "gone")
    await timed_client.workers.Disconnect(v1.DisconnectRequest(worker_id="gone"))
    for id in ("ready", "deleted", "done", "failed", "cancelled", "held", "assigned", "parent"):
        await create(timed_client, id)
    await create(timed_client, "child", parent_id="parent")
    await create(timed_client, "blocked", blocked_by=["held"])
    await create(timed_client, "delayed", not_before=later)
    await create(timed_client, "delayed-and-blocked", not_before=later, blocked_by=["held"])
    await create(timed_client, "delayed-and-gone", not_before=later)
    for id in ("done", "failed", "held"):
        await claim(timed_client, "w", id)
    await update(timed_client, "done", status="completed")
    await update(timed_client, "failed", status="failed")
    await update(timed_client, "cancelled", status="cancelled")
    await update(timed_client, "assigned", assignee="w")
    last = 0
    for id in ("deleted", "delayed-and-gone"):
        last = (await timed_client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id=id))).revision

    answer = await status(timed_client)
    assert answer.tasks_by_status == {
        "pending": 6,
        "assigned": 1,
        "working": 1,
        "completed": 1,
        "failed": 1,
        "cancelled": 1,
    }
    assert (answer.ready_tasks, answer.claimed_tasks, answer.delayed_tasks) == (2, 2, 1)
    assert (answer.open_tasks, answer.connected_workers) == (8, 1)
    assert (answer.revision, answer.oldest_revision) == (last, 1)


async def test_the_incarnation_outlives_the_server(start_server: Callable[..., Any]) -> None:
    """A restart is the same life of the database, at the same revision; Connect says so, too."""
    async with start_server() as server, Client(server.address) as client:
        connected = await connect(client, "w")
        before = await status(client)
        assert connected.incarnation == before.incarnation
    async with start_server() as server, Client(server.address) as client:
        after = await status(client)
        assert (after.incarnation, after.revision) == (before.incarnation, before.revision)


# Pause and resume


async def test_a_pause_stops_claims(timed_client: Client, clock: "TestClock") -> None:
    """While paused no task is given to anybody, and the refusal says who paused and why."""
    await connect(timed_client, "w")
    await create(timed_client, "a")
    answer = await pause(timed_client, by="ann", reason="the disk is full")
    assert answer.paused == v1.PauseState(
        by="ann", reason="the disk is full", time=time(clock.now())
    )
    assert (await status(timed_client)).paused == answer.paused
    given = await claim_next(timed_client, "w")
    assert (list(given.tasks), given.outcome) == ([], v1.CLAIM_OUTCOME_PAUSED)
    error = await refusal(claim(timed_client, "w", "a"))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PAUSED")
    assert "ann" in str(error)
    assert "the disk is full" in str(error)

    await resume(timed_client)
    assert not (await status(timed_client)).HasField("paused")
    assert [task.id for task in (await claim_next(timed_client, "w")).tasks] == ["a"]


async def test_who_holds_a_task_finishes_it(client: Client) -> None:
    """A pause leaves held tasks with their workers, who complete them, and frees dependents."""
    await connect(client, "w")
    await create(client, "a")
    await create(client, "b", blocked_by=["a"])
    await claim(client, "w", "a")
    await pause(client)
    request = v1.CompleteTaskRequest(worker_id="w", task_id="a")
    assert list((await client.claims.CompleteTask(request)).unblocked_task_ids) == ["b"]
    assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_PAUSED


async def test_pausing_again_takes_over(timed_client: Client, clock: "TestClock") -> None:
    """The second pause puts its who, why and when in place of the first; one resume ends both."""
    await pause(timed_client, by="ann", reason="lunch")
    clock.advance(5_000)
    await pause(timed_client, by="bob")
    paused = (await status(timed_client)).paused
    assert paused == v1.PauseState(by="bob", time=time(clock.now()))
    await resume(timed_client)
    assert not (await status(timed_client)).HasField("paused")


async def test_resuming_what_is_not_paused_changes_nothing(client: Client) -> None:
    """A resume without a pause makes no revision."""
    before = (await create(client, "a")).revision
    assert await resume(client) == before


async def test_a_pause_outlives_the_server(start_server: Callable[..., Any]) -> None:
    """What was paused is paused after a restart; what was resumed is not."""
    async with start_server() as server, Client(server.address) as client:
        await connect(client, "w")
        paused = (await pause(client, by="ann", reason="why")).paused
    async with start_server() as server, Client(server.address) as client:
        assert (await status(client)).paused == paused
        assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_PAUSED
        await resume(client)
    async with start_server() as server, Client(server.address) as client:
        assert not (await status(client)).HasField("paused")


async def test_pauses_are_told_in_the_stream(client: Client) -> None:
    """Pause and resume are events, each a revision of its own, with the reason."""
    first = (await pause(client, by="ann", reason="lunch")).revision
    last = await resume(client, by="ann", reason="coffee")
    assert last == first + 1
    told = []
    async with client.watch(start_revision=first) as watch:
        async for message in watch:
            told += [(event.type, event.reason) for event in message.events.events]
            if message.revision == last:
                break
    assert told == [(v1.EVENT_TYPE_PAUSED, "lunch"), (v1.EVENT_TYPE_RESUMED, "coffee")]


# Reset


async def test_a_reset_leaves_nothing(client: Client) -> None:
    """After a Reset there are no tasks, workers, marks or pause, and a new incarnation begins."""
    await connect(client, "w")
    await create(client, "a", tags=["x"], needed_tags=["y"])
    await client.files.MarkFiles(v1.MarkFilesRequest(worker_id="w", paths=["a.py"]))
    await client.attachments.Attach(v1.AttachRequest(task_id="a", type="note"))
    await pause(client)
    before = await status(client)
    answer = await reset(client)
    after = await status(client)
    assert after.incarnation == answer.incarnation != before.incarnation
    assert after.revision == answer.revision >= before.revision, "revisions only grow"
    assert after.oldest_revision == answer.revision + 1
    assert not after.tasks_by_status
    assert (after.connected_workers, after.HasField("paused")) == (0, False)
    every = v1.ListWorkersRequest(include_disconnected=True)
    assert not (await client.workers.ListWorkers(every)).workers
    assert not (await client.tasks.ListTasks(v1.ListTasksRequest(include_deleted=True))).tasks
    assert not (await client.files.ListFileMarks(v1.ListFileMarksRequest())).marks


async def test_ids_are_free_after_a_reset(client: Client) -> None:
    """The ids of tasks and workers of before may be used anew, and nothing of before is left."""
    await connect(client, "w", max_claims=3)
    await create(client, "a", tags=["x"])
    await client.attachments.Attach(v1.AttachRequest(task_id="a", type="note"))
    await update(client, "a", phase="test")
    await reset(client)
    task = await create(client, "a")
    assert (list(task.tags), task.phase, task.ready) == ([], "", True)
    history = v1.ListTransitionsRequest(task_id="a")
    assert len((await client.tasks.ListTransitions(history)).transitions) == 1
    note = v1.AttachRequest(task_id="a", type="note")
    assert (await client.attachments.Attach(note)).attachment.sequence == 0
    assert (await connect(client, "w")).worker.max_claims == 1


async def test_tags_mean_what_they_say_after_a_reset(client: Client) -> None:
    """Who may take a task is decided by the tasks of now, not by those of before."""
    for needed in ("rust", "css"):
        await connect(client, "w", tags=["rust"])
        await create(client, "a", needed_tags=[needed])
        await create(client, "b", needed_tags=["gpu"])
        request = v1.ListTasksRequest(qualified_for_worker_id="w")
        qualified = [task.id for task in (await client.tasks.ListTasks(request)).tasks]
        given = [task.id for task in (await claim_next(client, "w")).tasks]
        assert qualified == given == (["a"] if needed == "rust" else [])
        await reset(client)


async def test_a_reset_ends_watches(client: Client) -> None:
    """A watch of before ends with INCARNATION_CHANGED; the details name the new one."""
    await create(client, "a")
    async with client.watch(include_state=True) as watch:
        messages = aiter(watch)
        while not (await anext(messages)).HasField("synced"):
            pass
        answer = await reset(client)
        with pytest.raises(HistoryLost) as caught:
            await anext(messages)
    assert caught.value.code is grpc.StatusCode.OUT_OF_RANGE
    assert caught.value.reason == "INCARNATION_CHANGED"
    assert caught.value.metadata == {"incarnation": answer.incarnation}


async def test_a_reset_outlives_the_server(start_server: Callable[..., Any]) -> None:
    """The incarnation that a Reset began is that of the database from then on."""
    async with start_server() as server, Client(server.address) as client:
        await create(client, "a")
        answer = await reset(client)
    async with start_server() as server, Client(server.address) as client:
        after = await status(client)
        assert (after.incarnation, after.revision) == (answer.incarnation, answer.revision)


async def test_leases_of_before_a_reset_do_not_end_after(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A lease that was running when everything was deleted touches no task of the same id."""
    await connect(timed_client, "w", lease=Duration(seconds=10))
    await create(timed_client, "a")
    await claim(timed_client, "w", "a")
    await reset(timed_client)
    await connect(timed_client, "w", lease=Duration(seconds=60))
    await create(timed_client, "a")
    await claim(timed_client, "w", "a")
    due = await create(timed_client, "due", not_before=time(clock.now() + 20_000))
    async with timed_client.watch(start_revision=due.revision + 1) as watch:
        clock.advance(30_000)
        async for message in watch:
            if events := list(message.events.events):
                break
    assert [(event.task_id, event.type) for event in events] == [("due", v1.EVENT_TYPE_TASK_READY)]
    shown = await timed_client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))
    assert (shown.task.status, shown.task.attempts) == ("working", 0)


# Workflows


async def test_the_swarm_workflow(client: Client) -> None:
    """GetWorkflow shows the states, exits and rules that are in force; no name is the default."""
    answer = await client.admin.GetWorkflow(v1.GetWorkflowRequest())
    workflow = answer.workflow
    assert workflow.name == "swarm"
    assert {state.name: list(state.exits) for state in workflow.states} == {
        "pending": ["assigned", "working", "cancelled"],
        "assigned": ["working", "pending", "cancelled"],
        "working": ["completed", "failed", "pending", "waiting"],
        "waiting": ["working", "completed", "failed", "pending", "cancelled"],
        "completed": ["pending"],
        "failed": ["pending"],
        "cancelled": [],
    }
    assert [state.name for state in workflow.states if state.timed] == ["working"]
    assert [state.name for state in workflow.states if state.parked] == ["waiting"]
    ended = [state.name for state in workflow.states if state.terminal]
    assert ended == ["completed", "failed", "cancelled"]
    assert (workflow.initial_state, workflow.claim_state) == ("pending", "working")
    assert (workflow.complete_state, workflow.fail_state) == ("completed", "failed")
    assert workflow.disconnect_state == "pending"
    assert list(workflow.blocking_states) == [
        "assigned",
        "failed",
        "pending",
        "waiting",
        "working",
    ]
    assert (workflow.assign_state, workflow.cancel_state) == ("assigned", "cancelled")
    assert "test" in [phase.name for phase in workflow.phases]
    named = await client.admin.GetWorkflow(v1.GetWorkflowRequest(name="swarm"))
    assert named == answer


async def test_a_workflow_that_there_is_not(client: Client) -> None:
    """An unknown workflow is NOT_FOUND, and those that there are named."""
    error = await refusal(client.admin.GetWorkflow(v1.GetWorkflowRequest(name="nothing")))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND")
    assert error.resource is not None
    assert (error.resource.type, error.resource.name) == ("workflow", "swarm")
    assert "swarm" in str(error)


def write_workflow(folder: "Path", name: str, states: int) -> None:
    """A workflow file with so many states in which a task is open."""
    exits: dict[str, Any] = {f"open-{n}": {"exits": ["done"]} for n in range(1, states - 1)}
    exits |= {"new": {"exits": ["doing"]}, "doing": {"exits": ["new", "done"]}}
    named = ["initial", "assign", "claim", "complete", "fail", "cancel", "disconnect"]
    where = ["new", "doing", "doing", "done", "done", "done", "new"]
    document = {
        "name": name,
        "states": exits | {"done": {"exits": []}},
        "settings": {f"{n}_state": state for n, state in zip(named, where, strict=True)}
        | {"blocking_states": ["new", "doing"]},
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))


async def test_workflows_of_ones_own(start_server: Callable[..., Any], tmp_path: "Path") -> None:
    """Workflows of the folder stand beside those that come with the server, one is the default."""
    write_workflow(tmp_path / "flows", "mine", states=2)
    settings: dict[str, Any] = {"workflow_dir": tmp_path / "flows", "default_workflow": "mine"}
    async with start_server(**settings) as server, Client(server.address) as client:
        task = await create(client, "a")
        answer = await client.admin.ListWorkflows(v1.ListWorkflowsRequest())
        shipped = ["hierarchical", "kanban", "push", "relay", "solo", "sprint", "swarm"]
        assert sorted(answer.names) == sorted(["mine", *shipped])
        assert (answer.default_name, answer.revision) == ("mine", task.revision)
        assert not answer.load_error
        assert (task.workflow, task.status) == ("mine", "new")
        shown = await client.admin.GetWorkflow(v1.GetWorkflowRequest())
        assert shown.workflow.name == "mine"
        assert (await connect(client, "w")).worker.workflow == "mine"
        assert [task.status for task in (await claim_next(client, "w")).tasks] == ["doing"]


async def test_workflows_may_have_many_states(
    start_server: Callable[..., Any], tmp_path: "Path"
) -> None:
    """A worker that finds nothing is told why, however many states there are."""
    write_workflow(tmp_path / "flows", "large", states=60)
    async with (
        start_server(workflow_dir=tmp_path / "flows") as server,
        Client(server.address) as client,
    ):
        await connect(client, "w")
        assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_ALL_DONE
        await create(client, "a", workflow="large", needed_tags=["x"])
        assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_NONE_READY
