"""Limits: how much may be in a state, and what work may cost."""

from typing import Any

import pytest
from taskloom import v1

from tests.robustness.story import Story


@pytest.fixture
def board(story: Story) -> Story:
    """Three tasks of kanban are being worked, as many as may be, and a fourth is ready."""
    story.connect("cleo", max_claims=9)
    for task_id in ("k1", "k2", "k3", "k4"):
        story.create(task_id, workflow="kanban")
    for task_id in ("k1", "k2", "k3"):
        story.claim("cleo", task_id)
    return story


def test_claim_beyond_a_wip_limit(board: Story) -> None:
    """A state into which a claim brings one task more than its limit allows."""
    assert board.judge() == []
    board.claim("ann", "k4")
    assert board.broken() == {"wip limits"}


def test_room_that_is_made_is_room(board: Story) -> None:
    """A task that leaves makes room for another; what is restored is refused by no limit."""
    board.complete("cleo", "k1", board.images["k1"].claim_revision)
    board.claim("ann", "k4")
    assert board.judge() == []
    for task_id in ("k5", "k6", "k7"):
        board.create(task_id, workflow="kanban", status="pending")
        board.delete(task_id)
        board.images[task_id].status = "review"
    for task_id in ("k5", "k6", "k7"):
        board.restore(task_id, status="review", ready=False)
    assert "wip limits" not in board.broken()


def test_move_beyond_a_wip_limit(board: Story) -> None:
    """A state into which moves bring one task more than its limit allows: two may be in review."""
    for task_id in ("k1", "k2"):
        board.park("cleo", task_id, "review")
    assert board.judge() == []
    board.park("cleo", "k3", "review")
    assert board.broken() == {"wip limits"}


def test_full_state_is_told_as_such(board: Story) -> None:
    """A worker that a limit keeps from the only tasks is told so, and neither more nor less."""
    board.complete("ann", "t1", board.claim("ann", "t1"))
    board.complete("ann", "t2", board.claim("ann", "t2"))
    board.found_nothing("ann", v1.CLAIM_OUTCOME_WIP_LIMIT)
    assert board.judge() == []
    board.found_nothing("ann", v1.CLAIM_OUTCOME_NONE_READY)
    assert board.broken() == {"best first"}


def test_limit_that_is_none(story: Story) -> None:
    """A worker that is told of a limit where a task was to be had."""
    story.found_nothing("ann", v1.CLAIM_OUTCOME_WIP_LIMIT)
    assert story.broken() == {"best first"}


def test_others_are_given_past_a_full_state(board: Story) -> None:
    """The best task of a full state is passed over, however good it is."""
    board.images["k4"].priority = 9
    board.update("k4")
    board.claim_next("ann", "t1")
    assert board.judge() == []


@pytest.fixture
def budget(story: Story) -> Story:
    """A task that may cost a dollar, and two below it, of which a worker holds one."""
    born: dict[str, Any] = {"status": "pending", "max_attempts": 3}
    created = v1.EVENT_TYPE_TASK_CREATED
    story.happen(
        story.moved(created, "b", ready=False, max_cost_usd=1.0, **born),
        story.moved(created, "b1", ready=True, parent_id="b", **born),
        story.moved(created, "b2", ready=True, parent_id="b", **born),
    )
    story.claim("ann", "b1")
    return story


def _spend(story: Story, *, told: bool = True) -> None:
    """What is below the budget costs a dollar."""
    image = story.images["b1"]
    image.metrics.cost_usd = 1.0
    spending = story.moved(v1.EVENT_TYPE_TASK_UPDATED, "b1")
    over = v1.Event(type=v1.EVENT_TYPE_BUDGET_SPENT, task_id="b", time=spending.time)
    fixed = story.moved(v1.EVENT_TYPE_TASK_UPDATED, "b1")
    blocked = story.moved(v1.EVENT_TYPE_TASK_BLOCKED, "b2", ready=not told)
    story.happen(spending, *((over, blocked, fixed) if told else ()))


def test_spent_budget_that_is_not_told(budget: Story) -> None:
    """A budget that is spent, and nobody says so; or that is said to be spent, and is not."""
    assert budget.judge() == []
    _spend(budget, told=False)
    assert budget.broken() == {"budgets"}


