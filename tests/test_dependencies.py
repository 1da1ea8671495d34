"""LinkTasks and UnlinkTasks: the edges of the graph, of every type, and never a cycle."""

import random
from collections.abc import Awaitable
from itertools import pairwise
from typing import Any, TypeAlias

import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

BLOCKS = v1.DEPENDENCY_TYPE_BLOCKS
FOLLOWS = v1.DEPENDENCY_TYPE_FOLLOWS
CONTAINS = v1.DEPENDENCY_TYPE_CONTAINS
DUPLICATE = v1.DEPENDENCY_TYPE_DUPLICATE
SEE_ALSO = v1.DEPENDENCY_TYPE_SEE_ALSO
RELATES_TO = v1.DEPENDENCY_TYPE_RELATES_TO
TYPES = [BLOCKS, FOLLOWS, CONTAINS, DUPLICATE, SEE_ALSO, RELATES_TO]
LOOSE = [DUPLICATE, SEE_ALSO, RELATES_TO]

Type: TypeAlias = "v1.DependencyType.ValueType"
Link: TypeAlias = tuple[str, str, Type]


async def create(client: Client, *ids: str, **fields: Any) -> None:
    """New tasks, alike but for their ids."""
    for id in ids:
        await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id, **fields))


async def connect(client: Client, id: str, **fields: Any) -> None:
    """A new worker."""
    await client.workers.Connect(v1.ConnectRequest(worker_id=id, **fields))


async def work(client: Client, task: str, status: str = "working") -> None:
    """Let worker w claim a task, and end it where a final status is given."""
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id="w", task_id=task))
    if status != "working":
        await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task, status=status))


async def cancel(client: Client, task: str) -> None:
    """Cancel a task."""
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task, status="cancelled"))


async def link(
    client: Client, from_: str, to: str, type: Type = BLOCKS, **fields: Any
) -> v1.LinkTasksResponse:
    """What LinkTasks answers."""
    request = v1.LinkTasksRequest(from_task_id=from_, to_task_id=to, type=type, **fields)
    return await client.tasks.LinkTasks(request)


async def unlink(
    client: Client, from_: str, to: str, type: Type = v1.DEPENDENCY_TYPE_UNSPECIFIED
) -> v1.UnlinkTasksResponse:
    """What UnlinkTasks answers."""
    request = v1.UnlinkTasksRequest(from_task_id=from_, to_task_id=to, type=type)
    return await client.tasks.UnlinkTasks(request)


async def show(client: Client, task: str) -> v1.Task:
    """A task as it is now."""
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def links(client: Client, task: str) -> set[tuple[str, str, int]]:
    """What GetTask says hangs on a task."""
    answer = await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))
    return {(each.from_task_id, each.to_task_id, each.type) for each in answer.dependencies}


async def ready(client: Client) -> list[str]:
    """The tasks that are ready, oldest first."""
    request = v1.ListTasksRequest(ready=True, order_by=v1.ORDER_BY_CREATE_TIME)
    return [task.id for task in (await client.tasks.ListTasks(request)).tasks]


async def revision(client: Client) -> int:
    """The revision that the server is at."""
    return (await client.admin.GetStatus(v1.GetStatusRequest())).revision


async def refusal(call: Awaitable[object]) -> TaskloomError:
    """The refusal with which a call ends."""
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


def subjects(error: TaskloomError) -> list[str]:
    """What a refusal's details say stands in the way."""
    assert {violation.type for violation in error.violations} == {error.reason}
    return [violation.subject for violation in error.violations]


# Linking


@pytest.mark.parametrize("type", TYPES)
async def test_a_link_is_made_once(client: Client, type: Type) -> None:
    """The first call adds the dependency, the second finds it there and changes nothing."""
    await create(client, "a", "b")
    made = await link(client, "a", "b", type)
    assert made.created
    assert made.dependency == v1.Dependency(from_task_id="a", to_task_id="b", type=type)
    again = await link(client, "a", "b", type)
    assert not again.created
    assert (again.dependency, again.revision) == (made.dependency, made.revision)
    assert await links(client, "a") == await links(client, "b") == {("a", "b", type)}


async def test_without_a_type_a_link_blocks(client: Client) -> None:
    """A request that does not say the type means `blocks`, and the answer says so."""
    await create(client, "a", "b")
    made = await link(client, "a", "b", v1.DEPENDENCY_TYPE_UNSPECIFIED)
    assert made.dependency.type == BLOCKS
    assert not (await link(client, "a", "b", BLOCKS)).created


