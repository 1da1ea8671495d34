"""The checker of the robustness suite: no fault in a true history, and each kind in a false one.

Each test tells a true story, makes one thing of it untrue, and expects to be told of just that.
"""

from dataclasses import replace
from typing import Any

import apsw
import pytest
from taskloom import v1

from tests.robustness import account
from tests.robustness.checker import check
from tests.robustness.history import Violation
from tests.robustness.recording import Call
from tests.robustness.rules import read_rules
from tests.robustness.story import Story
from tests.robustness.watchers import digest_of


@pytest.fixture
def story() -> Story:
    """Two workers, and two tasks that are ready."""
    told = Story()
    told.connect("ann")
    told.connect("bob")
    told.create("t1")
    told.create("t2")
    return told


def promises(violations: list[Violation]) -> set[str]:
    """Which promises were broken."""
    return {violation.promise for violation in violations}


def test_true_history_is_accepted(story: Story) -> None:
    """Claims, completions, a lease that ran out, late work and watches, all as they ought to be."""
    claim = story.claim("ann", "t1")
    story.complete("ann", "t1", claim)
    story.claim_next("bob", "t2")
    late = story.revision
    story.wait(1_000)
    story.expire("t2")
    story.complete("bob", "t2", late)
    story.found_nothing("ann", v1.CLAIM_OUTCOME_ALL_DONE)
    story.watch(1, story.revision)
    story.watch(3, 5)
    assert story.judge() == []


def test_second_holder(story: Story) -> None:
    """A task that is given to one worker while another holds it."""
    story.claim("ann", "t1")
    story.happen(story.claimed("bob", "t1"))
    assert "exclusive" in promises(story.judge())


def test_claim_of_blocked_task(story: Story) -> None:
    """A task that is given away although another blocks it."""
    edge = v1.Dependency(from_task_id="t2", to_task_id="t1", type=v1.DEPENDENCY_TYPE_BLOCKS)
    story.happen(
        story.event(v1.EVENT_TYPE_DEPENDENCY_ADDED, dependency=edge),
        story.moved(v1.EVENT_TYPE_TASK_BLOCKED, "t1", ready=False),
    )
    assert story.judge() == []
    story.claim("ann", "t1")
    assert promises(story.judge()) == {"admission"}


def test_claim_while_paused(story: Story) -> None:
    """A task that is given away while claims are paused."""
    story.happen(story.event(v1.EVENT_TYPE_PAUSED))
    story.claim("ann", "t1")
    assert promises(story.judge()) == {"admission"}


def test_claim_beyond_the_limit(story: Story) -> None:
    """A worker that is given more tasks than it may hold."""
    story.claim("ann", "t1")
    story.claim("ann", "t2")
    assert promises(story.judge()) == {"admission"}


def test_not_the_best(story: Story) -> None:
    """A worker that is given another task than the first of the best."""
    story.claim_next("ann", "t2")
    assert promises(story.judge()) == {"best first"}


def test_left_waiting_beside_a_ready_task(story: Story) -> None:
    """A worker that is told that nothing is ready when something is."""
    story.found_nothing("ann", v1.CLAIM_OUTCOME_NONE_READY)
    assert promises(story.judge()) == {"best first"}


@pytest.mark.parametrize(
    ("begun", "status"),
    [(False, "completed"), (False, "failed"), (True, "cancelled"), (True, "assigned")],
)
def test_forbidden_transition(story: Story, begun: bool, status: str) -> None:
    """A task that moves where its workflow does not let it."""
    if begun:
        story.claim("ann", "t1")
    moved = story.moved(
        v1.EVENT_TYPE_TASK_MOVED, "t1", status=status, claim_revision=0, ready=False
    )
    story.happen(moved)
    assert promises(story.judge()) == {"transitions"}


def test_change_of_status_by_an_event_that_says_nothing_of_it(story: Story) -> None:
    """A task whose status changes with an event of another kind."""
    story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1", status="cancelled", ready=False))
    assert promises(story.judge()) == {"transitions"}


def test_attempt_that_is_not_counted(story: Story) -> None:
    """A lease that ran out without an attempt counted."""
    story.claim("ann", "t1")
    story.wait(1_000)
    story.expire("t1")
    assert story.judge() == []
    message = v1.WatchTasksResponse.FromString(story.messages[-1][1])
    message.events.events[0].task.attempts = 0
    story.messages[-1] = story.revision, message.SerializeToString()
    assert promises(story.judge()) == {"attempts"}


