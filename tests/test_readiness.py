"""Readiness: what holds a task back, what frees it, and what becomes of parents.

Random graphs are compared with a model in test_readiness_model.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

    StartServer: TypeAlias = Callable[..., AbstractAsyncContextManager[Server]]

BLOCKS = v1.DEPENDENCY_TYPE_BLOCKS
FOLLOWS = v1.DEPENDENCY_TYPE_FOLLOWS
CONTAINS = v1.DEPENDENCY_TYPE_CONTAINS

Happened: TypeAlias = tuple["v1.EventType.ValueType", str]
"""An event: its type and its task."""


@pytest.fixture
async def worker(client: Client) -> str:
    """A worker that may hold many tasks."""
    request = v1.ConnectRequest(worker_id="w", max_claims=100)
    return (await client.workers.Connect(request)).worker.id


async def _create(client: Client, id: str, **fields: Any) -> v1.Task:
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def _tree(client: Client, root: v1.TaskNode) -> None:
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))


def _node(id: str, *children: v1.TaskNode, **fields: Any) -> v1.TaskNode:
    return v1.TaskNode(id=id, title=id, children=children, **fields)


async def _claim(client: Client, task: str, worker: str = "w") -> v1.Task:
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task)
    return (await client.claims.ClaimTask(request)).task


async def _complete(client: Client, task: str) -> list[str]:
    """Complete a held task; what it freed."""
    request = v1.CompleteTaskRequest(worker_id="w", task_id=task)
    return sorted((await client.claims.CompleteTask(request)).unblocked_task_ids)


async def _work(client: Client, *tasks: str) -> list[str]:
    """Claim and complete tasks; what the last one freed."""
    freed: list[str] = []
    for task in tasks:
        await _claim(client, task)
        freed = await _complete(client, task)
    return freed


async def _release(client: Client, task: str) -> v1.Task:
    request = v1.ReleaseTaskRequest(worker_id="w", task_id=task)
    return (await client.claims.ReleaseTask(request)).task


async def _fail(client: Client, task: str) -> list[str]:
    """Claim a task and fail it; what it freed."""
    await _claim(client, task)
    request = v1.FailTaskRequest(worker_id="w", task_id=task)
    return sorted((await client.claims.FailTask(request)).unblocked_task_ids)


async def _move(client: Client, task: str, status: str) -> list[str]:
    """Move a task as a person; what it freed."""
    request = v1.UpdateTaskRequest(task_id=task, status=status)
    return sorted((await client.tasks.UpdateTask(request)).unblocked_task_ids)


async def _delete(client: Client, task: str, *, cascade: bool = False) -> list[str]:
    """Delete a task; what it freed."""
    request = v1.DeleteTaskRequest(task_id=task, cascade=cascade, force=True)
    return sorted((await client.tasks.DeleteTask(request)).unblocked_task_ids)


async def _link(
    client: Client, from_: str, to: str, type_: v1.DependencyType.ValueType = BLOCKS
) -> None:
    request = v1.LinkTasksRequest(from_task_id=from_, to_task_id=to, type=type_)
    await client.tasks.LinkTasks(request)


async def _unlink(
    client: Client, from_: str, to: str, type_: v1.DependencyType.ValueType = BLOCKS
) -> list[str]:
    """Remove a dependency; what it freed."""
    request = v1.UnlinkTasksRequest(from_task_id=from_, to_task_id=to, type=type_)
    return sorted((await client.tasks.UnlinkTasks(request)).unblocked_task_ids)


async def _show(client: Client, task: str) -> v1.Task:
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def _ready(client: Client) -> list[str]:
    """The tasks that a list of ready ones shows."""
    answer = await client.tasks.ListTasks(
        v1.ListTasksRequest(ready=True, order_by=v1.ORDER_BY_CREATE_TIME)
    )
    assert all(task.ready for task in answer.tasks)
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert status.ready_tasks == len(answer.tasks)
    return [task.id for task in answer.tasks]


async def _statuses(client: Client, *tasks: str) -> list[str]:
    return [(await _show(client, task)).status for task in tasks]


async def _refusal(call: Awaitable[object]) -> TaskloomError:
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


async def _last_revision(client: Client) -> list[v1.Event]:
    """The events of the latest change."""
    revision = (await client.admin.GetStatus(v1.GetStatusRequest())).revision
    async with asyncio.timeout(10), client.watch(start_revision=revision) as watch:
        async for message in watch:
            if message.revision == revision and message.events.events:
                return list(message.events.events)
    raise AssertionError("the watch ended")


def _happened(events: list[v1.Event]) -> list[Happened]:
    return [(event.type, event.task_id) for event in events]


# Blockers


async def test_last_blocker_frees(client: Client, worker: str) -> None:
    """A task is ready when its last blocker has ended well, told in the same revision."""
    await _create(client, "a")
    await _create(client, "b")
    task = await _create(client, "task", blocked_by=["a", "b"])
    assert not task.ready
    assert not task.HasField("ready_time")
    assert await _ready(client) == ["a", "b"]
    assert await _work(client, "a") == []
    assert not (await _show(client, "task")).ready
    assert await _work(client, "b") == ["task"]
    events = await _last_revision(client)
    assert _happened(events) == [
        (v1.EVENT_TYPE_TASK_COMPLETED, "b"),
        (v1.EVENT_TYPE_TASK_READY, "task"),
    ]
    task = await _show(client, "task")
    assert events[-1].task == task
    assert task.ready
    assert task.HasField("ready_time")
    assert await _ready(client) == ["task"]


async def test_blocker_that_is_also_followed_counts_once(client: Client, worker: str) -> None:
    """One task that blocks and is followed is one blocker: ended, it is none; unlinked, half."""
    for id in ("first", "one", "two"):
        await _create(client, id)
    for id in ("one", "two"):
        await _link(client, "first", id, BLOCKS)
        await _link(client, "first", id, FOLLOWS)
    assert await _unlink(client, "first", "one", BLOCKS) == []
    error = await _refusal(_claim(client, "one"))
    assert [violation.subject for violation in error.violations] == ["first"]
    assert await _unlink(client, "first", "one", FOLLOWS) == ["one"]
    assert await _work(client, "first") == ["two"]


@pytest.mark.parametrize(
    "type_",
    [v1.DEPENDENCY_TYPE_DUPLICATE, v1.DEPENDENCY_TYPE_SEE_ALSO, v1.DEPENDENCY_TYPE_RELATES_TO],
)
async def test_types_that_block_nothing(
    client: Client, worker: str, type_: v1.DependencyType.ValueType
) -> None:
    """A duplicate, a reference or a relation holds neither end back."""
    await _create(client, "a")
    await _create(client, "b")
    await _link(client, "a", "b", type_)
    await _link(client, "b", "a", type_)
    assert await _ready(client) == ["a", "b"]


async def test_failed_blocker_holds(client: Client, worker: str) -> None:
    """What depends on a failed task waits until that is reopened and done."""
    await _create(client, "blocker")
    await _create(client, "task", blocked_by=["blocker"])
    assert await _fail(client, "blocker") == []
    error = await _refusal(_claim(client, "task"))
    assert [violation.subject for violation in error.violations] == ["blocker"]
    assert await _move(client, "blocker", "pending") == []
    assert await _work(client, "blocker") == ["task"]


async def test_cancelled_blocker_frees(client: Client, worker: str) -> None:
    """What depends on a task that is cancelled need not wait for it."""
    await _create(client, "blocker")
    await _create(client, "task", blocked_by=["blocker"])
    assert await _move(client, "blocker", "cancelled") == ["task"]


async def test_deleted_blocker_frees(client: Client, worker: str) -> None:
    """What depends on a task that is deleted need not wait for it, however far that was."""
    for id in ("pending", "working", "failed"):
        await _create(client, id)
        await _create(client, f"after-{id}", blocked_by=[id])
    await _claim(client, "working")
    await _fail(client, "failed")
    for id in ("pending", "working", "failed"):
        assert await _delete(client, id) == [f"after-{id}"]


async def test_ended_blocker_does_not_hold(client: Client, worker: str) -> None:
    """A link from a task that has ended well holds nothing back; one that has not does at once."""
    for id in ("done", "open", "task"):
        await _create(client, id)
    await _work(client, "done")
    await _link(client, "done", "task")
    assert (await _show(client, "task")).ready
    assert (await _create(client, "new", blocked_by=["done"])).ready
    await _link(client, "open", "task")
    events = await _last_revision(client)
    assert _happened(events) == [
        (v1.EVENT_TYPE_DEPENDENCY_ADDED, "task"),
        (v1.EVENT_TYPE_TASK_BLOCKED, "task"),
    ]
    assert events[-1].task == await _show(client, "task")
    assert not events[-1].task.ready


async def test_unlinking_frees(client: Client, worker: str) -> None:
    """A task whose last blocker is unlinked is ready."""
    await _create(client, "blocker")
    await _create(client, "task", blocked_by=["blocker"])
    assert await _unlink(client, "blocker", "task") == ["task"]
    events = await _last_revision(client)
    assert _happened(events) == [
        (v1.EVENT_TYPE_DEPENDENCY_REMOVED, "task"),
        (v1.EVENT_TYPE_TASK_READY, "task"),
    ]
    assert await _unlink(client, "blocker", "task") == []


async def test_reopened_blocker_takes_readiness_back(client: Client, worker: str) -> None:
    """Reopening a blocker blocks its dependents anew: TASK_BLOCKED, in the same revision."""
    await _create(client, "blocker")
    await _create(client, "other")
    await _create(client, "task", blocked_by=["blocker"])
    await _create(client, "held", blocked_by=["blocker"])
    await _create(client, "still-blocked", blocked_by=["blocker", "other"])
    await _work(client, "blocker")
    await _claim(client, "held")
    await _move(client, "blocker", "pending")
    events = await _last_revision(client)
    assert _happened(events) == [
        (v1.EVENT_TYPE_TASK_MOVED, "blocker"),
        (v1.EVENT_TYPE_TASK_BLOCKED, "task"),
    ]
    assert events[-1].task == await _show(client, "task")
    assert await _ready(client) == ["blocker", "other"]
    assert (await _release(client, "held")).ready is False, "it counts when it is to start again"
    assert await _work(client, "blocker") == ["held", "task"]


async def test_blocking_does_not_stop_work(client: Client, worker: str) -> None:
    """A task that is blocked while it is worked can be completed; given back, it is blocked."""
    for id in ("blocker", "one", "two"):
        await _create(client, id)
    for id in ("one", "two"):
        await _claim(client, id)
        await _link(client, "blocker", id)
    assert await _complete(client, "one") == []
    assert (await _show(client, "one")).status == "completed"
    assert not (await _release(client, "two")).ready
    assert await _work(client, "blocker") == ["two"]


# Parents


async def test_parents_complete_with_their_last_child(client: Client, worker: str) -> None:
    """Unowned parents complete by themselves, level by level, in the child's revision."""
    await _tree(client, _node("top", _node("mid", _node("a"), _node("b")), _node("c")))
    await _create(client, "after-top", blocked_by=["top"])
    assert await _ready(client) == ["a", "b", "c"]
    await _work(client, "c", "a")
    assert await _statuses(client, "top", "mid") == ["pending", "pending"]
    assert await _work(client, "b") == ["after-top"]
    events = await _last_revision(client)
    assert _happened(events) == [
        (v1.EVENT_TYPE_TASK_COMPLETED, "b"),
        (v1.EVENT_TYPE_TASK_COMPLETED, "mid"),
        (v1.EVENT_TYPE_TASK_COMPLETED, "top"),
        (v1.EVENT_TYPE_TASK_READY, "after-top"),
    ]
    for event in events[1:3]:
        assert event.task == await _show(client, event.task_id)
        assert (event.worker_id, event.task.worker_id) == ("", ""), "it ended by itself"
        assert event.task.HasField("complete_time")
        assert not event.task.HasField("start_time")


