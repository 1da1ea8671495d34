"""The writer: one transaction for a group of verbs, all or nothing for each, and then the answer.

The writer alone where its own promises are looked at, a server where its callers are.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import apsw
import grpc
import pytest
from taskloom import v1
from taskloom_client import Client, TaskloomError
from taskloom_server.coordinator import system, tasks
from taskloom_server.graph.errors import EtagMismatch, TaskNotFound
from taskloom_server.graph.events import EventType
from taskloom_server.graph.workers import Pause
from taskloom_server.store.ledger import Committed, WriterStopped
from taskloom_server.store.readers import Readers
from taskloom_server.store.schema import prepare
from taskloom_server.store.transaction import Transaction
from taskloom_server.store.writer import Writer
from taskloom_server.workflow_files import load_workflows

if TYPE_CHECKING:
    from tests.conftest import Server

WORKFLOWS = load_workflows("swarm")


@dataclass
class Connections:
    """The SQLite connections that were opened, and the commits made on them."""

    opened: list[apsw.Connection] = field(default_factory=list)
    commits: int = 0
    held: threading.Event = field(default_factory=threading.Event)
    """Set while a commit waits to be let go."""
    go: threading.Event = field(default_factory=threading.Event)
    """Commits wait for it."""

    def __post_init__(self) -> None:
        self.go.set()

    def hook(self, connection: apsw.Connection) -> None:
        """Take note of a new connection; called by APSW."""
        self.opened.append(connection)
        connection.set_commit_hook(self._commit, id="test")

    def _commit(self) -> bool:
        self.commits += 1
        if not self.go.is_set():
            self.held.set()
            self.go.wait(30)
            self.held.clear()
        return False  # let it be

    def open_ones(self, *, readonly: bool) -> list[apsw.Connection]:
        """Those that are still open, by what they are for."""
        found = []
        for connection in self.opened:
            with suppress(apsw.ConnectionClosedError):
                if connection.readonly("main") is readonly:
                    found.append(connection)
        return found

    async def until_held(self) -> None:
        """Return once a commit waits."""
        assert await asyncio.to_thread(self.held.wait, 30)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    """All connections from now on. Ask for it before the server."""
    watched = Connections()
    monkeypatch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, watched.hook])
    yield watched
    watched.go.set()


@dataclass
class Alone:
    """A writer without a server."""

    writer: Writer
    path: Path
    committed: list[Committed]
    failures: list[Exception]


@pytest.fixture
async def alone(tmp_path: Path, connections: Connections) -> AsyncIterator[Alone]:
    """A writer of a new file, which has committed nothing yet but its beginning."""
    path = tmp_path / "tasks.db"
    prepare(path)
    committed: list[Committed] = []
    failures: list[Exception] = []
    writer = Writer(
        path,
        WORKFLOWS,
        clock=lambda: 1_800_000_000_000,
        rng=Random(1),
        on_commit=committed.append,
        on_failure=failures.append,
    )
    await writer.start()
    connections.commits = 0
    yield Alone(writer, path, committed, failures)
    connections.go.set()
    await writer.stop()


# Verbs.


def pause(tx: Transaction, reason: str) -> int:
    """Change something, and tell of it; the revision."""
    return system.pause(tx, Pause("eve", reason, 0))[1]


def refuse(tx: Transaction, reason: str) -> int:
    """Change something, and then refuse."""
    pause(tx, reason)
    raise TaskNotFound("refused")


def refuse_but_keep(tx: Transaction, reason: str) -> int | EtagMismatch:
    """Change something, and refuse in the way that keeps it."""
    pause(tx, reason)
    return EtagMismatch("refused, but kept")


def break_down(tx: Transaction, reason: str) -> int:
    """Change something, and then have a bug."""
    pause(tx, reason)
    raise ValueError("a secret")


def break_a_rule(tx: Transaction, reason: str) -> int:
    """Change something, and then break a constraint of the database."""
    pause(tx, reason)
    tx.connection.execute('INSERT INTO "system" SELECT * FROM "system"')
    return 0


def tell_nonsense(tx: Transaction, reason: str) -> int:
    """Change something, and tell an event that cannot be written down."""
    pause(tx, reason)
    tx.tell(EventType.PAUSED, object())  # type: ignore[arg-type]
    return 0


def look(tx: Transaction, _: None) -> str | None:
    """Change nothing; why there is a pause."""
    paused = tx.system.get().paused
    return paused.reason if paused else None


class Hold:
    """A verb that keeps the writer until it is let go, so that others queue up behind it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self, tx: Transaction, _: None) -> None:
        """Wait."""
        self.begun.set()
        assert self.go.wait(30)


