"""ExplainTask: every reason why a task cannot be taken, with the names, and what would help.

That it agrees with what a claim would meet, whatever the graph, is in test_explain_agrees.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

    StartServer: TypeAlias = Callable[..., AbstractAsyncContextManager[Server]]

LEASE = 60_000
"""Of every worker here, in ms."""


async def _connect(client: Client, id: str, *tags: str, **fields: Any) -> None:
    asked: dict[str, Any] = {"lease": Duration(seconds=LEASE // 1000)} | fields
    await client.workers.Connect(v1.ConnectRequest(worker_id=id, tags=tags, **asked))


async def _create(client: Client, id: str, **fields: Any) -> v1.Task:
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def _claim(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.ClaimTask(request)).task


async def _update(client: Client, task: str, **fields: Any) -> None:
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task, **fields))


async def _fail(client: Client, worker: str, task: str, **fields: Any) -> None:
    request = v1.FailTaskRequest(worker_id=worker, task_id=task, **fields)
    await client.claims.FailTask(request)


async def _complete(client: Client, worker: str, task: str) -> None:
    await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id=worker, task_id=task))


async def _pause(client: Client, task: str = "", by: str = "eve", reason: str = "") -> None:
    await client.admin.Pause(v1.PauseRequest(task_id=task, by=by, reason=reason))


async def _why(client: Client, task: str = "task", worker: str = "") -> list[v1.Obstacle]:
    request = v1.ExplainTaskRequest(task_id=task, worker_id=worker)
    return list((await client.tasks.ExplainTask(request)).obstacles)


async def _only(client: Client, task: str = "task", worker: str = "") -> v1.Obstacle:
    """The one obstacle that there is; it says what it is about, and what would help."""
    [obstacle] = await _why(client, task, worker)
    assert obstacle.message
    assert obstacle.remedy
    return obstacle


async def _kinds(client: Client, task: str = "task", worker: str = "") -> list[str]:
    prefix = "OBSTACLE_TYPE_"
    found = await _why(client, task, worker)
    return [v1.ObstacleType.Name(each.type).removeprefix(prefix) for each in found]


def _time(ms: int) -> Timestamp:
    return Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


@pytest.fixture
async def crew(timed_client: Client) -> Client:
    """A ready task, and two workers who are connected."""
    await _create(timed_client, "task")
    await _connect(timed_client, "ada")
    await _connect(timed_client, "bob")
    return timed_client


async def test_nothing_in_the_way(crew: Client) -> None:
    """A task that can be taken has no obstacles; the answer shows it, and the revision seen."""
    answer = await crew.tasks.ExplainTask(v1.ExplainTaskRequest(task_id="task", worker_id="ada"))
    assert not answer.obstacles
    shown = await crew.tasks.GetTask(v1.GetTaskRequest(task_id="task"))
    assert answer.task == shown.task
    assert answer.revision == shown.revision
    assert not await _why(crew)


@pytest.mark.parametrize(
    ("task", "worker", "reason"),
    [("nothing", "", "TASK_NOT_FOUND"), ("task", "nobody", "WORKER_NOT_FOUND")],
)
async def test_what_is_unknown_is_refused(
    crew: Client, task: str, worker: str, reason: str
) -> None:
    """A task or a worker that there never was has no explanation."""
    with pytest.raises(TaskloomError) as refused:
        await _why(crew, task, worker)
    assert refused.value.reason == reason


async def test_explaining_changes_nothing(crew: Client, clock: "TestClock") -> None:
    """To ask is no sign of life of the worker that is asked about."""
    await _claim(crew, "ada", "task")
    clock.advance(LEASE - 1)
    await _why(crew, "task", "ada")
    clock.advance(1)
    filter_ = v1.WatchFilter(event_types=[v1.EVENT_TYPE_TASK_LEASE_EXPIRED])
    async with crew.watch(filter_, start_revision=1) as watch:
        assert (await anext(watch.events())).task_id == "task"


# The task


async def test_deleted(crew: Client) -> None:
    """A deleted task says by whom and why, and nothing else."""
    await _pause(crew)
    request = v1.DeleteTaskRequest(task_id="task", worker_id="ada", reason="it was a duplicate")
    await crew.tasks.DeleteTask(request)
    for worker in ("", "bob"):
        obstacle = await _only(crew, "task", worker)
        assert obstacle.type == v1.OBSTACLE_TYPE_DELETED
        assert "ada" in obstacle.message
        assert "it was a duplicate" in obstacle.message


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_ended(crew: Client, end: str) -> None:
    """A task that has ended says as what and by whom, and whether it can be reopened."""
    if end == "cancelled":
        await _update(crew, "task", status=end)
    else:
        await _claim(crew, "ada", "task")
        await _update(crew, "task", worker_id="ada", status=end)
    obstacle = await _only(crew, "task", "bob")
    assert obstacle.type == v1.OBSTACLE_TYPE_ENDED
    assert end in obstacle.message
    assert ("ada" in obstacle.message) == (end != "cancelled")
    assert ("reopen" in obstacle.remedy) == (end != "cancelled")


async def test_claimed(crew: Client, clock: "TestClock") -> None:
    """A task that is held says by whom, until when, and when its worker was last heard of."""
    await _claim(crew, "ada", "task")
    clock.advance(20_000)
    await crew.workers.Heartbeat(v1.HeartbeatRequest(worker_id="ada"))
    clock.advance(5_000)
    for worker in ("", "bob"):
        obstacle = await _only(crew, "task", worker)
        assert obstacle.type == v1.OBSTACLE_TYPE_CLAIMED
        assert list(obstacle.worker_ids) == ["ada"]
        assert obstacle.until.ToMilliseconds() == clock.now() - 5_000 + LEASE
        for text in ("held by 'ada'", "2027-01-15 08:01:20 UTC", "2027-01-15 08:00:20 UTC"):
            assert text in obstacle.message
        assert "ada" in obstacle.remedy


async def test_assigned(crew: Client, clock: "TestClock") -> None:
    """A task that was handed to a worker is in the way of the others, not of that one."""
    await _update(crew, "task", assignee="ada")
    obstacle = await _only(crew, "task", "bob")
    assert obstacle.type == v1.OBSTACLE_TYPE_CLAIMED
    assert "assigned to 'ada'" in obstacle.message
    assert list(obstacle.worker_ids) == ["ada"]
    assert not await _why(crew, "task", "ada")


async def test_parked(crew: Client) -> None:
    """A parked task is held without end: no lease runs, and its worker has to go on with it."""
    await _claim(crew, "ada", "task")
    await _update(crew, "task", worker_id="ada", status="waiting")
    obstacle = await _only(crew, "task", "bob")
    assert obstacle.type == v1.OBSTACLE_TYPE_CLAIMED
    assert not obstacle.HasField("until")
    for text in ("'ada'", "waiting"):
        assert text in obstacle.message
    assert "ada" in obstacle.remedy


async def test_an_advisory_claim_is_no_obstacle(crew: Client) -> None:
    """Work that keeps nobody away is nothing in the way."""
    await _claim(crew, "ada", "task", mode=v1.CLAIM_MODE_ADVISORY)
    assert not await _why(crew)
    assert not await _why(crew, "task", "bob")


WITH_REVIEW = """
name: reviewed
states:
  pending: {exits: [working, review, cancelled]}
  working: {exits: [done, failed, pending], timed: true}
  review: {exits: [done, pending]}
  done: {exits: [], terminal: true}
  failed: {exits: [pending], terminal: true}
  cancelled: {exits: [], terminal: true}
