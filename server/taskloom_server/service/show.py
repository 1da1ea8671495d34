"""Domain records as protos."""

from collections.abc import Iterable
from functools import lru_cache
from typing import cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom.v1 import (
    admin_service_pb2,
    attachment_pb2,
    claim_service_pb2,
    event_pb2,
    file_mark_pb2,
    task_pb2,
    task_service_pb2,
    worker_pb2,
)

from taskloom_server.coordinator.search import Found
from taskloom_server.coordinator.watches import Passed
from taskloom_server.graph.events import Event
from taskloom_server.graph.obstacles import Obstacle
from taskloom_server.graph.tasks import (
    AdvisoryClaim,
    Attachment,
    Dependency,
    FileMark,
    Task,
    Transition,
)
from taskloom_server.graph.temperature import temperature
from taskloom_server.graph.workers import Outcome, Pause, Worker

DEPENDENCY_TYPES = {
    task_pb2.DEPENDENCY_TYPE_BLOCKS: "blocks",
    task_pb2.DEPENDENCY_TYPE_FOLLOWS: "follows",
    task_pb2.DEPENDENCY_TYPE_CONTAINS: "contains",
    task_pb2.DEPENDENCY_TYPE_DUPLICATE: "duplicate",
    task_pb2.DEPENDENCY_TYPE_SEE_ALSO: "see-also",
    task_pb2.DEPENDENCY_TYPE_RELATES_TO: "relates-to",
}
OUTCOMES = {
    Outcome.CLAIMED: claim_service_pb2.CLAIM_OUTCOME_CLAIMED,
    Outcome.NONE_READY: claim_service_pb2.CLAIM_OUTCOME_NONE_READY,
    Outcome.ALL_DONE: claim_service_pb2.CLAIM_OUTCOME_ALL_DONE,
    Outcome.PAUSED: claim_service_pb2.CLAIM_OUTCOME_PAUSED,
    Outcome.COOLING_DOWN: claim_service_pb2.CLAIM_OUTCOME_COOLING_DOWN,
    Outcome.LIMIT_REACHED: claim_service_pb2.CLAIM_OUTCOME_LIMIT_REACHED,
    Outcome.WIP_LIMIT: claim_service_pb2.CLAIM_OUTCOME_WIP_LIMIT,
    Outcome.FILES_LOCKED: claim_service_pb2.CLAIM_OUTCOME_FILES_LOCKED,
    Outcome.ROLE_FORBIDS: claim_service_pb2.CLAIM_OUTCOME_ROLE_FORBIDS,
    Outcome.ASSIGNED: claim_service_pb2.CLAIM_OUTCOME_ASSIGNED,
}
_DEPENDENCY_NUMBERS = {name: number for number, name in DEPENDENCY_TYPES.items()}


@lru_cache(maxsize=256)
def timestamp(ms: int | None) -> Timestamp | None:
    """Unix ms as a Timestamp; nothing for None.

    Most of a task's times are one and the same, and messages that are made of one copy it: it is
    not to be changed.
    """
    if ms is None:
        return None
    return Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


@lru_cache(maxsize=256)
def duration(ms: int | None) -> Duration | None:
    """Milliseconds as a Duration; nothing for None. Not to be changed either."""
    if ms is None:
        return None
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def metrics(task: Task) -> task_pb2.Metrics:
    """What a task consumed."""
    return task_pb2.Metrics(
        tokens_in=task.metric_0,
        tokens_out=task.metric_1,
        tokens_cached=task.metric_2,
        tokens_thinking=task.metric_3,
        tokens_image=task.metric_4,
        tokens_audio=task.metric_5,
        metric_6=task.metric_6,
        metric_7=task.metric_7,
        cost_usd=task.cost_usd,
    )


def task(record: Task) -> task_pb2.Task:
    """A task."""
    return task_pb2.Task(
        id=record.id,
        title=record.title,
        description=record.description,
        status=record.status,
        phase=record.phase or "",
        priority=record.priority,
        parent_id=record.parent_id or "",
        worker_id=record.worker_id or "",
        tags=record.tags,
        needed_tags=record.needed_tags,
        wanted_tags=record.wanted_tags,
        points=record.points,
        time_estimate=duration(record.time_estimate_ms),
        time_actual=duration(record.time_actual_ms),
        revision=record.revision,
        claim_revision=record.claim_revision or 0,
        lease_expire_time=timestamp(record.lease_expires_at),
        ready=record.ready,
        ready_time=timestamp(record.ready_at),
        not_before=timestamp(record.not_before),
        attempts=record.attempts,
        max_attempts=record.max_attempts,
        workflow=record.workflow,
        current_thought=record.current_thought or "",
        metrics=metrics(record),
        create_time=timestamp(record.created_at),
        update_time=timestamp(record.updated_at),
        claim_time=timestamp(record.claimed_at) if record.worker_id else None,
        start_time=timestamp(record.started_at),
        complete_time=timestamp(record.completed_at),
        delete_time=timestamp(record.deleted_at),
        deleted_by=record.deleted_by or "",
        deleted_reason=record.deleted_reason or "",
        temperature=temperature(record.heat, record.active_at),
        temperature_time=timestamp(record.active_at),
        boost=record.boost,
        advisory_claims=map(_advisory_claim, record.advisory_claims),
        retry_delay=duration(record.retry_delay_ms),
        max_cost_usd=record.max_cost_usd,
        max_subtree_attempts=record.max_subtree_attempts,
    )


