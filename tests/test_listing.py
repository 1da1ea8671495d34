"""ListTasks: filters, orders, pages; compared with a model that does the same in plain Python."""

import base64
import json
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import TestClock

ORDERS = [
    v1.ORDER_BY_PRIORITY,
    v1.ORDER_BY_CREATE_TIME,
    v1.ORDER_BY_UPDATE_TIME,
    v1.ORDER_BY_ID,
]


async def create(client: Client, id: str, **fields: Any) -> v1.Task:
    """A new task."""
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def connect(client: Client, id: str, **fields: Any) -> None:
    """A new worker."""
    await client.workers.Connect(v1.ConnectRequest(worker_id=id, **fields))


async def claim(client: Client, worker: str, task: str) -> None:
    """Claim a task by name."""
    await client.claims.ClaimTask(v1.ClaimTaskRequest(worker_id=worker, task_id=task))


async def update(client: Client, task: str, **fields: Any) -> None:
    """Change a task."""
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task, **fields))


async def delete(client: Client, task: str) -> None:
    """Delete a task and all below it."""
    request = v1.DeleteTaskRequest(task_id=task, cascade=True, force=True)
    await client.tasks.DeleteTask(request)


async def page(client: Client, **query: Any) -> v1.ListTasksResponse:
    """What ListTasks answers."""
    return await client.tasks.ListTasks(v1.ListTasksRequest(**query))


async def listed(client: Client, **filters: Any) -> list[str]:
    """The ids of the tasks that pass, oldest first."""
    answer = await page(client, order_by=v1.ORDER_BY_CREATE_TIME, page_size=1000, **filters)
    return [task.id for task in answer.tasks]


async def in_pages(client: Client, size: int, **query: Any) -> list[list[v1.Task]]:
    """All pages of a query."""
    request = v1.ListTasksRequest(page_size=size, **query)
    pages = []
    while True:
        answer = await client.tasks.ListTasks(request)
        pages.append(list(answer.tasks))
        if not answer.next_page_token:
            return pages
        request.page_token = answer.next_page_token


async def refusal(call: Awaitable[object]) -> TaskloomError:
    """The refusal with which a call ends."""
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


def fields(error: TaskloomError) -> list[str]:
    """The fields that a refusal names."""
    assert error.reason == "INVALID_FIELD"
    return [violation.field for violation in error.field_violations]


# Filters


async def test_an_empty_graph_is_an_empty_page(client: Client) -> None:
    """Where there is nothing to list the answer is empty, and says at which revision."""
    assert await page(client) == v1.ListTasksResponse()
    created = await create(client, "a")
    answer = await page(client, statuses=["completed"])
    assert answer == v1.ListTasksResponse(revision=created.revision)


async def test_tasks_are_listed_whole(client: Client) -> None:
    """A task in a list is the task that GetTask shows."""
    await connect(client, "w")
    await create(client, "a", tags=["x"], points=3, phase="test")
    await claim(client, "w", "a")
    shown = await client.tasks.GetTask(v1.GetTaskRequest(task_id="a"))
    assert list((await page(client)).tasks) == [shown.task]


async def test_by_status(client: Client) -> None:
    """Tasks in any of the statuses pass; a status that no workflow has passes nothing."""
    await connect(client, "w", max_claims=2)
    for id in ("a", "b", "c"):
        await create(client, id)
    await claim(client, "w", "b")
    await update(client, "c", status="cancelled")
    assert await listed(client, statuses=["pending"]) == ["a"]
    assert await listed(client, statuses=["cancelled", "working", "working"]) == ["b", "c"]
    assert await listed(client, statuses=["nonsense"]) == []