settings:
  initial_state: pending
  assign_state: working
  claim_state: working
  complete_state: done
  fail_state: failed
  cancel_state: cancelled
  disconnect_state: pending
  blocking_states: [pending, working, review, failed]
"""


async def test_status(start_server: "StartServer", clock: "TestClock", tmp_path: Path) -> None:
    """A task that is nobody's, and where it cannot be claimed, says where it can go from there."""
    (tmp_path / "reviewed.yaml").write_text(WITH_REVIEW, encoding="utf-8")
    settings = {"workflow_dir": tmp_path, "default_workflow": "reviewed"}
    async with start_server(clock=clock, **settings) as server, Client(server.address) as client:
        await _create(client, "task")
        await _connect(client, "ada")
        await _update(client, "task", status="review")
        for worker in ("", "ada"):
            obstacle = await _only(client, "task", worker)
            assert obstacle.type == v1.OBSTACLE_TYPE_STATUS
            for text in ("review", "pending"):
                assert text in obstacle.message
            for exit in ("done", "pending"):
                assert exit in obstacle.remedy


async def test_blockers(crew: Client) -> None:
    """Each blocker that holds the task back is told with its state; those that do not are not."""
    for id in ("free", "held", "failed", "behind", "done", "given-up"):
        await _create(crew, id, blocked_by=["held"] if id == "behind" else [])
    for id in ("held", "failed", "done"):
        await _connect(crew, "ada", max_claims=3)
        await _claim(crew, "ada", id)
    await _fail(crew, "ada", "failed")
    await _complete(crew, "ada", "done")
    await _update(crew, "given-up", status="cancelled")
    for blocker in ("free", "held", "failed", "behind", "done", "given-up"):
        link = v1.LinkTasksRequest(from_task_id=blocker, to_task_id="task")
        await crew.tasks.LinkTasks(link)
    follows = v1.DEPENDENCY_TYPE_FOLLOWS
    await crew.tasks.LinkTasks(
        v1.LinkTasksRequest(from_task_id="free", to_task_id="task", type=follows)
    )
    obstacles = {}
    for obstacle in await _why(crew, "task", "bob"):
        assert obstacle.type == v1.OBSTACLE_TYPE_BLOCKER
        [id] = obstacle.task_ids
        assert id not in obstacles
        assert f"'{id}'" in obstacle.message
        assert f"'{id}'" in obstacle.remedy
        obstacles[id] = obstacle.message
    assert set(obstacles) == {"free", "held", "failed", "behind"}
    assert "pending" in obstacles["free"]
    assert "working" in obstacles["held"]
    assert "'ada'" in obstacles["held"]
    assert "failed" in obstacles["failed"]
    assert "itself blocked" in obstacles["behind"]


