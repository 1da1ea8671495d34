"""taskloom watch --until and --until-done: a script waits for tasks, and learns how it went."""

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from taskloom import v1
from taskloom_client import Client

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Start
    from tests.conftest import ServerProcess, TestClock

Waiting: TypeAlias = Callable[..., Awaitable[Process]]


@pytest.fixture
async def waiting(start: "Start", cli: "Cli") -> Waiting:
    """Start ``taskloom watch --json …`` against the test's server: it has the state, and waits."""

    async def begin(*arguments: str) -> Process:
        process = await start("watch", "--json", *arguments)
        await synced(process)
        return process

    return begin


async def read(process: Process) -> dict[str, Any]:
    """What the next line says."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line: dict[str, Any] = json.loads(await process.stdout.readline())
    return line


async def synced(process: Process) -> None:
    """Read until the watch has seen the tasks as they are."""
    while "synced" not in await read(process):
        pass


async def ended(process: Process) -> tuple[int | None, list[str], str]:
    """How the command ends: exit code, the events of its last lines as "type task", and stderr."""
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    lines = [json.loads(line) for line in out.decode().splitlines()]
    events = [
        f"{line['type'].removeprefix('EVENT_TYPE_')} {line['task_id']}"
        for line in lines
        if "type" in line
    ]
    return process.returncode, events, err.decode()


async def add(client: Client, *ids: str, **fields: Any) -> None:
    """Add tasks of these ids."""
    for id in ids:
        await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id, **fields))


async def work(client: Client, *ids: str, fail: bool = False) -> None:
    """Claim tasks and complete them, or fail them for good."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann", max_claims=100))
    for id in ids:
        await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="ann", task_id=id))
        if fail:
            await client.claims.FailTask(v1.FailTaskRequest(worker_id="ann", task_id=id))
        else:
            await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="ann", task_id=id))


async def move(client: Client, id: str, status: str) -> None:
    """Change a task's status."""
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=id, status=status))


async def delete(client: Client, id: str) -> None:
    """Delete a task, and what is below it."""
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id=id, cascade=True))


async def rewrite(client: Client, id: str, text: str) -> None:
    """Change a task's description 75 times, to 15 KB each."""
    for n in range(75):
        request = v1.UpdateTaskRequest(task_id=id, description=f"{text}-{n}" + "x" * 15_000)
        await client.tasks.UpdateTask(request)


async def test_ends_when_the_task_is_there(waiting: Waiting, client: Client) -> None:
    """The command ends with the event that brings the task there, and with exit code 0."""
    await add(client, "a", "b")
    process = await waiting("--task", "a", "--until", "completed")
    await work(client, "b", "a")
    assert await ended(process) == (0, ["TASK_CLAIMED a", "TASK_COMPLETED a"], "")


@pytest.mark.parametrize(
    "wanted", ["--until=completed", "--until=failed, completed", "--until-done"]
)
async def test_ends_at_once_when_it_is_so(cli: "Cli", client: Client, wanted: str) -> None:
    """What is there from the beginning is not waited for, and nothing is printed of it."""
    await add(client, "a", "b")
    await work(client, "a")
    for chosen in ("--task", "--subtree"):
        ran = await cli("watch", chosen, "a", wanted)
        assert (ran.code, ran.out, ran.err) == (0, "", "")


async def test_all_of_several_tasks(waiting: Waiting, client: Client) -> None:
    """With several tasks all must be there; a status in between is as good as one at the end."""
    await add(client, "a", "b", "c")
    await work(client, "a")
    process = await waiting("--task", "b", "--task", "a", "--until", "working,completed")
    await work(client, "c")
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="ann", task_id="b"))
    assert await ended(process) == (0, ["TASK_CLAIMED b"], "")


async def test_all_of_a_subtree(waiting: Waiting, client: Client) -> None:
    """Of a subtree all tasks are waited for: one that is added as well, one taken out no more."""
    await add(client, "root", "other")
    await add(client, "left", "right", parent_id="root")
    process = await waiting("--subtree", "root", "--until", "completed")
    await work(client, "left")
    await add(client, "new", parent_id="root")
    await client.tasks.UnlinkTasks(
        v1.UnlinkTasksRequest(
            from_task_id="root", to_task_id="right", type=v1.DEPENDENCY_TYPE_CONTAINS
        )
    )
    await work(client, "new")
    code, events, err = await ended(process)
    assert (code, err) == (0, "")
    # The root completes by itself, with the last of its children and in the same revision.
    assert events[-2:] == ["TASK_COMPLETED new", "TASK_COMPLETED root"]


