"""The order by temperature, of lists and of claims, and the hot, the warm and the cold tasks."""

from typing import TYPE_CHECKING, Any

from taskloom import v1
from taskloom_client import Client

if TYPE_CHECKING:
    from tests.conftest import TestClock

HOUR = 3_600_000
DAY = 24 * HOUR


async def _create(client: Client, id: str, **fields: Any) -> v1.Task:
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def _connect(client: Client, id: str) -> None:
    request = v1.ConnectRequest(worker_id=id, max_claims=10)
    await client.workers.Connect(request)


async def _ids(client: Client, **fields: Any) -> list[str]:
    answer = await client.tasks.ListTasks(v1.ListTasksRequest(**fields))
    return [task.id for task in answer.tasks]


async def _breakthrough(client: Client, task: str) -> None:
    through = v1.SIGNAL_TYPE_BREAKTHROUGH
    await client.tasks.SignalTask(v1.SignalTaskRequest(task_id=task, type=through))


async def _boost(client: Client, task: str, boost: float) -> None:
    await client.tasks.BoostTask(v1.BoostTaskRequest(task_id=task, boost=boost))


async def test_claims_go_to_the_hottest(timed_client: Client, clock: "TestClock") -> None:
    """By temperature the hottest task comes first, whatever its priority; of equals the oldest."""
    for id, priority in (("old", 8), ("also", 5), ("dull", 5), ("new", 5)):
        await _create(timed_client, id, priority=priority)
    clock.advance(DAY)
    await _create(timed_client, "later", priority=5)
    await _breakthrough(timed_client, "new")
    await _connect(timed_client, "w")
    hottest = v1.ORDER_BY_TEMPERATURE
    assert await _ids(timed_client, order_by=hottest) == ["new", "later", "old", "also", "dull"]
    one = v1.ClaimNextTaskRequest(worker_id="w", order_by=hottest)
    for expected in ("new", "later", "old"):
        answer = await timed_client.claims.ClaimNextTask(one)
        assert [task.id for task in answer.tasks] == [expected]
    both = v1.ClaimNextTaskRequest(worker_id="w", order_by=hottest, max_tasks=5)
    answer = await timed_client.claims.ClaimNextTask(both)
    assert [task.id for task in answer.tasks] == ["also", "dull"]


async def test_claims_below_a_task_go_to_the_hottest(timed_client: Client) -> None:
    """The order by temperature holds within a scope, too."""
    await _create(timed_client, "elsewhere", priority=10)
    await _create(timed_client, "top")
    for id, priority in (("dull", 3), ("first", 7), ("second", 7)):
        await _create(timed_client, id, priority=priority, parent_id="top")
    await _boost(timed_client, "dull", 1)
    await _connect(timed_client, "w")
    request = v1.ClaimNextTaskRequest(
        worker_id="w", order_by=v1.ORDER_BY_TEMPERATURE, parent_id="top", max_tasks=3
    )
    answer = await timed_client.claims.ClaimNextTask(request)
    assert [task.id for task in answer.tasks] == ["dull", "first", "second"]


async def test_pages_go_on_as_time_passes(timed_client: Client, clock: "TestClock") -> None:
    """A list by temperature is read page by page without a gap, though all cool meanwhile."""
    ids = [f"t{n}" for n in range(10)]
    for n, id in enumerate(ids):
        await _create(timed_client, id, priority=n % 4 + 1)
        clock.advance(HOUR)
    whole = await _ids(timed_client, order_by=v1.ORDER_BY_TEMPERATURE)
    paged: list[str] = []
    request = v1.ListTasksRequest(order_by=v1.ORDER_BY_TEMPERATURE, page_size=1)
    while True:
        page = await timed_client.tasks.ListTasks(request)
        paged += [task.id for task in page.tasks]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        clock.advance(DAY)
    assert paged == whole
    assert sorted(paged) == ids


async def test_hot_warm_and_cold_by_the_present(timed_client: Client, clock: "TestClock") -> None:
    """Tasks are hot from 0.7 on and cold below 0.3, by what is left of their temperature now."""
    for priority in range(11):
        await _create(timed_client, str(priority), priority=priority)

    async def heats() -> list[list[int]]:
        parts = (v1.HEAT_HOT, v1.HEAT_WARM, v1.HEAT_COLD)
        return [sorted(map(int, await _ids(timed_client, heat=part))) for part in parts]

    assert await heats() == [[7, 8, 9, 10], [3, 4, 5, 6], [0, 1, 2]]
    clock.advance(1)
    assert await heats() == [[8, 9, 10], [4, 5, 6, 7], [0, 1, 2, 3]]
    clock.advance(DAY - 1)
    assert await heats() == [[], [6, 7, 8, 9, 10], [0, 1, 2, 3, 4, 5]]
    clock.advance(1)
    assert await heats() == [[], [7, 8, 9, 10], [0, 1, 2, 3, 4, 5, 6]]
    clock.advance(DAY)
    assert await heats() == [[], [], list(range(11))]


async def test_a_part_of_the_scale_goes_with_other_filters(timed_client: Client) -> None:
    """Hot tasks can be listed among the children of a task, by an order, page by page."""
    await _create(timed_client, "top", priority=9)
    for id, priority in (("a", 7), ("b", 9), ("c", 2), ("d", 8)):
        await _create(timed_client, id, priority=priority, parent_id="top", tags=["x"])
    wanted: dict[str, Any] = {
        "heat": v1.HEAT_HOT,
        "parent_id": "top",
        "tags_any": ["x"],
        "statuses": ["pending"],
        "page_size": 2,
    }
    first = await timed_client.tasks.ListTasks(v1.ListTasksRequest(**wanted))
    assert [task.id for task in first.tasks] == ["b", "d"]
    rest = await _ids(timed_client, **wanted, page_token=first.next_page_token)
    assert rest == ["a"]
    assert await _ids(timed_client, heat=v1.HEAT_COLD, tags_any=["x"]) == ["c"]
