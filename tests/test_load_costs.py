"""The short form of the load harness: what cannot be noise, and is held to the bars all the same.

Costs are the steps of SQLite's virtual machine, which are the same on every machine, on the graphs
of ``taskloom load``, of 1,000 tasks and of 50,000; and statements, and allocations. How many
commits a crowd of calls takes is in ``test_writer``, whether plans scan in ``test_hot_statements``,
what the memory of who waits comes to in ``test_idle_memory``.
"""

import contextlib
import gc
import itertools
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from taskloom import v1
from taskloom_client import Client
from taskloom_experiments.load.graphs import Graph, lay_out
from taskloom_experiments.load.serving import DATABASE
from taskloom_experiments.load.sizes import CLAIM_BAR, LIST_BAR
from taskloom_server.server import serving
from taskloom_server.settings import Settings

if TYPE_CHECKING:
    from tests.conftest import Server

SMALL, LARGE = 1_000, 50_000
MOST_STATEMENTS = {"ClaimNextTask": 18, "CompleteTask": 16}
WATCHES = 100
MOST_BYTES, MOST_OBJECTS = 6_144, 48


@dataclass
class Steps:
    """What all connections run: statements, and the steps that they take."""

    statements: int = 0
    steps: int = 0

    def hook(self, connection: apsw.Connection) -> None:
        """Count what a new connection runs; called by APSW."""
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._ran, id="costs")

    def _ran(self, trace: dict[str, Any]) -> None:
        self.statements += 1
        self.steps += trace["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """All that is run from now on."""
    counted = Steps()
    monkeypatch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, counted.hook])
    return counted


@contextlib.asynccontextmanager
async def _serving(graph: Graph, kept: Path, folder: Path) -> AsyncIterator[Client]:
    """A graph, served, and a worker ``w`` that may do any of its tasks."""
    place = folder / graph.name
    place.mkdir()
    await lay_out(graph, kept, place)
    settings = Settings(db=place / DATABASE, listen="127.0.0.1:0")
    async with serving(settings) as server, Client(server.address) as client:
        await client.workers.Connect(v1.ConnectRequest(worker_id="w", tags=graph.tags))
        yield client


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where graphs are kept, so that each is made once."""
    return tmp_path_factory.mktemp("graphs")


@dataclass(frozen=True)
class Setting:
    """Where graphs and databases are, and what counts."""

    steps: Steps
    kept: Path
    folder: Path


@pytest.fixture
def setting(steps: Steps, kept: Path, tmp_path: Path) -> Setting:
    """A folder of its own for each test, and graphs that all share."""
    return Setting(steps, kept, tmp_path)


async def _claim_and_complete(client: Client) -> None:
    answer = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="w"))
    (task,) = answer.tasks
    await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id=task.id))


async def _cost(
    steps: Steps, client: Client, operation: Callable[[Client], Awaitable[None]], times: int = 20
) -> float:
    """Steps of one operation, after one that does not count."""
    await operation(client)
    before = steps.steps
    for _ in range(times):
        await operation(client)
    return (steps.steps - before) / times


async def _costs(
    graphs: Sequence[Graph], operation: Callable[[Client], Awaitable[None]], setting: Setting
) -> list[float]:
    costs = []
    for graph in graphs:
        async with _serving(graph, setting.kept, setting.folder) as client:
            costs.append(await _cost(setting.steps, client, operation))
    return costs


async def test_a_claim_is_no_dearer_among_fifty_times_as_many(setting: Setting) -> None:
    """A claim with its completion takes as many steps at 50,000 tasks as at 1,000, to the bar."""
    graphs = (Graph(SMALL, ready=0.1), Graph(LARGE, ready=0.1))
    few, many = await _costs(graphs, _claim_and_complete, setting)
    assert many <= CLAIM_BAR * few


async def test_a_completion_that_frees_another_is_no_dearer_either(setting: Setting) -> None:
    """The same where each task waits for the one before it."""
    graphs = (Graph(SMALL, 0.1, 1, "chains"), Graph(LARGE, 0.1, 1, "chains"))
    few, many = await _costs(graphs, _claim_and_complete, setting)
    assert many <= CLAIM_BAR * few


