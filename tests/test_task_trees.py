"""Trees of tasks: CreateTaskTree makes all of one, or nothing."""

import uuid
from collections.abc import Awaitable
from itertools import pairwise
from typing import Any

import pytest
import structlog.testing
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client, TaskloomError

MAX_NODES = 5_000
MAX_DEPTH = 50


def node(id: str, *children: v1.TaskNode, **fields: Any) -> v1.TaskNode:
    """A node with its children."""
    return v1.TaskNode(**({"id": id, "title": id} | fields), children=children)


def chain(depth: int, **fields: Any) -> v1.CreateTaskTreeRequest:
    """The request for a tree of single children, so many nodes deep.

    Built in place and with a request_id: protobuf cannot copy what is nested 100 deep.
    """
    request = v1.CreateTaskTreeRequest(request_id=str(uuid.uuid4()), **fields)
    request.root.title = "x"
    last = request.root
    for _ in range(depth - 1):
        last = last.children.add(title="x")
    return request


def leaf_of(request: v1.CreateTaskTreeRequest) -> v1.TaskNode:
    """The last node of a chain."""
    last = request.root
    while last.children:
        last = last.children[0]
    return last


async def plant(client: Client, root: v1.TaskNode, **fields: Any) -> v1.CreateTaskTreeResponse:
    """What CreateTaskTree answers."""
    return await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root, **fields))


async def create(client: Client, id: str, **fields: Any) -> v1.Task:
    """A new task."""
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def listed(client: Client, **filters: Any) -> list[str]:
    """The ids of the tasks that pass the filters, in the order of creation."""
    request = v1.ListTasksRequest(order_by=v1.ORDER_BY_CREATE_TIME, page_size=1000, **filters)
    return [task.id for task in (await client.tasks.ListTasks(request)).tasks]


async def revision(client: Client) -> int:
    """The revision that the server is at."""
    return (await client.admin.GetStatus(v1.GetStatusRequest())).revision


async def refusal(call: Awaitable[object]) -> TaskloomError:
    """The refusal with which a call ends."""
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


def subjects(error: TaskloomError) -> list[str]:
    """What a refusal's details say stands in the way."""
    assert {violation.type for violation in error.violations} == {error.reason}
    return [violation.subject for violation in error.violations]


def fields(error: TaskloomError) -> list[str]:
    """The fields that a refusal names."""
    assert error.reason == "INVALID_FIELD"
    return [violation.field for violation in error.field_violations]


async def test_each_task_comes_before_its_children(client: Client) -> None:
    """The answer has all tasks of the tree, parents first, each below the node above it."""
    tree = node("top", node("a", node("a1"), node("a2")), node("b", node("b1")))
    answer = await plant(client, tree)
    assert [(task.id, task.parent_id) for task in answer.tasks] == [
        ("top", ""),
        ("a", "top"),
        ("a1", "a"),
        ("a2", "a"),
        ("b", "top"),
        ("b1", "b"),
    ]
    assert await listed(client) == ["top", "a", "a1", "a2", "b", "b1"]
    assert {task.revision for task in answer.tasks} == {answer.revision}


async def test_leaves_are_ready_and_parents_follow(client: Client) -> None:
    """Only tasks without open children can be taken; when all have ended, the parents have, too."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", max_claims=9))
    answer = await plant(client, node("top", node("a", node("a1")), node("b")))
    assert [task.id for task in answer.tasks if task.ready] == ["a1", "b"]
    for id in ("a1", "b"):
        await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id=id))
        await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id=id))
    assert await listed(client, statuses=["completed"]) == ["top", "a", "a1", "b"]


async def test_nodes_without_ids_are_given_some(client: Client) -> None:
    """Equal titles without ids become tasks with different ids."""
    tree = node("", node("", title="Test"), node("", title="Test"), title="Test")
    answer = await plant(client, tree)
    assert len({task.id for task in answer.tasks}) == 3
    assert all(task.id.startswith("test-") for task in answer.tasks)


async def test_fields_of_a_node_are_kept(client: Client) -> None:
    """A node's fields mean what those of CreateTask mean."""
    leaf = node(
        "leaf",
        description="d",
        priority=9,
        points=3,
        time_estimate=Duration(seconds=60),
        phase="test",
        tags=["t"],
        needed_tags=["n"],
        wanted_tags=["w"],
        max_attempts=2,
    )
    task = (await plant(client, node("top", leaf))).tasks[1]
    assert (task.description, task.priority, task.points) == ("d", 9, 3)
    assert (task.time_estimate.seconds, task.phase, task.max_attempts) == (60, "test", 2)
    assert [*task.tags, *task.needed_tags, *task.wanted_tags] == ["t", "n", "w"]


