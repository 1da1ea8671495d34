"""Pause and Resume of a task and all below it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    duration,
    event,
    events,
    fail,
    pause,
    refusal,
    release,
    resume,
    show,
    status,
    update,
)
from tests.work_streams import working

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

    StartServer: TypeAlias = Callable[..., AbstractAsyncContextManager[Server]]

CONTAINS = v1.DEPENDENCY_TYPE_CONTAINS


async def plant(client: Client) -> None:
    """A tree: top over left (with leaf, and last behind leaf) and right; and lone beside it."""
    left = v1.TaskNode(
        id="left",
        title="x",
        children=[
            v1.TaskNode(id="leaf", title="x"),
            v1.TaskNode(id="last", title="x", blocked_by=["leaf"]),
        ],
    )
    root = v1.TaskNode(id="top", title="x", children=[left, v1.TaskNode(id="right", title="x")])
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    await create(client, "lone")
    await connect(client, "w", max_claims=9)


async def adopt(client: Client, parent: str, child: str) -> int:
    """Put a task below another one; the revision."""
    request = v1.LinkTasksRequest(from_task_id=parent, to_task_id=child, type=CONTAINS)
    return (await client.tasks.LinkTasks(request)).revision


async def orphan(client: Client, parent: str, child: str) -> int:
    """Take a task out from below its parent; the revision."""
    request = v1.UnlinkTasksRequest(from_task_id=parent, to_task_id=child, type=CONTAINS)
    return (await client.tasks.UnlinkTasks(request)).revision


async def ready(client: Client) -> set[str]:
    """The tasks that are listed as ready; as many as GetStatus counts."""
    answer = await client.tasks.ListTasks(v1.ListTasksRequest(ready=True))
    assert (await status(client)).ready_tasks == len(answer.tasks)
    assert all(task.ready for task in answer.tasks)
    return {task.id for task in answer.tasks}


async def turned(client: Client, revision: int) -> set[tuple[str, str]]:
    """The events of a revision, in whatever order."""
    return {(name, task) for name, task, _ in await events(client, revision, revision)}


# What is paused


async def test_pause_turns_what_was_ready(client: Client) -> None:
    """Ready tasks of the subtree are ready no more, told in the revision of the pause."""
    await plant(client)
    assert await ready(client) == {"leaf", "right", "lone"}
    answer = await pause(client, "top", by="ada", reason="red build")
    assert answer.paused.task_id == "top"
    assert await ready(client) == {"lone"}
    assert await turned(client, answer.revision) == {
        ("PAUSED", "top"),
        ("TASK_BLOCKED", "leaf"),
        ("TASK_BLOCKED", "right"),
    }
    told = await event(client, v1.EVENT_TYPE_PAUSED, "top")
    assert told.reason == "red build"
    assert (await show(client, "leaf")).revision == answer.revision
    assert (await show(client, "last")).revision < answer.revision, "it was not ready before"


async def test_resume_turns_it_back(timed_client: Client, clock: "TestClock") -> None:
    """What is ready by the resume is told in its revision, and has been ready since then."""
    await plant(timed_client)
    await pause(timed_client, "top")
    clock.advance(5_000)
    revision = await resume(timed_client, "top", by="ada", reason="green")
    assert await ready(timed_client) == {"leaf", "right", "lone"}
    assert await turned(timed_client, revision) == {
        ("RESUMED", "top"),
        ("TASK_READY", "leaf"),
        ("TASK_READY", "right"),
    }
    assert (await show(timed_client, "leaf")).ready_time.ToMilliseconds() == clock.now()
    assert (await event(timed_client, v1.EVENT_TYPE_RESUMED, "top")).reason == "green"


async def test_a_single_task_is_a_subtree(client: Client) -> None:
    """A task without children is paused alone; what it blocks waits as before."""
    await plant(client)
    await pause(client, "leaf")
    assert await ready(client) == {"right", "lone"}
    await resume(client, "leaf")
    assert await ready(client) == {"leaf", "right", "lone"}


async def test_claims_by_name_are_refused(client: Client) -> None:
    """The refusal names the task that is paused, who paused it and why."""
    await plant(client)
    await pause(client, "top", by="ada", reason="red build")
    error = await refusal(claim(client, "w", "leaf"))
    assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "PAUSED")
    assert [violation.subject for violation in error.violations] == ["top"]
    for word in ("'top'", "ada", "red build"):
        assert word in error.message
    assert (await claim(client, "w", "lone")).status == "working"


async def test_next_passes_it_over(client: Client) -> None:
    """ClaimNextTask gives nothing of a paused subtree, and all is not done for it."""
    await plant(client)
    await update(client, "leaf", priority=10)
    await pause(client, "top")
    answer = await claim_next(client, "w", max_tasks=9)
    assert [task.id for task in answer.tasks] == ["lone"]
    assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_NONE_READY
    below = await claim_next(client, "w", parent_id="top")
    assert below.outcome == v1.CLAIM_OUTCOME_NONE_READY


async def test_assigned_task_is_not_begun(client: Client) -> None:
    """A worker may be assigned a paused task, and begins it after the resume."""
    await plant(client)
    await update(client, "leaf", assignee="w")
    await pause(client, "top")
    await update(client, "right", assignee="w")
    for task in ("leaf", "right"):
        assert (await refusal(claim(client, "w", task))).reason == "PAUSED"
        begin = update(client, task, worker_id="w", status="working")
        assert (await refusal(begin)).reason == "PAUSED"
    await resume(client, "top")
    assert (await claim(client, "w", "leaf")).status == "working"


async def test_what_is_held_is_finished(timed_client: Client, clock: "TestClock") -> None:
    """Workers complete, fail and release what they hold; what goes back is not ready."""
    await plant(timed_client)
    for id in ("leaf", "right"):
        await claim(timed_client, "w", id)
    revision = (await pause(timed_client, "top")).revision
    assert await turned(timed_client, revision) == {("PAUSED", "top")}
    released = await release(timed_client, "w", "right")
    assert (released.status, released.ready) == ("pending", False)
    assert (await complete(timed_client, "w", "leaf")).status == "completed"
    assert not (await show(timed_client, "last")).ready
    await resume(timed_client, "top")
    assert await ready(timed_client) == {"last", "right", "lone"}
    await claim(timed_client, "w", "last", lease=duration(5_000))
    await pause(timed_client, "top")
    failed = await fail(timed_client, "w", "last", retry=True)
    assert (failed.status, failed.ready, failed.attempts) == ("pending", False, 1)


async def test_leases_end_in_it(timed_client: Client, clock: "TestClock") -> None:
    """A pause stops no lease: a dead worker's task goes back, and is not ready."""
    await plant(timed_client)
    await claim(timed_client, "w", "leaf", lease=duration(5_000))
    await pause(timed_client, "top")
    clock.advance(5_000)
    task = (await event(timed_client, v1.EVENT_TYPE_TASK_LEASE_EXPIRED, "leaf")).task
    assert (task.status, task.ready) == ("pending", False)


