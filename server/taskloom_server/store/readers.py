"""The readers: a small pool of read-only connections, each call with a snapshot of its own."""

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from taskloom_server.graph.workflows import Workflows
from taskloom_server.store.connections import open_reader
from taskloom_server.store.transaction import Transaction

Ask = TypeVar("Ask")
Result = TypeVar("Result")


class Reader:
    """One read-only connection, for one thread."""

    def __init__(self, path: Path, workflows: Workflows, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._connection = open_reader(path)
        self._transaction = Transaction(self._connection, workflows, random.Random())

    def read(self, verb: Callable[[Transaction, Ask], Result], ask: Ask) -> Result:
        """Run a verb on a snapshot; its answer, or what it raised."""
        tx = self._transaction
        self._connection.execute("BEGIN")
        try:
            tx.system.forget()
            tx.requirements.look_again()
            system = tx.system.get()
            if system.incarnation != tx.incarnation:
                tx.requirements.forget()
                tx.incarnation = system.incarnation
            tx.begin(self._clock(), system.revision)
            return verb(tx, ask)
        finally:
            self._connection.execute("COMMIT")

    def use(self, workflows: Workflows) -> None:
        """Go by these workflows from the next verb on."""
        self._transaction.workflows = workflows

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Readers:
    """Runs verbs that only read, off the event loop, several at a time."""

    def __init__(
        self, path: Path, workflows: Workflows, *, clock: Callable[[], int], threads: int = 4
    ) -> None:
        self._path = path
        self._workflows = workflows
        self._clock = clock
        self._own = threading.local()
        self._opened: list[Reader] = []
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")

    def use(self, workflows: Workflows) -> None:
        """Go by these workflows from the next verb on."""
        self._workflows = workflows

    async def run(self, verb: Callable[[Transaction, Ask], Result], ask: Ask) -> Result:
        """Run a verb on a snapshot; its answer, or what it raised."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, verb, ask)

    def _read(self, verb: Callable[[Transaction, Ask], Result], ask: Ask) -> Result:
        reader: Reader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = Reader(self._path, self._workflows, self._clock)
            self._opened.append(reader)
        reader.use(self._workflows)
        return reader.read(verb, ask)

    def close(self) -> None:
        """Finish what was begun, and close the connections."""
        self._pool.shutdown()
        for reader in self._opened:
            reader.close()