async def test_all_of_the_graph(waiting: Waiting, client: Client) -> None:
    """With neither --task nor --subtree the whole graph is waited for."""
    await add(client, "a", "b")
    process = await waiting("--until", "completed")
    await work(client, "a")
    await add(client, "c")
    await delete(client, "b")
    await work(client, "c")
    code, events, err = await ended(process)
    assert (code, events[-1], err) == (0, "TASK_COMPLETED c", "")


async def test_an_empty_graph_is_done(cli: "Cli") -> None:
    """Where there is no task there is none to wait for."""
    for wanted in ("--until=completed", "--until-done"):
        assert (await cli("watch", wanted)).code == 0


async def test_done_is_any_end(waiting: Waiting, client: Client) -> None:
    """--until-done takes completed, failed, cancelled and deleted alike, also of a named task."""
    ids = ["completed", "failed", "cancelled", "deleted", "gone"]
    await add(client, *ids)
    await delete(client, "gone")
    process = await waiting(*(f"--task={id}" for id in ids), "--until-done")
    await work(client, "failed", fail=True)
    await move(client, "cancelled", "cancelled")
    await delete(client, "deleted")
    await work(client, "completed")
    code, events, err = await ended(process)
    assert (code, events[-1], err) == (0, "TASK_COMPLETED completed", "")


async def test_done_can_be_undone(waiting: Waiting, client: Client) -> None:
    """A task that is reopened before all have ended is waited for again."""
    await add(client, "a", "b")
    process = await waiting("--until-done")
    await work(client, "a", fail=True)
    await move(client, "a", "pending")
    await work(client, "b", "a")
    code, events, _ = await ended(process)
    assert (code, events[-1]) == (0, "TASK_COMPLETED a")


@pytest.mark.parametrize(
    ("chosen", "end"),
    [
        ("--task=a", "failed"),
        ("--task=a", "cancelled"),
        ("--task=a", "deleted"),
        ("--subtree=a", "deleted"),
        ("--subtree=root", "cancelled"),
        ("--status-of-all", "failed"),
    ],
)
async def test_a_task_that_ends_otherwise(
    waiting: Waiting, cli: "Cli", client: Client, chosen: str, end: str
) -> None:
    """A task that ends otherwise ends the wait with exit code 6 and its name, now or at once."""
    await add(client, "root")
    await add(client, "a", parent_id="root")
    arguments = [*([] if chosen == "--status-of-all" else [chosen]), "--until", "completed"]
    process = await waiting(*arguments)
    if end == "failed":
        await work(client, "a", fail=True)
    elif end == "cancelled":
        await move(client, "a", "cancelled")
    else:
        await delete(client, "a")
    code, events, err = await ended(process)
    sentence = f"error: 1 task ended otherwise than completed: a is {end}\n"
    assert (code, err) == (6, sentence)
    assert events
    again = await cli("watch", *arguments)
    assert (again.code, again.out, again.err) == (6, "", sentence)


async def test_a_task_that_is_renamed(waiting: Waiting, client: Client) -> None:
    """A task that gets another id than the one that was named ends the wait, and is told."""
    await add(client, "a")
    process = await waiting("--task=a", "--until-done")
    await client.tasks.RenameTask(v1.RenameTaskRequest(task_id="a", new_task_id="b"))
    code, events, err = await ended(process)
    assert (code, events[-1]) == (6, "TASK_RENAMED a")
    assert err == "error: 1 task ended otherwise than ended: a is now b\n"


async def test_a_status_that_no_workflow_has(cli: "Cli", client: Client) -> None:
    """A status that is none is a wrong usage; the sentence names those that there are."""
    ran = await cli("watch", "--until", "completed,complete")
    assert (ran.code, ran.out) == (2, "")
    assert "'complete'" in ran.err
    workflow = (await client.admin.GetWorkflow(v1.GetWorkflowRequest())).workflow
    assert all(state.name in ran.err for state in workflow.states)


async def test_a_task_that_never_was(cli: "Cli", client: Client) -> None:
    """A task that there never was is not waited for: exit code 3, with its name."""
    await add(client, "a")
    for chosen in (["--task", "a", "--task", "nobody"], ["--subtree", "nobody"]):
        ran = await cli("watch", *chosen, "--until-done")
        assert (ran.code, ran.out) == (3, "")
        assert "nobody" in ran.err


