"""Gates: what must be attached before a task leaves a state or a phase."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from taskloom import v1
from taskloom_client import Client
from taskloom_server.graph.workflows import Enforcement, Gate, Role

from tests.calls import (
    claim,
    complete,
    connect,
    create,
    duration,
    event,
    events,
    fail,
    refusal,
    release,
    show,
    status,
    update,
)
from tests.work_streams import WorkStream
from tests.workflows_obeyed.boards import board, guarded, prompt, states
from tests.workflows_obeyed.conftest import Serving

if TYPE_CHECKING:
    from tests.conftest import TestClock

ALLOW, WARN, REJECT = Enforcement.ALLOW, Enforcement.WARN, Enforcement.REJECT
_WANTS = (
    "gate 'tested' on leaving status:working asks for an attachment of type 'gate/tests' "
    "(the tests that were run)"
)


async def _working(client: Client, id: str = "t", **fields: Any) -> v1.Task:
    """A task that ada works on."""
    await connect(client, "ada", max_claims=9, tags=fields.pop("worker_tags", []))
    await create(client, id, **fields)
    return await claim(client, "ada", id)


async def _attach(client: Client, type: str = "gate/tests") -> None:
    await client.attachments.Attach(v1.AttachRequest(task_id="t", worker_id="ada", type=type))


async def _complete(client: Client, **fields: Any) -> v1.CompleteTaskResponse:
    request = v1.CompleteTaskRequest(worker_id="ada", task_id="t", **fields)
    return await client.claims.CompleteTask(request)


async def _check(client: Client, **fields: Any) -> v1.CheckGatesResponse:
    return await client.tasks.CheckGates(v1.CheckGatesRequest(task_id="t", **fields))


# Enforcement


@pytest.mark.parametrize("enforcement", list(Enforcement))
async def test_what_is_attached_satisfies(serve: Serving, enforcement: Enforcement) -> None:
    """Once an attachment of its type is there, a gate of any enforcement lets the task go."""
    async with serve(guarded(enforcement)) as client:
        await _working(client)
        await _attach(client)
        answer = await _complete(client)
        assert answer.task.status == "completed"
        assert not answer.warnings


async def test_allow_lets_it_go_and_says_so(serve: Serving) -> None:
    """A gate that allows refuses nothing; the answer says what is missing."""
    async with serve(guarded(ALLOW)) as client:
        await _working(client)
        answer = await _complete(client)
        assert answer.task.status == "completed"
        assert list(answer.warnings) == [f"{_WANTS}; it went on without"]


async def test_warn_refuses_and_says_what_is_missing(serve: Serving) -> None:
    """A gate that warns refuses, names what it asks for, and nothing is changed."""
    async with serve(guarded(WARN)) as client:
        before = await _working(client)
        error = await refusal(_complete(client))
        assert error.reason == "GATE_UNSATISFIED"
        assert f"cannot go on: {_WANTS}; attach it, or say force" in error.message
        assert [one.subject for one in error.violations] == ["tested"]
        assert error.metadata == {
            "leaving": "status:working",
            "attachment_types": "gate/tests",
            "forcible": "true",
        }
        assert await show(client, "t") == before


async def test_forcing_is_recorded(serve: Serving) -> None:
    """Whoever forces goes past; history, an event of its own and the answer say so."""
    async with serve(guarded(WARN)) as client:
        await _working(client)
        answer = await _complete(client, force=True, reason="no time")
        assert list(answer.warnings) == [f"{_WANTS}; forced"]
        told = await events(client, answer.revision, answer.revision)
        assert [name for name, _, _ in told] == ["TASK_COMPLETED", "GATE_FORCED"]
        forced = await event(client, v1.EVENT_TYPE_GATE_FORCED, "t")
        assert (forced.reason, forced.worker_id) == ("forced past gate 'tested'", "ada")
        assert forced.task.status == "completed"
        history = await client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="t"))
        assert history.transitions[-1].reason == "no time; forced past gate 'tested'"


async def test_reject_refuses_also_when_forced(serve: Serving) -> None:
    """No force goes past a gate that rejects, and the refusal does not advise it."""
    async with serve(guarded(REJECT)) as client:
        await _working(client)
        error = await refusal(_complete(client))
        assert error.message.endswith("; attach it")
        error = await refusal(_complete(client, force=True))
        assert error.reason == "GATE_UNSATISFIED"
        assert error.message.endswith("; force does not go past 'tested'")
        assert error.metadata["forcible"] == "false"


async def test_force_where_nothing_is_missing_leaves_no_trace(serve: Serving) -> None:
    """Force that was not needed is not recorded."""
    async with serve(guarded(WARN)) as client:
        await _working(client)
        await _attach(client)
        answer = await _complete(client, force=True)
        assert not answer.warnings
        told = await events(client, answer.revision, answer.revision)
        assert [name for name, _, _ in told] == ["TASK_COMPLETED"]


async def test_several_changes_warn_and_prompt_of_each(serve: Serving) -> None:
    """UpdateTasks answers with all that UpdateTask would have said, and of which change."""
    said = states({"completed": {"enter_prompt": prompt("{{ task.id }} is done")}})
    async with serve(board(gates=guarded(ALLOW).gates, **said)) as client:
        for id in ("t", "u"):
            await _working(client, id)
        updates = [
            v1.UpdateTaskRequest(task_id="t", title="to be done"),
            *(v1.UpdateTaskRequest(task_id=id, status="completed") for id in ("t", "u")),
        ]
        answer = await client.tasks.UpdateTasks(v1.UpdateTasksRequest(updates=updates))
        assert [(one.task_id, one.text) for one in answer.prompts] == [
            ("t", "t is done"),
            ("u", "u is done"),
        ]
        assert list(answer.warnings) == [
            f"updates[{n}]: {_WANTS}; it went on without" for n in (1, 2)
        ]


async def test_a_refused_request_may_be_repeated(serve: Serving) -> None:
    """A refusal is not remembered: the same request goes through once its gate is satisfied."""
    async with serve(guarded(WARN)) as client:
        await _working(client)
        assert (await refusal(_complete(client, request_id="once"))).reason == "GATE_UNSATISFIED"
        await _attach(client)
        assert (await _complete(client, request_id="once")).task.status == "completed"


async def test_a_gate_asks_for_no_author(client: Client) -> None:
    """What is attached satisfies a gate, by whomever, and again after the task was reopened."""
    await connect(client, "ada", workflow="sprint")
    await create(client, "t", workflow="sprint")
    await _attach(client, "review")
    for _ in range(2):
        await claim(client, "ada", "t")
        await update(client, "t", worker_id="ada", status="review")
        await complete(client, "ada", "t")
        await update(client, "t", status="pending")
    described = await client.admin.GetWorkflow(v1.GetWorkflowRequest(name="sprint"))
    assert "somebody else" not in described.workflow.description


# Where gates stand


async def test_a_phase_is_left_by_another_one(serve: Serving) -> None:
    """A gate on a phase keeps a task from another phase, whoever changes it, until satisfied."""
    async with serve(guarded(WARN, leaving="phase:implement")) as client:
        await _working(client, phase="implement")
        error = await refusal(update(client, "t", phase="test"))
        assert error.metadata["leaving"] == "phase:implement"
        await update(client, "t", phase="implement", title="as it was")
        assert (await update(client, "t", phase="test", force=True)).phase == "test"
        history = await client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="t"))
        assert history.transitions[-1].reason == "forced past gate 'tested'"
        await update(client, "t", phase="implement")
        await _attach(client)
        assert (await update(client, "t", phase="review")).phase == "review"


async def test_completion_leaves_the_phase(serve: Serving) -> None:
    """A task that ends well is through with its phase, so that the phase's gates are asked."""
    async with serve(guarded(REJECT, leaving="phase:implement")) as client:
        await _working(client, phase="implement")
        assert (await refusal(_complete(client))).metadata["leaving"] == "phase:implement"
        moving = update(client, "t", worker_id="ada", status="completed")
        assert (await refusal(moving)).metadata["leaving"] == "phase:implement"
        await _attach(client)
        await _complete(client)


