"""Work streams: no task beyond the credit, none after the drain, none swallowed by a good end."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model
from tests.robustness.recording import Talk, number_of

_WRONG_ENDS = frozenset({"INTERNAL", "UNKNOWN", "INVALID_ARGUMENT", "FAILED_PRECONDITION"})
# What grpc.aio makes of a stream that breaks while something is written.
_OF_THE_LIBRARY = "Internal error from Core"
# So long at the most a claim that was not told of lasts until it is undone, on a busy machine.
_UNDONE_MS = 1_000


@dataclass(frozen=True, slots=True)
class _Untold:
    """A claim of which no answer and no stream told."""

    worker_id: str
    time: int  # Unix ms
    revision: int


class Streams(Promise):
    """What a Work stream tells is true, and what it does not tell of, it has undone."""

    name = "streams"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._started: defaultdict[int, list[tuple[Talk, Any]]] = defaultdict(list)
        self._talks: defaultdict[str, list[Talk]] = defaultdict(list)
        self._untold: dict[str, _Untold] = {}  # by task
        for talk in self.history.talks:
            self._talks[talk.worker_id].append(talk)
            for _, message in talk.messages:
                if message.WhichOneof("content") == "started":
                    self._started[message.revision].append((talk, message.started))

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for talk, started in self._started.get(step.revision, ()):
            told = {task.id for task in started.held_tasks}
            held = model.worker(talk.worker_id).held
            if told != held:
                self.violated(
                    f"a stream of {talk.worker_id} began with {sorted(told)} held, at revision "
                    f"{step.revision} it held {sorted(held)}",
                    revision=step.revision,
                    workers=[talk.worker_id],
                )
        for event in step.events:
            if not event.HasField("task"):
                continue
            if event.type == v1.EVENT_TYPE_TASK_RENAMED and event.task_id in self._untold:
                self._untold[event.task.id] = self._untold.pop(event.task_id)
            if event.task.worker_id in self._talks:
                self._note(step, event)
            if event.task_id in self._untold and not event.task.claim_revision:
                self._judge(event, self._untold.pop(event.task_id))

    def _note(self, step: Step, event: Any) -> None:
        """Remember a claim of which nobody was told, except maybe by the next stream."""
        worker_id = event.task.worker_id
        if event.type != v1.EVENT_TYPE_TASK_CLAIMED:
            return
        for call in step.calls:
            given = getattr(call.answer, "tasks", ())
            if call.worker_id == worker_id and any(t.id == event.task_id for t in given):
                return
        if not step.is_take_over(event):
            time = event.time.ToMilliseconds()
            self._untold[event.task_id] = _Untold(worker_id, time, step.revision)

    def _judge(self, event: Any, untold: _Untold) -> None:
        """An untold claim has ended: by the server's undoing it, if its stream ended well."""
        by_server = not event.worker_id and number_of(event.reason) is None
        if by_server and event.type == v1.EVENT_TYPE_TASK_RELEASED:
            return
        by_others = not by_server and event.worker_id != untold.worker_id
        if by_others and event.time.ToMilliseconds() < untold.time + _UNDONE_MS:
            return  # somebody was quicker than the undoing, which stands in the writer's queue
        for talk in self._talks[untold.worker_id]:
            # One that had not begun was told of nothing by its own fault: an earlier one broke.
            begun = any(
                message.HasField("started") and message.revision < untold.revision
                for _, message in talk.messages
            )
            if talk.ended_well and begun and untold.time <= talk.end:
                self.violated(
                    f"{event.task_id} was given to {untold.worker_id}, whose stream never told of "
                    "it and ended as agreed, and was not given back",
                    revision=untold.revision,
                    tasks=[event.task_id],
                    workers=[untold.worker_id],
                )
                return

    def finish(self, model: Model) -> None:  # noqa: D102
        for talk in self.history.talks:
            self.judged += 1
            problem = talk.disorder
            if not problem and talk.code in _WRONG_ENDS and talk.text != _OF_THE_LIBRARY:
                problem = f"it ended with {talk.code}: {talk.text}"
            if problem:
                self.violated(f"a stream of {talk.worker_id}, {problem}", workers=[talk.worker_id])
