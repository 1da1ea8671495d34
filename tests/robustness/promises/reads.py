"""What is read at a revision is the graph as it was at that revision."""

from collections import defaultdict
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model
from tests.robustness.promises.judging import same
from tests.robustness.recording import Call, Stream

_RESTS = v1.OBSTACLE_TYPE_COOLING_DOWN


class Reads(Promise):
    """GetTask, ListTasks, GetStatus and the state that a watch begins with show one revision."""

    name = "reads"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._listed: defaultdict[int, list[Stream]] = defaultdict(list)
        for stream in self.history.streams:
            if stream.synced is not None:
                self._listed[stream.synced].append(stream)

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for call in step.calls:
            if call.verb == "GetTask":
                self._judge_task(step, call, model)
            elif call.verb == "ExplainTask":
                self._judge_why(step, call, model)
            elif call.verb == "ListTasks":
                for task in call.answer.tasks:
                    self._judge_image(step, call, task, model)
            elif call.verb == "GetStatus":
                self._judge_status(step, call, model)
            elif call.verb in _LOOKS:
                self._judge_look(step, call, model)
        for stream in self._listed.get(step.revision, ()):
            self._judge_state(step, stream, model)

    def _judge_task(self, step: Step, call: Call, model: Model) -> None:
        task = call.answer.task
        self._judge_image(step, call, task, model)
        told = {(d.from_task_id, d.to_task_id, d.type) for d in call.answer.dependencies}
        there = {
            key
            for key in model.dependencies
            if task.id in key[:2]
            and not any(model.tasks[e].deleted for e in key[:2] if e != task.id)
        }
        if told != there:
            self.violated(
                f"GetTask showed dependencies {sorted(told)}, but at revision {step.revision} "
                f"there were {sorted(there)}",
                revision=step.revision,
                tasks=[task.id],
                call=call,
            )

    def _judge_image(self, step: Step, call: Call, task: Any, model: Model) -> None:
        self.judged += 1
        state = model.tasks.get(task.id)
        if state is None or not same(state.image, task):
            was = "not there" if state is None else _difference(state.image, task)
            self.violated(
                f"{call.verb} showed {task.id} at revision {step.revision} other than it was: "
                f"{was}",
                revision=step.revision,
                tasks=[task.id],
                call=call,
            )

    def _judge_why(self, step: Step, call: Call, model: Model) -> None:
        """Nothing is in the way where nothing is; what time alone takes away is not looked at."""
        self._judge_image(step, call, call.answer.task, model)
        task, worker = model.tasks.get(call.ask.task_id), model.worker(call.worker_id)
        if task is None or task.holder == call.worker_id or task.image.HasField("not_before"):
            return
        free = (
            model.is_ready(task)
            and worker.connected
            and not model.paused
            and model.admits(worker, task)
            and model.may_claim(worker, task)
            and model.room(task.image.workflow) > 0
            and model.begun(worker) - (task.id in worker.shares) < worker.image.max_claims
        )
        told = [one for one in call.answer.obstacles if one.type != _RESTS]
        if free == bool(told):
            self.violated(
                f"ExplainTask told of {[one.message for one in told]}, but {task.id} "
                f"{'could' if free else 'could not'} be taken by {call.worker_id}",
                revision=step.revision,
                tasks=[task.id],
                workers=[call.worker_id],
                call=call,
            )

    def _judge_status(self, step: Step, call: Call, model: Model) -> None:
        answer = call.answer
        connected = [worker for worker in model.workers.values() if worker.connected]
        told: dict[str, Any] = {
            "tasks by status": {k: n for k, n in answer.tasks_by_status.items() if n},
            "ready": answer.ready_tasks,
            "claimed": answer.claimed_tasks,
            "workers": answer.connected_workers,
            "paused": answer.HasField("paused"),
            "paused subtrees": {one.task_id for one in answer.paused_subtrees},
            "unmatched": answer.unmatched_tasks,
            "over budget": set(answer.over_budget_task_ids),
        }
        true: dict[str, Any] = {
            "tasks by status": {k: n for k, n in model.statuses.items() if n},
            "ready": len(model.ready),
            "claimed": sum(len(worker.held) for worker in model.workers.values()),
            "workers": len(connected),
            "paused": model.paused,
            "paused subtrees": {id_ for id_ in model.paused_tasks if not model.tasks[id_].deleted},
            "unmatched": sum(
                not any(model.admits(worker, model.tasks[id_]) for worker in connected)
                for id_ in model.ready
            ),
            "over budget": {id_ for id_ in model.spent if not model.tasks[id_].deleted},
        }
        for what, value in true.items():
            if told[what] != value:
                self.violated(
                    f"GetStatus at revision {step.revision} told {what}: {told[what]}, but it was "
                    f"{value}",
                    revision=step.revision,
                    call=call,
                )

    def _judge_look(self, step: Step, call: Call, model: Model) -> None:
        """What was told of marks, attachments, gates or costs."""
        self.judged += 1
        told, true = _LOOKS[call.verb](call, model)
        if told != true:
            self.violated(
                f"{call.verb} told {told} at revision {step.revision}, but it was {true}",
                revision=step.revision,
                tasks=[getattr(call.ask, "task_id", "")],
                call=call,
            )

    def _judge_state(self, step: Step, stream: Stream, model: Model) -> None:
        """The state that a watch begins with; of a filter, only that what is listed is true."""
        listed = {
            event.task.id: event.task
            for contents in stream.listed
            for event in v1.WatchTasksResponse.FromString(contents).events.events
        }
        wrong = [
            id_
            for id_, task in listed.items()
            if id_ not in model.tasks or not same(model.tasks[id_].image, task)
        ]
        if not stream.filter:
            there = {id_ for id_, task in model.tasks.items() if not task.deleted}
            wrong += sorted(there ^ set(listed))
        elif stream.ask.filter.statuses:
            statuses = set(stream.ask.filter.statuses)
            wrong += sorted(
                id_
                for id_, task in model.tasks.items()
                if not task.deleted and task.image.status in statuses and id_ not in listed
            )
        if wrong:
            self.violated(
                f"the state that a watch began with at revision {step.revision} is not the "
                f"graph's: {', '.join(wrong[:5])}",
                revision=step.revision,
                tasks=wrong[:1],
                stream=stream,
            )