async def test_two_tasks_may_have_one_link_of_each_type(client: Client) -> None:
    """Types do not replace each other; loose ones may go both ways."""
    await create(client, "a", "b")
    wanted = {("a", "b", type_) for type_ in (BLOCKS, FOLLOWS, *LOOSE)}
    wanted |= {("b", "a", type_) for type_ in LOOSE}
    for from_, to, type_ in wanted:
        await link(client, from_, to, type_)
    assert await links(client, "a") == wanted


@pytest.mark.parametrize("type", [BLOCKS, FOLLOWS])
async def test_a_blocker_holds_its_task_back(client: Client, type: Type) -> None:
    """A ready task that is given a blocker is not ready any more, and is told as blocked."""
    await create(client, "a", "b")
    made = await link(client, "a", "b", type)
    assert await ready(client) == ["a"]
    async with client.watch(start_revision=made.revision) as watch:
        async for message in watch:
            if events := list(message.events.events):
                break
    assert [(each.type, each.task_id) for each in events] == [
        (v1.EVENT_TYPE_DEPENDENCY_ADDED, "b"),
        (v1.EVENT_TYPE_TASK_BLOCKED, "b"),
    ]
    await cancel(client, "a")
    assert await ready(client) == ["b"]


@pytest.mark.parametrize("type", LOOSE)
async def test_loose_links_hold_nobody_back(client: Client, type: Type) -> None:
    """Links that block nothing leave readiness as it is, also in a ring."""
    await create(client, "a", "b")
    await link(client, "a", "b", type)
    await link(client, "b", "a", type)
    assert await ready(client) == ["a", "b"]


async def test_a_blocker_that_ended_does_not_hold(client: Client) -> None:
    """A link from a task that ended well holds nobody back, one from a failed task does."""
    await connect(client, "w")
    await create(client, "done", "cancelled", "failed", "a", "b")
    await work(client, "done", "completed")
    await work(client, "failed", "failed")
    await cancel(client, "cancelled")
    await link(client, "done", "a")
    await link(client, "cancelled", "a")
    assert await ready(client) == ["a", "b"]
    await link(client, "failed", "b")
    assert await ready(client) == ["a"]


async def test_a_task_that_blocks_twice_is_one_blocker(client: Client) -> None:
    """A task that blocks another and is followed by it holds it back until both links are gone."""
    await create(client, "a", "b", "c")
    for to in ("b", "c"):
        await link(client, "a", to, BLOCKS)
        await link(client, "a", to, FOLLOWS)
    assert not (await unlink(client, "a", "b", BLOCKS)).unblocked_task_ids
    assert await ready(client) == ["a"]
    assert list((await unlink(client, "a", "b", FOLLOWS)).unblocked_task_ids) == ["b"]
    await cancel(client, "a")
    assert await ready(client) == ["b", "c"]


async def test_work_goes_on_when_a_blocker_comes(client: Client) -> None:
    """A blocker of a task at work counts when the task is to start again."""
    await connect(client, "w")
    await create(client, "a", "b")
    await work(client, "b")
    await link(client, "a", "b")
    assert (await show(client, "b")).status == "working"
    await client.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="w", task_id="b"))
    assert await ready(client) == ["a"]
    error = await refusal(work(client, "b"))
    assert error.reason == "DEPENDENCIES_UNMET"
    assert subjects(error) == ["a"]


async def test_a_child_holds_its_parent_back(client: Client) -> None:
    """A task that is put below another keeps it from being taken until it has ended."""
    await connect(client, "w")
    await create(client, "parent", "child", "done")
    await work(client, "done", "completed")
    await link(client, "parent", "done", CONTAINS)
    assert "parent" in await ready(client)
    await link(client, "parent", "child", CONTAINS)
    assert (await show(client, "child")).parent_id == "parent"
    assert await ready(client) == ["child"]
    await work(client, "child", "completed")
    assert (await show(client, "parent")).status == "completed"


# Refusals


@pytest.mark.parametrize("type", TYPES)
async def test_no_task_depends_on_itself(client: Client, type: Type) -> None:
    """A link from a task to itself is a cycle, whatever its type."""
    await create(client, "a")
    error = await refusal(link(client, "a", "a", type))
    assert error.reason == "CYCLE"
    assert set(subjects(error)) == {"a"}
    assert await links(client, "a") == set()


