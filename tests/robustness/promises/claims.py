"""At most one holder, only whom the rules admit, and the best task to whom asks for one."""

import math
from collections import Counter
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model, TaskState, WorkerState
from tests.robustness.recording import Call

_DAY_MS = 24 * 3600 * 1000
_ALIKE = 1e-6
_NOTHING = (
    v1.CLAIM_OUTCOME_NONE_READY,
    v1.CLAIM_OUTCOME_ALL_DONE,
    v1.CLAIM_OUTCOME_WIP_LIMIT,
    v1.CLAIM_OUTCOME_FILES_LOCKED,
)


class Exclusive(Promise):
    """At most one worker holds a task exclusively at any revision."""

    name = "exclusive"

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        if not event.HasField("task"):
            return
        task, after = model.tasks.get(event.task_id), event.task
        self.judged += bool(after.claim_revision)
        if task is None or not task.claim:
            if after.claim_revision and after.claim_revision != step.revision:
                self.violated(
                    f"a claim begins at revision {step.revision}, but its token is "
                    f"{after.claim_revision}",
                    revision=step.revision,
                    tasks=[event.task_id],
                )
            return
        if after.claim_revision and (
            after.worker_id != task.holder or after.claim_revision != task.claim
        ):
            self.violated(
                f"{event.task_id} was given to {after.worker_id} by claim {after.claim_revision} "
                f"while {task.holder} held it by claim {task.claim}",
                revision=step.revision,
                tasks=[event.task_id],
                workers=[after.worker_id, task.holder],
            )


class Admission(Promise):
    """Nobody is given a task that the rules keep from him."""

    name = "admission"

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        if event.type not in (
            v1.EVENT_TYPE_TASK_CLAIMED,
            v1.EVENT_TYPE_ADVISORY_CLAIM_MADE,
        ) or step.is_take_over(event):
            return
        self.judged += 1
        task = model.tasks.get(event.task_id)
        if task is None:
            why = "there is no such task"
        else:
            why = self._why_not(step, task, model.worker(event.worker_id), model)
        if why:
            self.violated(
                f"{event.worker_id} was given {event.task_id}, although {why}",
                revision=step.revision,
                tasks=[event.task_id],
                workers=[event.worker_id],
            )

    def _why_not(self, step: Step, task: TaskState, worker: WorkerState, model: Model) -> str:
        workflow = model.workflow_of(task)
        mine = task.holder == worker.image.id and task.image.status == workflow.assigned
        if not worker.connected:
            return "it is not connected"
        if task.deleted:
            return "it is deleted"
        if not mine and task.image.status != workflow.initial:
            return f"it was {task.image.status}"
        if blockers := model.unmet_blockers(task.id):
            return f"it is blocked by {', '.join(sorted(blockers))}"
        if children := model.open_children(task.id):
            return f"its children {', '.join(sorted(children))} are open"
        if task.image.HasField("not_before") and (
            task.image.not_before.ToMilliseconds() > step.time
        ):
            return "its not_before had not passed"
        if not model.admits(worker, task):
            return "its tags do not do"
        if not mine and not model.may_claim(worker, task):
            return "its role begins only what is assigned to it"
        if model.paused or model.is_paused(task):
            return "claims were paused"
        if model.is_over_budget(task.image):
            return "it was over budget"
        if worker.rests_until > step.time:
            return "it was resting"
        held = model.begun(worker) - (task.id in worker.shares)
        if mine:
            held -= sum(_is_assigned(model.tasks[id_], model) for id_ in worker.held)
        if held >= worker.image.max_claims:
            return f"it held {held} tasks already, its limit"
        return ""


def _is_assigned(task: TaskState, model: Model) -> bool:
    return bool(task.image.status == model.workflow_of(task).assigned)


