"""Types of attachments: what a workflow says of them is what comes of an attachment."""

from typing import Any

from taskloom import v1
from taskloom_client import Client
from taskloom_server.graph.workflows import AttachmentType, Keeping, Unknown

from tests.calls import create, events, refusal
from tests.workflows_obeyed.boards import board
from tests.workflows_obeyed.conftest import Serving

TYPES = {
    "report": AttachmentType("report", "text/markdown", Keeping.REPLACE),
    "log": AttachmentType("log", "text/x-log"),
    "note": AttachmentType("note"),
}


async def _attach(client: Client, type: str, **fields: Any) -> v1.AttachResponse:
    return await client.attachments.Attach(v1.AttachRequest(task_id="t", type=type, **fields))


async def _there(client: Client) -> list[tuple[str, int]]:
    answer = await client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id="t"))
    return [(one.type, one.sequence) for one in answer.attachments]


async def test_a_type_has_its_mime_type(serve: Serving) -> None:
    """What is attached without a MIME type has the one of its type, or is plain text."""
    async with serve(board(attachment_types=TYPES)) as client:
        await create(client, "t")
        for type, given, got in (
            ("report", "", "text/markdown"),
            ("report", "text/html", "text/html"),
            ("note", "", "text/plain"),
            ("other", "", "text/plain"),
        ):
            answer = await _attach(client, type, mime_type=given)
            assert answer.attachment.mime_type == got
            assert not answer.warnings


async def test_one_that_appends_stands_beside_the_earlier_ones(serve: Serving) -> None:
    """Of a type that appends all are kept."""
    async with serve(board(attachment_types=TYPES)) as client:
        await create(client, "t")
        for _ in range(3):
            await _attach(client, "log")
        assert await _there(client) == [("log", 0), ("log", 1), ("log", 2)]


async def test_one_that_replaces_takes_the_place_of_the_earlier_ones(serve: Serving) -> None:
    """The earlier ones go in the same revision, each told; others stay, and numbers go on."""
    async with serve(board(attachment_types=TYPES)) as client:
        await create(client, "t")
        await _attach(client, "log")
        await _attach(client, "report", content=b"old")
        answer = await _attach(client, "report", content=b"new")
        assert await _there(client) == [("log", 0), ("report", 1)]
        told = await events(client, answer.revision, answer.revision)
        assert [name for name, _, _ in told] == ["ATTACHMENT_REMOVED", "ATTACHMENT_ADDED"]
        get = v1.GetAttachmentRequest(task_id="t", type="report")
        assert (await client.attachments.GetAttachment(get)).attachment.content == b"new"
        assert (await _attach(client, "report")).attachment.sequence == 2


async def test_an_unknown_type_is_taken_with_a_warning(serve: Serving) -> None:
    """Where the workflow wants it said, the answer says that the type is not listed."""
    warns = board(attachment_types=TYPES, unknown_attachment_type=Unknown.WARN)
    async with serve(warns) as client:
        await create(client, "t")
        assert list((await _attach(client, "repot")).warnings) == [
            "type: workflow 'board' has no attachment type 'repot'; it has report, log, note"
        ]
        assert await _there(client) == [("repot", 0)]


async def test_an_unknown_type_is_refused(serve: Serving) -> None:
    """Where the workflow takes no others, an unknown type is refused with the ones there are."""
    rejects = board(attachment_types=TYPES, unknown_attachment_type=Unknown.REJECT)
    async with serve(rejects) as client:
        await create(client, "t")
        error = await refusal(_attach(client, "repot"))
        assert error.reason == "INVALID_FIELD"
        [violation] = error.field_violations
        assert violation.field == "type"
        assert violation.description.endswith("it has report, log, note")
        assert await _there(client) == []
