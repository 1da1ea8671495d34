"""Whom the feed wakes: everybody for whom there is something, and of the others nobody."""

import asyncio
from collections.abc import Awaitable

from hypothesis import given
from hypothesis import strategies as st
from taskloom_server.coordinator.watches import ANY, Watched, interest, keys_of, passing
from taskloom_server.feed import Feed
from taskloom_server.graph.events import Aspect, Event, EventType, Revision
from taskloom_server.graph.tasks import Task, new_task

NAMES = st.sampled_from("abc")
SETS = st.frozensets(NAMES, max_size=2)
TYPES = st.sampled_from(
    [
        EventType.TASK_CREATED,
        EventType.TASK_DELETED,
        EventType.TASK_RENAMED,
        EventType.TASK_MOVED,
        EventType.PAUSED,
    ]
)
TAGS = SETS.map(lambda names: tuple(sorted(names)))
ASPECTS = st.builds(
    Aspect,
    status=NAMES,
    worker_id=st.none() | NAMES,
    phase=st.none() | NAMES,
    tags=TAGS,
    ancestors=TAGS,
    ready_for=st.none() | st.tuples(TAGS, TAGS),
)


def _task(id_: str, seen: Aspect) -> Task:
    task = new_task(
        id=id_, title="t", description="", status=seen.status, workflow="w", now=1, revision=1
    )
    needed, wanted = seen.ready_for or ((), ())
    return task._replace(
        worker_id=seen.worker_id,
        phase=seen.phase,
        tags=seen.tags,
        needed_tags=needed,
        wanted_tags=wanted,
        claimable=int(seen.ready_for is not None),
    )


ABOUT_A_TASK = st.builds(
    lambda type_, id_, seen, before: Event(
        type_, 1, id_, None, None, _task(id_, seen), before, seen.ancestors
    ),
    TYPES,
    NAMES,
    ASPECTS,
    st.none() | ASPECTS,
)
ABOUT_WHAT_HANGS_ON_ONE = st.builds(
    lambda type_, id_, before: Event(type_, 1, id_, None, None, None, before),
    TYPES,
    st.none() | NAMES,
    st.none() | ASPECTS,
)
REVISIONS = st.builds(
    lambda events: Revision(1, tuple(events)),
    st.lists(ABOUT_A_TASK | ABOUT_WHAT_HANGS_ON_ONE, min_size=1, max_size=3),
)
NAME = st.just("") | NAMES
FILTERS = st.builds(
    Watched,
    statuses=SETS,
    tags=SETS,
    owner=NAME,
    subtree_of=NAME,
    task_ids=SETS,
    phases=st.frozensets(NAME, max_size=2),
    types=st.frozensets(TYPES, max_size=2),
    assignee=NAME,
    ready_for=NAME,
    assign_statuses=SETS,
    worker_tags=SETS,
)


@given(watched=FILTERS, revision=REVISIONS)
def test_whoever_has_something_is_woken(watched: Watched, revision: Revision) -> None:
    """Of a revision with an event that passes, a key is among those that the watch waits for."""
    if passing(watched, revision):
        assert keys_of(revision).intersection(interest(watched))


def _moved(status: str) -> Event:
    seen = Aspect(status, None, None, (), (), None)
    return Event(EventType.TASK_MOVED, 1, "t", None, None, _task("t", seen), seen)


async def test_who_waits_for_something_else_sleeps() -> None:
    """Nobody is woken by what is not his; with the deadline all that was not is behind him."""
    loop = asyncio.get_running_loop()
    feed = Feed(10, "life", keys_of)

    def waits(status: str, deadline: float) -> "asyncio.Future[int]":
        watched = Watched(statuses=frozenset({status}))
        call: Awaitable[int] = feed.until(10, "life", interest(watched), deadline)
        return asyncio.ensure_future(call)

    never = loop.time() + 60
    working, done = waits("working", never), waits("done", never)
    anything = asyncio.ensure_future(feed.until(10, "life", [ANY], never))
    late = waits("done", loop.time() - 1)
    await asyncio.sleep(0)
    feed.announce(12, "life", [Revision(n, (_moved("working"),)) for n in (11, 12)])
    assert await working == 11
    assert await anything == 11
    assert await late == 13
    assert not done.done()
    feed.announce(13, "life", [Revision(13, ())])  # too large to be kept in memory
    assert await done == 13
    assert await feed.until(12, "life", [ANY], never) == 13
    closing = waits_for_the_end(feed, never)
    feed.close()
    assert await closing == 14


def waits_for_the_end(feed: Feed, deadline: float) -> "asyncio.Future[int]":
    """Who has seen all that there is."""
    return asyncio.ensure_future(feed.until(13, "life", [("tag", "x")], deadline))


async def test_another_life_wakes_everybody() -> None:
    """With the incarnation all that anybody waits for is over."""
    feed = Feed(10, "life", keys_of)
    deadline = asyncio.get_running_loop().time() + 60
    waiting = asyncio.ensure_future(feed.until(10, "life", [("tag", "x")], deadline))
    await asyncio.sleep(0)
    feed.announce(0, "another", [])
    await asyncio.wait_for(waiting, 30)
