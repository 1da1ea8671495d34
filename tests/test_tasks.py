"""Tasks: creating and showing them, what they consume, and their history.

Trees of tasks are in test_task_trees, changes in test_task_updates, deletions in
test_task_deletion, lists in test_listing.
"""

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, NotFound, TaskloomError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import TestClock

MAX_INT64 = 2**63 - 1


async def create(client: Client, id: str, **fields: Any) -> v1.Task:
    """A new task."""
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def connect(client: Client, id: str, **fields: Any) -> None:
    """A new worker."""
    await client.workers.Connect(v1.ConnectRequest(worker_id=id, **fields))


async def claim(client: Client, worker: str, task: str) -> v1.Task:
    """A task that is claimed by name."""
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task)
    return (await client.claims.ClaimTask(request)).task


async def complete(client: Client, worker: str, task: str, reason: str = "") -> None:
    """Claim a task and complete it."""
    await claim(client, worker, task)
    request = v1.CompleteTaskRequest(worker_id=worker, task_id=task, reason=reason)
    await client.claims.CompleteTask(request)


async def update(client: Client, task: str, **fields: Any) -> v1.UpdateTaskResponse:
    """What UpdateTask answers."""
    return await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task, **fields))


async def delete(client: Client, task: str, **fields: Any) -> v1.DeleteTaskResponse:
    """What DeleteTask answers."""
    return await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id=task, **fields))


async def show(client: Client, task: str) -> v1.Task:
    """A task as it is now."""
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def listed(client: Client, **filters: Any) -> list[str]:
    """The ids of the tasks that pass the filters."""
    answer = await client.tasks.ListTasks(v1.ListTasksRequest(**filters))
    return [task.id for task in answer.tasks]


async def dependencies(client: Client, task: str) -> list[tuple[str, str, int]]:
    """What GetTask says hangs on a task."""
    answer = await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))
    return [(each.from_task_id, each.to_task_id, each.type) for each in answer.dependencies]


async def log(client: Client, task: str, **metrics: Any) -> v1.Metrics:
    """A task's sums after some more."""
    request = v1.LogMetricsRequest(task_id=task, metrics=v1.Metrics(**metrics))
    return (await client.tasks.LogMetrics(request)).metrics


async def history(client: Client, task: str) -> list[v1.Transition]:
    """All transitions of a task."""
    request = v1.ListTransitionsRequest(task_id=task, page_size=1000)
    return list((await client.tasks.ListTransitions(request)).transitions)


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


def time(ms: int) -> Timestamp:
    """Unix ms as a Timestamp."""
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


# CreateTask


async def test_a_title_is_all_that_a_task_needs(timed_client: Client, clock: "TestClock") -> None:
    """A task of which only the title is given has the defaults, and nothing besides."""
    answer = await timed_client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="Do it"))
    now = time(clock.now())
    assert answer.task == v1.Task(
        id="a",
        title="Do it",
        status="pending",
        priority=5,
        time_actual=Duration(),
        revision=answer.revision,
        ready=True,
        ready_time=now,
        max_attempts=5,
        workflow="swarm",
        metrics=v1.Metrics(),
        create_time=now,
        update_time=now,
        temperature=0.5,
        temperature_time=now,
    )
    assert await show(timed_client, "a") == answer.task


async def test_every_field_is_kept(timed_client: Client, clock: "TestClock") -> None:
    """What a task is created with is what it is shown with."""
    request = v1.CreateTaskRequest(
        id="a",
        title="Zeile\nzwei ☃",
        description="x" * (64 << 10),
        priority=0,
        points=0,
        time_estimate=Duration(seconds=90, nanos=500_000_000),
        phase="design",
        tags=["css", "ui"],
        needed_tags=["rust"],
        wanted_tags=["fast", "cheap"],
        not_before=time(clock.now() + 60_000),
        max_attempts=1000,
    )
    task = (await timed_client.tasks.CreateTask(request)).task
    for field in ("title", "description", "priority", "points", "phase", "max_attempts"):
        assert getattr(task, field) == getattr(request, field), field
    assert task.HasField("points"), "zero points are an estimate, too"
    assert task.time_estimate == request.time_estimate
    assert task.not_before == request.not_before
    assert not task.ready
    for field in ("tags", "needed_tags", "wanted_tags"):
        assert sorted(getattr(task, field)) == sorted(getattr(request, field)), field
    assert await show(timed_client, "a") == task