async def test_parent_waits_for_its_own_blockers(client: Client, worker: str) -> None:
    """A parent whose children have ended completes only when nothing blocks it either."""
    await _create(client, "blocker")
    await _tree(client, _node("parent", _node("child"), blocked_by=["blocker"]))
    assert (await _show(client, "child")).ready, "what blocks the parent does not block its child"
    await _work(client, "child")
    assert (await _show(client, "parent")).status == "pending"
    await _work(client, "blocker")
    assert (await _show(client, "parent")).status == "completed"


async def test_owned_parent_is_left_to_its_owner(client: Client, worker: str) -> None:
    """A parent that a worker holds or is assigned does not complete by itself."""
    for id in ("working", "assigned"):
        await _create(client, id)
    await _claim(client, "working")
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="assigned", assignee="w"))
    for id in ("working", "assigned"):
        await _create(client, f"child-of-{id}", parent_id=id)
        await _work(client, f"child-of-{id}")
        assert (await _show(client, id)).status == id
    await _complete(client, "working")
    await _claim(client, "assigned")
    await _complete(client, "assigned")
    assert await _statuses(client, "working", "assigned") == ["completed", "completed"]


async def test_failed_child_holds_its_parent(client: Client, worker: str) -> None:
    """A parent does not complete over a child that failed; over a cancelled one it does."""
    await _tree(client, _node("parent", _node("a"), _node("b"), _node("c")))
    await _work(client, "a")
    await _move(client, "b", "cancelled")
    await _fail(client, "c")
    assert (await _show(client, "parent")).status == "pending"
    error = await _refusal(_claim(client, "parent"))
    assert error.reason == "CHILDREN_OPEN"
    assert [violation.subject for violation in error.violations] == ["c"]
    await _move(client, "c", "pending")
    await _work(client, "c")
    assert (await _show(client, "parent")).status == "completed"


