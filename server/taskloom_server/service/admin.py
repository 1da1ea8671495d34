"""AdminService: the state of the whole, snapshots, reset, workflows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from taskloom.v1 import admin_service_pb2 as pb
from taskloom.v1 import admin_service_pb2_grpc

from taskloom_server import __version__
from taskloom_server.coordinator import snapshots, system
from taskloom_server.graph.errors import InvalidField, SnapshotTooLarge
from taskloom_server.graph.overlays import MAX_OVERLAYS
from taskloom_server.graph.workers import Pause
from taskloom_server.graph.workflows import InForce
from taskloom_server.service import read, show, show_workflows, snapshot_files
from taskloom_server.service.calls import Calls

_CHUNK = 256 << 10
_MAX_CHUNK = 1 << 20
_MODES = {
    pb.IMPORT_MODE_UNSPECIFIED: snapshots.Mode.TEMPLATE,
    pb.IMPORT_MODE_TEMPLATE: snapshots.Mode.TEMPLATE,
    pb.IMPORT_MODE_RESTORE: snapshots.Mode.RESTORE,
}


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """See admin_service.proto."""

    def __init__(
        self, calls: Calls, in_force: InForce, revision: Callable[[], int], started_at: int
    ) -> None:
        self._calls = calls
        self._in_force = in_force
        self._revision = revision
        self._started_at = started_at

    async def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:  # noqa: D102
        status = await self._calls.read(system.get_status, None)
        return pb.GetStatusResponse(
            version=__version__,
            incarnation=status.incarnation,
            server_time=show.timestamp(status.now),
            start_time=show.timestamp(self._started_at),
            paused=show.pause(status.paused) if status.paused else None,
            paused_subtrees=map(show.pause, status.paused_subtrees),
            tasks_by_status=status.by_status,
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
        options: pb.ImportOptions | None = None
        contents = bytearray()
        async for request in request_iterator:
            if request.HasField("options"):
                if options is not None:
                    raise InvalidField("options", "came twice; only the first message has them")
                options = request.options
                continue
            if options is None:
                raise InvalidField("options", "must come in the first message")
            if len(request.chunk) > _MAX_CHUNK:
                raise InvalidField("chunk", f"is larger than {_MAX_CHUNK:,} bytes")
            contents += request.chunk
            if len(contents) > snapshot_files.MAX_BYTES:
                raise SnapshotTooLarge(
                    f"the snapshot is larger than {snapshot_files.MAX_BYTES:,} bytes"
                )
        if options is None:
            raise InvalidField("options", "must come in the first message")
        if options.mode not in _MODES:
            raise InvalidField("options.mode", f"is {options.mode}, which is no mode")
        workflow = read.identifier("options.workflow", options.workflow, optional=True)
        snapshot, warnings = await asyncio.to_thread(snapshot_files.parse, bytes(contents))
        ask = snapshots.Import(snapshot, _MODES[options.mode], workflow, warnings)
        return await self._calls.write(
            options,
            snapshots.import_snapshot,
            ask,
            pb.ImportSnapshotResponse,
            _imported,
            body=bytes(contents),
        )

    async def ExportSnapshot(  # noqa: D102
        self, request: pb.ExportSnapshotRequest, context: Any
    ) -> AsyncIterator[pb.ExportSnapshotResponse]:
        exported = await self._calls.read(snapshots.export_snapshot, None)
        contents = await asyncio.to_thread(
            snapshot_files.render, exported.snapshot, exported.exported_at, gzipped=request.gzip
        )
        revision = exported.revision
        for start in range(0, len(contents), _CHUNK):
            chunk = contents[start : start + _CHUNK]
            yield pb.ExportSnapshotResponse(chunk=chunk, revision=revision)
            revision = 0


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


def _imported(answer: snapshots.Imported) -> pb.ImportSnapshotResponse:
    return pb.ImportSnapshotResponse(
        rows=answer.rows, warnings=answer.warnings, revision=answer.revision
    )