def test_task_that_is_ready_against_the_graph(story: Story) -> None:
    """A dependency that leaves the task it blocks ready."""
    edge = v1.Dependency(from_task_id="t2", to_task_id="t1", type=v1.DEPENDENCY_TYPE_FOLLOWS)
    story.happen(story.event(v1.EVENT_TYPE_DEPENDENCY_ADDED, dependency=edge))
    assert promises(story.judge()) == {"readiness"}


def test_claim_below_a_pause(story: Story) -> None:
    """A task that is given away, and shown as ready, although its subtree is paused."""
    story.happen(v1.Event(type=v1.EVENT_TYPE_PAUSED, task_id="t1"))
    story.claim("ann", "t1")
    assert promises(story.judge()) == {"admission", "readiness"}


def test_task_on_which_somebody_works_is_given_before_others(story: Story) -> None:
    """A worker that is given a task with an advisory claim on it, where there is one without."""
    story.share("bob", "t1")
    assert story.judge() == []
    story.claim_next("ann", "t1")
    assert promises(story.judge()) == {"best first"}


def test_not_the_hottest(story: Story) -> None:
    """A worker that asks for the hottest task, and is given another."""
    story.happen(story.moved(v1.EVENT_TYPE_TASK_SIGNALED, "t2", temperature=0.9))
    call = story.claim_next("ann", "t1")
    call.request = v1.ClaimNextTaskRequest(
        worker_id="ann", order_by=v1.ORDER_BY_TEMPERATURE
    ).SerializeToString()
    assert promises(story.judge()) == {"best first"}


def _waits(story: Story, worker: str) -> Call:
    """A worker asks for a task, and stands in line as a later call of his is answered."""
    asked = story.now
    story.wait(100)
    metrics = v1.Metrics(tokens_in=1)
    event = story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1")
    event.task.metrics.MergeFrom(v1.Metrics(tokens_in=event.task.metrics.tokens_in + 1))
    revision = story.happen(event)
    story.wait(100)
    story.call(
        "LogMetrics",
        v1.LogMetricsRequest(worker_id=worker, task_id="t1", metrics=metrics),
        v1.LogMetricsResponse(metrics=event.task.metrics, revision=revision),
    )
    call = story.found_nothing(worker, v1.CLAIM_OUTCOME_ALL_DONE)
    call.attempts[0] = replace(call.attempts[0], start=asked, end=story.now + 60_000)
    return call


def _is_told_that_there_is_nothing(story: Story, call: Call) -> None:
    """He who waited is answered only now."""
    outcome = v1.CLAIM_OUTCOME_ALL_DONE
    story.answer(call, v1.ClaimNextTaskResponse(outcome=outcome, revision=story.revision))


def test_task_for_who_came_later(story: Story) -> None:
    """A task that is given to one worker while another waits for such a one, longer than he."""
    for task_id in ("t1", "t2"):
        story.complete("ann", task_id, story.claim("ann", task_id))
    wait = _waits(story, "ann")
    story.wait(100)
    story.create("t3")
    claim = story.claim_next("bob", "t3").answer.revision
    story.complete("bob", "t3", claim)
    _is_told_that_there_is_nothing(story, wait)
    assert promises(story.judge()) == {"waiting"}


def test_task_that_is_ready_beside_who_waits(story: Story) -> None:
    """A task that stays ready while a worker waits for such a one."""
    for task_id in ("t1", "t2"):
        story.complete("ann", task_id, story.claim("ann", task_id))
    wait = _waits(story, "ann")
    story.create("t3")
    for _ in range(120):
        story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t2"))
    story.complete("bob", "t3", story.claim("bob", "t3"))
    _is_told_that_there_is_nothing(story, wait)
    assert promises(story.judge()) == {"waiting"}


def test_task_for_who_had_no_room_before(story: Story) -> None:
    """A task stays ready beside one who waits but holds another, and is then given to him."""
    story.complete("ann", "t1", story.claim("ann", "t1"))
    held = story.claim("ann", "t2")
    story.create("t4")
    story.complete("bob", "t4", story.claim("bob", "t4"))
    wait = _waits(story, "ann")
    story.create("t3")
    for _ in range(49):
        story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t4"))
    story.complete("ann", "t2", held)
    given = story.claimed("ann", "t3")
    revision = story.happen(given)
    answer = v1.ClaimNextTaskResponse(
        tasks=[given.task], outcome=v1.CLAIM_OUTCOME_CLAIMED, revision=revision
    )
    story.answer(wait, answer)
    assert promises(story.judge()) == set()


