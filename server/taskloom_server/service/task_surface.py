"""Reading and answering the requests of TaskService that go beyond one task's fields.

Bulk changes, renames, restores, relinking, scans, the past, metrics and budgets.
"""

from typing import Any, cast

from taskloom.v1 import task_pb2
from taskloom.v1 import task_service_pb2 as pb

from taskloom_server.coordinator import bulk, dependencies, metrics, past, renaming, restoring
from taskloom_server.coordinator.scanning import Direction, Scan, ScanPage
from taskloom_server.graph.budgets import Budget
from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.tasks import Dependency
from taskloom_server.service import paging, read, show
from taskloom_server.service.prompts import prompts
from taskloom_server.store.consumed import Scope
from taskloom_server.store.transitions import TransitionFilters

MAX_CHANGES = 1_000
_MAX_COUNT = 2**63 - 1
_MAX_SUBTREE_ATTEMPTS = 1_000_000
_DIRECTIONS = frozenset(map(int, Direction))


def max_cost_usd(field: str, message: Any) -> float | None:
    """The limit of a budget in US dollars; None where it is absent or zero."""
    value: float = message.max_cost_usd
    if not 0 <= value < float("inf"):
        raise InvalidField(field, "must be a number that is not negative")
    return value or None


def max_subtree_attempts(field: str, message: Any) -> int | None:
    """The limit of a budget in failed attempts; None where it is absent or zero."""
    return read.whole(field, message.max_subtree_attempts, 0, _MAX_SUBTREE_ATTEMPTS) or None


def rename(request: pb.RenameTaskRequest) -> renaming.Rename:
    """Another id for a task."""
    return renaming.Rename(
        task_id=read.identifier("task_id", request.task_id),
        new_task_id=read.identifier("new_task_id", request.new_task_id),
        etag=read.revision("etag", request.etag),
        worker_id=read.identifier("worker_id", request.worker_id, optional=True),
        reason=read.text("reason", request.reason, read.MAX_REASON),
    )


def restore(request: pb.RestoreTaskRequest) -> restoring.Restore:
    """The return of a deleted task."""
    return restoring.Restore(
        task_id=read.identifier("task_id", request.task_id),
        worker_id=read.identifier("worker_id", request.worker_id, optional=True),
        reason=read.text("reason", request.reason, read.MAX_REASON),
        cascade=request.cascade,
    )


def obliterate(request: pb.ObliterateTaskRequest) -> restoring.Obliterate:
    """The removal of a task for good."""
    return restoring.Obliterate(
        task_id=read.identifier("task_id", request.task_id),
        worker_id=read.identifier("worker_id", request.worker_id, optional=True),
        reason=read.text("reason", request.reason, read.MAX_REASON),
        cascade=request.cascade,
        force=request.force,
    )


def relink(request: pb.RelinkTasksRequest) -> dependencies.Relink:
    """Dependencies that are to go, and others that are to be."""
    return dependencies.Relink(
        remove=_dependencies("remove", request.remove),
        add=_dependencies("add", request.add),
        worker_id=read.identifier("worker_id", request.worker_id, optional=True),
    )


def _dependencies(field: str, messages: Any) -> tuple[Dependency, ...]:
    if len(messages) > MAX_CHANGES:
        raise InvalidField(
            field, f"has {len(messages)} entries; at most {MAX_CHANGES:,} are allowed"
        )
    read_ones = (_dependency(f"{field}[{n}].", message) for n, message in enumerate(messages))
    return tuple(dict.fromkeys(read_ones))


def _dependency(path: str, message: task_pb2.Dependency) -> Dependency:
    type_ = message.type or task_pb2.DEPENDENCY_TYPE_BLOCKS
    if type_ not in show.DEPENDENCY_TYPES:
        raise InvalidField(f"{path}type", f"is {type_}, which is no type of dependency")
    return Dependency(
        read.identifier(f"{path}from_task_id", message.from_task_id),
        read.identifier(f"{path}to_task_id", message.to_task_id),
        show.DEPENDENCY_TYPES[type_],
    )


def scan(request: pb.ScanTasksRequest) -> Scan:
    """A page of what is around a task."""
    for n, direction in enumerate(request.directions):
        if int(direction) not in _DIRECTIONS:
            raise InvalidField(f"directions[{n}]", f"is {direction}, which is no direction")
    place = paging.read_token(request, int, int, int)
    return Scan(
        task_id=read.identifier("task_id", request.task_id),
        directions=tuple(map(Direction, request.directions)) or tuple(Direction),
        depth=read.whole("depth", request.depth, 0, 2**31 - 1) or None,
        after=(place[0], place[1], place[2]) if place else None,
        limit=paging.page_size(request),
    )


