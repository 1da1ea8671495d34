"""Bulk changes, relinking, scans, the past of all tasks, sums of metrics, thoughts."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.calls import (
    claim,
    complete,
    connect,
    create,
    duration,
    event,
    events,
    fail,
    heartbeat,
    refusal,
    release,
    show,
    show_worker,
    update,
)

if TYPE_CHECKING:
    from tests.conftest import TestClock

CONTAINS = v1.DEPENDENCY_TYPE_CONTAINS


def _time(ms: int) -> Timestamp:
    return Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


# UpdateTask and UpdateTasks


async def update_all(client: Client, *updates: v1.UpdateTaskRequest) -> v1.UpdateTasksResponse:
    """Several changes."""
    return await client.tasks.UpdateTasks(v1.UpdateTasksRequest(updates=updates))


async def test_changes_in_one_revision(client: Client) -> None:
    """All changes are one revision, and the answer shows each task once, as it is after them."""
    await create(client, "a")
    await create(client, "b", blocked_by=["a"])
    answer = await update_all(
        client,
        v1.UpdateTaskRequest(task_id="b", priority=9),
        v1.UpdateTaskRequest(task_id="a", status="cancelled"),
        v1.UpdateTaskRequest(task_id="b", title="new"),
    )
    assert [task.id for task in answer.tasks] == ["b", "a"]
    assert (answer.tasks[0].priority, answer.tasks[0].title, answer.tasks[0].ready) == (
        9,
        "new",
        True,
    )
    assert list(answer.unblocked_task_ids) == ["b"]
    told = await events(client, answer.revision, answer.revision)
    assert {revision for *_, revision in told} == {answer.revision}
    assert len(told) == 4


async def test_all_or_none(client: Client) -> None:
    """One change that is refused takes back all of them, and is named."""
    for id in ("a", "b"):
        await create(client, id)
    before = await show(client, "a")
    error = await refusal(
        update_all(
            client,
            v1.UpdateTaskRequest(task_id="a", priority=9),
            v1.UpdateTaskRequest(task_id="b", status="completed"),
        )
    )
    assert error.reason == "ILLEGAL_TRANSITION"
    assert str(error).startswith("updates[1]: ")
    assert error.metadata["index"] == "1"
    assert await show(client, "a") == before
    error = await refusal(update_all(client, v1.UpdateTaskRequest(task_id="a", etag=1_000)))
    assert error.reason == "ETAG_MISMATCH"


async def test_points_are_cleared(client: Client) -> None:
    """An estimate in points is taken back, which no number of points says."""
    await create(client, "a", points=3)
    assert not (await update(client, "a", clear_points=True)).HasField("points")


OTHER = """
name: other
states:
  todo: {exits: [doing]}
  doing: {exits: [todo, completed, failed]}
  completed: {exits: [], terminal: true}
  failed: {exits: [todo], terminal: true}
settings: {initial_state: todo, assign_state: doing, claim_state: doing, complete_state: completed,
  fail_state: failed, cancel_state: failed, disconnect_state: todo, blocking_states: [todo, doing]}
"""


async def test_another_workflow(start_server: Callable[..., Any], tmp_path: Path) -> None:
    """A free task goes over to another workflow, with what follows from that for others."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "other.yaml").write_text(OTHER)
    async with (
        start_server(workflow_dir=tmp_path / "flows") as server,
        Client(server.address) as client,
    ):
        await connect(client, "w")
        await create(client, "a")
        moved = await update(client, "a", workflow="other", priority=9)
        assert (moved.workflow, moved.status, moved.priority) == ("other", "todo", 9)
        assert moved.ready
        assert (await update(client, "a", workflow="swarm")).status == "pending"
        assert (await refusal(update(client, "a", workflow="never"))).reason == "WORKFLOW_NOT_FOUND"
        await create(client, "b", blocked_by=["a"])
        await claim(client, "w", "a")
        assert (await refusal(update(client, "a", workflow="other"))).reason == "TASK_CLAIMED"
        await fail(client, "w", "a")
        assert not (await show(client, "b")).ready
        answer = await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", workflow="other"))
        assert list(answer.unblocked_task_ids) == ["b"], "what failed blocks nothing there"
        await update(client, "b", status="cancelled")
        assert (await refusal(update(client, "b", workflow="other"))).reason == "INVALID_FIELD"


# RelinkTasks


async def relink(
    client: Client, remove: list[v1.Dependency], add: list[v1.Dependency]
) -> v1.RelinkTasksResponse:
    """Remove dependencies and add others."""
    return await client.tasks.RelinkTasks(v1.RelinkTasksRequest(remove=remove, add=add))


