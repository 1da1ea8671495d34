"""How advisory claims end: with the task, with a word, with silence."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import ClaimLost, Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import TestClock

ADVISORY = v1.CLAIM_MODE_ADVISORY
LEASE = 60_000
"""Of every worker here, in ms."""
MADE = v1.EVENT_TYPE_ADVISORY_CLAIM_MADE
ENDED = v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED


async def _connect(client: Client, id: str, **fields: Any) -> None:
    asked: dict[str, Any] = {"lease": Duration(seconds=LEASE // 1000), "max_claims": 10} | fields
    await client.workers.Connect(v1.ConnectRequest(worker_id=id, **asked))


async def _create(client: Client, id: str, **fields: Any) -> v1.Task:
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def _advise(client: Client, worker: str, task: str, **fields: Any) -> int:
    """Claim a task by the worker's word alone; the token."""
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task, mode=ADVISORY, **fields)
    claimed = (await client.claims.ClaimTask(request)).task
    [token] = [c.claim_revision for c in claimed.advisory_claims if c.worker_id == worker]
    return token


async def _claim(client: Client, worker: str, task: str) -> v1.Task:
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task)
    return (await client.claims.ClaimTask(request)).task


async def _complete(client: Client, worker: str, task: str, token: int = 0) -> v1.Task:
    request = v1.CompleteTaskRequest(worker_id=worker, task_id=task, claim_revision=token)
    return (await client.claims.CompleteTask(request)).task


async def _fail(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    request = v1.FailTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.FailTask(request)).task


async def _release(client: Client, worker: str, task: str, **fields: Any) -> v1.Task:
    request = v1.ReleaseTaskRequest(worker_id=worker, task_id=task, **fields)
    return (await client.claims.ReleaseTask(request)).task


async def _show(client: Client, task: str) -> v1.Task:
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def _held(client: Client, id: str) -> int:
    answer = await client.workers.ListWorkers(v1.ListWorkersRequest())
    return next(worker.claims_held for worker in answer.workers if worker.id == id)


async def _marked(client: Client) -> list[str]:
    answer = await client.files.ListFileMarks(v1.ListFileMarksRequest())
    return [mark.path for mark in answer.marks]


async def _mark(client: Client, worker: str, task: str, path: str) -> None:
    request = v1.MarkFilesRequest(worker_id=worker, task_id=task, paths=[path])
    await client.files.MarkFiles(request)


async def _told(
    client: Client, since: int, count: int, *types: v1.EventType.ValueType
) -> list[v1.Event]:
    """The first events after a revision, of these types or of any."""
    events: list[v1.Event] = []
    filter_ = v1.WatchFilter(event_types=types)
    async with client.watch(filter_, start_revision=since + 1) as watch:
        async for event in watch.events():
            events.append(event)
            if len(events) == count:
                break
    return events


async def _revision(client: Client) -> int:
    return (await client.admin.GetStatus(v1.GetStatusRequest())).revision


@pytest.fixture
async def shared(timed_client: Client) -> Client:
    """A task on which ``a`` and ``b`` work, each with a file marked for it, and a third worker."""
    await _create(timed_client, "task")
    for worker in ("a", "b", "c"):
        await _connect(timed_client, worker)
    for worker in ("a", "b"):
        await _advise(timed_client, worker, "task")
        await _mark(timed_client, worker, "task", f"{worker}.py")
    return timed_client


# With the task


async def test_the_first_to_complete_ends_it(shared: Client) -> None:
    """One who works on the task completes it as its own; all work on it ends in the same change."""
    since = await _revision(shared)
    done = await _complete(shared, "b", "task")
    assert (done.status, done.worker_id, len(done.advisory_claims)) == ("completed", "b", 0)
    assert done == await _show(shared, "task")
    events = await _told(shared, since, 6)
    assert [(event.type, event.worker_id) for event in events] == [
        (v1.EVENT_TYPE_TASK_CLAIMED, "b"),
        (ENDED, "b"),
        (v1.EVENT_TYPE_TASK_COMPLETED, "b"),
        (v1.EVENT_TYPE_FILE_UNMARKED, "a"),
        (v1.EVENT_TYPE_FILE_UNMARKED, "b"),
        (ENDED, "a"),
    ]
    assert events[-1].task == done
    assert await _revision(shared) == since + 1
    assert [await _held(shared, worker) for worker in ("a", "b")] == [0, 0]


