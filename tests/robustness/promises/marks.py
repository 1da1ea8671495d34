"""Marks and locks: one holder of a lock, marks with their claim, and none on what has ended."""

from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model, is_lock
from tests.robustness.recording import Call, number_of

_CLAIMS = ("ClaimTask", "ClaimNextTask")
# After these nobody works on the task exclusively, and after some of them nobody at all.
_ENDS = frozenset(
    {
        v1.EVENT_TYPE_TASK_COMPLETED,
        v1.EVENT_TYPE_TASK_FAILED,
        v1.EVENT_TYPE_TASK_CANCELLED,
        v1.EVENT_TYPE_TASK_RELEASED,
        v1.EVENT_TYPE_TASK_LEASE_EXPIRED,
        v1.EVENT_TYPE_TASK_DELETED,
    }
)


class Marks(Promise):
    """A lock has one holder, a claim its files, and a task that has ended no marks."""

    name = "marks"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._claims = {call.number: call for call in self.history.calls if call.verb in _CLAIMS}

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        if event.type != v1.EVENT_TYPE_FILE_MARKED:
            return
        mark = event.file_mark
        self.judged += is_lock(mark.path)
        if others := model.lock_holders(mark.worker_id, [mark.path]):
            [(_, holder), *_] = sorted(others)
            self.violated(
                f"{mark.path} was given to {mark.worker_id} while {holder} held it",
                revision=step.revision,
                tasks=[mark.task_id],
                workers=[mark.worker_id, holder],
            )
        claim = self._claims.get(number_of(event.reason) or 0)
        task = model.tasks.get(mark.task_id)
        if claim is not None and (
            task is None or mark.worker_id not in (task.holder, *task.advisory)
        ):
            self.violated(
                f"{mark.path} was marked by {claim.verb} of {mark.worker_id}, but {mark.task_id} "
                "was not claimed",
                revision=step.revision,
                tasks=[mark.task_id],
                workers=[mark.worker_id],
                call=claim,
            )

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for call in step.calls:
            if call.verb in _CLAIMS and call.ask.files:
                self._judge_claim(step, call, model)
        ended = {event.task_id for event in step.events if event.type in _ENDS}
        if not ended:
            return
        self.judged += len(ended)
        for mark in model.marks.values():
            if mark.task_id in ended and not self._works(mark, model):
                self.violated(
                    f"{mark.path} is marked by {mark.worker_id} for {mark.task_id}, which "
                    "nobody works on any more",
                    revision=step.revision,
                    tasks=[mark.task_id],
                    workers=[mark.worker_id],
                )

    def _works(self, mark: Any, model: Model) -> bool:
        """Whether who has the mark works on its task still, or again."""
        task = model.tasks.get(mark.task_id)
        if task is None or task.deleted:
            return False
        if task.image.status in model.workflow_of(task).terminal:
            return False
        return bool(task.claim) or mark.worker_id in task.advisory

    def _judge_claim(self, step: Step, call: Call, model: Model) -> None:
        """A claim that was answered has its files marked for the task, and tells of conflicts."""
        given = call.answer.tasks if call.verb == "ClaimNextTask" else [call.answer.task]
        if not given:
            return
        self.judged += 1
        missing = []
        others = set()
        for path in dict.fromkeys(call.ask.files):
            mark = model.marks.get((path, call.worker_id))
            if mark is None or (mark.task_id, mark.reason) != (given[0].id, call.tag):
                missing.append(path)
            others |= {key for key in model.marks if key[0] == path and key[1] != call.worker_id}
        told = {(mark.path, mark.worker_id) for mark in call.answer.conflicts}
        problem = ""
        if missing:
            problem = f"{missing} were not marked with it"
        elif told != others:
            problem = f"marks of others were {sorted(others)}, told {sorted(told)}"
        if problem:
            self.violated(
                f"{call.worker_id} was given {given[0].id}, but {problem}",
                revision=step.revision,
                tasks=[given[0].id],
                workers=[call.worker_id],
                call=call,
            )
