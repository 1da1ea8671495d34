"""taskloom status, pause, resume, reset, workflow: the state of the whole."""

import asyncio
from typing import TYPE_CHECKING

from taskloom import v1
from taskloom_client import Client

from tests.cli.terminal import asked_on_a_terminal

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


async def test_status_says_how_the_whole_stands(cli: "Cli", client: Client) -> None:
    """Tasks by status, what is ready, who is there, and whether it is paused by whom and why."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="A"))
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="b", title="B", blocked_by=["a"]))
    assert (await cli("pause", "--by", "ann", "--reason", "release")).code == 0
    status = await cli("status")
    assert (status.code, status.err) == (0, "")
    fields = dict(line.split(maxsplit=1) for line in status.out.splitlines())
    assert fields["tasks"] == "2: 2 pending"
    assert fields["open"].startswith("2: 1 ready, 0 claimed")
    assert fields["paused"].startswith("yes by ann since ")
    assert fields["paused"].endswith(": release")
    answer = (await cli("status", "--json")).json
    assert answer["tasks_by_status"]["pending"] == "2"
    assert answer["paused"]["by"] == "ann"

    assert (await cli("resume")).out == "resumed\n"
    assert "paused       no" in (await cli("status")).out


async def test_a_subtree_is_paused_and_resumed(cli: "Cli", client: Client) -> None:
    """--task pauses what is below one task; status says which, by whom and why, until resume."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="top", title="T"))
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="A", parent_id="top"))
    paused = await cli("pause", "--task", "top", "--by", "ann", "--reason", "red")
    assert (paused.code, paused.out) == (
        0,
        "paused top and all below it: no new claims there until 'taskloom resume --task top'\n",
    )
    lines = (await cli("status")).out.splitlines()
    (line,) = [line for line in lines if line.startswith("paused top ")]
    assert line.split()[2:5] == ["yes", "by", "ann"]
    assert line.endswith(": red")
    assert any(line.split() == ["paused", "no"] for line in lines)
    assert not (await client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))).task.ready
    unknown = await cli("pause", "--task", "nope")
    assert (unknown.code, unknown.out) == (3, "")

    resumed = await cli("resume", "--task", "top")
    assert (resumed.code, resumed.out) == (0, "resumed top\n")
    assert (await client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))).task.ready
    assert "paused top" not in (await cli("status")).out


async def test_status_tells_of_work_for_which_nobody_is_there(cli: "Cli", client: Client) -> None:
    """Ready tasks whose tags no connected worker has are counted, and nothing is said of none."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann"))
    assert "unmatched" not in (await cli("status")).out
    await client.tasks.CreateTask(v1.CreateTaskRequest(title="A", needed_tags=["gpu"]))
    line = next(each for each in (await cli("status")).out.splitlines() if "unmatched" in each)
    assert line.split(maxsplit=1)[1].startswith("1 ready task for which no connected worker has")


async def test_reset_asks_nobody_with_yes(cli: "Cli", client: Client) -> None:
    """--yes deletes everything, without a question."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="A"))
    done = await cli("reset", "--yes")
    assert (done.code, done.err) == (0, "")
    assert not (await client.tasks.ListTasks(v1.ListTasksRequest())).tasks


async def test_reset_asks_first(cli: "Cli", client: Client, environment: dict[str, str]) -> None:
    """On a terminal reset says what would be lost, and takes anything but yes for a no."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="A"))

    async def answered(answer: bytes | None) -> tuple[int, str]:
        told = "This deletes 1 task and the whole history"
        return await asyncio.to_thread(asked_on_a_terminal, ["reset"], told, answer, environment)

    assert await answered(b"n\n") == (1, "error: nothing was deleted")
    assert await answered(None) == (130, "")
    assert (await client.tasks.ListTasks(v1.ListTasksRequest())).tasks
    assert (await answered(b"y\n"))[0] == 0
    assert not (await client.tasks.ListTasks(v1.ListTasksRequest())).tasks


async def test_workflows_can_be_looked_at(cli: "Cli") -> None:
    """The list says which is the default; that one is shown with its states and their exits."""
    listed = await cli("workflow", "list")
    lines = [line.split()[:2] for line in listed.out.splitlines()]
    assert lines[0] == ["WORKFLOW", "DEFAULT"]
    assert ["swarm", "yes"] in lines
    shown = await cli("workflow", "show")
    assert (shown.code, shown.err) == (0, "")
    assert "workflow      swarm" in shown.out
    states = shown.out.partition("\n\n")[2].splitlines()
    assert states[0].split() == ["STATE", "TIMED", "ENDS", "PARKED", "EXITS", "TO"]
    assert any(line.split()[:2] == ["working", "yes"] for line in states)
    assert (await cli("workflow", "show", "swarm", "--json")).json["workflow"]["name"] == "swarm"
    unknown = await cli("workflow", "show", "nope")
    assert (unknown.code, unknown.out) == (3, "")
    assert "(WORKFLOW_NOT_FOUND)" in unknown.err
