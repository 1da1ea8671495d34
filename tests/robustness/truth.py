"""What became history: the watch from revision 1, the same through each filter, and the file.

Read when all is quiet, past the relay, from a server that nobody disturbs.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
from grpc import aio
from taskloom import v1

from tests.robustness.recording import VERBS
from tests.robustness.wire import connect

# Where an attachment is: task, type and sequence.
Place = tuple[str, str, int]
Messages = list[tuple[int, bytes]]  # by revision, each as it was sent


@dataclass
class Truth:
    """The history of a round."""

    incarnation: str = ""
    messages: Messages = field(default_factory=list)  # of the watch without a filter
    filtered: dict[bytes, Messages] = field(default_factory=dict)  # by the filter's bytes
    contents: dict[Place, str] = field(default_factory=dict)  # SHA-256, or why there is none
    db: Path | None = None

    @property
    def revision(self) -> int:
        """The last there is."""
        return self.messages[-1][0] if self.messages else 0


async def read_until_quiet(
    address: str, truth: Truth, is_quiet: Callable[[v1.WatchEvents], bool], seconds: float
) -> None:
    """Follow the history from revision 1 until ``is_quiet`` says so of a message.

    It says so of the last message there is; after ``seconds`` without, TimeoutError.
    """
    async with connect(address) as channel:
        status = await _status(channel)
        async with asyncio.timeout(seconds) as limit:
            async for contents, message in _watch(channel, v1.WatchFilter()):
                kind = message.WhichOneof("content")
                if kind == "created":
                    truth.incarnation = message.created.incarnation
                elif kind == "events":
                    truth.messages.append((message.revision, contents))
                    quiet = is_quiet(message.events)
                    if quiet and message.revision >= status.revision:
                        limit.reschedule(None)
                        status = await _status(channel)
                        if status.revision == message.revision:
                            break


async def read_filtered(address: str, revision: int, filter_: bytes) -> Messages:
    """What a watch with this filter is told from revision 1 up to this one."""
    messages: Messages = []
    async with connect(address) as channel:
        wanted = v1.WatchFilter.FromString(filter_)
        async for contents, message in _watch(channel, wanted):
            if message.WhichOneof("content") == "events":
                messages.append((message.revision, contents))
            if message.revision >= revision:
                break
    return messages


async def read_contents(address: str, few: int) -> dict[Place, str]:
    """What is attached, as a download brings it: all that is large, and a few of the others."""
    sql = (
        "SELECT task_id, attachment_type, sequence FROM attachments ORDER BY file_path IS NULL, "
        "created_at DESC LIMIT (SELECT count(file_path) + ? FROM attachments)"
    )
    request = v1.QueryRequest(sql=sql, parameters=[v1.QueryValue(integer=few)], max_rows=10_000)
    contents: dict[Place, str] = {}
    async with connect(address) as channel:
        answer = await v1.AdminServiceStub(channel).Query(request, timeout=30, wait_for_ready=True)
        for row in answer.rows:
            task_id, type_, sequence = row.values
            place = task_id.text, type_.text, sequence.integer
            contents[place] = await _digest_of(channel, place)
    return contents


async def _digest_of(channel: aio.Channel, place: Place) -> str:
    task_id, type_, sequence = place
    where = v1.DownloadAttachmentRequest(task_id=task_id, type=type_, sequence=sequence)
    digest = hashlib.sha256()
    call = v1.AttachmentServiceStub(channel).DownloadAttachment(where, wait_for_ready=True)
    try:
        async for message in call:
            digest.update(message.chunk)
    except aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    return digest.hexdigest()


async def _status(channel: aio.Channel) -> v1.GetStatusResponse:
    call: Any = channel.unary_unary(VERBS["GetStatus"].path)
    contents = await call(b"", timeout=30, wait_for_ready=True)
    return v1.GetStatusResponse.FromString(contents)


async def _watch(channel: aio.Channel, filter_: v1.WatchFilter) -> Any:
    request = v1.WatchTasksRequest(start_revision=1, filter=filter_)
    request.progress_interval.FromSeconds(1)
    opened: Any = channel.unary_stream(VERBS["WatchTasks"].path)
    call = opened(request.SerializeToString(), wait_for_ready=True)
    try:
        async for contents in call:
            yield contents, v1.WatchTasksResponse.FromString(contents)
    finally:
        call.cancel()


def query(db: Path, sql: str) -> list[Any]:
    """The rows that a query finds in a file that no server has open."""
    connection = apsw.Connection(str(db), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
