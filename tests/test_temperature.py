"""Temperature: how much a task calls for attention, what warms it, what cools it.

The formula is worked out here a second time, from the words of task.proto: once as a rule alone,
once from what a client sees of a task.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from taskloom import v1
from taskloom_client import Client
from taskloom_server.graph.temperature import (
    DEFAULT_WEIGHTS,
    Activity,
    Warmth,
    Weights,
    born,
    heat_of,
    temperature,
    warmed,
)

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

    StartServer: TypeAlias = Callable[..., AbstractAsyncContextManager[Server]]

HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_800_000_000_000
NEARLY_ZERO = 1e-6
"""A logarithm knows no zero: that is how near a temperature comes to it."""


def close_to(value: float) -> Any:
    """About this, clamped."""
    return pytest.approx(min(1.0, max(0.0, value)), abs=NEARLY_ZERO)


# The rule


@dataclass(frozen=True)
class Step:
    """Something that is done about a task, so long after the step before."""

    after_ms: int
    priority: int
    progress: bool
    breakthrough: bool
    boost: float | None


def by_the_words(steps: list[Step], weights: Weights) -> float:
    """The temperature at the last step, as task.proto says it."""
    times = [START + sum(step.after_ms for step in steps[: n + 1]) for n in range(len(steps))]
    now = times[-1]

    def faded(since: int) -> float:
        return float(0.5 ** ((now - since) / DAY))

    activity = 0.0
    for before, time in zip([START, *times], times, strict=False):
        activity *= 0.5 ** ((time - before) / DAY)
        activity += (1 - activity) / 2
    breakthroughs = [time for time, step in zip(times, steps, strict=True) if step.breakthrough]
    boosts = [
        (time, step.boost)
        for time, step in zip(times, steps, strict=True)
        if step.boost is not None
    ]
    progress = [time for time, step in zip(times, steps, strict=True) if step.progress]
    hours_silent = (now - (progress[-1] if progress else START)) / HOUR
    boosted, boost = boosts[-1] if boosts else (START, 0.0)
    return (
        steps[-1].priority / 10
        + weights.activity * activity
        + weights.breakthrough * (faded(breakthroughs[-1]) if breakthroughs else 0.0)
        - weights.silence * hours_silent / 24
        + weights.boost * boost * faded(boosted)
    )


some_steps = st.lists(
    st.builds(
        Step,
        after_ms=st.one_of(st.integers(0, 3 * DAY), st.sampled_from([0, HOUR, DAY])),
        priority=st.integers(0, 10),
        progress=st.booleans(),
        breakthrough=st.booleans(),
        boost=st.one_of(st.none(), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=8,
)
weight = st.floats(0, 1)
some_weights = st.one_of(
    st.just(DEFAULT_WEIGHTS), st.builds(Weights, weight, weight, weight, weight)
)


def warmth_after(steps: list[Step], weights: Weights) -> Warmth:
    """What the rule makes of the steps."""
    now = START
    warmth = born(steps[0].priority, now, weights)
    for step in steps:
        now += step.after_ms
        done = Activity(step.progress, step.breakthrough, step.boost)
        warmth = warmed(warmth, done, priority=step.priority, now=now, weights=weights)
    return warmth


@given(steps=some_steps, weights=some_weights)
def test_any_history_gives_what_the_formula_says(steps: list[Step], weights: Weights) -> None:
    """After any activities the temperature is that of the formula, within 0 and 1."""
    warmth = warmth_after(steps, weights)
    assert warmth.active_at == START + sum(step.after_ms for step in steps)
    shown = temperature(warmth.heat, warmth.active_at)
    assert 0 <= shown <= 1
    assert shown == close_to(by_the_words(steps, weights))


@given(steps=some_steps, days=st.integers(1, 10))
def test_a_temperature_halves_every_day(steps: list[Step], days: int) -> None:
    """Left alone, a task has half of its temperature 24 h later, and a quarter after 48 h."""
    warmth = warmth_after(steps, DEFAULT_WEIGHTS)
    first = temperature(warmth.heat, warmth.active_at)
    later = temperature(warmth.heat, warmth.active_at + days * DAY)
    assert later == pytest.approx(first / 2**days, abs=1e-8)


@given(one=some_steps, other=some_steps, wait_ms=st.integers(0, 30 * DAY))
def test_the_order_of_two_tasks_stays(one: list[Step], other: list[Step], wait_ms: int) -> None:
    """Which of two tasks is hotter does not change as time passes: their heat says it for ever."""
    heats = [warmth_after(steps, DEFAULT_WEIGHTS).heat for steps in (one, other)]
    both_known = START + sum(step.after_ms for step in (*one, *other))
    for now in (both_known, both_known + wait_ms):
        first, second = (temperature(heat, now) for heat in heats)
        if heats[0] <= heats[1]:
            assert first <= second
        if heats[1] <= heats[0]:
            assert second <= first


@given(value=st.floats(2**-20, 1), now=st.integers(0, 4 * START))
def test_heat_and_temperature_are_each_other(value: float, now: int) -> None:
    """What has a temperature at some time is shown with it at that time."""
    assert temperature(heat_of(value, now), now) == pytest.approx(value, abs=1e-9)


# The server


async def _create(client: Client, id: str, **fields: Any) -> v1.Task:
    request = v1.CreateTaskRequest(id=id, title=id, **fields)
    return (await client.tasks.CreateTask(request)).task


async def _connect(client: Client, id: str, **fields: Any) -> None:
    request = v1.ConnectRequest(worker_id=id, max_claims=10, **fields)
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


@pytest.mark.parametrize("priority", [0, 3, 5, 10])
async def test_a_new_task_has_the_temperature_of_its_priority(
    timed_client: Client, clock: "TestClock", priority: int
) -> None:
    """Nothing was done about it yet: a tenth of the priority, as of now."""
    task = await _create(timed_client, "task", priority=priority)
    assert task.temperature == close_to(priority / 10)
    assert task.temperature_time.ToMilliseconds() == clock.now()
    assert task.boost == 0


HELD: dict[str, Any] = {"worker_id": "w", "task_id": "held"}
# What is done, whether it is progress, and the task that it is done about.
ACTIVITIES: dict[str, tuple[Callable[[Client], Awaitable[object]], bool, str]] = {
    "claim": (lambda c: _claim(c, "w", "free"), True, "free"),
    "claim-next": (
        lambda c: c.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="w")),
        True,
        "free",
    ),
    "fail-with-retry": (
        lambda c: c.claims.FailTask(v1.FailTaskRequest(**HELD, retry=True)),
        True,
        "held",
    ),
    "release": (lambda c: c.claims.ReleaseTask(v1.ReleaseTaskRequest(**HELD)), True, "held"),
    "disconnect": (
        lambda c: c.workers.Disconnect(v1.DisconnectRequest(worker_id="w")),
        True,
        "held",
    ),
    "move": (lambda c: _update(c, "held", worker_id="w", status="waiting"), True, "held"),
    "move-and-change": (
        lambda c: _update(c, "held", worker_id="w", status="waiting", title="new"),
        True,
        "held",
    ),
    "assign": (lambda c: _update(c, "free", worker_id="w", assignee="w"), True, "free"),
    "update": (lambda c: _update(c, "free", title="new"), False, "free"),
    "phase": (lambda c: _update(c, "free", phase="test"), False, "free"),
    "metrics": (
        lambda c: c.tasks.LogMetrics(
            v1.LogMetricsRequest(task_id="free", metrics=v1.Metrics(tokens_in=1))
        ),
        False,
        "free",
    ),
    "signal": (lambda c: _signal(c, "free"), True, "free"),
    "boost": (lambda c: _boost(c, "free", 0), False, "free"),
}


@pytest.mark.parametrize("activity", ACTIVITIES.values(), ids=list(ACTIVITIES))
async def test_each_activity_warms(
    timed_client: Client,
    clock: "TestClock",
    activity: tuple[Callable[[Client], Awaitable[object]], bool, str],
) -> None:
    """A move, an update, metrics, a signal and a boost count as activity; a move, as progress."""
    do, is_progress, about = activity
    await _create(timed_client, "held", priority=6)
    await _create(timed_client, "free")
    await _connect(timed_client, "w", lease=Duration(seconds=DAY // 1000))
    claimed = await _claim(timed_client, "w", "held")
    assert claimed.temperature == close_to(0.6 + 0.2 * 0.5)
    clock.advance(DAY // 2)
    await do(timed_client)
    task = await _show(timed_client, about)
    assert task.temperature_time.ToMilliseconds() == clock.now()
    faded = 0.5 * 0.5**0.5 if about == "held" else 0.0
    warm = task.priority / 10 + 0.2 * (1 - (1 - faded) / 2)
    assert task.temperature == close_to(warm if is_progress else warm - 0.1 * 0.5)


@pytest.mark.parametrize(
    "end",
    [
        lambda c: c.claims.CompleteTask(v1.CompleteTaskRequest(**HELD)),
        lambda c: c.claims.FailTask(v1.FailTaskRequest(**HELD)),
        lambda c: _update(c, "held", worker_id="w", status="completed"),
        lambda c: _update(c, "held", status="failed"),
    ],
    ids=["complete", "fail", "update", "by-a-person"],
)
async def test_what_ends_keeps_its_temperature(
    timed_client: Client, clock: "TestClock", end: Callable[[Client], Awaitable[object]]
) -> None:
    """The end of a task is no activity: it leaves the temperature, and its time, as they were."""
    await _create(timed_client, "held")
    await _connect(timed_client, "w")
    claimed = await _claim(timed_client, "w", "held")
    clock.advance(60_000)
    await end(timed_client)
    task = await _show(timed_client, "held")
    assert task.HasField("complete_time")
    assert task.temperature == claimed.temperature
    assert task.temperature_time == claimed.temperature_time


@pytest.mark.parametrize(
    ("change", "priority"),
    [({"status": "waiting", "priority": 8}, 8), ({"assignee": ""}, 5)],
    ids=["status", "assignee"],
)
async def test_a_move_by_a_person_warms(
    timed_client: Client, clock: "TestClock", change: dict[str, Any], priority: int
) -> None:
    """A move is progress whoever makes it, and a priority that is set with it counts, too."""
    await _create(timed_client, "task")
    await _connect(timed_client, "w")
    await _claim(timed_client, "w", "task")
    clock.advance(60_000)
    task = await _update(timed_client, "task", **change)
    assert task.temperature_time.ToMilliseconds() == clock.now()
    assert 0.74 < (task.temperature - priority / 10) / 0.2 < 0.75


async def test_what_happens_by_itself_does_not_warm(
    timed_client: Client, clock: "TestClock"
) -> None:
    """A lease that ends is no activity; the task cools as if nothing had been."""
    await _create(timed_client, "task")
    await _connect(timed_client, "w")
    claimed = await _claim(timed_client, "w", "task")
    clock.advance(900_000)
    filter_ = v1.WatchFilter(event_types=[v1.EVENT_TYPE_TASK_LEASE_EXPIRED])
    async with timed_client.watch(filter_, start_revision=1) as watch:
        event = await anext(watch.events())
    assert event.task.temperature == claimed.temperature
    assert event.task.temperature_time == claimed.temperature_time


async def test_what_changes_nothing_does_not_warm(timed_client: Client, clock: "TestClock") -> None:
    """To read a task, or to change it into what it is, leaves its temperature alone."""
    before = await _create(timed_client, "task")
    clock.advance(HOUR)
    await _update(timed_client, "task", title=before.title)
    await timed_client.tasks.LogMetrics(v1.LogMetricsRequest(task_id="task", metrics=v1.Metrics()))
    assert await _show(timed_client, "task") == before


async def test_silence_cools(timed_client: Client, clock: "TestClock") -> None:
    """A day without a move or a signal costs 0.1, however often the task was edited meanwhile."""
    for id in ("edited", "signaled"):
        await _create(timed_client, id, priority=9)
    for day in (1, 2, 3):
        clock.advance(DAY)
        await _update(timed_client, "edited", title=f"day {day}")
        await _signal(timed_client, "signaled")
    edited, signaled = [await _show(timed_client, id) for id in ("edited", "signaled")]
    assert signaled.temperature == close_to(1.0)
    assert edited.temperature == close_to(0.9 + 0.2 * 0.65625 - 0.3)


async def test_a_temperature_is_within_the_scale(timed_client: Client, clock: "TestClock") -> None:
    """However much or little a task calls for attention, its temperature is from 0 to 1."""
    await _create(timed_client, "hot", priority=10)
    await _create(timed_client, "cold", priority=1)
    await _breakthrough(timed_client, "hot")
    hot = await _boost(timed_client, "hot", 1)
    clock.advance(7 * DAY)
    cold = await _update(timed_client, "cold", title="forgotten")
    assert (hot.temperature, cold.temperature) == (1.0, close_to(0))
    assert cold.temperature >= 0


async def test_a_new_priority_counts_at_once(timed_client: Client) -> None:
    """A change of priority is part of the temperature that it gives."""
    await _create(timed_client, "task", priority=2)
    task = await _update(timed_client, "task", priority=9)
    assert task.temperature == close_to(0.9 + 0.2 * 0.5)


async def test_weights_are_settings(start_server: "StartServer", clock: "TestClock") -> None:
    """The four weights are those of the server's settings, zero included."""
    weights = {
        "weight_activity": 0.4,
        "weight_breakthrough": 0.05,
        "weight_silence": 0.2,
        "weight_boost": 0.0,
    }
    async with start_server(clock=clock, **weights) as server, Client(server.address) as client:
        await _create(client, "task", priority=2)
        boosted = await _boost(client, "task", 1)
        assert boosted.temperature == close_to(0.2 + 0.4 * 0.5)
        through = await _breakthrough(client, "task")
        assert through.temperature == close_to(0.2 + 0.4 * 0.75 + 0.05)
        clock.advance(DAY)
        updated = await _update(client, "task", title="new")
        active = 1 - (1 - 0.375) / 2
        assert updated.temperature == close_to(0.2 + 0.4 * active + 0.05 / 2 - 0.2)


async def test_a_restart_keeps_temperatures(
    start_server: "StartServer", clock: "TestClock", tmp_path: Path
) -> None:
    """A task is as warm as before, and what it did counts on, after a restart."""
    db = tmp_path / "tasks.db"
    async with start_server(db=db, clock=clock) as server, Client(server.address) as client:
        await _create(client, "task", priority=1)
        before = await _breakthrough(client, "task")
    clock.advance(DAY)
    async with start_server(db=db, clock=clock) as server, Client(server.address) as client:
        assert await _show(client, "task") == before
        after = await _signal(client, "task")
        assert after.temperature == close_to(0.1 + 0.2 * 0.625 + 0.15)