async def test_children(crew: Client) -> None:
    """Each child that is open is told; those that have ended are not."""
    for id in ("one", "two", "three"):
        await _create(crew, id, parent_id="task")
    await _update(crew, "two", status="cancelled")
    await _claim(crew, "ada", "three")
    one, three = await _why(crew, "task", "bob")
    assert {one.type, three.type} == {v1.OBSTACLE_TYPE_CHILD}
    assert (list(one.task_ids), list(three.task_ids)) == (["one"], ["three"])
    assert "'one'" in one.message
    assert "'ada'" in three.message
    assert "'three'" in three.remedy


async def test_not_before(crew: Client, clock: "TestClock") -> None:
    """A task that rests says until when, and after which attempt; then it is in nobody's way."""
    await _update(crew, "task", not_before=_time(clock.now() + 60_000))
    obstacle = await _only(crew)
    assert obstacle.type == v1.OBSTACLE_TYPE_NOT_BEFORE
    assert obstacle.until.ToMilliseconds() == clock.now() + 60_000
    assert "2027-01-15 08:01:00 UTC" in obstacle.message
    clock.advance(60_000)
    assert not await _why(crew)
    await _claim(crew, "ada", "task")
    await _fail(crew, "ada", "task", retry=True, retry_delay=Duration(seconds=5))
    obstacle = await _only(crew)
    assert obstacle.type == v1.OBSTACLE_TYPE_NOT_BEFORE
    assert obstacle.until.ToMilliseconds() == clock.now() + 5_000
    assert "attempt 1 of 5" in obstacle.message


# What is paused


async def test_paused(crew: Client) -> None:
    """A pause of everything says who and why."""
    await _pause(crew, by="eve", reason="the build is red")
    for worker in ("", "ada"):
        obstacle = await _only(crew, "task", worker)
        assert obstacle.type == v1.OBSTACLE_TYPE_PAUSED
        for text in ("eve", "the build is red"):
            assert text in obstacle.message
        assert "resume" in obstacle.remedy