@pytest.mark.parametrize(
    ("title", "form"),
    [
        ("Parse the CSS, quickly!", r"parse-the-css-quickly-[a-z0-9]{5}"),
        ("Задача", r"task-[a-z0-9]{5}"),
        ("supercalifragilisticexpialidocious", r"task-[a-z0-9]{5}"),
    ],
)
async def test_an_id_is_made_up_of_the_title(client: Client, title: str, form: str) -> None:
    """A task without an id is given a short one that says what the task is."""
    made_up = set()
    for _ in range(20):
        task = (await client.tasks.CreateTask(v1.CreateTaskRequest(title=title))).task
        assert re.fullmatch(form, task.id)
        made_up.add(task.id)
    assert len(made_up) == 20


async def test_tags_given_twice_are_there_once(client: Client) -> None:
    """A list of tags is a set."""
    task = await create(client, "a", tags=["x", "y", "x"], needed_tags=["n", "n"])
    assert sorted(task.tags) == ["x", "y"]
    assert list(task.needed_tags) == ["n"]


async def test_a_time_that_has_passed_does_not_delay(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A not_before at or before the present is no such time."""
    for id, ms in (("past", clock.now() - 1), ("present", clock.now()), ("old", -(10**12))):
        task = await create(timed_client, id, not_before=time(ms))
        assert task.ready
        assert not task.HasField("not_before")


async def test_a_child_is_contained_by_its_parent(client: Client) -> None:
    """A parent is not ready while its child is open; the two are linked by `contains`."""
    await create(client, "parent")
    child = await create(client, "child", parent_id="parent")
    assert child.parent_id == "parent"
    assert child.ready
    assert not (await show(client, "parent")).ready
    assert await dependencies(client, "child") == [("parent", "child", v1.DEPENDENCY_TYPE_CONTAINS)]


async def test_blockers_hold_a_task_back(client: Client) -> None:
    """A task is ready when the last of its blockers has ended well."""
    await connect(client, "w")
    await create(client, "a")
    await create(client, "b")
    assert not (await create(client, "c", blocked_by=["a", "b", "a"])).ready
    assert await dependencies(client, "c") == [
        ("a", "c", v1.DEPENDENCY_TYPE_BLOCKS),
        ("b", "c", v1.DEPENDENCY_TYPE_BLOCKS),
    ]
    await complete(client, "w", "a")
    assert not (await show(client, "c")).ready
    await complete(client, "w", "b")
    assert (await show(client, "c")).ready


async def test_blockers_that_ended_do_not_hold_a_new_task(client: Client) -> None:
    """A blocker that completed or was cancelled lets a new task start, one that failed does not."""
    await connect(client, "w")
    for id in ("done", "cancelled", "failed"):
        await create(client, id)
    await complete(client, "w", "done")
    await update(client, "cancelled", status="cancelled")
    await claim(client, "w", "failed")
    await update(client, "failed", status="failed")
    assert (await create(client, "a", blocked_by=["done", "cancelled"])).ready
    assert not (await create(client, "b", blocked_by=["done", "failed"])).ready


async def test_a_child_follows_its_parents_workflow(
    start_server: Callable[..., Any], tmp_path: "Path"
) -> None:
    """A task follows the workflow it names, else its parent's, else the server's default."""
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "solo.yaml").write_text(
        "name: solo\n"
        "states:\n"
        "  open: {exits: [doing, dropped]}\n"
        "  doing: {exits: [open, done], timed: true}\n"
        "  done: {exits: []}\n"
        "  dropped: {exits: []}\n"
        "settings: {initial_state: open, assign_state: doing, claim_state: doing,\n"
        "  complete_state: done, fail_state: dropped, cancel_state: dropped,\n"
        "  disconnect_state: open, blocking_states: [open, doing]}\n"
    )
    async with start_server(workflow_dir=folder) as server, Client(server.address) as client:
        assert (await create(client, "a")).workflow == "swarm"
        solo = await create(client, "b", workflow="solo")
        assert (solo.workflow, solo.status) == ("solo", "open")
        assert (await create(client, "c", parent_id="b")).workflow == "solo"
        assert (await create(client, "d", parent_id="b", workflow="swarm")).status == "pending"


@pytest.mark.parametrize(
    ("wrong", "reason", "resource"),
    [
        ({"parent_id": "nobody"}, "TASK_NOT_FOUND", "nobody"),
        ({"blocked_by": ["there", "nobody"]}, "TASK_NOT_FOUND", "nobody"),
        ({"workflow": "nobody"}, "WORKFLOW_NOT_FOUND", "swarm"),
        ({"worker_id": "nobody"}, "WORKER_NOT_FOUND", "nobody"),
    ],
)
async def test_what_a_new_task_names_must_be_there(
    client: Client, wrong: dict[str, Any], reason: str, resource: str
) -> None:
    """A parent, blocker, workflow or worker that is not there is named, and nothing is made."""
    await create(client, "there")
    before = await revision(client)
    error = await refusal(create(client, "a", **wrong))
    assert isinstance(error, NotFound)
    assert error.reason == reason
    assert error.resource is not None
    assert error.resource.name == resource
    assert await revision(client) == before
    assert await listed(client) == ["there"]


async def test_a_phase_is_one_of_the_workflows(client: Client) -> None:
    """A phase that the workflow does not list is refused; the sentence lists those there are."""
    assert (await create(client, "a", phase="test")).phase == "test"
    error = await refusal(create(client, "b", phase="testing"))
    assert fields(error) == ["phase"]
    assert "explore, design, implement, test" in str(error)


async def test_an_id_is_taken_for_good(client: Client) -> None:
    """An id belongs to its task also after the task was deleted."""
    await create(client, "a")
    assert (await refusal(create(client, "a"))).reason == "TASK_EXISTS"
    await delete(client, "a")
    error = await refusal(create(client, "a"))
    assert error.reason == "TASK_EXISTS"
    assert error.resource is not None
    assert (error.resource.type, error.resource.name) == ("task", "a")


@pytest.mark.parametrize("status", ["completed", "cancelled", "failed"])
async def test_a_parent_that_ended_takes_no_child(client: Client, status: str) -> None:
    """A task cannot be added below one that has ended; reopened, it can."""
    await connect(client, "w")
    await create(client, "parent")
    if status != "cancelled":
        await claim(client, "w", "parent")
    await update(client, "parent", status=status)
    error = await refusal(create(client, "child", parent_id="parent"))
    assert error.reason == "PARENT_ENDED"
    assert subjects(error) == ["parent"]
    if status != "cancelled":
        await update(client, "parent", status="pending")
        await create(client, "child", parent_id="parent")


@pytest.mark.parametrize("role", ["parent_id", "blocked_by"])
async def test_a_deleted_task_is_no_parent_and_no_blocker(client: Client, role: str) -> None:
    """What is deleted has vanished from the graph, so nothing new can hang on it."""
    await create(client, "gone")
    await delete(client, "gone")
    wrong: dict[str, Any] = {role: ["gone"] if role == "blocked_by" else "gone"}
    error = await refusal(create(client, "a", **wrong))
    assert error.reason == "TASK_DELETED"
    assert subjects(error) == ["gone"]


@pytest.mark.parametrize(
    ("fields", "ring"),
    [
        ({"blocked_by": ["a"]}, {"a"}),
        ({"parent_id": "parent", "blocked_by": ["parent"]}, {"a", "parent"}),
        ({"parent_id": "parent", "blocked_by": ["after"]}, {"a", "parent", "after"}),
    ],
)
async def test_a_new_task_cannot_wait_for_itself(
    client: Client, fields: dict[str, Any], ring: set[str]
) -> None:
    """A task that would wait for itself, its parent, or what waits for its parent is refused."""
    await create(client, "parent")
    await create(client, "after", blocked_by=["parent"])
    error = await refusal(create(client, "a", **fields))
    assert error.reason == "CYCLE"
    along = subjects(error)
    assert along[0] == along[-1]
    assert set(along) == ring
    assert sorted(await listed(client)) == ["after", "parent"]


# GetTask


async def test_a_task_is_shown_with_all_that_hangs_on_it(client: Client) -> None:
    """GetTask shows the dependencies of every type, to and from the task."""
    for id in ("a", "b", "c", "d"):
        await create(client, id)
    links = [
        ("a", "b", v1.DEPENDENCY_TYPE_FOLLOWS),
        ("b", "c", v1.DEPENDENCY_TYPE_CONTAINS),
        ("d", "b", v1.DEPENDENCY_TYPE_SEE_ALSO),
        ("b", "d", v1.DEPENDENCY_TYPE_DUPLICATE),
        ("c", "d", v1.DEPENDENCY_TYPE_BLOCKS),
    ]
    for from_, to, type_ in links:
        request = v1.LinkTasksRequest(from_task_id=from_, to_task_id=to, type=type_)
        await client.tasks.LinkTasks(request)
    assert sorted(await dependencies(client, "b")) == sorted(links[:4])


async def test_a_dependency_on_a_deleted_task_is_not_shown(client: Client) -> None:
    """A dependency whose other end is deleted is left out, one whose own end is deleted is not."""
    await create(client, "a")
    await create(client, "b", blocked_by=["a"])
    await delete(client, "a")
    assert await dependencies(client, "b") == []
    assert await dependencies(client, "a") == [("a", "b", v1.DEPENDENCY_TYPE_BLOCKS)]


async def test_an_unknown_task_is_not_found(client: Client) -> None:
    """Asking for a task that never was is NOT_FOUND, and the details name it."""
    for call in (
        client.tasks.GetTask(v1.GetTaskRequest(task_id="nobody")),
        client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="nobody")),
        client.tasks.LogMetrics(v1.LogMetricsRequest(task_id="nobody")),
        client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="nobody")),
        client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="nobody")),
    ):
        error = await refusal(call)
        assert error.reason == "TASK_NOT_FOUND"
        assert error.resource is not None
        assert error.resource.name == "nobody"


# LogMetrics


async def test_metrics_add_up(client: Client) -> None:
    """What is reported is added to what was reported before, counter by counter."""
    await create(client, "a")
    counters = [field.name for field in v1.Metrics.DESCRIPTOR.fields]
    assert len(counters) == 9
    amounts: dict[str, Any] = {name: n for n, name in enumerate(counters, 1)}
    assert await log(client, "a", **amounts) == v1.Metrics(**amounts)
    assert await log(client, "a", tokens_in=10, cost_usd=0.5) == v1.Metrics(
        **(amounts | {"tokens_in": 11, "cost_usd": 9.5})
    )
    assert (await show(client, "a")).metrics == v1.Metrics(
        **(amounts | {"tokens_in": 11, "cost_usd": 9.5})
    )


async def test_no_amounts_change_nothing(client: Client) -> None:
    """A report of nothing makes no revision."""
    task = await create(client, "a")
    answer = await client.tasks.LogMetrics(v1.LogMetricsRequest(task_id="a"))
    assert answer.revision == task.revision


async def test_a_sum_has_a_largest_value(client: Client) -> None:
    """A sum reaches 2^63 - 1 and no more: what would exceed it is refused and not added."""
    await create(client, "a")
    await log(client, "a", tokens_out=MAX_INT64 - 1, cost_usd=1.7e308)
    assert (await log(client, "a", tokens_out=1)).tokens_out == MAX_INT64
    error = await refusal(log(client, "a", tokens_out=1, tokens_in=7))
    assert fields(error)[0].startswith("metrics")
    error = await refusal(log(client, "a", cost_usd=1.7e308))
    assert fields(error) == ["metrics.cost_usd"]
    metrics = (await show(client, "a")).metrics
    assert metrics == v1.Metrics(tokens_out=MAX_INT64, cost_usd=1.7e308)


async def test_costs_are_reported_after_the_end(client: Client) -> None:
    """A report without a claim revision counts also when the task has ended, or is deleted."""
    await connect(client, "w")
    await create(client, "a")
    await complete(client, "w", "a")
    assert (await log(client, "a", tokens_in=1)).tokens_in == 1
    await delete(client, "a")
    assert (await log(client, "a", tokens_in=1)).tokens_in == 2


async def test_who_reports_is_connected(client: Client) -> None:
    """A report by a worker that is unknown is refused, and nothing is added."""
    await create(client, "a")
    request = v1.LogMetricsRequest(worker_id="nobody", task_id="a", metrics=v1.Metrics(tokens_in=1))
    assert (await refusal(client.tasks.LogMetrics(request))).reason == "WORKER_NOT_FOUND"
    assert (await show(client, "a")).metrics == v1.Metrics()


async def test_a_report_from_a_lost_claim_is_refused(client: Client) -> None:
    """With a claim revision that is not the claim's, nothing is added."""
    await connect(client, "w")
    await create(client, "a")
    claimed = await claim(client, "w", "a")
    request = v1.LogMetricsRequest(
        worker_id="w",
        task_id="a",
        claim_revision=claimed.claim_revision,
        metrics=v1.Metrics(tokens_in=1),
    )
    await client.tasks.LogMetrics(request)
    request.claim_revision += 1
    assert (await refusal(client.tasks.LogMetrics(request))).reason == "CLAIM_LOST"
    assert (await show(client, "a")).metrics.tokens_in == 1


# ListTransitions


async def test_a_life_is_a_row_of_transitions(timed_client: Client, clock: "TestClock") -> None:
    """History tells each step: who, why, from when to when, without a gap; the last is open."""
    await connect(timed_client, "w")
    start = clock.now()
    await create(timed_client, "a", phase="design", worker_id="w")
    clock.advance(10)
    await claim(timed_client, "w", "a")
    clock.advance(20)
    await update(timed_client, "a", phase="test")
    clock.advance(30)
    request = v1.CompleteTaskRequest(worker_id="w", task_id="a", reason="all green")
    await timed_client.claims.CompleteTask(request)

    steps = await history(timed_client, "a")
    assert all(step.task_id == "a" for step in steps)
    assert [step.id for step in steps] == sorted({step.id for step in steps})
    assert [(step.worker_id, step.status, step.phase, step.reason) for step in steps] == [
        ("w", "pending", "design", ""),
        ("w", "working", "", ""),
        ("", "", "test", ""),
        ("w", "completed", "", "all green"),
    ]
    assert [step.HasField("status") for step in steps] == [True, True, False, True]
    assert [step.HasField("phase") for step in steps] == [True, False, True, False]
    times = [time(start + ms) for ms in (0, 10, 30, 60)]
    assert [step.start_time for step in steps] == times
    assert [step.end_time for step in steps[:-1]] == times[1:]
    assert not steps[-1].HasField("end_time")
    assert (await show(timed_client, "a")).time_actual == Duration(nanos=50_000_000)


async def test_transitions_page(client: Client) -> None:
    """A long history comes in pages, each step once and in order."""
    await create(client, "other")
    await create(client, "a")
    for n in range(7):
        await update(client, "a", phase=["design", "test"][n % 2])
    whole = await history(client, "a")
    assert len(whole) == 8
    request = v1.ListTransitionsRequest(task_id="a", page_size=3)
    paged: list[v1.Transition] = []
    sizes = []
    while True:
        page = await client.tasks.ListTransitions(request)
        paged += page.transitions
        sizes.append(len(page.transitions))
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert paged == whole
    assert sizes == [3, 3, 2]
