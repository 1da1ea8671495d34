"""The shipped workflows: each drives a task through a whole life, and speaks on the way."""

import pytest
from taskloom import v1
from taskloom_client import Client
from taskloom_server.prompts import _SAMPLES
from taskloom_server.workflow_files import SHIPPED, load_workflows

from tests.calls import claim, complete, create, fail, refusal, show, update

WORKFLOWS = load_workflows("swarm")
NAMES = ["hierarchical", "kanban", "push", "relay", "solo", "sprint", "swarm"]
# Whose specialist may take the task, where the workflow has such.
TAGS = {"push": ["coordinator"], "hierarchical": ["lead"], "relay": ["lead"], "sprint": ["planner"]}


def triggers(prompts: object) -> list[str]:
    """What called for prompts; all of them say something."""
    found: list[v1.Prompt] = list(prompts)  # type: ignore[call-overload]
    assert all(prompt.text.strip() and "{" not in prompt.text for prompt in found)
    return [prompt.trigger for prompt in found]


def test_these_are_shipped() -> None:
    """Each file has the name of its workflow, and all of them are there."""
    assert sorted(WORKFLOWS.by_name) == NAMES
    assert sorted(path.stem for path in SHIPPED.glob("*.yaml")) == NAMES
    assert sorted(WORKFLOWS.overlays) == ["careful", "tdd"]


@pytest.mark.parametrize("name", NAMES)
def test_each_is_described_and_speaks(name: str) -> None:
    """Each says what it is for, and has something to say at a claim and at a completion."""
    workflow = WORKFLOWS.get(name)
    topology = workflow.topology
    assert workflow.description
    assert all((topology.phase_model, topology.coordination, topology.granularity))
    assert all((topology.default_dependencies, topology.agents))
    assert workflow.connect_prompt is not None
    for state in (workflow.claim_state, workflow.complete_state, workflow.fail_state):
        prompt = workflow.states[state].enter_prompt
        assert prompt is not None
        for sample in _SAMPLES:
            assert len(prompt.render(sample)) > 40
    for overlay in WORKFLOWS.overlays:
        assert WORKFLOWS.get(name, (overlay,)) != workflow


@pytest.mark.parametrize("name", NAMES)
async def test_a_whole_life(client: Client, name: str) -> None:
    """A task is assigned, begun, parked, done, reopened, failed, reopened and given up."""
    worker = v1.ConnectRequest(worker_id="w", workflow=name, tags=TAGS.get(name))
    connected = await client.workers.Connect(worker)
    assert "connect" in triggers(connected.prompts)
    task = await create(client, "a", workflow=name, phase="implement")
    assert task.status == "pending"
    request = v1.UpdateTaskRequest(task_id="a", assignee="w", worker_id="w")
    assert (await client.tasks.UpdateTask(request)).task.status == "assigned"

    begun = await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="a"))
    assert begun.task.status == "working"
    assert "enter:working" in triggers(begun.prompts)
    assert (await update(client, "a", worker_id="w", status="waiting")).status == "waiting"
    assert (await update(client, "a", worker_id="w", status="working")).status == "working"
    if name in ("kanban", "sprint"):
        moved = await client.tasks.UpdateTask(
            v1.UpdateTaskRequest(task_id="a", worker_id="w", status="review")
        )
        assert triggers(moved.prompts) == ["enter:review"]
    await attach(client, "review")
    done = await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id="a"))
    assert done.task.status == "completed"
    assert "enter:completed" in triggers(done.prompts)

    assert (await update(client, "a", status="pending", reason="once more")).status == "pending"
    await claim(client, "w", "a")
    assert (await fail(client, "w", "a", reason="no")).status == "failed"
    assert (await update(client, "a", status="pending")).status == "pending"
    assert (await update(client, "a", status="cancelled")).status == "cancelled"


async def attach(client: Client, type: str) -> None:
    """What a gate may ask for."""
    await client.attachments.Attach(
        v1.AttachRequest(worker_id="w", task_id="a", type=type, content=b"it is good")
    )


