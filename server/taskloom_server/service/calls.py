"""Running verbs for servicers: on a reader, or on the writer under the request's request_id."""

# Else the types of `perform` are made anew in every call, for 6 µs.
from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from taskloom_server.graph.errors import DomainError
from taskloom_server.service import read
from taskloom_server.store.inline import InlineReaders, InlineWriter
from taskloom_server.store.ledger import Idempotent, Verb, WriterStopped
from taskloom_server.store.readers import Readers
from taskloom_server.store.transaction import Transaction
from taskloom_server.store.waiting import Waiting
from taskloom_server.store.writer import Writer

_NO_ANSWER = (DomainError, Waiting)
_ANSWER_MS = 100  # kept of a call's time for the answer that there is nothing

Ask = TypeVar("Ask")
Result = TypeVar("Result")
Response = TypeVar("Response", bound=Message)


def _always(_response: object) -> bool:
    return True


class Calls:
    """The way from a servicer to the store."""

    def __init__(
        self,
        writer: Writer | InlineWriter,
        readers: Readers | InlineReaders,
        clock: Callable[[], int],
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._unheard: set[asyncio.Task[None]] = set()

    def deadline(self, wait_ms: int, context: Any) -> int:
        """When a wait is over, in Unix ms: so long from now, but within the call's deadline."""
        remaining: float | None = context.time_remaining()
        if remaining is not None:
            wait_ms = min(wait_ms, max(0, int(remaining * 1000) - _ANSWER_MS))
        return self._clock() + wait_ms

    async def read(self, verb: Callable[[Transaction, Ask], Result], ask: Ask) -> Result:
        """The answer of a verb that changes nothing."""
        return await self._readers.run(verb, ask)

    def now(self) -> int:
        """The time in Unix ms."""
        return self._clock()

    async def write_anew(
        self,
        verb: Verb[Ask, Result],
        ask: Ask,
        undo: Callable[[Transaction, Result], object] | None = None,
    ) -> Result:
        """The answer of a verb that may be repeated without remembering that it was.

        ``undo``: run if the caller has gone before the answer.
        """
        return await self._writer.run(verb, ask, undo=undo)

    def write_unheard(self, verb: Verb[Ask, Any], ask: Ask) -> None:
        """Run a verb for whom nobody waits, because its caller has gone."""

        async def run() -> None:
            with contextlib.suppress(WriterStopped):
                await self._writer.run(verb, ask)

        task = asyncio.create_task(run())
        self._unheard.add(task)
        task.add_done_callback(self._unheard.discard)

    async def write(
        self,
        request: Any,
        verb: Verb[Ask, Result],
        ask: Ask,
        response: type[Response],
        answer: Callable[[Result], Response],
        *,
        body: bytes = b"",
        undo: Callable[[Transaction, Result], object] | None = None,
        worth_it: Callable[[Response], bool] = _always,
        free: str = "",
    ) -> Response:
        """The answer to a mutation, the same one again for the same request_id.

        ``answer`` makes the ``response`` of what the verb returned. ``body``: what belongs to
        the request besides its message. ``undo``: run if the caller has gone before the answer;
        with a request_id he finds it by asking again. ``worth_it``: whether an answer needs
        to be remembered for that. ``free``: a field that may differ when it is asked again.
        """
        request_id = read.identifier("request_id", request.request_id, optional=True)
        worker_id: str = getattr(request, "worker_id", "")
        if not request_id:
            return answer(await self._writer.run(verb, ask, undo=undo, worker_id=worker_id))

        # The response is stored with the change that it tells of, so it is made beside it.
        def perform(tx: Transaction, ask: Ask) -> Response | DomainError | Waiting:
            result = verb(tx, ask)
            return result if isinstance(result, _NO_ANSWER) else answer(result)

        return await self._writer.run(
            perform,
            ask,
            Idempotent(
                request_id,
                _fingerprint(request, body, free),
                _encode,
                response.FromString,
                worth_it,
            ),
            worker_id=worker_id,
        )


def _fingerprint(request: Message, body: bytes, free: str) -> bytes:
    """Of the request's type and contents: all that must be equal in a retry."""
    if free and request.HasField(free):
        fixed = type(request)()
        fixed.CopyFrom(request)
        fixed.ClearField(free)
        request = fixed
    contents = request.SerializeToString(deterministic=True)
    name = request.DESCRIPTOR.name.encode()
    return hashlib.blake2b(name + b"\0" + contents + body, digest_size=16).digest()


def _encode(response: Message) -> bytes:
    return response.SerializeToString(deterministic=True)
