"""taskloom watch: a line an event, for as long as somebody reads."""

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from taskloom import v1
from taskloom_client import Client

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Start


async def add(client: Client, *ids: str, **fields: Any) -> int:
    """Add tasks of these ids; the revision of the last."""
    revision = 0
    for id in ids:
        request = v1.CreateTaskRequest(id=id, title=f"The task {id}", **fields)
        revision = (await client.tasks.CreateTask(request)).revision
    return revision


async def read_line(process: asyncio.subprocess.Process) -> str:
    """The next line of the command."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode()


async def test_events_are_lines(cli: "Cli", client: Client) -> None:
    """From a revision on, every event is a line: revision, time, what, which, who, why."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann"))
    first = await add(client, "a")
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="ann", task_id="a"))
    last = await client.claims.ReleaseTask(
        v1.ReleaseTaskRequest(worker_id="ann", task_id="a", reason="lunch")
    )
    watched = await cli(
        *("watch", "--from", str(first), "--limit", "3", "--task", "a"),
        *("--event", "task-created", "--event", "TASK_CLAIMED", "--event", "task_released"),
    )
    assert (watched.code, watched.err) == (0, "")
    created, claimed, released = (line.split() for line in watched.out.splitlines())
    assert created[0] == str(first)
    assert created[2:] == ["task", "created", "a", "The", "task", "a"]
    assert claimed[2:] == [
        "task",
        "claimed",
        "a",
        "pending",
        "->",
        "working",
        "by",
        "ann",
        "The",
        "task",
        "a",
    ]
    assert released[0] == str(last.revision)
    assert " ".join(released[2:8]) == "task released a working -> pending"
    assert "(lunch)" in released


async def test_json_lines_are_objects(cli: "Cli", client: Client) -> None:
    """With --json a line is the event with its revision, or what else the stream says."""
    await add(client, "a", "b")
    await client.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id="a", to_task_id="b"))
    watched = await cli("watch", "--json", "--state", "--limit", "2")
    created, *listed = (json.loads(line) for line in watched.out.splitlines())
    assert created["created"]["incarnation"]
    assert [event["type"] for event in listed] == ["EVENT_TYPE_TASK_LISTED"] * 2
    assert {event["task"]["id"] for event in listed} == {"a", "b"}


async def test_watch_goes_on_from_the_state(start: "Start", cli: "Cli", client: Client) -> None:
    """After the state, `synced` says from which revision on changes follow, and they do."""
    revision = await add(client, "a")
    process = await start("watch", "--json", "--state")
    lines = [json.loads(await read_line(process)) for _ in range(3)]
    assert [next(iter(line.keys() - {"revision"})) for line in lines if "type" not in line] == [
        "created",
        "synced",
    ]
    assert int(lines[2]["revision"]) == revision
    later = await add(client, "b")
    event = json.loads(await read_line(process))
    assert (event["type"], event["revision"]) == ("EVENT_TYPE_TASK_CREATED", str(later))


async def test_ctrl_c_ends_a_watch_quietly(start: "Start", cli: "Cli", client: Client) -> None:
    """Ctrl-C is how a watch ends: exit code 130 and not a word."""
    await add(client, "a")
    process = await start("watch", "--state")
    assert "task listed" in await read_line(process)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_reader_that_goes_away_ends_a_watch_quietly(
    cli: "Cli", client: Client, environment: dict[str, str]
) -> None:
    """`taskloom watch | head -1` ends with the first event after its reader left."""
    command = f"{sys.executable} -m taskloom_client watch --state | head -n 1; echo $PIPESTATUS"
    await add(client, "a", "b", "c")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert "task listed" in await read_line(process)
    while process.returncode is None:
        await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", priority=3))
        await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", priority=4))
        await asyncio.sleep(0.1)
    assert process.stdout is not None
    assert process.stderr is not None
    assert (await process.stdout.read(), await process.stderr.read()) == (b"141\n", b"")


async def test_unknown_subtree_is_exit_code_3(cli: "Cli") -> None:
    """A watch that cannot begin says so instead of waiting."""
    ran = await cli("watch", "--subtree", "nobody")
    assert (ran.code, ran.out) == (3, "")
    assert "(TASK_NOT_FOUND)" in ran.err


async def test_a_start_to_come_is_told(start: "Start", cli: "Cli", client: Client) -> None:
    """Who waits for a revision that is far off is told so, and then told of it when it comes."""
    revision = await add(client, "a")
    process = await start("watch", "--from", str(revision + 3), "--limit", "1")
    assert process.stderr is not None
    async with asyncio.timeout(20):
        hint = (await process.stderr.readline()).decode()
    assert hint == (
        f"revision {revision + 3} is yet to come: the graph is at revision {revision}\n"
    )
    await add(client, "b", "c", "d", "e")
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert "task created" in out.decode()
    assert " d " in out.decode()


async def test_the_next_revision_is_no_hint(start: "Start", cli: "Cli", client: Client) -> None:
    """Who resumes after the last revision waits for nothing unusual."""
    revision = await add(client, "a")
    process = await start("watch", "--json", "--from", str(revision + 1), "--limit", "1")
    assert "created" in json.loads(await read_line(process))
    await add(client, "b")
    _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_assigned_to_a_worker(cli: "Cli", client: Client) -> None:
    """--assignee shows what is assigned to a worker, until it has begun it or lost it."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann"))
    first = await add(client, "a", "b")
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", assignee="ann"))
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="ann", task_id="a"))
    watched = await cli("watch", "--from", str(first), "--assignee", "ann", "--limit", "2")
    assigned, begun = watched.out.splitlines()
    assert " a  pending -> assigned" in assigned
    assert " a  (left the filter)  assigned -> working" in begun


async def test_ready_for_a_worker(cli: "Cli", client: Client) -> None:
    """--ready-for shows what a worker may take by its tags, with --state also what it may now."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="ann", tags=["gpu"]))
    await add(client, "others", needed_tags=["tpu"])
    await add(client, "mine", needed_tags=["gpu"])
    await add(client, "anybodys")
    watched = await cli("watch", "--state", "--ready-for", "ann", "--limit", "2")
    assert [line.split()[3] for line in watched.out.splitlines()] == ["mine", "anybodys"]
    unknown = await cli("watch", "--ready-for", "bob")
    assert unknown.code == 3
    assert "(WORKER_NOT_FOUND)" in unknown.err
