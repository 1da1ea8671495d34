"""UpdateTask: fields by their presence, moves from state to state, assignments."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import TestClock

# The swarm workflow, as the issue has it.
EXITS = {
    "pending": ["assigned", "working", "cancelled"],
    "assigned": ["working", "pending", "cancelled"],
    "working": ["completed", "failed", "pending", "waiting"],
    "waiting": ["working", "completed", "failed", "pending", "cancelled"],
    "completed": ["pending"],
    "failed": ["pending"],
    "cancelled": [],
}


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


async def update(client: Client, task: str, **fields: Any) -> v1.UpdateTaskResponse:
    """What UpdateTask answers."""
    return await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task, **fields))


async def show(client: Client, task: str) -> v1.Task:
    """A task as it is now."""
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def history(client: Client, task: str) -> list[v1.Transition]:
    """All transitions of a task."""
    request = v1.ListTransitionsRequest(task_id=task)
    return list((await client.tasks.ListTransitions(request)).transitions)


async def show_worker(client: Client, id: str) -> v1.Worker:
    """A worker as it is now."""
    answer = await client.workers.ListWorkers(v1.ListWorkersRequest())
    return next(worker for worker in answer.workers if worker.id == id)


async def task_in(client: Client, status: str) -> v1.Task:
    """A task in this state, which worker w brought it to."""
    await connect(client, "w")
    await create(client, "a")
    if status == "assigned":
        await update(client, "a", assignee="w")
    elif status == "cancelled":
        await update(client, "a", status=status)
    elif status != "pending":
        await claim(client, "w", "a")
        if status != "working":
            await update(client, "a", status=status)
    task = await show(client, "a")
    assert task.status == status
    return task


async def refusal(call: Awaitable[object]) -> TaskloomError:
    """The refusal with which a call ends."""
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


def subjects(error: TaskloomError) -> list[str]:
    """What a refusal's details say stands in the way."""
    assert {violation.type for violation in error.violations} == {error.reason}
    return [violation.subject for violation in error.violations]


def time(ms: int) -> Timestamp:
    """Unix ms as a Timestamp."""
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


# Fields

CHANGES: list[dict[str, Any]] = [
    {"title": "another"},
    {"description": "another"},
    {"description": ""},
    {"phase": "test"},
    {"phase": ""},
    {"priority": 0},
    {"points": 0},
    {"time_estimate": Duration(seconds=5)},
    {"not_before": time(1_900_000_000_000)},
    {"max_attempts": 1},
    {"retry_delay": Duration(seconds=5)},
    {"tags": v1.Tags(values=["z"])},
    {"tags": v1.Tags()},
    {"needed_tags": v1.Tags(values=["z", "y"])},
    {"wanted_tags": v1.Tags(values=["z"])},
    {"wanted_tags": v1.Tags()},
]


@pytest.mark.parametrize("changed", CHANGES, ids=lambda each: f"{next(iter(each))}")
async def test_only_the_fields_that_are_present_change(
    timed_client: Client, clock: "TestClock", changed: dict[str, Any]
) -> None:
    """A field that is present takes its value, also an empty one; every other stays."""
    before = await create(
        timed_client,
        "a",
        description="d",
        phase="design",
        points=3,
        time_estimate=Duration(seconds=1),
        tags=["x"],
        needed_tags=["n"],
        wanted_tags=["w"],
    )
    clock.advance(7)
    after = (await update(timed_client, "a", **changed)).task

    expected = v1.Task()
    expected.CopyFrom(before)
    [(name, value)] = changed.items()
    if isinstance(value, v1.Tags):
        expected.ClearField(name)  # type: ignore[arg-type]
        getattr(expected, name).extend(sorted(value.values))
    elif isinstance(value, Duration | Timestamp):
        getattr(expected, name).CopyFrom(value)
    else:
        setattr(expected, name, value)
    expected.ready = name != "not_before"
    expected.update_time.CopyFrom(time(clock.now()))
    expected.revision = before.revision + 1
    # To change a task warms it.
    expected.temperature_time.CopyFrom(time(clock.now()))
    expected.temperature = after.temperature
    assert after.temperature > (before.temperature if name != "priority" else 0)
    assert after == expected
    assert await show(timed_client, "a") == expected


async def test_zero_takes_an_estimate_and_a_delay_back(
    timed_client: Client, clock: "TestClock"
) -> None:
    """An estimate of zero is none, and a not_before in the past is none: the task is ready."""
    await create(
        timed_client,
        "a",
        time_estimate=Duration(seconds=1),
        not_before=time(clock.now() + 60_000),
    )
    answer = await update(timed_client, "a", time_estimate=Duration(), not_before=time(clock.now()))
    assert not answer.task.HasField("time_estimate")
    assert not answer.task.HasField("not_before")
    assert answer.task.ready
    assert answer.task.ready_time == time(clock.now())


