"""Signals and boosts: what workers and people say about how much a task calls for attention.

What they are worth is said in task.proto, and beside other activities tested with the temperature.
"""

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import TestClock

HOUR = 3_600_000
DAY = 24 * HOUR


def close_to(value: float) -> Any:
    """About this, clamped."""
    return pytest.approx(min(1.0, max(0.0, value)), abs=1e-6)


async def _create(client: Client, id: str, **fields: Any) -> v1.Task:
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def _connect(client: Client, id: str) -> None:
    request = v1.ConnectRequest(worker_id=id, max_claims=10)
    await client.workers.Connect(request)


async def _claim(client: Client, worker: str, task: str) -> v1.Task:
    request = v1.ClaimTaskRequest(worker_id=worker, task_id=task)
    return (await client.claims.ClaimTask(request)).task


async def _show(client: Client, task: str) -> v1.Task:
    return (await client.tasks.GetTask(v1.GetTaskRequest(task_id=task))).task


async def _signal(client: Client, task: str, **fields: Any) -> v1.Task:
    request = v1.SignalTaskRequest(task_id=task, **fields)
    return (await client.tasks.SignalTask(request)).task


async def _breakthrough(client: Client, task: str, **fields: Any) -> v1.Task:
    return await _signal(client, task, type=v1.SIGNAL_TYPE_BREAKTHROUGH, **fields)


async def _boost(client: Client, task: str, boost: float, **fields: Any) -> v1.Task:
    request = v1.BoostTaskRequest(task_id=task, boost=boost, **fields)
    return (await client.tasks.BoostTask(request)).task


async def _update(client: Client, task: str, **fields: Any) -> v1.Task:
    return (await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id=task, **fields))).task


async def _refusal(call: Awaitable[object]) -> str:
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value.reason


async def test_a_breakthrough_counts_and_fades(timed_client: Client, clock: "TestClock") -> None:
    """A breakthrough is worth 0.3, half as much a day later, and no more if it is told twice."""
    await _create(timed_client, "task", priority=1)
    first = await _breakthrough(timed_client, "task")
    assert first.temperature == close_to(0.1 + 0.2 * 0.5 + 0.3)
    again = await _breakthrough(timed_client, "task")
    assert again.temperature == close_to(0.1 + 0.2 * 0.75 + 0.3)
    clock.advance(DAY)
    later = await _signal(timed_client, "task")
    assert later.temperature == close_to(0.1 + 0.2 * (1 - 0.625 / 2) + 0.3 * 0.5)


async def test_a_boost_stands_until_it_is_replaced(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A boost is worth half of itself, fades by half in a day, and 0 takes it back."""
    await _create(timed_client, "task", priority=1)
    boosted = await _boost(timed_client, "task", 0.8)
    assert (boosted.boost, boosted.temperature) == (0.8, close_to(0.1 + 0.2 * 0.5 + 0.5 * 0.8))
    clock.advance(DAY)
    faded = await _update(timed_client, "task", title="new")
    active = 1 - 0.75 / 2
    assert faded.boost == pytest.approx(0.4)
    assert faded.temperature == close_to(0.1 + 0.2 * active + 0.5 * 0.4 - 0.1)
    weaker = await _boost(timed_client, "task", 0.2)
    active = 1 - (1 - active) / 2
    assert (weaker.boost, weaker.temperature) == (
        0.2,
        close_to(0.1 + 0.2 * active + 0.5 * 0.2 - 0.1),
    )
    none = await _boost(timed_client, "task", 0)
    active = 1 - (1 - active) / 2
    assert (none.boost, none.temperature) == (0, close_to(0.1 + 0.2 * active - 0.1))


@pytest.mark.parametrize("boost", [-0.01, 1.01, math.inf, -math.inf, math.nan])
async def test_a_boost_is_within_the_scale(timed_client: Client, boost: float) -> None:
    """A boost outside 0 to 1 is refused, and changes nothing."""
    before = await _create(timed_client, "task")
    assert await _refusal(_boost(timed_client, "task", boost)) == "INVALID_FIELD"
    assert await _show(timed_client, "task") == before


@pytest.mark.parametrize("verb", ["signal", "breakthrough", "boost"])
async def test_the_stream_tells_of_it(timed_client: Client, clock: "TestClock", verb: str) -> None:
    """The answer, the event with who and why, and the task as it is read show the same."""
    await _create(timed_client, "task")
    await _connect(timed_client, "w")
    said: dict[str, Any] = {"task_id": "task", "worker_id": "w", "reason": "the parser runs"}
    clock.advance(HOUR)
    answer: v1.BoostTaskResponse | v1.SignalTaskResponse
    if verb == "boost":
        answer = await timed_client.tasks.BoostTask(v1.BoostTaskRequest(boost=0.5, **said))
    else:
        through = v1.SIGNAL_TYPE_BREAKTHROUGH if verb == "breakthrough" else v1.SIGNAL_TYPE_PROGRESS
        answer = await timed_client.tasks.SignalTask(v1.SignalTaskRequest(type=through, **said))
    async with timed_client.watch(start_revision=answer.revision) as watch:
        event = await anext(watch.events())
    told = v1.EVENT_TYPE_TASK_BOOSTED if verb == "boost" else v1.EVENT_TYPE_TASK_SIGNALED
    assert (event.type, event.task_id) == (told, "task")
    assert (event.worker_id, event.reason) == ("w", "the parser runs")
    assert event.task == answer.task == await _show(timed_client, "task")
    assert event.task.revision == answer.revision


async def test_a_signal_may_show_its_claim(timed_client: Client) -> None:
    """A signal of a claim that is no longer is refused; without a token anybody may signal."""
    await _create(timed_client, "task")
    for worker in ("w", "v"):
        await _connect(timed_client, worker)
    claimed = await _claim(timed_client, "w", "task")
    shown: dict[str, Any] = {"worker_id": "w", "claim_revision": claimed.claim_revision}
    warmer = await _signal(timed_client, "task", **shown)
    assert warmer.temperature > claimed.temperature
    await timed_client.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="w", task_id="task"))
    before = await _show(timed_client, "task")
    assert await _refusal(_signal(timed_client, "task", **shown)) == "CLAIM_LOST"
    assert await _show(timed_client, "task") == before
    assert (await _signal(timed_client, "task", worker_id="v")).temperature > before.temperature


async def _boost_a_bit(client: Client, task: str, **fields: Any) -> v1.Task:
    return await _boost(client, task, 0.5, **fields)


@pytest.mark.parametrize("verb", [_signal, _boost_a_bit], ids=["signal", "boost"])
async def test_what_there_is_not_cannot_be_warmed(
    timed_client: Client, verb: Callable[..., Awaitable[v1.Task]]
) -> None:
    """A task or a worker that is not there, or is gone, is refused by its name."""
    await _create(timed_client, "task")
    assert await _refusal(verb(timed_client, "nothing")) == "TASK_NOT_FOUND"
    assert await _refusal(verb(timed_client, "task", worker_id="nobody")) == "WORKER_NOT_FOUND"
    await timed_client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="task"))
    assert await _refusal(verb(timed_client, "task")) == "TASK_DELETED"


async def test_a_repeated_signal_counts_once(timed_client: Client) -> None:
    """The same request again is answered the same, and warms no further."""
    await _create(timed_client, "task")
    first = await _signal(timed_client, "task", request_id="r1")
    assert await _signal(timed_client, "task", request_id="r1") == first
    assert await _show(timed_client, "task") == first
