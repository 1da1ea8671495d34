"""The readers: a small pool of read-only connections, each call with a snapshot of its own."""

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import apsw

from taskloom_server.graph.workflows import Workflows
from taskloom_server.store.connections import open_reader
from taskloom_server.store.transaction import Transaction

Ask = TypeVar("Ask")
Result = TypeVar("Result")


class Readers:
    """Runs verbs that only read, off the event loop, several at a time."""

    def __init__(
        self, path: Path, workflows: Workflows, *, clock: Callable[[], int], threads: int = 4
    ) -> None:
        self._path = path
        self._workflows = workflows
        self._clock = clock
        self._own = threading.local()
        self._opened: list[apsw.Connection] = []
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")

    def use(self, workflows: Workflows) -> None:
        """Go by these workflows from the next verb on."""
        self._workflows = workflows

    async def run(self, verb: Callable[[Transaction, Ask], Result], ask: Ask) -> Result:
        """Run a verb on a snapshot; its answer, or what it raised."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, verb, ask)

    def _read(self, verb: Callable[[Transaction, Ask], Result], ask: Ask) -> Result:
        tx: Transaction | None = getattr(self._own, "transaction", None)
        if tx is None:
            connection = open_reader(self._path)
            self._opened.append(connection)
            tx = self._own.transaction = Transaction(connection, self._workflows, random.Random())
        tx.workflows = self._workflows
        tx.connection.execute("BEGIN")
        try:
            system = tx.system.get()
            if system.incarnation != tx.incarnation:
                tx.requirements.forget()
                tx.incarnation = system.incarnation
            tx.begin(self._clock(), system.revision)
            return verb(tx, ask)
        finally:
            tx.connection.execute("COMMIT")

    def close(self) -> None:
        """Finish what was begun, and close the connections."""
        self._pool.shutdown()
        for connection in self._opened:
            connection.close()
