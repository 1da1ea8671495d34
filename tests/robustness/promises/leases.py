"""Leases: none ends before its time, and none long after it."""

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model, is_expiry
from tests.robustness.recording import VERBS, Call

# How long after its time a lease may end, besides the times at which the server was stopped or
# dead. The server's own promise is a tenth of a second; the machine may be busy with other things.
LATE_MS = 5_000
# A call that was given up may reach the server so long after.
_UNDER_WAY_MS = 1_000
# These name a worker and are no sign of its life.
_NO_SIGN = frozenset({"Disconnect", "GetTask", "ListTasks", "ListWorkers"})


class Leases(Promise):
    """A lease ends when its worker has given no sign of life for so long, and not before."""

    name = "leases"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._seen: defaultdict[str, float] = defaultdict(float)  # last certain sign, Unix ms
        self._heartbeats: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
        self._possible: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self._ended: list[_Ended] = []
        for call in self.history.calls:
            self._note_call(call)

    def _note_call(self, call: Call) -> None:
        if not call.worker_id or call.verb in _NO_SIGN:
            return
        for attempt in call.attempts:
            late = _UNDER_WAY_MS if attempt.unknown else 0
            self._possible[call.worker_id].append((attempt.start, attempt.end + late))
            if call.verb == "Heartbeat" and attempt.answered:
                answer: Any = VERBS["Heartbeat"].response.FromString(attempt.answer)
                time = answer.worker.heartbeat_time.ToMilliseconds()
                self._heartbeats[answer.revision].append((call.worker_id, time))

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        if event.HasField("task"):
            task = model.tasks.get(event.task_id)
            if task is not None and task.claim and not event.task.claim_revision:
                time = event.time.ToMilliseconds()
                if is_expiry(event):
                    self._judge_expiry(step, event, model)
                self._ended.append(
                    _Ended(
                        task.id,
                        task.holder,
                        task.claimed_from,
                        time,
                        task.lease_ms,
                        step.revision,
                    )
                )
        # A mark that goes carries its worker's name, whoever caused it.
        if event.worker_id and event.type != v1.EVENT_TYPE_FILE_UNMARKED:
            self._saw(event.worker_id, event.time.ToMilliseconds())

    def _judge_expiry(self, step: Step, event: Any, model: Model) -> None:
        task = model.tasks[event.task_id]
        time, seen = event.time.ToMilliseconds(), self._seen[task.holder]
        if time < seen + task.lease_ms:
            self.violated(
                f"the lease of {task.holder} on {task.id}, {task.lease_ms} ms, was ended "
                f"{time - seen:.0f} ms after a sign of life that was acknowledged",
                revision=step.revision,
                tasks=[task.id],
                workers=[task.holder],
            )

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for call in step.calls:
            # Answered, so done after it was sent: a sign of life at that time at the earliest.
            if call.worker_id and call.verb not in _NO_SIGN:
                self._saw(call.worker_id, call.start)
        for worker_id, time in self._heartbeats.get(step.revision, ()):
            self._saw(worker_id, time)

    def _saw(self, worker_id: str, time: float) -> None:
        self._seen[worker_id] = max(self._seen[worker_id], time)

    def finish(self, model: Model) -> None:  # noqa: D102
        lives = {worker: _merge(signs) for worker, signs in self._possible.items()}
        for ended in self._ended:
            gap = self._longest_silence(ended, lives.get(ended.worker_id, []))
            if gap > ended.lease_ms + LATE_MS:
                self.violated(
                    f"the lease of {ended.worker_id} on {ended.task_id}, {ended.lease_ms} ms, "
                    f"went on through {gap:.0f} ms without a sign of life",
                    revision=ended.revision,
                    tasks=[ended.task_id],
                    workers=[ended.worker_id],
                )

    def _longest_silence(self, ended: "_Ended", signs: list[tuple[float, float]]) -> float:
        """The longest time within a claim, in ms, in which its worker said nothing, and the
        server could have noticed."""
        longest, silent_since = 0.0, float(ended.start)
        first = max(0, bisect_left(signs, (ended.start, 0.0)) - 1)
        for start, end in signs[first:]:
            if start >= ended.end:
                break
            longest = max(longest, self._silence(silent_since, start))
            silent_since = max(silent_since, end)
        return max(longest, self._silence(silent_since, ended.end))

    def _silence(self, start: float, end: float) -> float:
        return max(0.0, end - start - self.history.idle_within(start, end)) if end > start else 0.0


@dataclass(frozen=True, slots=True)
class _Ended:
    """A claim from its beginning to its end, in Unix ms."""

    task_id: str
    worker_id: str
    start: int
    end: int
    lease_ms: int
    revision: int


def _merge(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans that overlap become one; in order."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