async def test_parents_roll_up(client: Client) -> None:
    """A paused parent completes with its last child, and so on upwards."""
    await plant(client)
    await claim(client, "w", "leaf")
    await pause(client, "top")
    await pause(client, "left")
    await complete(client, "w", "leaf")
    await update(client, "last", status="cancelled")
    assert (await show(client, "left")).status == "completed"
    await update(client, "right", status="cancelled")
    assert (await show(client, "top")).status == "completed"


async def test_blockers_go_on_counting(client: Client) -> None:
    """What ends outside frees a paused task only with the resume, and is told but then."""
    await plant(client)
    await create(client, "waits", parent_id="top", blocked_by=["lone"])
    await pause(client, "top")
    done = (await complete_by_name(client, "lone")).revision
    assert await turned(client, done) == {("TASK_COMPLETED", "lone")}
    revision = await resume(client, "top")
    assert ("TASK_READY", "waits") in await turned(client, revision)


async def test_not_before_passes_in_it(timed_client: Client, clock: "TestClock") -> None:
    """A paused task whose not_before passes is ready by the resume, and not before."""
    await plant(timed_client)
    request = v1.CreateTaskRequest(id="later", title="x", parent_id="top")
    request.not_before.FromMilliseconds(clock.now() + 5_000)
    created = (await timed_client.tasks.CreateTask(request)).task
    await pause(timed_client, "top")
    assert (await status(timed_client)).delayed_tasks == 0, "it waits for more than that"
    clock.advance(5_000)
    told = await event(timed_client, v1.EVENT_TYPE_TASK_UPDATED, "later", created.revision)
    assert (told.task.ready, told.task.HasField("not_before")) == (False, False)
    revision = await resume(timed_client, "top")
    assert ("TASK_READY", "later") in await turned(timed_client, revision)


async def complete_by_name(client: Client, task: str) -> v1.Task:
    """Claim a task and complete it."""
    await claim(client, "w", task)
    return await complete(client, "w", task)


# Pauses above and below each other