@pytest.mark.parametrize("verb", [_complete, _fail, _release], ids=["complete", "fail", "release"])
async def test_the_others_learn_that_it_has_ended(
    shared: Client, verb: Callable[..., Awaitable[object]]
) -> None:
    """Whoever comes second is told CLAIM_LOST, and nothing is changed."""
    done = await _complete(shared, "b", "task")
    with pytest.raises(ClaimLost) as lost:
        await verb(shared, "a", "task")
    assert lost.value.metadata["status"] == "completed"
    assert await _show(shared, "task") == done


async def test_to_fail_for_good_ends_it(shared: Client) -> None:
    """One who works on the task fails it; nobody works on it any more."""
    failed = await _fail(shared, "a", "task", reason="cannot be done")
    assert (failed.status, failed.worker_id, failed.attempts) == ("failed", "a", 1)
    assert not failed.advisory_claims
    with pytest.raises(ClaimLost):
        await _complete(shared, "b", "task")


async def test_to_fail_with_retry_ends_one_s_own(shared: Client) -> None:
    """A failure that is to be tried again counts, and ends the claim of the one who failed."""
    failed = await _fail(shared, "a", "task", retry=True)
    assert (failed.status, failed.ready, failed.attempts) == ("pending", True, 1)
    assert [claim.worker_id for claim in failed.advisory_claims] == ["b"]
    assert failed == await _show(shared, "task")
    with pytest.raises(ClaimLost):
        await _complete(shared, "a", "task")
    assert (await _complete(shared, "b", "task")).status == "completed"


async def test_what_came_up_meanwhile_does_not_keep_it_from_ending(shared: Client) -> None:
    """A blocker or a pause keeps others from beginning the task, not its workers from ending it."""
    await _create(shared, "blocker")
    await shared.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id="blocker", to_task_id="task"))
    await shared.admin.Pause(v1.PauseRequest())
    blocked = await _show(shared, "task")
    assert (blocked.ready, len(blocked.advisory_claims)) == (False, 2)
    assert (await _complete(shared, "a", "task")).status == "completed"


async def test_open_children_do(shared: Client) -> None:
    """A parent is not completed before its children, and goes on as it was."""
    await _create(shared, "child", parent_id="task")
    before = await _show(shared, "task")
    with pytest.raises(TaskloomError) as refused:
        await _complete(shared, "a", "task")
    assert refused.value.reason == "CHILDREN_OPEN"
    assert await _show(shared, "task") == before


@pytest.mark.parametrize("end", ["cancel", "delete", "roll-up"])
async def test_whatever_ends_the_task_ends_all_work_on_it(shared: Client, end: str) -> None:
    """A task that is cancelled, deleted, or that ends with its last child, has nobody left."""
    if end == "roll-up":
        await _create(shared, "child", parent_id="task")
        await _claim(shared, "c", "child")
    since = await _revision(shared)
    if end == "cancel":
        cancel = v1.UpdateTaskRequest(task_id="task", status="cancelled")
        await shared.tasks.UpdateTask(cancel)
    elif end == "delete":
        await shared.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="task"))
    else:
        await _complete(shared, "c", "child")
    task = await _show(shared, "task")
    assert not task.advisory_claims
    events = await _told(shared, since, 6 if end == "roll-up" else 5)
    assert [event.worker_id for event in events if event.type == ENDED] == ["a", "b"]
    assert [event.task for event in events if event.HasField("task")][-1] == task
    assert not await _marked(shared)
    assert [await _held(shared, worker) for worker in ("a", "b")] == [0, 0]


