"""What answers say: of tasks renamed, brought back, removed, changed together, and of thoughts."""

from taskloom import v1

from tests.robustness.history import Step
from tests.robustness.model import Model
from tests.robustness.promises.judging import event_of, judges, same, shown
from tests.robustness.recording import Call


@judges("UpdateTasks")
def _updated(call: Call, step: Step, model: Model) -> str:
    asked = list(dict.fromkeys(update.task_id for update in call.ask.updates))
    told = [task.id for task in call.answer.tasks]
    if told != asked:
        return f"{asked} were to be changed, told {told}"
    for update in call.ask.updates:
        made = event_of(step, task_id=update.task_id, reason=call.tag)
        if made is None and update.HasField("title"):
            return f"{update.task_id} was not changed by it"
    wrong = [task.id for task in call.answer.tasks if not _stands(model, task)]
    return f"{wrong} are not as they were answered" if wrong else ""


def _stands(model: Model, task: v1.Task) -> bool:
    """Whether a task is now as it was answered."""
    state = model.tasks.get(task.id)
    return state is not None and same(state.image, task)


@judges("RenameTask")
def _renamed(call: Call, step: Step, model: Model) -> str:
    old, new = call.ask.task_id, call.ask.new_task_id
    if old == new:  # which changes nothing
        return "" if _stands(model, call.answer.task) else f"{old} is not as it was answered"
    event = event_of(step, v1.EVENT_TYPE_TASK_RENAMED, task_id=old, reason=call.tag)
    if event is None or event.task.id != new:
        return f"{old} did not become {new} by it"
    if not event.left_filter:
        return f"{old} was not told to have gone"
    followed = {e.task_id for e in step.events if e.type == v1.EVENT_TYPE_TASK_UPDATED}
    below = {id_ for id_ in _below(new, model) if not model.tasks[id_].deleted}
    if missing := {new, *below} - followed:
        return f"{sorted(missing)} were not told of"
    return "" if shown(step, call.answer.task) else f"{new} is not as it was answered"


def _below(task_id: str, model: Model) -> list[str]:
    """What is below a task, and was not deleted with something above it."""
    found: list[str] = []
    line = [task_id]
    while line:
        live = [id_ for id_ in model.children.get(line.pop(), ()) if not model.tasks[id_].deleted]
        found += live
        line += live
    return found


@judges("RestoreTask")
def _restored(call: Call, step: Step, model: Model) -> str:
    for task in call.answer.tasks:
        if event_of(step, v1.EVENT_TYPE_TASK_RESTORED, task_id=task.id) is None:
            return f"{task.id} was not brought back by it"
        if model.tasks[task.id].deleted:
            return f"{task.id} is deleted"
        if not _stands(model, task):
            return f"{task.id} is not as it was answered"
    if not call.answer.tasks and model.tasks[call.ask.task_id].deleted:
        return f"{call.ask.task_id} is deleted"
    return ""


@judges("ObliterateTask")
def _obliterated(call: Call, step: Step, model: Model) -> str:
    told = set(call.answer.task_ids)
    gone = {e.task_id for e in step.events if e.type == v1.EVENT_TYPE_TASK_OBLITERATED}
    if told != gone:
        return f"{sorted(gone)} went, told {sorted(told)}"
    left = {edge for edge in model.dependencies if told.intersection(edge[:2])}
    return f"the dependencies {sorted(left)} are left" if left else ""


@judges("RelinkTasks")
def _relinked(call: Call, step: Step, model: Model) -> str:
    types = {
        v1.EVENT_TYPE_DEPENDENCY_REMOVED: call.answer.removed,
        v1.EVENT_TYPE_DEPENDENCY_ADDED: call.answer.added,
    }
    for type_, told in types.items():
        made = [event.dependency for event in step.events if event.type == type_]
        if missing := [one for one in told if one not in made]:
            return f"{len(missing)} dependencies were not changed by it"
    asked = {(d.from_task_id, d.to_task_id, d.type) for d in call.ask.add}
    if missing_edges := asked - model.dependencies:
        return f"{sorted(missing_edges)} are not there"
    return ""


@judges("SetThought")
def _thought(call: Call, step: Step, model: Model) -> str:
    worker, ask = model.worker(call.worker_id), call.ask
    if worker.image.current_thought != ask.thought:
        return f"it thinks {worker.image.current_thought!r}"
    about = {ask.task_id} if ask.task_id else worker.held | worker.shares
    told = set(call.answer.task_ids)
    if told != about:
        return f"it is about {sorted(about)}, told {sorted(told)}"
    other = [id_ for id_ in told if model.tasks[id_].image.current_thought != ask.thought]
    return f"{other} do not carry it" if other else ""


@judges("AddOverlay", "RemoveOverlay")
def _overlaid(call: Call, step: Step, model: Model) -> str:
    overlays = list(model.worker(call.worker_id).image.overlays)
    if overlays != list(call.answer.worker.overlays):
        return f"its overlays are {overlays}, told {list(call.answer.worker.overlays)}"
    lies = call.ask.overlay in overlays
    if lies != (call.verb == "AddOverlay"):
        return f"the overlay is {'' if lies else 'not '}there"
    return ""