def transitions(request: pb.ListTransitionsRequest) -> past.ListTransitions:
    """A page of transitions."""
    place = paging.read_token(request, int)
    return past.ListTransitions(
        filters=TransitionFilters(
            task_id=read.identifier("task_id", request.task_id, optional=True),
            since=read.time_ms("start_time", request, "start_time"),
            before=read.time_ms("end_time", request, "end_time"),
            statuses=read.identifiers("statuses", request.statuses, read.MAX_TAGS),
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
        ),
        after=place[0] if place else None,
        limit=paging.page_size(request),
        newest_first=request.newest_first,
    )


def sums(request: pb.GetMetricsRequest) -> metrics.GetMetrics:
    """What to sum up."""
    scope = Scope(
        task_id=read.identifier("task_id", request.task_id, optional=True),
        recursive=request.recursive,
        worker_id=read.identifier("worker_id", request.worker_id, optional=True),
    )
    if scope.task_id and scope.worker_id:
        raise InvalidField("worker_id", "goes without task_id")
    if scope.recursive and not scope.task_id:
        raise InvalidField("recursive", "needs a task_id")
    return metrics.GetMetrics(scope, request.include_running)


def updated_all(answer: bulk.UpdatedAll) -> pb.UpdateTasksResponse:
    """What became of several changes."""
    return pb.UpdateTasksResponse(
        tasks=show.tasks(answer.tasks),
        unblocked_task_ids=answer.unblocked,
        prompts=prompts(answer.steps),
        warnings=answer.warnings,
        revision=answer.revision,
    )


def renamed(answer: renaming.Renamed) -> pb.RenameTaskResponse:
    """A task under its new id."""
    return pb.RenameTaskResponse(task=show.task(answer.task), revision=answer.revision)


def restored(answer: restoring.Restored) -> pb.RestoreTaskResponse:
    """Tasks that are back."""
    return pb.RestoreTaskResponse(tasks=show.tasks(answer.tasks), revision=answer.revision)


def obliterated(answer: restoring.Obliterated) -> pb.ObliterateTaskResponse:
    """Tasks that are gone."""
    return pb.ObliterateTaskResponse(
        task_ids=answer.task_ids, unblocked_task_ids=answer.unblocked, revision=answer.revision
    )


def relinked(answer: dependencies.Relinked) -> pb.RelinkTasksResponse:
    """Dependencies that went and came."""
    return pb.RelinkTasksResponse(
        removed=map(show.dependency, answer.removed),
        added=map(show.dependency, answer.added),
        unblocked_task_ids=answer.unblocked,
        revision=answer.revision,
    )


def scanned(request: pb.ScanTasksRequest, page: ScanPage) -> pb.ScanTasksResponse:
    """What is around a task."""
    return pb.ScanTasksResponse(
        tasks=[
            pb.ScannedTask(
                task=show.task(one.task),
                direction=cast("pb.ScanDirection.ValueType", int(one.direction)),
                distance=one.distance,
            )
            for one in page.found
        ],
        next_page_token=paging.write_token(request, page.next_after),
        revision=page.revision,
    )


def summed(answer: metrics.Summed) -> pb.GetMetricsResponse:
    """What was consumed, and how the tasks stand."""
    tokens = dict(zip(METRICS, (min(n, _MAX_COUNT) for n in answer.consumed.metrics), strict=True))
    return pb.GetMetricsResponse(
        metrics=task_pb2.Metrics(**tokens, cost_usd=answer.consumed.cost_usd),
        tasks_by_status=answer.tasks_by_status,
        time_in_status=[
            pb.StatusTime(
                status=one.status, duration=show.duration(one.duration_ms), stays=one.stays
            )
            for one in answer.time_in_status
        ],
        time_actual=show.duration(answer.time_actual_ms),
        attempts=answer.attempts,
        budget=None if answer.budget is None else _budget(answer.budget),
        revision=answer.revision,
    )


METRICS = tuple(field.name for field in task_pb2.Metrics.DESCRIPTOR.fields)[:8]


def _budget(record: Budget) -> pb.Budget:
    return pb.Budget(
        max_cost_usd=record.max_cost_usd,
        cost_usd=record.cost_usd,
        max_attempts=record.max_attempts,
        attempts=record.attempts,
        spent=record.is_spent,
    )