@asynccontextmanager
async def queueing(writer: Writer) -> AsyncIterator[None]:
    """Within the context what is submitted queues up; with its end the writer goes on."""
    hold = Hold()
    held = asyncio.ensure_future(writer.run(hold, None))
    assert await asyncio.to_thread(hold.begun.wait, 30)
    try:
        yield
        await asyncio.sleep(0)  # whoever was just started submits
    finally:
        hold.go.set()
    await held


def stored(path: Path) -> tuple[str | None, int, int]:
    """Why there is a pause, the revision, and the latest event's, as another process sees it."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    [(reason, revision)] = connection.execute('SELECT paused_reason, revision FROM "system"')
    [(latest,)] = connection.execute("SELECT max(revision) FROM events")
    connection.close()
    return reason, revision, latest or 0


# Groups.


async def test_one_commit_for_all_that_wait(alone: Alone, connections: Connections) -> None:
    """Verbs that wait are committed together, up to 256 at once, whatever their number."""
    async with queueing(alone.writer):
        asked = [asyncio.ensure_future(alone.writer.run(pause, f"{n}")) for n in range(300)]
    revisions = await asyncio.gather(*asked)
    assert revisions == list(range(1, 301))
    assert connections.commits == 3  # the one that held them up, 256, and the rest
    assert [len(committed.revisions) for committed in alone.committed] == [0, 256, 44]
    assert stored(alone.path) == ("299", 300, 300)


async def test_the_first_of_a_crowd_waits_for_the_rest(
    alone: Alone, connections: Connections
) -> None:
    """Verbs of which each comes a turn of the loop after the one before are committed together."""
    asked = []
    for n in range(3):
        asked.append(asyncio.ensure_future(alone.writer.run(pause, f"{n}")))
        await asyncio.sleep(0)
    assert await asyncio.gather(*asked) == [1, 2, 3]
    assert connections.commits == 1


async def test_what_came_meanwhile_goes_on_whatever_becomes_of_a_delivery(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that breaks down keeps nothing from the thread that came while it was underway."""

    def broken(_committed: Committed) -> None:
        monkeypatch.undo()
        raise RuntimeError("nobody is to be told")

    hold = Hold()
    held = asyncio.ensure_future(alone.writer.run(hold, None))
    assert await asyncio.to_thread(hold.begun.wait, 30)
    following = [asyncio.ensure_future(alone.writer.run(pause, f"{n}")) for n in range(2)]
    answered, _ = await asyncio.wait(following, timeout=0)
    assert not answered, "they are behind the one that holds the thread up"
    monkeypatch.setattr(alone.writer, "_on_commit", broken)
    hold.go.set()
    assert await asyncio.gather(*following) == [1, 2]
    assert not held.done()
    held.cancel()


