"""Each workflow that is shipped, driven through a whole life of its tasks as it is meant to be."""

from collections.abc import Iterable

from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    event,
    refusal,
    show,
    update,
)


async def _connect(
    client: Client, worker: str, workflow: str, *tags: str, max_claims: int = 1
) -> dict[str, str]:
    """A worker that takes part; what it is told, by what called for it."""
    request = v1.ConnectRequest(
        worker_id=worker, workflow=workflow, tags=tags, max_claims=max_claims
    )
    answer = await client.workers.Connect(request)
    assert answer.worker.workflow == workflow
    return _told(answer.prompts)


def _told(prompts: Iterable[v1.Prompt]) -> dict[str, str]:
    return {prompt.trigger: prompt.text for prompt in prompts}


async def _begin(client: Client, worker: str, task: str) -> dict[str, str]:
    """A task that a worker claims by name; what it is told."""
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task)
    return _told((await client.claims.ClaimTask(request)).prompts)


async def _next(client: Client, worker: str, parent: str = "") -> tuple[str, dict[str, str]]:
    """The next task for a worker, and what it is told."""
    answer = await claim_next(client, worker, parent_id=parent)
    [task] = answer.tasks
    return task.id, _told(answer.prompts)


async def _end(
    client: Client, worker: str, task: str, *, force: bool = False
) -> v1.CompleteTaskResponse:
    request = v1.CompleteTaskRequest(worker_id=worker, task_id=task, force=force)
    return await client.claims.CompleteTask(request)


async def _move(client: Client, worker: str, task: str, to: str) -> dict[str, str]:
    request = v1.UpdateTaskRequest(worker_id=worker, task_id=task, status=to)
    answer = await client.tasks.UpdateTask(request)
    assert answer.task.status == to
    return _told(answer.prompts)


async def _attach(client: Client, worker: str, task: str, type: str) -> v1.AttachResponse:
    request = v1.AttachRequest(worker_id=worker, task_id=task, type=type, content=b"seen")
    return await client.attachments.Attach(request)


async def _missing(client: Client, task: str) -> list[str]:
    """The gates that keep a task from its end, by what they ask."""
    answer = await client.tasks.CheckGates(v1.CheckGatesRequest(task_id=task))
    return [gate.attachment_type for gate in answer.gates if not gate.satisfied]


async def test_solo(client: Client) -> None:
    """One agent works its list: what is next, what waits meanwhile, and that it is through."""
    told = await _connect(client, "ada", "solo")
    assert "You work alone, ada" in told["connect"]
    await create(client, "first", workflow="solo")
    await create(client, "second", workflow="solo", blocked_by=["first"], phase="whatever")
    task, told = await _next(client, "ada")
    assert "Now: first (first)" in told["enter:working"]
    assert "completed, failed, pending, waiting" in told["enter:working"]
    assert (
        "waits for something outside"
        in (await _move(client, "ada", task, "waiting"))["enter:waiting"]
    )
    assert (await claim_next(client, "ada")).outcome == v1.CLAIM_OUTCOME_NONE_READY
    assert "Now: first" in (await _move(client, "ada", task, "working"))["enter:working"]
    answer = await _end(client, "ada", task)
    assert list(answer.unblocked_task_ids) == ["second"]
    assert "ALL_DONE means that you are through" in _told(answer.prompts)["enter:completed"]
    assert (await _next(client, "ada"))[0] == "second"
    await complete(client, "ada", "second")
    assert (await claim_next(client, "ada")).outcome == v1.CLAIM_OUTCOME_ALL_DONE


