"""No move that the workflow forbids, and a task is ready when the graph says so."""

from collections import defaultdict
from typing import Any

from taskloom import v1

from tests.robustness.history import Promise, Step
from tests.robustness.model import Model, TaskState, is_expiry
from tests.robustness.recording import Talk, number_of

# So long a stream may seem open to the server after its client has given it up.
_STREAM_MS = 5_000
# Which event may change a status, and into which of the workflow's states.
_TO = {
    v1.EVENT_TYPE_TASK_CLAIMED: "claimed",
    v1.EVENT_TYPE_TASK_COMPLETED: "completed",
    v1.EVENT_TYPE_TASK_FAILED: "failed",
    v1.EVENT_TYPE_TASK_LEASE_EXPIRED: "disconnected",
    v1.EVENT_TYPE_TASK_RELEASED: "initial",
}
_AFTER_DELETION = (v1.EVENT_TYPE_TASK_UPDATED, v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED)
_COMES_OR_GOES = (v1.EVENT_TYPE_TASK_DELETED, v1.EVENT_TYPE_TASK_RESTORED)
_HOLDS_ALL_BELOW = (
    v1.EVENT_TYPE_PAUSED,
    v1.EVENT_TYPE_RESUMED,
    v1.EVENT_TYPE_BUDGET_SPENT,
    v1.EVENT_TYPE_BUDGET_FREED,
)
_MAY_MOVE = frozenset({*_TO, v1.EVENT_TYPE_TASK_CANCELLED, v1.EVENT_TYPE_TASK_MOVED})


class Transitions(Promise):
    """A task moves along the exits of its workflow, and nowhere else."""

    name = "transitions"

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        if not event.HasField("task"):
            return
        task = model.tasks.get(event.task_id)
        self.judged += bool(event.previous_status)
        why = (
            self._why_born_wrong(event, model)
            if task is None
            else self._why_not(event, task, model)
        )
        if why:
            self.violated(
                f"{event.task_id}: {v1.EventType.Name(event.type)}, {why}",
                revision=step.revision,
                tasks=[event.task_id],
                workers=[event.worker_id],
            )

    def _why_born_wrong(self, event: Any, model: Model) -> str:
        if event.type != v1.EVENT_TYPE_TASK_CREATED:
            return "but nobody created it"
        if event.task.status != model.rules.of(event.task).initial:
            return f"but it begins as {event.task.status}"
        return ""

    def _why_not(self, event: Any, task: TaskState, model: Model) -> str:
        workflow = model.workflow_of(task)
        before, after = task.image, event.task
        if event.type == v1.EVENT_TYPE_TASK_CREATED:
            return "but there is one already"
        if task.deleted:
            # What it consumed may be reported still, and who worked on it is told that it is over.
            if event.type == v1.EVENT_TYPE_TASK_RESTORED and not after.HasField("delete_time"):
                return "" if after.status == before.status else f"but it was {before.status}"
            is_late = event.type in _AFTER_DELETION and not after.claim_revision
            return "" if is_late and after.status == before.status else "but it is deleted"
        wanted = _TO.get(event.type)
        if wanted is not None and after.status != getattr(workflow, wanted):
            return f"which leaves it {after.status}"
        if before.status == after.status:
            return ""
        way = f"from {before.status} to {after.status}"
        if event.previous_status != before.status:
            return f"{way}, but it says that it was {event.previous_status!r} before"
        if event.type not in _MAY_MOVE:
            return f"which cannot move it {way}"
        if after.status in workflow.terminal and after.claim_revision:
            return f"{way}, with its claim"
        if after.status in workflow.exits[before.status]:
            return ""
        if is_expiry(event) and after.status == workflow.failed:
            return ""  # also of a task that was assigned and never begun: it may not circle
        if event.type == v1.EVENT_TYPE_TASK_COMPLETED and not task.claim:
            if task.lapsed is not None and task.lapsed[0] == event.worker_id:
                return ""  # late work is accepted while nobody took the task since
            has_children = any(
                not model.tasks[id_].deleted for id_ in model.children.get(task.id, ())
            )
            is_done = not model.open_children(task.id) and not model.unmet_blockers(task.id)
            if not event.worker_id and has_children and is_done:
                return ""  # rolled up
        return f"{way}, which the workflow does not allow"


class Attempts(Promise):
    """Failed attempts are counted, and a task that has spent them fails."""

    name = "attempts"

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        task = model.tasks.get(event.task_id) if event.HasField("task") else None
        if task is None:
            return
        before, after = task.image, event.task
        failed = model.workflow_of(task).failed
        more = after.attempts - before.attempts
        self.judged += more > 0
        problem = ""
        begun = before.status != model.workflow_of(task).assigned
        if is_expiry(event) and not begun:
            if more or after.status == failed:
                problem = f"nobody began it, and {more} attempts were counted: {after.status}"
        elif is_expiry(event):
            if more != 1:
                problem = f"a lease ran out, and attempts went by {more}"
            elif (after.attempts >= after.max_attempts) != (after.status == failed):
                problem = (
                    f"after attempt {after.attempts} of {after.max_attempts} it is {after.status}"
                )
        elif event.type == v1.EVENT_TYPE_TASK_FAILED:
            if more != 1:
                problem = f"it failed, and attempts went by {more}"
        elif more > 0 and event.type != v1.EVENT_TYPE_TASK_RELEASED:
            problem = f"{v1.EventType.Name(event.type)} counted an attempt"
        elif more > 0 and after.attempts >= after.max_attempts:
            problem = f"it goes back after attempt {after.attempts} of {after.max_attempts}"
        if not problem and is_expiry(event) and begun and after.status != failed:
            problem = self._wrong_rest(event, before)
        if problem:
            self.violated(
                f"{event.task_id}: {problem}", revision=step.revision, tasks=[event.task_id]
            )

    def _wrong_rest(self, event: Any, before: Any) -> str:
        """A failed attempt is followed by a rest, doubled with every one before.

        A not_before that was set already, and is later, stands.
        """
        after = event.task
        if before.HasField("not_before") and before.not_before == after.not_before:
            return ""
        rest = after.retry_delay.ToMilliseconds() << (after.attempts - 1)
        told = 0
        if after.HasField("not_before"):
            told = after.not_before.ToMilliseconds() - event.time.ToMilliseconds()
        return f"it rests for {told} ms instead of {rest}" if told != rest else ""