async def test_parent_completes_when_its_last_open_child_goes(client: Client, worker: str) -> None:
    """A parent of children that have ended completes when the open one is deleted or unlinked."""
    for id, go in (("p", _delete(client, "p2")), ("q", _unlink(client, "q", "q2", CONTAINS))):
        await _tree(client, _node(id, _node(f"{id}1"), _node(f"{id}2")))
        await _work(client, f"{id}1")
        await go
        assert (await _show(client, id)).status == "completed"


async def test_parent_that_has_no_child_left_is_a_task(client: Client, worker: str) -> None:
    """A parent whose only children are deleted or unlinked is ready to be worked itself."""
    for id in ("p", "q"):
        await _tree(client, _node(id, _node(f"{id}1")))
    assert await _delete(client, "p1") == ["p"]
    assert await _unlink(client, "q", "q1", CONTAINS) == ["q"]
    assert (await _show(client, "q1")).parent_id == ""
    assert await _work(client, "p", "q") == []


async def test_reopened_child_holds_its_parent_again(client: Client, worker: str) -> None:
    """A child that is reopened is open again: its parent waits for it as if it had never ended."""
    await _tree(client, _node("parent", _node("a"), _node("b")))
    await _work(client, "a")
    await _move(client, "a", "pending")
    await _work(client, "b")
    assert (await _show(client, "parent")).status == "pending"
    await _work(client, "a")
    assert (await _show(client, "parent")).status == "completed"
    await _move(client, "a", "pending")
    await _move(client, "parent", "pending")
    assert await _ready(client) == ["a"], "the parent is not to be worked while its child is"


