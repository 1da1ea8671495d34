"""What a client sees, and what it must see, in one form: by name, so that a difference has one."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from taskloom import v1

from tests.coordinator_machine.world import OPEN, Task, Worker, World

Seen = dict[str, Any]


def compare(what: str, seen: Seen, expected: Seen) -> None:
    """Where the server differs from the model, say in what."""
    if seen == expected:
        return
    differing = [name for name, value in expected.items() if not _alike(seen[name], value)]
    if differing:
        told = [f"{name} is {seen[name]!r} and must be {expected[name]!r}" for name in differing]
        raise AssertionError(f"{what}: {'; '.join(told)}")


def _alike(seen: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return math.isclose(seen, expected, abs_tol=1e-6)
    return bool(seen == expected)


def task_seen(task: v1.Task) -> Seen:
    """Of a task."""
    return {
        "status": task.status,
        "worker": task.worker_id,
        "claim": task.claim_revision,
        "lease_end": task.lease_expire_time.ToMilliseconds(),
        "advice": [
            (one.worker_id, one.claim_revision, one.claim_time.ToMilliseconds())
            for one in task.advisory_claims
        ],
        "attempts": task.attempts,
        "ready": task.ready,
        "ready_at": task.ready_time.ToMilliseconds(),
        "not_before": task.not_before.ToMilliseconds(),
        "parent": task.parent_id,
        "priority": task.priority,
        "temperature": task.temperature,
        "worked": task.time_actual.ToMilliseconds(),
        "deleted": task.HasField("delete_time"),
        "revision": task.revision,
    }


def task_expected(world: World, task: Task, ready: set[str]) -> Seen:
    """Of a task, where these are ready."""
    return {
        "status": task.status,
        "worker": task.worker,
        "claim": task.claim,
        "lease_end": world.lease_end(task) or 0,
        "advice": [(one.worker, one.claim, one.since) for one in task.advice],
        "attempts": task.attempts,
        "ready": task.id in ready,
        "ready_at": task.ready_at or 0,
        "not_before": task.not_before or 0,
        "parent": world.parent(task.id),
        "priority": task.priority,
        "temperature": task.temperature,
        "worked": task.worked,
        "deleted": task.deleted,
        "revision": task.revision,
    }


def worker_seen(worker: v1.Worker) -> Seen:
    """Of a worker."""
    return {
        "tags": sorted(worker.tags),
        "max_claims": worker.max_claims,
        "connected": not worker.HasField("disconnect_time"),
        "registered": worker.register_time.ToMilliseconds(),
        "seen": worker.heartbeat_time.ToMilliseconds(),
        "rests_until": worker.cooling_until.ToMilliseconds(),
        "grace_until": worker.grace_expire_time.ToMilliseconds(),
        "held": worker.claims_held,
        "attempts": worker.claim_attempts,
        "granted": worker.claims_granted,
        "lost": worker.claims_lost,
        "last_status": worker.last_status,
    }


def worker_expected(world: World, worker: Worker) -> Seen:
    """Of a worker."""
    return {
        "tags": sorted(worker.tags),
        "max_claims": worker.max_claims,
        "connected": worker.connected,
        "registered": worker.registered,
        "seen": worker.seen,
        "rests_until": worker.rests_until if worker.rests_until > world.now else 0,
        "grace_until": worker.grace_until or 0,
        "held": world.load(worker.id),
        "attempts": worker.attempts,
        "granted": worker.granted,
        "lost": worker.lost,
        "last_status": worker.last_status,
    }


def status_seen(status: v1.GetStatusResponse) -> Seen:
    """Of the whole."""
    return {
        "revision": status.revision,
        "paused": status.HasField("paused"),
        "pauses": [pause.task_id for pause in status.paused_subtrees],
        "by_status": dict(status.tasks_by_status),
        "ready": status.ready_tasks,
        "unmatched": status.unmatched_tasks,
        "claimed": status.claimed_tasks,
        "delayed": status.delayed_tasks,
        "open": status.open_tasks,
        "connected": status.connected_workers,
    }


def status_expected(world: World) -> Seen:
    """Of the whole."""
    living = world.living()
    connected = [worker for worker in world.workers.values() if worker.connected]
    ready = [world.tasks[id] for id in world.ready()]
    delayed = [
        task
        for task in living
        if task.not_before is not None
        and world.free(task.id)
        and not world.hindered(task.id)
        and not world.is_paused(task.id)
    ]
    return {
        "revision": world.revision,
        "paused": world.paused,
        "pauses": sorted(id for id in world.pauses if world.alive(id)),
        "by_status": dict(Counter(task.status for task in living)),
        "ready": len(ready),
        "unmatched": sum(not any(task.admits(w.tags) for w in connected) for task in ready),
        "claimed": sum(task.held for task in living),
        "delayed": len(delayed),
        "open": sum(task.status in OPEN for task in living),
        "connected": len(connected),
    }


def said(response: Any, names: Iterable[str]) -> Seen:
    """The fields of a response, as the model says them."""
    return {name: _said(response, name) for name in names}


def _said(response: Any, name: str) -> Any:
    if name == "tasks" and isinstance(response, v1.CreateTaskResponse):
        return [response.task.id]
    value = getattr(response, name)
    match name:
        case "unblocked_task_ids" | "deleted_task_ids":
            return sorted(value)
        case "tasks" | "held_tasks":
            return [task.id for task in value]
        case "released_task_ids":
            return list(value)
        case "task":
            return value.id
        case "removed":
            return len(value)
        case "outcome":
            return v1.ClaimOutcome.Name(value).removeprefix("CLAIM_OUTCOME_")
        case "retry_after" | "lease_expire_time":
            return value.ToMilliseconds()
    return value


def as_told(task: v1.Task) -> v1.Task:
    """A task without the end of its lease, which signs of life move untold."""
    image = v1.Task()
    image.CopyFrom(task)
    image.ClearField("lease_expire_time")
    return image
