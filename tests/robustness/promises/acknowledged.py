"""No acknowledged write is lost: what was answered stands in the history, as it was answered."""

from collections import defaultdict
from typing import Any

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model, TaskState
from tests.robustness.promises import answers, answers_of_change
from tests.robustness.promises.judging import JUDGEMENTS
from tests.robustness.recording import Call

_ENTERED = (answers, answers_of_change)  # each enters its judgements


class Acknowledged(Promise):
    """What was answered is in the history, and a repeated call is answered alike."""

    name = "acknowledged"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._spent: defaultdict[int, int] = defaultdict(int)  # tokens answered for, by task

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for call in step.calls:
            judgement = JUDGEMENTS.get(call.verb)
            if judgement is None:
                continue
            self.judged += 1
            if problem := judgement(call, step, model):
                self.violated(
                    f"{call.verb} was answered with revision {step.revision}, but {problem}",
                    revision=step.revision,
                    tasks=tasks_of(call),
                    workers=[call.worker_id],
                    call=call,
                )
            elif call.verb == "LogMetrics":
                task = model.tasks[call.ask.task_id]
                self._spent[task.number] += call.ask.metrics.tokens_in

    def finish(self, model: Model) -> None:  # noqa: D102
        last = self.history.truth.revision
        unknown: defaultdict[int, int] = defaultdict(int)  # tokens that may have been logged
        for call in self.history.calls:
            self._judge_repetitions(call)
            if call.answer is not None and call.answer.revision > last:
                self.violated(
                    f"{call.verb} was answered with revision {call.answer.revision}, but history "
                    f"ends at {last}",
                    revision=last,
                    tasks=tasks_of(call),
                    workers=[call.worker_id],
                    call=call,
                )
            if call.verb == "LogMetrics" and call.unknown:
                for task in model.named.get(call.ask.task_id, ()):
                    unknown[task.number] += call.ask.metrics.tokens_in
        for task in model.tasks.values():
            self._judge_sum(task, self._spent[task.number], unknown[task.number])

    def _judge_sum(self, task: TaskState, answered: int, unknown: int) -> None:
        tokens = task.image.metrics.tokens_in
        if not answered <= tokens <= answered + unknown:
            self.violated(
                f"{task.id} consumed {tokens} tokens, but calls for {answered} were answered, and "
                f"for {answered + unknown} made",
                tasks=[task.id],
            )

    def _judge_repetitions(self, call: Call) -> None:
        """Under one request_id there is one answer."""
        if "request_id" not in call.ask.DESCRIPTOR.fields_by_name or not call.ask.request_id:
            return
        answers = {attempt.answer for attempt, _ in call.remembered}
        if len(answers) > 1:
            self.violated(
                f"{call.verb} was answered in {len(answers)} ways under one request_id",
                revision=call.answer.revision,
                tasks=tasks_of(call),
                workers=[call.worker_id],
                call=call,
            )


def tasks_of(call: Call) -> list[str]:
    """The tasks that a call is about."""
    if task_id := getattr(call.ask, "task_id", ""):
        return [task_id]
    one = getattr(call.answer, "task", None)
    return [one.id] if one is not None else [t.id for t in getattr(call.answer, "tasks", ())]
