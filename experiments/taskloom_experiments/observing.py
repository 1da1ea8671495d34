"""Looks at a run now and then through its server: how it stands, and whether it still moves."""

import asyncio
from collections.abc import Iterable, Mapping

from taskloom import v1
from taskloom_client import Client, TaskloomError

from taskloom_experiments.progress import Show, Standing, time_left

EVERY_S = 0.5
"""Two cheap calls each time: some 0.5 % of a core, whatever the size of the graph."""

STALLED_S = 10.0
LINGERING_S = 10.0


async def observe(
    client: Client, expected_s: float, show: Show, *, pace: float = 1.0
) -> str | None:
    """Show how the run stands until there is nothing more to wait for; then return.

    It returns None when everything ended but agents linger, else why nothing moves any more: a
    clause. A server that cannot be reached for a while is asked again. ``pace`` stretches all
    times, where tasks take longer than they do here by default.
    """
    loop = asyncio.get_running_loop()
    began = moved = loop.time()
    last: Mapping[str, int] = {}
    while True:
        await asyncio.sleep(EVERY_S * pace)
        try:
            status = await client.admin.GetStatus(v1.GetStatusRequest())
            workers = await client.workers.ListWorkers(
                v1.ListWorkersRequest(include_disconnected=True, page_size=1_000)
            )
        except TaskloomError:
            continue
        now = loop.time()
        show(_standing(status, workers.workers, expected_s, now - began))

        by_status = dict(status.tasks_by_status)
        if by_status != last or status.claimed_tasks or status.delayed_tasks:
            last, moved = by_status, now
        elif status.HasField("paused"):
            moved = now
        elif not status.open_tasks and now - moved > LINGERING_S * pace:
            return None
        elif status.open_tasks and now - moved > STALLED_S * pace:
            return _why_stalled(status)


async def tasks_left(client: Client) -> tuple[int, int]:
    """How many tasks have not ended, of how many. Raises TaskloomError."""
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    return status.open_tasks, sum(status.tasks_by_status.values())


def _standing(
    status: v1.GetStatusResponse,
    workers: Iterable[v1.Worker],
    expected_s: float,
    elapsed_s: float,
) -> Standing:
    tasks = sum(status.tasks_by_status.values())
    done = tasks - status.open_tasks
    return Standing(
        tasks=tasks,
        done=done,
        failed=status.tasks_by_status.get("failed", 0),
        claims=sum(worker.claims_granted for worker in workers),
        refused=sum(worker.claims_lost for worker in workers),
        left_s=time_left(expected_s, elapsed_s, done, tasks),
    )


def _why_stalled(status: v1.GetStatusResponse) -> str:
    left = f"{status.open_tasks} tasks are open and nothing moves"
    if status.ready_tasks:
        return f"{left}: {status.ready_tasks} are ready, but no agent takes them"
    return f"{left}: what they wait for did not end well"
