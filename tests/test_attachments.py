"""AttachmentService: what is kept with tasks, by type and sequence."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client, TaskloomError

if TYPE_CHECKING:
    from tests.conftest import TestClock


async def create(client: Client, *ids: str) -> None:
    """New tasks."""
    for id in ids:
        await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id))


async def attach(
    client: Client, task: str, type: str, content: bytes = b"", **fields: Any
) -> v1.Attachment:
    """A new attachment, as Attach shows it."""
    request = v1.AttachRequest(task_id=task, type=type, content=content, **fields)
    return (await client.attachments.Attach(request)).attachment


async def get(client: Client, task: str, type: str, sequence: int | None = None) -> v1.Attachment:
    """An attachment as GetAttachment brings it."""
    request = v1.GetAttachmentRequest(task_id=task, type=type, sequence=sequence)
    return (await client.attachments.GetAttachment(request)).attachment


async def detach(
    client: Client, task: str, type: str, sequence: int, **fields: Any
) -> v1.DetachResponse:
    """What Detach answers."""
    request = v1.DetachRequest(task_id=task, type=type, sequence=sequence, **fields)
    return await client.attachments.Detach(request)


async def listed(client: Client, task: str, **fields: Any) -> list[tuple[str, int]]:
    """Type and sequence of each attachment of a task."""
    request = v1.ListAttachmentsRequest(task_id=task, **fields)
    answer = await client.attachments.ListAttachments(request)
    return [(each.type, each.sequence) for each in answer.attachments]


async def refusal(call: Awaitable[object]) -> TaskloomError:
    """The refusal with which a call ends."""
    with pytest.raises(TaskloomError) as caught:
        await call
    return caught.value


async def events_of(client: Client, revision: int) -> list[v1.Event]:
    """The events of a revision."""
    async with client.watch(start_revision=revision) as watch:
        async for message in watch:
            if message.events.events:
                return list(message.events.events)
    raise AssertionError("the watch ended")


async def test_an_attachment_is_kept(timed_client: Client, clock: "TestClock") -> None:
    """What was attached is brought back, byte for byte; answers and lists leave the content out."""
    await create(timed_client, "a")
    content = bytes(range(256))
    info = await attach(
        timed_client, "a", "gate/results", content, name="results.bin", mime_type="x/y"
    )
    expected = v1.Attachment(
        task_id="a",
        type="gate/results",
        sequence=0,
        name="results.bin",
        mime_type="x/y",
        size=256,
        create_time=Timestamp(seconds=clock.now() // 1000),
    )
    assert info == expected
    answer = await timed_client.attachments.ListAttachments(v1.ListAttachmentsRequest(task_id="a"))
    assert list(answer.attachments) == [expected]
    expected.content = content
    assert await get(timed_client, "a", "gate/results") == expected
    assert await get(timed_client, "a", "gate/results", 0) == expected


async def test_a_note_needs_only_a_type(client: Client) -> None:
    """Without a mime type it is text/plain; content and name may be empty."""
    await create(client, "a")
    info = await attach(client, "a", "note")
    assert (info.mime_type, info.name, info.size) == ("text/plain", "", 0)
    assert (await get(client, "a", "note")).content == b""


async def test_the_largest_content(client: Client) -> None:
    """A content of 1 MiB is kept whole; a byte more is refused, and the field named."""
    await create(client, "a")
    content = bytes(n % 251 for n in range(1 << 20))
    await attach(client, "a", "log", content)
    assert (await get(client, "a", "log")).content == content
    error = await refusal(attach(client, "a", "log", content + b"x"))
    assert error.field_violations[0].field == "content"
    assert await listed(client, "a") == [("log", 0)]


async def test_sequences_count_within_task_and_type(client: Client) -> None:
    """Each type of each task is numbered from 0 by itself."""
    await create(client, "a", "b")
    sequences = [
        (await attach(client, task, type_)).sequence
        for task, type_ in (("a", "x"), ("a", "x"), ("a", "y"), ("b", "x"), ("a", "x"))
    ]
    assert sequences == [0, 1, 0, 0, 2]


async def test_the_latest_of_a_type(client: Client) -> None:
    """Without a sequence GetAttachment brings the latest; sequence 0 is the first."""
    await create(client, "a")
    for content in (b"first", b"second"):
        await attach(client, "a", "note", content)
    assert (await get(client, "a", "note")).content == b"second"
    assert (await get(client, "a", "note", 0)).content == b"first"


async def test_lists_are_by_type_and_sequence(client: Client) -> None:
    """All of a task's attachments in order, or those of one type."""
    await create(client, "a", "b")
    for type_ in ("note", "gate/results", "note", "Z"):
        await attach(client, "a", type_)
    await attach(client, "b", "note")
    assert await listed(client, "a") == [("Z", 0), ("gate/results", 0), ("note", 0), ("note", 1)]
    assert await listed(client, "a", type="note") == [("note", 0), ("note", 1)]
    assert await listed(client, "a", type="not") == []


