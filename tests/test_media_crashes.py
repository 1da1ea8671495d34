"""A server that is killed while large contents come and go: rows and files agree afterwards."""

import asyncio
import hashlib
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from taskloom import v1
from taskloom_client import Client, TaskloomError

from tests.calls import create
from tests.forked import Forked

if TYPE_CHECKING:
    from tests.conftest import ServerProcess

MIB = 1 << 20
ROUNDS = 4
CALLERS = 6


class Callers:
    """Some who upload and remove without a pause, and remember what they were answered."""

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck
        self.kept: dict[int, bytes] = {}  # by sequence: what is there, as was answered
        self._answers = 0
        self._enough = asyncio.Event()

    async def until(
        self, address: str, answers: int, kill: Callable[[], Awaitable[object]]
    ) -> None:
        """Let them call until so many were answered, and kill the server in the midst of it."""
        self._answers = answers
        self._enough.clear()
        async with Client(address) as client:
            calling = [asyncio.create_task(self._call(client)) for _ in range(CALLERS)]
            async with asyncio.timeout(60):
                await self._enough.wait()
                await kill()
                await asyncio.wait(calling)
            for one in calling:
                one.result()

    async def _call(self, client: Client) -> None:
        with suppress(TaskloomError):  # the server is gone
            while True:
                if self.kept and self._luck.random() < 0.4:
                    await self._remove(client, self._luck.choice(list(self.kept)))
                else:
                    # Two of three callers send what others have sent or removed, too.
                    content = bytes([self._luck.randrange(4)]) * (MIB + 1)
                    if self._luck.random() < 0.3:
                        content = self._luck.randbytes(MIB + 1)
                    attached = await client.upload("a", "t", content)
                    self.kept[attached.sequence] = content
                self._answers -= 1
                if self._answers <= 0:
                    self._enough.set()

    async def _remove(self, client: Client, sequence: int) -> None:
        del self.kept[sequence]
        await client.attachments.Detach(v1.DetachRequest(task_id="a", type="t", sequence=sequence))


async def test_kill_9_leaves_no_row_without_its_file(
    start_process: "Callable[..., Awaitable[ServerProcess]]",
) -> None:
    """What was answered is there, whole; every row has its file; and a start sweeps the others.

    The kill comes while several calls are under way, each somewhere between its file and its row.
    """
    luck = random.Random(1)
    callers = Callers(luck)
    server = await start_process()
    async with Client(server.address) as client:
        await create(client, "a")
    for _ in range(ROUNDS):

        async def kill(process: Forked = server.process) -> None:
            process.kill()
            await process.wait()

        await callers.until(server.address, luck.randrange(1, 15), kill)
        server = await start_process()
        files = await asyncio.to_thread(_files, server.db)
        async with Client(server.address) as client:
            rows = await _rows(client)
            assert set(callers.kept) <= set(rows), "an upload that was answered is lost"
            names = set()
            for sequence in rows:
                content = b"".join([c async for c in client.download("a", "t", sequence)])
                expected = callers.kept.setdefault(sequence, content)
                assert content == expected
                names.add(hashlib.sha256(content).hexdigest())
        assert files == names


async def _rows(client: Client) -> list[int]:
    request = v1.ListAttachmentsRequest(task_id="a", page_size=1_000)
    answer = await client.attachments.ListAttachments(request)
    assert not answer.next_page_token
    return [one.sequence for one in answer.attachments]


def _files(db: Path) -> set[str]:
    folder = db.with_name(db.name + "-media")
    return set(os.listdir(folder)) if folder.exists() else set()
