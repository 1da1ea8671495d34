"""Where a watch begins: at a revision, now, in the future; and what is refused before it does."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.watches.life import create, live
from tests.watches.streams import heard, told, until, watching

if TYPE_CHECKING:
    from tests.conftest import Server


async def test_created_comes_first(server: "Server", client: Client) -> None:
    """The first message is `created`, with the incarnation and the revision before the stream."""
    await create(client, "a")
    connected = await client.workers.Connect(v1.ConnectRequest())
    for start, expected in ((0, 2), (1, 0), (2, 1), (9, 8)):
        async with watching(client, start_revision=start) as stream:
            first = await anext(stream)
        assert first.WhichOneof("content") == "created"
        assert first.created.incarnation == connected.incarnation
        assert first.revision == expected


async def test_from_a_revision(server: "Server", client: Client) -> None:
    """A watch from a revision tells all revisions from that one on, each once and in order."""
    last = await live(client)
    for start in (1, 2, last // 2, last):
        messages = await heard(client, last, start_revision=start)
        assert [message.revision for message in messages] == list(range(start, last + 1))


async def test_from_now(server: "Server", client: Client) -> None:
    """A watch from now tells what happens after `created`, and nothing from before."""
    await create(client, "before")
    async with watching(client) as stream:
        created = await anext(stream)
        task = await create(client, "after")
        [message] = await until(stream, task.revision)
    assert created.revision == task.revision - 1
    assert told([message]) == [("TASK_CREATED", "after")]


async def test_from_a_revision_to_come(server: "Server", client: Client) -> None:
    """A watch from a revision yet to come waits for it, and tells nothing of what is before."""
    first = await create(client, "a")
    start = first.revision + 3
    async with watching(client, start_revision=start) as stream:
        await anext(stream)
        for id in ("b", "c", "d", "e"):
            await create(client, id)
        messages = await until(stream, start + 1)
    assert told(messages) == [("TASK_CREATED", "d"), ("TASK_CREATED", "e")]
    assert messages[0].revision == start


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"start_revision": 1, "include_state": True}, "include_state"),
        ({"start_revision": -1}, "start_revision"),
        ({"progress_interval": timedelta(milliseconds=999)}, "progress_interval"),
        ({"progress_interval": timedelta(hours=1, milliseconds=1)}, "progress_interval"),
        ({"progress_interval": timedelta(seconds=-5)}, "progress_interval"),
        ({"filter": v1.WatchFilter(event_types=[77])}, "filter.event_types"),  # type: ignore[list-item]
        ({"filter": v1.WatchFilter(event_types=[0])}, "filter.event_types"),  # type: ignore[list-item]
        ({"filter": v1.WatchFilter(statuses=["a b"])}, "filter.statuses[0]"),
        ({"filter": v1.WatchFilter(task_ids=["x" * 129])}, "filter.task_ids[0]"),
        ({"filter": v1.WatchFilter(subtree_of="\u200b")}, "filter.subtree_of"),
    ],
)
async def test_bad_requests(
    server: "Server", client: Client, request_: dict[str, Any], field: str
) -> None:
    """A request that cannot be meant is refused before the first message, the field named."""
    async with watching(client, **request_) as stream:
        with pytest.raises(TaskloomError) as caught:
            await anext(stream)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in caught.value.field_violations] == [field]


async def test_subtree_of_nothing(server: "Server", client: Client) -> None:
    """A watch below a task that is not there is refused, with the task named."""
    for include_state in (False, True):
        filter = v1.WatchFilter(subtree_of="nowhere")
        async with watching(client, filter=filter, include_state=include_state) as stream:
            with pytest.raises(TaskloomError, match="nowhere") as caught:
                await anext(stream)
        assert caught.value.reason == "TASK_NOT_FOUND"
