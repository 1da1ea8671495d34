"""The watch that resumes: whatever happens to its streams, the reader sees one sequence."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status
from taskloom import v1
from taskloom_client import Client, HistoryLost, TaskloomError, Unavailable, Watch

if TYPE_CHECKING:
    from tests.client.conftest import ScriptedServer

Context = aio.ServicerContext[Any, Any]
Message: TypeAlias = v1.WatchTasksResponse
Code = grpc.StatusCode


def _created(revision: int, incarnation: str = "one") -> Message:
    return Message(revision=revision, created=v1.WatchCreated(incarnation=incarnation))


def _synced(revision: int) -> Message:
    return Message(revision=revision, synced=v1.WatchSynced())


def _progress(revision: int) -> Message:
    return Message(revision=revision, progress=v1.WatchProgress())


def _events(revision: int, *task_ids: str, more: bool = False) -> Message:
    happened = [v1.Event(type=v1.EVENT_TYPE_TASK_UPDATED, task_id=each) for each in task_ids]
    return Message(revision=revision, events=v1.WatchEvents(events=happened, more=more))


def _listed(*task_ids: str) -> Message:
    tasks = [v1.Event(type=v1.EVENT_TYPE_TASK_LISTED, task_id=each) for each in task_ids]
    return Message(events=v1.WatchEvents(events=tasks))


def _cut(code: Code, reason: str, *, retry_delay: float | None = None) -> status_pb2.Status:
    """The end of a stream by an error."""
    status = status_pb2.Status(code=code.value[0], message="cut")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="taskloom"))
    if retry_delay is not None:
        delay = Duration()
        delay.FromTimedelta(timedelta(seconds=retry_delay))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


GOING_DOWN = _cut(Code.UNAVAILABLE, "SHUTTING_DOWN")
HANG = None
"""The end of a script after which the stream stays open."""

Step: TypeAlias = "Message | status_pb2.Status | None"


def _script(server: "ScriptedServer", *streams: Sequence[Step]) -> None:
    """Answer each next watch with the next of the streams; one without an error ends well."""
    left = list(streams)

    async def watch_tasks(
        request: v1.WatchTasksRequest, context: Context
    ) -> AsyncIterator[Message]:
        for step in left.pop(0):
            if isinstance(step, Message):
                yield step
            elif step is None:
                await asyncio.Event().wait()
            else:
                await context.abort_with_status(rpc_status.to_status(step))

    server.answers["WatchTasks"] = watch_tasks


async def _take(watch: Watch, count: int) -> list[Message]:
    return [await anext(watch) for _ in range(count)]


async def test_resumes_after_the_last_revision(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """A stream that breaks is resumed at the next revision, and nobody can tell from reading."""
    _script(
        scripted,
        [_created(4), _events(5, "a"), _progress(8), GOING_DOWN],
        [_created(8), _events(9, "b"), HANG],
    )
    async with scripted_client.watch(v1.WatchFilter(owner="w"), start_revision=5) as watch:
        assert await _take(watch, 4) == [
            _created(4),
            _events(5, "a"),
            _progress(8),
            _events(9, "b"),
        ]
        assert (watch.revision, watch.incarnation, watch.resumes) == (9, "one", 1)
    first, second = scripted.requests
    assert first == v1.WatchTasksRequest(start_revision=5, filter=v1.WatchFilter(owner="w"))
    assert second == v1.WatchTasksRequest(
        start_revision=9, filter=v1.WatchFilter(owner="w"), incarnation="one"
    )


@pytest.mark.parametrize(
    "break_",
    [
        pytest.param([], id="the stream ends well"),
        pytest.param([_cut(Code.CANCELLED, "")], id="the server cancels it"),
        pytest.param([_cut(Code.RESOURCE_EXHAUSTED, "X", retry_delay=0.01)], id="told to retry"),
    ],
)
async def test_resumes_after_other_ends(
    scripted: "ScriptedServer", scripted_client: Client, break_: list[Step]
) -> None:
    """Whatever ends a stream but a refusal, a watch that exists goes on."""
    _script(scripted, [_created(4), *break_], [_created(4), _events(5, "a"), HANG])
    async with scripted_client.watch() as watch:
        assert await _take(watch, 2) == [_created(4), _events(5, "a")]
    assert scripted.requests[1].start_revision == 5


async def test_waits_as_advised(scripted: "ScriptedServer", scripted_client: Client) -> None:
    """A retry delay that the server gives is kept before the watch asks again."""
    busy = _cut(Code.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES", retry_delay=0.6)
    _script(scripted, [_created(4), busy], [_created(4), _events(5, "a"), HANG])
    clock = asyncio.get_running_loop().time
    async with scripted_client.watch() as watch:
        begun = clock()
        await _take(watch, 2)
        assert clock() - begun >= 0.6


async def test_parts_of_a_revision_come_as_one(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """A revision cut midway is asked for again, and handed over whole, in one message, once."""
    _script(
        scripted,
        [_created(4), _events(0, "a", "b", more=True), _events(0, "c", more=True), GOING_DOWN],
        [
            _created(4),
            _events(0, "a", "b", more=True),
            _events(0, "c", more=True),
            _events(5, "d"),
            _events(6, "e"),
            HANG,
        ],
    )
    async with scripted_client.watch(start_revision=5) as watch:
        assert await _take(watch, 3) == [
            _created(4),
            _events(5, "a", "b", "c", "d"),
            _events(6, "e"),
        ]
    assert scripted.requests[1].start_revision == 5


async def test_state_is_seen_once(scripted: "ScriptedServer", scripted_client: Client) -> None:
    """A state that was cut before it was complete is fetched anew, and seen only complete."""
    _script(
        scripted,
        [_created(0), _listed("a", "b"), GOING_DOWN],
        [_created(0), _listed("b", "c"), _listed("d"), _synced(7), _events(8, "b"), GOING_DOWN],
        [_created(8), _events(9, "c"), HANG],
    )
    async with scripted_client.watch(include_state=True) as watch:
        assert await _take(watch, 6) == [
            _created(0),
            _listed("b", "c"),
            _listed("d"),
            _synced(7),
            _events(8, "b"),
            _events(9, "c"),
        ]
    asked = [(each.include_state, each.start_revision) for each in scripted.requests]
    assert asked == [(True, 0), (True, 0), (False, 9)]


async def test_nothing_is_repeated(scripted: "ScriptedServer", scripted_client: Client) -> None:
    """Events of a revision that was handed over are not handed over again, whoever repeats them."""
    _script(
        scripted,
        [_created(4), _events(5, "a"), GOING_DOWN],
        [_created(4), _events(5, "a"), _events(6, "b"), HANG],
    )
    async with scripted_client.watch(start_revision=5) as watch:
        assert await _take(watch, 3) == [_created(4), _events(5, "a"), _events(6, "b")]


async def test_a_start_to_come_is_kept(scripted: "ScriptedServer", scripted_client: Client) -> None:
    """A watch from a revision that is yet to come does not fall back to what was before."""
    _script(
        scripted, [_created(4), _progress(4), GOING_DOWN], [_created(99), _events(100, "a"), HANG]
    )
    async with scripted_client.watch(start_revision=100) as watch:
        await _take(watch, 3)
    assert scripted.requests[1].start_revision == 100


@pytest.mark.parametrize("reason", ["INCARNATION_CHANGED", "REVISION_COMPACTED"])
async def test_lost_history_is_raised(
    scripted: "ScriptedServer", scripted_client: Client, reason: str
) -> None:
    """A watch that cannot go on where it was says so, and is over."""
    _script(scripted, [_created(4), GOING_DOWN], [_cut(Code.OUT_OF_RANGE, reason)])
    async with scripted_client.watch() as watch:
        await _take(watch, 1)
        with pytest.raises(HistoryLost) as caught:
            await anext(watch)
        assert caught.value.reason == reason
        assert [message async for message in watch] == []


async def test_a_watch_that_never_was_is_not_resumed(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """An error before the watch is created is raised, even one that a resumed watch would bear."""
    _script(scripted, [GOING_DOWN], [_created(4), HANG])
    with pytest.raises(Unavailable):
        async with scripted_client.watch():
            pytest.fail("nothing to watch")
    assert len(scripted.requests) == 1


async def test_refusals_are_raised(scripted: "ScriptedServer", scripted_client: Client) -> None:
    """What no repetition mends is raised, also when the watch was there before."""
    _script(scripted, [_created(4), GOING_DOWN], [_cut(Code.NOT_FOUND, "TASK_NOT_FOUND")])
    async with scripted_client.watch() as watch:
        await _take(watch, 1)
        with pytest.raises(TaskloomError, match="TASK_NOT_FOUND"):
            await anext(watch)


async def test_survives_a_restart(scripted: "ScriptedServer", scripted_client: Client) -> None:
    """A server that goes away in the midst, and comes back at its place, is found again."""
    _script(scripted, [_created(4), _events(5, "a"), HANG], [_created(5), _events(6, "b"), HANG])
    async with scripted_client.watch() as watch:
        await _take(watch, 2)
        following = asyncio.create_task(anext(watch))
        await scripted.stop()
        await scripted.start()
        assert await following == _events(6, "b")


async def test_events_alone(scripted: "ScriptedServer", scripted_client: Client) -> None:
    """The events can be read without their messages; the watch knows their revision."""
    _script(scripted, [_created(4), _events(5, "a", "b"), _progress(6), _events(7, "c"), HANG])
    seen = []
    async with scripted_client.watch() as watch, aclosing(watch.events()) as happened:
        async for event in happened:
            seen.append((event.task_id, watch.revision))
            if event.task_id == "c":
                break
    assert seen == [("a", 5), ("b", 5), ("c", 7)]


async def test_closing_ends_the_call(scripted: "ScriptedServer", scripted_client: Client) -> None:
    """Leaving the watch ends its stream at the server."""
    ended = asyncio.Event()

    async def watch_tasks(
        request: v1.WatchTasksRequest, context: Context
    ) -> AsyncIterator[Message]:
        done: Any = lambda _: ended.set()  # noqa: E731 - typeshed has no function's type here
        context.add_done_callback(done)
        yield _created(4)
        await asyncio.Event().wait()

    scripted.answers["WatchTasks"] = watch_tasks
    async with scripted_client.watch():
        assert not ended.is_set()
    await ended.wait()


@pytest.mark.parametrize("closed", ["watch", "client"])
async def test_closing_tells_the_reader(scripted: "ScriptedServer", closed: str) -> None:
    """Who waits for a message when the watch, or the client, is closed sees the end, no error."""
    _script(scripted, [_created(4), HANG])
    async with Client(scripted.address) as client:
        watch = client.watch()
        await anext(watch)

        async def read() -> list[Message]:
            return [message async for message in watch]

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        await (watch.aclose() if closed == "watch" else client.close())
        assert await reading == []


async def test_closing_cuts_the_wait_short(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """A watch that waits to resume, for a minute say, ends at once when it is closed."""
    busy = _cut(Code.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES", retry_delay=60)
    _script(scripted, [_created(4), busy])
    watch = scripted_client.watch()
    await anext(watch)
    reading = asyncio.create_task(anext(watch, None))
    await asyncio.sleep(0.05)
    await watch.aclose()
    assert await reading is None


async def test_a_cancelled_reader_may_come_back(
    scripted: "ScriptedServer", scripted_client: Client
) -> None:
    """A read that was given up, as by a timeout, loses nothing: the next goes on."""
    _script(scripted, [_created(4), _events(5, "a"), HANG], [_created(5), _events(6, "b"), HANG])
    async with scripted_client.watch() as watch:
        await _take(watch, 2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(watch)
        assert await anext(watch) == _events(6, "b")
    assert scripted.requests[1].start_revision == 6