async def test_swarm(client: Client) -> None:
    """Agents that are alike take what is ready; who comes after a failure is told of it."""
    for worker in ("ada", "bob"):
        told = await _connect(client, worker, "swarm")
        assert f"You are {worker}, one of several alike" in told["connect"]
    await create(client, "parse", priority=9, phase="implement")
    await create(client, "print", blocked_by=["parse"])
    task, told = await _next(client, "ada")
    assert "attempts went wrong" not in told["enter:working"]
    request = v1.FailTaskRequest(worker_id="ada", task_id=task, retry=True, reason="no grammar")
    assert not _told((await client.claims.FailTask(request)).prompts)
    task, told = await _next(client, "bob")
    assert "1 of 5 attempts went wrong" in told["enter:working"]
    answer = await _end(client, "bob", task)
    assert "is done" in _told(answer.prompts)["enter:completed"]
    assert list(answer.unblocked_task_ids) == ["print"]
    task, _ = await _next(client, "ada")
    request = v1.FailTaskRequest(worker_id="ada", task_id=task, reason="no paper")
    told = _told((await client.claims.FailTask(request)).prompts)
    assert "has failed for good" in told["enter:failed"]


async def test_relay(client: Client) -> None:
    """Specialists hand a component from phase to phase, with what each must leave behind."""
    told = await _connect(client, "lea", "relay", "lead")
    assert "You plan" in told["role:lead"]
    legs = {
        "explore": ("explorer", "findings"),
        "design": ("architect", "design"),
        "implement": ("implementer", "handover"),
        "review": ("reviewer", "review"),
        "test": ("tester", "test-report"),
    }
    nodes = [
        v1.TaskNode(id=phase, title=phase, phase=phase, needed_tags=[specialist])
        for phase, (specialist, _) in legs.items()
    ]
    for before, after in zip(list(legs), nodes[1:], strict=False):
        after.blocked_by.append(before)
    tree = v1.TaskNode(id="component", title="the component", children=nodes)
    await client.tasks.CreateTaskTree(
        v1.CreateTaskTreeRequest(root=tree, workflow="relay", worker_id="lea")
    )
    for specialist, _ in legs.values():
        told = await _connect(client, specialist, "relay", specialist)
        assert f"{specialist}, {specialist}" in told["connect"]
    for phase, (specialist, wanted) in legs.items():
        task, told = await _next(client, specialist)
        assert task == phase
        assert f"the phase {phase}, of explore, design" in told["enter:working"]
        assert told[f"enter-phase:{phase}"].lower().startswith(phase)
        assert ("combination:working+review" in told) == (phase == "review")
        assert await _missing(client, task) == [wanted]
        if phase == "review":
            error = await refusal(_end(client, specialist, task))
            assert (error.reason, error.metadata["attachment_types"]) == (
                "GATE_UNSATISFIED",
                "review",
            )
            error = await refusal(_end(client, specialist, task, force=True))
            assert (error.reason, error.metadata["roles"]) == ("ROLE_FORBIDS", "lead")
        if phase != "test":
            attached = await _attach(client, specialist, task, wanted)
            assert attached.attachment.mime_type == "text/markdown"
        answer = await _end(client, specialist, task)
        assert bool(answer.warnings) == (phase == "test")  # which goes on without its report
        assert "is handed over" in _told(answer.prompts)["enter:completed"]
    assert (await show(client, "component")).status == "completed"


async def test_relay_forced_by_its_lead(client: Client) -> None:
    """The lead alone goes past the gate of a review, and the stream says so."""
    await _connect(client, "lea", "relay", "lead")
    await create(client, "t", workflow="relay", phase="review")
    await _begin(client, "lea", "t")
    answer = await _end(client, "lea", "t", force=True)
    assert "forced" in answer.warnings[0]
    forced = await event(client, v1.EVENT_TYPE_GATE_FORCED, "t")
    assert (forced.worker_id, forced.reason) == ("lea", "forced past gate 'review'")


