"""Contents of attachments on their way: to the server and from it, in chunks, of any size.

Neither end holds more than a few chunks of a content at a time.
"""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import IO

import grpc
from taskloom import v1

from taskloom_client.backoff import delays
from taskloom_client.errors import TaskloomError, Unavailable
from taskloom_client.request_ids import new_request_id

CHUNK = 256 * 1024
"""Bytes sent at once."""

_Read = bytes | IO[bytes] | AsyncIterable[bytes]
Content = _Read | Path
Progress = Callable[[int], None]
"""Called with how many bytes have gone, or come, so far."""


# As often, and at the same pace, as gRPC repeats the other calls.
_TRIES = 5
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


async def upload(
    stub: "v1.AttachmentServiceAsyncStub",
    options: v1.UploadOptions,
    content: Content,
    *,
    progress: Progress | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - it is the call's, not this coroutine's
) -> v1.Attachment:
    """Attach a content; a file is read as it is sent.

    The size is announced where it is known, so that what is too large is refused before it is
    sent. Raises TaskloomError, and what reading the content raises: OSError for a file.
    """
    announced = v1.UploadOptions()
    announced.CopyFrom(options)
    announced.request_id = announced.request_id or new_request_id()
    # What can be read anew is sent again, as other calls are if UNAVAILABLE. A refusal, too, may be
    # told as a broken connection where it comes while much is still being sent.
    pauses = islice(delays(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), _TRIES - 1)
    while True:
        try:
            return await _send(stub, announced, content, progress, timeout)
        except Unavailable as error:
            pause = next(pauses, None)
            if error.reason or pause is None or not isinstance(content, bytes | Path):
                raise
        await asyncio.sleep(pause)


async def _send(
    stub: "v1.AttachmentServiceAsyncStub",
    options: v1.UploadOptions,
    content: Content,
    progress: Progress | None,
    timeout: float | None,  # noqa: ASYNC109 - likewise
) -> v1.Attachment:
    """One try."""
    if isinstance(content, Path):
        with await asyncio.to_thread(content.open, "rb") as file:
            return await _send(stub, options, file, progress, timeout)
    announced = v1.UploadOptions()
    announced.CopyFrom(options)
    size = _size(content)
    if size is not None and not announced.HasField("size"):
        announced.size = size

    async def requests() -> AsyncIterator[v1.UploadAttachmentRequest]:
        yield v1.UploadAttachmentRequest(options=announced)
        sent = 0
        async for chunk in _chunks(content):
            yield v1.UploadAttachmentRequest(chunk=chunk)
            sent += len(chunk)
            if progress is not None:
                progress(sent)

    return (await stub.UploadAttachment(requests(), timeout=timeout)).attachment


def _size(content: _Read) -> int | None:
    """How many bytes there will be, where that can be known."""
    if isinstance(content, bytes):
        return len(content)
    if isinstance(content, AsyncIterable):
        return None
    try:
        status = os.fstat(content.fileno())
        return status.st_size - content.tell() if S_ISREG(status.st_mode) else None
    except OSError:
        return None


async def _chunks(content: _Read) -> AsyncIterator[bytes]:
    if isinstance(content, AsyncIterable):
        async for given in content:
            for start in range(0, len(given), CHUNK):
                yield given[start : start + CHUNK]
    elif isinstance(content, bytes):
        for start in range(0, len(content), CHUNK):
            yield content[start : start + CHUNK]
    else:
        while chunk := await asyncio.to_thread(content.read, CHUNK):
            yield chunk


class Download:
    """A content as it comes: an async iterator of chunks, checked against its hash at the end.

    Nothing is sent before ``attachment`` is asked for or the first chunk. Raises TaskloomError.
    """

    def __init__(
        self,
        stub: "v1.AttachmentServiceAsyncStub",
        request: v1.DownloadAttachmentRequest,
        *,
        timeout: float | None = None,
    ) -> None:
        self._stub = stub
        self._request = request
        self._timeout = timeout
        self._attachment: v1.Attachment | None = None
        self._messages: AsyncIterator[v1.DownloadAttachmentResponse] | None = None

    async def attachment(self) -> v1.Attachment:
        """What it is, without its content; ``sha256`` and ``size`` are of that."""
        if self._attachment is None:
            self._messages = aiter(
                self._stub.DownloadAttachment(self._request, timeout=self._timeout)
            )
            self._attachment = (await anext(self._messages)).attachment
        return self._attachment

    async def __aiter__(self) -> AsyncIterator[bytes]:
        attachment = await self.attachment()
        assert self._messages is not None
        digest = hashlib.sha256()
        async for message in self._messages:
            digest.update(message.chunk)
            yield message.chunk
        if digest.hexdigest() != attachment.sha256:
            raise TaskloomError(
                f"attachment {attachment.type!r} {attachment.sequence} of task "
                f"{attachment.task_id!r} did not come as it was attached",
                code=grpc.StatusCode.DATA_LOSS,
            )

    async def save(self, path: Path, *, progress: Progress | None = None) -> v1.Attachment:
        """Write the content to a file, which is there, or replaced, only when all has come.

        Raises TaskloomError and OSError.
        """
        attachment = await self.attachment()
        come = 0
        with _replacing(path) as file:
            async for chunk in self:
                await asyncio.to_thread(file.write, chunk)
                come += len(chunk)
                if progress is not None:
                    progress(come)
        return attachment


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside, which takes the name when all went well, or is removed."""
    target = path.resolve()  # of a link, not the link itself
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name[:100]}.", delete=False
    ) as file:
        beside = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), _mode_of_new_files())
            beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _mode_of_new_files() -> int:
    """What open() would give a new file; temporary ones are for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
