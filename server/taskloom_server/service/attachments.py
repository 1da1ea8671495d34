"""AttachmentService: results and notes on tasks."""

from typing import Any

from taskloom.v1 import attachment_service_pb2 as pb
from taskloom.v1 import attachment_service_pb2_grpc

from taskloom_server.coordinator import attachments
from taskloom_server.graph.errors import InvalidField
from taskloom_server.service import paging, read, show
from taskloom_server.service.calls import Calls

MAX_CONTENT = 1 << 20  # bytes
_MAX_NAME = 255


class AttachmentServicer(attachment_service_pb2_grpc.AttachmentServiceServicer):
    """See attachment_service.proto."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def Attach(self, request: pb.AttachRequest, context: Any) -> pb.AttachResponse:  # noqa: D102
        if len(request.content) > MAX_CONTENT:
            raise InvalidField(
                "content",
                f"has {len(request.content):,} bytes; at most {MAX_CONTENT:,} are allowed",
            )
        ask = attachments.Attach(
            task_id=read.identifier("task_id", request.task_id),
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
            claim_revision=read.revision("claim_revision", request.claim_revision),
            type=read.identifier("type", request.type),
            name=read.text("name", request.name, _MAX_NAME),
            mime_type=read.text("mime_type", request.mime_type, _MAX_NAME),
            content=request.content,
        )
        return await self._calls.write(
            request, attachments.attach, ask, pb.AttachResponse, _attached
        )

    async def ListAttachments(  # noqa: D102
        self, request: pb.ListAttachmentsRequest, context: Any
    ) -> pb.ListAttachmentsResponse:
        place = paging.read_token(request, str, int)
        ask = attachments.ListAttachments(
            task_id=read.identifier("task_id", request.task_id),
            type=read.identifier("type", request.type, optional=True),
            after=("", -1) if place is None else (place[0], place[1]),
            limit=paging.page_size(request),
        )
        page = await self._calls.read(attachments.list_attachments, ask)
        return pb.ListAttachmentsResponse(
            attachments=map(show.attachment, page.attachments),
            next_page_token=paging.write_token(request, page.next_after),
            revision=page.revision,
        )

    async def GetAttachment(  # noqa: D102
        self, request: pb.GetAttachmentRequest, context: Any
    ) -> pb.GetAttachmentResponse:
        ask = attachments.Find(
            task_id=read.identifier("task_id", request.task_id),
            type=read.identifier("type", request.type),
            sequence=request.sequence if request.HasField("sequence") else None,
        )
        found = await self._calls.read(attachments.get_attachment, ask)
        return pb.GetAttachmentResponse(
            attachment=show.attachment(found.attachment), revision=found.revision
        )

    async def Detach(self, request: pb.DetachRequest, context: Any) -> pb.DetachResponse:  # noqa: D102
        ask = attachments.Detach(
            task_id=read.identifier("task_id", request.task_id),
            worker_id=read.identifier("worker_id", request.worker_id, optional=True),
            claim_revision=read.revision("claim_revision", request.claim_revision),
            type=read.identifier("type", request.type),
            sequence=request.sequence,
        )
        return await self._calls.write(
            request, attachments.detach, ask, pb.DetachResponse, _detached
        )


def _attached(answer: attachments.Found) -> pb.AttachResponse:
    return pb.AttachResponse(
        attachment=show.attachment(answer.attachment),
        warnings=answer.warnings,
        revision=answer.revision,
    )


def _detached(revision: int) -> pb.DetachResponse:
    return pb.DetachResponse(revision=revision)