@pytest.mark.parametrize(
    "same", [{}, {"title": "a", "priority": 5}, {"status": "pending"}, {"assignee": ""}]
)
async def test_what_is_so_already_changes_nothing(client: Client, same: dict[str, Any]) -> None:
    """An update without a difference makes no revision and no transition."""
    before = await create(client, "a")
    answer = await update(client, "a", reason="no reason", **same)
    assert answer.revision == before.revision
    assert answer.task == before
    assert len(await history(client, "a")) == 1


async def test_needed_tags_decide_anew_who_may_take_it(client: Client) -> None:
    """A change of needed or wanted tags counts from the next claim on."""
    await connect(client, "w", tags=["css"])
    await create(client, "a", needed_tags=["rust"])
    request = v1.ClaimNextTaskRequest(worker_id="w")
    none = await client.claims.ClaimNextTask(request)
    assert none.outcome == v1.CLAIM_OUTCOME_NONE_READY
    await update(client, "a", needed_tags=v1.Tags(), wanted_tags=v1.Tags(values=["js"]))
    none = await client.claims.ClaimNextTask(request)
    assert none.outcome == v1.CLAIM_OUTCOME_NONE_READY
    await update(client, "a", wanted_tags=v1.Tags(values=["js", "css"]))
    assert [task.id for task in (await client.claims.ClaimNextTask(request)).tasks] == ["a"]


async def test_an_update_is_told_with_the_task_as_it_is(client: Client) -> None:
    """A change of fields is one event, with the whole task, who did it and why."""
    await connect(client, "w")
    before = await create(client, "a")
    after = (await update(client, "a", title="b", worker_id="w", reason="clearer")).task
    async with client.watch(start_revision=before.revision + 1) as watch:
        async for message in watch:
            if events := list(message.events.events):
                break
    assert [(each.type, each.worker_id, each.reason) for each in events] == [
        (v1.EVENT_TYPE_TASK_UPDATED, "w", "clearer")
    ]
    assert events[0].task == after


# Preconditions


async def test_an_etag_guards_what_was_read(client: Client) -> None:
    """An update with the task's revision passes, one with an older revision changes nothing."""
    task = await create(client, "a")
    changed = await update(client, "a", title="first", etag=task.revision)
    error = await refusal(update(client, "a", title="second", etag=task.revision))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert error.metadata == {"revision": str(changed.task.revision)}
    assert (await show(client, "a")).title == "first"
    await update(client, "a", title="third", etag=changed.task.revision)


async def test_a_deleted_task_cannot_be_changed(client: Client) -> None:
    """An update of a deleted task is refused."""
    await create(client, "a")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="a"))
    assert (await refusal(update(client, "a", title="b"))).reason == "TASK_DELETED"


@pytest.mark.parametrize(
    "fields",
    [{"title": "b"}, {"status": "completed"}, {"phase": "test"}, {"assignee": ""}],
)
async def test_a_claim_that_is_shown_must_be_the_claim(
    client: Client, fields: dict[str, Any]
) -> None:
    """With a claim revision that is not the claim's, whatever was to be changed stays."""
    before = await task_in(client, "working")
    for wrong in (before.claim_revision + 1, before.claim_revision - 1):
        error = await refusal(update(client, "a", claim_revision=wrong, **fields))
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "CLAIM_LOST")
    assert await show(client, "a") == before


@pytest.mark.parametrize(
    "fields", [{"status": "completed"}, {"status": "failed"}, {"status": "pending"}]
)
async def test_only_the_holder_moves_a_claimed_task(client: Client, fields: dict[str, Any]) -> None:
    """Another worker cannot move a task that is being worked, a person can."""
    before = await task_in(client, "working")
    await connect(client, "other")
    error = await refusal(update(client, "a", worker_id="other", **fields))
    assert error.reason == "CLAIM_LOST"
    assert error.metadata["holder"] == "w"
    assert await show(client, "a") == before
    assert (await update(client, "a", **fields)).task.status == fields["status"]


async def test_an_unknown_worker_changes_nothing(client: Client) -> None:
    """Whoever changes a task, if it is a worker, is connected."""
    await create(client, "a")
    error = await refusal(update(client, "a", title="b", worker_id="nobody"))
    assert error.reason == "WORKER_NOT_FOUND"


# Moves


