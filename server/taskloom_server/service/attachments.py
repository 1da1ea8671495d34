"""AttachmentService: results and notes on tasks."""

import hashlib
import re
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from taskloom.v1 import attachment_service_pb2 as pb
from taskloom.v1 import attachment_service_pb2_grpc

from taskloom_server.coordinator import attachments
from taskloom_server.graph.errors import AttachmentTooLarge, InvalidField
from taskloom_server.service import paging, read, show
from taskloom_server.service.calls import Calls
from taskloom_server.store.media import CHUNK, Media, Part

MAX_CONTENT = 1 << 20  # bytes, of content in the database
MAX_UPLOAD = 100_000_000  # bytes
_MAX_CHUNK = 1 << 20
_MAX_NAME = 255
# Unicode's Bidi_Control: they turn the order around in which what follows is shown.
_BIDIRECTIONAL = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class AttachmentServicer(attachment_service_pb2_grpc.AttachmentServiceServicer):
    """See attachment_service.proto."""

    def __init__(self, calls: Calls, media: Media) -> None:
        self._calls = calls
        self._media = media

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
            name=attachment_name("name", request.name),
            mime_type=mime_type("mime_type", request.mime_type),
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
        found = await self._calls.read(attachments.get_attachment, _find(request))
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

    async def UploadAttachment(  # noqa: D102
        self, request_iterator: AsyncIterator[pb.UploadAttachmentRequest], context: Any
    ) -> pb.UploadAttachmentResponse:
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None or not first.HasField("options"):
            raise InvalidField("options", "must come in the first message")
        options = first.options
        ask = _upload(options)
        part = self._media.part(in_memory=MAX_CONTENT)
        try:
            async for request in requests:
                await _append(part, request)
            # To gRPC's iterator a call that was cancelled is at its end like one that is whole,
            # and the cancellation comes later. But on a call that is cancelled nothing can be sent.
            await context.send_initial_metadata(())
            await part.finish()
            _check_whole(part, options)
            return await self._keep(part, ask, options)
        finally:
            await self._media.discard(part)

    async def _keep(
        self, part: Part, ask: attachments.Attach, options: pb.UploadOptions
    ) -> pb.UploadAttachmentResponse:
        """Attach what has come."""

        async def write(ask: attachments.Attach) -> pb.UploadAttachmentResponse:
            return await self._calls.write(
                options,
                attachments.attach,
                ask,
                pb.UploadAttachmentResponse,
                _uploaded,
                body=bytes.fromhex(part.sha256),
            )

        if part.content is not None:
            return await write(replace(ask, content=part.content))
        kept = replace(ask, file=attachments.StoredFile(part.sha256, part.size))
        return await self._media.keep([part], lambda: write(kept))

    async def DownloadAttachment(  # noqa: D102
        self, request: pb.DownloadAttachmentRequest, context: Any
    ) -> AsyncIterator[pb.DownloadAttachmentResponse]:
        found = await self._calls.read(attachments.get_attachment, _find(request))
        attachment = found.attachment
        content = attachment.content or b""
        told = show.attachment(attachment._replace(content=None))
        if attachment.file_path is None:
            told.sha256 = hashlib.sha256(content).hexdigest()
        yield pb.DownloadAttachmentResponse(attachment=told, revision=found.revision)
        if attachment.file_path is not None:
            async for chunk in self._media.read(attachment.file_path, attachment.size):
                yield pb.DownloadAttachmentResponse(chunk=chunk)
        for start in range(0, len(content), CHUNK):
            yield pb.DownloadAttachmentResponse(chunk=content[start : start + CHUNK])


def attachment_name(field: str, value: str) -> str:
    """A display name: nothing that looks like a place in a file system."""
    read.text(field, value, _MAX_NAME)
    if "/" in value or "\\" in value or value in (".", ".."):
        raise InvalidField(field, f"{value!a} looks like a path; a name is only shown to people")
    _check_printable(field, value)
    for character in value:
        if character in _BIDIRECTIONAL:
            raise InvalidField(
                field, f"contains {character!a}, by which a name is shown as another one"
            )
    return value


def mime_type(field: str, value: str) -> str:
    """A MIME type, or nothing: any printable text."""
    _check_printable(field, read.text(field, value, _MAX_NAME))
    return value


def _check_printable(field: str, value: str) -> None:
    for character in value:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise InvalidField(field, f"contains {character!a}; control characters are not allowed")


def _find(request: pb.GetAttachmentRequest | pb.DownloadAttachmentRequest) -> attachments.Find:
    return attachments.Find(
        task_id=read.identifier("task_id", request.task_id),
        type=read.identifier("type", request.type),
        sequence=request.sequence if request.HasField("sequence") else None,
    )


def _upload(options: pb.UploadOptions) -> attachments.Attach:
    """What is to be attached, still without its content. Raises what can be said at once."""
    if options.HasField("size"):
        if options.size < 0:
            raise InvalidField("options.size", "must not be negative")
        _check_size(options.size)
    if options.sha256 and not _SHA256.fullmatch(options.sha256):
        raise InvalidField("options.sha256", "is not 64 hexadecimal digits")
    mime = mime_type("options.mime_type", options.mime_type)
    return attachments.Attach(
        task_id=read.identifier("options.task_id", options.task_id),
        worker_id=read.identifier("options.worker_id", options.worker_id, optional=True),
        claim_revision=read.revision("options.claim_revision", options.claim_revision),
        type=read.identifier("options.type", options.type),
        name=attachment_name("options.name", options.name),
        mime_type=mime or "application/octet-stream",
        content=b"",
    )


def _check_size(size: int) -> None:
    if size > MAX_UPLOAD:
        raise AttachmentTooLarge(
            f"the attachment is larger than {MAX_UPLOAD:,} bytes (100 MB), which is the most that "
            "is kept"
        )


async def _append(part: Part, request: pb.UploadAttachmentRequest) -> None:
    if request.HasField("options"):
        raise InvalidField("options", "came twice; only the first message has them")
    if len(request.chunk) > _MAX_CHUNK:
        raise InvalidField("chunk", f"is larger than {_MAX_CHUNK:,} bytes")
    _check_size(part.size + len(request.chunk))
    await part.append(request.chunk)


def _check_whole(part: Part, options: pb.UploadOptions) -> None:
    if options.HasField("size") and options.size != part.size:
        raise InvalidField("options.size", f"is {options.size:,}, but {part.size:,} bytes came")
    if options.sha256 and options.sha256.lower() != part.sha256:
        raise InvalidField("options.sha256", f"is not that of what came, which is {part.sha256}")


def _uploaded(answer: attachments.Found) -> pb.UploadAttachmentResponse:
    return pb.UploadAttachmentResponse(
        attachment=show.attachment(answer.attachment), revision=answer.revision
    )


def _attached(answer: attachments.Found) -> pb.AttachResponse:
    return pb.AttachResponse(
        attachment=show.attachment(answer.attachment),
        warnings=answer.warnings,
        revision=answer.revision,
    )


def _detached(revision: int) -> pb.DetachResponse:
    return pb.DetachResponse(revision=revision)
