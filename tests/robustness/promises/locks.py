"""A free lock waits for nobody, and goes to the one who waits longest for it."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model, is_lock
from tests.robustness.promises.lines import standing
from tests.robustness.recording import Call, number_of

# The server hands a lock on in the transaction that freed it, in one of the next revisions.
_NEXT = 50


@dataclass(frozen=True, slots=True, eq=False)
class _Wait:
    """A worker that stands in line for one lock, for sure from a time on."""

    call: Call
    path: str
    asked: float  # Unix ms
    start: float
    until: float
    answered: float  # a revision: before, it stood there still


class Locks(Promise):
    """No lock stays free, or goes to who comes later, while somebody waits for it."""

    name = "locks"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._calls = {call.number: call for call in self.history.calls}
        self._waits = deque(sorted(self._all_waits(), key=lambda wait: wait.start))
        self._waiting: list[_Wait] = []  # those who stand in line now
        self._beside: dict[_Wait, int] = {}  # since which revision one stands by a free lock

    def _all_waits(self) -> Iterator[_Wait]:
        for call, attempt, start in standing(self.history, "MarkFiles"):
            locks = {path for path in call.ask.paths if is_lock(path)}
            if len(locks) != 1:
                continue  # it may wait for the one while the other is free
            [path] = locks
            until = attempt.start + call.ask.wait.ToMilliseconds()
            if attempt.answered:
                answer = next(answer for one, answer in call.answers if one is attempt)
                yield _Wait(call, path, attempt.start, start, attempt.end, answer.revision)
            elif attempt.reason == "FILE_LOCKED":
                yield _Wait(call, path, attempt.start, start, until, float("inf"))

    def before(self, step: Step, model: Model) -> None:  # noqa: D102
        while self._waits and self._waits[0].start <= step.time:
            self._waiting.append(self._waits.popleft())
        self._waiting = [
            wait
            for wait in self._waiting
            if wait.answered > step.revision and wait.until > step.time
        ]

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        if event.type != v1.EVENT_TYPE_FILE_MARKED:
            return
        mark = event.file_mark
        taker = self._calls.get(number_of(event.reason) or 0)
        if taker is None or (mark.path, mark.worker_id) in model.marks:
            return
        for wait in self._waiting:
            if wait.path == mark.path and wait.start < taker.start and self._stands(wait, model):
                self.violated(
                    f"{mark.path} was given to {mark.worker_id}, who came "
                    f"{taker.start - wait.start:.0f} ms after {wait.call.worker_id} stood in line",
                    revision=step.revision,
                    workers=[mark.worker_id, wait.call.worker_id],
                    call=wait.call,
                )

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        if not self._waiting:
            return
        taken = {path for path, _ in model.marks if is_lock(path)}
        for wait in self._waiting:
            self.judged += 1
            if wait.path in taken or not self._stands(wait, model):
                self._beside.pop(wait, None)
            elif self._beside.setdefault(wait, step.revision) + _NEXT == step.revision:
                self.violated(
                    f"{wait.path} is free since revision {self._beside[wait]} at the latest, and "
                    f"{wait.call.worker_id} waits for it",
                    revision=step.revision,
                    workers=[wait.call.worker_id],
                    call=wait.call,
                )

    def _stands(self, wait: _Wait, model: Model) -> bool:
        """Whether its worker is there still, and was all the time."""
        worker = model.worker(wait.call.worker_id)
        return worker.connected and worker.connected_at < wait.asked