def contains(parent: str, child: str) -> v1.Dependency:
    """The dependency of a child."""
    return v1.Dependency(from_task_id=parent, to_task_id=child, type=CONTAINS)


def blocks(blocker: str, blocked: str) -> v1.Dependency:
    """The dependency of a blocked task."""
    return v1.Dependency(from_task_id=blocker, to_task_id=blocked, type=v1.DEPENDENCY_TYPE_BLOCKS)


async def test_a_parent_does_not_complete_in_between(client: Client) -> None:
    """A parent whose last open child is exchanged for another one stays open."""
    await connect(client, "w")
    await create(client, "top")
    for id in ("done", "old"):
        await create(client, id, parent_id="top")
    await create(client, "new")
    await claim(client, "w", "done")
    await complete(client, "w", "done")
    answer = await relink(client, [contains("top", "old")], [contains("top", "new")])
    assert [d.to_task_id for d in answer.removed] == ["old"]
    assert [d.to_task_id for d in answer.added] == ["new"]
    assert (await show(client, "top")).status == "pending"
    answer = await relink(client, [contains("top", "new")], [contains("old", "new")])
    assert (await show(client, "top")).status == "completed", "by what comes of it"


async def test_a_blocker_in_another_s_place(client: Client) -> None:
    """What is blocked by the one and then by the other was not freed by it."""
    for id in ("a", "b"):
        await create(client, id)
    await create(client, "c", blocked_by=["a"])
    answer = await relink(client, [blocks("a", "c")], [blocks("b", "c")])
    assert not answer.unblocked_task_ids
    answer = await relink(client, [blocks("b", "c")], [])
    assert list(answer.unblocked_task_ids) == ["c"]


async def test_cycles_are_judged_by_the_result(client: Client) -> None:
    """A dependency may be turned round; one that would close a cycle takes back everything."""
    await create(client, "a")
    await create(client, "b", blocked_by=["a"])
    await relink(client, [blocks("a", "b")], [blocks("b", "a")])
    await create(client, "c", blocked_by=["a"])
    error = await refusal(relink(client, [blocks("b", "a")], [blocks("c", "b"), blocks("b", "a")]))
    assert error.reason == "CYCLE"
    answer = await client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))
    assert blocks("b", "a") in answer.dependencies


async def test_what_is_to_go_must_be_there(client: Client) -> None:
    """A dependency that somebody else has changed is not there to be removed."""
    for id in ("a", "b"):
        await create(client, id)
    error = await refusal(relink(client, [blocks("a", "b")], [blocks("b", "a")]))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "DEPENDENCY_NOT_FOUND")


# ScanTasks


async def scan(client: Client, task: str, *directions: str, **fields: Any) -> list[tuple[str, int]]:
    """What is around a task: the id and the distance of each, over all pages."""
    request = v1.ScanTasksRequest(
        task_id=task,
        directions=[v1.ScanDirection.Value(f"SCAN_DIRECTION_{d}") for d in directions],
        **fields,
    )
    found = []
    while True:
        page = await client.tasks.ScanTasks(request)
        found += [(one.task.id, one.distance) for one in page.tasks]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def test_a_scan_in_each_direction(client: Client) -> None:
    """Near ones first, by their age, each once with the shortest distance, to a depth, by pages."""
    await create(client, "a")
    await create(client, "b", blocked_by=["a"])
    await create(client, "c", blocked_by=["a", "b"])
    await create(client, "top")
    await create(client, "mid", parent_id="top")
    await create(client, "leaf", parent_id="mid", blocked_by=["c"])
    await create(client, "gone", blocked_by=["a"])
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))
    assert await scan(client, "c", "BEFORE") == [("a", 1), ("b", 1)]
    assert await scan(client, "a", "AFTER") == [("b", 1), ("c", 1), ("leaf", 2)]
    assert await scan(client, "a", "AFTER", depth=1) == [("b", 1), ("c", 1)]
    assert await scan(client, "leaf", "ABOVE") == [("mid", 1), ("top", 2)]
    assert await scan(client, "top", "BELOW") == [("mid", 1), ("leaf", 2)]
    whole = await scan(client, "leaf")
    assert whole == [("c", 1), ("a", 2), ("b", 2), ("mid", 1), ("top", 2)]
    assert await scan(client, "leaf", page_size=2) == whole
    assert (await refusal(scan(client, "gone"))).reason == "TASK_DELETED"
    assert (await refusal(scan(client, "never"))).reason == "TASK_NOT_FOUND"


# ListTransitions of all tasks


