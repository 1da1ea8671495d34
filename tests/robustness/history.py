"""A round as it is judged: what clients recorded, what became history, when the server was idle."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from taskloom import v1

from tests.robustness.model import Model
from tests.robustness.recording import OK, Attempt, Call, Stream, Talk
from tests.robustness.truth import Truth


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept."""

    promise: str
    text: str
    revision: int = 0
    task_ids: tuple[str, ...] = ()
    worker_ids: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    streams: tuple[Stream, ...] = ()


@dataclass
class History:
    """All there is to judge."""

    truth: Truth
    calls: list[Call]
    streams: list[Stream]
    talks: list[Talk] = field(default_factory=list)
    idle: list[tuple[int, int]] = field(default_factory=list)  # Unix ms
    faults: list[tuple[float, float]] = field(default_factory=list)  # Unix ms

    def assigned(self) -> list[Call]:
        """What Work streams told of claims, each as the ClaimNextTask that it might have been."""
        calls = []
        for talk in self.talks:
            for time, message in talk.messages:
                kind = message.WhichOneof("content")
                if kind not in ("assigned", "waiting"):
                    continue
                waiting = message.waiting
                answer = v1.ClaimNextTaskResponse(
                    tasks=message.assigned.tasks,
                    outcome=waiting.outcome or v1.CLAIM_OUTCOME_CLAIMED,
                    revision=message.revision,
                )
                ask = v1.ClaimNextTaskRequest(
                    worker_id=talk.worker_id,
                    max_tasks=len(message.assigned.tasks),
                    parent_id=talk.ask.parent_id,
                    order_by=talk.ask.order_by,
                )
                attempt = Attempt(time, time, OK, "", "", answer.SerializeToString())
                contents = ask.SerializeToString()
                calls.append(
                    Call(0, talk.worker_id, "ClaimNextTask", contents, [attempt], in_stream=True)
                )
        return calls

    def answered(self) -> "defaultdict[int, list[Call]]":
        """The answered calls, by the revision that they made or saw."""
        by_revision: defaultdict[int, list[Call]] = defaultdict(list)
        for call in [*self.calls, *self.assigned()]:
            if call.answer is None:
                continue
            by_revision[call.answer.revision].append(call)
            if call.verb == "ClaimNextTask":
                for attempt, answer in call.answers:
                    if answer is not call.answer and not answer.tasks:  # judged by itself
                        once = replace(call, attempts=[attempt])
                        by_revision[answer.revision].append(once)
        return by_revision

    def idle_within(self, start: float, end: float) -> float:
        """For how many ms of this time the server could not act."""
        return sum(max(0.0, min(end, b) - max(start, a)) for a, b in self.idle)


@dataclass(frozen=True)
class Step:
    """One revision of the history, and the answered calls that made it or saw it."""

    revision: int
    events: Sequence[Any]
    calls: Sequence[Call]

    @property
    def time(self) -> int:
        """When it happened, Unix ms."""
        return int(self.events[0].time.ToMilliseconds()) if self.events else 0

    def is_take_over(self, event: Any) -> bool:
        """Whether a claim is a formality: who had an advisory one ends the task by it at once."""
        return any(
            other.task_id == event.task_id
            and other.worker_id == event.worker_id
            and (other.type in _ENDS or other.type == v1.EVENT_TYPE_TASK_RELEASED)
            for other in self.events
        )

    def images(self, task_id: str) -> list[Any]:
        """The task as the events of this revision show it, in their order."""
        return [e.task for e in self.events if e.task_id == task_id and e.HasField("task")]


_ENDS = frozenset({v1.EVENT_TYPE_TASK_COMPLETED, v1.EVENT_TYPE_TASK_FAILED})
Report = Callable[[Violation], None]


class Promise:
    """Judges a history step by step; each promise says what it looks at."""

    name = ""

    def __init__(self, history: History, report: Report) -> None:
        self.history = history
        self.judged = 0  # how often it was put to the test
        self._report = report

    def before(self, step: Step, model: Model) -> None:
        """The step is about to happen."""

    def event(self, step: Step, event: Any, model: Model) -> None:
        """One of its events is about to happen."""

    def after(self, step: Step, model: Model) -> None:
        """The step has happened."""

    def finish(self, model: Model) -> None:
        """All steps have happened."""

    def violated(
        self,
        text: str,
        *,
        revision: int = 0,
        tasks: Iterable[str] = (),
        workers: Iterable[str] = (),
        call: Call | None = None,
        stream: Stream | None = None,
    ) -> None:
        """Report that the promise was not kept."""
        self._report(
            Violation(
                self.name,
                text,
                revision,
                tuple(id_ for id_ in tasks if id_),
                tuple(id_ for id_ in workers if id_),
                () if call is None else (call,),
                () if stream is None else (stream,),
            )
        )
