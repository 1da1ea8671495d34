"""The work cycle of agents that pull, as docs/coordination.md lists it, from look to repeat."""

from typing import TYPE_CHECKING

from taskloom import v1
from taskloom_client import Client

from tests.calls import (
    claim_next,
    complete,
    connect,
    create,
    duration,
    event,
    heartbeat,
    pause,
    resume,
    show,
    status,
)

if TYPE_CHECKING:
    from tests.conftest import TestClock

SOFT = v1.CLAIM_MODE_ADVISORY
HOTTEST = v1.ORDER_BY_TEMPERATURE


async def _take(client: Client, worker: str) -> list[str]:
    """Claim softly what is hottest."""
    answer = await claim_next(client, worker, mode=SOFT, order_by=HOTTEST)
    return [task.id for task in answer.tasks]


async def test_the_cycle(timed_client: Client, clock: "TestClock") -> None:
    """Two agents look, filter, take the hottest, post results, rest, and go on."""
    await create(timed_client, "plain")
    await create(timed_client, "hot")
    await create(timed_client, "code", needed_tags=["code"], priority=10)
    await create(timed_client, "later", blocked_by=["hot"], priority=10)
    await timed_client.tasks.BoostTask(v1.BoostTaskRequest(task_id="hot", boost=1))
    await connect(timed_client, "ada", cool_down=duration(60_000))
    await connect(timed_client, "bob")

    ready = await timed_client.tasks.ListTasks(
        v1.ListTasksRequest(ready=True, qualified_for_worker_id="ada", order_by=HOTTEST)
    )
    assert [task.id for task in ready.tasks] == ["hot", "plain"]
    assert await _take(timed_client, "ada") == ["hot"]
    assert await _take(timed_client, "bob") == ["plain"], "nobody works on that"
    assert (await show(timed_client, "hot")).ready, "a soft claim keeps nobody away"

    found = v1.SignalTaskRequest(task_id="hot", worker_id="ada", type=v1.SIGNAL_TYPE_BREAKTHROUGH)
    await timed_client.tasks.SignalTask(found)
    await event(timed_client, v1.EVENT_TYPE_TASK_SIGNALED, "hot")
    await complete(timed_client, "ada", "hot")

    resting = await claim_next(timed_client, "ada")
    assert resting.outcome == v1.CLAIM_OUTCOME_COOLING_DOWN
    assert resting.retry_after.ToMilliseconds() == 60_000
    clock.advance(60_000)
    assert await _take(timed_client, "ada") == ["later"]


async def test_a_soft_claim_ends_with_inactivity(timed_client: Client, clock: "TestClock") -> None:
    """Who gives no sign of life for the lease works on the task no more; who does works on."""
    await create(timed_client, "task")
    await connect(timed_client, "ada", "bob", lease=duration(10_000))
    for worker in ("ada", "bob"):
        assert await _take(timed_client, worker) == ["task"]
    clock.advance(6_000)
    await heartbeat(timed_client, "bob")
    clock.advance(4_000)
    ended = await event(timed_client, v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED, "task")
    assert ended.worker_id == "ada"
    assert [one.worker_id for one in (await show(timed_client, "task")).advisory_claims] == ["bob"]


async def test_a_pause(client: Client) -> None:
    """Who works finishes, who asks hears that there is a pause and why, and after it goes on."""
    await create(client, "held")
    await create(client, "next")
    await connect(client, "ada", "bob")
    await claim_next(client, "ada")
    await pause(client, by="eve", reason="a review")
    assert (await claim_next(client, "bob")).outcome == v1.CLAIM_OUTCOME_PAUSED
    paused = (await status(client)).paused
    assert (paused.by, paused.reason) == ("eve", "a review")
    assert (await complete(client, "ada", "held")).status == "completed"
    await resume(client)
    assert [task.id for task in (await claim_next(client, "bob")).tasks] == ["next"]
