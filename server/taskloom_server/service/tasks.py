"""TaskService: the graph of tasks."""

from dataclasses import replace
from typing import Any

from taskloom.v1 import task_pb2, task_service_pb2_grpc
from taskloom.v1 import task_service_pb2 as pb

from taskloom_server.coordinator import (
    bulk,
    dependencies,
    explain,
    gates,
    metrics,
    past,
    renaming,
    restoring,
    scanning,
    search,
    signals,
    tasks,
)
from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.gates import Asked
from taskloom_server.graph.tasks import TaskChanges
from taskloom_server.graph.temperature import Heat
from taskloom_server.service import paging, read, show, task_surface
from taskloom_server.service.calls import Calls
from taskloom_server.service.prompts import prompts
from taskloom_server.store.listing import PLACES, Filters, Order
from taskloom_server.store.search import SearchFilters

_MAX_NODES = 5_000
_MAX_DEPTH = 50  # protobuf itself reads nothing that is nested more than 100 deep
_MAX_ESTIMATE_MS = 366 * read.DAY_MS
_MAX_QUERY = 4_000
_ORDERS = {
    task_pb2.ORDER_BY_UNSPECIFIED: Order.PRIORITY,
    task_pb2.ORDER_BY_PRIORITY: Order.PRIORITY,
    task_pb2.ORDER_BY_TEMPERATURE: Order.TEMPERATURE,
    task_pb2.ORDER_BY_CREATE_TIME: Order.CREATE_TIME,
    task_pb2.ORDER_BY_UPDATE_TIME: Order.UPDATE_TIME,
    task_pb2.ORDER_BY_ID: Order.ID,
}


_HEATS = {
    task_pb2.HEAT_UNSPECIFIED: None,
    task_pb2.HEAT_HOT: Heat.HOT,
    task_pb2.HEAT_WARM: Heat.WARM,
    task_pb2.HEAT_COLD: Heat.COLD,
}
_SIGNALS = {
    pb.SIGNAL_TYPE_UNSPECIFIED: False,
    pb.SIGNAL_TYPE_PROGRESS: False,
    pb.SIGNAL_TYPE_BREAKTHROUGH: True,
}


