"""What the hot path asks of the database: indexes, and no more than there is to be done.

Statements are watched on the writer's connection, where the server runs them.
"""

import asyncio
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from taskloom import v1
from taskloom_client import Client
from taskloom_server.coordinator.system import get_status
from taskloom_server.store.connections import open_reader
from taskloom_server.store.transaction import Transaction
from taskloom_server.workflow_files import load_workflows

from tests.calls import (
    claim,
    claim_next,
    complete,
    connect,
    create,
    disconnect,
    duration,
    event,
    fail,
    heartbeat,
    pause,
    release,
    resume,
    show_worker,
    status,
    update,
)

if TYPE_CHECKING:
    from tests.conftest import Server, TestClock

LEASE = 20_000
ADVISORY = v1.CLAIM_MODE_ADVISORY
EXPIRED = v1.EVENT_TYPE_TASK_LEASE_EXPIRED
# What FTS5 asks for itself when a connection prepares the first statements on indexed tables.
_OF_THE_INDEX = (
    "SELECT k, v FROM 'main'.'task_search_config'",
    "PRAGMA 'main'.data_version",
)
_BOUNDARIES = ("BEGIN", "SAVEPOINT", "RELEASE", "COMMIT")


@dataclass
class Statements:
    """What the writer's connection runs: each statement, with the steps that it took."""

    run: list[tuple[str, int]] = field(default_factory=list)

    def hook(self, connection: apsw.Connection) -> None:
        """Watch a new connection, if it may write; called by APSW."""
        if not connection.readonly("main"):
            connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._ran, id="test")

    def _ran(self, trace: dict[str, Any]) -> None:
        if trace["sql"] not in _OF_THE_INDEX:
            self.run.append((trace["sql"], trace["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]))

    @contextmanager
    def watched(self) -> Iterator[list[tuple[str, int]]]:
        """Those that are run within the context."""
        first = len(self.run)
        found: list[tuple[str, int]] = []
        yield found
        found += self.run[first:]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    """All statements from now on. Ask for it before the server."""
    watched = Statements()
    monkeypatch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, watched.hook])
    return watched


def _time(ms: int) -> Timestamp:
    return Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * 1_000_000)


async def _waiting(client: Client, clock: "TestClock", worker: str, **fields: Any) -> Any:
    """A call that waits in line."""
    clock.advance(1)
    call = asyncio.create_task(claim_next(client, worker, wait=duration(20_000), **fields))
    while (await show_worker(client, worker)).heartbeat_time.ToMilliseconds() < clock.now():
        pass
    return call


async def _tree(client: Client, count: int, **fields: Any) -> None:
    root = v1.TaskNode(title="root", children=[v1.TaskNode(title="leaf", **fields)] * count)
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))


# Plans

SMALL = ("system", "pauses")
"""Tables of a row, or of a few: to read one as a whole is to read what is asked for."""


async def _a_day_s_work(client: Client, clock: "TestClock") -> None:
    """All that the fleet does to the server over and over."""
    hottest = v1.ORDER_BY_TEMPERATURE
    await connect(client, "a", "b", "c", max_claims=9, lease=duration(LEASE))
    await create(client, "top")
    for id in ("one", "two", "three", "four", "five", "six"):
        await create(client, id, parent_id="top", tags=["x"])
    await create(client, "blocked", blocked_by=["one"], worker_id="a")
    await create(client, "later", not_before=_time(clock.now() + 5_000))
    await create(client, "open", needed_tags=["nobody-has-this"])
    await claim(client, "a", "one")
    await claim_next(client, "a", max_tasks=2, order_by=hottest)
    await claim_next(client, "b", mode=ADVISORY)
    await claim(client, "c", "four", mode=ADVISORY)
    await heartbeat(client, "a")
    await update(client, "one", worker_id="a", title="new", status="waiting")
    await update(client, "one", worker_id="a", status="working")
    await client.tasks.SignalTask(v1.SignalTaskRequest(task_id="one", worker_id="a"))
    await client.tasks.LogMetrics(
        v1.LogMetricsRequest(task_id="one", worker_id="a", metrics=v1.Metrics(tokens_in=1))
    )
    await client.files.MarkFiles(v1.MarkFilesRequest(worker_id="a", task_id="one", paths=["a.py"]))
    await client.attachments.Attach(v1.AttachRequest(worker_id="a", task_id="one", type="note"))
    await complete(client, "a", "one")
    await fail(client, "a", "two", retry=True, retry_delay=duration(1_000))
    await release(client, "a", "three")
    await complete(client, "c", "four")
    await claim_next(client, "c", max_tasks=9)
    call = await _waiting(client, clock, "b", order_by=hottest)
    await create(client, "new")
    await call
    clock.advance(LEASE)
    for id in ("later", "two"):
        await event(client, v1.EVENT_TYPE_TASK_READY, id)
    await event(client, EXPIRED, "new")
    await event(client, v1.EVENT_TYPE_ADVISORY_CLAIM_ENDED)
    await claim(client, "a", "new")
    await disconnect(client, "a")
    await pause(client)
    await resume(client)


