"""Crowds: many workers at once, each on a connection of its own, over real gRPC."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from taskloom import v1
from taskloom_client import Client, TaskClaimed

if TYPE_CHECKING:
    from tests.conftest import Server

WORKERS = 64
TASKS = 1_000


@pytest.fixture
async def crowd(server: "Server") -> AsyncIterator[list[Client]]:
    """A client for each worker, connected as worker "w0", "w1" and so on."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(server.address)) for _ in range(WORKERS)]
        await asyncio.gather(*(_connect(each, f"w{n}") for n, each in enumerate(clients)))
        yield clients


async def _connect(client: Client, worker: str) -> None:
    await client.workers.Connect(v1.ConnectRequest(worker_id=worker))


async def _create(client: Client, *ids: str, blocked: int = 0) -> None:
    """Tasks under one root; each of the last ``blocked`` waits for the one as far before it."""
    nodes = [v1.TaskNode(id=id, title=id, priority=n % 3) for n, id in enumerate(ids)]
    for n in range(len(ids) - blocked, len(ids)):
        nodes[n].blocked_by.append(ids[n - blocked])
    root = v1.TaskNode(id="root", title="root", children=nodes)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))


async def _workers(client: Client) -> list[v1.Worker]:
    answer = await client.workers.ListWorkers(v1.ListWorkersRequest(page_size=1_000))
    return list(answer.workers)


async def _work(client: Client, worker: str, together: asyncio.Barrier) -> list[str]:
    """Claim and complete until all is done; the tasks that were given."""
    given: list[str] = []
    await together.wait()
    while True:
        request = v1.ClaimNextTaskRequest(worker_id=worker)
        answer = await client.claims.ClaimNextTask(request)
        if answer.outcome == v1.CLAIM_OUTCOME_ALL_DONE:
            return given
        for task in answer.tasks:
            given.append(task.id)
            done = v1.CompleteTaskRequest(
                worker_id=worker, task_id=task.id, claim_revision=task.claim_revision
            )
            await client.claims.CompleteTask(done)


async def test_each_task_is_given_to_one_worker(crowd: list[Client]) -> None:
    """64 claimers on 1,000 tasks: each is given once, none is lost, and no claim is refused."""
    ids = [f"t{n}" for n in range(TASKS)]
    await _create(crowd[0], *ids, blocked=200)
    together = asyncio.Barrier(WORKERS)
    given = await asyncio.gather(
        *(_work(client, f"w{n}", together) for n, client in enumerate(crowd))
    )
    assert Counter(id for each in given for id in each) == Counter(ids)
    status = await crowd[0].admin.GetStatus(v1.GetStatusRequest())
    assert dict(status.tasks_by_status) == {"completed": TASKS + 1}, "and the root rolled up"
    workers = await _workers(crowd[0])
    counted = {w.id: (w.claim_attempts, w.claims_granted, w.claims_lost) for w in workers}
    assert counted == {f"w{n}": (len(each), len(each), 0) for n, each in enumerate(given)}
    claimed: Counter[str] = Counter()
    watch = crowd[0].watch(
        v1.WatchFilter(event_types=[v1.EVENT_TYPE_TASK_CLAIMED]), start_revision=1
    )
    async with asyncio.timeout(10), watch:
        async for event in watch.events():
            claimed[event.task_id] += 1
            if claimed.total() == TASKS:
                break
    assert claimed == Counter(ids), "the stream tells each claim once as well"


async def _claim(client: Client, worker: str, together: asyncio.Barrier) -> str:
    """The holder of the task after a try to claim it."""
    await together.wait()
    try:
        request = v1.ClaimTaskRequest(worker_id=worker, task_id="task")
        return (await client.claims.ClaimTask(request)).task.worker_id
    except TaskClaimed as refusal:
        return refusal.metadata["holder"]


async def test_one_of_many_gets_the_task(crowd: list[Client]) -> None:
    """64 claims of one task: one wins, 63 are told who has it, and 63 are counted as lost."""
    await crowd[0].tasks.CreateTask(v1.CreateTaskRequest(id="task", title="task"))
    together = asyncio.Barrier(WORKERS)
    holders = await asyncio.gather(
        *(_claim(client, f"w{n}", together) for n, client in enumerate(crowd))
    )
    assert len(set(holders)) == 1
    counted = Counter(
        (w.id == holders[0], w.claim_attempts, w.claims_granted, w.claims_lost)
        for w in await _workers(crowd[0])
    )
    assert counted == {(True, 1, 1, 0): 1, (False, 1, 0, 1): WORKERS - 1}


async def _claim_some(client: Client, worker: str, together: asyncio.Barrier) -> list[str]:
    request = v1.ClaimNextTaskRequest(worker_id=worker, max_tasks=20)
    await together.wait()
    return [task.id for task in (await client.claims.ClaimNextTask(request)).tasks]


async def test_tasks_given_by_the_dozen(crowd: list[Client]) -> None:
    """Many tasks at a time for many workers: still each is given once, and none left over."""
    for n, client in enumerate(crowd):
        await client.workers.Connect(v1.ConnectRequest(worker_id=f"w{n}", max_claims=20))
    ids = [f"t{n}" for n in range(TASKS)]
    await _create(crowd[0], *ids)
    together = asyncio.Barrier(WORKERS)
    given = await asyncio.gather(
        *(_claim_some(client, f"w{n}", together) for n, client in enumerate(crowd))
    )
    assert Counter(id for each in given for id in each) == Counter(ids)
    assert sorted(map(len, given), reverse=True) == [20] * 50 + [0] * 14
