"""Ids: a task that was renamed, or removed for good, is heard of under its old id no more."""

from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model
from tests.robustness.verbs import DRY

# These may tell of an id that no task has, because one is about to have it or has had it.
_OF_NO_TASK = (v1.EVENT_TYPE_TASK_CREATED,)


class Ids(Promise):
    """Events and answers name tasks by the ids that they have; what is gone, and what was only
    imported on trial, nobody hears of."""

    name = "ids"

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        if not event.task_id:
            return
        self.judged += 1
        known = event.task_id in model.tasks or event.type in _OF_NO_TASK
        if event.type == v1.EVENT_TYPE_TASK_RENAMED and event.task.id in model.tasks:
            self._strange(step, event, f"{event.task.id} is there already")
        elif event.task_id.startswith(DRY):
            self._strange(step, event, "it was imported on trial only")
        elif not known:
            had = bool(model.named.get(event.task_id))
            self._strange(step, event, "the task is gone or renamed" if had else "it never was")

    def _strange(self, step: Step, event: Any, why: str) -> None:
        self.violated(
            f"{v1.EventType.Name(event.type)} tells of {event.task_id}, but {why}",
            revision=step.revision,
            tasks=[event.task_id],
            workers=[event.worker_id],
        )

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for call in step.calls:
            one = getattr(call.answer, "task", None)
            if one is None or call.verb == "ObliterateTask":
                continue
            self.judged += 1
            if one.id not in model.tasks:
                self.violated(
                    f"{call.verb} was answered with {one.id} at revision {step.revision}, where "
                    "there was no such task",
                    revision=step.revision,
                    tasks=[one.id],
                    workers=[call.worker_id],
                    call=call,
                )
