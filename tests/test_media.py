"""Large attachments: streamed in and out, kept in files that no name can lead astray."""

import asyncio
import hashlib
import os
import random
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client
from taskloom_server.store.media import Media

from tests.calls import claim, complete, connect, create
from tests.test_files import events_since, refusal

if TYPE_CHECKING:
    from tests.conftest import Server, ServerProcess

MIB = 1 << 20
LIMIT = 100_000_000
LARGE = random.Random(7).randbytes(3 * MIB + 17)
OTHER = random.Random(8).randbytes(MIB + 1)


def sha256(content: bytes) -> str:
    """Of a content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def folder(server: "Server") -> Path:
    """Where the server keeps its files."""
    return server.db.with_name(server.db.name + "-media")


def kept(server: "Server") -> list[str]:
    """The files that the server keeps, finished or not."""
    return sorted(os.listdir(folder(server))) if folder(server).exists() else []


async def until_kept(server: "Server", *contents: bytes) -> None:
    """Wait until just these contents are kept; what is removed goes after the answer."""
    async with asyncio.timeout(10):
        expected = sorted(sha256(content) for content in contents)
        while await asyncio.to_thread(kept, server) != expected:
            pass


async def fetched(client: Client, task: str, type: str, sequence: int | None = None) -> bytes:
    """The content of an attachment."""
    return b"".join([chunk async for chunk in client.download(task, type, sequence)])


async def zeros(size: int) -> AsyncIterator[bytes]:
    """So many bytes, in pieces."""
    piece = bytes(256 << 10)
    while size > 0:
        yield piece[:size]
        size -= len(piece)


def requests(
    *chunks: bytes, **options: Any
) -> "Callable[[], AsyncIterator[v1.UploadAttachmentRequest]]":
    """The messages of an upload."""

    async def messages() -> AsyncIterator[v1.UploadAttachmentRequest]:
        yield v1.UploadAttachmentRequest(options=v1.UploadOptions(task_id="a", type="t", **options))
        for chunk in chunks:
            yield v1.UploadAttachmentRequest(chunk=chunk)

    return messages


async def test_what_is_large_is_kept_in_a_file(server: "Server", client: Client) -> None:
    """A content above 1 MiB goes to a file named by its hash, and comes back as it was."""
    await create(client, "a")
    made = await client.upload("a", "log", LARGE, name="build.log", mime_type="text/x-log")
    assert (made.size, made.in_file, made.sha256) == (len(LARGE), True, sha256(LARGE))
    assert (made.name, made.mime_type, made.sequence) == ("build.log", "text/x-log", 0)
    assert kept(server) == [sha256(LARGE)]
    assert (folder(server) / sha256(LARGE)).read_bytes() == LARGE
    download = client.download("a", "log")
    assert await download.attachment() == made
    assert b"".join([chunk async for chunk in download]) == LARGE


async def test_what_is_small_is_kept_in_the_database(server: "Server", client: Client) -> None:
    """Up to 1 MiB, an upload is as an Attach, and a download brings what either attached."""
    await create(client, "a")
    for size in (0, 1, MIB):
        made = await client.upload("a", "log", LARGE[:size])
        assert (made.size, made.in_file, made.mime_type) == (
            size,
            False,
            "application/octet-stream",
        )
        got = await client.attachments.GetAttachment(
            v1.GetAttachmentRequest(task_id="a", type="log")
        )
        assert got.attachment.content == LARGE[:size]
        assert await fetched(client, "a", "log") == LARGE[:size]
    assert kept(server) == []
    download = client.download("a", "log", 1)
    assert (await download.attachment()).sha256 == sha256(LARGE[:1])


async def test_one_byte_more_is_a_file(server: "Server", client: Client) -> None:
    """The bound between the two is 1 MiB exactly."""
    await create(client, "a")
    assert (await client.upload("a", "log", LARGE[: MIB + 1])).in_file
    assert await fetched(client, "a", "log") == LARGE[: MIB + 1]


async def test_a_large_one_is_listed_and_told_like_any(client: Client) -> None:
    """Lists, events and GetAttachment tell its size and hash, and never its content."""
    await create(client, "a")
    request = v1.ListAttachmentsRequest(task_id="a")
    before = (await client.attachments.ListAttachments(request)).revision
    made = await client.upload("a", "log", LARGE)
    assert list((await client.attachments.ListAttachments(request)).attachments) == [made]
    got = await client.attachments.GetAttachment(v1.GetAttachmentRequest(task_id="a", type="log"))
    assert (got.attachment, got.attachment.content) == (made, b"")
    [event] = await events_since(client, before)
    assert (event.type, event.attachment) == (v1.EVENT_TYPE_ATTACHMENT_ADDED, made)


async def test_sequences_and_mime_types_are_shared(client: Client) -> None:
    """Large and small ones of a type are counted together, each with a MIME type of its own."""
    await create(client, "a")
    await client.upload("a", "log", LARGE, mime_type="application/zip")
    await client.attachments.Attach(v1.AttachRequest(task_id="a", type="log", content=b"text"))
    await client.upload("a", "log", b"\x89PNG", mime_type="image/png")
    listed = await client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id="a"))
    assert [(one.sequence, one.mime_type) for one in listed.attachments] == [
        (0, "application/zip"),
        (1, "text/plain"),
        (2, "image/png"),
    ]
    assert await fetched(client, "a", "log", 0) == LARGE
    assert await fetched(client, "a", "log") == b"\x89PNG"


async def test_equal_contents_are_one_file(server: "Server", client: Client) -> None:
    """Equal contents share a file, which goes with the last attachment that refers to it."""
    await create(client, "a")
    await create(client, "b")
    await asyncio.gather(*(client.upload(task, "log", LARGE) for task in "abab"))
    await client.upload("a", "other", OTHER)
    assert kept(server) == sorted([sha256(LARGE), sha256(OTHER)])
    for task, sequence in (("a", 0), ("b", 0), ("b", 1)):
        await client.attachments.Detach(
            v1.DetachRequest(task_id=task, type="log", sequence=sequence)
        )
    assert await fetched(client, "a", "log") == LARGE
    await client.attachments.Detach(v1.DetachRequest(task_id="a", type="log", sequence=1))
    await until_kept(server, OTHER)


async def test_reset_removes_all_files(server: "Server", client: Client) -> None:
    """What nothing refers to after a reset is gone, and new ones are kept."""
    await create(client, "a")
    await client.upload("a", "log", LARGE)
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    await until_kept(server)
    await create(client, "a")
    await client.upload("a", "log", OTHER)
    assert kept(server) == [sha256(OTHER)]


async def test_uploading_while_the_last_reference_goes(server: "Server", client: Client) -> None:
    """A content attached anew while it is removed is there in the end, or not attached."""
    await create(client, "a")
    there = await client.upload("a", "log", OTHER)
    for _ in range(10):
        _, there = await asyncio.gather(
            client.attachments.Detach(
                v1.DetachRequest(task_id="a", type="log", sequence=there.sequence)
            ),
            client.upload("a", "log", OTHER),
        )
        assert await fetched(client, "a", "log", there.sequence) == OTHER
    await until_kept(server, OTHER)


async def test_a_repeated_upload_is_one(server: "Server", client: Client) -> None:
    """The same request_id and content again is answered as before; with another, it is refused."""
    await create(client, "a")
    first = await client.upload("a", "log", LARGE, request_id="once")
    assert await client.upload("a", "log", LARGE, request_id="once") == first
    error = await refusal(client.upload("a", "log", OTHER, request_id="once"))
    assert error.reason == "REQUEST_ID_REUSED"
    await until_kept(server, LARGE)
    await client.attachments.Detach(v1.DetachRequest(task_id="a", type="log"))
    await until_kept(server)
    assert await client.upload("a", "log", LARGE, request_id="once") == first
    await until_kept(server)


# Refusals


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc/passwd",
        "a/b",
        "..",
        ".",
        "a\\b",
        "a\0b",
        "a\nb",
        "x" * 256,
        "a\u202egpj.exe",
        "\u2066a",
    ],
)
async def test_a_name_is_no_path(server: "Server", client: Client, name: str) -> None:
    """What looks like a place in a file system, or cannot be shown, is no name, in either call."""
    await create(client, "a")
    request = v1.AttachRequest(task_id="a", type="t", name=name)
    error = await refusal(client.attachments.Attach(request))
    assert (error.reason, error.field_violations[0].field) == ("INVALID_FIELD", "name")
    error = await refusal(client.upload("a", "t", LARGE, name=name))
    assert (error.reason, error.field_violations[0].field) == ("INVALID_FIELD", "options.name")
    assert kept(server) == []


@pytest.mark.parametrize("name", ["CON", "a.b..", "ä b🎉.log", "..x", "x" * 255, "-rf", "%2e%2e"])
async def test_a_name_is_only_shown(server: "Server", client: Client, name: str) -> None:
    """Any other name is kept as it is, and the file is named by the hash all the same."""
    await create(client, "a")
    assert (await client.upload("a", "t", OTHER, name=name)).name == name
    assert kept(server) == [sha256(OTHER)]


async def test_what_announces_too_much_is_refused_at_once(server: "Server", client: Client) -> None:
    """101 MB that are announced are refused before a byte of them comes; nothing is kept."""
    await create(client, "a")
    never = asyncio.Event()

    async def messages() -> AsyncIterator[v1.UploadAttachmentRequest]:
        options = v1.UploadOptions(task_id="a", type="t", size=101_000_000)
        yield v1.UploadAttachmentRequest(options=options)
        await never.wait()

    error = await refusal(_call(client, messages))
    assert (error.code, error.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "ATTACHMENT_TOO_LARGE",
    )
    assert "100,000,000" in str(error)
    assert kept(server) == []


async def test_what_becomes_too_much_is_refused(server: "Server", client: Client) -> None:
    """100 MB are kept; a byte more than that, not announced, is refused and leaves nothing."""
    await create(client, "a")
    error = await refusal(client.upload("a", "t", zeros(LIMIT + 1)))
    assert error.reason == "ATTACHMENT_TOO_LARGE"
    await until_kept(server)
    assert (await client.upload("a", "t", zeros(LIMIT))).size == LIMIT


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        (lambda: _from([]), "options"),
        (lambda: _from([v1.UploadAttachmentRequest(chunk=b"x")]), "options"),
        (lambda: _from([v1.UploadAttachmentRequest()]), "options"),
        (requests(bytes(MIB + 1)), "chunk"),
        (requests(OTHER[:MIB], OTHER, size=-1), "options.size"),
        (requests(OTHER[:MIB], b"xx", size=MIB + 1), "options.size"),
        (requests(b"x", size=0), "options.size"),
        (requests(OTHER[:MIB], b"xx", sha256=sha256(OTHER)), "options.sha256"),
        (requests(b"x", sha256="xyz"), "options.sha256"),
        (requests(b"x", mime_type="text/plain\r\n"), "options.mime_type"),
        (requests(b"x", worker_id="a b"), "options.worker_id"),
        (requests(b"x", claim_revision=-1), "options.claim_revision"),
    ],
)
async def test_bad_uploads_are_named(
    server: "Server",
    client: Client,
    messages: "Callable[[], AsyncIterator[v1.UploadAttachmentRequest]]",
    field: str,
) -> None:
    """What is not of its form, or not what was announced, is refused by name; nothing is kept."""
    await create(client, "a")
    error = await refusal(_call(client, messages))
    assert (error.reason, error.field_violations[0].field) == ("INVALID_FIELD", field)
    await until_kept(server)
    listed = await client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id="a"))
    assert not listed.attachments


async def test_options_come_once(client: Client) -> None:
    """Options in a later message are refused."""
    await create(client, "a")

    async def messages() -> AsyncIterator[v1.UploadAttachmentRequest]:
        for _ in range(2):
            options = v1.UploadOptions(task_id="a", type="t")
            yield v1.UploadAttachmentRequest(options=options)

    assert (await refusal(_call(client, messages))).field_violations[0].field == "options"


async def test_a_hash_that_is_announced_is_checked(client: Client) -> None:
    """Hash and size that fit, in capitals or not, are taken."""
    await create(client, "a")
    for digest in (sha256(OTHER), sha256(OTHER).upper()):
        messages = requests(OTHER[:MIB], OTHER[MIB:], sha256=digest, size=len(OTHER))
        assert (await _call(client, messages)).attachment.sha256 == sha256(OTHER)


@pytest.mark.parametrize("reason", ["TASK_NOT_FOUND", "WORKER_NOT_FOUND", "CLAIM_LOST"])
async def test_a_refused_upload_leaves_nothing(
    server: "Server", client: Client, reason: str
) -> None:
    """What the task or the claim does not allow is refused as by Attach, and no file stays."""
    await connect(client, "w")
    task = await create(client, "a")
    held = await claim(client, "w", task.id)
    await complete(client, "w", task.id)
    refused = {
        "TASK_NOT_FOUND": client.upload("b", "t", LARGE),
        "WORKER_NOT_FOUND": client.upload("a", "t", LARGE, worker_id="v"),
        "CLAIM_LOST": client.upload(
            "a", "t", LARGE, worker_id="w", claim_revision=held.claim_revision
        ),
    }
    error = await refusal(refused.pop(reason))
    for other in refused.values():
        other.close()
    assert error.reason == reason
    await until_kept(server)


async def test_an_upload_that_breaks_leaves_nothing(server: "Server", client: Client) -> None:
    """A call that is cancelled in the midst of the content leaves no file and no attachment."""
    await create(client, "a")
    begun, never = asyncio.Event(), asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        yield LARGE
        while not kept(server):
            await client.admin.GetStatus(v1.GetStatusRequest())
        begun.set()
        await never.wait()

    call = asyncio.create_task(client.upload("a", "t", content()))
    await begun.wait()
    assert kept(server)[0].endswith(".part")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await until_kept(server)
    listed = await client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id="a"))
    assert not listed.attachments


async def test_a_full_disk_is_told(
    server: "Server", client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no room for a content it is refused, and the server goes on."""
    full = tmp_path / "full.part"
    full.symlink_to("/dev/full")
    await create(client, "a")
    with monkeypatch.context() as patched:
        patched.setattr(Media, "new_file", lambda _: full.open("wb", buffering=0))
        error = await refusal(client.upload("a", "t", LARGE))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
    assert "No space left on device" in str(error)
    assert (await client.upload("a", "t", LARGE)).in_file


