"""Leases: none ends before its time, and none long after it."""

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from math import floor
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model, TaskState, is_expiry, is_lock
from tests.robustness.recording import VERBS, Call, number_of

# How long after its time a lease may end, besides the times at which the server was stopped or
# dead. The server's own promise is a tenth of a second; the machine may be busy with other things.
LATE_MS = 5_000
# A call that was given up may reach the server so long after.
_UNDER_WAY_MS = 1_000
# These name a worker and are no sign of its life.
_NO_SIGN = frozenset(
    {
        *("Disconnect", "GetTask", "ListTasks", "ListWorkers", "ExplainTask", "ListFileMarks"),
        "CheckGates",
    }
)
# A mark or an advisory claim that goes carries its worker's name, whoever caused it.
_BY_OTHERS = frozenset({v1.EVENT_TYPE_FILE_UNMARKED, v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED})
# Who waits is given a task, or a lock, and may be gone: that is no sign of life; asking was.
_GIVEN = frozenset(
    {
        v1.EVENT_TYPE_TASK_CLAIMED,
        v1.EVENT_TYPE_ADVISORY_CLAIM_MADE,
        v1.EVENT_TYPE_FILE_MARKED,
    }
)
_BROKE = "the stream of "
_RAN_OUT = "the lease of "


@dataclass(frozen=True, slots=True)
class _Span:
    """A lease from where it began, or was parked no more, to its end or to its being parked."""

    task_id: str
    worker_id: str
    start: int  # Unix ms
    end: int
    lease_ms: int
    revision: int