async def test_by_readiness(timed_client: Client, clock: "TestClock") -> None:
    """Ready are those that could be claimed now: not blocked, parent, claimed, delayed, ended."""
    later = Timestamp(seconds=clock.now() // 1000 + 60)
    await connect(timed_client, "w")
    await create(timed_client, "free")
    await create(timed_client, "blocked", blocked_by=["free"])
    await create(timed_client, "child", parent_id=(await create(timed_client, "parent")).id)
    await create(timed_client, "claimed")
    await claim(timed_client, "w", "claimed")
    await create(timed_client, "delayed", not_before=later)
    await create(timed_client, "ended")
    await update(timed_client, "ended", status="cancelled")
    assert await listed(timed_client, ready=True) == ["free", "child"]
    others = ["blocked", "parent", "claimed", "delayed", "ended"]
    assert await listed(timed_client, ready=False) == others


async def test_by_blockers(client: Client) -> None:
    """Blocked are those with a start-blocker that has not ended well, and no others."""
    await connect(client, "w")
    await create(client, "open")
    await create(client, "failed")
    await create(client, "cancelled")
    await claim(client, "w", "failed")
    await update(client, "failed", status="failed")
    await update(client, "cancelled", status="cancelled")
    await create(client, "a", blocked_by=["open", "cancelled"])
    await create(client, "b", blocked_by=["failed"])
    await create(client, "c", blocked_by=["cancelled"])
    await create(client, "child", parent_id="c")
    assert await listed(client, blocked=True) == ["a", "b"]
    free = ["open", "failed", "cancelled", "c", "child"]
    assert await listed(client, blocked=False) == free


async def test_by_claims_and_owner(client: Client) -> None:
    """Claimed are those that somebody holds; an owner's are those it holds, or held at the end."""
    await connect(client, "w", max_claims=9)
    await connect(client, "v")
    for id in ("ended", "held", "others", "given-back", "free"):
        await create(client, id)
    for id in ("ended", "held", "given-back"):
        await claim(client, "w", id)
    await claim(client, "v", "others")
    await update(client, "ended", status="completed")
    await update(client, "given-back", status="pending")
    assert await listed(client, claimed=True) == ["held", "others"]
    assert await listed(client, claimed=False) == ["ended", "given-back", "free"]
    assert await listed(client, owner="w") == ["ended", "held"]
    assert await listed(client, owner="w", claimed=True) == ["held"]
    assert await listed(client, owner="nobody") == []


async def test_by_parent(client: Client) -> None:
    """A parent's children pass, or with `recursive` all below it; never the parent itself."""
    for id, parent in (("top", ""), ("a", "top"), ("a1", "a"), ("a2", "a1"), ("b", "top")):
        await create(client, id, parent_id=parent)
    await create(client, "other")
    assert await listed(client, parent_id="top") == ["a", "b"]
    assert await listed(client, parent_id="top", recursive=True) == ["a", "a1", "a2", "b"]
    assert await listed(client, parent_id="a2", recursive=True) == []
    error = await refusal(page(client, parent_id="nobody"))
    assert error.reason == "TASK_NOT_FOUND"
    assert fields(await refusal(page(client, recursive=True))) == ["recursive"]


async def test_by_tags(client: Client) -> None:
    """Tasks with one of `tags_any`, with all of `tags_all`, or both."""
    for id, tags in (("a", "x"), ("b", "xy"), ("c", "xyz"), ("d", "z"), ("e", "")):
        await create(client, id, tags=tags, needed_tags=["x"])
    assert await listed(client, tags_any=["y", "z"]) == ["b", "c", "d"]
    assert await listed(client, tags_all=["y", "x"]) == ["b", "c"]
    assert await listed(client, tags_all=["x", "x"]) == ["a", "b", "c"]
    assert await listed(client, tags_any=["z"], tags_all=["x", "y"]) == ["c"]
    assert await listed(client, tags_any=["nonsense"]) == []
    await update(client, "c", tags=v1.Tags(values=["z"]))
    assert await listed(client, tags_all=["x", "y"]) == ["b"]


async def test_by_phase(client: Client) -> None:
    """Tasks in the phase pass; an empty phase is no filter."""
    await create(client, "a", phase="test")
    await create(client, "b", phase="design")
    await create(client, "c")
    assert await listed(client, phase="test") == ["a"]
    assert await listed(client, phase="") == ["a", "b", "c"]
    assert await listed(client, phase="review") == []


async def test_by_a_workers_qualification(client: Client) -> None:
    """Tasks pass whose needed tags the worker has, and of the wanted ones at least one."""
    await connect(client, "generalist")
    await connect(client, "expert", tags=["rust", "css"])
    await create(client, "any")
    await create(client, "needs", needed_tags=["rust"])
    await create(client, "needs-more", needed_tags=["rust", "gpu"])
    await create(client, "wants", wanted_tags=["css", "gpu"])
    await create(client, "wants-other", wanted_tags=["gpu"])
    await create(client, "both", needed_tags=["css"], wanted_tags=["rust"])
    assert await listed(client, qualified_for_worker_id="generalist") == ["any"]
    able = ["any", "needs", "wants", "both"]
    assert await listed(client, qualified_for_worker_id="expert") == able
    error = await refusal(page(client, qualified_for_worker_id="nobody"))
    assert error.reason == "WORKER_NOT_FOUND"


async def test_a_worker_that_qualifies_for_nothing(client: Client) -> None:
    """Where every task asks for more than the worker has, none passes."""
    await connect(client, "w")
    await create(client, "a", needed_tags=["rust"])
    assert await listed(client, qualified_for_worker_id="w") == []


async def test_deleted_tasks_pass_when_asked_for(client: Client) -> None:
    """Deleted tasks are left out, or with `include_deleted` listed among the others."""
    for id, parent in (("top", ""), ("a", "top"), ("a1", "a"), ("b", "top")):
        await create(client, id, parent_id=parent)
    await delete(client, "a")
    assert await listed(client) == ["top", "b"]
    assert await listed(client, include_deleted=True) == ["top", "a", "a1", "b"]
    assert await listed(client, parent_id="top", include_deleted=True) == ["a", "b"]
    below: dict[str, Any] = {"parent_id": "top", "recursive": True}
    assert await listed(client, **below) == ["b"]
    assert await listed(client, **below, include_deleted=True) == ["a", "a1", "b"]


# Orders


async def test_orders(timed_client: Client, clock: "TestClock") -> None:
    """By priority and age, by age, by the latest change, by the bytes of the id."""
    for id, priority in (("b", 5), ("a", 5), ("Z", 9), ("é", 0), ("z", 9)):
        await create(timed_client, id, priority=priority)
    clock.advance(1)
    await update(timed_client, "a", title="changed")
    clock.advance(1)
    await update(timed_client, "Z", title="changed")

    async def order(order_by: "v1.OrderBy.ValueType") -> list[str]:
        return [task.id for task in (await page(timed_client, order_by=order_by)).tasks]

    assert await order(v1.ORDER_BY_PRIORITY) == ["Z", "z", "b", "a", "é"]
    assert await order(v1.ORDER_BY_UNSPECIFIED) == ["Z", "z", "b", "a", "é"]
    assert await order(v1.ORDER_BY_CREATE_TIME) == ["b", "a", "Z", "é", "z"]
    # Those with equal times come latest first, too.
    assert await order(v1.ORDER_BY_UPDATE_TIME) == ["Z", "a", "z", "é", "b"]
    assert await order(v1.ORDER_BY_ID) == ["Z", "a", "b", "z", "é"]


@pytest.mark.parametrize("number", [6, -1, 2**31 - 1])
async def test_an_order_that_there_is_not(client: Client, number: int) -> None:
    """A number that is no order is refused."""
    request = v1.ListTasksRequest()
    request.order_by = number  # type: ignore[assignment]
    assert fields(await refusal(client.tasks.ListTasks(request))) == ["order_by"]


# Pages


@pytest.mark.parametrize("order_by", ORDERS)
async def test_pages_hold_every_task_once(
    timed_client: Client, clock: "TestClock", order_by: "v1.OrderBy.ValueType"
) -> None:
    """The pages of a query, put together, are the query; only the last may be short."""
    for n in range(12):
        await create(timed_client, f"t{n:02}", priority=n % 3)
        clock.advance(n % 2)
    whole = list((await page(timed_client, order_by=order_by)).tasks)
    assert len({task.id for task in whole}) == 12
    for size in (1, 4, 12, 13, 1000):
        pages = await in_pages(timed_client, size, order_by=order_by)
        assert [task for each in pages for task in each] == whole
        assert all(len(each) == size for each in pages[:-1])
        assert len(pages) == -(-12 // size)


async def test_page_sizes(client: Client) -> None:
    """No size means 50, no page has more than 1,000, and a negative size is refused."""
    leaves = [v1.TaskNode(title="x") for _ in range(1_000)]
    root = v1.TaskNode(title="top", children=leaves)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    assert len((await page(client)).tasks) == 50
    assert len((await page(client, page_size=1)).tasks) == 1
    pages = await in_pages(client, 2**31 - 1)
    assert [len(each) for each in pages] == [1_000, 1]
    assert fields(await refusal(page(client, page_size=-1))) == ["page_size"]


async def test_the_page_size_may_change_on_the_way(client: Client) -> None:
    """A token belongs to the query, not to the size of its pages."""
    for n in range(5):
        await create(client, f"t{n}")
    first = await page(client, page_size=2)
    rest = await page(client, page_size=9, page_token=first.next_page_token)
    assert [task.id for task in rest.tasks] == ["t2", "t3", "t4"]
    assert not rest.next_page_token


async def test_a_page_goes_on_from_its_place(client: Client) -> None:
    """A task that came before the place, or was deleted at it, does not disturb the next page."""
    for n in range(4):
        await create(client, f"t{n}")
    first = await page(client, page_size=2)
    await delete(client, "t1")
    await create(client, "t9", priority=9)
    rest = await page(client, page_token=first.next_page_token)
    assert [task.id for task in rest.tasks] == ["t2", "t3"]


OTHER_QUERIES: list[dict[str, Any]] = [
    {"statuses": ["working"]},
    {"statuses": ["pending", "working"]},
    {"ready": False},
    {"blocked": False},
    {"order_by": v1.ORDER_BY_ID},
    {"order_by": v1.ORDER_BY_UNSPECIFIED},
    {"include_deleted": True},
    {"tags_any": ["x"]},
]


@pytest.mark.parametrize("other", OTHER_QUERIES, ids=lambda each: f"{next(iter(each))}")
async def test_a_token_of_another_query(client: Client, other: dict[str, Any]) -> None:
    """A token goes with the query that it came from; with another one it is refused."""
    for id in ("a", "b"):
        await create(client, id)
    query: dict[str, Any] = {"statuses": ["pending"], "order_by": v1.ORDER_BY_PRIORITY}
    token = (await page(client, **query, page_size=1)).next_page_token
    assert len((await page(client, **query, page_token=token)).tasks) == 1
    error = await refusal(page(client, **(query | other), page_token=token))
    assert fields(error) == ["page_token"]
    assert "another query" in str(error)


async def test_a_token_of_another_call(client: Client) -> None:
    """A token of one list is none of another list."""
    for id in ("a", "b"):
        await create(client, id)
    token = (await page(client, page_size=1)).next_page_token
    for call in (
        client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="a", page_token=token)),
        client.workers.ListWorkers(v1.ListWorkersRequest(page_token=token)),
        client.files.ListFileMarks(v1.ListFileMarksRequest(page_token=token)),
        client.attachments.ListAttachments(
            v1.ListAttachmentsRequest(task_id="a", page_token=token)
        ),
    ):
        assert fields(await refusal(call)) == ["page_token"]