async def test_a_claim_is_no_dearer_with_200_requirements(setting: Setting) -> None:
    """Whether tasks ask the same tags or 200 different pairs of them, a claim takes as long."""
    graphs = (Graph(SMALL), Graph(SMALL, requirements=200))
    one, many = await _costs(graphs, _claim_and_complete, setting)
    assert many <= CLAIM_BAR * one


_Query = v1.ListTasksRequest
LISTS = {
    "all": _Query(),
    "ready": _Query(ready=True),
    "ready and pending": _Query(ready=True, statuses=["pending"]),
    "ready for a worker": _Query(ready=True, qualified_for_worker_id="w"),
    "blocked": _Query(blocked=True),
    "pending": _Query(statuses=["pending"]),
    "pending or working": _Query(statuses=["pending", "working"]),
    "failed": _Query(statuses=["failed"]),
    "claimed": _Query(claimed=True),
    "claimed by a worker": _Query(claimed=True, owner="v", statuses=["working", "pending"]),
    "children": _Query(parent_id="family"),
    "all below": _Query(parent_id="family", recursive=True),
    "tagged": _Query(tags_any=["few"]),
    "oldest": _Query(order_by=v1.ORDER_BY_CREATE_TIME),
    "by id": _Query(order_by=v1.ORDER_BY_ID),
}


async def _list_page(client: Client, query: v1.ListTasksRequest, token: str) -> str:
    """Ask for a page of 50; the token of the next one."""
    page = v1.ListTasksRequest(page_size=50, page_token=token)
    page.MergeFrom(query)
    return (await client.tasks.ListTasks(page)).next_page_token


async def test_a_page_is_no_dearer_among_many(setting: Setting) -> None:
    """A list's first page, and its tenth, take as many steps among 50,000 tasks as among 1,000.

    To the bar, and for lists in the order of priorities, or of creation, whatever their filters.
    """
    costs: list[dict[tuple[str, str], float]] = []
    family = v1.TaskNode(id="family", title="family")
    for _ in range(70):
        family.children.add(title="child", tags=["few"], priority=5)
    for graph in (Graph(SMALL, ready=0.5), Graph(LARGE, ready=0.5)):
        of_graph = {}
        async with _serving(graph, setting.kept, setting.folder) as client:
            await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=family))
            await client.workers.Connect(v1.ConnectRequest(worker_id="v", max_claims=100))
            claim = v1.ClaimNextTaskRequest(worker_id="v", parent_id="family", max_tasks=60)
            assert len((await client.claims.ClaimNextTask(claim)).tasks) == 60
            for name, query in LISTS.items():
                token = ""
                for _ in range(9):
                    token = await _list_page(client, query, token) or token
                for page, place in (("first", ""), ("tenth", token)):

                    async def ask(
                        client: Client, query: v1.ListTasksRequest = query, place: str = place
                    ) -> None:
                        await _list_page(client, query, place)

                    of_graph[name, page] = await _cost(setting.steps, client, ask, times=2)
        costs.append(of_graph)
    few, many = costs
    assert {name: many[name] / few[name] for name in few if many[name] > LIST_BAR * few[name]} == {}


PRIORITIES = itertools.cycle((3, 7))
SCOPE = v1.TaskNode(id="scope", title="scope", children=[v1.TaskNode(id="part", title="part")])


async def _claim_in_scope(client: Client) -> None:
    claim = v1.ClaimNextTaskRequest(worker_id="w", parent_id="scope")
    (task,) = (await client.claims.ClaimNextTask(claim)).tasks
    assert (await client.claims.ClaimNextTask(claim)).outcome == v1.CLAIM_OUTCOME_LIMIT_REACHED
    await client.claims.ReleaseTask(v1.ReleaseTaskRequest(worker_id="w", task_id=task.id))


async def _list_scope(client: Client) -> None:
    page = await client.tasks.ListTasks(v1.ListTasksRequest(parent_id="scope", recursive=True))
    assert [task.id for task in page.tasks] == ["part"]