async def test_a_folder_that_is_none_is_told(server: "Server", client: Client) -> None:
    """Where the media folder cannot be made, small ones are kept and large ones refused."""
    await create(client, "a")
    folder(server).write_text("in the way")
    assert (await refusal(client.upload("a", "t", LARGE))).reason == "STORAGE_FULL"
    assert not (await client.upload("a", "t", b"small")).in_file


async def test_transfers_are_bounded(start_server: "Callable[..., Any]") -> None:
    """Above the number of transfers at once, one more is turned away, to come back."""
    async with start_server(max_transfers=1) as server, Client(server.address) as client:
        await create(client, "a")
        end = asyncio.Event()

        async def content() -> AsyncIterator[bytes]:
            yield b"x"
            await end.wait()

        upload = asyncio.create_task(client.upload("a", "t", content()))
        while (error := await refusal(fetched(client, "a", "none"))).reason != "TOO_MANY_CALLS":
            assert error.reason == "ATTACHMENT_NOT_FOUND", "the upload has not arrived yet"
            if upload.done():  # it came while there was no room
                assert (await refusal(upload)).reason == "TOO_MANY_CALLS"
                upload = asyncio.create_task(client.upload("a", "t", content()))
        assert error.retry_delay is not None
        end.set()
        assert (await upload).size == 1