async def test_waiting_for_so_long(cli: "Cli", client: Client) -> None:
    """After --timeout the command says what is missing, and ends with exit code 7."""
    await add(client, *"abcde")
    await work(client, "a")
    ran = await cli("watch", "--until-done", "--timeout", "1s")
    assert (ran.code, ran.out) == (7, "")
    assert ran.err == (
        "error: within 1s 4 tasks did not get to be ended: "
        "b is pending, c is pending, d is pending, and 1 more\n"
    )


async def test_quiet(cli: "Cli", client: Client) -> None:
    """With --quiet there are no lines, whatever comes; with --state the state is among them."""
    await add(client, "a")
    await work(client, "a")
    for options, lines in (
        (["--quiet", "--json"], []),
        (["-q", "--state"], []),
        (["--state"], ["task listed"]),
    ):
        ran = await cli("watch", "--until-done", *options)
        assert (ran.code, ran.err, len(ran.out.splitlines())) == (0, "", len(lines))
        assert all(line in ran.out for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--until", "completed", "--until-done"],
        ["--until", ""],
        ["--until-done", "--from", "3"],
        ["--until-done", "--limit", "3"],
        ["--until-done", "--status", "pending"],
        ["--until-done", "--event", "task-completed"],
        ["--until-done", "--task", "a", "--subtree", "a"],
        ["--until", "completed,"],
        ["--quiet"],
    ],
    ids=" ".join,
)
async def test_what_does_not_go_together(cli: "Cli", arguments: list[str]) -> None:
    """Options that contradict each other are a wrong usage."""
    ran = await cli("watch", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")


async def test_a_restart_is_not_noticed(
    start_server: Callable[..., Any], start: "Start", environment: dict[str, str]
) -> None:
    """The wait goes on over a restart, with what happened meanwhile."""
    async with start_server() as server, Client(server.address) as client:
        await add(client, "a", "b")
        environment["TASKLOOM_SERVER"] = server.address
        process = await start("watch", "--json", "--until", "completed")
        await synced(process)
        await work(client, "a")
    async with start_server(listen=server.address) as server, Client(server.address) as client:
        await work(client, "b")
        code, events, err = await ended(process)
    assert (code, err) == (0, "")
    assert [event for event in events if event.startswith("TASK_COMPLETED")] == [
        "TASK_COMPLETED a",
        "TASK_COMPLETED b",
    ]


async def test_lost_history_is_no_loss(
    start_process: Callable[..., Awaitable["ServerProcess"]],
    start_server: Callable[..., Any],
    start: "Start",
    environment: dict[str, str],
    clock: "TestClock",
) -> None:
    """Where the history it needs is gone, the wait begins anew with the state as it is now."""
    server = await start_process()
    async with Client(server.address) as client:
        await add(client, "a", "b", "c")
        environment["TASKLOOM_SERVER"] = server.address
        process = await start("watch", "--json", "--until", "completed")
        await synced(process)
        process.send_signal(signal.SIGSTOP)
        await work(client, "a")
        # 18 MB, far more than is on its way to a reader who stands still.
        await asyncio.gather(*(rewrite(client, "b", str(writer)) for writer in range(16)))
        await delete(client, "c")
    server.process.kill()  # it would try for 20 s to have that read
    await server.process.wait()
    again = start_server(clock=clock, history_revisions=10, listen=server.address)
    async with again as other, Client(other.address) as client:
        oldest = 0
        while oldest < 1_000:
            clock.advance(60_000)
            oldest = (await client.admin.GetStatus(v1.GetStatusRequest())).oldest_revision
        process.send_signal(signal.SIGCONT)
        await synced(process)
        await work(client, "b")
        code, events, err = await ended(process)
    assert (code, err) == (0, "")
    assert events[-1] == "TASK_COMPLETED b"


async def test_another_graph_is_not_waited_for(waiting: Waiting, client: Client) -> None:
    """A Reset ends the wait with exit code 1: the graph that was waited for is gone."""
    await add(client, "a")
    process = await waiting("--until-done")
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    code, _, err = await ended(process)
    assert code == 1
    assert "INCARNATION_CHANGED" in err


async def test_no_server_in_time(start: "Start", environment: dict[str, str]) -> None:
    """Where no server is, the command says so: exit code 4."""
    environment["TASKLOOM_SERVER"] = "127.0.0.1:1"
    process = await start("watch", "--until-done", "--timeout", "2s")
    code, _, err = await ended(process)
    assert code == 4
    assert "127.0.0.1:1" in err
