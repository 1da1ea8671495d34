"""Large attachments in snapshots: named by their hashes, or carried along."""

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from taskloom import v1
from taskloom_client import Client

from tests.calls import create
from tests.test_files import refusal
from tests.test_media import LARGE, MIB, fetched, folder, sha256, until_kept

if TYPE_CHECKING:
    from tests.conftest import Server


async def test_a_snapshot_names_the_file(server: "Server", client: Client) -> None:
    """An export tells name and size of a large content, an import warns that it is not in it."""
    await create(client, "a")
    made = await client.upload("a", "t", LARGE)
    messages = client.admin.ExportSnapshot(v1.ExportSnapshotRequest())
    exported = b"".join([message.chunk async for message in messages])
    assert len(exported) < MIB
    content = (folder(server) / sha256(LARGE)).read_bytes()
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    await until_kept(server)

    async def snapshot() -> AsyncIterator[v1.ImportSnapshotRequest]:
        options = v1.ImportOptions(mode=v1.IMPORT_MODE_RESTORE)
        yield v1.ImportSnapshotRequest(options=options)
        yield v1.ImportSnapshotRequest(chunk=exported)

    answer = await client.admin.ImportSnapshot(snapshot())
    assert [made.sha256 in warning for warning in answer.warnings] == [True]
    listed = await client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id="a"))
    assert list(listed.attachments) == [made]
    assert (await refusal(fetched(client, "a", "t"))).reason == "CONTENT_DAMAGED"
    (folder(server) / sha256(LARGE)).write_bytes(content)
    assert await fetched(client, "a", "t") == LARGE


async def take_out(client: Client, **options: Any) -> bytes:
    """An export."""
    messages = client.admin.ExportSnapshot(v1.ExportSnapshotRequest(**options))
    return b"".join([message.chunk async for message in messages])


async def bring_in(
    client: Client, contents: bytes, mode: v1.ImportMode.ValueType
) -> v1.ImportSnapshotResponse:
    """Import a snapshot."""

    async def messages() -> AsyncIterator[v1.ImportSnapshotRequest]:
        yield v1.ImportSnapshotRequest(options=v1.ImportOptions(mode=mode))
        for start in range(0, len(contents), MIB):
            yield v1.ImportSnapshotRequest(chunk=contents[start : start + MIB])

    return await client.admin.ImportSnapshot(messages())


@pytest.mark.parametrize("gzip", [False, True])
async def test_a_snapshot_with_its_contents(
    server: "Server", client: Client, *, gzip: bool
) -> None:
    """An export with_media brings large contents, each once, into the folder of whoever imports."""
    for task_id in ("a", "b"):
        await create(client, task_id)
        await client.upload(task_id, "t", LARGE)
    await client.upload("b", "other", LARGE + b"!")
    exported = await take_out(client, with_media=True, gzip=gzip)
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    await until_kept(server)
    answer = await bring_in(client, exported, v1.IMPORT_MODE_RESTORE)
    assert (list(answer.warnings), answer.rows["media"], answer.verified) == ([], 2, True)
    assert await fetched(client, "a", "t") == await fetched(client, "b", "t") == LARGE
    assert await fetched(client, "b", "other") == LARGE + b"!"
    again = await bring_in(client, await take_out(client), v1.IMPORT_MODE_REPLACE)
    assert list(again.warnings) == []  # they are there
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    await until_kept(server)


async def test_contents_that_do_not_fit(server: "Server", client: Client) -> None:
    """A content that is not what its name says is refused, and leaves nothing in the folder."""
    await create(client, "a")
    await client.upload("a", "t", LARGE)
    document = json.loads(await take_out(client, with_media=True))
    del document["content_sha256"], document["header_sha256"]
    media = document["tables"]["media"]
    assert len(media) > 2
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    await until_kept(server)
    for rows, words in (
        (media[:-1], "tables.media[0].content"),
        (media[::-1], "tables.media[0].content"),
        ([media[0] | {"content": "?"}, *media[1:]], "tables.media[0].content: is not base64"),
        ([*media, {"file_path": "0" * 64, "content": ""}, media[0]], "content"),
        ([media[0] | {"file_path": "../../x"}], "tables.media[0].file_path"),
    ):
        document["tables"]["media"] = rows
        contents = json.dumps(document).encode()
        refused = await refusal(bring_in(client, contents, v1.IMPORT_MODE_RESTORE))
        assert refused.reason == "INVALID_SNAPSHOT"
        assert words in refused.message
        await until_kept(server)


async def test_contents_belong_to_attachments(client: Client) -> None:
    """Contents without attachments are no export."""
    refused = await refusal(take_out(client, with_media=True, tables=["tasks"]))
    assert refused.reason == "INVALID_FIELD"
    assert "with_media" in refused.message
