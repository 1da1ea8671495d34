"""Limits on work: how much of it may be in a state, and what it may cost."""

from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model

# What brings a task into a state for work; what gives it back or restores it is never refused.
_BRINGS = frozenset({v1.EVENT_TYPE_TASK_CLAIMED, v1.EVENT_TYPE_TASK_MOVED})


class WipLimits(Promise):
    """No claim, assignment or move brings more tasks into a state than its limit allows."""

    name = "wip limits"

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        restored = {e.task_id for e in step.events if e.type == v1.EVENT_TYPE_TASK_RESTORED}
        for event in step.events:
            if event.type not in _BRINGS or event.task_id in restored:
                continue
            workflow = model.rules.of(event.task)
            limit = workflow.limits.get(event.task.status)
            if limit is None or not event.previous_status or event.task_id not in model.tasks:
                continue
            if model.tasks[event.task_id].image.status != event.task.status:
                continue  # it has left by now
            self.judged += 1
            count = model.in_state[event.task.workflow, event.task.status]
            if count > limit:
                self.violated(
                    f"{event.task_id} is the {count}th task {event.task.status} of workflow "
                    f"{event.task.workflow}, which allows {limit}",
                    revision=step.revision,
                    tasks=[event.task_id],
                    workers=[event.worker_id],
                )


class Budgets(Promise):
    """A budget is said to be spent exactly while it is, and nothing over budget is assigned.

    That it is neither claimed nor renewed, ``Admission`` and ``Leases`` see to.
    """

    name = "budgets"

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        if not event.HasField("task") or event.type != v1.EVENT_TYPE_TASK_MOVED:
            return
        task = model.tasks.get(event.task_id)
        if task is None or task.claim or not event.task.claim_revision:
            return
        self.judged += 1
        if model.is_over_budget(event.task):
            self.violated(
                f"{event.task_id} was assigned to {event.task.worker_id}, although it was over "
                "budget",
                revision=step.revision,
                tasks=[event.task_id],
                workers=[event.task.worker_id],
            )

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        touched: set[str] = set()
        for event in step.events:
            for task_id in _named(event):
                task = model.tasks.get(task_id)
                if task is not None:
                    touched.update(model.line(task.image))
        for task_id in touched:
            task = model.tasks[task_id]
            image = task.image
            said = task_id in model.spent
            if not (
                said or image.HasField("max_cost_usd") or image.HasField("max_subtree_attempts")
            ):
                continue
            self.judged += 1
            if said != model.overspends(task):
                self.violated(
                    f"the budget of {task_id} is {'not ' if said else ''}spent, and said to be "
                    f"{'' if said else 'not '}so",
                    revision=step.revision,
                    tasks=[task_id],
                )


def _named(event: Any) -> tuple[str, ...]:
    """The tasks that an event is about, under the ids that they have by it."""
    if event.HasField("dependency"):
        return event.dependency.from_task_id, event.dependency.to_task_id
    return (event.task.id,) if event.HasField("task") else (event.task_id,)
