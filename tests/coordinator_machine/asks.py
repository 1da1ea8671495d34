"""Every call there is, made of the server as a request and of the model as a verb."""

from typing import Any

from taskloom import v1
from taskloom_server.service import show

from tests.coordinator_machine import claim_verbs, task_verbs, worker_verbs
from tests.coordinator_machine.pair import Pair
from tests.coordinator_machine.world import Next, Node, Terms

_TYPES: dict[str, Any] = {name: number for number, name in show.DEPENDENCY_TYPES.items()}
_MODES = {False: v1.CLAIM_MODE_EXCLUSIVE, True: v1.CLAIM_MODE_ADVISORY}
_ORDERS = {False: v1.ORDER_BY_PRIORITY, True: v1.ORDER_BY_TEMPERATURE}
_SIGNALS = {False: v1.SIGNAL_TYPE_PROGRESS, True: v1.SIGNAL_TYPE_BREAKTHROUGH}

Held = tuple[str, str, int]
"""A worker, a task, and the claim that is shown; 0: none."""


def _duration(ms: int) -> Any:
    return show.duration(ms or None)


# Workers, and the whole


def connect(pair: Pair, id: str, terms: Terms, *, remember: bool) -> None:
    """Register, or renew and change a registration."""
    request = v1.ConnectRequest(
        worker_id=id,
        tags=sorted(terms.tags),
        max_claims=terms.max_claims,
        lease=_duration(terms.lease),
        cool_down=_duration(terms.cool_down),
    )
    pair.call("Connect", request, worker_verbs.connect, id, terms, remember=remember)


def disconnect(pair: Pair, id: str, *, remember: bool) -> None:
    """End a registration."""
    request = v1.DisconnectRequest(worker_id=id)
    pair.call("Disconnect", request, worker_verbs.disconnect, id, remember=remember)


def heartbeat(pair: Pair, id: str) -> None:
    """Say that a worker lives."""
    pair.call("Heartbeat", v1.HeartbeatRequest(worker_id=id), worker_verbs.heartbeat, id)


def pause(pair: Pair, task_id: str, *, remember: bool) -> None:
    """Stop new claims, of everything or of a subtree."""
    request = v1.PauseRequest(by="eve", task_id=task_id)
    pair.call("Pause", request, worker_verbs.pause, task_id, remember=remember)


def resume(pair: Pair, task_id: str, *, remember: bool) -> None:
    """Let claims go on."""
    request = v1.ResumeRequest(by="eve", task_id=task_id)
    pair.call("Resume", request, worker_verbs.resume, task_id, remember=remember)


# Tasks


def _fields(node: Node) -> dict[str, Any]:
    """The fields that CreateTaskRequest and TaskNode have in common."""
    return {
        "id": node.id,
        "title": node.id,
        "priority": node.priority,
        "blocked_by": node.blocked_by,
        "needed_tags": sorted(node.needed),
        "wanted_tags": sorted(node.wanted),
        "not_before": show.timestamp(node.not_before),
        "max_attempts": node.max_attempts,
        "retry_delay": _duration(node.retry_delay),
    }


def create(pair: Pair, node: Node, parent: str, worker: str, *, remember: bool) -> None:
    """Add a task."""
    request = v1.CreateTaskRequest(**_fields(node), parent_id=parent, worker_id=worker)
    arguments = (node, parent, worker)
    pair.call("CreateTask", request, task_verbs.create, *arguments, remember=remember)


def create_tree(pair: Pair, root: Node, parent: str, worker: str, *, remember: bool) -> None:
    """Add a tree of tasks."""
    request = v1.CreateTaskTreeRequest(root=_tree(root), parent_id=parent, worker_id=worker)
    arguments = (root, parent, worker)
    pair.call("CreateTaskTree", request, task_verbs.create, *arguments, remember=remember)


def _tree(node: Node) -> v1.TaskNode:
    return v1.TaskNode(**_fields(node), children=map(_tree, node.children))


def link(pair: Pair, from_: str, to: str, type_: str, *, remember: bool) -> None:
    """Add a dependency."""
    request = v1.LinkTasksRequest(from_task_id=from_, to_task_id=to, type=_TYPES[type_])
    pair.call("LinkTasks", request, task_verbs.link, from_, to, type_, remember=remember)


