"""AdminService: the state of the whole, snapshots, reset, workflows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from taskloom.v1 import admin_service_pb2 as pb
from taskloom.v1 import admin_service_pb2_grpc

from taskloom_server import __version__
from taskloom_server.coordinator import system
from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.overlays import MAX_OVERLAYS
from taskloom_server.graph.workers import Pause
from taskloom_server.graph.workflows import InForce
from taskloom_server.service import query_values, read, show, show_workflows
from taskloom_server.service.calls import Calls
from taskloom_server.service.snapshots import Snapshots
from taskloom_server.store.queries import Queries


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """See admin_service.proto."""

    def __init__(
        self,
        calls: Calls,
        *,
        in_force: InForce,
        revision: Callable[[], int],
        started_at: int,
        queries: Queries,
        snapshots: Snapshots,
    ) -> None:
        self._calls = calls
        self._in_force = in_force
        self._revision = revision
        self._started_at = started_at
        self._queries = queries
        self._snapshots = snapshots
        self._status: system.Status | None = None  # as it was told last

    async def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:  # noqa: D102
        status = self._status = await self._calls.read(system.get_status, self._status)
        return pb.GetStatusResponse(
            version=__version__,
            incarnation=status.incarnation,
            server_time=show.timestamp(status.now),
            start_time=show.timestamp(self._started_at),
            paused=show.pause(status.paused) if status.paused else None,
            paused_subtrees=map(show.pause, status.paused_subtrees),
            over_budget_task_ids=status.over_budget,
            tasks_by_status=status.counts.by_status,
            ready_tasks=status.ready,
            unmatched_tasks=status.unmatched,
            claimed_tasks=status.claimed,
            delayed_tasks=status.delayed,
            open_tasks=status.open,
            connected_workers=status.connected_workers,
            oldest_revision=status.oldest_revision,
            revision=status.revision,
        )

    async def Pause(self, request: pb.PauseRequest, context: Any) -> pb.PauseResponse:  # noqa: D102
        return await self._calls.write(
            request, system.pause, _pause(request), pb.PauseResponse, _paused
        )

    async def Resume(self, request: pb.ResumeRequest, context: Any) -> pb.ResumeResponse:  # noqa: D102
        return await self._calls.write(
            request, system.resume, _pause(request), pb.ResumeResponse, _resumed
        )

    async def Reset(self, request: pb.ResetRequest, context: Any) -> pb.ResetResponse:  # noqa: D102
        if request.confirm != "reset":
            raise InvalidField("confirm", 'must be the word "reset"')
        return await self._calls.write(request, system.reset, None, pb.ResetResponse, _reset)

    async def ListWorkflows(  # noqa: D102
        self, request: pb.ListWorkflowsRequest, context: Any
    ) -> pb.ListWorkflowsResponse:
        workflows = self._in_force.workflows
        return pb.ListWorkflowsResponse(
            names=sorted(workflows.by_name),
            default_name=workflows.default_name,
            overlays=[
                show_workflows.overlay(each) for _, each in sorted(workflows.overlays.items())
            ],
            load_time=show.timestamp(self._in_force.loaded_at),
            load_error=self._in_force.error,
            load_error_time=show.timestamp(self._in_force.failed_at),
            revision=self._revision(),
        )

    async def GetWorkflow(  # noqa: D102
        self, request: pb.GetWorkflowRequest, context: Any
    ) -> pb.GetWorkflowResponse:
        name = read.identifier("name", request.name, optional=True)
        overlays = read.identifiers("overlays", request.overlays, MAX_OVERLAYS)
        return pb.GetWorkflowResponse(
            workflow=show_workflows.workflow(self._in_force.workflows.get(name, overlays)),
            revision=self._revision(),
        )

    async def ImportSnapshot(  # noqa: D102
        self, request_iterator: AsyncIterator[pb.ImportSnapshotRequest], context: Any
    ) -> pb.ImportSnapshotResponse:
        return await self._snapshots.bring_in(request_iterator)

    async def ExportSnapshot(  # noqa: D102
        self, request: pb.ExportSnapshotRequest, context: Any
    ) -> AsyncIterator[pb.ExportSnapshotResponse]:
        async for response in self._snapshots.take_out(request):
            yield response

    async def Query(self, request: pb.QueryRequest, context: Any) -> pb.QueryResponse:  # noqa: D102
        answer = await self._queries.run(query_values.read_query(request, context))
        # Ten thousand rows are a second's work, during which others want to be answered.
        return await asyncio.to_thread(query_values.show_answer, answer)


def _pause(request: pb.PauseRequest | pb.ResumeRequest) -> Pause:
    by = read.text("by", request.by, read.MAX_ID)
    task_id = read.identifier("task_id", request.task_id, optional=True)
    return Pause(by, read.text("reason", request.reason, read.MAX_REASON), 0, task_id or None)


def _paused(answer: tuple[Pause, int]) -> pb.PauseResponse:
    return pb.PauseResponse(paused=show.pause(answer[0]), revision=answer[1])


def _resumed(revision: int) -> pb.ResumeResponse:
    return pb.ResumeResponse(revision=revision)


def _reset(answer: tuple[str, int]) -> pb.ResetResponse:
    return pb.ResetResponse(incarnation=answer[0], revision=answer[1])
