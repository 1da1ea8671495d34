"""Overlays: what is laid over a workflow for one worker is what that worker must pass and hears."""

from typing import Any

from taskloom import v1
from taskloom_client import Client

from tests.calls import claim, complete, connect, create, refusal, update


async def _lay(client: Client, worker: str, overlay: str) -> None:
    request = v1.AddOverlayRequest(worker_id=worker, overlay=overlay)
    await client.workers.AddOverlay(request)


async def _missing(client: Client, task: str, **fields: Any) -> list[str]:
    answer = await client.tasks.CheckGates(v1.CheckGatesRequest(task_id=task, **fields))
    return [gate.attachment_type for gate in answer.gates if not gate.satisfied]


async def test_its_gates_are_for_its_worker(client: Client) -> None:
    """A gate of an overlay keeps the worker that has it, and nobody else, as long as it has it."""
    await connect(client, "ada", "bob", max_claims=9)
    for id in ("one", "two", "three"):
        await create(client, id)
    await _lay(client, "ada", "careful")
    await claim(client, "ada", "one")
    await claim(client, "bob", "two")
    assert await _missing(client, "one") == ["plan", "check"]
    assert await _missing(client, "one", worker_id="bob") == []
    assert await _missing(client, "two") == []
    await complete(client, "bob", "two")
    error = await refusal(complete(client, "ada", "one"))
    assert (error.reason, error.metadata["attachment_types"]) == ("GATE_UNSATISFIED", "check")
    assert (await update(client, "one", status="waiting")).status == "waiting"  # by a person
    await update(client, "one", worker_id="ada", status="working")
    check = v1.AttachRequest(worker_id="ada", task_id="one", type="check")
    attached = await client.attachments.Attach(check)
    assert attached.attachment.mime_type == "text/markdown"
    answer = await client.claims.CompleteTask(
        v1.CompleteTaskRequest(worker_id="ada", task_id="one")
    )
    assert "gate 'plan'" in answer.warnings[0]
    await claim(client, "ada", "three")
    await client.workers.RemoveOverlay(v1.RemoveOverlayRequest(worker_id="ada", overlay="careful"))
    await complete(client, "ada", "three")


async def test_its_prompts_stand_below_those_of_the_workflow(client: Client) -> None:
    """A claim tells the worker what the workflow says, and then what the overlays say."""
    await connect(client, "ada", max_claims=9)
    await create(client, "t", phase="implement")
    for overlay in ("careful", "tdd"):
        await _lay(client, "ada", overlay)
    request = v1.ClaimTaskRequest(worker_id="ada", task_id="t")
    told = {one.trigger: one.text for one in (await client.claims.ClaimTask(request)).prompts}
    assert told["enter:working"].startswith("t is yours: t")
    assert "Carefully: before you change anything" in told["enter:working"]
    assert "the smallest test that fails for want of what t asks" in told["enter-phase:implement"]
    assert await _missing(client, "t", phase="review") == ["test-run"]


async def test_who_may_not_force_keeps_its_gates(client: Client) -> None:
    """A worker takes no overlay off by which a gate would go, neither here nor by connecting."""
    await connect(client, "ada", workflow="sprint", overlays=["careful"])
    await connect(client, "lead", workflow="sprint", tags=["planner"])
    without = v1.RemoveOverlayRequest(worker_id="ada", overlay="careful")
    for going in (
        client.workers.RemoveOverlay(without),
        connect(client, "ada", workflow="sprint", overlays=["tdd"]),
        connect(client, "ada", workflow="swarm"),
    ):
        error = await refusal(going)
        assert (error.reason, error.metadata["right"]) == ("ROLE_FORBIDS", "force")
    await connect(client, "ada", workflow="sprint", overlays=["tdd", "careful"])  # none goes
    without.by_worker_id = "lead"
    left = (await client.workers.RemoveOverlay(without)).worker.overlays
    assert list(left) == ["tdd"]
    person = v1.RemoveOverlayRequest(worker_id="ada", overlay="tdd", by_worker_id="")
    assert not (await client.workers.RemoveOverlay(person)).worker.overlays