async def test_paused_subtrees(crew: Client) -> None:
    """Each pause above a task is told, the nearest first, and names what is to be resumed."""
    await _create(crew, "top")
    await _create(crew, "middle", parent_id="top")
    await _create(crew, "leaf", parent_id="middle")
    await _pause(crew, "top", by="eve", reason="out of budget")
    await _pause(crew, "leaf", by="mal")
    own, above = await _why(crew, "leaf", "ada")
    assert {own.type, above.type} == {v1.OBSTACLE_TYPE_SUBTREE_PAUSED}
    assert (list(own.task_ids), list(above.task_ids)) == (["leaf"], ["top"])
    assert "mal" in own.message
    for text in ("'top'", "eve", "out of budget"):
        assert text in above.message
    assert "'top'" in above.remedy
    assert not await _why(crew, "task", "ada")
    await crew.admin.Resume(v1.ResumeRequest(task_id="leaf"))
    assert list((await _only(crew, "leaf")).task_ids) == ["top"]


# The worker


async def test_tags_of_a_worker(crew: Client) -> None:
    """A worker that lacks needed tags, and has none of the wanted ones, is told of both."""
    await _create(crew, "picky", needed_tags=["gpu", "cuda"], wanted_tags=["eu", "us"])
    await _connect(crew, "ada", "gpu")
    needed, wanted = await _why(crew, "picky", "ada")
    assert {needed.type, wanted.type} == {v1.OBSTACLE_TYPE_TAGS}
    assert (list(needed.tags), list(wanted.tags)) == (["cuda"], ["eu", "us"])
    for obstacle, tags in ((needed, ["cuda"]), (wanted, ["eu", "us"])):
        assert list(obstacle.worker_ids) == ["ada"]
        assert all(f"'{name}'" in obstacle.message for name in [*tags, "ada"])
    await _connect(crew, "ada", "gpu", "cuda", "us")
    assert not await _why(crew, "picky", "ada")


async def test_tags_that_nobody_has(crew: Client) -> None:
    """Without a worker the tags are told that nobody who is connected has."""
    await _create(crew, "picky", needed_tags=["gpu", "cuda"], wanted_tags=["eu", "us"])
    needed, wanted = await _why(crew, "picky")
    assert (list(needed.tags), list(wanted.tags)) == (["cuda", "gpu"], ["eu", "us"])
    assert "no connected worker" in needed.message
    assert "no connected worker" in wanted.message
    await _connect(crew, "ada", "gpu", "eu")
    only = await _only(crew, "picky")
    assert (only.type, list(only.tags)) == (v1.OBSTACLE_TYPE_TAGS, ["cuda"])
    assert "'cuda'" in only.message


async def test_tags_that_no_single_worker_has(crew: Client) -> None:
    """That all tags are there is not enough: one worker must have them."""
    await _create(crew, "picky", needed_tags=["gpu"], wanted_tags=["eu", "us"])
    await _connect(crew, "ada", "gpu")
    await _connect(crew, "bob", "us")
    obstacle = await _only(crew, "picky")
    assert obstacle.type == v1.OBSTACLE_TYPE_TAGS
    assert set(obstacle.tags) == {"gpu", "eu", "us"}
    assert "no single" in obstacle.message
    await _connect(crew, "cy", "us", "gpu")
    assert not await _why(crew, "picky")
    await crew.workers.Disconnect(v1.DisconnectRequest(worker_id="cy"))
    assert await _kinds(crew, "picky") == ["TAGS"]


async def test_nobody_is_connected(timed_client: Client, clock: "TestClock") -> None:
    """With nobody there, a ready task says so; a worker that left, that it did and when."""
    await _create(timed_client, "task", needed_tags=["gpu"])
    assert (await _only(timed_client)).type == v1.OBSTACLE_TYPE_NOT_CONNECTED
    await _connect(timed_client, "ada", "gpu")
    clock.advance(1_000)
    await timed_client.workers.Disconnect(v1.DisconnectRequest(worker_id="ada"))
    assert (await _only(timed_client)).type == v1.OBSTACLE_TYPE_NOT_CONNECTED
    left = await _only(timed_client, "task", "ada")
    assert left.type == v1.OBSTACLE_TYPE_NOT_CONNECTED
    assert list(left.worker_ids) == ["ada"]
    for text in ("'ada'", "2027-01-15 08:00:01 UTC"):
        assert text in left.message