REVIEWED = """
name: reviewed
states:
  pending: {exits: [working, review, cancelled]}
  working: {exits: [done, failed, pending], timed: true}
  review: {exits: [pending]}
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


async def test_the_workflow_s_rules_do(start_server: Any, tmp_path: Path) -> None:
    """A task that was moved to where no work begins is not completed: no exit leads there."""
    (tmp_path / "reviewed.yaml").write_text(REVIEWED, encoding="utf-8")
    async with (
        start_server(workflow_dir=tmp_path, default_workflow="reviewed") as server,
        Client(server.address) as client,
    ):
        await _create(client, "task")
        await _connect(client, "a")
        await _advise(client, "a", "task")
        await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="task", status="review"))
        with pytest.raises(TaskloomError) as refused:
            await _complete(client, "a", "task")
        assert refused.value.reason == "ILLEGAL_TRANSITION"


# With another claim


async def test_who_took_it_alone_ends_it(shared: Client) -> None:
    """Once another holds the task exclusively, those who work on it learn that it is lost."""
    held = await _claim(shared, "c", "task")
    for verb in (_complete, _fail):
        with pytest.raises(ClaimLost) as lost:
            await verb(shared, "a", "task")
        assert lost.value.metadata["holder"] == "c"
    assert await _show(shared, "task") == held
    assert await _marked(shared) == ["a.py", "b.py"]
    assert (await _complete(shared, "c", "task")).status == "completed"


async def test_when_who_took_it_lets_go_the_others_go_on(shared: Client) -> None:
    """An advisory claim outlasts the exclusive one, and may end the task after it."""
    await _claim(shared, "c", "task")
    released = await _release(shared, "c", "task")
    assert [claim.worker_id for claim in released.advisory_claims] == ["a", "b"]
    assert (await _complete(shared, "a", "task")).worker_id == "a"


async def test_it_can_be_let_go_beside_an_exclusive_claim(shared: Client) -> None:
    """A worker lets go of a task that another holds, so that its hands are free."""
    held = await _claim(shared, "c", "task")
    after = await _release(shared, "a", "task")
    assert (after.worker_id, after.claim_revision) == ("c", held.claim_revision)
    assert [claim.worker_id for claim in after.advisory_claims] == ["b"]
    assert await _held(shared, "a") == 0


@pytest.mark.parametrize("how", ["release", "disconnect", "fail"])
async def test_marks_stay_with_those_who_work_on(shared: Client, how: str) -> None:
    """Who held the task gives it back; the marks of those who still work on it stay."""
    await _claim(shared, "c", "task")
    await _mark(shared, "c", "task", "c.py")
    if how == "release":
        await _release(shared, "c", "task")
    elif how == "disconnect":
        await shared.workers.Disconnect(v1.DisconnectRequest(worker_id="c"))
    else:
        await _fail(shared, "c", "task", retry=True)
    assert await _marked(shared) == ["a.py", "b.py"]


async def test_one_s_own_exclusive_claim_takes_its_place(
    shared: Client, clock: "TestClock"
) -> None:
    """Who takes alone what it works on has one claim, a new one, and keeps its marks."""
    old = await _advise(shared, "a", "task")
    since = await _revision(shared)
    taken = await _claim(shared, "a", "task")
    assert (taken.status, taken.worker_id) == ("working", "a")
    assert taken.claim_revision == taken.revision == since + 1
    assert [claim.worker_id for claim in taken.advisory_claims] == ["b"]
    assert taken == await _show(shared, "task")
    events = await _told(shared, since, 2)
    assert [(event.type, event.worker_id) for event in events] == [
        (v1.EVENT_TYPE_TASK_CLAIMED, "a"),
        (ENDED, "a"),
    ]
    assert await _marked(shared) == ["a.py", "b.py"]
    assert await _held(shared, "a") == 1
    with pytest.raises(ClaimLost):
        await _complete(shared, "a", "task", old)
    assert (await _complete(shared, "a", "task", taken.claim_revision)).status == "completed"


async def test_to_take_over_needs_no_more_room(timed_client: Client) -> None:
    """A worker whose hands are full with its advisory claim may take that very task alone."""
    for id in ("task", "other"):
        await _create(timed_client, id)
    await _connect(timed_client, "a", max_claims=1)
    await _advise(timed_client, "a", "task")
    with pytest.raises(TaskloomError) as refused:
        await _claim(timed_client, "a", "other")
    assert refused.value.reason == "CLAIM_LIMIT"
    assert (await _claim(timed_client, "a", "task")).worker_id == "a"


async def test_an_assignment_takes_its_place(shared: Client) -> None:
    """A task that is assigned to one who works on it is held by it once."""
    request = v1.UpdateTaskRequest(task_id="task", assignee="a")
    task = (await shared.tasks.UpdateTask(request)).task
    assert task.status == "assigned"
    assert [claim.worker_id for claim in (await _show(shared, "task")).advisory_claims] == ["b"]
    assert await _held(shared, "a") == 1
    assert (await _claim(shared, "a", "task")).status == "working"


# With a word


async def test_release_ends_one_s_own(shared: Client) -> None:
    """Who lets go works on it no more, without an attempt; the others, and the task, stay."""
    before = await _show(shared, "task")
    since = await _revision(shared)
    after = await _release(shared, "a", "task", reason="something better")
    assert [claim.worker_id for claim in after.advisory_claims] == ["b"]
    assert (after.status, after.ready, after.attempts) == ("pending", True, 0)
    assert after.ready_time == before.ready_time
    assert after == await _show(shared, "task")
    events = await _told(shared, since, 2)
    assert [event.type for event in events] == [ENDED, v1.EVENT_TYPE_FILE_UNMARKED]
    assert (events[0].worker_id, events[0].reason) == ("a", "something better")
    assert events[0].task == after
    assert await _marked(shared) == ["b.py"]
    history = v1.ListTransitionsRequest(task_id="task")
    assert len((await shared.tasks.ListTransitions(history)).transitions) == 1


async def test_disconnect_ends_all_of_a_worker(shared: Client) -> None:
    """A worker that leaves works on nothing any more; it gives back no task by that."""
    await _create(shared, "other")
    await _advise(shared, "a", "other")
    request = v1.DisconnectRequest(worker_id="a", reason="shift is over")
    answer = await shared.workers.Disconnect(request)
    assert not answer.released_task_ids
    assert not (await _show(shared, "other")).advisory_claims
    [left] = (await _show(shared, "task")).advisory_claims
    assert left.worker_id == "b"
    assert await _marked(shared) == ["b.py"]
    await _connect(shared, "a")
    assert await _held(shared, "a") == 0


# With silence


async def test_silence_ends_it_at_its_time(timed_client: Client, clock: "TestClock") -> None:
    """A worker without a sign of life works on it no more when its lease ends, at the ms."""
    await _create(timed_client, "task")
    for worker in ("early", "late"):
        await _connect(timed_client, worker)
    await _advise(timed_client, "early", "task")
    await _mark(timed_client, "early", "task", "early.py")
    clock.advance(1)
    await _advise(timed_client, "late", "task")
    since = await _revision(timed_client)
    clock.advance(LEASE - 1)
    first, unmarked = await _told(timed_client, since, 2)
    assert (first.type, first.worker_id, first.task_id) == (ENDED, "early", "task")
    assert first.time.ToMilliseconds() == clock.now()
    assert "'early'" in first.reason
    assert (first.task.ready, first.task.status, first.task.attempts) == (True, "pending", 0)
    assert unmarked.type == v1.EVENT_TYPE_FILE_UNMARKED
    assert [claim.worker_id for claim in first.task.advisory_claims] == ["late"]
    assert await _show(timed_client, "task") == first.task, "the later lease has 1 ms left"
    clock.advance(1)
    [second] = await _told(timed_client, since + 1, 1)
    assert (second.type, second.worker_id) == (ENDED, "late")
    assert second.time.ToMilliseconds() == clock.now()
    with pytest.raises(ClaimLost):
        await _complete(timed_client, "early", "task")


SIGNS_OF_LIFE: dict[str, Callable[[Client], Awaitable[object]]] = {
    "heartbeat": lambda c: c.workers.Heartbeat(v1.HeartbeatRequest(worker_id="a")),
    "claim-again": lambda c: _advise(c, "a", "task"),
    "claim-of-another": lambda c: _claim(c, "a", "other"),
    "claim-next": lambda c: c.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="a")),
    "signal": lambda c: c.tasks.SignalTask(v1.SignalTaskRequest(worker_id="a", task_id="task")),
    "mark": lambda c: _mark(c, "a", "task", "a.py"),
}


@pytest.mark.parametrize("sign", SIGNS_OF_LIFE.values(), ids=list(SIGNS_OF_LIFE))
async def test_any_sign_of_life_renews_it(
    timed_client: Client, clock: "TestClock", sign: Callable[[Client], Awaitable[object]]
) -> None:
    """Whatever the worker does renews its advisory claims, for their own lease."""
    await _create(timed_client, "task", needed_tags=["x"])
    await _create(timed_client, "other", needed_tags=["x"])
    for worker in ("a", "silent"):
        await _connect(timed_client, worker, tags=["x"])
        await _advise(timed_client, worker, "task")
    clock.advance(LEASE - 1)
    await sign(timed_client)
    since = await _revision(timed_client)
    clock.advance(1)
    [first] = await _told(timed_client, since, 1)
    assert (first.type, first.worker_id) == (ENDED, "silent")
    clock.advance(LEASE - 2)
    assert [c.worker_id for c in (await _show(timed_client, "task")).advisory_claims] == ["a"]
    clock.advance(1)
    [second] = await _told(timed_client, since + 1, 1, ENDED)
    assert second.worker_id == "a"
    assert second.time.ToMilliseconds() == clock.now()


async def test_a_heartbeat_tells_how_long_it_lasts(
    timed_client: Client, clock: "TestClock"
) -> None:
    """The time until which all claims of the worker last is that of the shortest, of any mode."""
    for id in ("task", "held"):
        await _create(timed_client, id)
    await _connect(timed_client, "a")
    await _advise(timed_client, "a", "task", lease=Duration(seconds=5))
    await _claim(timed_client, "a", "held")
    alive = await timed_client.workers.Heartbeat(v1.HeartbeatRequest(worker_id="a"))
    assert alive.lease_expire_time.ToMilliseconds() == clock.now() + 5_000


# The token


TOKEN_VERBS: dict[str, Callable[[Client, dict[str, Any]], Awaitable[object]]] = {
    "Attach": lambda c, claim: c.attachments.Attach(v1.AttachRequest(**claim, type="note")),
    "MarkFiles": lambda c, claim: c.files.MarkFiles(v1.MarkFilesRequest(**claim, paths=["new.py"])),
    "LogMetrics": lambda c, claim: c.tasks.LogMetrics(
        v1.LogMetricsRequest(**claim, metrics=v1.Metrics(tokens_in=1))
    ),
    "UpdateTask": lambda c, claim: c.tasks.UpdateTask(v1.UpdateTaskRequest(**claim, title="new")),
    "SignalTask": lambda c, claim: c.tasks.SignalTask(v1.SignalTaskRequest(**claim)),
    "ReleaseTask": lambda c, claim: c.claims.ReleaseTask(v1.ReleaseTaskRequest(**claim)),
    "FailTask": lambda c, claim: c.claims.FailTask(v1.FailTaskRequest(**claim)),
    "CompleteTask": lambda c, claim: c.claims.CompleteTask(v1.CompleteTaskRequest(**claim)),
}


@pytest.mark.parametrize("verb", TOKEN_VERBS.values(), ids=list(TOKEN_VERBS))
async def test_the_token_is_checked_on_every_verb(
    shared: Client, verb: Callable[[Client, dict[str, Any]], Awaitable[object]]
) -> None:
    """The token of an advisory claim is good for its worker until the claim ends.

    Another's token, or one of an earlier claim by the same worker, is refused and changes nothing.
    """
    old = await _advise(shared, "a", "task")
    await _release(shared, "a", "task")
    token = await _advise(shared, "a", "task")
    other = await _advise(shared, "b", "task")
    assert old < token
    before = await _show(shared, "task")
    for wrong in (old, other, token + 1_000):
        claim = {"worker_id": "a", "task_id": "task", "claim_revision": wrong}
        with pytest.raises(ClaimLost):
            await verb(shared, claim)
    assert await _show(shared, "task") == before
    await verb(shared, {"worker_id": "a", "task_id": "task", "claim_revision": token})


async def test_the_token_is_checked_when_a_note_is_removed(shared: Client) -> None:
    """Detach goes by the token, too."""
    token = await _advise(shared, "a", "task")
    about: dict[str, Any] = {"worker_id": "a", "task_id": "task", "type": "note"}
    await shared.attachments.Attach(v1.AttachRequest(**about))
    wrong = v1.DetachRequest(**about, sequence=0, claim_revision=token + 1_000)
    with pytest.raises(ClaimLost):
        await shared.attachments.Detach(wrong)
    right = v1.DetachRequest(**about, sequence=0, claim_revision=token)
    await shared.attachments.Detach(right)
