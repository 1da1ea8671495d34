"""The client's ends of a transfer: contents of every kind in, a checked content out."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Agent, Client, HeldTask
from taskloom_client.errors import Unavailable
from taskloom_client.interceptors import interceptors
from taskloom_client.transfers import upload

from tests.calls import create

if TYPE_CHECKING:
    from tests.conftest import Server

LARGE = bytes(range(256)) * 5_000  # above 1 MiB


@pytest.fixture
async def task(client: Client) -> str:
    """A task."""
    return (await create(client, "a")).id


async def test_every_kind_of_content(client: Client, task: str, tmp_path: Path) -> None:
    """Bytes, paths, open files and pipes are sent whole; progress ends at their size."""
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    reading, writing = os.pipe()
    os.write(writing, b"piped")
    os.close(writing)
    with path.open("rb") as opened, os.fdopen(reading, "rb") as pipe:
        opened.seek(5)
        for content, expected in (
            (LARGE, LARGE),
            (path, LARGE),
            (opened, LARGE[5:]),
            (io.BytesIO(b"in memory"), b"in memory"),
            (pipe, b"piped"),
            (b"", b""),
        ):
            gone: list[int] = []
            made = await client.upload(task, "t", content, progress=gone.append)
            assert made.size == len(expected)
            assert gone[-1:] == [len(expected)] * bool(expected)
            assert b"".join([c async for c in client.download(task, "t")]) == expected


class Breaking:
    """The stub of a server with which the connection breaks, so many times, before the answer."""

    def __init__(self, stub: Any, times: int) -> None:
        self._stub = stub
        self._left = times
        self.tries = 0

    def UploadAttachment(self, requests: AsyncIterator[Any], **options: Any) -> Any:
        """Have the upload done, and the answer lost."""
        self.tries += 1
        self._left -= 1
        return self._lost(requests, options) if self._left >= 0 else self._call(requests, options)

    async def _call(self, requests: AsyncIterator[Any], options: dict[str, Any]) -> Any:
        return await self._stub.UploadAttachment(requests, **options)

    async def _lost(self, requests: AsyncIterator[Any], options: dict[str, Any]) -> Any:
        await self._call(requests, options)
        raise Unavailable("the connection broke", code=grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("kind", ["bytes", "path", "file"])
async def test_what_can_be_read_anew_is_sent_again(
    client: Client, task: str, tmp_path: Path, kind: str
) -> None:
    """Whose answer is lost four times is attached once; what cannot be read anew is not sent."""
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    stub: Any = Breaking(client.attachments, 4)
    options = v1.UploadOptions(task_id=task, type="t")
    with path.open("rb") as opened:
        contents: dict[str, Any] = {"bytes": LARGE, "path": path, "file": opened}
        if kind == "file":
            with pytest.raises(Unavailable):
                await upload(stub, options, contents[kind])
        else:
            assert (await upload(stub, options, contents[kind])).sequence == 0
    assert stub.tries == (1 if kind == "file" else 5)
    listed = await client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id=task))
    assert [one.size for one in listed.attachments] == [len(LARGE)]
    stub = Breaking(client.attachments, 5)
    with pytest.raises(Unavailable):
        await upload(stub, options, LARGE)
    assert stub.tries == 5


class GivenUp:
    """A call as grpc.aio leaves it that could not write a message: cancelled, by itself."""

    def cancel(self) -> bool:
        """It is over already."""
        return False

    def __await__(self) -> Generator[object, None, None]:
        ended = asyncio.get_running_loop().create_future()
        ended.cancel()
        return ended.__await__()


@pytest.mark.parametrize("by_the_caller", [False, True])
async def test_a_call_that_grpc_gave_up_is_no_cancellation(by_the_caller: bool) -> None:
    """Whose server died while a message was being written is told so; who cancels is not."""

    async def continuation(_details: object, _requests: object) -> GivenUp:
        return GivenUp()

    details = grpc.aio.ClientCallDetails("/s/UploadAttachment", None, None, None, None)
    interceptor: Any = interceptors("nowhere:1", None)[2]
    call = await interceptor.intercept_stream_unary(continuation, details, iter(()))
    if by_the_caller:
        call.cancel()
    with pytest.raises(asyncio.CancelledError if by_the_caller else Unavailable):
        await call


async def test_what_cannot_be_read_is_the_callers(client: Client, task: str) -> None:
    """What reading raises is raised as it is, before or in the midst, and nothing is attached."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0:
                raise OSError(5, "Input/output error")
            return super().read(size)

    def unlucky() -> Iterator[v1.UploadAttachmentRequest]:
        yield v1.UploadAttachmentRequest(options=v1.UploadOptions(task_id=task, type="t"))
        raise KeyError("unlucky")

    async def unlucky_async() -> AsyncIterator[v1.UploadAttachmentRequest]:
        for one in unlucky():
            yield one

    with pytest.raises(FileNotFoundError):
        await client.upload(task, "t", Path("/none"))
    with pytest.raises(OSError, match="Input/output error"):
        await client.upload(task, "t", Broken(LARGE))
    for requests in (unlucky, unlucky_async):
        with pytest.raises(KeyError, match="unlucky"):
            await client.attachments.UploadAttachment(requests())
    listed = await client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id=task))
    assert not listed.attachments


async def test_what_is_saved_is_whole(client: Client, task: str, tmp_path: Path) -> None:
    """A file is replaced when all has come, through a link, with the rights of a new file."""
    await client.upload(task, "t", LARGE)
    (tmp_path / "target").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("target")
    come: list[int] = []
    made = await client.download(task, "t").save(link, progress=come.append)
    assert (made.size, come[-1]) == (len(LARGE), len(LARGE))
    assert link.is_symlink()
    assert (tmp_path / "target").read_bytes() == LARGE
    (tmp_path / "new").touch()
    assert (tmp_path / "target").stat().st_mode == (tmp_path / "new").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 3 + len(list(tmp_path.glob("tasks.db*")))


async def work_on(client: Client, work: Callable[[HeldTask], Awaitable[None]]) -> None:
    """Let an agent do the one task there is."""
    async with Agent(client, "w") as agent, asyncio.timeout(30):
        async for task in agent.tasks():
            await work(task)
            return


async def test_an_agent_attaches_files(server: "Server", client: Client, tmp_path: Path) -> None:
    """A held task takes text, bytes of any size, and files with their names and types."""
    await create(client, "a")
    page = tmp_path / "page.html"
    page.write_text("<p>")
    attached = []

    async def work(task: HeldTask) -> None:
        assert await task.mark(["lock:disk"], "writing", wait=timedelta(seconds=1)) == []
        for content in ("text", LARGE, page):
            attached.append(await task.attach("t", content))

    await work_on(client, work)
    assert [(one.size, one.name, one.mime_type) for one in attached if one] == [
        (4, "", "text/plain"),
        (len(LARGE), "", "application/octet-stream"),
        (3, "page.html", "text/html"),
    ]


async def test_an_agent_that_lost_its_task_attaches_nothing(
    server: "Server", client: Client
) -> None:
    """When the claim is lost, attaching answers None and sets `lost`, whatever the size."""
    await create(client, "a")
    found: list[tuple[object, bool]] = []

    async def work(task: HeldTask) -> None:
        await client.workers.Disconnect(v1.DisconnectRequest(worker_id="w"))
        await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="a"))
        found.append((await task.attach("t", LARGE), task.lost))
        found.append((await task.attach("t", "text"), task.lost))

    await work_on(client, work)
    assert found == [(None, True), (None, True)]