async def test_a_tree_grows_below_a_task(client: Client) -> None:
    """With parent_id the top of the tree is a child of that task, which waits for it."""
    await create(client, "old")
    answer = await plant(client, node("top", node("leaf")), parent_id="old")
    assert answer.tasks[0].parent_id == "old"
    assert await listed(client, parent_id="old", recursive=True) == ["top", "leaf"]
    assert await listed(client, ready=True) == ["leaf"]


async def test_a_node_may_be_blocked_by_any_other(client: Client) -> None:
    """A blocked_by names nodes before and after its own, and tasks that are there already."""
    await create(client, "old")
    tree = node(
        "top",
        node("a", blocked_by=["c", "old"]),
        node("b", blocked_by=["c"]),
        node("c"),
        node("d", blocked_by=["a"]),
    )
    await plant(client, tree)
    assert await listed(client, ready=True) == ["old", "c"]
    assert await listed(client, blocked=True) == ["a", "b", "d"]
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="c", status="cancelled"))
    assert await listed(client, ready=True) == ["old", "b"]
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="old", status="cancelled"))
    assert await listed(client, ready=True) == ["a", "b"]


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        (node("top", node("a"), node("b", blocked_by=["nobody"])), "TASK_NOT_FOUND"),
        (node("top", node("a"), node("old")), "TASK_EXISTS"),
        (node("top", node("a"), node("a")), "TASK_EXISTS"),
        (node("top", node("a"), node("b", phase="nowhen")), "INVALID_FIELD"),
        (node("top", node("a"), node("b", blocked_by=["gone"])), "TASK_DELETED"),
        (node("top", node("a", blocked_by=["b"]), node("b", blocked_by=["a"])), "CYCLE"),
    ],
)
async def test_all_of_a_tree_or_nothing(client: Client, tree: v1.TaskNode, reason: str) -> None:
    """A tree of which one node is wrong leaves no trace at all."""
    await create(client, "old")
    await create(client, "gone")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))
    before = await revision(client)
    error = await refusal(plant(client, tree, parent_id="old"))
    assert error.reason == reason
    assert await revision(client) == before
    assert await listed(client) == ["old"]
    assert await listed(client, ready=True) == ["old"]


async def test_a_cycle_in_a_tree_is_named(client: Client) -> None:
    """A tree whose nodes wait for each other is refused, and the ring is told step by step."""
    tree = node(
        "top",
        node("a", blocked_by=["c"]),
        node("b", blocked_by=["a"]),
        node("c", blocked_by=["b"]),
        node("aside", blocked_by=["a", "b", "c"]),
    )
    error = await refusal(plant(client, tree))
    assert error.reason == "CYCLE"
    along = subjects(error)
    assert along[0] == along[-1]
    # Each step leads from a blocker to what it blocks.
    assert set(pairwise(along)) == {("a", "b"), ("b", "c"), ("c", "a")}
    assert " -> ".join(along) in str(error)


@pytest.mark.parametrize(
    ("tree", "ring"),
    [
        (node("top", node("a", node("leaf", blocked_by=["top"]))), {"top", "leaf", "a"}),
        (node("top", node("leaf", blocked_by=["leaf"])), {"leaf"}),
        (node("top", node("leaf", blocked_by=["after"])), {"leaf", "top", "old", "after"}),
    ],
)
async def test_a_cycle_runs_through_parents_and_what_was_there(
    client: Client, tree: v1.TaskNode, ring: set[str]
) -> None:
    """A node cannot wait for its ancestors, nor for what waits for them."""
    await create(client, "old")
    await create(client, "after", blocked_by=["old"])
    error = await refusal(plant(client, tree, parent_id="old"))
    assert error.reason == "CYCLE"
    assert set(subjects(error)) == ring