# Links that stand, the one that would close a ring, and the ring: each step of it leads to
# what waits for the end of the step before.
RINGS: list[tuple[list[Link], Link, list[str]]] = [
    ([("a", "b", BLOCKS)], ("b", "a", BLOCKS), ["b", "a", "b"]),
    ([("a", "b", FOLLOWS)], ("b", "a", BLOCKS), ["b", "a", "b"]),
    ([("a", "b", BLOCKS), ("b", "c", FOLLOWS)], ("c", "a", FOLLOWS), ["c", "a", "b", "c"]),
    # A child cannot start after its parent, for the parent ends after its child.
    ([("a", "b", CONTAINS)], ("a", "b", BLOCKS), ["a", "b", "a"]),
    ([("a", "b", BLOCKS)], ("a", "b", CONTAINS), ["b", "a", "b"]),
    ([("a", "b", CONTAINS)], ("b", "a", CONTAINS), ["a", "b", "a"]),
    ([("a", "b", CONTAINS), ("b", "c", CONTAINS)], ("c", "a", CONTAINS), ["a", "c", "b", "a"]),
    # Nor after what starts after its parent.
    ([("a", "b", CONTAINS), ("a", "c", BLOCKS)], ("c", "b", FOLLOWS), ["c", "b", "a", "c"]),
    (
        [("a", "b", CONTAINS), ("c", "d", CONTAINS), ("a", "c", BLOCKS)],
        ("c", "b", BLOCKS),
        ["c", "b", "a", "c"],
    ),
]


@pytest.mark.parametrize(("standing", "closing", "ring"), RINGS)
async def test_a_link_that_closes_a_cycle_is_refused(
    client: Client,
    standing: list[Link],
    closing: Link,
    ring: list[str],
) -> None:
    """Cycles are found through all blocking types together, and the tasks along them named."""
    await create(client, "a", "b", "c", "d")
    for each in standing:
        await link(client, *each)
    before = await revision(client)
    error = await refusal(link(client, *closing))
    assert error.reason == "CYCLE"
    assert subjects(error) == ring
    assert " -> ".join(ring) in str(error)
    assert await revision(client) == before
    for loose in LOOSE:
        assert (await link(client, closing[0], closing[1], loose)).created


async def test_two_ways_to_the_same_end_are_no_cycle(client: Client) -> None:
    """A task may wait for another in several ways: by itself, by its child, by its blockers."""
    await create(client, "a", "b", "c", "d")
    for each in (("a", "b", CONTAINS), ("b", "c", BLOCKS), ("d", "c", CONTAINS)):
        await link(client, *each)
    for each in (("d", "a", BLOCKS), ("c", "a", FOLLOWS), ("b", "d", BLOCKS)):
        assert (await link(client, *each)).created


async def test_a_long_cycle_is_told_whole(client: Client) -> None:
    """The path of a refusal leads all along the ring, each step a dependency that is there."""
    ids = [f"t{n}" for n in range(30)]
    await create(client, *ids)
    for from_, to in pairwise(ids):
        await link(client, from_, to)
    along = subjects(await refusal(link(client, ids[-1], ids[0])))
    assert along == [ids[-1], *ids]


async def test_a_refusal_of_any_size_arrives(client: Client) -> None:
    """A refusal with hundreds of tasks to name comes as it is, with the first of them named."""
    await connect(client, "w")
    nodes = [v1.TaskNode(id=f"{'blocker-' * 15}{n:03}", title="x") for n in range(900)]
    root = v1.TaskNode(id="top", title="x", children=nodes)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    await create(client, "waits", blocked_by=[node.id for node in nodes])
    for call, reason in (
        (work(client, "waits"), "DEPENDENCIES_UNMET"),
        (work(client, "top"), "CHILDREN_OPEN"),
        (client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="top")), "CHILDREN_OPEN"),
    ):
        error = await refusal(call)
        assert error.reason == reason
        named = subjects(error)
        assert len(named) > 5
        assert named == [node.id for node in nodes][: len(named)]
        assert nodes[0].id in str(error)


