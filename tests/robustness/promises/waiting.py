"""A ready task waits for nobody: not while a worker stands in line that may take it."""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model
from tests.robustness.recording import Call

# How long a call may take to come before the server, and its answer to come back, on a machine
# that is busy and over a connection that is slow.
_UNDER_WAY_MS = 1_000
# How long a task may be ready beside a worker that waits. The server hands it on in the same
# transaction, so this is for the rounding of clocks, and for the server's being stopped.
_BESIDE_MS = 200


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
    """No task stays ready while somebody waits for such a one."""

    name = "waiting"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._ready: list[_Ready] = []  # only those that lasted
        self._since: dict[str, tuple[float, Any]] = {}  # by task: since when, and its image
        self._tags: defaultdict[str, list[tuple[float, frozenset[str]]]] = defaultdict(list)
        self._barred: list[tuple[float, float]] = []  # when claims were paused
        self._paused_since: float | None = None

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for event in step.events:
            if event.HasField("task"):
                self._note_task(event.task_id, step, model)
            elif event.HasField("worker"):
                worker = frozenset(event.worker.tags)
                self._tags[event.worker.id].append((step.time, worker))
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
        for call in self.history.calls:
            if call.verb != "ClaimNextTask" or call.ask.parent_id:
                continue
            attempt = next((a for a in call.attempts if a.answered), None)
            if attempt is None or attempt.end - attempt.start < 2 * _UNDER_WAY_MS:
                continue
            start, end = attempt.start + _UNDER_WAY_MS, attempt.end - _UNDER_WAY_MS
            first = bisect_right(starts, start - longest)
            last = bisect_right(starts, end)
            for ready in self._ready[first:last]:
                self._judge(call, start, end, ready)

    def _judge(self, call: Call, start: float, end: float, ready: _Ready) -> None:
        start, end = max(start, ready.start), min(end, ready.end)
        beside = end - start - self.history.idle_within(start, end)
        beside -= sum(max(0.0, min(end, b) - max(start, a)) for a, b in self._barred)
        if beside <= _BESIDE_MS:
            return
        changes = self._tags[call.worker_id]
        place = bisect_right(changes, call.start, key=lambda change: change[0])
        # Who connects anew while he waits may have other tags than he stood in line with.
        if place == 0 or (place < len(changes) and changes[place][0] < end):
            return
        if ready.admits(changes[place - 1][1]):
            self.violated(
                f"{ready.task_id} was ready for {beside:.0f} ms while {call.worker_id} waited for "
                "such a task",
                revision=ready.revision,
                tasks=[ready.task_id],
                workers=[call.worker_id],
                call=call,
            )