def test_budget_that_is_said_to_be_spent(budget: Story) -> None:
    """A budget of which nothing was spent, and which holds back work all the same."""
    budget.happen(v1.Event(type=v1.EVENT_TYPE_BUDGET_SPENT, task_id="b"))
    assert "budgets" in budget.broken()


def test_budget_counts_what_is_deleted(budget: Story) -> None:
    """What was spent on a deleted task stays spent."""
    _spend(budget)
    gone = budget.moved(v1.EVENT_TYPE_TASK_DELETED, "b1", claim_revision=0, worker_id="")
    gone.task.delete_time.FromMilliseconds(budget.now)
    budget.happen(gone)
    assert budget.judge() == []
    budget.happen(v1.Event(type=v1.EVENT_TYPE_BUDGET_FREED, task_id="b"))
    assert "budgets" in budget.broken()


def test_claim_over_budget(budget: Story) -> None:
    """A task that is given away although what is above it is spent."""
    _spend(budget)
    assert budget.judge() == []
    budget.claim("bob", "b2")
    assert budget.broken() == {"admission"}


def test_assignment_over_budget(budget: Story) -> None:
    """A task that is handed to a worker, although what is above it is spent."""
    _spend(budget)
    changes: dict[str, Any] = {
        "status": "assigned",
        "worker_id": "bob",
        "claim_revision": budget.revision + 1,
    }
    budget.happen(budget.moved(v1.EVENT_TYPE_TASK_MOVED, "b2", **changes))
    assert budget.broken() == {"budgets"}


def test_lease_over_budget_that_is_renewed(budget: Story) -> None:
    """A lease on what is over budget that a sign of life makes longer."""
    _spend(budget)
    budget.wait(300)
    budget.update("b1", "ann")  # its event shows a lease as long as ever
    assert budget.broken() == {"leases"}


def test_lease_over_budget_runs_out(budget: Story) -> None:
    """A lease on what is over budget ends in its time, whatever its worker says: not before, and
    not long after."""
    _spend(budget)
    budget.wait(500)
    budget.found_nothing("ann", v1.CLAIM_OUTCOME_LIMIT_REACHED)
    budget.wait(600)
    budget.expire("b1")
    budget.images["b1"].ready = False
    message = v1.WatchTasksResponse.FromString(budget.messages[-1][1])
    message.events.events[0].task.ready = False
    budget.messages[-1] = budget.revision, message.SerializeToString()
    assert budget.judge() == []
    for ms, what in ((-400, "before its time"), (9_000, "went on")):
        event = message.events.events[0]
        event.time.FromMilliseconds(budget.now - 10 + ms)
        budget.messages[-1] = budget.revision, message.SerializeToString()
        [violation] = [one for one in budget.judge() if one.promise == "leases"]
        assert what in violation.text


def test_lease_within_budget_again_is_as_long_as_before(budget: Story) -> None:
    """What is taken from below a spent budget has its whole lease again, told at the verb's end."""
    _spend(budget)
    until = budget.images["b1"].lease_expire_time.ToMilliseconds()
    budget.wait(300)
    out = budget.moved(v1.EVENT_TYPE_TASK_UPDATED, "b1", worker="ann", parent_id="")
    out.task.lease_expire_time.FromMilliseconds(until)  # as it was
    freed = v1.Event(type=v1.EVENT_TYPE_BUDGET_FREED, task_id="b", time=out.time)
    ready = budget.moved(v1.EVENT_TYPE_TASK_READY, "b2", ready=True)
    again = budget.moved(v1.EVENT_TYPE_TASK_UPDATED, "b1")
    budget.happen(out, freed, ready, again)
    assert budget.judge() == []
    for lease_ms, broken in (1_000, set()), (700, {"acknowledged"}):
        ann = v1.Worker(id="ann", claims_held=1)
        ann.heartbeat_time.FromMilliseconds(budget.now)
        alive = v1.HeartbeatResponse(worker=ann, revision=budget.revision)
        alive.lease_expire_time.FromMilliseconds(budget.now + lease_ms)
        budget.call("Heartbeat", v1.HeartbeatRequest(worker_id="ann"), alive)
        assert budget.broken() == broken