@pytest.mark.parametrize("last", ["child", "blocker", "link"])
async def test_parent_need_not_wait_for_its_time(
    timed_client: Client, clock: "TestClock", last: str
) -> None:
    """A not_before keeps a parent from being taken, not from completing when all else is done."""
    client = timed_client
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    not_before = Timestamp()
    not_before.FromMilliseconds(clock.now() + 60_000)
    await _create(client, "blocker")
    blocked_by = ["blocker"]
    await _tree(
        client, _node("parent", _node("child"), not_before=not_before, blocked_by=blocked_by)
    )
    if last == "child":
        await _work(client, "blocker", "child")
    elif last == "blocker":
        await _work(client, "child", "blocker")
    else:
        await _work(client, "child")
        await _unlink(client, "blocker", "parent")
    assert (await _show(client, "parent")).status == "completed"


async def test_new_child_takes_its_parents_readiness(client: Client, worker: str) -> None:
    """A ready task that is given an open child, new or old, is blocked; by an ended one not."""
    for id in ("a", "b", "c", "old", "done"):
        await _create(client, id)
    await _work(client, "done")
    await _create(client, "new", parent_id="a")
    assert (v1.EVENT_TYPE_TASK_BLOCKED, "a") in _happened(await _last_revision(client))
    await _link(client, "b", "old", CONTAINS)
    assert (v1.EVENT_TYPE_TASK_BLOCKED, "b") in _happened(await _last_revision(client))
    await _link(client, "c", "done", CONTAINS)
    assert await _ready(client) == ["c", "old", "new"]