@pytest.mark.parametrize("first", ["top", "left"])
async def test_pauses_add_up(client: Client, first: str) -> None:
    """Each of two pauses, one above the other, is resumed for itself, in either order."""
    second = "left" if first == "top" else "top"
    await plant(client)
    await pause(client, "top", by="ada")
    revision = (await pause(client, "left", by="bob")).revision
    assert await turned(client, revision) == {("PAUSED", "left")}
    error = await refusal(claim(client, "w", "leaf"))
    assert ([violation.subject for violation in error.violations], "bob" in error.message) == (
        ["left"],
        True,
    )
    await resume(client, first)
    assert await ready(client) == ({"right", "lone"} if first == "top" else {"lone"})
    assert (await refusal(claim(client, "w", "leaf"))).reason == "PAUSED"
    await resume(client, second)
    assert await ready(client) == {"leaf", "right", "lone"}


async def test_pausing_again_takes_over(timed_client: Client, clock: "TestClock") -> None:
    """Pausing what is paused takes over who and why, and needs no second resume."""
    await plant(timed_client)
    await pause(timed_client, "top", by="ada", reason="one")
    clock.advance(1_000)
    answer = await pause(timed_client, "top", by="bob", reason="two")
    assert await turned(timed_client, answer.revision) == {("PAUSED", "top")}
    [paused] = (await status(timed_client)).paused_subtrees
    assert (paused.by, paused.reason) == ("bob", "two")
    assert paused.time.ToMilliseconds() == clock.now()
    await resume(timed_client, "top")
    assert await ready(timed_client) == {"leaf", "right", "lone"}


async def test_resuming_what_is_not_paused(client: Client) -> None:
    """Resuming a task that is not paused itself changes nothing, though one above it be."""
    await plant(client)
    revision = (await pause(client, "top")).revision
    assert await resume(client, "leaf") == revision
    assert await resume(client, "lone") == revision
    assert await ready(client) == {"lone"}


async def test_pause_of_everything_is_another(client: Client) -> None:
    """To resume everything leaves paused subtrees paused, and the other way round."""
    await plant(client)
    await pause(client, "top")
    await pause(client, by="eve")
    assert (await refusal(claim(client, "w", "lone"))).reason == "PAUSED"
    await resume(client)
    assert await ready(client) == {"lone"}
    await pause(client, by="eve")
    await resume(client, "top")
    now = await status(client)
    assert now.paused.by == "eve"
    assert not now.paused_subtrees
    assert (await claim_next(client, "w")).outcome == v1.CLAIM_OUTCOME_PAUSED


async def test_whom_it_concerns(client: Client) -> None:
    """A task that there is not, or is deleted, is not paused."""
    await plant(client)
    assert (await refusal(pause(client, "nowhere"))).reason == "TASK_NOT_FOUND"
    assert (await refusal(resume(client, "nowhere"))).reason == "TASK_NOT_FOUND"
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="lone"))
    assert (await refusal(pause(client, "lone"))).reason == "TASK_DELETED"


# What comes in, and what goes


async def test_new_tasks_are_paused(client: Client) -> None:
    """A task that is created in a paused subtree, alone or with a tree, is not ready."""
    await plant(client)
    await pause(client, "top")
    assert not (await create(client, "new", parent_id="left")).ready
    root = v1.TaskNode(id="grown", title="x", children=[v1.TaskNode(id="twig", title="x")])
    request = v1.CreateTaskTreeRequest(root=root, parent_id="new")
    assert not any(task.ready for task in (await client.tasks.CreateTaskTree(request)).tasks)
    revision = await resume(client, "top")
    assert ("TASK_READY", "twig") in await turned(client, revision)
    assert await ready(client) == {"leaf", "right", "lone", "twig"}


async def test_moving_in_and_out(client: Client) -> None:
    """What is linked into a paused subtree is paused with all below it, until it is unlinked."""
    await plant(client)
    await create(client, "under", parent_id="lone")
    await pause(client, "top")
    assert await ready(client) == {"under"}
    revision = await adopt(client, "right", "lone")
    assert ("TASK_BLOCKED", "under") in await turned(client, revision)
    assert await ready(client) == set()
    assert (await refusal(claim(client, "w", "under"))).reason == "PAUSED"
    revision = await orphan(client, "right", "lone")
    assert ("TASK_READY", "under") in await turned(client, revision)
    assert "under" in await ready(client)
    revision = await orphan(client, "top", "left")
    assert ("TASK_READY", "leaf") in await turned(client, revision)
    await claim(client, "w", "leaf")


