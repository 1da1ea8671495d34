"""What the store does alone, without gRPC and threads: a process that measures it and tells.

    python -m taskloom_experiments.load.store_process WHAT FOLDER --parent PID --settings JSON

The servicers make of requests what they make for the writer; here a ledger is given groups of it,
and only the ledger is timed. The statements that it runs are noted in a first pass, on a copy of
the file; then, group by group in turn, the ledger goes through another copy, and the same
statements with the same values are run through the same driver on a third one. WHAT is
``claims`` or ``dependents``; the folder has the graph. It writes one line of JSON.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import apsw
from taskloom import v1
from taskloom_server.clock import WallClock
from taskloom_server.graph.workflows import Workflows
from taskloom_server.main import settle
from taskloom_server.service.calls import Calls
from taskloom_server.service.claims import ClaimServicer
from taskloom_server.service.work import OpenStreams
from taskloom_server.service.workers import WorkerServicer
from taskloom_server.store.connections import writing
from taskloom_server.store.ledger import Job, Ledger, answer
from taskloom_server.store.transaction import Transaction
from taskloom_server.workflow_files import load_workflows

from taskloom_experiments.load.serving import DATABASE
from taskloom_experiments.tether import die_with_parent

Statements = list[tuple[str, Any]]


class Store:
    """A database and the ledger on it, to which groups of calls are given by hand."""

    def __init__(self, path: Path, workflows: Workflows) -> None:
        self._database = writing(path)
        self._database.connect()
        self.connection: apsw.Connection = self._database.connection()
        now = WallClock().now
        self._ledger = Ledger(now)
        self._transaction = Transaction(self.connection, workflows, random.Random(1))
        begun = self._ledger.begin(self._transaction)
        self._jobs: list[Job] = []
        writer: Any = self  # has all that they use of one
        calls = Calls(writer, writer, now)
        self.claims = ClaimServicer(calls, OpenStreams(begun.incarnation))
        self.workers = WorkerServicer(calls)

    async def run(
        self, verb: Any, ask: Any, idempotent: Any = None, undo: Any = None, worker_id: str = ""
    ) -> Any:
        """What the writer has: the verb joins the group."""
        future = asyncio.get_running_loop().create_future()
        job = Job(verb, ask, idempotent, future, undo, worker_id)
        self._jobs.append(job)
        return await job.future

    async def group(self, calls: Sequence[Awaitable[Any]]) -> tuple[list[Any], "Spent"]:
        """Give calls to the ledger as one group; their answers, and what the ledger took."""
        asked = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0)  # each comes to ``run`` without waiting for anything
        jobs, self._jobs = self._jobs, []
        began = Spent.now()
        answered, _ = self._ledger.commit(self._transaction, jobs)
        spent = Spent.now() - began
        answer(answered, lambda _job: None)
        return await asyncio.gather(*asked), spent

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class Spent:
    """Time that passed, and processor time, in ns."""

    def __init__(self, wall: int, cpu: int) -> None:
        self.wall, self.cpu = wall, cpu

    @staticmethod
    def now() -> "Spent":
        """Both clocks."""
        return Spent(time.monotonic_ns(), time.process_time_ns())

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.wall - other.wall, self.cpu - other.cpu)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.wall + other.wall, self.cpu + other.cpu)


def _replay(connection: apsw.Connection, statements: Statements) -> Spent:
    """Run statements as they were run, and nothing else."""
    began = Spent.now()
    for sql, values in statements:
        connection.execute(sql, values).fetchall()
    return Spent.now() - began


def _noting(connection: apsw.Connection, statements: Statements) -> None:
    def note(_cursor: apsw.Cursor, sql: str, values: Any) -> bool:
        statements.append((sql, values))
        return True

    connection.exec_trace = note


async def _connect(store: Store, workers: Iterable[str], tags: Sequence[str]) -> None:
    for worker in workers:
        request = v1.ConnectRequest(worker_id=worker, tags=tags)
        await store.group([store.workers.Connect(request, None)])


async def _claims(
    store: Store, workers: Sequence[str], groups: int, prefix: str, each: Callable[[Spent], None]
) -> None:
    """So many groups of claims, each followed by the group of completions; what each took."""
    claims = store.claims
    for number in range(groups):
        id = f"{prefix}-{number}"
        given, spent = await store.group(
            [
                claims.ClaimNextTask(
                    v1.ClaimNextTaskRequest(worker_id=worker, request_id=f"{id}-claim-{worker}"),
                    None,
                )
                for worker in workers
            ]
        )
        each(spent)
        _, spent = await store.group(
            [
                claims.CompleteTask(
                    v1.CompleteTaskRequest(
                        worker_id=worker,
                        task_id=one.tasks[0].id,
                        claim_revision=one.tasks[0].claim_revision,
                        request_id=f"{id}-complete-{worker}",
                    ),
                    None,
                )
                for worker, one in zip(workers, given, strict=True)
            ]
        )
        each(spent)


async def measure_claims(
    folder: Path, *, tags: Sequence[str], agents: int, groups: int, rounds: int
) -> dict[str, Any]:
    """Claims and completions in groups, in so many rounds; of each round what both took, in ns."""
    workflows = load_workflows("swarm", None)
    workers = [f"worker-{number}" for number in range(agents)]
    stores = []
    for name in ("noted", "ledger", "raw"):
        shutil.copyfile(folder / DATABASE, folder / f"{name}.db")
        stores.append(Store(folder / f"{name}.db", workflows))
        await _connect(stores[-1], workers, tags)
    noted, ledger, raw = stores
    statements: list[Statements] = [[]]
    _noting(noted.connection, statements[0])
    total = groups * (rounds + 1)

    def next_group(_spent: Spent) -> None:
        statements.append([])
        _noting(noted.connection, statements[-1])

    await _claims(noted, workers, total, "g", next_group)
    replayed = iter(statements)
    by_ledger, by_raw = [], []

    def turn(spent: Spent) -> None:
        by_ledger.append(spent)
        by_raw.append(_replay(raw.connection, next(replayed)))

    await _claims(ledger, workers, total, "g", turn)
    revisions = [
        store.connection.execute("SELECT revision FROM system").get for store in (ledger, raw)
    ]
    if revisions[0] != revisions[1]:
        raise RuntimeError(f"the raw statements came to revision {revisions[1]}, not as the ledger")
    for store in stores:
        store.close()
    size = 2 * groups  # a claim and a completion
    parts = [
        (_sum(by_ledger[at : at + size]), _sum(by_raw[at : at + size]))
        for at in range(size, len(by_ledger), size)  # the first does not count
    ]
    return {
        "pairs": agents * groups,
        "ledger": [(one.wall, one.cpu) for one, _ in parts],
        "raw": [(one.wall, one.cpu) for _, one in parts],
        "statements": sum(map(len, statements)) / (total * agents),
    }


def _sum(parts: Iterable[Spent]) -> Spent:
    return sum(parts, Spent(0, 0))


async def measure_dependents(
    folder: Path, *, gate: str, tag: str, dependents: int, rounds: int
) -> dict[str, Any]:
    """The completion of a task on which many wait, and one UPDATE for each of these; in ns."""
    workflows = load_workflows("swarm", None)
    by_ledger, by_raw = [], []
    for number in range(rounds + 1):
        for name in ("ledger", "raw"):
            shutil.copyfile(folder / DATABASE, folder / f"{name}.db")
        store, raw = (Store(folder / f"{name}.db", workflows) for name in ("ledger", "raw"))
        await _connect(store, ["w"], [tag])
        request = v1.ClaimTaskRequest(worker_id="w", task_id=gate, request_id="claim")
        await store.group([store.claims.ClaimTask(request, None)])
        complete = v1.CompleteTaskRequest(worker_id="w", task_id=gate, request_id="complete")
        [(done,), spent] = await store.group([store.claims.CompleteTask(complete, None)])
        if len(done.unblocked_task_ids) != dependents:
            raise RuntimeError(f"{len(done.unblocked_task_ids)} tasks waited, not {dependents}")
        alone = _update_each(raw.connection, done.unblocked_task_ids, done.revision)
        for one in (store, raw):
            one.close()
        if number:
            by_ledger.append((spent.wall, spent.cpu))
            by_raw.append((alone.wall, alone.cpu))
    return {"ledger": by_ledger, "raw": by_raw}


def _update_each(connection: apsw.Connection, ids: Iterable[str], revision: int) -> Spent:
    """Set for each task what changes when its last blocker ends, in one transaction."""
    now = WallClock().now()
    rows = [(now, revision, now, id) for id in ids]
    began = Spent.now()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "UPDATE tasks SET unmet_blockers = unmet_blockers - 1, ready_at = ?, revision = ?, "
        "updated_at = ? WHERE id = ?",
        rows,
    )
    connection.execute("COMMIT")
    return Spent.now() - began


_WHAT = {"claims": measure_claims, "dependents": measure_dependents}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and tell on one line."""
    parser = argparse.ArgumentParser(prog="taskloom_experiments.load.store_process")
    parser.add_argument("what", choices=_WHAT)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", type=json.loads, required=True, metavar="JSON")
    parser.add_argument("--parent", type=int, required=True, metavar="PID")
    given = parser.parse_args(arguments)
    die_with_parent(given.parent)
    settle()  # as a server does
    measure: Any = _WHAT[given.what]
    print(json.dumps(asyncio.run(measure(given.folder, **given.settings))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