def test_lost_write(story: Story) -> None:
    """A completion that was answered, and that history does not know of."""
    story.complete("ann", "t1", story.claim("ann", "t1"))
    story.messages.pop()
    assert promises(story.judge()) == {"acknowledged"}


def test_write_that_became_another(story: Story) -> None:
    """An answer that shows a task other than history does."""
    call = story.create("t3")
    answer = call.answer
    answer.task.priority = 9
    story.answer(call, answer)
    assert promises(story.judge()) == {"acknowledged"}


def test_two_answers_under_one_request_id(story: Story) -> None:
    """A repeated call that is answered otherwise than at first."""
    call = story.create("t3")
    ask = v1.CreateTaskRequest(id="t3", title=call.tag, request_id="r")
    call.request = ask.SerializeToString()
    first = call.attempts[0].answer
    story.repeat(call, first)
    assert story.judge() == []
    story.repeat(call, first + b"\x78\x01")
    assert promises(story.judge()) == {"acknowledged"}


def test_call_that_took_effect_twice(story: Story) -> None:
    """A repeated call that was done again."""
    call = story.create("t3")
    story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t3", reason=call.tag))
    assert promises(story.judge()) == {"once"}


def test_refused_call_that_took_effect(story: Story) -> None:
    """A call that was refused, and done."""
    call = story.refused(
        "UpdateTask", v1.UpdateTaskRequest(task_id="t1"), "ABORTED", "ETAG_MISMATCH"
    )
    story.happen(story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1", reason=call.tag))
    assert promises(story.judge()) == {"once"}


def test_claim_that_nobody_asked_for(story: Story) -> None:
    """A task that is given to a worker who did not call."""
    story.happen(story.claimed("ann", "t1"))
    assert promises(story.judge()) == {"once"}


def test_lease_that_ends_too_soon(story: Story) -> None:
    """A lease that ends although its worker gave a sign of life, by whatever call."""
    story.claim("ann", "t1")
    story.wait(500)
    story.found_nothing("ann", v1.CLAIM_OUTCOME_LIMIT_REACHED)
    story.wait(600)
    story.expire("t1")
    assert promises(story.judge()) == {"leases"}


def test_lease_that_does_not_end(story: Story) -> None:
    """A claim that lasts on although its worker is silent; not where the server was stopped."""
    claim = story.claim("ann", "t1")
    start = story.now
    story.wait(60_000)
    end = story.now
    story.complete("ann", "t1", claim)
    assert promises(story.judge()) == {"leases"}
    story.idle.append((start, end))
    assert story.judge() == []


def test_lease_of_a_parked_task_does_not_run(story: Story) -> None:
    """A lease that ends while its task is parked."""
    story.claim("ann", "t1")
    story.park("ann", "t1")
    story.wait(60_000)
    assert story.judge() == []
    story.expire("t1")
    assert promises(story.judge()) == {"leases"}


def test_lease_that_runs_on_from_where_a_task_is_parked_no_more(story: Story) -> None:
    """A lease that does not begin anew when its task is parked no more."""
    story.claim("ann", "t1")
    story.park("ann", "t1")
    story.wait(60_000)
    story.park("ann", "t1", "working")
    story.wait(500)
    story.expire("t1")
    assert promises(story.judge()) == {"leases"}


def test_claims_end_before_the_grace(story: Story) -> None:
    """A claim that ends sooner after a stream broke than its grace; and one of a stream that
    there was not."""
    reason = "the stream of worker 'ann' broke"
    story.claim("ann", "t1")
    story.wait(700)
    story.expire("t1", reason)
    assert promises(story.judge()) == {"leases"}
    story.talk("ann", grace=0.9)
    assert promises(story.judge()) == {"leases"}
    story.talk("ann", grace=0.6)
    assert story.judge() == []


def test_advisory_claim_that_ends_too_soon(story: Story) -> None:
    """An advisory claim that ends before its lease does."""
    story.share("ann", "t1")
    story.wait(500)
    event = story.moved(
        v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED, "t1", worker="ann", reason="the lease of worker 'ann'"
    )
    del event.task.advisory_claims[:]
    story.happen(event)
    assert promises(story.judge()) == {"leases"}


def _assigned(story: Story, *task_ids: str) -> v1.WorkResponse:
    tasks = [story.images[task_id] for task_id in task_ids]
    return v1.WorkResponse(revision=story.revision, assigned=v1.WorkAssigned(tasks=tasks))


def test_assignment_by_a_stream(story: Story) -> None:
    """A claim that a Work stream tells of is explained by it; one that it does not tell of is not
    if the stream ended as agreed, unless it is given back or was made before the stream began."""
    started = v1.WorkResponse(revision=story.revision, started=v1.WorkStarted())
    talk = story.talk("ann", started)
    story.happen(story.claimed("ann", "t1"))
    talk.told.append((story.now, _assigned(story, "t1").SerializeToString()))
    assert story.judge() == []
    del talk.told[1:]
    talk.__dict__.pop("messages")
    talk.ended_well = True
    story.happen(
        story.moved(
            v1.EVENT_TYPE_TASK_RELEASED,
            "t1",
            status="pending",
            worker_id="",
            claim_revision=0,
            ready=True,
        )
    )
    assert story.judge() == []
    story.happen(story.claimed("ann", "t1"))
    story.wait(1_000)
    story.expire("t1")
    assert promises(story.judge()) == {"streams"}
    talk.told.clear()  # it may not have begun when the task was given: to one before it
    talk.__dict__.pop("messages")
    assert story.judge() == []


@pytest.mark.parametrize(("after", "blamed"), [(50, False), (1_500, True)])
def test_untold_claim_that_somebody_else_ends(story: Story, after: int, blamed: bool) -> None:
    """A claim that was not told of, and not undone, but ended by somebody else: at once or late."""
    talk = story.talk("ann", v1.WorkResponse(revision=story.revision, started=v1.WorkStarted()))
    talk.end = story.now + 2_000
    talk.ended_well = True
    story.happen(story.claimed("ann", "t1"))
    story.wait(after)
    tag = story.next_tag
    free: dict[str, Any] = {
        "status": "pending",
        "worker_id": "",
        "claim_revision": 0,
        "ready": True,
    }
    event = story.moved(v1.EVENT_TYPE_TASK_RELEASED, "t1", reason=tag, **free)
    revision = story.happen(event)
    story.call(
        "UpdateTask",
        v1.UpdateTaskRequest(task_id="t1", assignee="", reason=tag),
        v1.UpdateTaskResponse(task=event.task, revision=revision),
    )
    assert ("streams" in promises(story.judge())) == blamed


def test_stream_that_tells_of_other_claims(story: Story) -> None:
    """A Work stream that does not begin with what its worker holds."""
    story.claim("ann", "t1")
    started = v1.WorkStarted(held_tasks=[story.images["t1"]])
    talk = story.talk("ann", v1.WorkResponse(revision=story.revision, started=started))
    assert story.judge() == []
    del started.held_tasks[:]
    told = v1.WorkResponse(revision=story.revision, started=started).SerializeToString()
    talk.told = [(story.now, told)]
    talk.__dict__.pop("messages")
    assert promises(story.judge()) == {"streams"}


def test_stale_claim_that_does_something(story: Story) -> None:
    """A worker that completes a task by a claim that ended, after another took it."""
    old = story.claim("ann", "t1")
    story.wait(1_000)
    story.expire("t1")
    story.claim("bob", "t1")
    story.complete("ann", "t1", old)
    assert promises(story.judge()) == {"fencing"}


def test_stale_claim_that_logs(story: Story) -> None:
    """A worker that reports metrics by a claim that ended."""
    old = story.claim("ann", "t1")
    story.wait(1_000)
    story.expire("t1")
    metrics = v1.Metrics(tokens_in=5)
    event = story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1", worker="ann")
    event.task.metrics.CopyFrom(metrics)
    revision = story.happen(event)
    story.call(
        "LogMetrics",
        v1.LogMetricsRequest(worker_id="ann", task_id="t1", claim_revision=old, metrics=metrics),
        v1.LogMetricsResponse(metrics=metrics, revision=revision),
    )
    assert promises(story.judge()) == {"fencing"}


def test_metrics_that_count_twice(story: Story) -> None:
    """A sum that is more than what was reported."""
    event = story.moved(v1.EVENT_TYPE_TASK_UPDATED, "t1")
    event.task.metrics.tokens_in = 10
    revision = story.happen(event)
    story.call(
        "LogMetrics",
        v1.LogMetricsRequest(task_id="t1", metrics=v1.Metrics(tokens_in=5)),
        v1.LogMetricsResponse(metrics=event.task.metrics, revision=revision),
    )
    assert promises(story.judge()) == {"acknowledged"}


def test_claim_that_is_refused_though_it_holds(story: Story) -> None:
    """A holder that is told that its claim is lost."""
    claim = story.claim("ann", "t1")
    story.wait(200)
    ask = v1.CompleteTaskRequest(worker_id="ann", task_id="t1", claim_revision=claim)
    story.refused("CompleteTask", ask, "ABORTED", "CLAIM_LOST")
    assert promises(story.judge()) == {"fencing"}


def test_read_of_another_moment(story: Story) -> None:
    """A read that shows a task as it was not at the revision that it tells."""
    image = v1.Task()
    image.CopyFrom(story.images["t1"])
    image.status = "working"
    story.call(
        "GetTask",
        v1.GetTaskRequest(task_id="t1"),
        v1.GetTaskResponse(task=image, revision=story.revision),
        agent="ann",
    )
    assert promises(story.judge()) == {"reads"}


def _drop(told: list[Any]) -> None:
    del told[1]


def _repeat(told: list[Any]) -> None:
    told.insert(1, told[1])


def _swap(told: list[Any]) -> None:
    told[0], told[1] = told[1], told[0]


def _change(told: list[Any]) -> None:
    told[1] = told[1][0], digest_of(b"something else")


def _add(told: list[Any]) -> None:
    told.append((99, digest_of(b"")))


@pytest.mark.parametrize("spoil", [_drop, _repeat, _swap, _change, _add])
def test_watch_that_was_told_otherwise(story: Story, spoil: Any) -> None:
    """A watch that misses a revision, hears of one twice, out of order, in other bytes, or of one
    that is not there."""
    stream = story.watch(1, 4)
    assert story.judge() == []
    spoil(stream.told)
    assert promises(story.judge()) == {"watches"}


def test_watch_that_began_elsewhere(story: Story) -> None:
    """A watch that was resumed after another revision than it asked for."""
    story.watch(2, 4).created = 2
    assert promises(story.judge()) == {"watches"}


def test_damaged_file(story: Story, tmp_path: Any) -> None:
    """A file whose tables are not what history tells."""
    path = tmp_path / "tasks.db"
    connection = apsw.Connection(str(path))
    for table in (
        "events (revision, ordinal, type, task_id, worker_id, reason, time)",
        "tasks (id, workflow, status, worker_id, claim_revision, title, priority, phase, "
        "parent_id, attempts, max_attempts, revision, metric_0, deleted_at, ready_as, "
        "unmet_blockers, open_children)",
        "dependencies (from_task_id, to_task_id, dep_type)",
        "task_sequence (id, task_id, status, end_timestamp)",
        "workers (id, claim_attempts, claims_granted, claims_lost, disconnected_at)",
        "file_locks (file_path, worker_id)",
        "advisory_claims (worker_id, task_id)",
        "pauses (task_id)",
        "attachments (task_id, attachment_type, sequence)",
        "system (revision, paused_at)",
        "requests (id, response)",
    ):
        connection.execute(f"CREATE TABLE {table}")
    connection.close()
    history = story.history()
    history.truth.db = path
    assert promises(check(history, read_rules()).violations) == {"database"}


def test_account_is_short(story: Story) -> None:
    """An account tells of the task and the worker concerned, and of nothing else."""
    story.claim("ann", "t2")
    old = story.claim("bob", "t1")
    story.wait(1_000)
    story.expire("t1")
    story.complete("bob", "t1", old - 1)
    [violation] = [one for one in story.judge() if one.promise == "fencing"]
    told = account.tell(violation, story.history())
    assert "LEASE_EXPIRED t1" in told
    assert "CompleteTask of t1 with claim 5" in told
    assert "t2" not in told
    assert "ann" not in told
    assert len(told.splitlines()) < 12
