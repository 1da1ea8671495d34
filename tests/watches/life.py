"""What happens while somebody watches: calls in short, a life with every kind of event, writers."""

import asyncio
from typing import Any

from taskloom import v1
from taskloom_client import Client


async def revision_of(client: Client) -> int:
    """The revision that the graph is at."""
    return (await client.admin.GetStatus(v1.GetStatusRequest())).revision


async def create(client: Client, id: str, **fields: Any) -> v1.Task:
    """A task of this id, which is its title as well."""
    answer = await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id, **fields))
    return answer.task


async def update(client: Client, task_id: str, **fields: Any) -> int:
    """Change a task; the revision."""
    return (await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task_id, **fields))).revision


async def claim(client: Client, worker_id: str, task_id: str, **fields: Any) -> v1.Task:
    """Claim a task."""
    request = v1.ClaimTaskRequest(worker_id=worker_id, task_id=task_id, **fields)
    return (await client.claims.ClaimTask(request)).task


async def complete(client: Client, worker_id: str, task_id: str) -> int:
    """Complete a task; the revision."""
    request = v1.CompleteTaskRequest(worker_id=worker_id, task_id=task_id, reason="dône ✓")
    return (await client.claims.CompleteTask(request)).revision


async def connect(client: Client, worker_id: str, **fields: Any) -> int:
    """Connect a worker; the revision."""
    request = v1.ConnectRequest(worker_id=worker_id, max_claims=10, **fields)
    return (await client.workers.Connect(request)).revision


async def adopt(client: Client, parent_id: str, task_id: str) -> int:
    """Put a task below another one; the revision."""
    request = v1.LinkTasksRequest(
        from_task_id=parent_id, to_task_id=task_id, type=v1.DEPENDENCY_TYPE_CONTAINS
    )
    return (await client.tasks.LinkTasks(request)).revision


async def orphan(client: Client, parent_id: str, task_id: str) -> int:
    """Take a task out from below its parent; the revision."""
    request = v1.UnlinkTasksRequest(
        from_task_id=parent_id, to_task_id=task_id, type=v1.DEPENDENCY_TYPE_CONTAINS
    )
    return (await client.tasks.UnlinkTasks(request)).revision


async def live(client: Client) -> int:
    """A short life with every kind of event in it; the revision at its end."""
    await connect(client, "ada", tags=["rust", "πthon"])
    await connect(client, "bob")
    node = v1.TaskNode(
        id="root",
        title="Root ✓",
        tags=["top"],
        children=[
            v1.TaskNode(id="left", title="Left", tags=["a"], phase="design", points=3),
            v1.TaskNode(id="right", title="Right", blocked_by=["left"], needed_tags=["rust"]),
        ],
    )
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=node))
    await create(client, "lone", description="ünï\n\t\x01 code", priority=9, wanted_tags=["rust"])
    await create(client, "poison", max_attempts=2)
    left = await claim(client, "ada", "left")
    await client.files.MarkFiles(
        v1.MarkFilesRequest(worker_id="ada", paths=["a.py", "b.py"], task_id="left", reason="edit")
    )
    await client.attachments.Attach(
        v1.AttachRequest(worker_id="ada", task_id="left", type="note", content=b"\x00\xff")
    )
    await client.tasks.LogMetrics(
        v1.LogMetricsRequest(
            worker_id="ada",
            task_id="left",
            claim_revision=left.claim_revision,
            metrics=v1.Metrics(tokens_in=2**40, cost_usd=0.1),
        )
    )
    await complete(client, "ada", "left")
    for _ in range(2):
        await claim(client, "bob", "poison")
        await client.claims.FailTask(
            v1.FailTaskRequest(worker_id="bob", task_id="poison", reason="ouch", retry=True)
        )
    await claim(client, "ada", "lone")
    await client.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="ada", task_id="lone"))
    await update(client, "lone", assignee="ada", reason="you know it")
    await update(client, "lone", assignee="")
    await update(client, "lone", title="Lone", phase="review", tags=v1.Tags(values=["z", "y"]))
    await client.tasks.LinkTasks(
        v1.LinkTasksRequest(
            from_task_id="right", to_task_id="lone", type=v1.DEPENDENCY_TYPE_FOLLOWS
        )
    )
    await client.tasks.UnlinkTasks(v1.UnlinkTasksRequest(from_task_id="right", to_task_id="lone"))
    await client.admin.Pause(v1.PauseRequest(by="eve", reason="lunch"))
    await client.admin.Resume(v1.ResumeRequest(by="eve", reason="back"))
    await update(client, "poison", status="pending", reason="try again")
    await update(client, "poison", status="cancelled", reason="or not")
    await client.attachments.Detach(v1.DetachRequest(task_id="left", type="note", sequence=0))
    await claim(client, "ada", "right")
    await create(client, "soft")
    await claim(client, "bob", "soft", mode=v1.CLAIM_MODE_ADVISORY)
    signal = v1.SignalTaskRequest(task_id="soft", worker_id="bob", reason="half done")
    await client.tasks.SignalTask(signal)
    await client.tasks.BoostTask(v1.BoostTaskRequest(task_id="soft", boost=0.5))
    await client.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="bob", task_id="soft"))
    await client.files.MarkFiles(v1.MarkFilesRequest(worker_id="bob", paths=["c.py"]))
    await client.files.UnmarkFiles(v1.UnmarkFilesRequest(worker_id="bob"))
    await create(client, "gated", workflow="sprint", phase="retrospect")
    await update(client, "gated", phase="plan", force=True, reason="no time")
    await client.tasks.DeleteTask(
        v1.DeleteTaskRequest(task_id="lone", worker_id="bob", reason="no more")
    )
    answer = await client.workers.Disconnect(v1.DisconnectRequest(worker_id="ada", reason="bye"))
    return answer.revision


class Busy:
    """Clients that write as fast as they can, until they are told to stop."""

    def __init__(self, client: Client, writers: int) -> None:
        self._client = client
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._write(n)) for n in range(writers)]
        self._written = 0
        self._progress = asyncio.Condition()

    async def _write(self, writer: int) -> None:
        n = 0
        while not self._stop.is_set():
            id = f"w{writer}-{n}"
            await create(self._client, id, tags=[f"tag{n % 3}"])
            await update(self._client, id, priority=n % 5)
            if n % 4 == 3:
                await self._client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id=id))
            n += 1
            async with self._progress:
                self._written += 1
                self._progress.notify_all()

    async def written(self, more: int) -> None:
        """Return once so many more tasks have been written."""
        goal = self._written + more
        async with self._progress:
            await self._progress.wait_for(lambda: self._written >= goal)

    async def stop(self) -> None:
        """Let the writers finish what they are at."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