async def test_handing_over_leaves_the_phase(serve: Serving) -> None:
    """A task that is given back in another phase leaves the one it had: its gates are asked."""
    async with serve(guarded(WARN, leaving="phase:design")) as client:
        await _working(client, phase="design")

        async def hand_over() -> v1.Task:
            return await update(client, "t", worker_id="ada", status="pending", phase="implement")

        assert (await refusal(hand_over())).reason == "GATE_UNSATISFIED"
        await _attach(client)
        assert (await hand_over()).status == "pending"


async def test_a_move_leaves_the_state(serve: Serving) -> None:
    """UpdateTask is asked as CompleteTask is, to the end or to a state on the way."""
    async with serve(guarded(WARN)) as client:
        await _working(client)
        for to in ("completed", "waiting"):
            moving = update(client, "t", worker_id="ada", status=to)
            assert (await refusal(moving)).reason == "GATE_UNSATISFIED"
        moved = await update(client, "t", worker_id="ada", status="waiting", force=True)
        assert moved.status == "waiting"


async def test_what_may_not_be_done_at_all_is_said_first(serve: Serving) -> None:
    """A move that the state has no exit for, or another's task, is not a matter of gates."""
    async with serve(guarded(WARN)) as client:
        await _working(client)
        await connect(client, "bob")
        moving = update(client, "t", worker_id="bob", status="completed", force=True)
        assert (await refusal(moving)).reason == "CLAIM_LOST"
        moving = update(client, "t", worker_id="ada", status="assigned", force=True)
        assert (await refusal(moving)).reason == "ILLEGAL_TRANSITION"