async def test_person_cannot_complete_over_open_children(client: Client, worker: str) -> None:
    """UpdateTask does not complete a task over its open children either."""
    await _create(client, "parent")
    await _claim(client, "parent")
    await _create(client, "child", parent_id="parent")
    error = await _refusal(_move(client, "parent", "completed"))
    assert error.reason == "CHILDREN_OPEN"
    assert [violation.subject for violation in error.violations] == ["child"]


async def test_ended_parent_takes_no_children(client: Client, worker: str) -> None:
    """A task that has ended takes no child, new or old, until it is reopened."""
    await _create(client, "parent")
    await _create(client, "child")
    await _work(client, "parent")
    adding: list[Awaitable[object]] = [
        _link(client, "parent", "child", CONTAINS),
        _create(client, "new", parent_id="parent"),
    ]
    for call in adding:
        assert (await _refusal(call)).reason == "PARENT_ENDED"
    await _move(client, "parent", "pending")
    await _link(client, "parent", "child", CONTAINS)
    await _work(client, "child")
    assert (await _show(client, "parent")).status == "completed"


async def test_deleting_a_tree_frees_what_waits_for_it(client: Client, worker: str) -> None:
    """With cascade all below goes, what waits outside is freed, and the parent above is told."""
    children = [_node("a"), _node("b", blocked_by=["a"]), _node("done")]
    await _tree(client, _node("top", _node("mid", *children)))
    await _create(client, "after-a", blocked_by=["a"])
    await _create(client, "after-mid", blocked_by=["mid"])
    await _work(client, "done")
    assert (await _refusal(_delete(client, "mid"))).reason == "CHILDREN_OPEN"
    assert await _delete(client, "mid", cascade=True) == ["after-a", "after-mid", "top"]
    assert await _ready(client) == ["top", "after-a", "after-mid"]
    told = {type_ for type_, id in _happened(await _last_revision(client)) if id in ("mid", "done")}
    assert told == {v1.EVENT_TYPE_TASK_DELETED}, "nothing completes on its way out"