async def past(client: Client, **fields: Any) -> list[tuple[str, str]]:
    """The transitions that pass, over pages of two: task and status of each."""
    request = v1.ListTransitionsRequest(page_size=2, **fields)
    found = []
    while True:
        page = await client.tasks.ListTransitions(request)
        found += [(step.task_id, step.status) for step in page.transitions]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def test_the_past_of_all_tasks(timed_client: Client, clock: "TestClock") -> None:
    """All tasks' transitions in the order they were made, by time, status and worker."""
    client = timed_client
    await connect(client, "v")
    await connect(client, "w")
    start = clock.now()
    for n, (id, worker) in enumerate((("a", "v"), ("b", "w"))):
        clock.advance(1_000)
        await create(client, id)
        await claim(client, worker, id)
        clock.advance(1_000)
        if n == 0:
            await complete(client, worker, id)
        else:
            await fail(client, worker, id)
    a = [("a", "pending"), ("a", "working"), ("a", "completed")]
    b = [("b", "pending"), ("b", "working"), ("b", "failed")]
    assert await past(client) == a + b
    assert await past(client, newest_first=True) == (a + b)[::-1]
    assert await past(client, statuses=["failed", "completed"]) == [a[2], b[2]]
    assert await past(client, worker_id="w") == b[1:]
    assert await past(client, start_time=_time(start + 2_000), end_time=_time(start + 4_000)) == [
        a[2],
        *b[:2],
    ]
    assert await past(client, task_id="b", statuses=["working"]) == [b[1]]
    assert await past(client, start_time=_time(start + 9_000)) == []


# GetMetrics


async def sums(client: Client, **fields: Any) -> v1.GetMetricsResponse:
    """Sums of metrics."""
    return await client.tasks.GetMetrics(v1.GetMetricsRequest(**fields))


def times(answer: v1.GetMetricsResponse) -> dict[str, tuple[int, int]]:
    """Of each status the time in ms, and the stays."""
    return {one.status: (one.duration.ToMilliseconds(), one.stays) for one in answer.time_in_status}


async def test_sums_of_a_subtree_and_of_workers(timed_client: Client, clock: "TestClock") -> None:
    """What was logged adds up below a task, and for each worker that logged it."""
    client = timed_client
    await connect(client, "v")
    await connect(client, "w")
    await create(client, "top")
    for id, worker in (("a", "v"), ("b", "w")):
        await create(client, id, parent_id="top")
        await claim(client, worker, id)
        await client.tasks.LogMetrics(
            v1.LogMetricsRequest(
                task_id=id,
                worker_id=worker,
                metrics=v1.Metrics(tokens_in=2**62, tokens_out=1, cost_usd=0.5),
            )
        )
        clock.advance(3_000)
    await client.tasks.LogMetrics(
        v1.LogMetricsRequest(task_id="a", worker_id="w", metrics=v1.Metrics(tokens_out=4))
    )
    await complete(client, "v", "a")
    whole = await sums(client, task_id="top", recursive=True)
    assert (whole.metrics.tokens_in, whole.metrics.tokens_out) == (2**63 - 1, 6)
    assert whole.metrics.cost_usd == 1.0
    assert dict(whole.tasks_by_status) == {"pending": 1, "completed": 1, "working": 1}
    assert (await sums(client)).metrics == whole.metrics
    assert not (await sums(client, task_id="top")).metrics.tokens_out
    mine = await sums(client, worker_id="w")
    assert (mine.metrics.tokens_in, mine.metrics.tokens_out) == (2**62, 5)
    assert times(mine) == {}, "its stay still lasts"
    assert times(await sums(client, worker_id="w", include_running=True)) == {"working": (3_000, 1)}
    assert times(await sums(client, worker_id="v"))["working"] == (6_000, 1)
    assert dict(mine.tasks_by_status) == {"working": 1}
    assert (await refusal(sums(client, worker_id="never"))).reason == "WORKER_NOT_FOUND"
    assert (await refusal(sums(client, task_id="never"))).reason == "TASK_NOT_FOUND"


@pytest.mark.parametrize("seed", range(3))
async def test_times_are_exact(timed_client: Client, clock: "TestClock", seed: int) -> None:
    """In any life the times in all statuses make up a task's whole life, and the timed ones its
    time_actual.
    """
    client, rng = timed_client, random.Random(seed)
    await connect(client, "w")
    await create(client, "a", max_attempts=1_000)
    born = clock.now()
    for _ in range(60):
        clock.advance(rng.randrange(5_000))
        try:
            match rng.randrange(6):
                case 0 | 1:
                    await claim(client, "w", "a")
                case 2:
                    await release(client, "w", "a")
                case 3:
                    await update(client, "a", phase=rng.choice(["design", "review"]))
                case 4:
                    await update(client, "a", status=rng.choice(["waiting", "working", "pending"]))
                case _:
                    await fail(client, "w", "a", retry=True)
        except TaskloomError as refused:
            if not refused.reason:
                raise
    task = await show(client, "a")
    closed = await sums(client, task_id="a")
    assert closed.time_actual == task.time_actual
    assert times(closed).get("working", (0, 0))[0] == task.time_actual.ToMilliseconds()
    running = times(await sums(client, task_id="a", include_running=True))
    assert sum(ms for ms, _ in running.values()) == clock.now() - born