@pytest.mark.parametrize("type", ["", "note"])
async def test_attachments_page(client: Client, type: str) -> None:
    """The pages of attachments hold each once."""
    await create(client, "a")
    for type_ in ("note", "log", "note", "note", "log"):
        await attach(client, "a", type_)
    whole = await listed(client, "a", type=type)
    for size in (1, 2, 5):
        request = v1.ListAttachmentsRequest(task_id="a", type=type, page_size=size)
        found: list[tuple[str, int]] = []
        while True:
            page = await client.attachments.ListAttachments(request)
            assert len(page.attachments) <= size
            found += [(each.type, each.sequence) for each in page.attachments]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert found == whole


async def test_a_token_of_another_query(client: Client) -> None:
    """A page token goes with the task and type that it came from."""
    await create(client, "a", "b")
    for _ in range(2):
        await attach(client, "a", "note")
    request = v1.ListAttachmentsRequest(task_id="a", page_size=1)
    token = (await client.attachments.ListAttachments(request)).next_page_token
    others: list[dict[str, Any]] = [{"task_id": "b"}, {"task_id": "a", "type": "note"}]
    for other in others:
        wrong = v1.ListAttachmentsRequest(**other, page_token=token)
        error = await refusal(client.attachments.ListAttachments(wrong))
        assert error.field_violations[0].field == "page_token"


async def test_the_others_keep_their_numbers(client: Client) -> None:
    """A removed attachment is gone; those before and after keep their sequence."""
    await create(client, "a")
    for content in (b"0", b"1", b"2"):
        await attach(client, "a", "note", content)
    await detach(client, "a", "note", 1)
    assert await listed(client, "a") == [("note", 0), ("note", 2)]
    assert (await get(client, "a", "note", 2)).content == b"2"
    assert (await refusal(get(client, "a", "note", 1))).reason == "ATTACHMENT_NOT_FOUND"
    assert (await attach(client, "a", "note")).sequence == 3


@pytest.mark.parametrize("sequence", [0, 1, -1, 2**31 - 1, -(2**31)])
async def test_what_is_not_there_is_not_found(client: Client, sequence: int) -> None:
    """An attachment that there is not can be neither brought nor removed."""
    await create(client, "a")
    await attach(client, "a", "log")
    for call in (get(client, "a", "note", sequence), detach(client, "a", "note", sequence)):
        error = await refusal(call)
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "ATTACHMENT_NOT_FOUND")
        assert "'note'" in str(error)
    assert (await refusal(get(client, "a", "note"))).reason == "ATTACHMENT_NOT_FOUND"


async def test_the_task_must_be_there(client: Client) -> None:
    """To a task that is unknown nothing is attached, and nothing brought from it."""
    for call in (
        attach(client, "nothing", "note"),
        get(client, "nothing", "note"),
        detach(client, "nothing", "note", 0),
        listed(client, "nothing"),
    ):
        assert (await refusal(call)).reason == "TASK_NOT_FOUND"