async def test_hierarchical(client: Client) -> None:
    """A lead assigns a part, its owner splits it and pulls within it, and completes the part."""
    told = await _connect(client, "lea", "hierarchical", "lead")
    assert "You lead" in told["connect"]
    assert "Give each part one owner" in told["role:lead"]
    told = await _connect(client, "wim", "hierarchical", max_claims=2)
    assert "Parts are assigned to you" in told["connect"]
    parts = [v1.TaskNode(id="part", title="the part"), v1.TaskNode(id="other", title="another")]
    tree = v1.TaskNode(id="root", title="all of it", children=parts)
    await client.tasks.CreateTaskTree(
        v1.CreateTaskTreeRequest(root=tree, workflow="hierarchical", worker_id="lea")
    )
    refused = await refusal(update(client, "part", worker_id="wim", assignee="wim"))
    assert (refused.reason, refused.metadata["right"]) == ("ROLE_FORBIDS", "assign")
    request = v1.UpdateTaskRequest(task_id="part", worker_id="lea", assignee="wim")
    told = _told((await client.tasks.UpdateTask(request)).prompts)
    assert "part is assigned to you" in told["enter:assigned"]
    told = await _begin(client, "wim", "part")
    assert "It is part of root." in told["enter:working"]
    assert "ClaimNextTask(parent_id=part)" in told["enter:working"]
    for id in ("one", "two"):
        await create(client, id, parent_id="part", worker_id="wim")
    assert (await refusal(_end(client, "wim", "part"))).reason == "CHILDREN_OPEN"
    for id in ("one", "two"):
        assert (await _next(client, "wim", "part"))[0] == id
        answer = await _end(client, "wim", id)
        assert "ready below part" in _told(answer.prompts)["enter:completed"]
    answer = await _end(client, "wim", "part")
    assert "only what you wrote down" in _told(answer.prompts)["exit:working"]
    await update(client, "other", status="cancelled")
    assert (await show(client, "root")).status == "completed"


async def test_push(client: Client) -> None:
    """A coordinator assigns every task; who works can neither choose, nor assign, nor split."""
    told = await _connect(client, "cas", "push", "coordinator")
    assert "You are the bottleneck" in told["role:coordinator"]
    told = await _connect(client, "wim", "push")
    assert "Work is assigned to you" in told["connect"]
    for id in ("one", "two"):
        await create(client, id, workflow="push", worker_id="cas")
    assert (await refusal(_begin(client, "wim", "one"))).metadata["right"] == "claim"
    assert (await claim_next(client, "wim")).outcome == v1.CLAIM_OUTCOME_ROLE_FORBIDS
    assignment = v1.UpdateTaskRequest(task_id="one", worker_id="cas", assignee="wim")
    told = _told((await client.tasks.UpdateTask(assignment)).prompts)
    assert "one is assigned to you" in told["enter:assigned"]
    assert "one is begun" in (await _begin(client, "wim", "one"))["enter:working"]
    for call, right in (
        (create(client, "sub", parent_id="one", worker_id="wim"), "create_subtasks"),
        (update(client, "two", worker_id="wim", assignee="wim"), "assign"),
        (_end(client, "wim", "one", force=True), "force"),
    ):
        assert (await refusal(call)).metadata["right"] == right
    assert (
        "you have room for another"
        in (await _move(client, "wim", "one", "waiting"))["enter:waiting"]
    )
    await _move(client, "wim", "one", "working")
    answer = await _end(client, "wim", "one")
    assert "the coordinator has heard" in _told(answer.prompts)["enter:completed"]