@pytest.mark.parametrize("status", EXITS)
async def test_a_move_that_is_no_exit_is_refused(client: Client, status: str) -> None:
    """From each state all moves but its exits are refused, and the details list these."""
    before = await task_in(client, status)
    for to in EXITS.keys() - {status, *EXITS[status]}:
        error = await refusal(update(client, "a", status=to))
        assert error.code is grpc.StatusCode.FAILED_PRECONDITION
        assert error.reason == "ILLEGAL_TRANSITION"
        assert error.metadata["status"] == status
        assert [each.subject for each in error.violations] == EXITS[status]
    assert await show(client, "a") == before


async def test_a_state_of_no_workflow_is_refused(client: Client) -> None:
    """A status that the workflow does not have is refused; the details list those it has."""
    await create(client, "a")
    error = await refusal(update(client, "a", status="done"))
    assert error.reason == "ILLEGAL_TRANSITION"
    assert sorted(subjects(error)) == sorted(EXITS)


@pytest.mark.parametrize("status", ["working", "assigned"])
async def test_work_needs_a_worker(client: Client, status: str) -> None:
    """A free task is not put to work by its status alone: that is what claims are for."""
    await create(client, "a")
    error = await refusal(update(client, "a", status=status))
    assert error.field_violations[0].field == "status"
    assert "ClaimTask" in str(error)


async def test_a_cancelled_task_frees_what_it_blocked(
    timed_client: Client, clock: "TestClock"
) -> None:
    """Cancelling ends a task, for good, and its dependents are listed as unblocked."""
    await create(timed_client, "a")
    await create(timed_client, "b", blocked_by=["a"])
    answer = await update(timed_client, "a", status="cancelled", reason="no need")
    assert list(answer.unblocked_task_ids) == ["b"]
    assert answer.task.status == "cancelled"
    assert answer.task.complete_time == time(clock.now())
    assert not answer.task.ready
    assert (await show(timed_client, "b")).ready
    assert (await history(timed_client, "a"))[-1].reason == "no need"


@pytest.mark.parametrize(("status", "attempts"), [("completed", 0), ("failed", 1)])
async def test_ending_a_task_by_its_status_is_ending_it(
    timed_client: Client, clock: "TestClock", status: str, attempts: int
) -> None:
    """The holder that sets a final status has completed or failed the task, and then rests."""
    await connect(timed_client, "w", cool_down=Duration(seconds=60))
    await create(timed_client, "a")
    await create(timed_client, "b", blocked_by=["a"])
    await timed_client.files.MarkFiles(
        v1.MarkFilesRequest(worker_id="w", paths=["a.py"], task_id="a")
    )
    claimed = await claim(timed_client, "w", "a")
    clock.advance(1_500)
    answer = await update(
        timed_client, "a", worker_id="w", claim_revision=claimed.claim_revision, status=status
    )
    task = answer.task
    assert (task.status, task.attempts, task.worker_id) == (status, attempts, "w")
    assert (task.claim_revision, task.HasField("lease_expire_time")) == (0, False)
    assert task.time_actual == Duration(seconds=1, nanos=500_000_000)
    assert task.complete_time == time(clock.now())
    assert list(answer.unblocked_task_ids) == (["b"] if status == "completed" else [])
    worker = await show_worker(timed_client, "w")
    assert (worker.last_status, worker.claims_held) == (status, 0)
    assert worker.cooling_until == time(clock.now() + 60_000)
    marks = await timed_client.files.ListFileMarks(v1.ListFileMarksRequest())
    assert not marks.marks


async def test_giving_a_task_back_by_its_status(client: Client) -> None:
    """The holder that sets the initial status has released the task: anybody may take it."""
    await task_in(client, "working")
    task = (await update(client, "a", worker_id="w", status="pending")).task
    assert (task.worker_id, task.claim_revision, task.attempts) == ("", 0, 0)
    assert task.ready


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_reopened_task_begins_anew(client: Client, status: str) -> None:
    """Reopening makes a task ready, nobody's, with all its attempts; it blocks what it blocked."""
    await task_in(client, status)
    await create(client, "b", blocked_by=["a"])
    assert (await show(client, "b")).ready == (status == "completed")
    task = (await update(client, "a", status="pending", reason="not good enough")).task
    assert task.ready
    assert (task.worker_id, task.attempts) == ("", 0)
    assert not task.HasField("complete_time")
    assert task.HasField("start_time"), "when work began for the first time"
    assert not (await show(client, "b")).ready
    await claim(client, "w", "a")


async def test_open_children_hold_a_completion_back(client: Client) -> None:
    """A task that was given a child while it was worked completes after the child."""
    await task_in(client, "working")
    await create(client, "child", parent_id="a")
    error = await refusal(update(client, "a", status="completed"))
    assert error.reason == "CHILDREN_OPEN"
    assert subjects(error) == ["child"]
    await update(client, "child", status="cancelled")
    assert (await update(client, "a", status="completed")).task.status == "completed"