async def test_claim_limit(crew: Client) -> None:
    """A worker that holds its max_claims, by claims of either mode, is told so; others are not."""
    for id in ("held", "shared", "parked"):
        await _create(crew, id)
    await _connect(crew, "ada", max_claims=2)
    await _claim(crew, "ada", "parked")
    await _update(crew, "parked", worker_id="ada", status="waiting")
    await _claim(crew, "ada", "held")
    assert not await _why(crew, "task", "ada")
    await _claim(crew, "ada", "shared", mode=v1.CLAIM_MODE_ADVISORY)
    obstacle = await _only(crew, "task", "ada")
    assert obstacle.type == v1.OBSTACLE_TYPE_CLAIM_LIMIT
    assert list(obstacle.worker_ids) == ["ada"]
    for text in ("'ada'", "2 tasks of at most 2"):
        assert text in obstacle.message
    assert not await _why(crew)
    assert not await _why(crew, "task", "bob")


async def test_cooling_down(crew: Client, clock: "TestClock") -> None:
    """A worker that rests is told until when, and no longer than that."""
    await _create(crew, "first")
    await _connect(crew, "ada", cool_down=Duration(seconds=30))
    await _claim(crew, "ada", "first")
    await _complete(crew, "ada", "first")
    obstacle = await _only(crew, "task", "ada")
    assert obstacle.type == v1.OBSTACLE_TYPE_COOLING_DOWN
    assert list(obstacle.worker_ids) == ["ada"]
    assert obstacle.until.ToMilliseconds() == clock.now() + 30_000
    assert "2027-01-15 08:00:30 UTC" in obstacle.message
    clock.advance(30_000)
    assert not await _why(crew, "task", "ada")


# All together


async def test_all_at_once(crew: Client, clock: "TestClock") -> None:
    """All reasons are told at once: of the task first, then of the whole, then of the worker."""
    await _create(crew, "top")
    await _create(crew, "blocker")
    await _create(
        crew,
        "worst",
        parent_id="top",
        blocked_by=["blocker"],
        needed_tags=["gpu"],
        wanted_tags=["eu"],
        not_before=_time(clock.now() + 9_000),
    )
    await _create(crew, "child", parent_id="worst")
    await _connect(crew, "ada", cool_down=Duration(seconds=30), max_claims=1)
    await _claim(crew, "ada", "task")
    await _complete(crew, "ada", "task")
    await _update(crew, "blocker", assignee="ada")
    await crew.workers.Disconnect(v1.DisconnectRequest(worker_id="bob"))
    await _pause(crew)
    await _pause(crew, "top")
    of_all = ["BLOCKER", "CHILD", "NOT_BEFORE", "PAUSED", "SUBTREE_PAUSED"]
    of_ada = ["TAGS", "TAGS", "CLAIM_LIMIT", "COOLING_DOWN"]
    assert await _kinds(crew, "worst", "ada") == [*of_all, *of_ada]
    assert await _kinds(crew, "worst", "bob") == [*of_all, "NOT_CONNECTED", "TAGS", "TAGS"]
    assert await _kinds(crew, "worst") == [*of_all, "TAGS", "TAGS"]


async def test_a_held_task_says_all_that_its_next_worker_would_meet(crew: Client) -> None:
    """That a task is held does not hide what is in the way after it."""
    await _claim(crew, "ada", "task")
    await _create(crew, "blocker")
    await crew.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id="blocker", to_task_id="task"))
    await _update(crew, "task", needed_tags=v1.Tags(values=["gpu"]))
    assert await _kinds(crew, "task", "bob") == ["CLAIMED", "BLOCKER", "TAGS"]
    assert await _kinds(crew, "task") == ["CLAIMED", "BLOCKER", "TAGS"]