def tasks(records: Iterable[Task]) -> list[task_pb2.Task]:
    """Tasks, in their order."""
    return [task(record) for record in records]


def _advisory_claim(record: AdvisoryClaim) -> task_pb2.AdvisoryClaim:
    worker_id, claim_revision, since, lease_ms = record
    return task_pb2.AdvisoryClaim(
        worker_id=worker_id,
        claim_revision=claim_revision,
        claim_time=timestamp(since),
        lease=duration(lease_ms),
    )


def obstacle(record: Obstacle) -> task_service_pb2.Obstacle:
    """A reason why a task cannot be taken."""
    return task_service_pb2.Obstacle(
        type=cast("task_service_pb2.ObstacleType.ValueType", int(record.type)),
        message=record.message,
        remedy=record.remedy,
        task_ids=record.task_ids,
        worker_ids=record.worker_ids,
        tags=record.tags,
        until=timestamp(record.until),
    )


def dependency(record: Dependency) -> task_pb2.Dependency:
    """A dependency."""
    return task_pb2.Dependency(
        from_task_id=record.from_task_id,
        to_task_id=record.to_task_id,
        type=_DEPENDENCY_NUMBERS[record.dep_type],
    )


def transition(record: Transition) -> task_pb2.Transition:
    """A step in a task's history."""
    return task_pb2.Transition(
        id=record.id,
        task_id=record.task_id,
        worker_id=record.worker_id or "",
        status=record.status,
        phase=record.phase,
        reason=record.reason or "",
        start_time=timestamp(record.timestamp),
        end_time=timestamp(record.end_timestamp),
    )


def worker(record: Worker, held: int, role: str = "") -> worker_pb2.Worker:
    """A worker that holds so many tasks, and has this role."""
    return worker_pb2.Worker(
        id=record.id,
        tags=record.tags,
        workflow=record.workflow,
        overlays=record.overlays,
        max_claims=record.max_claims,
        lease=duration(record.lease_ms),
        cool_down=duration(record.cool_down_ms or None),
        cooling_until=timestamp(record.cooling_until),
        register_time=timestamp(record.registered_at),
        heartbeat_time=timestamp(record.last_heartbeat),
        disconnect_time=timestamp(record.disconnected_at),
        last_status=record.last_status or "",
        last_phase=record.last_phase or "",
        claims_held=held,
        claim_attempts=record.claim_attempts,
        claims_granted=record.claims_granted,
        claims_lost=record.claims_lost,
        grace_expire_time=timestamp(record.grace_until),
        role=role,
        current_thought=record.current_thought or "",
        thought_time=timestamp(record.thought_at),
    )


def file_mark(record: FileMark) -> file_mark_pb2.FileMark:
    """A file mark."""
    return file_mark_pb2.FileMark(
        path=record.file_path,
        worker_id=record.worker_id,
        task_id=record.task_id or "",
        reason=record.reason or "",
        mark_time=timestamp(record.locked_at),
    )


def attachment(record: Attachment) -> attachment_pb2.Attachment:
    """An attachment, with its content where that was fetched and is not in a file."""
    return attachment_pb2.Attachment(
        task_id=record.task_id,
        type=record.attachment_type,
        sequence=record.sequence,
        name=record.name,
        mime_type=record.mime_type,
        content=record.content or b"",
        size=record.size,
        create_time=timestamp(record.created_at),
        in_file=record.file_path is not None,
        sha256=record.file_path or "",
    )


def pause(record: Pause) -> admin_service_pb2.PauseState:
    """Who stopped new claims."""
    return admin_service_pb2.PauseState(
        by=record.by,
        reason=record.reason,
        time=timestamp(record.at),
        task_id=record.task_id or "",
    )


def event(passed: Passed) -> event_pb2.Event:
    """An event that passed a watch's filter."""
    record = passed.event
    message = _event(record)
    message.left_filter = passed.left
    return message


def _event(record: Event) -> event_pb2.Event:
    message = event_pb2.Event(
        type=cast("event_pb2.EventType.ValueType", int(record.type)),
        time=timestamp(record.time),
        worker_id=record.worker_id or "",
        task_id=record.task_id or "",
        reason=record.reason or "",
    )
    match record.after:
        case Task() as after:
            message.task.CopyFrom(task(after))
            if record.before is not None and record.before.status != after.status:
                message.previous_status = record.before.status
        case Worker() as after:
            message.worker.CopyFrom(worker(after, 0))
        case Dependency() as after:
            message.dependency.CopyFrom(dependency(after))
        case FileMark() as after:
            message.file_mark.CopyFrom(file_mark(after))
        case Attachment() as after:
            message.attachment.CopyFrom(attachment(after))
        case _:
            pass
    return message


_SOURCES = {
    "title": task_service_pb2.SNIPPET_SOURCE_TITLE,
    "description": task_service_pb2.SNIPPET_SOURCE_DESCRIPTION,
    "attachment": task_service_pb2.SNIPPET_SOURCE_ATTACHMENT,
}


def search_result(found: Found) -> task_service_pb2.SearchResult:
    """A task that was found, with the pieces of its texts that show why."""
    result = task_service_pb2.SearchResult(task=task(found.task), score=found.score)
    for snippet in found.snippets:
        type_, sequence = snippet.attachment or ("", 0)
        result.snippets.append(
            task_service_pb2.Snippet(
                source=_SOURCES[snippet.field],
                attachment_type=type_,
                sequence=sequence,
                parts=[task_service_pb2.SnippetPart(text=t, found=f) for t, f in snippet.parts],
            )
        )
    return result