class BestFirst(Promise):
    """Who asks for the best task is given the best, or told truly why there is none."""

    name = "best first"

    def before(self, step: Step, model: Model) -> None:  # noqa: D102
        for call in step.calls:
            if call.verb == "ClaimNextTask" and call.answer.tasks:
                self._judge_tasks(step, call, model)

    def _judge_tasks(self, step: Step, call: Call, model: Model) -> None:
        self.judged += 1
        ask, answer = call.ask, call.answer
        worker = model.worker(ask.worker_id)
        room = worker.image.max_claims - model.begun(worker)
        hottest = ask.order_by == v1.ORDER_BY_TEMPERATURE
        best = sorted(
            (t for t in model.takable(worker, ask.parent_id) if _is_wanted(t, ask)),
            key=lambda t: (bool(t.advisory), -_heat(t) if hottest else -t.image.priority, t.number),
        )
        best = _first_with_room(best, min(ask.max_tasks or 1, room), ask, model)
        expected = [task.id for task in best]
        given = [task.id for task in answer.tasks]
        alike = hottest and len(given) == len(expected) and _as_hot(given, best, model)
        if given != expected and not alike:
            self.violated(
                f"{ask.worker_id} was given {given}, but the best were {expected}",
                revision=step.revision,
                tasks=sorted(set(given) ^ set(expected)),
                workers=[ask.worker_id],
                call=call,
            )
        elif locks := model.lock_holders(ask.worker_id, ask.files):
            self.violated(
                f"{ask.worker_id} was given {given}, although others held {sorted(locks)}",
                revision=step.revision,
                tasks=given,
                workers=[ask.worker_id],
                call=call,
            )

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        for call in step.calls:
            if call.verb == "ClaimNextTask" and not call.answer.tasks:
                self.judged += 1
                why = self._why_false(call, model)
                if why:
                    outcome = v1.ClaimOutcome.Name(call.answer.outcome)
                    self.violated(
                        f"{call.ask.worker_id} was answered {outcome} at revision "
                        f"{step.revision}, although {why}",
                        revision=step.revision,
                        workers=[call.ask.worker_id],
                        call=call,
                    )

    def _why_false(self, call: Call, model: Model) -> str:
        """Why the outcome is not true of the revision that it was seen at."""
        ask, outcome = call.ask, call.answer.outcome
        worker = model.worker(ask.worker_id)
        if model.paused != (outcome == v1.CLAIM_OUTCOME_PAUSED):
            return "claims were paused" if model.paused else "claims were not paused"
        held = model.begun(worker)
        full = held >= worker.image.max_claims
        if not model.paused and full != (outcome == v1.CLAIM_OUTCOME_LIMIT_REACHED):
            return f"it held {held} of {worker.image.max_claims}"
        if outcome not in _NOTHING:
            return ""
        is_done = not self._any_open(ask.parent_id, model)
        locks = model.lock_holders(ask.worker_id, ask.files)
        if outcome == v1.CLAIM_OUTCOME_FILES_LOCKED and not locks:
            return "nobody held its locks"
        if locks:
            told = {(mark.path, mark.worker_id) for mark in call.answer.conflicts}
            if told != locks and outcome == v1.CLAIM_OUTCOME_FILES_LOCKED:
                return f"it was told of the locks {sorted(told)}, and others held {sorted(locks)}"
            expected = v1.CLAIM_OUTCOME_FILES_LOCKED
            return "its locks were held" if not is_done and outcome != expected else ""
        full = False
        for task in model.takable(worker, ask.parent_id):
            if _is_wanted(task, ask):
                if ask.mode == v1.CLAIM_MODE_ADVISORY or model.room(task.image.workflow) > 0:
                    return f"{task.id} was ready for it"
                full = True
        if full != (outcome == v1.CLAIM_OUTCOME_WIP_LIMIT):
            return "a limit kept it from a task" if full else "no limit kept it from any task"
        if not full and is_done != (outcome == v1.CLAIM_OUTCOME_ALL_DONE):
            return "all was done" if is_done else "not all was done"
        return ""

    def _any_open(self, scope: str, model: Model) -> bool:
        still_open = model.rules.open_statuses()
        if not scope:
            return any(n for status, n in model.statuses.items() if status in still_open)
        below = list(model.children.get(scope, ()))
        while below:
            id_ = below.pop()
            task = model.tasks[id_]
            if not task.deleted and task.image.status in still_open:
                return True
            below.extend(model.children.get(id_, ()))
        return False


def _first_with_room(best: list[TaskState], most: int, ask: Any, model: Model) -> list[TaskState]:
    """The first of the best, without those for which the limits of their workflows have no room."""
    first: list[TaskState] = []
    given: Counter[str] = Counter()
    for task in best:
        workflow = task.image.workflow
        has_room = given[workflow] < model.room(workflow)
        if len(first) < most and (has_room or ask.mode == v1.CLAIM_MODE_ADVISORY):
            first.append(task)
            given[workflow] += 1
    return first


def _is_wanted(task: TaskState, ask: Any) -> bool:
    """Whether a task is of use: an advisory claim on it one may have already."""
    return ask.mode != v1.CLAIM_MODE_ADVISORY or ask.worker_id not in task.advisory


def _heat(task: TaskState) -> float:
    """What orders tasks by temperature: it halves every day, for all alike."""
    days: float = task.image.temperature_time.ToMilliseconds() / _DAY_MS
    temperature: float = max(task.image.temperature, 2.0**-20)
    return math.log2(temperature) + days


def _as_hot(given: list[str], best: list[TaskState], model: Model) -> bool:
    """Whether tasks are as hot as the best, but for what is lost in showing a temperature."""
    return all(
        bool(model.tasks[id_].advisory) == bool(task.advisory)
        and abs(_heat(model.tasks[id_]) - _heat(task)) < _ALIKE
        for id_, task in zip(given, best, strict=False)
    )