async def test_a_child_has_one_parent(client: Client) -> None:
    """A task that has a parent is refused another; unlinked from the one it may have the other."""
    await create(client, "a", "b", "child")
    await link(client, "a", "child", CONTAINS)
    error = await refusal(link(client, "b", "child", CONTAINS))
    assert error.reason == "PARENT_EXISTS"
    assert subjects(error) == ["a"]
    await unlink(client, "a", "child", CONTAINS)
    assert (await link(client, "b", "child", CONTAINS)).created
    assert (await show(client, "child")).parent_id == "b"


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_a_parent_that_ended_takes_no_child(client: Client, status: str) -> None:
    """Nothing is put below a task that has ended; what blocks is linked to it all the same."""
    await connect(client, "w")
    await create(client, "parent", "child")
    if status == "cancelled":
        await cancel(client, "parent")
    else:
        await work(client, "parent", status)
    error = await refusal(link(client, "parent", "child", CONTAINS))
    assert error.reason == "PARENT_ENDED"
    assert subjects(error) == ["parent"]
    assert (await link(client, "parent", "child", BLOCKS)).created


@pytest.mark.parametrize("type", TYPES)
async def test_both_ends_must_be_there(client: Client, type: Type) -> None:
    """An end that is unknown or deleted is refused, and the sentence says which end it is."""
    await create(client, "a", "gone")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))
    for end, reason in (("nobody", "TASK_NOT_FOUND"), ("gone", "TASK_DELETED")):
        error = await refusal(link(client, end, "a", type))
        assert error.reason == reason
        assert "from" in str(error)
        error = await refusal(link(client, "a", end, type))
        assert error.reason == reason
        assert "(to)" in str(error)
    assert await links(client, "a") == set()


async def test_who_links_is_connected(client: Client) -> None:
    """A worker that links is told in the event, one that is unknown is refused."""
    await create(client, "a", "b")
    error = await refusal(link(client, "a", "b", worker_id="w"))
    assert error.reason == "WORKER_NOT_FOUND"
    await connect(client, "w")
    made = await link(client, "a", "b", worker_id="w")
    async with client.watch(start_revision=made.revision) as watch:
        async for message in watch:
            if events := list(message.events.events):
                break
    assert events[0].worker_id == "w"
    assert events[0].dependency == made.dependency


async def test_a_cycle_through_a_deleted_task_is_none(client: Client) -> None:
    """A deleted task has left the graph, so no ring goes through it; an export says the same."""
    await create(client, "a", "b", "c")
    await link(client, "a", "b")
    await link(client, "b", "c")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="b"))
    assert (await link(client, "c", "a")).created

    answers = client.admin.ExportSnapshot(v1.ExportSnapshotRequest())
    exported = b"".join([answer.chunk async for answer in answers])
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    options = v1.ImportOptions(mode=v1.IMPORT_MODE_RESTORE)
    messages = [
        v1.ImportSnapshotRequest(options=options),
        v1.ImportSnapshotRequest(chunk=exported),
    ]
    assert (await client.admin.ImportSnapshot(iter(messages))).rows["dependencies"] == 3
    assert await ready(client) == ["c"]


@pytest.mark.parametrize("seed", range(3))
async def test_no_sequence_of_links_makes_a_cycle(client: Client, seed: int) -> None:
    """Of random links just those are refused that would close a ring or give a second parent."""
    rng = random.Random(seed)
    ids = [f"t{n}" for n in range(8)]
    await create(client, *ids)
    standing: set[Link] = set()
    refused = 0
    for _ in range(150):
        each: Link = (rng.choice(ids), rng.choice(ids), rng.choice([*TYPES, BLOCKS, CONTAINS]))
        if rng.random() < 0.25 and standing:
            each = rng.choice(sorted(standing))
            assert [d.type for d in (await unlink(client, *each)).removed] == [each[2]]
            standing.remove(each)
            continue
        reason = _refusal(standing, each)
        if reason is None:
            assert (await link(client, *each)).created == (each not in standing)
            standing.add(each)
        else:
            assert (await refusal(link(client, *each))).reason == reason, each
            refused += 1
    assert refused > 20
    waiting = {to for _, to, type_ in standing if type_ in (BLOCKS, FOLLOWS)}
    waiting |= {parent for parent, _, type_ in standing if type_ == CONTAINS}
    assert set(await ready(client)) == set(ids) - waiting


def _refusal(standing: set[Link], link: Link) -> str | None:
    """Why a link is to be refused, found by walking from its end to its beginning."""
    from_, to, type_ = link
    if from_ == to:
        return "CYCLE"
    if link in standing or type_ in LOOSE:
        return None
    arrows = {_arrow(*each) for each in standing if each[2] not in LOOSE}
    start, end = _arrow(*link)
    reached = {end}
    while more := {y for x, y in arrows if x in reached} - reached:
        reached |= more
    if start in reached:
        return "CYCLE"
    has_parent = any(each[1:] == (to, CONTAINS) for each in standing)
    return "PARENT_EXISTS" if type_ == CONTAINS and has_parent else None


