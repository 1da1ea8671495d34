"""A ready task waits for nobody, and goes to the one who waits longest."""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model, WorkerState
from tests.robustness.recording import Call

# How long a call may take to come before the server, and its answer to come back, on a machine
# that is busy. Calls during which a fault was committed are not looked at.
_UNDER_WAY_MS = 1_000
_NOTHING = (v1.CLAIM_OUTCOME_NONE_READY, v1.CLAIM_OUTCOME_ALL_DONE)
# Who hears that there is nothing, stands in line by then, or so long after at the latest.
_IN_LINE_MS = 300
# How long a task may be ready beside a worker that waits. The server hands it on in the same
# transaction, so this is for the rounding of clocks.
_BESIDE_MS = 200


@dataclass(frozen=True, slots=True)
class _Wait:
    """A time in which a worker stood in line for sure, in Unix ms."""

    worker_id: str
    start: float
    end: float
    call: Call | None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A time in which a task could have been taken, in Unix ms."""

    task_id: str
    needed: frozenset[str]
    wanted: frozenset[str]
    start: float
    end: float
    revision: int

    def admits(self, tags: frozenset[str]) -> bool:
        return self.needed <= tags and (not self.wanted or not self.wanted.isdisjoint(tags))


class Waiting(Promise):
    """No task stays ready, or goes to who comes later, while somebody waits for such a one."""

    name = "waiting"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._faults = sorted(self.history.faults)
        self._waits = sorted(self._unary_waits() + self._stream_waits(), key=lambda w: w.start)
        self._place = 0  # in the waits: those before have begun
        self._waiting: list[_Wait] = []
        self._ready: list[_Ready] = []  # only those that lasted
        self._since: dict[str, tuple[float, Any]] = {}  # by task: since when, and its image
        self._tags: defaultdict[str, list[tuple[float, frozenset[str]]]] = defaultdict(list)
        self._barred: list[tuple[float, float]] = []  # when claims were paused
        self._paused_since: float | None = None

    def _unary_waits(self) -> list[_Wait]:
        waits = []
        for call in self.history.calls:
            if call.verb != "ClaimNextTask" or call.ask.parent_id or call.ask.mode > 1:
                continue
            attempt = next((a for a in call.attempts if a.answered), None)
            if attempt is not None:
                wait = self._wait(call.worker_id, attempt.start + _UNDER_WAY_MS, attempt.end, call)
                if wait is not None and self._undisturbed(attempt.start, wait.start):
                    waits.append(wait)
        return waits

    def _stream_waits(self) -> list[_Wait]:
        """From each word that there is nothing until the next word of any kind, or the end."""
        waits = []
        for talk in self.history.talks:
            if talk.ask.parent_id:
                continue
            told = [*talk.messages, (talk.end, None)]
            for (time, message), (following, _) in pairwise(told):
                until = min(following, talk.drain_sent or following)
                if message.waiting.outcome in _NOTHING:
                    wait = self._wait(talk.worker_id, time + _IN_LINE_MS, until, None)
                    if wait is not None and self._undisturbed(time, wait.start):
                        waits.append(wait)
        return waits

    def _wait(self, worker_id: str, start: float, end: float, call: Call | None) -> _Wait | None:
        """So much of a wait as is certain: until the next fault, and until before its answer."""
        place = bisect_right(self._faults, (start, 0.0))
        if place < len(self._faults):
            end = min(end, self._faults[place][0])
        end -= _UNDER_WAY_MS
        return _Wait(worker_id, start, end, call) if end > start else None

    def _undisturbed(self, start: float, end: float) -> bool:
        """Whether no fault was committed in this time, or shortly before."""
        return not any(a < end and b + _UNDER_WAY_MS > start for a, b in self._faults)

    def before(self, step: Step, model: Model) -> None:  # noqa: D102
        for call in step.calls:
            if call.verb == "ClaimNextTask" and not call.in_stream and call.answer.tasks:
                self._judge_turn(step, call, model)

    def _judge_turn(self, step: Step, call: Call, model: Model) -> None:
        """Whether somebody who may take the task came earlier and waits still."""
        while self._place < len(self._waits) and self._waits[self._place].start <= step.time:
            self._waiting.append(self._waits[self._place])
            self._place += 1
        self._waiting = [wait for wait in self._waiting if wait.end >= step.time]
        came = next(a.start for a in call.attempts if a.answered)
        for wait in self._waiting:
            worker = model.worker(wait.worker_id)
            if wait.start >= came or not _can_take(worker, wait, step, model):
                continue
            for task in call.answer.tasks:
                known = model.tasks.get(task.id)
                if known is not None and model.admits(worker, known):
                    self.violated(
                        f"{task.id} was given to {call.worker_id}, who came "
                        f"{came - wait.start:.0f} ms after {wait.worker_id} stood in line for such "
                        "a task",
                        revision=step.revision,
                        tasks=[task.id],
                        workers=[call.worker_id, wait.worker_id],
                        call=wait.call,
                    )

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for event in step.events:
            if event.HasField("task"):
                self._note_task(event.task_id, step, model)
            elif event.HasField("worker"):
                tags = frozenset(event.worker.tags)
                self._tags[event.worker.id].append((step.time, tags))
        if model.paused and self._paused_since is None:
            self._paused_since = step.time
        elif not model.paused and self._paused_since is not None:
            self._barred.append((self._paused_since, step.time))
            self._paused_since = None

    def _note_task(self, task_id: str, step: Step, model: Model) -> None:
        since = self._since.pop(task_id, None)
        if since is not None and step.time - since[0] > _BESIDE_MS:
            image = since[1]
            self._ready.append(
                _Ready(
                    task_id,
                    frozenset(image.needed_tags),
                    frozenset(image.wanted_tags),
                    since[0],
                    step.time,
                    step.revision,
                )
            )
        if task_id in model.ready:
            self._since[task_id] = step.time, model.tasks[task_id].image

    def finish(self, model: Model) -> None:  # noqa: D102
        self._ready.sort(key=lambda one: one.start)
        starts = [one.start for one in self._ready]
        longest = max((one.end - one.start for one in self._ready), default=0.0)
        for wait in self._waits:
            first = bisect_right(starts, wait.start - longest)
            last = bisect_right(starts, wait.end)
            for ready in self._ready[first:last]:
                self._judge_beside(wait, ready)

    def _judge_beside(self, wait: _Wait, ready: _Ready) -> None:
        start, end = max(wait.start, ready.start), min(wait.end, ready.end)
        beside = end - start - self.history.idle_within(start, end)
        beside -= sum(max(0.0, min(end, b) - max(start, a)) for a, b in self._barred)
        if beside <= _BESIDE_MS:
            return
        changes = self._tags[wait.worker_id]
        place = bisect_right(changes, start, key=lambda change: change[0])
        if place == 0 or (place < len(changes) and changes[place][0] < end):
            return  # it connected anew meanwhile, with other tags maybe
        if ready.admits(changes[place - 1][1]):
            self.violated(
                f"{ready.task_id} was ready for {beside:.0f} ms while {wait.worker_id} waited for "
                "such a task",
                revision=ready.revision,
                tasks=[ready.task_id],
                workers=[wait.worker_id],
                call=wait.call,
            )


def _can_take(worker: WorkerState, wait: _Wait, step: Step, model: Model) -> bool:
    """Whether a worker that waits is not kept from taking anything just now."""
    return (
        worker.connected
        and worker.connected_at < wait.start
        and worker.rests_until + _IN_LINE_MS < step.time
        and model.begun(worker) < worker.image.max_claims
    )