def _marks(call: Call, model: Model) -> tuple[Any, Any]:
    told = {(mark.path, mark.worker_id): mark for mark in call.answer.marks}
    return told, model.marks


def _attachments(call: Call, model: Model) -> tuple[Any, Any]:
    told = {(one.type, one.sequence): one for one in call.answer.attachments}
    true = {
        (type_, sequence): one
        for (task_id, type_, sequence), one in model.attachments.items()
        if task_id == call.ask.task_id
    }
    return told, true


def _passes(call: Call, model: Model) -> tuple[Any, Any]:
    """Whether the worker that asks could complete the task: by a move there is, past its gates."""
    image = model.tasks[call.ask.task_id].image
    workflow = model.rules.of(image)
    completed = v1.Task()
    completed.CopyFrom(image)
    completed.status = workflow.completed
    leads = completed.status in (image.status, *workflow.exits[image.status])
    overlays = model.worker(call.worker_id).image.overlays
    asked = model.rules.gates(image, completed, image.status, overlays)
    there = {type_ for task_id, type_, _ in model.attachments if task_id == image.id}
    return call.answer.passes, leads and asked <= there


def _costs(call: Call, model: Model) -> tuple[Any, Any]:
    cost, attempts = model.spending(call.ask.task_id)
    told: list[Any] = [call.answer.metrics.cost_usd, call.answer.attempts]
    true: list[Any] = [cost, attempts]
    image = model.tasks[call.ask.task_id].image
    if image.HasField("max_cost_usd"):
        told += [call.answer.budget.cost_usd, call.answer.budget.spent]
        true += [cost, image.id in model.spent]
    return told, true


# By verb: what was told, and what was true at its revision.
_LOOKS = {
    "ListFileMarks": _marks,
    "ListAttachments": _attachments,
    "CheckGates": _passes,
    "GetMetrics": _costs,
}


def _difference(image: Any, task: Any) -> str:
    """The fields in which two tasks differ."""
    names = {field.name for one in (image, task) for field, _ in one.ListFields()}
    return ", ".join(
        f"{name} {getattr(image, name)!s} / {getattr(task, name)!s}".replace("\n", " ")
        for name in sorted(names)
        if getattr(image, name) != getattr(task, name)
    )
