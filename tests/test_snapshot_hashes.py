"""The hash of a snapshot: a file that was damaged or changed is refused before anything happens."""

import gzip
import hashlib
import json
import re
from typing import TYPE_CHECKING

import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.snapshot_calls import (
    REPLACE,
    RESTORE,
    bring_in,
    document,
    headless,
    ids_of,
    link,
    note,
    resealed,
    take_out,
    task,
)

if TYPE_CHECKING:
    from tests.conftest import Server


@pytest.fixture
async def exported(server: "Server", client: Client) -> bytes:
    """An export of a small graph, which is there."""
    await bring_in(
        client,
        document(
            tasks=[task("a", description="é\n"), task("b", cost_usd=1e-7)],
            dependencies=[link("a", "b")],
            attachments=[note("a")],
        ),
    )
    return await take_out(client)


async def refused(client: Client, contents: bytes) -> str:
    """What a refused replacement says; nothing has changed by it."""
    before = await take_out(client)
    with pytest.raises(TaskloomError) as caught:
        await bring_in(client, contents, REPLACE)
    assert caught.value.reason == "INVALID_SNAPSHOT"
    assert headless(await take_out(client)) == headless(before)
    return caught.value.message


async def test_what_the_hash_is_of(exported: bytes, client: Client) -> None:
    """It is the SHA-256 of the bytes from the line of the tables on, packed or not."""
    lines = exported.splitlines(keepends=True)
    start = lines.index(b'  "tables": {\n')
    wanted = hashlib.sha256(b"".join(lines[start:])).hexdigest()
    assert json.loads(exported)["content_sha256"] == wanted
    packed = gzip.decompress(await take_out(client, gzip=True))
    assert json.loads(packed)["content_sha256"] == wanted


@pytest.mark.parametrize("packed", [False, True])
async def test_whole_files_are_verified(exported: bytes, client: Client, *, packed: bool) -> None:
    """An import says that it verified the file; without a hash it is taken, and not verified."""
    contents = gzip.compress(exported) if packed else exported
    assert (await bring_in(client, contents, REPLACE)).verified
    without = re.sub(rb'  "(?:content|header)_sha256": .*\n', b"", exported)
    assert without != exported
    assert not (await bring_in(client, without, REPLACE)).verified
    null = re.sub(rb'"(content|header)_sha256": .*,\n', rb'"\1_sha256": null,\n', exported)
    before = re.sub(rb'  "header_sha256": .*\n', b"", exported)  # by a server of before
    assert (await bring_in(client, before, REPLACE)).verified
    assert not (await bring_in(client, null, REPLACE)).verified


async def test_every_damaged_byte_of_the_contents(exported: bytes, client: Client) -> None:
    """Wherever among the tables a byte is another, the file is refused as it is read."""
    start = exported.index(b'  "tables": ')
    for at in [*range(start, len(exported), 97), len(exported) - 1]:
        damaged = bytearray(exported)
        damaged[at] ^= 1
        assert re.search("content_sha256|JSON|tables", await refused(client, bytes(damaged)))


async def test_a_value_that_is_another(exported: bytes, client: Client) -> None:
    """A file that is still whole JSON, with another title, is refused, and told how to be taken."""
    changed = exported.replace(b'"title":"A"', b'"title":"Z"')
    assert changed != exported
    said = await refused(client, changed)
    assert "content_sha256" in said
    assert "remove content_sha256" in said
    await bring_in(client, resealed(changed), REPLACE)
    assert b'"title":"Z"' in await take_out(client)


async def test_what_the_hash_of_the_header_is_of(exported: bytes, client: Client) -> None:
    """It is the SHA-256 of the lines before its own, and another line is refused."""
    lines = exported.splitlines(keepends=True)
    end = next(n for n, line in enumerate(lines) if b"header_sha256" in line)
    wanted = hashlib.sha256(b"".join(lines[:end])).hexdigest()
    assert json.loads(exported)["header_sha256"] == wanted
    for before, after in (
        (b'"exported_by": "taskloom"', b'"exported_by": "somebody"'),
        (b'"exported_at": "2', b'"exported_at": "1'),
        (b'  "exported_by": "taskloom",\n', b""),
    ):
        changed = exported.replace(before, after)
        assert changed != exported
        assert "header_sha256" in await refused(client, changed)


async def test_other_layouts(exported: bytes, client: Client) -> None:
    """A file without hashes is taken whatever its layout is, as exports of before had another."""
    whole = json.loads(re.sub(rb'  "(?:content|header)_sha256": .*\n', b"", exported))
    layouts = [json.dumps(whole, indent=indent).encode() for indent in (None, 1, 2, 4)]
    backwards = dict(reversed(whole["tables"].items()))
    layouts.append(json.dumps({"tables": backwards} | whole | {"tables": backwards}).encode())
    moved = json.dumps(whole, indent=2).replace("\n      {", "\n  {", 1)
    layouts += [moved.encode(), json.dumps(whole, indent=2).replace("\n    ]", "]").encode()]
    for contents in layouts:
        answer = await bring_in(client, contents, REPLACE)
        assert (list(answer.warnings), answer.verified) == ([], False)
        assert headless(await take_out(client)) == headless(exported)


async def test_other_damages(exported: bytes, client: Client) -> None:
    """A wrong hash, another layout, a truncated file, packed or not: each is refused."""
    short = re.sub(rb'"content_sha256": "[0-9a-f]{64}"', b'"content_sha256": "abc"', exported)
    number = re.sub(rb'"content_sha256": "[0-9a-f]{64}"', b'"content_sha256": 7', exported)
    compact = json.dumps(json.loads(exported)).encode()
    packed = gzip.compress(exported)
    for contents, word in (
        (short, "content_sha256 is 'abc'"),
        (number, "content_sha256 is '7'"),
        (compact, "another form"),
        (exported + b"\n", "content_sha256"),
        (exported[:-20], "JSON"),
        (packed[:-20], "gzip"),
        (packed[:100] + bytes([packed[100] ^ 0xFF]) + packed[101:], "gzip"),
    ):
        assert word in await refused(client, contents)


async def test_files_of_before(server: "Server", client: Client) -> None:
    """Files without a hash, such as templates, are taken as they always were."""
    assert not (await bring_in(client, document(tasks=[task("t")]), RESTORE)).verified
    assert await ids_of(client) == {"t"}


async def test_equal_graphs_have_equal_hashes(exported: bytes, client: Client) -> None:
    """The hash does not depend on when an export was made."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))  # which no snapshot shows
    again = await take_out(client)
    assert headless(again) == headless(exported)
    assert json.loads(again)["content_sha256"] == json.loads(exported)["content_sha256"]