def _arrow(from_: str, to: str, type: Type) -> tuple[str, str]:
    """From what ends first to what ends after it."""
    return (to, from_) if type == CONTAINS else (from_, to)


# Unlinking


@pytest.mark.parametrize("type", TYPES)
async def test_a_link_is_removed_once(client: Client, type: Type) -> None:
    """The first call removes the dependency, the second finds none and changes nothing."""
    await create(client, "a", "b")
    made = await link(client, "a", "b", type)
    gone = await unlink(client, "a", "b", type)
    assert list(gone.removed) == [made.dependency]
    assert gone.revision == made.revision + 1
    again = await unlink(client, "a", "b", type)
    assert not again.removed
    assert again.revision == gone.revision
    assert await links(client, "a") == set()
    assert await ready(client) == ["a", "b"]


async def test_without_a_type_all_links_go(client: Client) -> None:
    """A request that does not say the type removes all from the one to the other, not back."""
    await create(client, "a", "b")
    for type_ in (BLOCKS, SEE_ALSO):
        await link(client, "a", "b", type_)
    await link(client, "b", "a", SEE_ALSO)
    gone = await unlink(client, "a", "b")
    assert {each.type for each in gone.removed} == {BLOCKS, SEE_ALSO}
    assert list(gone.unblocked_task_ids) == ["b"]
    assert await links(client, "a") == {("b", "a", SEE_ALSO)}


async def test_a_task_is_ready_when_its_last_blocker_is_unlinked(client: Client) -> None:
    """Unlinking the last blocker makes a task ready, and lists it; the one before does not."""
    await create(client, "a", "b", "c")
    await link(client, "a", "c")
    await link(client, "b", "c")
    assert not (await unlink(client, "a", "c")).unblocked_task_ids
    assert list((await unlink(client, "b", "c")).unblocked_task_ids) == ["c"]
    assert await ready(client) == ["a", "b", "c"]


async def test_an_ended_blocker_is_unlinked_without_effect(client: Client) -> None:
    """Unlinking a blocker that has ended well does not free what others hold back."""
    await create(client, "done", "open", "a")
    await link(client, "done", "a")
    await link(client, "open", "a")
    await cancel(client, "done")
    assert not (await unlink(client, "done", "a")).unblocked_task_ids
    assert await ready(client) == ["open"]
    await cancel(client, "open")
    assert await ready(client) == ["a"]


async def test_a_parent_without_its_child(client: Client) -> None:
    """Without its only child a parent is ready; without its last open one it is completed."""
    await connect(client, "w")
    await create(client, "barren", "parent", "only", "done", "last")
    await link(client, "barren", "only", CONTAINS)
    await link(client, "parent", "done", CONTAINS)
    await link(client, "parent", "last", CONTAINS)
    await work(client, "done", "completed")
    assert list((await unlink(client, "barren", "only")).unblocked_task_ids) == ["barren"]
    await unlink(client, "parent", "last")
    assert (await show(client, "parent")).status == "completed"
    assert (await show(client, "only")).parent_id == ""
    assert await ready(client) == ["barren", "only", "last"]


async def test_ends_of_what_is_unlinked_must_be_known(client: Client) -> None:
    """An end that never was is NOT_FOUND; one that is deleted is unlinked as any other."""
    await create(client, "a", "gone")
    made = await link(client, "gone", "a", SEE_ALSO)
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="gone"))
    for from_, to in (("nobody", "a"), ("a", "nobody")):
        error = await refusal(unlink(client, from_, to))
        assert error.reason == "TASK_NOT_FOUND"
        assert error.resource is not None
        assert error.resource.name == "nobody"
    assert list((await unlink(client, "gone", "a")).removed) == [made.dependency]


@pytest.mark.parametrize("number", [7, -1, 2**31 - 1])
async def test_a_type_that_there_is_not(client: Client, number: int) -> None:
    """A number that is no type of dependency is refused by name."""
    await create(client, "a", "b")
    ask = v1.LinkTasksRequest(from_task_id="a", to_task_id="b")
    ask.type = number  # type: ignore[assignment]
    undo = v1.UnlinkTasksRequest(from_task_id="a", to_task_id="b")
    undo.type = number  # type: ignore[assignment]
    for call in (client.tasks.LinkTasks(ask), client.tasks.UnlinkTasks(undo)):
        error = await refusal(call)
        assert [each.field for each in error.field_violations] == ["type"]