def forge(token: str, change: Callable[[Any], Any]) -> str:
    """A token with other contents."""
    contents = change(json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))))
    text = contents if isinstance(contents, bytes) else json.dumps(contents).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


FORGERIES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda _: [],
    "a number": lambda _: 7,
    "an object": lambda token: {"digest": token[0], "place": token[1]},
    "no place": lambda token: [token[0]],
    "place is null": lambda token: [token[0], None],
    "place is an object": lambda token: [token[0], {"0": 5, "1": 1}],
    "place is text": lambda token: [token[0], "51"],
    "too short": lambda token: [token[0], token[1][:-1]],
    "too long": lambda token: [token[0], [*token[1], 1]],
    "other types": lambda token: [
        token[0],
        [1 if isinstance(part, str) else str(part) for part in token[1]],
    ],
    "true": lambda token: [token[0], [True for _ in token[1]]],
    "fractions": lambda token: [token[0], [1.5 for _ in token[1]]],
    "not a number": lambda token: [token[0], [float("nan") for _ in token[1]]],
    "null": lambda token: [token[0], [None for _ in token[1]]],
    "lists": lambda token: [token[0], [[] for _ in token[1]]],
    "beyond 64 bits": lambda token: [token[0], [2**63 for _ in token[1]]],
    "below 64 bits": lambda token: [token[0], [-(2**63) - 1 for _ in token[1]]],
    "half a character": lambda token: [token[0], ["\ud800" for _ in token[1]]],
    "digest is an object": lambda token: [{}, token[1]],
    "not UTF-8": lambda _: b"\xff\xfe",
    "nested without end": lambda _: b"[" * 100_000,
    "digits without end": lambda token: b'["%s", [%s]]' % (token[0].encode(), b"9" * 5_000),
}