class Readiness(Promise):
    """A task is shown as ready exactly when blockers, children, time and status allow it."""

    name = "readiness"

    def after(self, step: Step, model: Model) -> None:  # noqa: D102
        touched: set[str] = set()
        for event in step.events:
            if not event.task_id or event.task_id not in model.tasks:
                continue
            touched.add(event.task_id)
            if event.type in _HOLDS_ALL_BELOW:
                touched |= _below(event.task_id, model)
            if event.HasField("dependency"):
                touched.add(event.dependency.from_task_id)
                if event.dependency.type == v1.DEPENDENCY_TYPE_CONTAINS:
                    touched |= _below(event.dependency.to_task_id, model)
            if event.HasField("task"):
                if event.previous_status or event.type in _COMES_OR_GOES:
                    touched |= model.dependents.get(event.task_id, set())
                if event.task.parent_id:
                    touched.add(event.task.parent_id)
        for task_id in touched:
            task = model.tasks.get(task_id)
            if task is None:
                continue
            ready = model.is_ready(task)
            self.judged += 1
            if bool(task.image.ready) != ready and not task.deleted:
                self.violated(
                    f"{task_id} is shown as {'' if task.image.ready else 'not '}ready, but by the "
                    f"graph it is {'' if ready else 'not '}so: blockers "
                    f"{sorted(model.unmet_blockers(task_id))}, children "
                    f"{sorted(model.open_children(task_id))}",
                    revision=step.revision,
                    tasks=[task_id],
                )


def _below(task_id: str, model: Model) -> set[str]:
    """All below a task."""
    found: set[str] = set()
    line = [task_id]
    while line:
        children = model.children.get(line.pop(), set()) - found
        found |= children
        line += children
    return found


class Explained(Promise):
    """Nothing happens that nobody asked for, and nothing that was asked for once happens twice."""

    name = "once"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._calls = {call.number: call for call in self.history.calls}
        self._effects: dict[int, int] = {}  # the revision that each call made
        self._unknown_claims: dict[str, list[Any]] = {}
        self._talks: defaultdict[str, list[Talk]] = defaultdict(list)
        for talk in self.history.talks:
            self._talks[talk.worker_id].append(talk)  # what it did not tell, Streams judges
        for call in self.history.calls:
            if call.verb in ("ClaimTask", "ClaimNextTask") and call.unknown:
                self._unknown_claims.setdefault(call.worker_id, []).append(call)

    def event(self, step: Step, event: Any, model: Model) -> None:  # noqa: D102
        if event.type in (v1.EVENT_TYPE_TASK_CLAIMED, v1.EVENT_TYPE_ADVISORY_CLAIM_MADE):
            if not step.is_take_over(event):
                self._judge_claim(step, event)
            return
        tag = event.reason
        if event.type == v1.EVENT_TYPE_TASK_CREATED:
            tag = event.task.title
        elif event.type == v1.EVENT_TYPE_ATTACHMENT_ADDED:
            tag = event.attachment.name
        number = number_of(tag)
        if number is None:
            return
        call = self._calls.get(number)
        if call is None:
            self.violated(
                f"{tag} took effect, but nobody made it",
                revision=step.revision,
                tasks=[event.task_id],
            )
            return
        self.judged += 1
        made = self._effects.setdefault(number, step.revision)
        problem = ""
        if made != step.revision:
            problem = f"took effect twice, at revisions {made} and {step.revision}"
        elif call.unknown:
            pass  # also after an answer that is not remembered
        elif call.answer is not None and call.answer.revision != step.revision:
            problem = (
                f"was answered with revision {call.answer.revision}, "
                f"but took effect at {step.revision}"
            )
        elif call.answer is None:
            problem = f"was refused, but took effect at revision {step.revision}"
        if problem:
            self.violated(
                f"{call.verb} {tag} {problem}",
                revision=step.revision,
                tasks=[event.task_id],
                call=call,
            )

    def _judge_claim(self, step: Step, event: Any) -> None:
        for call in step.calls:
            if call.verb == "ClaimTask" and call.answer.task.id == event.task_id:
                return
            if call.verb == "ClaimNextTask" and event.task_id in (
                task.id for task in call.answer.tasks
            ):
                return
        for talk in self._talks.get(event.worker_id, ()):
            if talk.start <= step.time + 1 and step.time <= talk.end + _STREAM_MS:
                return
        for call in self._unknown_claims.get(event.worker_id, ()):
            asked = getattr(call.ask, "task_id", event.task_id)
            if asked == event.task_id and call.start <= step.time + 1:
                return
        self.violated(
            f"{event.worker_id} was given {event.task_id} without an answer or a call that says so",
            revision=step.revision,
            tasks=[event.task_id],
            workers=[event.worker_id],
        )
