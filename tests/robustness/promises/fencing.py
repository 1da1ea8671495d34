"""Fencing: a stale claim does nothing, and a claim that holds is not refused."""

from collections import defaultdict
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model, TaskState
from tests.robustness.recording import Call, number_of

_HOLDERS_VERBS = frozenset({"ReleaseTask", "CompleteTask", "FailTask"})
_WITH_CLAIM = frozenset(
    {
        "UpdateTask",
        "UpdateTasks",
        "LogMetrics",
        "MarkFiles",
        "UnmarkFiles",
        "Attach",
        "UploadAttachment",
        "Detach",
        "SignalTask",
        "SetThought",
    }
)
# What these do, where they do anything.
_DONE_BY = {
    "SetThought": frozenset({v1.EVENT_TYPE_WORKER_THOUGHT, v1.EVENT_TYPE_TASK_UPDATED}),
    "UnmarkFiles": frozenset({v1.EVENT_TYPE_FILE_UNMARKED}),
}
_MARGIN_MS = 5  # by which the clocks' roundings may differ


class Fencing(Promise):
    """What is done with a claim is done only while that claim holds the task."""

    name = "fencing"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._spans: defaultdict[str, list[_Span]] = defaultdict(list)  # by task

    def before(self, step: Step, model: Model) -> None:  # noqa: D102
        self._judge(step, model, is_change=True)

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        self._judge(step, model, is_change=False)

    def _judge(self, step: Step, model: Model, *, is_change: bool) -> None:
        """Judge what changed something by how it was before, and what did not by how it is."""
        for call in step.calls:
            asks = call.ask.updates if call.verb == "UpdateTasks" else [call.ask]
            for ask in asks if _is_change(step, call) == is_change else ():
                if why := self._why_stale(call, ask, model):
                    self.violated(
                        f"{call.verb} of {ask.worker_id} with claim {ask.claim_revision} was "
                        f"done, although {why}",
                        revision=step.revision,
                        tasks=[ask.task_id],
                        workers=[ask.worker_id],
                        call=call,
                    )

    def _why_stale(self, call: Call, ask: Any, model: Model) -> str:
        """Why the call should have been refused; empty where it should not."""
        if call.verb not in _HOLDERS_VERBS and call.verb not in _WITH_CLAIM:
            return ""
        if not ask.task_id:
            return ""
        self.judged += 1
        task = model.tasks.get(ask.task_id)
        if task is None:
            return "there was no such task"
        shown = ask.claim_revision
        if call.verb == "SetThought" and not shown:
            return "" if ask.worker_id in (task.holder, *task.advisory) else _who(task)
        if call.verb in _HOLDERS_VERBS:
            holds = task.holder == ask.worker_id and shown in (0, task.claim)
            late = call.verb == "CompleteTask" and not task.claim and _lapsed(task, call)
            # An advisory claim can be given back at any time, to end by it only what nobody holds.
            shares = _shares(task, ask) and (call.verb == "ReleaseTask" or not task.claim)
            return "" if holds or late or shares else _who(task)
        if (
            shown
            and not _shares(task, ask)
            and (shown != task.claim or ask.worker_id not in ("", task.holder))
        ):
            return _who(task)
        if call.verb in ("UpdateTask", "UpdateTasks") and ask.HasField("status") and ask.worker_id:
            moves = ask.status != task.image.status
            if moves and task.claim and task.holder != ask.worker_id:
                return _who(task)
        return ""

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        if not event.HasField("task"):
            return
        time = event.time.ToMilliseconds()
        if event.type == v1.EVENT_TYPE_TASK_RENAMED:
            for span in self._spans[event.task_id][-1:]:
                span.end = span.end or time  # the old id is nobody's
        spans = self._spans[event.task.id]
        claim = event.task.claim_revision
        if spans and spans[-1].end is None and spans[-1].claim != claim:
            spans[-1].end = time
        if claim and (not spans or spans[-1].end is not None):
            spans.append(_Span(event.task.worker_id, claim, time))

    def finish(self, model: Model) -> None:  # noqa: D102
        for call in self.history.calls:
            for attempt in call.attempts:
                if attempt.reason == "CLAIM_LOST":
                    self._judge_lost(call, attempt)
                elif attempt.reason == "TASK_CLAIMED" and call.verb == "ClaimTask":
                    self._judge_claimed(call, attempt)

    def _judge_lost(self, call: Call, attempt: Any) -> None:
        """CLAIM_LOST is wrong where the claim held the task all through the call."""
        self.judged += 1
        ask = call.ask
        for span in self._spans.get(getattr(ask, "task_id", ""), ()):
            if (
                span.worker_id == ask.worker_id
                and ask.claim_revision in (0, span.claim)
                and span.start + _MARGIN_MS < attempt.start
                and (span.end is None or attempt.end + _MARGIN_MS < span.end)
            ):
                self.violated(
                    f"{call.verb} of {ask.worker_id} was refused with CLAIM_LOST, although its "
                    f"claim {span.claim} held {ask.task_id} all the time",
                    revision=span.claim,
                    tasks=[ask.task_id],
                    workers=[ask.worker_id],
                    call=call,
                )

    def _judge_claimed(self, call: Call, attempt: Any) -> None:
        """TASK_CLAIMED is wrong where nobody else held the task at any time during the call."""
        ask = call.ask
        for span in self._spans.get(ask.task_id, ()):
            if (
                span.worker_id != ask.worker_id
                and span.start - _MARGIN_MS <= attempt.end
                and (span.end is None or span.end + _MARGIN_MS >= attempt.start)
            ):
                return
        self.violated(
            f"ClaimTask of {ask.worker_id} was refused with TASK_CLAIMED, although nobody else "
            f"held {ask.task_id}",
            tasks=[ask.task_id],
            workers=[ask.worker_id],
            call=call,
        )


class _Span:
    """A claim in time; ``end`` is None while it lasts."""

    def __init__(self, worker_id: str, claim: int, start: int) -> None:
        self.worker_id = worker_id
        self.claim = claim
        self.start = start
        self.end: int | None = None


def _is_change(step: Step, call: Call) -> bool:
    """Whether the call made this revision, or only saw it."""
    if call.verb in ("UpdateTask", "UpdateTasks"):
        return any(number_of(event.reason) == call.number for event in step.events)
    if types := _DONE_BY.get(call.verb):
        return any(e.worker_id == call.worker_id and e.type in types for e in step.events)
    return call.verb in _HOLDERS_VERBS or call.verb in _WITH_CLAIM


def _lapsed(task: TaskState, call: Call) -> bool:
    if task.lapsed is None:
        return False
    worker_id, claim = task.lapsed
    return worker_id == call.worker_id and call.ask.claim_revision in (0, claim)


def _shares(task: TaskState, ask: Any) -> bool:
    """Whether the worker works on the task by an advisory claim, and by the one it shows."""
    claim = task.advisory.get(ask.worker_id)
    return claim is not None and ask.claim_revision in (0, claim.claim_revision)


def _who(task: TaskState) -> str:
    if task.claim:
        return f"{task.holder} held {task.id} by claim {task.claim}"
    return f"nobody held {task.id}, which was {task.image.status}"