async def test_links_of_deleted_tasks_count_for_nothing(client: Client, worker: str) -> None:
    """Unlinking what is deleted frees nothing a second time."""
    for id in ("gone", "open"):
        await _create(client, id)
    await _create(client, "task", blocked_by=["gone", "open"])
    await _tree(client, _node("parent", _node("gone-child"), _node("open-child")))
    await _delete(client, "gone")
    await _delete(client, "gone-child")
    assert await _unlink(client, "gone", "task") == []
    assert await _unlink(client, "parent", "gone-child", CONTAINS) == []
    assert await _ready(client) == ["open", "open-child"]
    assert await _work(client, "open") == ["task"]
    await _work(client, "open-child")
    assert (await _show(client, "parent")).status == "completed"


# Other workflows

_OWN_WORKFLOW = """
name: own
states:
  todo: {exits: [handed, doing]}
  handed: {exits: [doing, todo]}
  doing: {exits: [done, broken, lost, todo], timed: true}
  lost: {exits: [todo]}
  done: {exits: [todo], terminal: true}
  broken: {exits: [todo], terminal: true}
settings:
  initial_state: todo
  assign_state: handed
  claim_state: doing
  complete_state: done
  fail_state: broken
  cancel_state: broken
  disconnect_state: lost
  blocking_states: [todo, handed, doing, lost]
  parents: claim
"""


@pytest.fixture
def workflows(tmp_path: Path) -> Path:
    """A folder with a workflow in which failures free, and parents are work of their own."""
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "own.yaml").write_text(_OWN_WORKFLOW)
    return folder


async def test_workflow_may_let_failed_blockers_go(
    start_server: "StartServer", workflows: Path
) -> None:
    """Where `failed` is no blocking state of the workflow, a failure frees what waited."""
    async with (
        start_server(workflow_dir=workflows) as server,
        Client(server.address) as client,
    ):
        await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
        await _create(client, "blocker", workflow="own")
        await _create(client, "task", blocked_by=["blocker"])
        assert await _fail(client, "blocker") == ["task"]


async def test_workflow_may_leave_parents_to_workers(
    start_server: "StartServer", workflows: Path
) -> None:
    """With `parents: claim` a parent becomes ready when its last child has ended."""
    async with (
        start_server(workflow_dir=workflows, default_workflow="own") as server,
        Client(server.address) as client,
    ):
        await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
        await _tree(client, _node("parent", _node("child")))
        assert await _work(client, "child") == ["parent"]
        assert (await _claim(client, "parent")).status == "doing"


async def test_workflow_may_park_what_was_dropped(
    start_server: "StartServer", workflows: Path
) -> None:
    """A task of a worker that disconnects goes to the workflow's disconnect state, unclaimed."""
    async with (
        start_server(workflow_dir=workflows, default_workflow="own") as server,
        Client(server.address) as client,
    ):
        await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
        await _create(client, "task")
        await _claim(client, "task")
        await client.workers.Disconnect(v1.DisconnectRequest(worker_id="w"))
        task = await _show(client, "task")
        assert (task.status, task.worker_id, task.claim_revision) == ("lost", "", 0)
        assert not task.ready
        await _move(client, "task", "todo")
        assert await _ready(client) == ["task"]


async def test_late_completion_from_a_disconnect_state(
    start_server: "StartServer", workflows: Path, clock: "TestClock"
) -> None:
    """Late work is accepted from whatever state the workflow put the task in meanwhile."""
    async with (
        start_server(workflow_dir=workflows, default_workflow="own", clock=clock) as server,
        Client(server.address) as client,
    ):
        await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
        await _create(client, "task")
        await _claim(client, "task")
        clock.advance(900_000)
        filter_ = v1.WatchFilter(statuses=["lost"])
        async with asyncio.timeout(10), client.watch(filter_, start_revision=1) as watch:
            event = await anext(watch.events())
        assert event.type == v1.EVENT_TYPE_TASK_LEASE_EXPIRED
        await _complete(client, "task")
        assert (await _show(client, "task")).status == "done"