class TaskServicer(task_service_pb2_grpc.TaskServiceServicer):
    """See task_service.proto."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def CreateTask(  # noqa: D102
        self, request: pb.CreateTaskRequest, context: Any
    ) -> pb.CreateTaskResponse:
        ask = tasks.CreateTasks(
            root=_new_task(request, ""),
            parent_id=read.identifier("parent_id", request.parent_id, optional=True),
            workflow=read.identifier("workflow", request.workflow, optional=True),
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
        )
        return await self._calls.write(
            request, tasks.create_tasks, ask, pb.CreateTaskResponse, _created_one
        )

    async def CreateTaskTree(  # noqa: D102
        self, request: pb.CreateTaskTreeRequest, context: Any
    ) -> pb.CreateTaskTreeResponse:
        if not request.HasField("root"):
            raise InvalidField("root", "is required")
        ask = tasks.CreateTasks(
            root=_new_tree(request.root),
            parent_id=read.identifier("parent_id", request.parent_id, optional=True),
            workflow=read.identifier("workflow", request.workflow, optional=True),
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
        )
        return await self._calls.write(
            request, tasks.create_tasks, ask, pb.CreateTaskTreeResponse, _created
        )

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:  # noqa: D102
        task_id = read.identifier("task_id", request.task_id)
        shown = await self._calls.read(tasks.get_task, task_id)
        return pb.GetTaskResponse(
            task=show.task(shown.task),
            dependencies=map(show.dependency, shown.dependencies),
            revision=shown.revision,
        )

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:  # noqa: D102
        if request.order_by not in _ORDERS:
            raise InvalidField("order_by", f"is {request.order_by}, which is no order")
        if request.recursive and not request.parent_id:
            raise InvalidField("recursive", "needs a parent_id")
        if request.heat not in _HEATS:
            raise InvalidField("heat", f"is {request.heat}, which is no part of the scale")
        order = _ORDERS[request.order_by]
        ask = tasks.ListTasks(
            filters=_filters(request),
            heat=_HEATS[request.heat],
            qualified_for=read.identifier(
                "qualified_for_worker_id", request.qualified_for_worker_id, optional=True
            ),
            order=order,
            after=paging.read_token(request, *PLACES[order]),
            limit=paging.page_size(request),
        )
        page = await self._calls.read(tasks.list_tasks, ask)
        return pb.ListTasksResponse(
            tasks=show.tasks(page.tasks),
            next_page_token=paging.write_token(request, page.next_after),
            revision=page.revision,
        )

    async def UpdateTask(  # noqa: D102
        self, request: pb.UpdateTaskRequest, context: Any
    ) -> pb.UpdateTaskResponse:
        ask = _update(request)
        return await self._calls.write(
            request, tasks.update_task, ask, pb.UpdateTaskResponse, _updated
        )

    async def DeleteTask(  # noqa: D102
        self, request: pb.DeleteTaskRequest, context: Any
    ) -> pb.DeleteTaskResponse:
        ask = tasks.DeleteTask(
            task_id=read.identifier("task_id", request.task_id),
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
            reason=read.text("reason", request.reason, read.MAX_REASON),
            cascade=request.cascade,
            force=request.force,
        )
        return await self._calls.write(
            request, tasks.delete_task, ask, pb.DeleteTaskResponse, _deleted
        )

    async def LinkTasks(self, request: pb.LinkTasksRequest, context: Any) -> pb.LinkTasksResponse:  # noqa: D102
        ask = _link(request, default="blocks")
        return await self._calls.write(
            request, dependencies.link_tasks, ask, pb.LinkTasksResponse, _linked
        )

    async def UnlinkTasks(  # noqa: D102
        self, request: pb.UnlinkTasksRequest, context: Any
    ) -> pb.UnlinkTasksResponse:
        ask = _link(request, default="")
        return await self._calls.write(
            request, dependencies.unlink_tasks, ask, pb.UnlinkTasksResponse, _unlinked
        )

    async def ListTransitions(  # noqa: D102
        self, request: pb.ListTransitionsRequest, context: Any
    ) -> pb.ListTransitionsResponse:
        ask = task_surface.transitions(request)
        page = await self._calls.read(past.list_transitions, ask)
        return pb.ListTransitionsResponse(
            transitions=map(show.transition, page.transitions),
            next_page_token=paging.write_token(request, page.next_after),
            revision=page.revision,
        )

    async def ExplainTask(  # noqa: D102
        self, request: pb.ExplainTaskRequest, context: Any
    ) -> pb.ExplainTaskResponse:
        ask = explain.Explain(
            task_id=read.identifier("task_id", request.task_id),
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
        )
        explained = await self._calls.read(explain.explain_task, ask)
        return pb.ExplainTaskResponse(
            task=show.task(explained.task),
            obstacles=map(show.obstacle, explained.obstacles),
            revision=explained.revision,
        )

    async def CheckGates(  # noqa: D102
        self, request: pb.CheckGatesRequest, context: Any
    ) -> pb.CheckGatesResponse:
        phase = None
        if request.HasField("phase"):
            phase = read.identifier("phase", request.phase, optional=True)
        ask = gates.CheckGates(
            task_id=read.identifier("task_id", request.task_id),
            status=read.identifier("status", request.status, optional=True),
            phase=phase,
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
        )
        checked = await self._calls.read(gates.check_gates, ask)
        return pb.CheckGatesResponse(
            gates=map(_gate, checked.gates),
            passes=checked.passes,
            passes_forced=checked.passes_forced,
            status=checked.task.status,
            phase=checked.task.phase or "",
            obstacle=checked.obstacle,
            way=checked.way,
            exits=checked.exits,
            revision=checked.revision,
        )

    async def SignalTask(  # noqa: D102
        self, request: pb.SignalTaskRequest, context: Any
    ) -> pb.SignalTaskResponse:
        if request.type not in _SIGNALS:
            raise InvalidField("type", f"is {request.type}, which is no type of signal")
        ask = signals.Signal(
            task_id=read.identifier("task_id", request.task_id),
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
            claim_revision=read.revision("claim_revision", request.claim_revision),
            breakthrough=_SIGNALS[request.type],
            reason=read.text("reason", request.reason, read.MAX_REASON),
        )
        return await self._calls.write(
            request, signals.signal_task, ask, pb.SignalTaskResponse, _signaled
        )

    async def BoostTask(self, request: pb.BoostTaskRequest, context: Any) -> pb.BoostTaskResponse:  # noqa: D102
        if not 0 <= request.boost <= 1:
            raise InvalidField("boost", f"is {request.boost:g}; it must be from 0 to 1")
        ask = signals.Boost(
            task_id=read.identifier("task_id", request.task_id),
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
            boost=request.boost,
            reason=read.text("reason", request.reason, read.MAX_REASON),
        )
        return await self._calls.write(
            request, signals.boost_task, ask, pb.BoostTaskResponse, _boosted
        )

    async def LogMetrics(  # noqa: D102
        self, request: pb.LogMetricsRequest, context: Any
    ) -> pb.LogMetricsResponse:
        given = request.metrics
        if not 0 <= given.cost_usd < float("inf"):
            raise InvalidField("metrics.cost_usd", "must be a number that is not negative")
        ask = metrics.LogMetrics(
            task_id=read.identifier("task_id", request.task_id),
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
            claim_revision=read.revision("claim_revision", request.claim_revision),
            metrics=tuple(
                read.whole(f"metrics.{name}", getattr(given, name), 0, 2**63 - 1)
                for name in task_surface.METRICS
            ),
            cost_usd=given.cost_usd,
        )
        return await self._calls.write(
            request, metrics.log_metrics, ask, pb.LogMetricsResponse, _logged
        )

    async def SearchTasks(  # noqa: D102
        self, request: pb.SearchTasksRequest, context: Any
    ) -> pb.SearchTasksResponse:
        place = paging.read_token(request, int)
        ask = search.SearchTasks(
            query=read.text("query", request.query, _MAX_QUERY, required=True),
            filters=SearchFilters(
                statuses=read.identifiers("statuses", request.statuses, read.MAX_TAGS),
                parent_id=read.identifier("parent_id", request.parent_id, optional=True),
                tags_any=read.tags("tags_any", request.tags_any),
                tags_all=read.tags("tags_all", request.tags_all),
                include_deleted=request.include_deleted,
            ),
            offset=max(0, place[0]) if place else 0,
            limit=paging.page_size(request),
        )
        page = await self._calls.read(search.search_tasks, ask)
        place = None if page.next_offset is None else (page.next_offset,)
        return pb.SearchTasksResponse(
            results=map(show.search_result, page.found),
            next_page_token=paging.write_token(request, place),
            total=page.total,
            revision=page.revision,
        )

    async def GetMetrics(  # noqa: D102
        self, request: pb.GetMetricsRequest, context: Any
    ) -> pb.GetMetricsResponse:
        ask = task_surface.sums(request)
        return task_surface.summed(await self._calls.read(metrics.get_metrics, ask))

    async def UpdateTasks(  # noqa: D102
        self, request: pb.UpdateTasksRequest, context: Any
    ) -> pb.UpdateTasksResponse:
        ask = _updates(request)
        return await self._calls.write(
            request, bulk.update_tasks, ask, pb.UpdateTasksResponse, task_surface.updated_all
        )

    async def RenameTask(  # noqa: D102
        self, request: pb.RenameTaskRequest, context: Any
    ) -> pb.RenameTaskResponse:
        ask = task_surface.rename(request)
        return await self._calls.write(
            request, renaming.rename_task, ask, pb.RenameTaskResponse, task_surface.renamed
        )

    async def RestoreTask(  # noqa: D102
        self, request: pb.RestoreTaskRequest, context: Any
    ) -> pb.RestoreTaskResponse:
        ask = task_surface.restore(request)
        return await self._calls.write(
            request, restoring.restore_task, ask, pb.RestoreTaskResponse, task_surface.restored
        )

    async def ObliterateTask(  # noqa: D102
        self, request: pb.ObliterateTaskRequest, context: Any
    ) -> pb.ObliterateTaskResponse:
        ask = task_surface.obliterate(request)
        return await self._calls.write(
            request,
            restoring.obliterate_task,
            ask,
            pb.ObliterateTaskResponse,
            task_surface.obliterated,
        )

    async def RelinkTasks(  # noqa: D102
        self, request: pb.RelinkTasksRequest, context: Any
    ) -> pb.RelinkTasksResponse:
        ask = task_surface.relink(request)
        return await self._calls.write(
            request, dependencies.relink_tasks, ask, pb.RelinkTasksResponse, task_surface.relinked
        )

    async def ScanTasks(self, request: pb.ScanTasksRequest, context: Any) -> pb.ScanTasksResponse:  # noqa: D102
        page = await self._calls.read(scanning.scan_tasks, task_surface.scan(request))
        return task_surface.scanned(request, page)


def _update(request: pb.UpdateTaskRequest) -> tasks.UpdateTask:
    """The changes of one task."""

    def optional(field: str) -> str | None:
        value: str = getattr(request, field)
        return (
            read.identifier(field, value, optional=True) if request.HasField(field) else None  # type: ignore[arg-type]
        )

    for field in ("status", "workflow"):
        if request.HasField(field) and not getattr(request, field):
            raise InvalidField(field, f"is empty; leave it out to keep the {field}")
    if request.clear_points and request.HasField("points"):
        raise InvalidField("clear_points", "goes with no points")
    ask = tasks.UpdateTask(
        task_id=read.identifier("task_id", request.task_id),
        worker_id=read.identifier("worker_id", request.worker_id, optional=True),
        claim_revision=read.revision("claim_revision", request.claim_revision),
        etag=read.revision("etag", request.etag),
        reason=read.text("reason", request.reason, read.MAX_REASON),
        changes=_changes(request),
        status=optional("status"),
        phase=optional("phase"),
        assignee=optional("assignee"),
        workflow=optional("workflow"),
        force=request.force,
    )
    if ask.status is not None and ask.assignee is not None:
        raise InvalidField("assignee", "moves the task by itself; leave status out")
    return ask


def _updates(request: pb.UpdateTasksRequest) -> tuple[tasks.UpdateTask, ...]:
    """The changes of several tasks. Raises InvalidField with the path that leads to the field."""
    if not 1 <= len(request.updates) <= task_surface.MAX_CHANGES:
        raise InvalidField(
            "updates",
            f"has {len(request.updates)} entries; it must have 1 to {task_surface.MAX_CHANGES:,}",
        )
    updates = []
    for n, one in enumerate(request.updates):
        try:
            if one.request_id:
                raise InvalidField("request_id", "stands beside updates, not in them")
            updates.append(_update(one))
        except InvalidField as refusal:
            raise refusal.within(f"updates[{n}]", index=n) from refusal
    return tuple(updates)


def _new_task(message: pb.CreateTaskRequest | pb.TaskNode, path: str) -> tasks.NewTask:
    """A task to be, without its children; ``path`` stands before the names of its fields."""
    return tasks.NewTask(
        id=read.identifier(f"{path}id", message.id, optional=True),
        title=read.text(f"{path}title", message.title, read.MAX_TITLE, required=True),
        description=read.description(f"{path}description", message.description),
        blocked_by=read.identifiers(f"{path}blocked_by", message.blocked_by, read.MAX_BLOCKERS),
        priority=read.priority(f"{path}priority", message),
        points=read.points(f"{path}points", message),
        time_estimate_ms=read.duration_ms(
            f"{path}time_estimate",
            message,
            "time_estimate",
            low=0,
            high=_MAX_ESTIMATE_MS,
            default=None,
        ),
        phase=read.identifier(f"{path}phase", message.phase, optional=True),
        tags=read.tags(f"{path}tags", message.tags),
        needed_tags=read.tags(f"{path}needed_tags", message.needed_tags),
        wanted_tags=read.tags(f"{path}wanted_tags", message.wanted_tags),
        not_before=read.time_ms(f"{path}not_before", message, "not_before"),
        max_attempts=read.max_attempts(f"{path}max_attempts", message.max_attempts),
        retry_delay_ms=_retry_delay(f"{path}retry_delay", message),
        max_cost_usd=task_surface.max_cost_usd(f"{path}max_cost_usd", message),
        max_subtree_attempts=task_surface.max_subtree_attempts(
            f"{path}max_subtree_attempts", message
        ),
        path=path,
    )


def _retry_delay(
    field: str, message: pb.CreateTaskRequest | pb.TaskNode | pb.UpdateTaskRequest
) -> int | None:
    return read.duration_ms(field, message, "retry_delay", low=0, high=read.DAY_MS, default=None)


def _new_tree(root: pb.TaskNode) -> tasks.NewTask:
    """A tree of tasks to be. Raises InvalidField for one that is too large or too deep."""
    count = 0

    def visit(node: pb.TaskNode, path: str, depth: int) -> tasks.NewTask:
        nonlocal count
        count += 1
        if count > _MAX_NODES:
            raise InvalidField(f"{path}id", f"is node {count}; at most {_MAX_NODES:,} are allowed")
        if depth > _MAX_DEPTH:
            raise InvalidField(f"{path}id", f"is {depth} deep; at most {_MAX_DEPTH} is allowed")
        children = tuple(
            visit(child, f"{path}children[{n}].", depth + 1)
            for n, child in enumerate(node.children)
        )
        return replace(_new_task(node, path), children=children)

    return visit(root, "root.", 1)


def _filters(request: pb.ListTasksRequest) -> Filters:
    def flag(name: Any) -> bool | None:
        value: bool = getattr(request, name)
        return value if request.HasField(name) else None

    return Filters(
        statuses=read.identifiers("statuses", request.statuses, read.MAX_TAGS),
        ready=flag("ready"),
        blocked=flag("blocked"),
        claimed=flag("claimed"),
        owner=read.identifier("owner", request.owner, optional=True),
        parent_id=read.identifier("parent_id", request.parent_id, optional=True),
        recursive=request.recursive,
        tags_any=read.tags("tags_any", request.tags_any),
        tags_all=read.tags("tags_all", request.tags_all),
        phase=read.identifier("phase", request.phase, optional=True),
        include_deleted=request.include_deleted,
    )


def _changes(request: pb.UpdateTaskRequest) -> TaskChanges:
    """The columns that the request changes: those whose fields are present."""
    changes = TaskChanges()
    if request.HasField("title"):
        changes["title"] = read.text("title", request.title, read.MAX_TITLE, required=True)
    if request.HasField("description"):
        changes["description"] = read.description("description", request.description)
    if request.HasField("priority"):
        changes["priority"] = read.priority("priority", request)
    if request.HasField("points"):
        changes["points"] = read.points("points", request)
    if request.HasField("time_estimate"):
        changes["time_estimate_ms"] = read.duration_ms(
            "time_estimate",
            request,
            "time_estimate",
            low=0,
            high=_MAX_ESTIMATE_MS,
            default=None,
        )
    if request.HasField("not_before"):
        changes["not_before"] = read.time_ms("not_before", request, "not_before")
    if request.HasField("retry_delay"):
        changes["retry_delay_ms"] = _retry_delay("retry_delay", request)
    if request.clear_points:
        changes["points"] = None
    if request.HasField("max_cost_usd"):
        changes["max_cost_usd"] = task_surface.max_cost_usd("max_cost_usd", request)
    if request.HasField("max_subtree_attempts"):
        changes["max_subtree_attempts"] = task_surface.max_subtree_attempts(
            "max_subtree_attempts", request
        )
    if request.HasField("max_attempts"):
        changes["max_attempts"] = read.whole("max_attempts", request.max_attempts, 1, 1_000)
    if request.HasField("tags"):
        changes["tags"] = read.tags("tags.values", request.tags.values)
    if request.HasField("needed_tags"):
        changes["needed_tags"] = read.tags("needed_tags.values", request.needed_tags.values)
    if request.HasField("wanted_tags"):
        changes["wanted_tags"] = read.tags("wanted_tags.values", request.wanted_tags.values)
    return changes


def _link(
    request: pb.LinkTasksRequest | pb.UnlinkTasksRequest, *, default: str
) -> dependencies.Link:
    dep_type = default
    if request.type != task_pb2.DEPENDENCY_TYPE_UNSPECIFIED:
        if request.type not in show.DEPENDENCY_TYPES:
            raise InvalidField("type", f"is {request.type}, which is no type of dependency")
        dep_type = show.DEPENDENCY_TYPES[request.type]
    return dependencies.Link(
        from_task_id=read.identifier("from_task_id", request.from_task_id),
        to_task_id=read.identifier("to_task_id", request.to_task_id),
        dep_type=dep_type,
        worker_id=read.identifier("worker_id", request.worker_id, optional=True),
    )


def _created_one(answer: tasks.Created) -> pb.CreateTaskResponse:
    return pb.CreateTaskResponse(
        task=show.task(answer.tasks[0]), warnings=answer.warnings, revision=answer.revision
    )


def _created(answer: tasks.Created) -> pb.CreateTaskTreeResponse:
    return pb.CreateTaskTreeResponse(
        tasks=show.tasks(answer.tasks), warnings=answer.warnings, revision=answer.revision
    )


def _gate(asked: Asked) -> pb.GateCheck:
    return pb.GateCheck(
        name=asked.gate.name,
        leaving=asked.leaving,
        attachment_type=asked.gate.attachment_type,
        enforcement=asked.gate.enforcement,
        description=asked.gate.description,
        satisfied=asked.satisfied,
        status=asked.status,
    )


def _updated(answer: tasks.Updated) -> pb.UpdateTaskResponse:
    return pb.UpdateTaskResponse(
        task=show.task(answer.task),
        unblocked_task_ids=answer.unblocked,
        prompts=prompts([answer.step]),
        warnings=answer.warnings,
        revision=answer.revision,
    )


def _deleted(answer: tasks.Deleted) -> pb.DeleteTaskResponse:
    return pb.DeleteTaskResponse(
        deleted_task_ids=answer.deleted,
        unblocked_task_ids=answer.unblocked,
        revision=answer.revision,
    )


def _linked(answer: dependencies.Linked) -> pb.LinkTasksResponse:
    return pb.LinkTasksResponse(
        dependency=show.dependency(answer.dependency),
        created=answer.created,
        revision=answer.revision,
    )


def _unlinked(answer: dependencies.Unlinked) -> pb.UnlinkTasksResponse:
    return pb.UnlinkTasksResponse(
        removed=map(show.dependency, answer.removed),
        unblocked_task_ids=answer.unblocked,
        revision=answer.revision,
    )


def _signaled(answer: signals.Signaled) -> pb.SignalTaskResponse:
    return pb.SignalTaskResponse(task=show.task(answer.task), revision=answer.revision)


def _boosted(answer: signals.Signaled) -> pb.BoostTaskResponse:
    return pb.BoostTaskResponse(task=show.task(answer.task), revision=answer.revision)


def _logged(answer: metrics.Logged) -> pb.LogMetricsResponse:
    return pb.LogMetricsResponse(metrics=show.metrics(answer.task), revision=answer.revision)