# What the worker has already


async def _pause_everything(client: Client) -> None:
    await _pause(client)


async def _block(client: Client) -> None:
    await _create(client, "blocker")
    await client.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id="blocker", to_task_id="task"))


async def _ask_for_tags(client: Client) -> None:
    await _update(client, "task", needed_tags=v1.Tags(values=["gpu"]))


@pytest.mark.parametrize(
    "come_up", [_pause_everything, _block, _ask_for_tags], ids=["pause", "blocker", "tags"]
)
async def test_nothing_is_in_the_way_of_who_has_it(crew: Client, come_up: Any) -> None:
    """A worker that holds the task may claim it again, whatever came up since."""
    await _claim(crew, "ada", "task")
    await come_up(crew)
    await _claim(crew, "ada", "task")
    assert not await _why(crew, "task", "ada")


async def test_a_claim_limit_is_not_in_the_way_of_taking_over(crew: Client) -> None:
    """A worker whose hands are full with its advisory claim may take that very task alone."""
    await _claim(crew, "ada", "task", mode=v1.CLAIM_MODE_ADVISORY)
    assert not await _why(crew, "task", "ada")
    await _claim(crew, "ada", "task")


async def test_a_claim_limit_is_in_the_way_of_beginning(crew: Client) -> None:
    """A worker that has begun its max_claims cannot begin another one that is assigned to it."""
    await _create(crew, "begun")
    await _claim(crew, "ada", "begun")
    await _update(crew, "task", assignee="ada")
    with pytest.raises(TaskloomError) as refused:
        await _claim(crew, "ada", "task")
    assert refused.value.reason == "CLAIM_LIMIT"
    assert await _kinds(crew, "task", "ada") == ["CLAIM_LIMIT"]


# GetStatus


async def test_status_counts_what_nobody_can_take(crew: Client) -> None:
    """Ready tasks that no connected worker has the tags for are counted, as long as that is so."""

    async def counts() -> tuple[int, int]:
        status = await crew.admin.GetStatus(v1.GetStatusRequest())
        return status.ready_tasks, status.unmatched_tasks

    await _create(crew, "picky", needed_tags=["gpu"])
    await _create(crew, "also", needed_tags=["gpu"], wanted_tags=["eu"])
    await _create(crew, "blocked", needed_tags=["gpu"], blocked_by=["task"])
    await _connect(crew, "gus", "gpu")
    await _claim(crew, "gus", "picky", mode=v1.CLAIM_MODE_ADVISORY)
    assert await counts() == (3, 1)
    await crew.workers.Disconnect(v1.DisconnectRequest(worker_id="gus"))
    assert await counts() == (3, 2)
    await _update(crew, "also", needed_tags=v1.Tags(), wanted_tags=v1.Tags())
    assert await counts() == (3, 1)
    for worker in ("ada", "bob"):
        await crew.workers.Disconnect(v1.DisconnectRequest(worker_id=worker))
    assert await counts() == (3, 3)


async def test_status_lists_paused_subtrees(crew: Client, clock: "TestClock") -> None:
    """Subtrees that are paused are listed by task, with who, why and when; the whole is not one."""
    await _create(crew, "another")
    await _pause(crew, "task", by="eve", reason="out of budget")
    clock.advance(1_000)
    await _pause(crew, "another", by="mal")
    await _pause(crew)
    status = await crew.admin.GetStatus(v1.GetStatusRequest())
    another, task = status.paused_subtrees
    assert (another.task_id, another.by, another.reason) == ("another", "mal", "")
    assert another.time.ToMilliseconds() == clock.now()
    assert (task.task_id, task.by, task.reason) == ("task", "eve", "out of budget")
    assert task.time.ToMilliseconds() == clock.now() - 1_000
    assert status.ready_tasks == 0
    await crew.admin.Resume(v1.ResumeRequest(task_id="task"))
    status = await crew.admin.GetStatus(v1.GetStatusRequest())
    assert [pause.task_id for pause in status.paused_subtrees] == ["another"]
    assert status.ready_tasks == 1