def unlink(pair: Pair, from_: str, to: str, type_: str, *, remember: bool) -> None:
    """Remove a dependency; of no type: all from the one to the other."""
    type_number = _TYPES[type_] if type_ else v1.DEPENDENCY_TYPE_UNSPECIFIED
    request = v1.UnlinkTasksRequest(from_task_id=from_, to_task_id=to, type=type_number)
    pair.call("UnlinkTasks", request, task_verbs.unlink, from_, to, type_, remember=remember)


def update(
    pair: Pair,
    id: str,
    worker: str,
    *,
    claim: int = 0,
    etag: int = 0,
    remember: bool,
    **fields: Any,
) -> None:
    """Change a task; the fields are named as those of the model's task."""
    request = v1.UpdateTaskRequest(task_id=id, worker_id=worker, claim_revision=claim, etag=etag)
    for name, value in fields.items():
        match name:
            case "needed" | "wanted":
                getattr(request, f"{name}_tags").CopyFrom(v1.Tags(values=sorted(value)))
            case "not_before":
                request.not_before.FromMilliseconds(value)
            case "retry_delay":
                request.retry_delay.FromMilliseconds(value)
            case _:
                setattr(request, name, value)
    named = fields | {"claim": claim, "etag": etag, "remember": remember}
    pair.call("UpdateTask", request, task_verbs.update, id, worker, **named)


def delete(pair: Pair, id: str, worker: str, *, cascade: bool, force: bool, remember: bool) -> None:
    """Delete a task, or a whole subtree."""
    request = v1.DeleteTaskRequest(task_id=id, worker_id=worker, cascade=cascade, force=force)
    named = {"cascade": cascade, "force": force, "remember": remember}
    pair.call("DeleteTask", request, task_verbs.delete, id, worker, **named)


def signal(
    pair: Pair, id: str, worker: str, claim: int, *, breakthrough: bool, remember: bool
) -> None:
    """Tell of progress, or of a breakthrough."""
    request = v1.SignalTaskRequest(
        task_id=id, worker_id=worker, claim_revision=claim, type=_SIGNALS[breakthrough]
    )
    named = {"breakthrough": breakthrough, "remember": remember}
    pair.call("SignalTask", request, task_verbs.signal, id, worker, claim, **named)


def boost(pair: Pair, id: str, worker: str, amount: float, *, remember: bool) -> None:
    """Want attention for a task."""
    request = v1.BoostTaskRequest(task_id=id, worker_id=worker, boost=amount)
    pair.call("BoostTask", request, task_verbs.boost, id, worker, amount, remember=remember)


# Claims


def claim(pair: Pair, worker: str, id: str, lease: int, *, advisory: bool, remember: bool) -> None:
    """Take the task that is named."""
    request = v1.ClaimTaskRequest(
        worker_id=worker, task_id=id, lease=_duration(lease), mode=_MODES[advisory]
    )
    named = {"advisory": advisory, "remember": remember}
    pair.call("ClaimTask", request, claim_verbs.claim, worker, id, lease, **named)


def claim_next(pair: Pair, ask: Next, *, remember: bool) -> None:
    """Take the best tasks there are, or wait for one."""
    request = v1.ClaimNextTaskRequest(
        worker_id=ask.worker,
        max_tasks=ask.max_tasks,
        lease=_duration(ask.lease),
        parent_id=ask.scope,
        wait=_duration(ask.wait),
        wait_when_done=ask.when_done,
        order_by=_ORDERS[ask.hottest],
        mode=_MODES[ask.advisory],
    )
    pair.call("ClaimNextTask", request, claim_verbs.claim_next, ask, remember=remember)


def _named(held: Held) -> dict[str, Any]:
    return dict(zip(("worker_id", "task_id", "claim_revision"), held, strict=True))


def complete(pair: Pair, held: Held, *, remember: bool) -> None:
    """End a task well."""
    request = v1.CompleteTaskRequest(**_named(held))
    pair.call("CompleteTask", request, claim_verbs.complete, *held, remember=remember)


def release(pair: Pair, held: Held, *, remember: bool) -> None:
    """Give a task back."""
    request = v1.ReleaseTaskRequest(**_named(held))
    pair.call("ReleaseTask", request, claim_verbs.release, *held, remember=remember)


def fail(pair: Pair, held: Held, *, retry: bool, delay: int, remember: bool) -> None:
    """Say that the work failed; with a delay of 0 the task's own rest follows."""
    request = v1.FailTaskRequest(**_named(held), retry=retry, retry_delay=_duration(delay))
    named: dict[str, Any] = {"retry": retry, "delay": delay}
    pair.call("FailTask", request, claim_verbs.fail, *held, remember=remember, **named)
