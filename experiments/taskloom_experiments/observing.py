"""Looks at a run now and then through its server: how it stands, and whether it still moves."""

import asyncio
from collections.abc import Iterable, Mapping

from taskloom import v1
from taskloom_client import Client, TaskloomError

from taskloom_experiments.progress import Show, Standing, time_left
from taskloom_experiments.templates import lacking_tags

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
            try:
                return await _why_stalled(client, status)
            except TaskloomError:
                continue


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


async def _why_stalled(client: Client, status: v1.GetStatusResponse) -> str:
    failed, ready = status.tasks_by_status.get("failed", 0), status.ready_tasks
    reasons = []
    if ready:
        reasons.append(f"{ready} are ready, but no agent takes them")
        reasons += await _tags_missing(client)
    if failed:
        reasons.append(f"{failed} failed")
    # Nothing is claimed or delayed, so that what is not ready waits for something else.
    if waiting := status.open_tasks - ready:
        whom = [*(["those"] if ready else []), *(["failed ones"] if failed else [])]
        reasons.append(f"{waiting} wait for {' or '.join(whom) or 'what did not end well'}")
    return f"{status.open_tasks} tasks are open and nothing moves: {'; '.join(reasons)}"


async def _tags_missing(client: Client) -> list[str]:
    """Which tags keep ready tasks from every agent that is there; a clause each."""
    skills = await _skills(client)
    needs: set[str] = set()
    wants: set[str] = set()
    request = v1.ListTasksRequest(ready=True, page_size=1_000)
    while True:
        page = await client.tasks.ListTasks(request)
        for task in page.tasks:
            lacking = lacking_tags(task.needed_tags, task.wanted_tags, skills)
            if lacking is not None:
                needs.update(lacking[0])
                wants.update(lacking[1])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    told = [f"none has the needed tags {', '.join(sorted(needs))}"] if needs else []
    return [*told, *([f"none has any of the wanted tags {', '.join(sorted(wants))}"] * bool(wants))]


async def _skills(client: Client) -> set[frozenset[str]]:
    """The tags of the connected workers, those that are alike once."""
    found: set[frozenset[str]] = set()
    request = v1.ListWorkersRequest(page_size=1_000)
    while True:
        page = await client.workers.ListWorkers(request)
        found.update(frozenset(worker.tags) for worker in page.workers)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