async def test_sprint_wants_a_review(client: Client) -> None:
    """In a sprint nothing is done before it was in review, and a review is attached."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", workflow="sprint"))
    await create(client, "a", workflow="sprint")
    await claim(client, "w", "a")
    assert (await refusal(complete(client, "w", "a"))).reason == "ILLEGAL_TRANSITION"
    await update(client, "a", worker_id="w", status="review")
    assert (await refusal(complete(client, "w", "a"))).reason == "GATE_UNSATISFIED"
    await attach(client, "review")
    assert (await complete(client, "w", "a")).status == "completed"


async def test_kanban_has_limits(client: Client) -> None:
    """Three cards are in progress at once, and no fourth."""
    request = v1.ConnectRequest(worker_id="w", workflow="kanban", max_claims=9)
    await client.workers.Connect(request)
    for id in "abcd":
        await create(client, id, workflow="kanban")
    for id in "abc":
        await claim(client, "w", id)
    assert (await refusal(claim(client, "w", "d"))).reason == "WIP_LIMIT"
    await update(client, "a", worker_id="w", status="review")
    assert (await claim(client, "w", "d")).status == "working"


async def test_push_leaves_assigning_to_the_coordinator(client: Client) -> None:
    """Workers of push may not assign; the coordinator may."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="w", workflow="push"))
    boss = v1.ConnectRequest(worker_id="boss", workflow="push", tags=["coordinator"])
    assert (await client.workers.Connect(boss)).worker.role == "coordinator"
    await create(client, "a", workflow="push")
    error = await refusal(update(client, "a", worker_id="w", assignee="w"))
    assert error.reason == "ROLE_FORBIDS"
    assert (await update(client, "a", worker_id="boss", assignee="w")).status == "assigned"


async def test_relay_takes_the_phased_template(client: Client) -> None:
    """Each phase of the template has its role in relay, and its prompts."""
    phases = {"explorer": "explore", "architect": "design"}
    phases |= {"implementer": "implement", "tester": "test"}
    for tag, phase in phases.items():
        request = v1.ConnectRequest(worker_id=tag, workflow="relay", tags=[tag])
        assert (await client.workers.Connect(request)).worker.role == tag
        await create(client, phase, workflow="relay", phase=phase, needed_tags=[tag])
        taken = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id=tag))
        assert [task.id for task in taken.tasks] == [phase]
        assert triggers(taken.prompts) == ["enter:working", f"enter-phase:{phase}"]
        done = await client.claims.CompleteTask(
            v1.CompleteTaskRequest(worker_id=tag, task_id=phase)
        )
        assert [warning for warning in done.warnings if "asks for an attachment" in warning]
        assert (await show(client, phase)).status == "completed"


async def test_get_workflow_shows_all_of_it(client: Client) -> None:
    """Topology, states with limits and prompts, phases, roles, gates and types are shown."""
    request = v1.GetWorkflowRequest(name="kanban")
    kanban = (await client.admin.GetWorkflow(request)).workflow
    limits = {state.name: state.wip_limit for state in kanban.states}
    assert (limits["working"], limits["review"], limits["pending"]) == (3, 2, 0)
    relay = (await client.admin.GetWorkflow(v1.GetWorkflowRequest(name="relay"))).workflow
    assert relay.topology.coordination
    assert "lead" in [role.name for role in relay.roles if role.can_force]
    gates = {(gate.leaving, gate.attachment_type, gate.enforcement) for gate in relay.gates}
    assert ("phase:review", "review", "warn") in gates
    assert all(phase.enter_prompt for phase in relay.phases)
    assert [each.phase for each in relay.combination_prompts] == ["review"]
    assert {each.name: each.mode for each in relay.attachment_types}["design"] == "replace"
    assert (relay.parents, relay.unknown_phase) == ("rollup", "reject")
    assert "{{ task.id }}" in next(s.enter_prompt for s in relay.states if s.name == "working")
