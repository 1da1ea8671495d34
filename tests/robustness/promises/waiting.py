"""A ready task waits for nobody, and goes to the one who waits longest.

Who stands in line when is known without looking at a clock: of a call, as ``lines`` tells; a stream
stands there once it has told that there is nothing, until it tells something else.
"""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model, is_lock
from tests.robustness.promises.lines import standing
from tests.robustness.recording import Call

_NOTHING = (
    v1.CLAIM_OUTCOME_NONE_READY,
    v1.CLAIM_OUTCOME_ALL_DONE,
    v1.CLAIM_OUTCOME_WIP_LIMIT,
)
# The server hands a task on in the revision after the one that made it ready, or, where that made
# many ready, in one of the next.
_NEXT = 50


@dataclass(frozen=True, slots=True, eq=False)
class _Wait:
    """A worker that stands in line, for sure from a time on, until it is answered."""

    worker_id: str
    asked: float  # Unix ms
    start: float
    answered: int  # a revision: before, it stood there still
    call: Call | None


class Waiting(Promise):
    """No task stays ready, or goes to who comes later, while somebody waits for such a one."""

    name = "waiting"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        waits = [*self._unary_waits(), *self._stream_waits()]
        self._waits = deque(sorted(waits, key=lambda wait: wait.start))
        self._waiting: list[_Wait] = []  # those who stand in line now
        self._readied: deque[tuple[int, str]] = deque()  # revision and task, not looked at yet
        self._ready_since: dict[str, int] = {}
        self._beside: dict[tuple[str, _Wait], int] = {}  # since when a wait stands by a task

    def _unary_waits(self) -> list[_Wait]:
        waits = []
        for call, attempt, start in standing(self.history, "ClaimNextTask"):
            ask = call.ask
            if ask.parent_id or ask.mode == v1.CLAIM_MODE_ADVISORY or not attempt.answered:
                continue
            if any(is_lock(path) for path in ask.files):
                continue  # it may wait for locks
            answer = next(answer for one, answer in call.answers if one is attempt)
            waits.append(_Wait(call.worker_id, attempt.start, start, answer.revision, call))
        return waits

    def _stream_waits(self) -> list[_Wait]:
        """From each word that there is nothing until the next word."""
        return [
            _Wait(talk.worker_id, talk.start, time, following.revision, None)
            for talk in self.history.talks
            for (time, message), (_, following) in pairwise(talk.messages)
            if message.waiting.outcome in _NOTHING and following.revision and not talk.ask.parent_id
        ]

    def before(self, step: Step, model: Model) -> None:  # noqa: D102
        while self._waits and self._waits[0].start <= step.time:
            self._waiting.append(self._waits.popleft())
        self._waiting = [wait for wait in self._waiting if wait.answered > step.revision]
        for call in step.calls:
            if call.verb == "ClaimNextTask" and not call.in_stream and call.answer.tasks:
                self._judge_turn(step, call, model)

    def _judge_turn(self, step: Step, call: Call, model: Model) -> None:
        """Whether somebody who may take the task came earlier and waits still."""
        came = call.start
        for task in call.answer.tasks:
            for wait in self._waiting:
                if wait.start < came and self._could_take(wait, task.id, model):
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
            if not event.HasField("task"):
                continue
            if event.task_id not in model.ready:
                self._ready_since.pop(event.task_id, None)
            elif event.task_id not in self._ready_since:
                self._ready_since[event.task_id] = step.revision
                self._readied.append((step.revision, event.task_id))
        while self._readied and self._readied[0][0] + _NEXT <= step.revision:
            revision, task_id = self._readied.popleft()
            if self._ready_since.get(task_id) == revision:
                time = model.tasks[task_id].image.ready_time.ToMilliseconds()
                for wait in self._waiting:
                    if wait.start < time and self._could_take(wait, task_id, model):
                        self._beside.setdefault((task_id, wait), step.revision)
        for (task_id, wait), revision in list(self._beside.items()):
            self._judge_beside(step, revision, task_id, wait, model)

    def _judge_beside(
        self, step: Step, revision: int, task_id: str, wait: _Wait, model: Model
    ) -> None:
        """Whether a wait has stood by a ready task for too long, in which it could take it.

        From the first look on: until then something else may have kept the one from the other.
        """
        could = task_id in self._ready_since and self._could_take(wait, task_id, model)
        if not could or wait.answered <= step.revision:
            del self._beside[task_id, wait]
        elif revision + _NEXT <= step.revision:
            del self._beside[task_id, wait]
            self.violated(
                f"{task_id} is ready since revision {self._ready_since[task_id]}, and "
                f"{wait.worker_id} could take it since revision {revision} and waits for such a "
                "task",
                revision=step.revision,
                tasks=[task_id],
                workers=[wait.worker_id],
                call=wait.call,
            )

    def _could_take(self, wait: _Wait, task_id: str, model: Model) -> bool:
        """Whether nothing but its standing in line keeps a worker from taking a task."""
        worker, task = model.worker(wait.worker_id), model.tasks.get(task_id)
        self.judged += 1
        return (
            task is not None
            and worker.connected
            and worker.connected_at < wait.asked
            and not worker.image.cool_down.ToMilliseconds()
            and not model.paused
            and model.begun(worker) < worker.image.max_claims
            and model.admits(worker, task)
            and model.may_claim(worker, task)
            and model.room(task.image.workflow) > 0
        )
