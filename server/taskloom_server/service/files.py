"""FileService: who is at work on which file."""

from typing import Any

from taskloom.v1 import file_service_pb2 as pb
from taskloom.v1 import file_service_pb2_grpc

from taskloom_server.coordinator import files
from taskloom_server.graph.errors import InvalidField
from taskloom_server.service import paging, read, show
from taskloom_server.service.calls import Calls


class FileServicer(file_service_pb2_grpc.FileServiceServicer):
    """See file_service.proto."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def MarkFiles(self, request: pb.MarkFilesRequest, context: Any) -> pb.MarkFilesResponse:  # noqa: D102
        wait = read.duration_ms("wait", request, "wait", low=0, high=read.DAY_MS, default=None)
        ask = files.Mark(
            worker_id=read.identifier("worker_id", request.worker_id),
            paths=read.paths("paths", request.paths),
            task_id=read.identifier("task_id", request.task_id, optional=True),
            claim_revision=read.revision("claim_revision", request.claim_revision),
            reason=read.text("reason", request.reason, read.MAX_REASON),
            wait_until=self._calls.deadline(wait, context) if wait else 0,
        )
        if not ask.paths:
            raise InvalidField("paths", "is required")
        return await self._calls.write(
            request,
            files.mark_files,
            ask,
            pb.MarkFilesResponse,
            _marked,
            undo=files.give_back if wait else None,
        )

    async def UnmarkFiles(  # noqa: D102
        self, request: pb.UnmarkFilesRequest, context: Any
    ) -> pb.UnmarkFilesResponse:
        ask = files.Unmark(
            worker_id=read.identifier("worker_id", request.worker_id),
            paths=read.paths("paths", request.paths),
            task_id=read.identifier("task_id", request.task_id, optional=True),
            claim_revision=read.revision("claim_revision", request.claim_revision),
            reason=read.text("reason", request.reason, read.MAX_REASON),
        )
        if ask.claim_revision and not ask.task_id:
            raise InvalidField("claim_revision", "goes with task_id")
        return await self._calls.write(
            request, files.unmark_files, ask, pb.UnmarkFilesResponse, _unmarked
        )

    async def ListFileMarks(  # noqa: D102
        self, request: pb.ListFileMarksRequest, context: Any
    ) -> pb.ListFileMarksResponse:
        place = paging.read_token(request, str, str)
        ask = files.ListMarks(
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
            task_id=read.identifier("task_id", request.task_id, optional=True),
            paths=read.paths("paths", request.paths),
            after=("", "") if place is None else (place[0], place[1]),
            limit=paging.page_size(request),
        )
        page = await self._calls.read(files.list_marks, ask)
        return pb.ListFileMarksResponse(
            marks=map(show.file_mark, page.marks),
            next_page_token=paging.write_token(request, page.next_after),
            revision=page.revision,
        )


def _marked(answer: files.Marked) -> pb.MarkFilesResponse:
    return pb.MarkFilesResponse(
        marks=map(show.file_mark, answer.marks),
        conflicts=map(show.file_mark, answer.conflicts),
        revision=answer.revision,
    )


def _unmarked(answer: files.Unmarked) -> pb.UnmarkFilesResponse:
    return pb.UnmarkFilesResponse(unmarked_paths=answer.paths, revision=answer.revision)
