"""Filtered for one worker: what is assigned to it, and what is ready for it to take."""

from typing import TYPE_CHECKING

import pytest
from taskloom import v1
from taskloom_client import Client, WorkerNotFound

from tests.watches.life import claim, complete, connect, create, update
from tests.watches.streams import Message, events_of, name_of, until, watching

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

HOUR_MS = 3_600_000
ASSIGNED = v1.WatchFilter(assignee="ada")
READY = v1.WatchFilter(ready_for="ada")


def seen(messages: list[Message]) -> list[tuple[str, str, bool]]:
    """The events by type and task, and whether the task left the filter by it."""
    return [(name_of(e), e.task_id, e.left_filter) for e in events_of(messages)]


async def release(client: Client, worker_id: str, task_id: str) -> int:
    """Give a task back; the revision."""
    request = v1.ReleaseTaskRequest(worker_id=worker_id, task_id=task_id)
    return (await client.claims.ReleaseTask(request)).revision


async def test_assigned_tasks(server: "Server", client: Client) -> None:
    """A task is of the assignee from its assignment until it is begun or taken away; what is
    assigned to others, and what is held without an assignment, is not.
    """
    for worker_id in ("ada", "bob"):
        await connect(client, worker_id)
    for id in ("a", "b", "c"):
        await create(client, id)
    async with watching(client, filter=ASSIGNED) as stream:
        await anext(stream)
        await claim(client, "ada", "c")
        await update(client, "a", assignee="ada")
        await update(client, "a", priority=1)
        await update(client, "b", assignee="bob")
        await claim(client, "ada", "a")
        await complete(client, "ada", "a")
        await update(client, "b", assignee="")
        await update(client, "b", assignee="ada")
        last = await update(client, "b", assignee="")
        messages = await until(stream, last)
    assert seen(messages) == [
        ("TASK_MOVED", "a", False),
        ("TASK_UPDATED", "a", False),
        ("TASK_CLAIMED", "a", True),
        ("TASK_MOVED", "b", False),
        ("TASK_RELEASED", "b", True),
    ]


async def test_ready_tasks(server: "Server", client: Client) -> None:
    """A task is ready for the worker while nothing holds it back; who takes it takes it away."""
    await connect(client, "ada", tags=["rust"])
    await connect(client, "bob")
    await create(client, "first")
    async with watching(client, filter=READY) as stream:
        await anext(stream)
        await create(client, "second", blocked_by=["first"])
        await claim(client, "bob", "first")
        await release(client, "bob", "first")
        await claim(client, "bob", "first")
        await complete(client, "bob", "first")
        await client.admin.Pause(v1.PauseRequest(task_id="second"))
        await client.admin.Resume(v1.ResumeRequest(task_id="second"))
        await claim(client, "ada", "second")
        last = await release(client, "ada", "second")
        messages = await until(stream, last)
    assert [one for one in seen(messages) if one[0].startswith("TASK_")] == [
        ("TASK_CLAIMED", "first", True),
        ("TASK_RELEASED", "first", False),
        ("TASK_CLAIMED", "first", True),
        ("TASK_READY", "second", False),
        ("TASK_BLOCKED", "second", True),
        ("TASK_READY", "second", False),
        ("TASK_CLAIMED", "second", True),
        ("TASK_RELEASED", "second", False),
    ]


async def test_ready_by_tags(server: "Server", client: Client) -> None:
    """Only tasks whose needed tags, and one of whose wanted tags, the worker has at that moment."""
    await connect(client, "ada", tags=["rust", "gpu"])
    async with watching(client, filter=READY) as stream:
        await anext(stream)
        await create(client, "mine", needed_tags=["rust"], wanted_tags=["gpu", "tpu"])
        await create(client, "needs-more", needed_tags=["rust", "tpu"])
        await create(client, "wants-other", needed_tags=["rust"], wanted_tags=["tpu"])
        await update(client, "needs-more", needed_tags=v1.Tags(values=["gpu"]))
        last = await update(client, "mine", wanted_tags=v1.Tags(values=["tpu"]))
        messages = await until(stream, last)
    assert seen(messages) == [
        ("TASK_CREATED", "mine", False),
        ("TASK_UPDATED", "needs-more", False),
        ("TASK_UPDATED", "mine", True),
    ]


async def test_ready_by_the_tags_of_the_beginning(server: "Server", client: Client) -> None:
    """A stream goes by the tags that the worker had when it began, the next one by the new ones."""
    await connect(client, "ada", tags=["rust"])
    async with watching(client, filter=READY) as old:
        await anext(old)
        await connect(client, "ada", tags=["gpu"])
        async with watching(client, filter=READY) as new:
            await anext(new)
            await create(client, "rusty", needed_tags=["rust"])
            await create(client, "heavy", needed_tags=["gpu"])
            last = (await create(client, "any")).revision
            told = [seen(await until(stream, last)) for stream in (old, new)]
    assert [[id for _, id, _ in each] for each in told] == [["rusty", "any"], ["heavy", "any"]]


async def test_ready_when_time_comes(
    timed_server: "Server", timed_client: Client, clock: "TestClock"
) -> None:
    """A task whose not_before passes is told, and one whose claim runs out."""
    await connect(timed_client, "ada")
    await connect(timed_client, "bob", lease={"seconds": 2 * HOUR_MS // 1000})
    await create(timed_client, "later", not_before={"seconds": (clock.now() + HOUR_MS) // 1000})
    await create(timed_client, "held")
    last = (await claim(timed_client, "bob", "held")).revision
    async with watching(timed_client, filter=READY) as stream:
        await anext(stream)
        clock.advance(HOUR_MS)
        messages = await until(stream, last + 1)
        clock.advance(HOUR_MS)
        messages += await until(stream, last + 2)
    assert seen(messages) == [
        ("TASK_READY", "later", False),
        ("TASK_LEASE_EXPIRED", "held", False),
    ]


async def test_the_state_for_a_worker(server: "Server", client: Client) -> None:
    """The state that comes first is what is assigned to the worker, or ready for it, now."""
    await connect(client, "ada", tags=["rust"])
    for id, tags in (("ready", ["rust"]), ("no", ["gpu"]), ("assigned", []), ("begun", [])):
        await create(client, id, needed_tags=tags)
    await create(client, "blocked", blocked_by=["no"])
    await update(client, "assigned", assignee="ada")
    await claim(client, "ada", "begun")
    for filter, expected in ((ASSIGNED, "assigned"), (READY, "ready")):
        async with watching(client, include_state=True, filter=filter) as stream:
            messages = await until(stream, 1)
        assert seen(messages) == [("TASK_LISTED", expected, False)]


@pytest.mark.parametrize("include_state", [False, True])
async def test_ready_for_nobody(server: "Server", client: Client, include_state: bool) -> None:
    """A worker that never connected has no tags to go by: the watch is refused, and says who."""
    filter = v1.WatchFilter(ready_for="nobody")
    async with watching(client, filter=filter, include_state=include_state) as stream:
        with pytest.raises(WorkerNotFound, match="nobody"):
            await anext(stream)
