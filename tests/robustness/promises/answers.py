"""What answers say: of registrations, claims, the graph, and what is done beside."""

from taskloom import v1

from tests.robustness.history import Step
from tests.robustness.model import Model
from tests.robustness.promises.judging import event_of, judges, same, shown
from tests.robustness.recording import Call

_CLAIMS = (v1.EVENT_TYPE_TASK_CLAIMED, v1.EVENT_TYPE_ADVISORY_CLAIM_MADE)


@judges("CreateTask", "CreateTaskTree")
def _created(call: Call, step: Step, model: Model) -> str:
    answer = call.answer
    for task in [answer.task] if call.verb == "CreateTask" else answer.tasks:
        if event_of(step, v1.EVENT_TYPE_TASK_CREATED, task_id=task.id) is None:
            return f"{task.id} was not created by it"
        if not shown(step, task):
            return f"{task.id} is not as it was answered"
    return ""


@judges("ClaimTask")
def _claimed(call: Call, step: Step, model: Model) -> str:
    task = call.answer.task
    made = event_of(step, *_CLAIMS, task_id=task.id)
    if made is not None and made.worker_id == call.worker_id and shown(step, task):
        return ""
    state = model.tasks.get(task.id)  # what one holds is claimed anew without an event
    if state is None or call.worker_id not in (state.holder, *state.advisory):
        return f"{call.worker_id} did not hold {task.id}"
    return "" if same(state.image, task) else f"{task.id} is not as it was answered"


@judges("ClaimNextTask")
def _claimed_next(call: Call, step: Step, model: Model) -> str:
    given = [task.id for task in call.answer.tasks]
    if not given:
        return ""
    made = [
        event.task_id
        for event in step.events
        if event.type in _CLAIMS and event.worker_id == call.worker_id
    ]
    if made != given:
        return f"it was given {given}, and in the history {made}"
    strange = [task.id for task in call.answer.tasks if not shown(step, task)]
    return f"{strange} are not as they were answered" if strange else ""


@judges("ReleaseTask", "CompleteTask", "FailTask")
def _ended(call: Call, step: Step, model: Model) -> str:
    types = {
        "ReleaseTask": (v1.EVENT_TYPE_TASK_RELEASED, v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED),
        "CompleteTask": (v1.EVENT_TYPE_TASK_COMPLETED,),
        "FailTask": (v1.EVENT_TYPE_TASK_FAILED, v1.EVENT_TYPE_TASK_RELEASED),
    }[call.verb]
    task_id = call.ask.task_id
    event = event_of(step, *types, task_id=task_id, reason=call.tag)
    if event is None or event.worker_id != call.worker_id:
        return f"{task_id} did not end so"
    if not shown(step, call.answer.task):
        return f"{task_id} is not as it was answered"
    return _unblocked(call, step)


def _unblocked(call: Call, step: Step) -> str:
    if call.verb == "ReleaseTask":
        return ""
    readied = [e.task_id for e in step.events if e.type == v1.EVENT_TYPE_TASK_READY]
    told = list(call.answer.unblocked_task_ids)
    return f"it unblocked {readied}, and was told {told}" if readied != told else ""


@judges("UpdateTask")
def _updated(call: Call, step: Step, model: Model) -> str:
    ask, answer = call.ask, call.answer
    if event_of(step, task_id=ask.task_id, reason=call.tag) is not None:
        return "" if shown(step, answer.task) else f"{ask.task_id} is not as it was answered"
    if ask.HasField("title"):
        return f"{ask.task_id} was not changed by it"
    # A status or an assignee that it had already.
    task = model.tasks.get(ask.task_id)
    alike = task is not None and same(task.image, answer.task)
    return "" if alike else f"{ask.task_id} is not as it was answered"


@judges("LogMetrics")
def _logged(call: Call, step: Step, model: Model) -> str:
    event = event_of(step, v1.EVENT_TYPE_TASK_UPDATED, task_id=call.ask.task_id)
    if event is None or event.task.metrics != call.answer.metrics:
        return f"{call.ask.task_id} does not have these sums"
    return ""


@judges("MarkFiles")
def _marked(call: Call, step: Step, model: Model) -> str:
    made = {e.file_mark.path for e in step.events if e.type == v1.EVENT_TYPE_FILE_MARKED}
    missing = [
        mark.path
        for mark in call.answer.marks
        if mark.path not in made or model.marks.get((mark.path, mark.worker_id)) != mark
    ]
    if missing:
        return f"{missing} are not marked so"
    paths = set(call.ask.paths)
    others = {key for key in model.marks if key[0] in paths and key[1] != call.worker_id}
    told = {(mark.path, mark.worker_id) for mark in call.answer.conflicts}
    return f"marks of others were {sorted(others)}, told {sorted(told)}" if others != told else ""


@judges("UnmarkFiles")
def _unmarked(call: Call, step: Step, model: Model) -> str:
    for path in call.answer.unmarked_paths:
        if (path, call.worker_id) in model.marks:
            return f"{path} is still marked"
    gone = [
        event.file_mark.path
        for event in step.events
        if event.type == v1.EVENT_TYPE_FILE_UNMARKED and event.reason == call.tag
    ]
    told = list(call.answer.unmarked_paths)
    return f"marks on {gone} went, told {told}" if sorted(gone) != sorted(told) else ""