async def test_no_table_is_read_as_a_whole(
    statements: Statements, timed_server: "Server", timed_client: Client, clock: "TestClock"
) -> None:
    """Every statement of the hot path finds its rows by an index, whatever there is beside them."""
    with statements.watched() as run:
        await _a_day_s_work(timed_client, clock)
    hot = {sql for sql, _ in run if not sql.startswith(_BOUNDARIES)}
    assert len(hot) > 50
    reader = open_reader(timed_server.db)
    scans = {}
    for sql in hot:
        names = dict(re.findall(r'"(\w+)" AS "(t\d+)"', sql))
        tables = {alias: table for table, alias in names.items()}
        count = max((int(n) for n in re.findall(r"\?(\d+)", sql)), default=sql.count("?"))
        plan = reader.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * count).fetchall()
        for *_, step in plan:
            match = re.match(r"SCAN (\w+)", str(step))
            if match and tables.get(match[1], match[1]) not in (*SMALL, "below", "CONSTANT"):
                scans[sql] = step
    reader.close()
    assert not scans


# Costs


async def _end_of(
    client: Client, clock: "TestClock", statements: Statements, worker: str
) -> list[tuple[str, int]]:
    """What is run for the end of a lease that is due in 2 s."""
    await create(client, f"{worker}'s", priority=10)
    await connect(client, worker, lease=duration(2_000))
    await claim(client, worker, f"{worker}'s")
    with statements.watched() as run:
        clock.advance(2_000)
        await event(client, EXPIRED, f"{worker}'s")
    return run


async def test_the_end_of_a_lease_costs_the_same_among_any_number(
    statements: Statements, timed_client: Client, clock: "TestClock"
) -> None:
    """Among 2,000 leases of 200 workers one ends by the same steps of the database as among few."""
    client = timed_client
    await _tree(client, 2_100)
    lease = duration(3_600_000)
    await connect(client, *(f"few{n}" for n in range(5)), max_claims=10, lease=lease)
    for n in range(5):
        await claim_next(client, f"few{n}", max_tasks=10)
    among_few = await _end_of(client, clock, statements, "first")
    await connect(client, *(f"many{n}" for n in range(200)), max_claims=10, lease=lease)
    for n in range(200):
        await claim_next(client, f"many{n}", max_tasks=10)
    assert (await status(client)).claimed_tasks == 2_050
    among_many = await _end_of(client, clock, statements, "second")
    assert among_many == among_few


async def test_a_sign_of_life_writes_no_lease(statements: Statements, timed_client: Client) -> None:
    """A heartbeat runs as many statements for a hundred leases as for one, and writes one row."""
    await _tree(timed_client, 120)
    await connect(timed_client, "one", "hundred", max_claims=100)
    await claim_next(timed_client, "one")
    await claim_next(timed_client, "hundred", max_tasks=100)
    runs = []
    for worker in ("one", "hundred"):
        with statements.watched() as run:
            await heartbeat(timed_client, worker)
        runs.append([sql for sql, _ in run])
    assert runs[0] == runs[1]
    assert sum(sql.startswith("UPDATE") for sql in runs[0]) == 1


async def _claim_and_end(client: Client, statements: Statements, **fields: Any) -> list[Any]:
    with statements.watched() as run:
        [task] = (await claim_next(client, "w", **fields)).tasks
        await complete(client, "w", task.id)
    return run