class Leases(Promise):
    """A lease ends when its worker has given no sign of life for so long, and not before."""

    name = "leases"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._seen: defaultdict[str, float] = defaultdict(float)  # last certain sign, Unix ms
        self._heartbeats: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
        self._possible: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self._grace: dict[str, int] = {}  # by worker, of its streams, ms
        self._ended: list[_Span] = []
        for call in self.history.calls:
            self._note_call(call)
        for talk in self.history.talks:
            grace = talk.ask.grace.ToMilliseconds()
            self._grace[talk.worker_id] = min(grace, self._grace.get(talk.worker_id, grace))
            for time, _ in talk.told:
                self._possible[talk.worker_id].append((time - _UNDER_WAY_MS, time))

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
        time = event.time.ToMilliseconds()
        if event.HasField("task"):
            self._note_task(step, event, time, model)
        if event.type == v1.EVENT_TYPE_FILE_UNMARKED and is_lock(event.file_mark.path):
            self._note_lock(step, event, model)
        if event.worker_id and event.type not in _BY_OTHERS:
            if event.type not in _GIVEN:
                self._saw(event.worker_id, time)
            self._possible[event.worker_id].append((time, time))

    def _note_task(self, step: Step, event: Any, time: int, model: Model) -> None:
        task, after = model.tasks.get(event.task_id), event.task
        if task is None:
            return
        if task.fixed_until:
            self._judge_fixed(step, event, task, time, model)
        elif task.claim:
            ran = task.image.HasField("lease_expire_time")
            if is_expiry(event) and not ran:
                self._too_soon(step, event, task.holder, "did not run: the task was parked")
            elif is_expiry(event):
                self._judge(step, event, task.holder, task.lease_from, task.lease_ms)
            runs_on = after.claim_revision and after.HasField("lease_expire_time")
            if ran and not (runs_on and not model.is_over_budget(after)):
                self._note_end(step, event, task.holder, task.lease_from, task.lease_ms)
        if event.type == v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED:
            claim = task.advisory.get(event.worker_id)
            if claim is None:
                return
            since, lease_ms = claim.claim_time.ToMilliseconds(), claim.lease.ToMilliseconds()
            if number_of(event.reason) is None and event.reason.startswith((_BROKE, _RAN_OUT)):
                self._judge(step, event, event.worker_id, since, lease_ms)
            self._note_end(step, event, event.worker_id, since, lease_ms)

    def _judge_fixed(
        self, step: Step, event: Any, task: TaskState, time: int, model: Model
    ) -> None:
        """A lease on what is over budget is not renewed, and lasts as long as it did before."""
        self.judged += 1
        after, until = event.task, task.fixed_until
        if not after.claim_revision:
            if is_expiry(event) and time < until and not event.reason.startswith(_BROKE):
                why = f"on what is over budget, ended {until - time} ms before its time"
                self._too_soon(step, event, task.holder, why)
            late = time - until - self.history.idle_within(until, time)
            if late > LATE_MS:
                self._too_long(step.revision, task.holder, event.task_id, "over budget", late)
        elif after.HasField("lease_expire_time") and model.is_over_budget(after):
            told = after.lease_expire_time.ToMilliseconds()
            if told > until:
                why = f"on what is over budget, was renewed by {told - until} ms"
                self._too_soon(step, event, task.holder, why)

    def _note_lock(self, step: Step, event: Any, model: Model) -> None:
        """A lock that goes by itself goes when its worker has been silent for its own lease.

        A lock for a task goes with its worker's claim on that, of which it has the reason.
        """
        if number_of(event.reason) is not None or not event.reason.startswith((_BROKE, _RAN_OUT)):
            return
        mark = event.file_mark
        ended = self._ended[-1] if self._ended else None
        if ended and (ended.task_id, ended.worker_id, ended.revision) == (
            mark.task_id,
            mark.worker_id,
            step.revision,
        ):
            return
        worker = model.worker(mark.worker_id)
        since = mark.mark_time.ToMilliseconds()
        lease_ms = worker.image.lease.ToMilliseconds()
        self.judged += 1
        self._judge(step, event, mark.worker_id, since, lease_ms)

    def _note_end(self, step: Step, event: Any, worker: str, since: int, lease_ms: int) -> None:
        time = event.time.ToMilliseconds()
        self._ended.append(_Span(event.task_id, worker, since, time, lease_ms, step.revision))

    def _judge(self, step: Step, event: Any, worker: str, since: int, lease_ms: int) -> None:
        """A lease has run out: there must have been silence for so long."""
        what = f"{lease_ms} ms"
        if event.reason.startswith(_BROKE):
            if worker not in self._grace:
                self._too_soon(step, event, worker, "ended with a stream that there was not")
                return
            lease_ms = min(lease_ms, self._grace[worker])
            what += f", {lease_ms} ms after a stream broke"
        silence = event.time.ToMilliseconds() - max(self._seen[worker], since)
        if silence < lease_ms:
            self._too_soon(
                step,
                event,
                worker,
                f"{what}, ended {silence:.0f} ms after a sign of life that was acknowledged",
            )

    def _too_soon(self, step: Step, event: Any, worker: str, why: str) -> None:
        self.violated(
            f"the lease of {worker} on {event.task_id}, {why}",
            revision=step.revision,
            tasks=[event.task_id],
            workers=[worker],
        )

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for call in step.calls:
            # Answered, so done after it was sent: a sign of life at that time at the earliest.
            if call.worker_id and call.verb not in _NO_SIGN and not call.in_stream:
                # The server's clock has whole milliseconds.
                self._saw(call.worker_id, floor(call.start))
        for worker_id, time in self._heartbeats.get(step.revision, ()):
            self._saw(worker_id, time)

    def _saw(self, worker_id: str, time: float) -> None:
        self._seen[worker_id] = max(self._seen[worker_id], time)

    def finish(self, model: Model) -> None:  # noqa: D102
        lives = {worker: _merge(signs) for worker, signs in self._possible.items()}
        for ended in self._ended:
            self.judged += 1
            gap = self._longest_silence(ended, lives.get(ended.worker_id, []))
            if gap > ended.lease_ms + LATE_MS:
                what = f"{ended.lease_ms} ms"
                self._too_long(ended.revision, ended.worker_id, ended.task_id, what, gap)

    def _too_long(self, revision: int, worker: str, task_id: str, what: str, gap: float) -> None:
        self.violated(
            f"the lease of {worker} on {task_id}, {what}, went on through {gap:.0f} ms in which "
            "nothing renewed it",
            revision=revision,
            tasks=[task_id],
            workers=[worker],
        )

    def _longest_silence(self, ended: _Span, signs: list[tuple[float, float]]) -> float:
        """The longest time within a lease, in ms, in which its worker said nothing, and the
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


def _merge(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans that overlap become one; in order."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