# SetThought, ListWorkers


async def think(client: Client, worker: str, thought: str, **fields: Any) -> v1.SetThoughtResponse:
    """Say what a worker thinks."""
    request = v1.SetThoughtRequest(worker_id=worker, thought=thought, **fields)
    return await client.workers.SetThought(request)


async def test_a_thought_is_seen(timed_client: Client, clock: "TestClock") -> None:
    """It stands on the worker and on what it holds, is in the stream, and is a sign of life."""
    client = timed_client
    await connect(client, "w", max_claims=9, lease=duration(60_000))
    for id in ("a", "b", "c"):
        await create(client, id)
    token = (await claim(client, "w", "a")).claim_revision
    await claim(client, "w", "b", mode=v1.CLAIM_MODE_ADVISORY)
    clock.advance(50_000)
    answer = await think(client, "w", "hm")
    assert list(answer.task_ids) == ["a", "b"]
    worker = await show_worker(client, "w")
    assert (worker.current_thought, worker.thought_time.ToMilliseconds()) == ("hm", clock.now())
    assert worker.heartbeat_time.ToMilliseconds() == clock.now()
    assert [(await show(client, id)).current_thought for id in ("a", "b", "c")] == ["hm", "hm", ""]
    told = await events(client, answer.revision, answer.revision)
    assert [name for name, *_ in told] == ["WORKER_THOUGHT", "TASK_UPDATED", "TASK_UPDATED"]
    heard = await event(client, v1.EVENT_TYPE_WORKER_THOUGHT)
    assert heard.worker.current_thought == "hm"
    again = await think(client, "w", "hm")
    assert again.revision == answer.revision, "the same again is nothing new"
    one = await think(client, "w", "ah", task_id="a", claim_revision=token)
    assert list(one.task_ids) == ["a"]
    assert (await show(client, "b")).current_thought == "hm"
    await think(client, "w", "")
    assert not (await show_worker(client, "w")).current_thought


async def test_a_thought_shows_the_lease_that_it_renews(
    timed_client: Client, clock: "TestClock"
) -> None:
    """The event of a task that carries a thought shows the lease as the thought renewed it."""
    client = timed_client
    await connect(client, "w", lease=duration(60_000))
    await create(client, "a")
    await claim(client, "w", "a")
    clock.advance(50_000)
    await think(client, "w", "hm")
    shown = (await event(client, v1.EVENT_TYPE_TASK_UPDATED)).task
    assert shown.current_thought == "hm"
    assert shown.lease_expire_time.ToMilliseconds() == clock.now() + 60_000
    assert shown == await show(client, "a")


async def test_thoughts_about_what_one_does_not_hold(client: Client) -> None:
    """A thought belongs on a task that the worker holds, by the claim it shows."""
    await connect(client, "v", "w")
    await create(client, "a")
    token = (await claim(client, "v", "a")).claim_revision
    for worker, fields in (("w", {}), ("v", {"claim_revision": token + 1})):
        error = await refusal(think(client, worker, "hm", task_id="a", **fields))
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "CLAIM_LOST")
    assert (await refusal(think(client, "never", "hm"))).reason == "WORKER_NOT_FOUND"
    assert (await refusal(think(client, "w", "hm", task_id="never"))).reason == "TASK_NOT_FOUND"
    assert not (await show_worker(client, "w")).current_thought


async def test_stale_workers(timed_client: Client, clock: "TestClock") -> None:
    """Those who were silent for long are listed alone, or those with tags, by pages."""
    client = timed_client
    for n in range(5):
        await connect(client, f"w{n}", tags=["odd"] if n % 2 else ["even", "x"])
    clock.advance(10_000)
    await heartbeat(client, "w0")

    async def listed(**fields: Any) -> list[str]:
        request = v1.ListWorkersRequest(page_size=1, **fields)
        found = []
        while True:
            page = await client.workers.ListWorkers(request)
            assert page.time.ToMilliseconds() == clock.now()
            found += [worker.id for worker in page.workers]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    assert await listed(stale_after=duration(10_000)) == ["w1", "w2", "w3", "w4"]
    assert await listed(stale_after=duration(10_001)) == []
    assert await listed(tags_all=["even", "x"]) == ["w0", "w2", "w4"]
    assert await listed(tags_all=["odd"], stale_after=duration(1)) == ["w1", "w3"]