async def test_kanban(client: Client) -> None:
    """Columns take only so many cards: who finds them full helps, and gets room when there is."""
    told = await _connect(client, "ada", "kanban", max_claims=9)
    assert "read from right to left" in told["connect"]
    for n in range(6):
        await create(client, f"card{n}", workflow="kanban")
    begun = await claim_next(client, "ada", max_tasks=9)
    assert [task.id for task in begun.tasks] == ["card0", "card1", "card2"]
    assert "One card at a time" in begun.prompts[0].text
    assert (await claim_next(client, "ada")).outcome == v1.CLAIM_OUTCOME_WIP_LIMIT
    assert (await refusal(claim(client, "ada", "card3"))).metadata["state"] == "working"
    why = await client.tasks.ExplainTask(v1.ExplainTaskRequest(task_id="card3"))
    assert list(why.obstacles[0].task_ids) == ["card0", "card1", "card2"]
    for card in ("card0", "card1"):
        assert "is to be looked at" in (await _move(client, "ada", card, "review"))["enter:review"]
    refused = await refusal(update(client, "card2", worker_id="ada", status="review"))
    assert (refused.reason, refused.metadata["wip_limit"]) == ("WIP_LIMIT", "2")
    assert len((await claim_next(client, "ada", max_tasks=9)).tasks) == 2
    await _attach(client, "ada", "card0", "review")
    assert not (await _end(client, "ada", "card0")).warnings
    answer = await _end(client, "ada", "card1")
    assert "gate 'review' on leaving status:review" in answer.warnings[0]
    assert "Look right to left" in _told(answer.prompts)["enter:completed"]
    await _move(client, "ada", "card2", "review")
    assert (await _next(client, "ada"))[0] == "card5"


async def test_sprint(client: Client) -> None:
    """Nothing of a sprint is done before a review is attached; the end teaches something."""
    told = await _connect(client, "pia", "sprint", "planner")
    assert "Agrees" not in told["role:planner"]
    assert "points on every task" in told["role:planner"]
    for builder in ("ada", "bob"):
        assert f"{builder}, builder" in (await _connect(client, builder, "sprint"))["connect"]
    children = [
        v1.TaskNode(id="feature", title="the feature", points=3, phase="implement"),
        v1.TaskNode(id="look-back", title="look back", blocked_by=["feature"], phase="retrospect"),
    ]
    tree = v1.TaskNode(id="sprint", title="the goal", children=children)
    await client.tasks.CreateTaskTree(
        v1.CreateTaskTreeRequest(root=tree, workflow="sprint", worker_id="pia")
    )
    task, told = await _next(client, "ada", "sprint")
    assert "feature is yours (3 points): the feature" in told["enter:working"]
    assert "so that the sprint can end on any day" in told["enter-phase:implement"]
    assert (await refusal(_end(client, "ada", task))).reason == "ILLEGAL_TRANSITION"
    told = await _move(client, "ada", task, "review")
    assert "waits for another pair of eyes" in told["enter:review"]
    assert await _missing(client, task) == ["review"]
    assert (await refusal(_end(client, "ada", task))).reason == "GATE_UNSATISFIED"
    assert (await refusal(_end(client, "ada", task, force=True))).reason == "ROLE_FORBIDS"
    await _attach(client, "bob", task, "review")
    answer = await _end(client, "ada", task)
    assert "counts for the sprint" in _told(answer.prompts)["enter:completed"]
    task, told = await _next(client, "bob", "sprint")
    assert "Name one thing to do otherwise" in told["enter-phase:retrospect"]
    await _move(client, "bob", task, "review")
    await _attach(client, "ada", task, "review")
    assert await _missing(client, task) == ["lesson"]
    for _ in range(2):  # the second takes the place of the first
        await _attach(client, "bob", task, "lesson")
    await _end(client, "bob", task)
    there = await client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id=task))
    assert [(one.type, one.sequence) for one in there.attachments] == [("lesson", 1), ("review", 0)]
    assert (await show(client, "sprint")).status == "completed"


async def test_workflows_side_by_side(client: Client) -> None:
    """A worker of one workflow takes the tasks of others, and is told what those say."""
    await connect(client, "ada", workflow="swarm", max_claims=9)
    for workflow in ("solo", "kanban", "relay"):
        await create(client, workflow, workflow=workflow)
    answer = await claim_next(client, "ada", max_tasks=9)
    by_task = {prompt.task_id: prompt.text for prompt in answer.prompts}
    assert "Now: solo" in by_task["solo"]
    assert "One card at a time" in by_task["kanban"]
    assert "is your leg of the relay" in by_task["relay"]
