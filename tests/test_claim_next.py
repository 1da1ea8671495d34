"""ClaimNextTask: which tasks it gives to whom, in which order, and how it says that there is none.

Claims of a named task are in test_claims; waiting for one is in test_waiting.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    counters,
    create,
    fail,
    ids,
    refusal,
    release,
    show,
    show_worker,
    update,
)

if TYPE_CHECKING:
    from tests.conftest import TestClock


async def test_next_is_the_highest_priority_then_the_oldest(client: Client) -> None:
    """Tasks are given by priority, and the older first where priorities are equal."""
    await connect(client, "w", max_claims=10)
    for id, priority in (("a", 5), ("b", 0), ("c", 10), ("d", 5), ("e", 10)):
        await create(client, id, priority=priority)
    await update(client, "b", priority=7)
    given = [ids(await claim_next(client, "w")) for _ in range(5)]
    assert given == [["c"], ["e"], ["b"], ["a"], ["d"]]


async def test_age_is_since_creation(client: Client) -> None:
    """A task that was given back is as old as before, and is given again first."""
    await connect(client, "w")
    for id in ("old", "new"):
        await create(client, id)
    assert ids(await claim_next(client, "w")) == ["old"]
    await release(client, "w", "old")
    assert ids(await claim_next(client, "w")) == ["old"]


async def test_next_shows_the_claims(client: Client) -> None:
    """Each task is shown as claimed; tasks given together are one revision, their token."""
    await connect(client, "w", max_claims=3)
    for id in ("a", "b"):
        await create(client, id)
    answer = await claim_next(client, "w", max_tasks=2)
    assert answer.outcome == v1.CLAIM_OUTCOME_CLAIMED
    assert {task.claim_revision for task in answer.tasks} == {answer.revision}
    for task in answer.tasks:
        assert (task.status, task.worker_id) == ("working", "w")
        assert task.HasField("lease_expire_time")
        assert task == await show(client, task.id)


@pytest.mark.parametrize(
    ("max_claims", "max_tasks", "given"),
    [(10, 0, 1), (10, 2, 2), (10, 100, 4), (3, 100, 3), (0, 100, 1)],
)
async def test_next_gives_up_to_max_tasks(
    client: Client, max_claims: int, max_tasks: int, given: int
) -> None:
    """As many tasks as asked for, as there are, and as there is room for under max_claims."""
    await connect(client, "w", max_claims=max_claims)
    for id in ("a", "b", "c", "d"):
        await create(client, id)
    answer = await claim_next(client, "w", max_tasks=max_tasks)
    assert ids(answer) == ["a", "b", "c", "d"][:given]
    assert (await show_worker(client, "w")).claims_held == given


async def test_next_within_a_scope(client: Client) -> None:
    """With parent_id only what is below that task is given, however deep, by priority and age."""
    await connect(client, "w", max_claims=10)
    deep = v1.TaskNode(id="deep", title="t", children=[v1.TaskNode(id="deepest", title="t")])
    deep.children[0].priority = 9
    children = [v1.TaskNode(id="child", title="t"), deep]
    root = v1.TaskNode(id="scope", title="t", children=children)
    await create(client, "elsewhere", priority=10)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    given = await claim_next(client, "w", max_tasks=10, parent_id="scope")
    assert ids(given) == ["deepest", "child"]
    none = await claim_next(client, "w", parent_id="scope")
    assert none.outcome == v1.CLAIM_OUTCOME_NONE_READY
    await complete(client, "w", "deepest")
    await complete(client, "w", "child")
    done = await claim_next(client, "w", parent_id="scope")
    assert done.outcome == v1.CLAIM_OUTCOME_ALL_DONE


@pytest.mark.parametrize("elsewhere", [0, 20, 300])
async def test_next_within_a_large_scope(client: Client, elsewhere: int) -> None:
    """Order and tags hold in a scope of hundreds, and what is better elsewhere does not count."""
    await create(client, "scope")
    for part in range(3):
        nodes = [
            v1.TaskNode(id=f"{part}-{n}", title="t", priority=n % 7, needed_tags=["x"] * (n % 2))
            for n in range(120)
        ]
        tree = v1.TaskNode(id=f"part-{part}", title="t", children=nodes)
        await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=tree, parent_id="scope"))
    if elsewhere:
        nodes = [v1.TaskNode(id=f"other-{n}", title="t", priority=9) for n in range(elsewhere)]
        other = v1.TaskNode(id="other", title="t", children=nodes)
        await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=other))
    await connect(client, "w", max_claims=400)
    expected = [
        f"{part}-{n}"
        for priority in range(6, -1, -1)
        for part in range(3)
        for n in range(120)
        if n % 7 == priority and n % 2 == 0
    ]
    given: list[str] = []
    for at_once in (1, 1, 3, 20, 100, 100):
        answer = await claim_next(client, "w", parent_id="scope", max_tasks=at_once)
        given += [task.id for task in answer.tasks]
    assert given == expected
    none = await claim_next(client, "w", parent_id="scope")
    assert none.outcome == v1.CLAIM_OUTCOME_NONE_READY


async def test_next_within_a_scope_that_is_not_there(client: Client) -> None:
    """A scope that nobody created is TASK_NOT_FOUND."""
    await connect(client, "w")
    error = await refusal(claim_next(client, "w", parent_id="nothing"))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")


TAGGED = {
    "anyone": ([], []),
    "rust": (["rust"], []),
    "rust-linux": (["rust", "linux"], []),
    "gpu-or-tpu": ([], ["gpu", "tpu"]),
    "rust-gpu": (["rust"], ["gpu"]),
}


@pytest.mark.parametrize(
    ("tags", "given"),
    [
        ([], ["anyone"]),
        (["linux"], ["anyone"]),
        (["rust"], ["anyone", "rust"]),
        (["linux", "rust"], ["anyone", "rust", "rust-linux"]),
        (["tpu"], ["anyone", "gpu-or-tpu"]),
        (["rust", "tpu"], ["anyone", "rust", "gpu-or-tpu"]),
        (["gpu", "linux", "rust"], list(TAGGED)),
    ],
)
@pytest.mark.parametrize("parent_id", ["", "scope"])
async def test_next_gives_what_the_tags_allow(
    client: Client, tags: list[str], given: list[str], parent_id: str
) -> None:
    """A worker is given only tasks of which it has all needed tags, and one of the wanted."""
    await connect(client, "w", tags=tags, max_claims=10)
    await create(client, "scope")
    for id, (needed, wanted) in TAGGED.items():
        await create(client, id, needed_tags=needed, wanted_tags=wanted, parent_id="scope")
    answer = await claim_next(client, "w", max_tasks=10, parent_id=parent_id)
    assert ids(answer) == given


async def test_order_does_not_depend_on_tags(client: Client) -> None:
    """Priority and age decide among tasks whatever tags they ask for."""
    await connect(client, "w", tags=["rust", "gpu"], max_claims=10)
    asked: list[dict[str, list[str]]] = [
        {"needed_tags": ["rust"]},
        {},
        {"wanted_tags": ["gpu"]},
        {"needed_tags": ["rust"]},
        {},
        {"wanted_tags": ["gpu"]},
    ]
    for n, (tags, priority) in enumerate(zip(asked, (5, 5, 9, 9, 0, 5), strict=True)):
        await create(client, f"t{n}", priority=priority, **tags)
    assert ids(await claim_next(client, "w", max_tasks=4)) == ["t2", "t3", "t0", "t1"]
    assert ids(await claim_next(client, "w", max_tasks=4)) == ["t5", "t4"]


async def test_new_tags_count_at_once(client: Client) -> None:
    """A task whose needed tags change, and a worker that reconnects, meet by their new tags."""
    await connect(client, "w", tags=["old"])
    await create(client, "task", needed_tags=["old", "new"])
    assert not ids(await claim_next(client, "w"))
    await update(client, "task", needed_tags=v1.Tags(values=["new"]))
    assert not ids(await claim_next(client, "w"))
    await connect(client, "w", tags=["new"])
    assert ids(await claim_next(client, "w")) == ["task"]


async def test_none_ready(client: Client) -> None:
    """While something is open that this worker may not take now, the outcome is NONE_READY."""
    await connect(client, "w")
    await create(client, "task", needed_tags=["rust"])
    answer = await claim_next(client, "w")
    assert (ids(answer), answer.outcome) == ([], v1.CLAIM_OUTCOME_NONE_READY)
    assert not answer.HasField("retry_after")
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert answer.revision == status.revision


async def test_all_done(client: Client) -> None:
    """Where no task is, or every one has ended or is deleted, the outcome is ALL_DONE."""
    await connect(client, "w")
    assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_ALL_DONE
    for id in ("completed", "failed", "cancelled", "deleted"):
        await create(client, id)
    await claim(client, "w", "completed")
    assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_LIMIT_REACHED
    await complete(client, "w", "completed")
    await claim(client, "w", "failed")
    await fail(client, "w", "failed")
    await update(client, "cancelled", status="cancelled")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="deleted"))
    assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_ALL_DONE


async def test_next_while_paused(client: Client) -> None:
    """While claims are paused the outcome is PAUSED, until somebody resumes."""
    await create(client, "task")
    await connect(client, "w")
    await client.admin.Pause(v1.PauseRequest())
    answer = await claim_next(client, "w")
    assert (ids(answer), answer.outcome) == ([], v1.CLAIM_OUTCOME_PAUSED)
    await client.admin.Resume(v1.ResumeRequest())
    assert ids(await claim_next(client, "w")) == ["task"]


@pytest.mark.parametrize("ending", [complete, fail])
async def test_next_while_resting(
    timed_client: Client, clock: "TestClock", ending: Callable[..., Awaitable[object]]
) -> None:
    """A worker that ended a task rests: COOLING_DOWN, with the rest of the rest."""
    await create(timed_client, "one")
    await create(timed_client, "two")
    await connect(timed_client, "w", cool_down=Duration(seconds=30))
    await claim(timed_client, "w", "one")
    await ending(timed_client, "w", "one")
    clock.advance(29_999)
    answer = await claim_next(timed_client, "w")
    assert (ids(answer), answer.outcome) == ([], v1.CLAIM_OUTCOME_COOLING_DOWN)
    assert answer.retry_after.ToMilliseconds() == 1
    resting = await show_worker(timed_client, "w")
    assert resting.cooling_until.ToMilliseconds() == clock.now() + 1
    clock.advance(1)
    assert not (await show_worker(timed_client, "w")).HasField("cooling_until")
    assert ids(await claim_next(timed_client, "w")) == ["two"]


async def test_giving_back_is_no_ending(timed_client: Client) -> None:
    """A worker that gave its task back need not rest."""
    await create(timed_client, "task")
    await connect(timed_client, "w", cool_down=Duration(seconds=30))
    await claim(timed_client, "w", "task")
    await release(timed_client, "w", "task")
    assert ids(await claim_next(timed_client, "w")) == ["task"]


async def test_same_request_same_tasks(client: Client) -> None:
    """A retry with the same request_id is given the first tasks again, and nothing is counted."""
    await connect(client, "w", max_claims=4)
    for id in ("a", "b", "c", "d"):
        await create(client, id)
    first = await claim_next(client, "w", max_tasks=2, request_id="once")
    again = await claim_next(client, "w", max_tasks=2, request_id="once")
    assert again == first
    assert await counters(client, "w") == (2, 2, 0)
    assert ids(await claim_next(client, "w", max_tasks=2, request_id="twice")) == ["c", "d"]


async def test_limit_reached_names_what_is_held(client: Client) -> None:
    """A worker at its limit is told which tasks it holds, by claims of either mode."""
    await connect(client, "w", max_claims=2)
    for id in ("one", "two", "three"):
        await create(client, id)
    await claim(client, "w", "one")
    await claim(client, "w", "two", mode=v1.CLAIM_MODE_ADVISORY)
    answer = await claim_next(client, "w")
    assert answer.outcome == v1.CLAIM_OUTCOME_LIMIT_REACHED
    assert answer.held_task_ids == ["one", "two"]