async def test_a_deleted_task_takes_no_more(client: Client) -> None:
    """What a deleted task has can be read still, but nothing is added to it."""
    await create(client, "a")
    await attach(client, "a", "note", b"x")
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="a"))
    assert (await refusal(attach(client, "a", "note"))).reason == "TASK_DELETED"
    assert (await get(client, "a", "note")).content == b"x"


async def test_evidence_comes_after_the_end(client: Client) -> None:
    """To a task that has ended results can be attached still."""
    await create(client, "a")
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="a", status="cancelled"))
    assert (await attach(client, "a", "note", b"why")).size == 3


async def test_a_lost_claim_attaches_nothing(client: Client) -> None:
    """With a claim revision that is not the claim's nothing is added and nothing removed."""
    for worker in ("v", "w"):
        await client.workers.Connect(v1.ConnectRequest(worker_id=worker))
    await create(client, "a")
    claim = v1.ClaimTaskRequest(worker_id="w", task_id="a")
    token = (await client.claims.ClaimTask(claim)).task.claim_revision
    await attach(client, "a", "note", worker_id="w", claim_revision=token)
    for worker, revision in (("w", token + 1), ("v", token)):
        shown: dict[str, Any] = {"worker_id": worker, "claim_revision": revision}
        for call in (attach(client, "a", "note", **shown), detach(client, "a", "note", 0, **shown)):
            error = await refusal(call)
            assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "CLAIM_LOST")
    assert await listed(client, "a") == [("note", 0)]
    await detach(client, "a", "note", 0, worker_id="w", claim_revision=token)
    assert await listed(client, "a") == []


async def test_who_attaches_is_connected(client: Client) -> None:
    """A worker that is unknown attaches and removes nothing."""
    await create(client, "a")
    await attach(client, "a", "note")
    for call in (
        attach(client, "a", "note", worker_id="nobody"),
        detach(client, "a", "note", 0, worker_id="nobody"),
    ):
        assert (await refusal(call)).reason == "WORKER_NOT_FOUND"
    assert await listed(client, "a") == [("note", 0)]


async def test_attachments_are_told_in_the_stream(client: Client) -> None:
    """Adding and removing are events about the task, without the content."""
    await client.workers.Connect(v1.ConnectRequest(worker_id="w"))
    await create(client, "a")
    request = v1.AttachRequest(task_id="a", worker_id="w", type="note", content=b"secret")
    added = await client.attachments.Attach(request)
    [event] = await events_of(client, added.revision)
    assert (event.type, event.task_id) == (v1.EVENT_TYPE_ATTACHMENT_ADDED, "a")
    assert event.worker_id == "w"
    assert event.attachment == added.attachment
    assert event.attachment.size == 6
    removed = await detach(client, "a", "note", 0)
    [event] = await events_of(client, removed.revision)
    assert (event.type, event.worker_id) == (v1.EVENT_TYPE_ATTACHMENT_REMOVED, "")
    assert event.attachment == added.attachment


async def test_an_attachment_leaves_its_task_as_it_is(client: Client) -> None:
    """Attaching changes no field of the task, so an etag read before is good still."""
    await create(client, "a")
    request = v1.GetTaskRequest(task_id="a")
    before = (await client.tasks.GetTask(request)).task
    await attach(client, "a", "note", b"x")
    assert (await client.tasks.GetTask(request)).task == before


async def test_an_upload_that_breaks_is_no_attachment(client: Client) -> None:
    """What came before a call was cancelled is never taken for all of it."""
    await create(client, "a")
    for _ in range(40):
        call = client.attachments.UploadAttachment()
        options = v1.UploadOptions(task_id="a", type="t")
        await call.write(v1.UploadAttachmentRequest(options=options))
        await call.write(v1.UploadAttachmentRequest(chunk=b"half of it"))
        await client.admin.GetStatus(v1.GetStatusRequest())  # so that it has come
        call.cancel()
    await client.upload("a", "whole", b"all of it")
    assert await listed(client, "a") == [("whole", 0)]