async def _see_status(client: Client) -> None:
    """How the whole stands, after a change."""
    await client.tasks.UpdateTask(v1.UpdateTaskRequest(task_id="part", priority=next(PRIORITIES)))
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert status.tasks_by_status["pending"] > SMALL / 2


async def _begin_watch(client: Client) -> None:
    """Have the state of watches whose filters leave little."""
    for only in (
        v1.WatchFilter(assignee="w"),
        v1.WatchFilter(ready_for="w", tags=["few"]),
        v1.WatchFilter(subtree_of="scope"),
        v1.WatchFilter(task_ids=["part"]),
        v1.WatchFilter(statuses=["working"]),
    ):
        async with client.watch(only, include_state=True) as watch:
            async for message in watch:
                if message.HasField("synced"):
                    break


@pytest.mark.parametrize("operation", [_claim_in_scope, _list_scope, _see_status, _begin_watch])
async def test_what_is_about_few_is_no_dearer_among_many(
    setting: Setting, operation: Callable[[Client], Awaitable[None]]
) -> None:
    """A claim within a scope, its list, the status after a change, and the state of a narrow watch
    look at no other tasks."""
    costs = []
    for graph in (Graph(SMALL), Graph(LARGE)):
        async with _serving(graph, setting.kept, setting.folder) as client:
            await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=SCOPE))
            costs.append(await _cost(setting.steps, client, operation))
    few, many = costs
    assert many <= CLAIM_BAR * few


async def test_statements_of_a_claim_and_of_a_completion(setting: Setting) -> None:
    """A verb alone in its transaction runs no more statements than it needs, these included."""
    steps, counts = setting.steps, []
    async with _serving(Graph(SMALL, ready=0.1), setting.kept, setting.folder) as client:
        await _claim_and_complete(client)
        before = steps.statements
        answer = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id="w"))
        counts.append(steps.statements - before)
        task = answer.tasks[0]
        before = steps.statements
        await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id="w", task_id=task.id))
        counts.append(steps.statements - before)
    assert counts[0] <= MOST_STATEMENTS["ClaimNextTask"]
    assert counts[1] <= MOST_STATEMENTS["CompleteTask"]


async def test_large_events_share_pages(server: "Server", client: Client) -> None:
    """An event of some 1,800 bytes takes half a page, and no second one of its own."""
    for n in range(60):
        await client.tasks.CreateTask(v1.CreateTaskRequest(title=f"{n}", description="d" * 1_200))
    connection = apsw.Connection(str(server.db))
    count = "SELECT COUNT(*) FROM dbstat WHERE name = 'events'"
    pages = connection.execute(count).get
    connection.close()
    assert 30 <= pages <= 40


async def test_allocations_of_a_watch(tmp_path: Path) -> None:
    """What our code holds for a watch that is open: some objects and bytes, and no list of them."""
    settings = Settings(db=tmp_path / DATABASE, listen="127.0.0.1:0")
    ours = [tracemalloc.Filter(True, "*/taskloom_server/*")]

    def held() -> tuple[int, int]:
        gc.collect()
        found = tracemalloc.take_snapshot().filter_traces(ours).statistics("filename")
        return sum(one.size for one in found), sum(one.count for one in found)

    async with serving(settings) as server, Client(server.address) as client:
        watches = []

        async def open_watches(number: int) -> None:
            for _ in range(number):
                watch = client.watches.WatchTasks(v1.WatchTasksRequest())
                watches.append(watch)
                first = await watch.read()
                assert isinstance(first, v1.WatchTasksResponse)
                assert first.HasField("created")

        tracemalloc.start()
        try:
            await open_watches(20)
            size, count = held()
            await open_watches(WATCHES)
            size, count = (now - then for now, then in zip(held(), (size, count), strict=True))
        finally:
            tracemalloc.stop()
        for watch in watches:
            watch.cancel()
    assert size <= WATCHES * MOST_BYTES
    assert count <= WATCHES * MOST_OBJECTS
