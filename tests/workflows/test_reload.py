"""Workflow files read anew on SIGHUP: all of them, or none."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

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
    refusal,
    release,
    show,
    update,
)

if TYPE_CHECKING:
    from tests.conftest import ServerProcess

FLOW = """\
name: mine
states:
  pending: {exits: [working, stuck]}
  stuck: {exits: [pending]}
  working: {exits: [pending, done, lost]}
  done: {exits: [pending], terminal: true}
  lost: {exits: []}
settings:
  initial_state: pending
  assign_state: working
  claim_state: working
  complete_state: done
  fail_state: lost
  cancel_state: lost
  disconnect_state: pending
  blocking_states: [pending, working, lost]
"""


class Reloading:
    """A server process with a folder of workflows."""

    def __init__(self, server: "ServerProcess", folder: Path, client: Client) -> None:
        self.server = server
        self.file = folder / "mine.yaml"
        self.client = client

    async def hup(self) -> v1.ListWorkflowsResponse:
        """What is in force, or what is wrong, after a signal; as soon as it has been seen to."""
        before = await self.listed()
        self.server.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(20):
            while True:
                now = await self.listed()
                seen = now.load_time, now.load_error_time
                if seen != (before.load_time, before.load_error_time):
                    return now

    async def listed(self) -> v1.ListWorkflowsResponse:
        """What ListWorkflows answers."""
        return await self.client.admin.ListWorkflows(v1.ListWorkflowsRequest())

    async def change(self, old: str, new: str) -> v1.ListWorkflowsResponse:
        """Change the file, and have it read."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new, 1))
        return await self.hup()


@pytest.fixture
async def reloading(
    start_process: Callable[..., Awaitable["ServerProcess"]], tmp_path: Path
) -> "Reloading":
    """A server whose folder holds ``mine``; two workers are connected to it."""
    folder = tmp_path / "flows"
    folder.mkdir()
    (folder / "mine.yaml").write_text(FLOW)
    server = await start_process("--workflow-dir", str(folder), "--log-format", "json")
    client = Client(server.address)
    await connect(client, "w", "v", workflow="mine", max_claims=9)
    return Reloading(server, folder, client)


async def test_a_good_file_is_in_force(reloading: Reloading) -> None:
    """A changed workflow, and a new one, hold from the signal on."""
    client = reloading.client
    await create(client, "a", workflow="mine")
    other = FLOW.replace("name: mine", "name: other")
    reloading.file.with_name("other.yaml").write_text(other)
    answer = await reloading.change("states:\n", "description: Anew.\nstates:\n")
    assert {"mine", "other", "swarm"} <= set(answer.names)
    assert not answer.load_error
    shown = await client.admin.GetWorkflow(v1.GetWorkflowRequest(name="mine"))
    assert shown.workflow.description == "Anew."
    assert (await create(client, "b", workflow="other")).workflow == "other"
    assert [task.id for task in (await claim_next(client, "w")).tasks] == ["a"]
    await client.close()


async def test_a_broken_file_changes_nothing(reloading: Reloading) -> None:
    """One wrong file leaves all old ones in force; the log and the caller are told which line."""
    client = reloading.client
    other = FLOW.replace("name: mine", "name: other")
    reloading.file.with_name("other.yaml").write_text(other)
    answer = await reloading.change("working: {exits: [pending, done", "working: {exits: [gone")
    place = f"{reloading.file}:5: states.working.exits: there is no state 'gone'"
    assert answer.load_error.startswith(place)
    assert "other" not in answer.names
    assert place in reloading.server.log()
    assert '"line": 5' in reloading.server.log()
    await create(client, "a", workflow="mine")
    await claim(client, "w", "a")
    assert (await complete(client, "w", "a")).status == "done"
    mended = await reloading.change("[gone", "[pending, done")
    assert not mended.load_error
    assert not mended.HasField("load_error_time")
    assert "other" in mended.names
    await client.close()


