"""The line of those who wait, alone: compared with a list that is searched from its beginning."""

import tracemalloc
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from taskloom_server.store.waiting import Waiting, WaitingLine

FOR_ANYTHING = Waiting(
    worker_id="w",
    tags=(),
    scope="",
    again_at=10_000,
    cannot=False,
    shares=False,
    when_done=False,
)


@dataclass(eq=False)
class Job:
    """Somebody who waits."""

    label: str

    def __repr__(self) -> str:
        return self.label


@dataclass
class Place:
    """Where a job stands, in the model."""

    ticket: int
    job: Job
    waiting: Waiting
    name: str


class Model:
    """The line as a list, in the order of the tickets."""

    def __init__(self) -> None:
        self.places: list[Place] = []

    def able(self, tags: tuple[str, ...], scope: str) -> list[Job]:
        """Those of one kind that may be able to take a task."""
        return [
            place.job
            for place in self.places
            if (place.waiting.tags, place.waiting.scope) == (tags, scope)
            and not place.waiting.cannot
        ]

    def kinds(self) -> list[tuple[tuple[str, ...], str]]:
        """What is waited for, by the first who does."""
        able = [place.waiting for place in self.places if not place.waiting.cannot]
        return list(dict.fromkeys((waiting.tags, waiting.scope) for waiting in able))


def _compare(line: WaitingLine[Job], model: Model) -> None:
    """All that can be asked of the line, of both."""
    assert len(line) == len(model.places)
    assert line.all() == [place.job for place in model.places]
    assert line.kinds() == model.kinds()
    for tags, scope in model.kinds():
        assert [job for job, _ in line.in_turn([(tags, scope)])] == model.able(tags, scope)
    for worker in WORKERS:
        mine = [place.job for place in model.places if place.waiting.worker_id == worker]
        assert line.of_workers([worker]) == mine
    for place in model.places:
        assert line.waiting(place.job) == place.waiting
        if place.name:
            assert line.named(place.name) is place.job
    times = [place.waiting.again_at for place in model.places]
    first = line.next_time()
    assert (first is None) == (not times)
    assert first is None or first <= min(times), "later, and somebody would be asked too late"


WORKERS = ("v", "w")
waitings = st.builds(
    Waiting,
    worker_id=st.sampled_from(WORKERS),
    tags=st.sampled_from([(), ("gpu",)]),
    scope=st.sampled_from(["", "top"]),
    again_at=st.integers(0, 100),
    cannot=st.booleans(),
    shares=st.booleans(),
    when_done=st.booleans(),
)
nth = st.integers(0, 20)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("join"), waitings, st.booleans()),
        st.tuples(st.just("leave"), nth, st.none()),
        st.tuples(st.just("come back"), nth, waitings),
        st.tuples(st.just("pass"), st.integers(0, 30), waitings),
    ),
    max_size=40,
)


@given(sequence=steps)
def test_any_sequence_goes_as_in_the_model(sequence: list[tuple[str, Any, Any]]) -> None:
    """Who waits, for what, in which order and until when is that of a plain list.

    Whoever is due is asked, as the writer does: he comes back to his place, with a later time.
    """
    line: WaitingLine[Job] = WaitingLine()
    model = Model()
    now = came = 0
    for verb, first, second in sequence:
        if verb == "join":
            job, name = Job(f"job {came}"), f"name {came}" if second else ""
            line.join(job, first, name=name)
            model.places.append(Place(came, job, first, name))
            came += 1
        elif verb == "pass":
            now += first
            late = [place.job for place in model.places if place.waiting.again_at <= now]
            due = line.due(now)
            assert set(late) <= set(due)
            assert due == [place.job for place in model.places if place.job in due]
            for place in model.places:
                if place.job in due:
                    ticket = line.leave(place.job, place.name)
                    later = replace(second, again_at=now + 1 + second.again_at)
                    line.join(place.job, later, ticket, place.name)
                    place.waiting = later
        elif model.places:
            place = model.places[first % len(model.places)]
            assert line.leave(place.job, place.name) == place.ticket
            assert line.waiting(place.job) is None
            assert line.named(place.name) is None
            if verb == "come back":
                line.join(place.job, second, place.ticket, place.name)
                place.waiting = second
            else:
                model.places.remove(place)
        _compare(line, model)


def test_who_does_not_wait_cannot_leave() -> None:
    """To leave a line in which one does not stand does nothing, also a second time."""
    line: WaitingLine[Job] = WaitingLine()
    job = Job("job")
    assert line.leave(job, "name") is None
    line.join(job, FOR_ANYTHING, name="name")
    assert line.leave(job, "name") == 0
    assert line.leave(job, "name") is None
    assert (line.all(), line.kinds(), line.next_time()) == ([], [], None)


def test_a_name_is_of_the_last_who_bears_it() -> None:
    """Who leaves does not take away the name of another who came under it since."""
    line: WaitingLine[Job] = WaitingLine()
    first, second = Job("first"), Job("second")
    line.join(first, FOR_ANYTHING, name="name")
    line.join(second, FOR_ANYTHING, name="name")
    line.leave(first, "name")
    assert line.named("name") is second


def test_each_is_asked_once_though_they_leave_and_come_back() -> None:
    """Going along the line while those who are asked leave it, or come back, meets each once."""
    line: WaitingLine[Job] = WaitingLine()
    jobs = [Job(str(n)) for n in range(6)]
    for job in jobs:
        line.join(job, FOR_ANYTHING)
    met = []
    for job, waiting in line.in_turn([((), "")]):
        met.append(job)
        ticket = line.leave(job)
        if job in jobs[:2]:
            line.join(job, waiting, ticket)
        elif job is jobs[2]:
            line.join(job, replace(waiting, cannot=True), ticket)
            line.leave(jobs[3])
    assert met == [*jobs[:3], *jobs[4:]]
    assert [job for job, _ in line.in_turn([((), "")])] == jobs[:2]
    assert line.all() == jobs[:3]


def test_to_be_asked_often_costs_no_memory() -> None:
    """One who is asked again and again, and waits on, takes no more room than one who is not."""
    line: WaitingLine[Job] = WaitingLine()
    job = Job("job")
    line.join(job, FOR_ANYTHING)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10_000):
            line.join(job, FOR_ANYTHING, line.leave(job))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000
