"""A server process that is killed under load and started again: agents and watches go on."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from taskloom import v1
from taskloom_client import PULLS, Agent, Client

_SERVE = """
import sys
from taskloom_server.main import run
raise SystemExit(run(db=sys.argv[1], listen=sys.argv[2]))
"""


async def _start(db: Path, listen: str) -> tuple[Process, str]:
    """A server in a process of its own, once it listens, and where it does."""
    with db.with_suffix(".log").open("a") as log:
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SERVE, str(db), listen, stdout=PIPE, stderr=log
        )
    assert server.stdout is not None
    line = await server.stdout.readline()
    return server, line.decode().split()[-1]


async def _stop(server: Process) -> None:
    if server.returncode is None:
        server.kill()
    await server.communicate()


@asynccontextmanager
async def _killed_once(db: Path, kill: asyncio.Event) -> AsyncIterator[str]:
    """A server that is killed without warning when ``kill`` is set, and started again."""
    server, address = await _start(db, "127.0.0.1:0")

    async def execute() -> None:
        nonlocal server
        await kill.wait()
        server.send_signal(signal.SIGKILL)
        await server.communicate()
        server, _ = await _start(db, address)

    executioner = asyncio.create_task(execute())
    try:
        yield address
        assert executioner.done(), "the server was never killed"
        await executioner
    finally:
        executioner.cancel()
        await asyncio.wait([executioner])
        await _stop(server)


async def _work(address: str, name: str, pull: str, done: list[str], kill: asyncio.Event) -> None:
    async with (
        Client(address) as client,
        Agent(client, name, pull=pull, idle_interval=0.02) as agent,
    ):
        async for task in agent.tasks():
            if len(done) >= 15:
                kill.set()
            await task.attach("note", f"by {name}")
            assert await task.complete()
            done.append(task.id)


async def _watch(client: Client, completed: list[str], expected: int) -> None:
    only = v1.WatchFilter(event_types=[v1.EVENT_TYPE_TASK_COMPLETED])
    async with client.watch(only, start_revision=1) as watch, aclosing(watch.events()) as events:
        async for event in events:
            completed.append(event.task_id)
            if len(completed) == expected:
                break
    assert watch.resumes >= 1


async def test_a_killed_server_costs_nothing(tmp_path: Path) -> None:
    """Agents whose server is killed wait for it, and finish: each task once, each event once."""
    kill = asyncio.Event()
    done: list[str] = []
    completed: list[str] = []
    wanted = Counter(f"task-{n}" for n in range(60))
    async with _killed_once(tmp_path / "tasks.db", kill) as address, Client(address) as client:
        for id in wanted:
            await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id))
        async with asyncio.TaskGroup() as group:
            group.create_task(_watch(client, completed, len(wanted)))
            for n, pull in enumerate(PULLS):
                group.create_task(_work(address, f"worker-{n}", pull, done, kill))
        assert Counter(done) == wanted
        assert Counter(completed) == wanted
        for id in wanted:
            attached = await client.attachments.ListAttachments(
                v1.ListAttachmentsRequest(task_id=id)
            )
            assert len(attached.attachments) == 1, "a retried call is made once"
