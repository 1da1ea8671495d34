"""ClaimService: taking tasks, and ending them. The hot path."""

from typing import Any

from taskloom.v1 import claim_service_pb2 as pb
from taskloom.v1 import claim_service_pb2_grpc, task_pb2

from taskloom_server.coordinator import claims
from taskloom_server.coordinator.admission import Held
from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.workers import Outcome
from taskloom_server.service import read, show
from taskloom_server.service.calls import Calls
from taskloom_server.service.workers import LEASE_BOUNDS

_OUTCOMES = {
    Outcome.CLAIMED: pb.CLAIM_OUTCOME_CLAIMED,
    Outcome.NONE_READY: pb.CLAIM_OUTCOME_NONE_READY,
    Outcome.ALL_DONE: pb.CLAIM_OUTCOME_ALL_DONE,
    Outcome.PAUSED: pb.CLAIM_OUTCOME_PAUSED,
    Outcome.COOLING_DOWN: pb.CLAIM_OUTCOME_COOLING_DOWN,
    Outcome.LIMIT_REACHED: pb.CLAIM_OUTCOME_LIMIT_REACHED,
}
_ORDERS = (task_pb2.ORDER_BY_UNSPECIFIED, task_pb2.ORDER_BY_PRIORITY)
_MAX_TASKS = 100


class ClaimServicer(claim_service_pb2_grpc.ClaimServiceServicer):
    """See claim_service.proto."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def ClaimTask(self, request: pb.ClaimTaskRequest, context: Any) -> pb.ClaimTaskResponse:  # noqa: D102
        ask = claims.Claim(
            worker_id=read.identifier("worker_id", request.worker_id),
            task_id=read.identifier("task_id", request.task_id),
            lease_ms=read.duration_ms("lease", request, "lease", default=None, **LEASE_BOUNDS),
        )
        return await self._calls.write(
            request, claims.claim_task, ask, pb.ClaimTaskResponse, _claimed_one
        )

    async def ClaimNextTask(  # noqa: D102
        self, request: pb.ClaimNextTaskRequest, context: Any
    ) -> pb.ClaimNextTaskResponse:
        if request.order_by not in _ORDERS:
            raise InvalidField("order_by", "must be ORDER_BY_PRIORITY or absent")
        wait = read.duration_ms("wait", request, "wait", low=0, high=read.DAY_MS, default=None)
        ask = claims.ClaimNext(
            worker_id=read.identifier("worker_id", request.worker_id),
            max_tasks=read.whole("max_tasks", request.max_tasks, 0, _MAX_TASKS) or 1,
            lease_ms=read.duration_ms("lease", request, "lease", default=None, **LEASE_BOUNDS),
            parent_id=read.identifier("parent_id", request.parent_id, optional=True),
            wait_until=self._calls.deadline(wait, context) if wait else 0,
            wait_when_done=request.wait_when_done,
        )
        return await self._calls.write(
            request,
            claims.claim_next,
            ask,
            pb.ClaimNextTaskResponse,
            _claimed,
            undo=claims.give_back,
        )

    async def ReleaseTask(  # noqa: D102
        self, request: pb.ReleaseTaskRequest, context: Any
    ) -> pb.ReleaseTaskResponse:
        return await self._calls.write(
            request, claims.release, _held(request), pb.ReleaseTaskResponse, _released
        )

    async def CompleteTask(  # noqa: D102
        self, request: pb.CompleteTaskRequest, context: Any
    ) -> pb.CompleteTaskResponse:
        return await self._calls.write(
            request, claims.complete, _held(request), pb.CompleteTaskResponse, _completed
        )

    async def FailTask(self, request: pb.FailTaskRequest, context: Any) -> pb.FailTaskResponse:  # noqa: D102
        delay = read.duration_ms(
            "retry_delay", request, "retry_delay", low=0, high=7 * read.DAY_MS, default=0
        )
        held = _held(request)
        ask = claims.Fail(
            held.worker_id,
            held.task_id,
            held.claim_revision,
            held.reason,
            retry=request.retry,
            retry_delay_ms=delay or 0,
        )
        return await self._calls.write(request, claims.fail, ask, pb.FailTaskResponse, _failed)


def _held(
    request: pb.ReleaseTaskRequest | pb.CompleteTaskRequest | pb.FailTaskRequest,
) -> Held:
    return Held(
        worker_id=read.identifier("worker_id", request.worker_id),
        task_id=read.identifier("task_id", request.task_id),
        claim_revision=read.revision("claim_revision", request.claim_revision),
        reason=read.text("reason", request.reason, read.MAX_REASON),
    )


def _claimed_one(answer: claims.Moved) -> pb.ClaimTaskResponse:
    return pb.ClaimTaskResponse(task=show.task(answer.task), revision=answer.revision)


def _claimed(answer: claims.Claimed) -> pb.ClaimNextTaskResponse:
    return pb.ClaimNextTaskResponse(
        tasks=show.tasks(answer.tasks),
        outcome=_OUTCOMES[answer.outcome],
        retry_after=show.duration(answer.retry_after_ms),
        revision=answer.revision,
    )


def _released(answer: claims.Moved) -> pb.ReleaseTaskResponse:
    return pb.ReleaseTaskResponse(task=show.task(answer.task), revision=answer.revision)


def _completed(answer: claims.Moved) -> pb.CompleteTaskResponse:
    return pb.CompleteTaskResponse(
        task=show.task(answer.task),
        unblocked_task_ids=answer.unblocked,
        revision=answer.revision,
    )


def _failed(answer: claims.Moved) -> pb.FailTaskResponse:
    return pb.FailTaskResponse(
        task=show.task(answer.task),
        unblocked_task_ids=answer.unblocked,
        revision=answer.revision,
    )