async def test_a_long_line_of_blockers_is_no_long_work(client: Client) -> None:
    """Thousands of nodes that wait each for the next one are accepted within a few seconds."""
    count = 2_000
    line = [node(f"n{n}", blocked_by=[f"n{n + 1}"] if n < count else []) for n in range(count + 1)]
    answer = await client.tasks.CreateTaskTree(
        v1.CreateTaskTreeRequest(root=node("top", *line)), timeout=10
    )
    assert [task.id for task in answer.tasks if task.ready] == [f"n{count}"]


async def test_a_parent_that_ended_takes_no_tree(client: Client) -> None:
    """A tree cannot grow below a task that has ended, is deleted, or never was."""
    await create(client, "ended")
    await create(client, "gone")
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="ended", status="cancelled"))
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))
    reasons = {"ended": "PARENT_ENDED", "gone": "TASK_DELETED", "nobody": "TASK_NOT_FOUND"}
    for parent, reason in reasons.items():
        error = await refusal(plant(client, node("top"), parent_id=parent))
        assert error.reason == reason


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        (node("top", title=""), "root.title"),
        (node("top", node("a"), node("b", title=" ")), "root.children[1].title"),
        (node("t", node("a", node("b", priority=11))), "root.children[0].children[0].priority"),
        (node("t", node("a", tags=["x", "a b"])), "root.children[0].tags[1]"),
        (node("t", node("a", blocked_by=[""])), "root.children[0].blocked_by[0]"),
        (node("t", node("a", node("b", phase="no"))), "root.children[0].children[0].phase"),
        (node("t", node("a\n")), "root.children[0].id"),
        (node("t", node("a", max_attempts=-1)), "root.children[0].max_attempts"),
    ],
)
async def test_the_path_leads_to_the_wrong_field(
    client: Client, tree: v1.TaskNode, path: str
) -> None:
    """A refusal names the field by its way from the root."""
    assert fields(await refusal(plant(client, tree))) == [path]


async def test_a_tree_has_a_root(client: Client) -> None:
    """A request without a root is refused."""
    error = await refusal(client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest()))
    assert fields(error) == ["root"]


async def test_a_tree_has_its_largest_size(client: Client) -> None:
    """A tree of 5,000 nodes is taken, one of 5,001 refused with the path to the one too many."""
    leaves = [node("", title="leaf") for _ in range(MAX_NODES - 1)]
    answer = await plant(client, node("top", *leaves))
    assert len(answer.tasks) == MAX_NODES
    error = await refusal(plant(client, node("another", *leaves, node("", title="leaf"))))
    assert fields(error) == [f"root.children[{MAX_NODES - 1}].id"]


async def test_a_tree_is_at_most_so_deep(client: Client) -> None:
    """A tree 50 nodes deep is taken; a deeper one is refused as an invalid request."""
    answer = await client.tasks.CreateTaskTree(chain(MAX_DEPTH))
    assert len(answer.tasks) == MAX_DEPTH
    for depth in (MAX_DEPTH + 1, MAX_DEPTH + 20):
        error = await refusal(client.tasks.CreateTaskTree(chain(depth)))
        assert error.reason == "INVALID_FIELD"
        assert "50" in str(error)


async def test_the_path_leads_to_the_node_that_is_too_deep(client: Client) -> None:
    """A tree that is too deep is refused with the path to the first node beyond."""
    error = await refusal(client.tasks.CreateTaskTree(chain(MAX_DEPTH + 1)))
    assert fields(error) == ["root." + "children[0]." * MAX_DEPTH + "id"]


async def test_the_deepest_node_may_have_an_estimate(client: Client) -> None:
    """The fiftieth node down has all the fields that others have."""
    request = chain(MAX_DEPTH)
    leaf_of(request).time_estimate.seconds = 1
    answer = await client.tasks.CreateTaskTree(request)
    assert len(answer.tasks) == MAX_DEPTH


async def test_parents_roll_up_however_deep(client: Client) -> None:
    """The end of the one leaf below 300 parents in a row ends them all."""
    parent = ""
    for _ in range(6):
        request = chain(MAX_DEPTH, parent_id=parent)
        parent = (await client.tasks.CreateTaskTree(request)).tasks[-1].id
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id=parent))
    with structlog.testing.capture_logs():  # a traceback of a thousand frames takes seconds
        await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id=parent))
    assert len(await listed(client, statuses=["completed"])) == 6 * MAX_DEPTH
