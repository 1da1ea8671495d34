"""WorkerService: who takes part."""

from typing import Any

from taskloom.v1 import worker_service_pb2 as pb
from taskloom.v1 import worker_service_pb2_grpc

from taskloom_server.coordinator import overlays, thoughts, workers
from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.overlays import MAX_OVERLAYS
from taskloom_server.service import paging, read, show
from taskloom_server.service.calls import Calls
from taskloom_server.service.prompts import prompts

DEFAULT_LEASE_MS = 900_000


class WorkerServicer(worker_service_pb2_grpc.WorkerServiceServicer):
    """See worker_service.proto."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Connect(self, request: pb.ConnectRequest, context: Any) -> pb.ConnectResponse:  # noqa: D102
        cool_down = read.duration_ms(
            "cool_down", request, "cool_down", low=0, high=read.DAY_MS, default=0
        )
        ask = workers.Connect(
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
            workflow=read.identifier("workflow", request.workflow, optional=True),
            tags=read.tags("tags", request.tags),
            max_claims=read.whole("max_claims", request.max_claims, 0, 1_000) or 1,
            lease_ms=read.lease_ms("lease", request) or DEFAULT_LEASE_MS,
            cool_down_ms=cool_down or 0,
            overlays=read.identifiers("overlays", request.overlays, MAX_OVERLAYS),
        )
        return await self._calls.write(
            request, workers.connect, ask, pb.ConnectResponse, _connected
        )

    async def Disconnect(  # noqa: D102
        self, request: pb.DisconnectRequest, context: Any
    ) -> pb.DisconnectResponse:
        ask = workers.Disconnect(
            worker_id=read.identifier("worker_id", request.worker_id),
            reason=read.text("reason", request.reason, read.MAX_REASON),
        )
        return await self._calls.write(
            request, workers.disconnect, ask, pb.DisconnectResponse, _disconnected
        )

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Any) -> pb.HeartbeatResponse:  # noqa: D102
        worker_id = read.identifier("worker_id", request.worker_id)
        return _seen(await self._calls.write_anew(workers.heartbeat, worker_id))

    async def SetThought(  # noqa: D102
        self, request: pb.SetThoughtRequest, context: Any
    ) -> pb.SetThoughtResponse:
        ask = thoughts.Think(
            worker_id=read.identifier("worker_id", request.worker_id),
            task_id=read.identifier("task_id", request.task_id, optional=True),
            claim_revision=read.revision("claim_revision", request.claim_revision),
            thought=read.text("thought", request.thought, read.MAX_REASON),
        )
        if ask.claim_revision and not ask.task_id:
            raise InvalidField("claim_revision", "goes with a task_id")
        return await self._calls.write(
            request, thoughts.set_thought, ask, pb.SetThoughtResponse, _thought
        )

    async def ListWorkers(  # noqa: D102
        self, request: pb.ListWorkersRequest, context: Any
    ) -> pb.ListWorkersResponse:
        place = paging.read_token(request, str)
        ask = workers.ListWorkers(
            after=place[0] if place else "",
            limit=paging.page_size(request),
            include_disconnected=request.include_disconnected,
            stale_ms=read.duration_ms(
                "stale_after", request, "stale_after", low=0, high=3_660 * read.DAY_MS, default=0
            )
            or 0,
            tags=frozenset(read.tags("tags_all", request.tags_all)),
        )
        page = await self._calls.read(workers.list_workers, ask)
        return pb.ListWorkersResponse(
            workers=[show.worker(*shown) for shown in page.workers],
            next_page_token=paging.write_token(request, page.next_after),
            time=show.timestamp(page.now),
            revision=page.revision,
        )

    async def AddOverlay(  # noqa: D102
        self, request: pb.AddOverlayRequest, context: Any
    ) -> pb.AddOverlayResponse:
        return await self._calls.write(
            request, overlays.add, _change_overlay(request), pb.AddOverlayResponse, _added
        )

    async def RemoveOverlay(  # noqa: D102
        self, request: pb.RemoveOverlayRequest, context: Any
    ) -> pb.RemoveOverlayResponse:
        return await self._calls.write(
            request, overlays.remove, _change_overlay(request), pb.RemoveOverlayResponse, _removed
        )


def _change_overlay(
    request: pb.AddOverlayRequest | pb.RemoveOverlayRequest,
) -> overlays.ChangeOverlay:
    return overlays.ChangeOverlay(
        worker_id=read.identifier("worker_id", request.worker_id),
        overlay=read.identifier("overlay", request.overlay),
        by=read.identifier("by_worker_id", request.by_worker_id, optional=True)
        if request.HasField("by_worker_id")
        else None,
    )


def _added(answer: overlays.Changed) -> pb.AddOverlayResponse:
    return pb.AddOverlayResponse(
        worker=show.worker(answer.worker, answer.held, answer.role), revision=answer.revision
    )


def _removed(answer: overlays.Changed) -> pb.RemoveOverlayResponse:
    return pb.RemoveOverlayResponse(
        worker=show.worker(answer.worker, answer.held, answer.role), revision=answer.revision
    )


def _connected(answer: workers.Connected) -> pb.ConnectResponse:
    return pb.ConnectResponse(
        worker=show.worker(answer.worker, answer.held_count, answer.role),
        held_tasks=show.tasks(answer.held),
        incarnation=answer.incarnation,
        prompts=prompts(answer.steps),
        warnings=answer.warnings,
        revision=answer.revision,
    )


def _thought(answer: thoughts.Thought) -> pb.SetThoughtResponse:
    return pb.SetThoughtResponse(
        worker=show.worker(answer.worker, answer.held),
        task_ids=answer.task_ids,
        revision=answer.revision,
    )


def _disconnected(answer: workers.Disconnected) -> pb.DisconnectResponse:
    return pb.DisconnectResponse(
        worker=show.worker(answer.worker, 0, answer.role),
        released_task_ids=answer.released,
        revision=answer.revision,
    )


def _seen(answer: workers.Seen) -> pb.HeartbeatResponse:
    return pb.HeartbeatResponse(
        worker=show.worker(answer.worker, answer.held, answer.role),
        lease_expire_time=show.timestamp(answer.lease_expires_at),
        over_budget_task_ids=answer.over_budget,
        revision=answer.revision,
    )