async def test_phases_go_into_the_history(client: Client) -> None:
    """A change of phase is a transition of its own, or part of the move it comes with."""
    await task_in(client, "working")
    await update(client, "a", phase="test")
    await update(client, "a", phase="review", status="completed", reason="done")
    steps = await history(client, "a")
    assert [(step.status, step.phase, step.reason) for step in steps[2:]] == [
        ("", "test", ""),
        ("completed", "review", "done"),
    ]
    assert (await show(client, "a")).phase == "review"


async def test_a_phase_is_one_of_the_workflows(client: Client) -> None:
    """A phase that the workflow does not list is refused."""
    await create(client, "a")
    error = await refusal(update(client, "a", phase="testing"))
    assert error.field_violations[0].field == "phase"


# Assignments


async def test_an_assignee_holds_the_task(timed_client: Client, clock: "TestClock") -> None:
    """An assigned task is held under its worker's lease, and begun by the worker's claim."""
    await connect(timed_client, "w", lease=Duration(seconds=30))
    await create(timed_client, "a")
    task = (await update(timed_client, "a", assignee="w")).task
    assert (task.status, task.worker_id, task.ready) == ("assigned", "w", False)
    assert task.claim_revision == task.revision
    assert task.lease_expire_time == time(clock.now() + 30_000)
    assert not task.HasField("start_time")
    begun = await claim(timed_client, "w", "a")
    assert (begun.status, begun.claim_revision) == ("working", task.claim_revision)
    assert begun.start_time == time(clock.now())


async def test_an_assignment_is_taken_back(client: Client) -> None:
    """An empty assignee frees an assigned task; freeing a free one changes nothing."""
    await task_in(client, "assigned")
    freed = await update(client, "a", assignee="")
    assert (freed.task.status, freed.task.worker_id, freed.task.ready) == ("pending", "", True)
    assert (await update(client, "a", assignee="")).revision == freed.revision


@pytest.mark.parametrize("status", ["assigned", "working"])
async def test_another_worker_cannot_take_an_assignment_back(client: Client, status: str) -> None:
    """Only the holder, or a person, frees a task that a worker holds."""
    before = await task_in(client, status)
    await connect(client, "other")
    error = await refusal(update(client, "a", assignee="", worker_id="other"))
    assert error.reason == "CLAIM_LOST"
    assert await show(client, "a") == before
    freed = await update(client, "a", assignee="", worker_id="w")
    assert freed.task.status == "pending"


async def test_who_holds_a_task_already_is_its_assignee(client: Client) -> None:
    """Assigning a task to its holder changes nothing; to another worker it is refused."""
    before = await task_in(client, "working")
    await connect(client, "other")
    assert (await update(client, "a", assignee="w")).task == before
    error = await refusal(update(client, "a", assignee="other"))
    assert error.reason == "TASK_CLAIMED"
    assert error.metadata["holder"] == "w"


async def test_an_assignee_must_be_fit(client: Client) -> None:
    """A worker that is unknown, or lacks what the task needs, is not assigned."""
    await connect(client, "w")
    await create(client, "a", needed_tags=["rust"])
    assert (await refusal(update(client, "a", assignee="nobody"))).reason == "WORKER_NOT_FOUND"
    error = await refusal(update(client, "a", assignee="w"))
    assert error.reason == "TAGS_MISSING"
    assert subjects(error) == ["rust"]


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_a_task_that_ended_is_not_assigned(client: Client, status: str) -> None:
    """An assignment is a move as others are: from an end it is no exit."""
    await task_in(client, status)
    error = await refusal(update(client, "a", assignee="w"))
    assert error.reason == "ILLEGAL_TRANSITION"


async def test_an_assigned_task_waits_for_its_blockers(client: Client) -> None:
    """A blocked task can be assigned, but not put to work before its blockers have ended."""
    await connect(client, "w")
    await create(client, "blocker")
    await create(client, "a", blocked_by=["blocker"])
    await update(client, "a", assignee="w")
    error = await refusal(update(client, "a", worker_id="w", status="working"))
    assert error.reason == "DEPENDENCIES_UNMET"
    assert subjects(error) == ["blocker"]
    await update(client, "blocker", status="cancelled")
    assert (await update(client, "a", worker_id="w", status="working")).task.status == "working"


async def test_an_assignment_comes_without_a_status(client: Client) -> None:
    """An assignment moves the task by itself, so a status beside it is refused."""
    await connect(client, "w")
    await create(client, "a")
    error = await refusal(update(client, "a", assignee="w", status="cancelled"))
    assert error.field_violations[0].field == "assignee"