async def test_late_work_passes_the_gates_of_work(serve: Serving, clock: "TestClock") -> None:
    """What is completed after the lease's end leaves working all the same, and its gates ask."""
    async with serve(guarded(WARN)) as client:
        await connect(client, "ada", lease=duration(1_000))
        await create(client, "t")
        held = await claim(client, "ada", "t")
        clock.advance(2_000)
        await event(client, v1.EVENT_TYPE_TASK_LEASE_EXPIRED, "t")
        late = _complete(client, claim_revision=held.claim_revision)
        assert (await refusal(late)).reason == "GATE_UNSATISFIED"
        answer = await _complete(client, claim_revision=held.claim_revision, force=True)
        assert answer.task.status == "completed"


@pytest.mark.parametrize(
    "give_up",
    [
        lambda client: release(client, "ada", "t"),
        lambda client: fail(client, "ada", "t"),
        lambda client: fail(client, "ada", "t", retry=True),
        lambda client: update(client, "t", status="pending"),
        lambda client: update(client, "t", status="failed"),
        lambda client: client.workers.Disconnect(v1.DisconnectRequest(worker_id="ada")),
    ],
    ids=["release", "fail", "retry", "back", "failed", "disconnect"],
)
async def test_what_gives_a_task_up_is_open(
    serve: Serving, give_up: Callable[[Client], Awaitable[object]]
) -> None:
    """No gate keeps a task with a worker that gives it back or fails at it."""
    async with serve(guarded(REJECT)) as client:
        await _working(client)
        await give_up(client)
        assert (await show(client, "t")).status in {"pending", "failed"}


async def test_a_lease_that_ends_asks_nobody(serve: Serving, clock: "TestClock") -> None:
    """A gate does not keep a task with a worker that is gone."""
    async with serve(guarded(REJECT)) as client:
        await connect(client, "ada", lease=duration(1_000))
        await create(client, "t")
        await claim(client, "ada", "t")
        clock.advance(2_000)
        await event(client, v1.EVENT_TYPE_TASK_LEASE_EXPIRED, "t")
        assert (await show(client, "t")).status == "pending"


async def test_taking_a_task_up_is_open(serve: Serving) -> None:
    """Assigning and claiming leave states without being asked: gates are on what goes on."""
    gate = Gate("planned", "plan", REJECT)
    guarded_start = board(gates={"status:pending": (gate,), "status:assigned": (gate,)})
    async with serve(guarded_start) as client:
        await connect(client, "ada", max_claims=2)
        await create(client, "t")
        await create(client, "u")
        await update(client, "t", assignee="ada")
        await claim(client, "ada", "t")
        await update(client, "u", assignee="ada")
        assert (await update(client, "u", worker_id="ada", status="working")).status == "working"
        assert not (await _check(client, status="waiting")).gates
        await complete(client, "ada", "t")


# Telling beforehand


async def test_check_gates_tells_what_is_missing(serve: Serving) -> None:
    """Of each gate of the move: where it stands, what it asks, and whether that is there."""
    gates = {
        "status:working": (Gate("tested", "gate/tests", REJECT), Gate("noted", "note", ALLOW)),
        "phase:implement": (Gate("reviewed", "review", WARN, "by somebody else"),),
    }
    async with serve(board(gates=gates)) as client:
        await _working(client, phase="implement")
        await _attach(client)
        answer = await _check(client)
        assert [(one.leaving, one.name, one.satisfied) for one in answer.gates] == [
            ("status:working", "tested", True),
            ("status:working", "noted", False),
            ("phase:implement", "reviewed", False),
        ]
        last = answer.gates[-1]
        assert (last.attachment_type, last.enforcement) == ("review", "warn")
        assert last.description == "by somebody else"
        assert (answer.passes, answer.passes_forced) == (False, True)
        assert (answer.status, answer.phase) == ("working", "implement")
        # To another phase, to another state, and to where no gate stands.
        assert [one.name for one in (await _check(client, phase="test")).gates] == ["reviewed"]
        waiting = await _check(client, status="waiting")
        assert [one.name for one in waiting.gates] == ["tested", "noted"]
        assert waiting.passes
        assert not (await _check(client, status="failed")).gates
        assert (await refusal(_check(client, status="nowhere"))).reason == "ILLEGAL_TRANSITION"
        # And that is what comes.
        assert (await refusal(_complete(client))).metadata["attachment_types"] == "review"
        assert len((await _complete(client, force=True)).warnings) == 2


