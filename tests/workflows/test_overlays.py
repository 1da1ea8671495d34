"""Overlays: what they add and remove, for a worker, over restarts; and which are refused."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.calls import claim, complete, connect, create, event, refusal, show_worker, update

ALONE = """\
name: alone
description: Nothing waits.
workflows: [swarm]
remove:
  exits: {working: [waiting]}
  states: [waiting]
"""
QUIET = """\
name: quiet
phases: [polish]
roles:
  mouse: {tags: [], max_claims: 1, can_force: false}
remove:
  prompts: [status:working]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of workflows with two overlays."""
    overlays = tmp_path / "flows" / "overlays"
    overlays.mkdir(parents=True)
    (overlays / "alone.yaml").write_text(ALONE)
    (overlays / "quiet.yaml").write_text(QUIET)
    return overlays.parent


@pytest.fixture
async def client(start_server: Callable[..., Any], folder: Path) -> AsyncIterator[Client]:
    """A client of a server with that folder."""
    async with start_server(workflow_dir=folder) as server, Client(server.address) as connected:
        yield connected


async def add(client: Client, name: str, worker: str = "w") -> v1.AddOverlayResponse:
    """Lay an overlay over a worker's workflow."""
    request = v1.AddOverlayRequest(worker_id=worker, overlay=name)
    return await client.workers.AddOverlay(request)


async def remove(client: Client, name: str) -> v1.RemoveOverlayResponse:
    """Take an overlay from the worker."""
    request = v1.RemoveOverlayRequest(worker_id="w", overlay=name)
    return await client.workers.RemoveOverlay(request)


async def test_added_told_shown_and_removed(client: Client) -> None:
    """Overlays lie in the order of adding; each change is shown and told, what is none is not."""
    await connect(client, "w")
    first = await add(client, "tdd")
    second = await add(client, "careful")
    assert list(second.worker.overlays) == ["tdd", "careful"]
    assert (await add(client, "tdd")).revision == second.revision
    assert list((await show_worker(client, "w")).overlays) == ["tdd", "careful"]
    told = await event(client, v1.EVENT_TYPE_WORKER_UPDATED, since=first.revision - 1)
    assert (told.worker_id, list(told.worker.overlays)) == ("w", ["tdd"])
    assert list((await remove(client, "tdd")).worker.overlays) == ["careful"]
    after = await remove(client, "careful")
    assert list(after.worker.overlays) == []
    assert (await remove(client, "nothing")).revision == after.revision


async def test_overlays_survive_a_restart(start_server: Callable[..., Any]) -> None:
    """What a worker has, it has after a restart, and after connecting anew."""
    async with start_server() as server, Client(server.address) as client:
        await connect(client, "w")
        await add(client, "tdd")
        await add(client, "careful")
    async with start_server(db=server.db) as server, Client(server.address) as client:
        assert list((await show_worker(client, "w")).overlays) == ["tdd", "careful"]
        await connect(client, "w")
        assert list((await show_worker(client, "w")).overlays) == ["tdd", "careful"]
        await connect(client, "w", workflow="solo")
        assert list((await show_worker(client, "w")).overlays) == []


async def test_connecting_with_overlays(client: Client) -> None:
    """Overlays may be given as the worker connects, and are checked like any."""
    request = v1.ConnectRequest(worker_id="w", overlays=["careful", "quiet"], max_claims=5)
    answer = await client.workers.Connect(request)
    assert list(answer.worker.overlays) == ["careful", "quiet"]
    assert (answer.worker.role, answer.worker.max_claims) == ("mouse", 1)
    request.overlays[:] = ["nothing"]
    assert (await refusal(client.workers.Connect(request))).reason == "OVERLAY_NOT_FOUND"


async def test_gates_and_prompts_of_an_overlay_hold_for_its_worker(client: Client) -> None:
    """Whoever has the overlay hears its prompts and meets its gates; others do not."""
    await connect(client, "w", "other")
    await add(client, "careful")
    for worker in ("w", "other"):
        await create(client, worker)
    taken = await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="w"))
    assert "Carefully:" in taken.prompts[0].text
    assert taken.prompts[0].text.startswith("w is yours")
    gates = await client.tasks.CheckGates(v1.CheckGatesRequest(task_id="w"))
    assert [gate.name for gate in gates.gates] == ["plan", "check"]
    assert (await refusal(complete(client, "w", "w"))).reason == "GATE_UNSATISFIED"
    other = await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="other", task_id="other"))
    assert "Carefully:" not in other.prompts[0].text
    assert (await complete(client, "other", "other")).status == "completed"
    await remove(client, "careful")
    assert (await complete(client, "w", "w")).status == "completed"


async def test_what_an_overlay_removes_is_gone_for_its_worker(client: Client) -> None:
    """A state that is removed cannot be gone to, and prompts that are removed are not heard."""
    await connect(client, "w")
    await add(client, "alone")
    await add(client, "quiet")
    await create(client, "a", phase="test")
    taken = await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id="a"))
    assert [prompt.trigger for prompt in taken.prompts] == []
    error = await refusal(update(client, "a", worker_id="w", status="waiting"))
    assert error.reason == "ILLEGAL_TRANSITION"
    assert (await update(client, "a", worker_id="w", phase="polish")).phase == "polish"


async def test_a_state_that_tasks_are_in_is_not_removed(client: Client) -> None:
    """An overlay that removes a state in use is refused, and names the state and a task."""
    await connect(client, "w", "other")
    await create(client, "a")
    await claim(client, "other", "a")
    await update(client, "a", worker_id="other", status="waiting")
    error = await refusal(add(client, "alone"))
    assert error.reason == "OVERLAY_UNFIT"
    assert "'waiting'" in str(error)
    assert "'a'" in str(error)
    assert list((await show_worker(client, "w")).overlays) == []
    await update(client, "a", worker_id="other", status="working")
    assert list((await add(client, "alone")).worker.overlays) == ["alone"]


async def test_overlays_that_are_refused(client: Client) -> None:
    """One that there is not, one for another workflow, one of nobody."""
    await connect(client, "w", workflow="solo")
    unknown = await refusal(add(client, "carefull"))
    assert (unknown.reason, "careful" in str(unknown)) == ("OVERLAY_NOT_FOUND", True)
    unfit = await refusal(add(client, "alone"))
    assert (unfit.reason, "is for swarm" in str(unfit)) == ("OVERLAY_UNFIT", True)
    assert (await refusal(add(client, "tdd", "nobody"))).reason == "WORKER_NOT_FOUND"


async def test_a_workflow_with_overlays_is_shown(client: Client) -> None:
    """GetWorkflow shows what a worker with overlays goes by; ListWorkflows lists overlays."""
    request = v1.GetWorkflowRequest(name="swarm", overlays=["alone", "careful"])
    shown = (await client.admin.GetWorkflow(request)).workflow
    assert "waiting" not in [state.name for state in shown.states]
    assert [gate.name for gate in shown.gates] == ["plan", "check"]
    listed = await client.admin.ListWorkflows(v1.ListWorkflowsRequest())
    assert [each.name for each in listed.overlays] == ["alone", "careful", "quiet", "tdd"]
    assert list(listed.overlays[0].workflows) == ["swarm"]