async def test_moving_with_a_pause_of_its_own(client: Client) -> None:
    """A paused task takes its own pause along, and leaves those above behind."""
    await plant(client)
    await pause(client, "top")
    await pause(client, "left")
    await orphan(client, "top", "left")
    assert "leaf" not in await ready(client)
    await resume(client, "top")
    assert "leaf" not in await ready(client)
    await resume(client, "left")
    assert "leaf" in await ready(client)
    await pause(client, "left")
    await pause(client, "top")
    await adopt(client, "top", "left")
    await resume(client, "left")
    assert await ready(client) == {"lone"}
    await resume(client, "top")
    assert await ready(client) == {"leaf", "right", "lone"}


async def test_reopened_in_it(client: Client) -> None:
    """A task that is reopened in a paused subtree is not ready before the resume."""
    await plant(client)
    await complete_by_name(client, "right")
    await pause(client, "top")
    assert not (await update(client, "right", status="pending")).ready
    await resume(client, "top")
    assert "right" in await ready(client)


# Beyond


async def test_over_a_restart(start_server: "StartServer") -> None:
    """A paused subtree is paused after a restart, with who and why, and can be resumed."""
    async with start_server() as server, Client(server.address) as client:
        await plant(client)
        before = (await pause(client, "left", by="ada", reason="red build")).paused
    async with start_server() as server, Client(server.address) as client:
        assert list((await status(client)).paused_subtrees) == [before]
        assert await ready(client) == {"right", "lone"}
        assert not (await create(client, "new", parent_id="leaf")).ready
        await resume(client, "left")
        assert await ready(client) == {"new", "right", "lone"}


async def test_status_lists_them(timed_client: Client, clock: "TestClock") -> None:
    """GetStatus lists each paused subtree: which, who, why and since when."""
    await plant(timed_client)
    await pause(timed_client, "right", by="bob")
    clock.advance(1_000)
    answer = await pause(timed_client, "left", by="ada", reason="red build")
    left, right = (await status(timed_client)).paused_subtrees
    assert left == answer.paused
    assert (left.task_id, left.by, left.reason) == ("left", "ada", "red build")
    assert left.time.ToMilliseconds() == clock.now()
    assert (right.task_id, right.by, right.reason) == ("right", "bob", "")
    assert not (await status(timed_client)).HasField("paused")


@pytest.mark.parametrize("scope", ["", "top"])
async def test_resume_wakes_who_waits(client: Client, scope: str) -> None:
    """By a resume each task goes to one who waits, by stream or call; who waits longest first."""
    await plant(client)
    await connect(client, "other", "third")
    await pause(client, "top")
    await update(client, "lone", needed_tags=v1.Tags(values=["nobody-has-this"]))
    async with (
        working(client, "w", credit=1, parent_id=scope) as first,
        working(client, "other", credit=1, parent_id=scope) as second,
        working(client, "third", credit=1, parent_id=scope) as third,
    ):
        for stream in (first, second, third):
            assert await stream.waiting() == v1.CLAIM_OUTCOME_NONE_READY
        revision = await resume(client, "top")
        assert await first.assigned() == ["leaf"]
        assert await second.assigned() == ["right"]
        await third.quiet()
        claimed = {(await show(client, id)).revision for id in ("leaf", "right")}
        assert claimed == {revision + 1, revision + 2}


async def test_snapshots_leave_pauses_behind(
    start_server: "StartServer", timed_client: Client, tmp_path: Any
) -> None:
    """An export does not tell of pauses, and what it restores is paused nowhere."""
    await plant(timed_client)
    await pause(timed_client, "top")
    answers = timed_client.admin.ExportSnapshot(v1.ExportSnapshotRequest())
    snapshot = b"".join([answer.chunk async for answer in answers])
    async with (
        start_server(db=tmp_path / "restored.db") as server,
        Client(server.address) as restored,
    ):
        options = v1.ImportOptions(mode=v1.IMPORT_MODE_RESTORE)
        messages = [
            v1.ImportSnapshotRequest(options=options),
            v1.ImportSnapshotRequest(chunk=snapshot),
        ]
        await restored.admin.ImportSnapshot(iter(messages))
        assert not (await status(restored)).paused_subtrees
        assert await ready(restored) == {"leaf", "right", "lone"}


async def test_claim_from_before_is_answered_again(client: Client) -> None:
    """A retried claim that was given before the pause is answered as it was."""
    await plant(client)
    given = await claim(client, "w", "leaf", request_id="r1")
    await pause(client, "top")
    assert await claim(client, "w", "leaf", request_id="r1") == given