@pytest.mark.parametrize("order_by", [v1.ORDER_BY_PRIORITY, v1.ORDER_BY_ID])
async def test_a_forged_token(client: Client, order_by: "v1.OrderBy.ValueType") -> None:
    """A token whose contents are not of their form is refused as a field, whatever they are."""
    for id in ("a", "b"):
        await create(client, id)
    token = (await page(client, order_by=order_by, page_size=1)).next_page_token
    same = await page(client, order_by=order_by, page_token=forge(token, lambda same: same))
    assert [task.id for task in same.tasks] == ["b"]
    for name, change in FORGERIES.items():
        forged = forge(token, change)
        error = await refusal(page(client, order_by=order_by, page_token=forged))
        assert fields(error) == ["page_token"], name


async def test_a_token_that_is_garbage(client: Client) -> None:
    """What is no token at all is refused as a field."""
    for garbage in ("x", "====", "not base64!", "é", " ", "\x00", "A" * 100_000):
        assert fields(await refusal(page(client, page_token=garbage))) == ["page_token"]


# The model

TAGS = ["css", "js", "rust", "gpu"]
WORKERS = {"none": [], "web": ["css", "js"], "all": TAGS}


async def random_graph(client: Client, clock: "TestClock", rng: random.Random, size: int) -> None:
    """A few hundred tasks that differ in everything that a filter looks at."""
    for worker, tags in WORKERS.items():
        await connect(client, worker, tags=tags, max_claims=1000)

    def some(of: list[str], chance: float) -> list[str]:
        return [each for each in of if rng.random() < chance]

    ids: list[str] = []
    for n in range(size):
        id = f"{rng.choice('abcXYZéß')}-{n}"
        await create(
            client,
            id,
            parent_id=rng.choice(ids) if ids and rng.random() < 0.4 else "",
            blocked_by=rng.sample(ids[:-20], 2) if len(ids) > 30 and rng.random() < 0.2 else [],
            priority=rng.randrange(11),
            phase=rng.choice(["", "design", "test"]),
            workflow=["", "solo", "hierarchical"][n % 3],
            tags=some(TAGS, 0.3),
            needed_tags=some(TAGS, 0.1),
            wanted_tags=some(TAGS, 0.1),
            not_before=Timestamp(seconds=2_000_000_000) if rng.random() < 0.1 else None,
        )
        ids.append(id)
        clock.advance(rng.randrange(3))
    for _ in range(size // 3):
        clock.advance(rng.randrange(3))
        request = v1.ClaimNextTaskRequest(worker_id=rng.choice(list(WORKERS)))
        for task in (await client.claims.ClaimNextTask(request)).tasks:
            if rng.random() < 0.7:
                status = rng.choice(["completed", "failed", "pending"])
                await update(client, task.id, status=status)
    leaves = [task.id for task in (await page(client, ready=True, page_size=1000)).tasks]
    for id in rng.sample(leaves, len(leaves) // 5):
        await update(client, id, status="cancelled")
    for id in rng.sample(ids, size // 30):
        await delete(client, id)


class Model:
    """What ListTasks says it does, done in Python on all tasks and dependencies there are."""

    def __init__(self, tasks: Iterable[v1.Task], links: Iterable[v1.Dependency]) -> None:
        self.tasks = {task.id: task for task in tasks}  # in the order of creation
        self.number = {id: n for n, id in enumerate(self.tasks)}
        self.links = list(links)

    def blocked(self, task: v1.Task) -> bool:
        """Whether a start-blocker has not ended well: is there, and not completed or cancelled."""
        starts = (v1.DEPENDENCY_TYPE_BLOCKS, v1.DEPENDENCY_TYPE_FOLLOWS)
        blockers = [
            self.tasks[link.from_task_id]
            for link in self.links
            if link.to_task_id == task.id and link.type in starts
        ]
        return any(
            not blocker.HasField("delete_time") and blocker.status not in ("completed", "cancelled")
            for blocker in blockers
        )

    def below(self, task: v1.Task, parent: str) -> bool:
        """Whether a task is a descendant of another."""
        while task.parent_id:
            if task.parent_id == parent:
                return True
            task = self.tasks[task.parent_id]
        return False

    def passes(self, task: v1.Task, query: v1.ListTasksRequest) -> bool:
        """Whether a task passes all the filters."""
        tags = set(task.tags)
        worker = WORKERS.get(query.qualified_for_worker_id)
        claimed = task.claim_revision != 0
        if query.recursive:
            in_scope = self.below(task, query.parent_id)
        else:
            in_scope = not query.parent_id or task.parent_id == query.parent_id
        return (
            (query.include_deleted or not task.HasField("delete_time"))
            and (not query.statuses or task.status in query.statuses)
            and (not query.HasField("ready") or task.ready == query.ready)
            and (not query.HasField("blocked") or self.blocked(task) == query.blocked)
            and (not query.HasField("claimed") or claimed == query.claimed)
            and (not query.owner or task.worker_id == query.owner)
            and in_scope
            and (not query.tags_any or bool(tags & set(query.tags_any)))
            and tags >= set(query.tags_all)
            and (not query.phase or task.phase == query.phase)
            and (
                worker is None
                or (
                    set(worker) >= set(task.needed_tags)
                    and (not task.wanted_tags or bool(set(worker) & set(task.wanted_tags)))
                )
            )
        )

    def key(self, task: v1.Task, order: "v1.OrderBy.ValueType") -> Any:
        """What the order compares."""
        number = self.number[task.id]
        if order == v1.ORDER_BY_CREATE_TIME:
            return number
        if order == v1.ORDER_BY_UPDATE_TIME:
            return -task.update_time.ToMilliseconds(), -number
        if order == v1.ORDER_BY_ID:
            return task.id.encode()
        return -task.priority, number

    def answer(self, query: v1.ListTasksRequest) -> list[str]:
        """The ids that the pages of the query should hold."""
        passing = [task for task in self.tasks.values() if self.passes(task, query)]
        passing.sort(key=lambda task: self.key(task, query.order_by))
        return [task.id for task in passing]


def random_query(rng: random.Random, ids: list[str]) -> dict[str, Any]:
    """Up to four filters together, and an order."""
    statuses = ["pending", "working", "completed", "failed", "cancelled"]
    parent = rng.choice(ids)
    filters: list[dict[str, Any]] = [
        {"statuses": rng.sample(statuses, rng.randint(1, 3))},
        {"ready": rng.random() < 0.5},
        {"blocked": rng.random() < 0.5},
        {"claimed": rng.random() < 0.5},
        {"owner": rng.choice(list(WORKERS))},
        {"parent_id": parent},
        {"parent_id": parent, "recursive": True},
        {"parent_id": ids[0], "recursive": True},
        {"tags_any": rng.sample(TAGS, rng.randint(1, 2))},
        {"tags_all": rng.sample(TAGS, rng.randint(1, 2))},
        {"phase": rng.choice(["design", "test"])},
        {"qualified_for_worker_id": rng.choice(list(WORKERS))},
        {"include_deleted": True},
    ]
    query: dict[str, Any] = {"order_by": rng.choice([v1.ORDER_BY_UNSPECIFIED, *ORDERS])}
    for each in rng.sample(filters, rng.randint(0, 4)):
        query = each | query
    return query


async def test_lists_are_those_of_the_model(timed_client: Client, clock: "TestClock") -> None:
    """For hundreds of random queries the pages hold what a plain search through all tasks finds."""
    rng = random.Random(20_261_121)
    await random_graph(timed_client, clock, rng, size=240)
    pages = await in_pages(
        timed_client, 1000, order_by=v1.ORDER_BY_CREATE_TIME, include_deleted=True
    )
    tasks = [task for each in pages for task in each]
    links: dict[bytes, v1.Dependency] = {}
    for task in tasks:
        shown = await timed_client.tasks.GetTask(v1.GetTaskRequest(task_id=task.id))
        for link in shown.dependencies:
            links[link.SerializeToString()] = link
    model = Model(tasks, links.values())

    sizes = []
    for _ in range(250):
        query = random_query(rng, list(model.tasks))
        found = await in_pages(timed_client, rng.choice([5, 20, 1000]), **query)
        ids = [task.id for each in found for task in each]
        assert ids == model.answer(v1.ListTasksRequest(**query)), query
        sizes.append(len(ids))
    assert sum(0 < size < 200 for size in sizes) > 100, "most queries find something, not all"
