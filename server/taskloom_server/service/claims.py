"""ClaimService: taking tasks, and ending them. The hot path."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from taskloom.v1 import claim_service_pb2 as pb
from taskloom.v1 import claim_service_pb2_grpc

from taskloom_server.coordinator import claims
from taskloom_server.coordinator.admission import Held
from taskloom_server.graph.errors import InvalidField
from taskloom_server.graph.workers import Outcome
from taskloom_server.service import read, show
from taskloom_server.service.calls import Calls
from taskloom_server.service.prompts import prompts
from taskloom_server.service.work import Call, OpenStreams, WorkStream
from taskloom_server.service.workers import WorkerServicer

# In which a call waits, if it may; in the others there is nothing to wait for.
_WAITS_WHILE = frozenset(
    (
        Outcome.NONE_READY,
        Outcome.PAUSED,
        Outcome.COOLING_DOWN,
        Outcome.WIP_LIMIT,
        Outcome.FILES_LOCKED,
        Outcome.ROLE_FORBIDS,
    )
)
_IS_ADVISORY = {
    pb.CLAIM_MODE_UNSPECIFIED: False,
    pb.CLAIM_MODE_EXCLUSIVE: False,
    pb.CLAIM_MODE_ADVISORY: True,
}
_MAX_TASKS = 100


class ClaimServicer(claim_service_pb2_grpc.ClaimServiceServicer):
    """See claim_service.proto."""

    def __init__(self, calls: Calls, streams: OpenStreams) -> None:
        self._calls = calls
        self._streams = streams

    async def ClaimTask(self, request: pb.ClaimTaskRequest, context: Any) -> pb.ClaimTaskResponse:  # noqa: D102
        ask = claims.Claim(
            worker_id=read.identifier("worker_id", request.worker_id),
            task_id=read.identifier("task_id", request.task_id),
            lease_ms=read.lease_ms("lease", request),
            advisory=_advisory(request),
            files=read.paths("files", request.files),
            mark_reason=read.text("mark_reason", request.mark_reason, read.MAX_REASON),
        )
        return await self._calls.write(
            request, claims.claim_task, ask, pb.ClaimTaskResponse, _claimed_one
        )

    async def ClaimNextTask(  # noqa: D102
        self, request: pb.ClaimNextTaskRequest, context: Any
    ) -> pb.ClaimNextTaskResponse:
        wait = read.duration_ms("wait", request, "wait", low=0, high=read.DAY_MS, default=None)
        ask = claims.ClaimNext(
            worker_id=read.identifier("worker_id", request.worker_id),
            max_tasks=read.whole("max_tasks", request.max_tasks, 0, _MAX_TASKS) or 1,
            lease_ms=read.lease_ms("lease", request),
            parent_id=read.identifier("parent_id", request.parent_id, optional=True),
            wait_until=self._calls.deadline(wait, context) if wait else 0,
            waits_while=_WAITS_WHILE | ({Outcome.ALL_DONE} if request.wait_when_done else set()),
            order=read.claim_order("order_by", request.order_by),
            advisory=_advisory(request),
            files=read.paths("files", request.files),
            mark_reason=read.text("mark_reason", request.mark_reason, read.MAX_REASON),
        )
        if ask.files and ask.max_tasks > 1:
            raise InvalidField("files", "are marked for one task; max_tasks must be one with them")
        return await self._calls.write(
            request,
            claims.claim_next,
            ask,
            pb.ClaimNextTaskResponse,
            _claimed,
            undo=claims.give_back,
            worth_it=_gives,
            free="wait",
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
        ask = replace(_held(request), force=request.force)
        return await self._calls.write(
            request, claims.complete, ask, pb.CompleteTaskResponse, _completed
        )

    async def FailTask(self, request: pb.FailTaskRequest, context: Any) -> pb.FailTaskResponse:  # noqa: D102
        delay = None  # the task's own
        if request.HasField("retry_delay"):
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
            retry_delay_ms=delay,
        )
        return await self._calls.write(request, claims.fail, ask, pb.FailTaskResponse, _failed)

    async def Work(  # noqa: D102
        self, request_iterator: AsyncIterator[pb.WorkRequest], context: Any
    ) -> AsyncIterator[pb.WorkResponse]:
        verbs: dict[str, Call] = {
            "complete": self.CompleteTask,
            "fail": self.FailTask,
            "release": self.ReleaseTask,
            "heartbeat": WorkerServicer(self._calls).Heartbeat,
        }
        stream = WorkStream(self._calls, self._streams, verbs)
        # Generators are not closed when their call is cancelled, so not in a `finally`.
        context.add_done_callback(lambda _: stream.close(cut=not context.done()))
        async for response in stream.responses(request_iterator):
            yield response


def _advisory(request: pb.ClaimTaskRequest | pb.ClaimNextTaskRequest) -> bool:
    if request.mode not in _IS_ADVISORY:
        raise InvalidField("mode", f"is {request.mode}, which is no mode of claims")
    return _IS_ADVISORY[request.mode]


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
    return pb.ClaimTaskResponse(
        task=show.task(answer.task),
        prompts=prompts([answer.step]),
        conflicts=map(show.file_mark, answer.conflicts),
        revision=answer.revision,
    )


def _gives(response: pb.ClaimNextTaskResponse) -> bool:
    """An agent that waits for work gets a great many answers that it can do without."""
    return bool(response.tasks)


def _claimed(answer: claims.Claimed) -> pb.ClaimNextTaskResponse:
    return pb.ClaimNextTaskResponse(
        tasks=show.tasks(answer.tasks),
        outcome=show.OUTCOMES[answer.outcome],
        retry_after=show.duration(answer.retry_after_ms),
        held_task_ids=answer.held,
        prompts=prompts(answer.steps),
        conflicts=map(show.file_mark, answer.conflicts),
        revision=answer.revision,
    )


def _released(answer: claims.Moved) -> pb.ReleaseTaskResponse:
    return pb.ReleaseTaskResponse(
        task=show.task(answer.task), prompts=prompts([answer.step]), revision=answer.revision
    )


def _completed(answer: claims.Moved) -> pb.CompleteTaskResponse:
    return pb.CompleteTaskResponse(
        task=show.task(answer.task),
        unblocked_task_ids=answer.unblocked,
        prompts=prompts([answer.step]),
        warnings=answer.warnings,
        revision=answer.revision,
    )


def _failed(answer: claims.Moved) -> pb.FailTaskResponse:
    return pb.FailTaskResponse(
        task=show.task(answer.task),
        unblocked_task_ids=answer.unblocked,
        prompts=prompts([answer.step]),
        revision=answer.revision,
    )