# What is on the disk


async def test_a_start_removes_what_a_crash_left(start_server: "Callable[..., Any]") -> None:
    """Unfinished files, and whole ones to which nothing refers, go; all else stays."""
    async with start_server() as server, Client(server.address) as client:
        await create(client, "a")
        await client.upload("a", "t", LARGE)
    for name in (sha256(OTHER), "tmpabc123.part", "README", "f" * 63, "notes.part"):
        (folder(server) / name).write_bytes(OTHER)
    async with start_server() as server, Client(server.address) as client:
        assert kept(server) == sorted([sha256(LARGE), "README", "f" * 63, "notes.part"])
        assert await fetched(client, "a", "t") == LARGE


@pytest.mark.parametrize("damage", ["changed", "shorter", "longer", "missing", "folder"])
async def test_damage_is_never_handed_out(server: "Server", client: Client, damage: str) -> None:
    """A file that is not what was attached makes the download fail; the caller cannot miss it."""
    await create(client, "a")
    await client.upload("a", "t", LARGE)
    path = folder(server) / sha256(LARGE)
    path.unlink()
    if damage == "changed":
        path.write_bytes(LARGE[:-1] + bytes([LARGE[-1] ^ 1]))
    elif damage == "shorter":
        path.write_bytes(LARGE[:-1])
    elif damage == "longer":
        path.write_bytes(LARGE + b"x")
    elif damage == "folder":
        path.mkdir()
    error = await refusal(fetched(client, "a", "t"))
    assert (error.code, error.reason) == (grpc.StatusCode.DATA_LOSS, "CONTENT_DAMAGED")
    assert damage != "changed" or "is not what was attached" in str(error)