@pytest.mark.parametrize(
    "fields",
    [{}, {"order_by": v1.ORDER_BY_TEMPERATURE}, {"mode": ADVISORY}],
    ids=["priority", "temperature", "advisory"],
)
async def test_a_claim_costs_the_same_among_any_number_of_tasks(
    statements: Statements, timed_client: Client, fields: dict[str, Any]
) -> None:
    """Among 3,000 ready tasks, a third for others, one is taken and ended by the same steps."""
    await connect(timed_client, "w", "v")
    await _tree(timed_client, 5)
    await _tree(timed_client, 5, needed_tags=["x"])
    await _claim_and_end(timed_client, statements, **fields)  # learns what tasks there are
    among_few = await _claim_and_end(timed_client, statements, **fields)
    await _tree(timed_client, 2_000)
    await _tree(timed_client, 1_000, needed_tags=["x"])
    among_many = await _claim_and_end(timed_client, statements, **fields)
    assert among_many == among_few


async def test_one_of_a_thousand_who_wait_is_asked(
    statements: Statements, timed_server: "Server", clock: "TestClock"
) -> None:
    """A task that is made ready while 1,000 wait runs one claim: nobody else is asked in vain."""
    count = 1_000
    async with Client(timed_server.address, timeout=120) as client:
        await create(client, "open", needed_tags=["nobody-has-this"])
        for first in range(0, count, 100):
            await asyncio.gather(*(connect(client, f"w{n}") for n in range(first, first + 100)))
        clock.advance(1)
        wait = duration(100_000)
        calls = [asyncio.create_task(_claimed(client, f"w{n}", wait=wait)) for n in range(count)]
        while await _heard_of(client, clock) < count:
            pass
        for n in range(3):
            with statements.watched() as run:
                await create(client, f"task{n}")
                done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            assert [await call for call in done] == [[f"task{n}"]]
            calls = [call for call in calls if call not in done]
            verbs = [sql for sql, _ in run if sql.startswith("SAVEPOINT")]
            assert len(verbs) == 2, "to create, and to claim"
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_nobody_is_asked_about_what_is_out_of_their_scope(
    statements: Statements, timed_client: Client, clock: "TestClock"
) -> None:
    """Neither a ready task nor the end of one asks those who wait below another one."""
    workers = [f"w{n}" for n in range(10)]
    await create(timed_client, "elsewhere")
    await connect(timed_client, "other", *workers)
    await claim(timed_client, "other", "elsewhere")
    calls = []
    for n, worker in enumerate(workers):
        await create(timed_client, f"top{n}")
        await create(timed_client, f"open{n}", parent_id=f"top{n}", needed_tags=["nobody"])
        calls.append(await _waiting(timed_client, clock, worker, parent_id=f"top{n}"))
    with statements.watched() as run:
        await create(timed_client, "another")
        await complete(timed_client, "other", "elsewhere")
    assert sum(sql.startswith("SAVEPOINT") for sql, _ in run) == 2, "to create, and to complete"
    with statements.watched() as run:
        await create(timed_client, "there", parent_id="top7")
        assert [task.id for task in (await calls[7]).tasks] == ["there"]
    assert sum(sql.startswith("SAVEPOINT") for sql, _ in run) == 2, "to create, and to claim"
    await timed_client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="open3"))
    assert (await calls[3]).outcome == v1.CLAIM_OUTCOME_ALL_DONE
    for n in {*range(10)} - {3, 7}:
        calls[n].cancel()


async def test_a_status_is_counted_once(timed_server: "Server", timed_client: Client) -> None:
    """While nothing changes, how the whole stands is not counted again for everybody who asks."""
    await create(timed_client, "a")
    reader = open_reader(timed_server.db)
    tx = Transaction(reader, load_workflows("swarm"), random.Random())
    tx.begin(1, tx.system.get().revision)
    first = get_status(tx, None)
    run: list[str] = []
    reader.trace_v2(apsw.SQLITE_TRACE_STMT, lambda trace: run.append(trace["sql"]))
    assert get_status(tx, first) == first
    assert not run
    assert get_status(tx, None) == first
    assert len(run) > 5
    reader.close()


async def _claimed(client: Client, worker: str, **fields: Any) -> list[str]:
    return [task.id for task in (await claim_next(client, worker, **fields)).tasks]


async def _heard_of(client: Client, clock: "TestClock") -> int:
    """How many workers have given a sign of life since the clock was moved."""
    page = await client.workers.ListWorkers(v1.ListWorkersRequest(page_size=1_000))
    times = [worker.heartbeat_time.ToMilliseconds() for worker in page.workers]
    return sum(time >= clock.now() for time in times)