@judges("Attach", "UploadAttachment")
def _attached(call: Call, step: Step, model: Model) -> str:
    event = event_of(step, v1.EVENT_TYPE_ATTACHMENT_ADDED, task_id=call.ask.task_id)
    if event is None or event.attachment != call.answer.attachment:
        return "the attachment is not there so"
    return ""


@judges("Detach")
def _detached(call: Call, step: Step, model: Model) -> str:
    ask = call.ask
    if event_of(step, v1.EVENT_TYPE_ATTACHMENT_REMOVED, task_id=ask.task_id) is None or (
        (ask.task_id, ask.type, ask.sequence) in model.attachments
    ):
        return "the attachment is still there"
    return ""


@judges("Connect")
def _connected(call: Call, step: Step, model: Model) -> str:
    worker = model.worker(call.answer.worker.id)
    event = event_of(step, v1.EVENT_TYPE_WORKER_CONNECTED)
    if event is None or event.worker_id != worker.image.id:
        return "it did not connect"
    held = {task.id for task in call.answer.held_tasks}
    return f"it held {sorted(worker.held)}, told {sorted(held)}" if held != worker.held else ""


@judges("Disconnect")
def _disconnected(call: Call, step: Step, model: Model) -> str:
    worker = model.worker(call.worker_id)
    if worker.connected:
        return "it is still connected"
    if worker.held or worker.shares:
        return f"it still holds {sorted(worker.held | worker.shares)}"
    made = [
        event.task_id
        for event in step.events
        if event.type == v1.EVENT_TYPE_TASK_RELEASED and event.reason == call.tag
    ]
    told = list(call.answer.released_task_ids)
    return f"it released {made}, told {told}" if sorted(made) != sorted(told) else ""


@judges("Heartbeat")
def _alive(call: Call, step: Step, model: Model) -> str:
    worker, answer = model.worker(call.worker_id), call.answer
    if answer.worker.claims_held != model.begun(worker):
        all_held = sorted(worker.held | worker.shares)
        return f"it held {all_held}, told that it holds {answer.worker.claims_held}"
    held = [model.tasks[id_] for id_ in worker.held]
    fixed = {task.id for task in held if task.fixed_until}
    if fixed != set(answer.over_budget_task_ids):
        told = sorted(answer.over_budget_task_ids)
        return f"{sorted(fixed)} were over budget, told {told}"
    leases = [
        task.lease_ms
        for task in held
        if task.image.HasField("lease_expire_time") and not task.fixed_until
    ]
    for id_ in worker.shares:
        leases.append(model.tasks[id_].advisory[call.worker_id].lease.ToMilliseconds())
    least = None
    if answer.HasField("lease_expire_time"):
        until = answer.lease_expire_time.ToMilliseconds()
        least = until - answer.worker.heartbeat_time.ToMilliseconds()
    if least != min(leases, default=None):
        return f"it was told of a lease of {least} ms, and has {sorted(leases)}"
    return ""


@judges("SignalTask", "BoostTask")
def _warmed(call: Call, step: Step, model: Model) -> str:
    types = {
        "SignalTask": v1.EVENT_TYPE_TASK_SIGNALED,
        "BoostTask": v1.EVENT_TYPE_TASK_BOOSTED,
    }
    event = event_of(step, types[call.verb], task_id=call.ask.task_id, reason=call.tag)
    if event is None or event.task != call.answer.task:
        return f"{call.ask.task_id} was not warmed by it"
    return ""


@judges("LinkTasks")
def _linked(call: Call, step: Step, model: Model) -> str:
    one = call.answer.dependency
    key = one.from_task_id, one.to_task_id, one.type
    if key not in model.dependencies:
        return "the dependency is not there"
    if call.answer.created:
        event = event_of(step, v1.EVENT_TYPE_DEPENDENCY_ADDED, task_id=one.to_task_id)
        return "" if event is not None else "the dependency was not made by it"
    return ""


@judges("UnlinkTasks")
def _unlinked(call: Call, step: Step, model: Model) -> str:
    ask = call.ask
    left = [d for d in model.dependencies if d[:2] == (ask.from_task_id, ask.to_task_id)]
    if left and not ask.type:
        return "a dependency is still there"
    gone = [
        event.dependency for event in step.events if event.type == v1.EVENT_TYPE_DEPENDENCY_REMOVED
    ]
    missing = [one for one in call.answer.removed if one not in gone]
    return "the dependency was not removed by it" if missing else ""


@judges("DeleteTask")
def _deleted(call: Call, step: Step, model: Model) -> str:
    for task_id in call.answer.deleted_task_ids:
        if event_of(step, v1.EVENT_TYPE_TASK_DELETED, task_id=task_id) is None:
            return f"{task_id} was not deleted by it"
    task = model.tasks.get(call.ask.task_id)
    return "" if task is not None and task.deleted else "the task is not deleted"


@judges("Pause", "Resume")
def _paused(call: Call, step: Step, model: Model) -> str:
    task_id = call.ask.task_id
    paused = task_id in model.paused_tasks if task_id else model.paused
    if paused != (call.verb == "Pause"):
        return f"claims are {'' if paused else 'not '}paused"
    return ""
