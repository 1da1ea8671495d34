"""Queries in SQL by anybody: each in a process of its own, which ends with it.

What such a process may do, and how it is kept from all else, is told in ``query_process``.
"""

import asyncio
import base64
import contextlib
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from taskloom_server.graph.errors import InvalidQuery, QueryTooExpensive, TooManyQueries

Value = int | float | str | bytes | None

_COME_BACK_MS = 1_000
_BESIDE_SECONDS = 20.0  # for starting the process and telling what it found, if all is busy
_PROGRAM = "taskloom_server.store.query_process"

_log = structlog.get_logger("queries")


@dataclass(frozen=True, slots=True)
class Query:
    """One statement, with what it may take."""

    sql: str
    parameters: Sequence[Value]
    named_parameters: Mapping[str, Value] | None  # instead of the others
    max_rows: int
    max_ms: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query returned, all of it at one revision."""

    columns: list[str]
    rows: list[list[Value]]
    truncation: str  # which limit left rows out, "rows" or "bytes"; empty: none
    revision: int


class Queries:
    """Runs queries, up to a number of them at once."""

    def __init__(self, path: Path, max_queries: int) -> None:
        self._path = path.resolve()
        self._limit = max_queries
        self._running = 0

    async def run(self, query: Query) -> Answer:
        """Run one. Raises InvalidQuery, QueryTooExpensive, TooManyQueries.

        Whatever becomes of the caller, the process is gone when this returns.
        """
        if self._running >= self._limit:
            raise TooManyQueries(
                f"the server runs {self._limit} queries, its limit", retry_after_ms=_COME_BACK_MS
            )
        self._running += 1
        try:
            return await self._run(query)
        finally:
            self._running -= 1

    async def _run(self, query: Query) -> Answer:
        seconds = query.max_ms / 1_000
        ask = {
            "path": str(self._path),
            "sql": query.sql,
            "parameters": list(query.parameters),
            # In pairs, so that no name is taken for anything else.
            "named_parameters": query.named_parameters and [*query.named_parameters.items()],
            "max_rows": query.max_rows,
            "seconds": seconds,
        }
        contents = await asyncio.to_thread(_write, ask)
        # Not the folder of the server, from which nothing is to be imported (-P).
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", _PROGRAM),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(seconds + _BESIDE_SECONDS):
                out, err = await process.communicate(contents)
        except TimeoutError:
            raise _stopped(signal.SIGALRM, seconds) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        code = process.returncode or 0
        if code < 0:
            raise _stopped(-code, seconds)
        if code:
            _log.error("the process of a query failed", code=code, stderr=err.decode()[-2_000:])
            raise RuntimeError("the process of a query failed")
        answer = await asyncio.to_thread(_read, out)
        if "kind" in answer:
            raise _refused(answer["kind"], answer["message"])
        return Answer(**answer)


def _stopped(number: int, seconds: float) -> QueryTooExpensive:
    """The process was ended by a signal: by the alarm that it set itself, or the kernel's."""
    if number == signal.SIGALRM:
        return _too_expensive("time", f"it takes more than {seconds:g} s")
    if number == signal.SIGKILL:
        return _too_expensive("memory", "the system had no memory left for it")
    return _too_expensive("process", f"its process was ended by signal {number}")


def _refused(kind: str, message: str) -> InvalidQuery | QueryTooExpensive:
    if kind == "invalid":
        return InvalidQuery(f"the query cannot be run: {message}")
    return _too_expensive(kind, message)


def _too_expensive(limit: str, message: str) -> QueryTooExpensive:
    return QueryTooExpensive(f"the query was stopped: {message}", metadata={"limit": limit})


def _write(ask: dict[str, Any]) -> bytes:
    return json.dumps(ask, default=_blob).encode()


def _blob(value: bytes) -> dict[str, str]:
    return {"blob": base64.b64encode(value).decode()}


def _read(contents: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(contents, object_hook=_unblob)
    return answer


def _unblob(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["blob"]) if value.keys() == {"blob"} else value