async def test_a_download_outlives_a_removal(server: "Server", client: Client) -> None:
    """A content that is removed while it is fetched comes whole."""
    await create(client, "a")
    await client.upload("a", "t", LARGE)
    chunks = aiter(client.download("a", "t"))
    first = await anext(chunks)
    await client.attachments.Detach(v1.DetachRequest(task_id="a", type="t"))
    await until_kept(server)
    assert first + b"".join([chunk async for chunk in chunks]) == LARGE
    assert (await refusal(fetched(client, "a", "t"))).reason == "ATTACHMENT_NOT_FOUND"


# Memory


def _peak_kib(process: "ServerProcess") -> int:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_memory_does_not_grow_with_the_content(
    start_process: "Callable[..., Awaitable[ServerProcess]]",
) -> None:
    """60 MB more to send and to fetch take less than 16 MiB more at either end."""
    process = await start_process()
    async with Client(process.address) as client:
        await create(client, "a")

        async def there_and_back(size: int) -> None:
            await client.upload("a", "t", zeros(size))
            come = 0
            async for chunk in client.download("a", "t"):
                come += len(chunk)
            assert come == size

        await there_and_back(8_000_000)
        before = _peak_kib(process)
        tracemalloc.start()
        try:
            await there_and_back(68_000_000)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 * MIB
        assert _peak_kib(process) - before < 16 * 1024


async def _call(
    client: Client, messages: "Callable[[], AsyncIterator[v1.UploadAttachmentRequest]]"
) -> v1.UploadAttachmentResponse:
    return await client.attachments.UploadAttachment(messages())


async def _from(
    messages: list[v1.UploadAttachmentRequest],
) -> AsyncIterator[v1.UploadAttachmentRequest]:
    for message in messages:
        yield message
