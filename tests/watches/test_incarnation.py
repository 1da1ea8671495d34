"""Incarnation: a watch is never carried over from one life of a database to another."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, HistoryLost, TaskloomError

from tests.watches.life import create, live, update
from tests.watches.streams import all_of, heard, told, until, watching, watching_slowly

if TYPE_CHECKING:
    from tests.conftest import Server


async def test_reset_ends_watches(server: "Server", client: Client) -> None:
    """Reset ends every watch with INCARNATION_CHANGED, idle or behind, and names the new one."""
    await create(client, "t")
    async with (
        watching(client) as idle,
        watching(client, include_state=True) as stated,
        watching(client, start_revision=99) as early,
    ):
        for stream in (idle, stated, early):
            await anext(stream)
        await until(stated, 1)
        reset = await client.admin.Reset(v1.ResetRequest(confirm="reset"))
        for stream in (idle, stated, early):
            with pytest.raises(TaskloomError) as caught:
                await anext(stream)
            assert caught.value.code is grpc.StatusCode.OUT_OF_RANGE
            assert caught.value.reason == "INCARNATION_CHANGED"
            assert caught.value.metadata["incarnation"] == reset.incarnation


async def test_resume_in_another_incarnation(server: "Server", client: Client) -> None:
    """Resuming with the incarnation of before is refused; with the new one it is not."""
    await create(client, "t")
    async with watching(client) as stream:
        old = (await anext(stream)).created.incarnation
    reset = await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    assert reset.incarnation != old
    for state in (True, False):
        async with watching(client, include_state=state, incarnation=old) as stream:
            with pytest.raises(TaskloomError, match="INCARNATION_CHANGED"):
                await anext(stream)
        new = reset.incarnation
        async with watching(client, include_state=state, incarnation=new) as stream:
            assert (await anext(stream)).created.incarnation == new


async def test_history_before_a_reset_is_gone(server: "Server", client: Client) -> None:
    """A start before a Reset is refused with the oldest revision kept, from which one can start."""
    last = await live(client)
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
    for start in (1, last):
        async with watching(client, start_revision=start) as stream:
            with pytest.raises(TaskloomError) as caught:
                await until(stream, last)
        assert caught.value.code is grpc.StatusCode.OUT_OF_RANGE
        assert caught.value.reason == "REVISION_COMPACTED"
        assert caught.value.metadata["oldest_revision"] == str(last + 1)
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert status.oldest_revision == last + 1
    await create(client, "anew")
    messages = await heard(client, last + 1, start_revision=last + 1)
    assert told(messages) == [("TASK_CREATED", "anew")]


async def test_history_before_a_reset_is_gone_with_others_writing(
    server: "Server", client: Client
) -> None:
    """However closely a Reset follows other writes, nothing from before it is told after it."""
    requests = [v1.CreateTaskRequest(id=f"t{n}", title="t") for n in range(60)]
    before, reset, after = await asyncio.gather(
        asyncio.gather(*(client.tasks.CreateTask(request) for request in requests[:30])),
        client.admin.Reset(v1.ResetRequest(confirm="reset")),
        asyncio.gather(*(client.tasks.CreateTask(request) for request in requests[30:])),
    )
    created = [*before, *after]
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    kept = {answer.task.id for answer in created if answer.revision > reset.revision}
    assert status.oldest_revision == reset.revision + 1
    last = (await create(client, "end")).revision
    messages = await heard(client, last, start_revision=status.oldest_revision)
    assert {id for _, id in told(messages)} == kept | {"end"}


async def test_the_incarnation_outlives_a_restart(start_server: Callable[..., Any]) -> None:
    """A restart of the server is no new incarnation: watches resume across it."""
    seen: list[str] = []
    for _ in range(2):
        async with start_server() as server, Client(server.address) as client:
            incarnation = seen[0] if seen else ""
            async with watching(client, incarnation=incarnation) as stream:
                seen.append((await anext(stream)).created.incarnation)
    assert seen[0] == seen[1] != ""


async def test_reset_while_a_watch_reads(start_server: Callable[..., Any]) -> None:
    """A watch that is far behind when a Reset comes tells nothing of the life after it, nor leaves
    out anything of the one before without saying that it ends.
    """
    async with start_server() as server, Client(server.address) as client:
        await create(client, "a")
        for n in range(300):
            last = await update(client, "a", description=f"{n}" + "x" * 2_000)
    async with (
        start_server() as server,
        Client(server.address) as client,
        watching_slowly(server.address, start_revision=1) as stream,
    ):
        await anext(stream)
        messages = await until(stream, 1)
        reset = await client.admin.Reset(v1.ResetRequest(confirm="reset"))
        assert reset.revision == last
        await create(client, "reborn")
        with pytest.raises(HistoryLost) as caught:
            await all_of(stream, messages)
    assert caught.value.reason == "INCARNATION_CHANGED"
    assert caught.value.metadata["incarnation"] == reset.incarnation
    revisions = [message.revision for message in messages]
    assert revisions == list(range(1, revisions[-1] + 1))
    assert revisions[-1] <= last


@pytest.mark.parametrize("heard_of", [1, 5], ids=["a longer history", "a shorter history"])
async def test_another_file_is_another_incarnation(
    start_server: Callable[..., Any], tmp_path: Path, heard_of: int
) -> None:
    """The client's watch, which finds another file behind the address, ends by HistoryLost, whether
    the other one has more history than it heard of or less.
    """
    async with start_server(db=tmp_path / "other.db") as server, Client(server.address) as client:
        for n in range(3):
            await create(client, f"other{n}")
    async with start_server() as server:
        client = Client(server.address)
        watch = client.watch(start_revision=1)
        for n in range(heard_of):
            await create(client, f"t{n}")
        while watch.revision < heard_of:
            await anext(watch)
    address = server.address
    async with start_server(db=tmp_path / "other.db", listen=address), client:
        with pytest.raises(HistoryLost) as caught:
            await anext(watch)
    assert caught.value.reason == "INCARNATION_CHANGED"
    assert caught.value.metadata["incarnation"] != watch.incarnation