async def test_a_workflow_that_goes_leaves_its_tasks(reloading: Reloading) -> None:
    """Tasks of a removed workflow stay as they are, keep nobody from others, and come back."""
    client = reloading.client
    await create(client, "held", workflow="mine", priority=9)
    await create(client, "free", workflow="mine", priority=9)
    await create(client, "blocked", blocked_by=["free"])
    await create(client, "swarming")
    await claim(client, "w", "held")
    text = reloading.file.read_text()
    reloading.file.unlink()
    assert "mine" not in (await reloading.hup()).names
    assert "in workflow 'mine', which is not there any more" in reloading.server.log()
    assert (await refusal(complete(client, "w", "held"))).reason == "WORKFLOW_NOT_FOUND"
    assert (await show(client, "held")).worker_id == "w"
    taken = await claim_next(client, "v", max_tasks=5)
    assert [task.id for task in taken.tasks] == ["swarming"]
    assert (await refusal(claim(client, "v", "blocked"))).reason == "DEPENDENCIES_UNMET"
    reloading.file.write_text(text)
    assert "mine" in (await reloading.hup()).names
    assert (await complete(client, "w", "held")).status == "done"
    assert [task.id for task in (await claim_next(client, "v")).tasks] == ["free"]
    assert (await complete(client, "v", "free")).status == "done"
    assert (await show(client, "blocked")).ready
    await client.close()


async def test_a_state_that_goes_leaves_its_tasks(reloading: Reloading) -> None:
    """A task in a removed state stays in it; the way from there is to the beginning."""
    client = reloading.client
    await create(client, "a", workflow="mine")
    await update(client, "a", status="stuck")
    await reloading.change("[working, stuck]}\n  stuck: {exits: [pending]}", "[working]}")
    assert "in state 'stuck', which workflow 'mine' does not have" in reloading.server.log()
    assert (await show(client, "a")).status == "stuck"
    error = await refusal(update(client, "a", status="working"))
    assert error.reason == "ILLEGAL_TRANSITION"
    assert (await update(client, "a", status="pending")).ready
    await client.close()


async def test_what_blocks_is_counted_anew(reloading: Reloading) -> None:
    """Where the blocking states change, what they held back is ready, or blocked, at once."""
    client = reloading.client
    await create(client, "a", workflow="mine")
    await create(client, "b", workflow="mine", blocked_by=["a"])
    await claim(client, "w", "a")
    assert not (await show(client, "b")).ready
    waiting = asyncio.create_task(claim_next(client, "v", wait=duration(20_000)))
    await reloading.change("blocking_states: [pending, working,", "blocking_states: [pending,")
    assert [task.id for task in (await waiting).tasks] == ["b"]
    await release(client, "v", "b")
    await reloading.change("blocking_states: [pending,", "blocking_states: [pending, working,")
    assert not (await show(client, "b")).ready
    await complete(client, "w", "a")
    assert (await show(client, "b")).ready
    await client.close()


async def test_where_tasks_begin_may_change(reloading: Reloading) -> None:
    """Tasks in the new initial state can be claimed, those in the old one cannot any more."""
    client = reloading.client
    await create(client, "old", workflow="mine", priority=9)
    await create(client, "new", workflow="mine")
    await update(client, "new", status="stuck")
    text = reloading.file.read_text()
    text = text.replace("stuck: {exits: [pending]}", "stuck: {exits: [pending, working]}")
    text = text.replace("exits: [pending, done, lost]", "exits: [pending, stuck, done, lost]")
    text = text.replace("initial_state: pending", "initial_state: stuck")
    text = text.replace("disconnect_state: pending", "disconnect_state: stuck")
    reloading.file.write_text(text)
    assert not (await reloading.hup()).load_error
    assert not (await show(client, "old")).ready
    assert [task.id for task in (await claim_next(client, "w", max_tasks=5)).tasks] == ["new"]
    await client.close()
