"""Filtered: who applies what a watch with a filter tells has at any revision just what matches.

A reader needs no more than three rules: an event about a task replaces what is known of it;
`left_filter` and TASK_DELETED remove it. What matches is worked out here from all events.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import pytest
from google.protobuf.duration_pb2 import Duration
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.watches.life import adopt, connect, create, orphan, revision_of, update
from tests.watches.streams import Message, events_of, heard, until, watching

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

Known: TypeAlias = dict[str, v1.Task]
IDS = [f"t{n}" for n in range(14)]
ROOT = IDS[0]  # is never below another one, nor deleted
ADAS = ["a", "b"]  # her tags
WORKERS = ["ada", "bob", "eve"]


async def wander(client: Client, clock: "TestClock", seed: int) -> None:
    """A life of three workers who do this and that, as far as the rules let them."""
    rng = random.Random(seed)
    claims, tasks = client.claims, client.tasks

    def some_tags() -> list[str]:
        return rng.sample(["a", "b", "c"], rng.randrange(3))

    async def enter(worker_id: str) -> None:
        tags = ADAS if worker_id == "ada" else ["c"]
        await connect(client, worker_id, lease=Duration(seconds=60), tags=tags)

    async def change(task_id: str, worker_id: str) -> None:
        await update(client, task_id, priority=rng.randrange(10))

    async def tag(task_id: str, worker_id: str) -> None:
        await update(client, task_id, tags=v1.Tags(values=some_tags()))

    async def enter_phase(task_id: str, worker_id: str) -> None:
        await update(client, task_id, phase=rng.choice(["design", "review", ""]))

    async def assign(task_id: str, worker_id: str) -> None:
        await update(client, task_id, assignee=rng.choice([worker_id, ""]))

    async def cancel(task_id: str, worker_id: str) -> None:
        if rng.random() < 0.2:
            await update(client, task_id, status="cancelled")

    async def reopen(task_id: str, worker_id: str) -> None:
        await update(client, task_id, status="pending")

    async def claim(task_id: str, worker_id: str) -> None:
        mode = rng.choice([v1.CLAIM_MODE_EXCLUSIVE, v1.CLAIM_MODE_ADVISORY])
        request = v1.ClaimTaskRequest(worker_id=worker_id, task_id=task_id, mode=mode)
        await claims.ClaimTask(request)

    async def release(task_id: str, worker_id: str) -> None:
        await claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id=worker_id, task_id=task_id))

    async def complete(task_id: str, worker_id: str) -> None:
        await claims.CompleteTask(v1.CompleteTaskRequest(worker_id=worker_id, task_id=task_id))

    async def fail(task_id: str, worker_id: str) -> None:
        request = v1.FailTaskRequest(worker_id=worker_id, task_id=task_id, retry=rng.random() < 0.5)
        await claims.FailTask(request)

    async def block(task_id: str, worker_id: str) -> None:
        if rng.random() < 0.3:
            to = rng.choice(IDS)
            await tasks.LinkTasks(v1.LinkTasksRequest(from_task_id=task_id, to_task_id=to))

    async def join(task_id: str, worker_id: str) -> None:
        await adopt(client, task_id, rng.choice(IDS[1:]))

    async def part(task_id: str, worker_id: str) -> None:
        task = (await tasks.GetTask(v1.GetTaskRequest(task_id=task_id))).task
        await orphan(client, task.parent_id, task_id)

    async def delete(task_id: str, worker_id: str) -> None:
        if task_id != ROOT and rng.random() < 0.1:
            await tasks.DeleteTask(v1.DeleteTaskRequest(task_id=task_id, cascade=True))

    async def restore(task_id: str, worker_id: str) -> None:
        cascade = rng.random() < 0.5
        await tasks.RestoreTask(v1.RestoreTaskRequest(task_id=task_id, cascade=cascade))

    async def rename(task_id: str, worker_id: str) -> None:
        if task_id != ROOT and rng.random() < 0.4:
            other = rng.choice([f"{task_id}-b", task_id])
            old = f"{task_id}-b" if other == task_id else task_id
            await tasks.RenameTask(v1.RenameTaskRequest(task_id=old, new_task_id=other))

    async def move(task_id: str, worker_id: str) -> None:
        task = (await tasks.GetTask(v1.GetTaskRequest(task_id=task_id))).task
        contains, other = v1.DEPENDENCY_TYPE_CONTAINS, rng.choice(IDS[1:])
        old = v1.Dependency(from_task_id=task.parent_id, to_task_id=task_id, type=contains)
        new = v1.Dependency(from_task_id=other, to_task_id=task_id, type=contains)
        await tasks.RelinkTasks(
            v1.RelinkTasksRequest(remove=[old] if task.parent_id else [], add=[new])
        )

    async def obliterate(task_id: str, worker_id: str) -> None:
        if task_id != ROOT and rng.random() < 0.1:
            await tasks.ObliterateTask(v1.ObliterateTaskRequest(task_id=task_id))

    async def think(task_id: str, worker_id: str) -> None:
        thought = v1.SetThoughtRequest(worker_id=worker_id, thought=rng.choice(["", "hm", "ah"]))
        await client.workers.SetThought(thought)

    async def budget(task_id: str, worker_id: str) -> None:
        await update(client, task_id, max_cost_usd=rng.choice([0, 1, 3]))

    async def spend(task_id: str, worker_id: str) -> None:
        metrics = v1.Metrics(cost_usd=rng.random())
        await tasks.LogMetrics(v1.LogMetricsRequest(task_id=task_id, metrics=metrics))

    async def leave(task_id: str, worker_id: str) -> None:
        await client.workers.Disconnect(v1.DisconnectRequest(worker_id=worker_id))
        await enter(worker_id)

    async def pause(task_id: str, worker_id: str) -> None:
        if task_id != ROOT:
            await client.admin.Pause(v1.PauseRequest(task_id=task_id))

    async def resume(task_id: str, worker_id: str) -> None:
        await client.admin.Resume(v1.ResumeRequest(task_id=task_id))

    async def boost(task_id: str, worker_id: str) -> None:
        await tasks.BoostTask(v1.BoostTaskRequest(task_id=task_id, boost=rng.random()))

    async def signal(task_id: str, worker_id: str) -> None:
        await tasks.SignalTask(v1.SignalTaskRequest(task_id=task_id, worker_id=worker_id))

    async def wait(task_id: str, worker_id: str) -> None:
        clock.advance(rng.randrange(30_000))

    steps = [change, tag, enter_phase, assign, cancel, block, join, part, delete, leave, wait]
    steps += [pause, resume, resume, boost, signal, reopen]
    steps += [restore, rename, move, obliterate, think, budget, spend]
    steps += [claim] * 8 + [release, complete, complete, fail]
    for worker_id in WORKERS:
        await enter(worker_id)
    for n, id in enumerate(IDS):
        parent_id = rng.choice(["", "", "", *IDS[:n]])
        needed, wanted = rng.choice([[], [], ["a"], ["c"]]), some_tags()
        await create(client, id, parent_id=parent_id, needed_tags=needed, wanted_tags=wanted)
    for _ in range(600):
        try:
            await rng.choice(steps)(rng.choice(IDS), rng.choice(WORKERS))
        except TaskloomError as refused:
            if not refused.reason:  # it was not a rule that stood in the way
                raise


def apply(known: Known, message: Message) -> None:
    """What a reader does with a message."""
    for event in message.events.events:
        if event.left_filter or event.type == v1.EVENT_TYPE_TASK_DELETED:
            known.pop(event.task_id, None)
        elif event.HasField("task"):
            known[event.task_id] = event.task


def below(tasks: Known, root: str) -> set[str]:
    """The ids of a task and of everything below it."""
    found = {root} & set(tasks)
    while more := {id for id, task in tasks.items() if task.parent_id in found} - found:
        found |= more
    return found


Matching: TypeAlias = Callable[[Known], Iterable[str]]


def those(matches: Callable[[v1.Task], bool]) -> Matching:
    """A filter that looks at nothing but the task itself."""
    return lambda tasks: [id for id, task in tasks.items() if matches(task)]


def meant_for(task: v1.Task, tags: Iterable[str]) -> bool:
    """Whether a worker has the tags that a task asks for."""
    return set(task.needed_tags) <= set(tags) and (
        not task.wanted_tags or not set(task.wanted_tags).isdisjoint(tags)
    )


FILTERS: list[tuple[v1.WatchFilter, Matching]] = [
    (v1.WatchFilter(), those(lambda task: True)),
    (
        v1.WatchFilter(statuses=["pending", "failed"]),
        those(lambda task: task.status in {"pending", "failed"}),
    ),
    (v1.WatchFilter(tags=["a", "b"]), those(lambda task: bool({"a", "b"} & set(task.tags)))),
    (v1.WatchFilter(owner="ada"), those(lambda task: task.worker_id == "ada")),
    (
        v1.WatchFilter(assignee="ada"),
        those(lambda task: (task.worker_id, task.status) == ("ada", "assigned")),
    ),
    (v1.WatchFilter(ready_for="ada"), those(lambda task: task.ready and meant_for(task, ADAS))),
    (
        v1.WatchFilter(assignee="bob", statuses=["assigned", "working"]),
        those(lambda task: (task.worker_id, task.status) == ("bob", "assigned")),
    ),
    (
        v1.WatchFilter(ready_for="ada", tags=["a", "b"], phases=["design", "review"]),
        those(
            lambda task: (
                task.ready
                and meant_for(task, ADAS)
                and bool({"a", "b"} & set(task.tags))
                and task.phase in {"design", "review"}
            )
        ),
    ),
    (v1.WatchFilter(task_ids=IDS[3:7]), those(lambda task: task.id in IDS[3:7])),
    (v1.WatchFilter(phases=["design"]), those(lambda task: task.phase == "design")),
    (v1.WatchFilter(subtree_of=ROOT), lambda tasks: below(tasks, ROOT)),
    (
        v1.WatchFilter(subtree_of=ROOT, statuses=["pending"], tags=["a"]),
        lambda tasks: [
            id
            for id in below(tasks, ROOT)
            if tasks[id].status == "pending" and "a" in tasks[id].tags
        ],
    ),
]


def settled(task: v1.Task) -> v1.Task:
    """A task without what changes by itself as time goes, of which no event tells."""
    copy = v1.Task()
    copy.CopyFrom(task)
    copy.ClearField("lease_expire_time")
    return copy


@pytest.mark.parametrize("seed", range(3))
async def test_a_mirror_has_what_matches(
    timed_server: "Server", timed_client: Client, clock: "TestClock", seed: int
) -> None:
    """At each revision of a life, with each filter, the mirror has the tasks that match then, as
    they are; at the end that is what ListTasks lists, and the state that a watch begins with.
    """
    client = timed_client
    await wander(client, clock, seed)
    last = await revision_of(client)
    assert last > 150
    whole, *filtered = await asyncio.gather(
        heard(client, last, start_revision=1),
        *(
            heard(client, last, start_revision=1, filter=filter, progress_interval={"seconds": 1})
            for filter, _ in FILTERS
        ),
    )
    everything: Known = {}
    mirrors: list[Known] = [{} for _ in FILTERS]
    told = [{message.revision: message for message in messages} for messages in filtered]
    for message in whole:
        apply(everything, message)
        for (filter, matching), mirror, messages in zip(FILTERS, mirrors, told, strict=True):
            if same := messages.get(message.revision):
                apply(mirror, same)
            expected = {id: everything[id] for id in matching(everything)}
            assert mirror == expected, (message.revision, filter)
    listed = await client.tasks.ListTasks(v1.ListTasksRequest(page_size=1_000))
    assert [settled(everything[task.id]) for task in listed.tasks] == [
        settled(task) for task in listed.tasks
    ]
    assert len(everything) == len(listed.tasks)
    for (filter, _), mirror in zip(FILTERS, mirrors, strict=True):
        async with watching(client, include_state=True, filter=filter) as stream:
            stated = [event.task for event in events_of(await until(stream, 1))]
        assert {task.id: settled(task) for task in stated} == {
            id: settled(task) for id, task in mirror.items()
        }, filter
        created = [task.create_time.ToNanoseconds() for task in stated]
        assert created == sorted(created), filter
