"""Guards: what a worker's role lets it do, and what must be attached before a task goes on."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model
from tests.robustness.recording import Call, number_of

_REGISTRATION = (v1.EVENT_TYPE_WORKER_CONNECTED, v1.EVENT_TYPE_WORKER_DISCONNECTED)


class Roles(Promise):
    """Nobody does what the role that it has in its workflow does not let it do."""

    name = "roles"

    def before(self, step: Step, model: Model) -> None:  # noqa: D102
        for call in step.calls:
            worker = model.worker(call.worker_id).image
            if not call.worker_id or _registers(step, call):
                continue
            for right, task_id in _rights(call):
                task = model.tasks.get(task_id)
                if task is None:  # it has another id by now
                    continue
                self.judged += 1
                if not model.workflow_of(task).may(worker.tags, right):
                    self.violated(
                        f"{call.verb} of {call.worker_id} was done, although in workflow "
                        f"{task.image.workflow} its tags {sorted(worker.tags)} lack {right}",
                        revision=step.revision,
                        tasks=[task_id],
                        workers=[call.worker_id],
                        call=call,
                    )


def _registers(step: Step, call: Call) -> bool:
    """Whether the worker's role changes in this very step, and the call only saw it."""
    return any(e.type in _REGISTRATION and e.worker_id == call.worker_id for e in step.events)


def _rights(call: Call) -> Iterator[tuple[str, str]]:
    """What a worker must be allowed to do for this call, and with which task."""
    ask = call.ask
    match call.verb:
        case "UpdateTask" | "UpdateTasks":
            for update in ask.updates if call.verb == "UpdateTasks" else [ask]:
                if update.assignee:
                    yield "can_assign", update.task_id
                if update.force:
                    yield "can_force", update.task_id
        case "CompleteTask":
            if ask.force:
                yield "can_force", ask.task_id
        case "CreateTask" | "CreateTaskTree":
            if ask.parent_id:
                yield "can_create_subtasks", ask.parent_id
        case "LinkTasks":
            if call.answer.created and ask.type == v1.DEPENDENCY_TYPE_CONTAINS:
                yield "can_create_subtasks", ask.from_task_id
        case "RelinkTasks":
            for one in call.answer.added:
                if one.type == v1.DEPENDENCY_TYPE_CONTAINS:
                    yield "can_create_subtasks", one.from_task_id
        case "DeleteTask":
            if ask.force and call.answer.deleted_task_ids:
                yield "can_force", ask.task_id


class Gates(Promise):
    """A task leaves a status or a phase only with what its gates ask, or by force that is told."""

    name = "gates"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._forces: defaultdict[int, bool] = defaultdict(bool)  # by the number of the call
        for call in self.history.calls:
            if call.verb in ("CompleteTask", "UpdateTask"):
                self._forces[call.number] = call.ask.force
            elif call.verb == "UpdateTasks":
                self._forces[call.number] = any(update.force for update in call.ask.updates)

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        task = model.tasks.get(event.task_id) if event.HasField("task") else None
        if task is None or task.deleted or not (event.worker_id or number_of(event.reason)):
            return  # a lease that ends, and a parent that completes, ask nobody
        before, after = task.image, event.task
        if (before.status, before.phase) == (after.status, after.phase):
            return
        left = before.status
        if event.type == v1.EVENT_TYPE_TASK_COMPLETED and event.worker_id and not task.claim:
            left = model.workflow_of(task).claimed  # where it was when its lease ran out
        overlays = model.worker(event.worker_id).image.overlays if event.worker_id else ()
        asked = model.rules.gates(before, after, left, overlays)
        self.judged += bool(asked)
        there = {type_ for id_, type_, _ in model.attachments if id_ == event.task_id}
        missing = asked - there
        if not missing:
            return
        told = any(
            other.type == v1.EVENT_TYPE_GATE_FORCED and other.task_id == event.task_id
            for other in step.events
        )
        number = number_of(event.reason)
        forced = number is None or self._forces[number]
        if not (told and forced):
            self.violated(
                f"{event.task_id} went from {left} {before.phase} to {after.status} {after.phase} "
                f"without {sorted(missing)}, and "
                + ("nobody said force" if told else "no force was told"),
                revision=step.revision,
                tasks=[event.task_id],
                workers=[event.worker_id],
            )