async def test_one_commit_for_many_calls(
    connections: Connections, start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred calls that come while another one commits are answered by one commit more."""
    submitted = 0
    all_submitted = asyncio.Event()
    run = Writer.run

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal submitted
        submitted += 1
        if submitted == 101:
            asyncio.get_running_loop().call_soon(all_submitted.set)  # when this one is in, too
        return await run(*args, **kwargs)

    async with start_server() as server, Client(server.address) as client:

        def create(id: str) -> asyncio.Future[v1.CreateTaskResponse]:
            return asyncio.ensure_future(
                client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title="t"))
            )

        await create("before")
        monkeypatch.setattr(Writer, "run", counted)
        before = connections.commits
        connections.go.clear()
        first = create("first")
        await connections.until_held()
        others = [create(f"t{n}") for n in range(100)]
        await all_submitted.wait()
        connections.go.set()
        answers = await asyncio.gather(first, *others)
        assert connections.commits == before + 2
    assert len({answer.revision for answer in answers}) == 101


async def test_told_before_answered(alone: Alone) -> None:
    """A revision is announced before the verb that made it is answered, and once."""
    for n in range(1, 4):
        answer = await alone.writer.run(pause, "x")
        assert answer == n
        assert alone.committed[-1].revision == n
    assert [c.revision for c in alone.committed] == [1, 2, 3]


async def test_what_was_answered_is_read(server: "Server", client: Client) -> None:
    """Who was answered reads what he wrote, however many others write and read."""

    async def write_and_read(n: int) -> None:
        for m in range(10):
            id = f"t{n}-{m}"
            created = await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title="t"))
            read = await client.tasks.GetTask(v1.GetTaskRequest(task_id=id))
            assert read.task == created.task
            assert read.revision >= created.revision

    await asyncio.gather(*(write_and_read(n) for n in range(20)))


@pytest.mark.parametrize(
    ("verb", "error"),
    [
        (refuse, TaskNotFound),
        (break_down, ValueError),
        (break_a_rule, apsw.ConstraintError),
        (tell_nonsense, KeyError),
    ],
)
async def test_neighbours_are_not_spoilt(
    alone: Alone, connections: Connections, verb: Any, error: type[Exception]
) -> None:
    """A verb that is refused or has a bug is undone; its neighbours in the group are not."""
    async with queueing(alone.writer):
        before = asyncio.ensure_future(alone.writer.run(pause, "before"))
        bad = asyncio.ensure_future(alone.writer.run(verb, "bad"))
        seen = asyncio.ensure_future(alone.writer.run(look, None))
        after = asyncio.ensure_future(alone.writer.run(pause, "after"))
    with pytest.raises(error):
        await bad
    assert (await before, await seen, await after) == (1, "before", 2)
    assert connections.commits == 2
    assert stored(alone.path) == ("after", 2, 2)
    assert [r.number for r in alone.committed[-1].revisions] == [1, 2]
    assert alone.failures == []


async def test_a_refusal_that_is_returned_keeps_what_it_wrote(alone: Alone) -> None:
    """A verb that returns its refusal is refused, but what it changed and told stays."""
    with pytest.raises(EtagMismatch):
        await alone.writer.run(refuse_but_keep, "kept")
    assert stored(alone.path) == ("kept", 1, 1)


async def test_what_changes_nothing_makes_no_revision(alone: Alone) -> None:
    """A verb that tells nothing makes no revision."""
    await alone.writer.run(pause, "x")
    assert await alone.writer.run(look, None) == "x"
    assert alone.committed[-1].revision == 1
    assert await alone.writer.run(pause, "y") == 2


async def test_a_reset_that_breaks_down(alone: Alone) -> None:
    """A reset that is undone leaves the incarnation as it was."""

    def reset_and_break_down(tx: Transaction, ask: None) -> None:
        system.reset(tx, ask)
        raise ValueError("a bug")

    await alone.writer.run(pause, "x")
    with pytest.raises(ValueError, match="a bug"):
        await alone.writer.run(reset_and_break_down, None)
    await alone.writer.run(pause, "y")
    assert len({committed.incarnation for committed in alone.committed}) == 1


async def test_a_reset_among_others(alone: Alone) -> None:
    """What a reset's group did before it is history no more; what came after it is all there is."""
    async with queueing(alone.writer):
        before = asyncio.ensure_future(alone.writer.run(pause, "before"))
        reset = asyncio.ensure_future(alone.writer.run(system.reset, None))
        after = asyncio.ensure_future(alone.writer.run(pause, "after"))
    assert (await before, (await reset)[1], await after) == (1, 1, 2)
    committed = alone.committed[-1]
    assert committed.incarnation == (await reset)[0]
    assert [revision.number for revision in committed.revisions] == [2]
    assert stored(alone.path) == ("after", 2, 2)


# Callers.


async def test_a_bug_is_told_to_nobody(
    server: "Server", client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug gives INTERNAL without its text and changes nothing; the call can be retried."""
    create = tasks.create_tasks

    def broken(tx: Transaction, ask: Any) -> Any:
        create(tx, ask)
        raise ValueError("a secret")

    monkeypatch.setattr(tasks, "create_tasks", broken)
    request = v1.CreateTaskRequest(id="t", title="t", request_id="again")
    with pytest.raises(TaskloomError) as caught:
        await client.tasks.CreateTask(request)
    assert caught.value.code is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    assert "ValueError" not in str(caught.value)
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert (status.revision, status.open_tasks) == (0, 0)
    monkeypatch.undo()
    assert (await client.tasks.CreateTask(request)).revision == 1


async def test_who_gives_up_cancels_nothing(
    connections: Connections, start_server: Callable[..., Any]
) -> None:
    """A call that is cancelled while its transaction commits is committed all the same."""
    async with start_server() as server, Client(server.address) as client:
        connections.go.clear()
        call = asyncio.ensure_future(
            client.tasks.CreateTask(v1.CreateTaskRequest(id="t", title="t"))
        )
        await connections.until_held()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        connections.go.set()
        # The writer's next answer comes after the one that nobody waits for.
        await client.tasks.CreateTask(v1.CreateTaskRequest(id="u", title="u"))
        shown = await client.tasks.GetTask(v1.GetTaskRequest(task_id="t"))
    assert shown.task.title == "t"


async def test_who_gives_up_in_the_queue_cancels_nothing(alone: Alone) -> None:
    """A verb whose caller gives up before its turn is run in its turn, with the others."""
    async with queueing(alone.writer):
        first = asyncio.ensure_future(alone.writer.run(pause, "first"))
        second = asyncio.ensure_future(alone.writer.run(pause, "second"))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert await second == 2


async def test_stopping_finishes_what_was_submitted(alone: Alone) -> None:
    """A writer that stops answers what was submitted before, and refuses what comes after."""
    async with queueing(alone.writer):
        asked = [asyncio.ensure_future(alone.writer.run(pause, f"{n}")) for n in range(300)]
        await asyncio.sleep(0)
        stopping = asyncio.ensure_future(alone.writer.stop())
        await asyncio.sleep(0)
        with pytest.raises(WriterStopped):
            await alone.writer.run(pause, "late")
    assert await asyncio.gather(*asked) == list(range(1, 301))
    await stopping
    assert stored(alone.path) == ("299", 300, 300)


# Connections.


async def test_answered_is_durable(connections: Connections, server: "Server") -> None:
    """The only connection that writes syncs at every commit, into a write-ahead log."""
    [writer] = connections.open_ones(readonly=False)
    assert writer.pragma("journal_mode") == "wal"
    assert writer.pragma("synchronous") == 2  # FULL
    assert writer.filename == str(server.db)


async def test_readers_cannot_write(
    connections: Connections, server: "Server", client: Client
) -> None:
    """The connections that calls read on are read-only, and refuse every write."""
    await asyncio.gather(
        *(client.admin.GetStatus(v1.GetStatusRequest()) for _ in range(20)),
    )
    readers = connections.open_ones(readonly=True)
    assert readers
    for reader in readers:
        assert reader.pragma("query_only") == 1
        assert reader.pragma("wal_autocheckpoint") == 0
        for statement in (
            'UPDATE "system" SET revision = 99',
            "CREATE TABLE mine (x)",
            "CREATE TEMP TABLE mine (x)",
            "PRAGMA user_version = 7",
        ):
            with pytest.raises(apsw.ReadOnlyError):
                reader.execute(statement)


async def test_a_verb_that_writes_on_a_reader(alone: Alone) -> None:
    """A verb that was given to the readers by mistake fails, and the reader goes on."""
    readers = Readers(alone.path, WORKFLOWS, clock=lambda: 0, threads=1)
    with pytest.raises(apsw.ReadOnlyError):
        await readers.run(pause, "by mistake")
    assert await readers.run(look, None) is None
    await asyncio.to_thread(readers.close)


async def test_a_reader_sees_one_moment(alone: Alone) -> None:
    """A verb on a reader sees the graph at one moment, whatever is committed meanwhile."""
    begun, go = threading.Event(), threading.Event()

    def look_twice(tx: Transaction, _: None) -> tuple[str | None, str | None, int]:
        first = look(tx, None)
        begun.set()
        assert go.wait(30)
        return first, look(tx, None), tx.seen

    readers = Readers(alone.path, WORKFLOWS, clock=lambda: 0)
    await alone.writer.run(pause, "one")
    looking = asyncio.ensure_future(readers.run(look_twice, None))
    assert await asyncio.to_thread(begun.wait, 30)
    await alone.writer.run(pause, "two")
    go.set()
    assert await looking == ("one", "one", 1)
    assert await readers.run(look, None) == "two"
    await asyncio.to_thread(readers.close)