async def test_check_gates_knows_the_exits(client: Client) -> None:
    """Where no exit leads there nothing passes, and the gates are those on the shortest way."""
    await connect(client, "ada", workflow="sprint")
    await create(client, "t", workflow="sprint", phase="retrospect")
    await claim(client, "ada", "t")
    answer = await _check(client)
    assert (answer.passes, answer.passes_forced) == (False, False)
    assert answer.obstacle == (
        "task 't' is 'working' and cannot become 'completed'; its exits are review, failed, "
        "pending, waiting; the shortest way is review, then completed"
    )
    assert list(answer.way) == ["review", "completed"]
    assert list(answer.exits) == ["review", "failed", "pending", "waiting"]
    assert [(one.status, one.leaving, one.name) for one in answer.gates] == [
        ("review", "status:review", "review"),
        ("review", "phase:retrospect", "lesson"),
    ]
    reachable = await _check(client, status="review")
    assert (reachable.passes, reachable.obstacle) == (True, "")
    await update(client, "t", worker_id="ada", status="review")
    assert ((await _check(client)).obstacle, (await _check(client)).passes) == ("", False)
    await update(client, "t", status="cancelled")
    ended = await _check(client)
    assert (ended.passes, list(ended.gates), list(ended.way)) == (False, [], [])
    assert ended.obstacle.endswith("; it has no exits; no way leads there")


async def test_check_gates_knows_who_may_force(serve: Serving) -> None:
    """Force passes for those whose role has it in the task's workflow, wherever they connected."""
    lead = Role("lead", frozenset({"lead"}))
    hand = Role("hand", frozenset(), can_force=False)
    async with serve(board(gates=guarded(WARN).gates, roles=(lead, hand))) as client:
        await _working(client)
        await connect(client, "lead", tags=["lead"], workflow="swarm")
        await connect(client, "bob", workflow="swarm")
        forced = {
            who: (await _check(client, worker_id=who)).passes_forced
            for who in ("ada", "bob", "lead")
        }
        assert forced == {"ada": False, "bob": False, "lead": True}


async def test_check_gates_changes_nothing(serve: Serving) -> None:
    """To ask is a read: no revision comes of it, and deleted or ended tasks may be asked of."""
    async with serve(guarded(REJECT)) as client:
        await create(client, "t")
        revision = (await status(client)).revision
        assert not (await _check(client, status="working")).gates
        await _check(client)
        assert (await status(client)).revision == revision
        request = v1.CheckGatesRequest(task_id="nothing")
        assert (await refusal(client.tasks.CheckGates(request))).reason == "TASK_NOT_FOUND"


async def test_a_stream_is_refused_likewise(serve: Serving) -> None:
    """On a Work stream the refusal names the gates, and the stream goes on."""
    async with serve(guarded(WARN)) as client:
        await connect(client, "ada")
        await create(client, "t")
        stream = WorkStream(client)
        await stream.ask(start=v1.WorkStart(worker_id="ada"), credit=1)
        await stream.assigned()
        refused = (await stream.ask(complete=v1.CompleteTaskRequest(task_id="t"))).refused
        assert (refused.reason, list(refused.subjects)) == ("GATE_UNSATISFIED", ["tested"])
        request = v1.CompleteTaskRequest(task_id="t", force=True)
        assert (await stream.ask(complete=request)).completed.task.status == "completed"


async def test_who_may_not_force_is_refused(serve: Serving) -> None:
    """Force is a right of roles; a person has it."""
    workflow = guarded(WARN)
    lead = Role("lead", frozenset({"lead"}))
    hand = Role("hand", frozenset(), can_force=False)
    async with serve(board(gates=workflow.gates, roles=(lead, hand))) as client:
        await _working(client)
        error = await refusal(_complete(client, force=True))
        assert (error.reason, error.code.name) == ("ROLE_FORBIDS", "PERMISSION_DENIED")
        moving = update(client, "t", worker_id="ada", status="completed", force=True)
        assert (await refusal(moving)).reason == "ROLE_FORBIDS"
        assert (await update(client, "t", status="completed", force=True)).status == "completed"
