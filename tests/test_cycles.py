"""Cycles: the search for them in any graph, and that no sequence of links can make one."""

import asyncio
import random
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from taskloom import v1
from taskloom_client import Client, TaskloomError
from taskloom_server.coordinator import dependencies, system, tasks
from taskloom_server.graph import cycles
from taskloom_server.graph.errors import DomainError
from taskloom_server.graph.tasks import DEPENDENCY_TYPES, Dependency
from taskloom_server.store.schema import prepare
from taskloom_server.store.transaction import Transaction
from taskloom_server.store.writer import Writer
from taskloom_server.workflow_files import load_workflows

Arrows = set[tuple[str, str]]
"""A graph: X -> Y says that the end of Y waits for the end of X."""

NODES = ("a", "b", "c", "d", "e", "f")
node = st.sampled_from(NODES)
graphs = st.sets(st.tuples(node, node), max_size=14)
acyclic = st.sets(st.sampled_from(list(combinations(NODES, 2))), max_size=14)


def successors(arrows: Arrows) -> Callable[[str], list[str]]:
    """The graph as find_path asks for it."""
    return lambda start: sorted(end for begin, end in arrows if begin == start)


def predecessors(arrows: Arrows) -> dict[str, list[str]]:
    """The graph as find_cycle asks for it."""
    return {end: [begin for begin, end_ in arrows if end_ == end] for _, end in sorted(arrows)}


def distances(arrows: Arrows) -> dict[tuple[str, str], int]:
    """How many arrows lie between any two nodes, by what Floyd and Warshall taught."""
    far: dict[tuple[str, str], int] = dict.fromkeys(arrows, 1)
    far |= {(each, each): 0 for each in NODES}
    for via in NODES:
        for begin in NODES:
            for end in NODES:
                if (begin, via) in far and (via, end) in far:
                    way = far[begin, via] + far[via, end]
                    far[begin, end] = min(way, far.get((begin, end), way))
    return far


def is_cyclic(arrows: Arrows) -> bool:
    """Whether something is left once all that wait for nothing are taken away, again and again."""
    left = set(arrows)
    while left:
        waiting = {end for _, end in left}
        kept = {(begin, end) for begin, end in left if begin in waiting}
        if kept == left:
            return True
        left = kept
    return False


# The search, on graphs of any form


@given(graphs, node, node)
def test_path_is_the_shortest(arrows: Arrows, start: str, goal: str) -> None:
    """find_path finds a way along the arrows, and none is shorter; None where there is none."""
    path = cycles.find_path(successors(arrows), start, goal)
    far = distances(arrows)
    if path is None:
        assert (start, goal) not in far
    else:
        assert (path[0], path[-1]) == (start, goal)
        assert set(pairwise(path)) <= arrows
        assert len(path) - 1 == far[start, goal]


@given(graphs)
def test_cycle_is_one(arrows: Arrows) -> None:
    """find_cycle finds a ring along the arrows, its first task repeated, if there is any."""
    ring = cycles.find_cycle(predecessors(arrows))
    event("a ring" if ring else "none")
    if ring is None:
        assert not is_cyclic(arrows)
    else:
        assert ring[0] == ring[-1]
        assert len(ring) > 1
        assert len(set(ring)) == len(ring) - 1
        assert set(pairwise(ring)) <= arrows


@given(acyclic)
def test_no_cycle_where_all_arrows_go_one_way(arrows: Arrows) -> None:
    """A graph whose arrows all follow one order has no cycle."""
    assert cycles.find_cycle(predecessors(arrows)) is None


@given(acyclic, node, node)
def test_an_arrow_closes_a_ring_where_there_is_a_way_back(
    arrows: Arrows, start: str, end: str
) -> None:
    """A new arrow makes a cycle just where there is a path from its end to its start."""
    way_back = cycles.find_path(successors(arrows), end, start)
    assert (way_back is not None) == is_cyclic(arrows | {(start, end)})


def test_long_chains_are_no_trouble() -> None:
    """A chain of 50,000 tasks is searched as well as a short one."""
    last = 50_000
    path = cycles.find_path(lambda n: [str(int(n) + 1)] if int(n) < last else [], "0", str(last))
    assert path is not None
    assert len(path) == last + 1
    ring = cycles.find_cycle({str(n): [str((n + 1) % last)] for n in range(last)})
    assert ring is not None
    assert len(ring) == last + 1


ARROWS = {
    "blocks": ("from", "to"),
    "follows": ("from", "to"),
    "contains": ("to", "from"),
    "duplicate": None,
    "see-also": None,
    "relates-to": None,
}


@pytest.mark.parametrize("type_", DEPENDENCY_TYPES)
def test_arrows_of_dependencies(type_: str) -> None:
    """A blocked task waits for its blocker, a parent for its child, and the others for nobody."""
    assert cycles.arrow("from", "to", type_) == ARROWS[type_]


# The verbs, on a real file


class _Graph:
    """A writer on a file of its own, driven from outside of its event loop."""

    def __init__(self, runner: asyncio.Runner, db: Path) -> None:
        self._runner = runner
        prepare(db)
        self._writer: Writer = runner.run(self._start(db))

    async def _start(self, db: Path) -> Writer:
        writer = Writer(
            db,
            load_workflows("swarm"),
            clock=lambda: 1_800_000_000_000,
            rng=random.Random(0),
            on_commit=lambda committed: None,
            on_failure=lambda error: pytest.fail(f"the writer failed: {error}"),
        )
        await writer.start()
        return writer

    def run(self, verb: Callable[[Transaction, Any], Any], ask: Any) -> Any:
        """Run a verb; its answer, or its refusal."""
        try:
            return self._runner.run(self._writer.run(verb, ask))
        except DomainError as refusal:
            return refusal

    def create(self, id: str, parent: str = "", blocked_by: tuple[str, ...] = ()) -> Any:
        """Add a task."""
        root = tasks.NewTask(id=id, title=id, blocked_by=blocked_by)
        return self.run(tasks.create_tasks, tasks.CreateTasks(root, parent, "", ""))

    def arrows(self) -> Arrows:
        """The graph of waiting, as the tables have it."""
        found: tuple[set[str], list[Dependency]] = self.run(_see, None)
        alive, edges = found
        arrows = (cycles.arrow(*edge) for edge in edges if alive.issuperset(edge[:2]))
        return {arrow for arrow in arrows if arrow is not None}

    def stop(self) -> None:
        """Close the file."""
        self._runner.run(self._writer.stop())


def _see(tx: Transaction, _: None) -> tuple[set[str], list[Dependency]]:
    alive = {task.id for task in tx.tasks.all() if task.deleted_at is None}
    return alive, list(tx.dependencies.all())


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[_Graph]:
    """A graph to try sequences on, one after another."""
    with asyncio.Runner() as runner:
        graph = _Graph(runner, tmp_path / "tasks.db")
        yield graph
        graph.stop()


types = st.sampled_from(DEPENDENCY_TYPES)
STEPS = {
    "link": st.tuples(node, node, st.sampled_from(["blocks", "follows", "contains"])),
    "link any": st.tuples(node, node, types),
    "unlink": st.tuples(node, node, st.one_of(st.just(""), types)),
    "delete": st.tuples(node),
    "create": st.tuples(st.sampled_from(["x", "y", "z"]), node, node),
}
# Most often links, and seldom a deletion, or there is soon nothing left to link.
kinds = st.sampled_from(["link"] * 12 + ["link any", "unlink", "unlink", "delete", "create"])
steps = kinds.flatmap(lambda kind: st.tuples(st.just(kind.split()[0]), STEPS[kind]))


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(steps, min_size=8, max_size=40))
def test_no_sequence_of_links_makes_a_cycle(
    graph: _Graph, sequence: list[tuple[str, tuple[str, ...]]]
) -> None:
    """Whatever is linked, unlinked, created and deleted: no task ever waits for itself.

    And nothing is refused as a cycle that would not have been one: the ring that a refusal
    names is there but for the arrow that was refused.
    """
    graph.run(system.reset, None)
    for id in NODES:
        graph.create(id)
    for name, arguments in sequence:
        before = graph.arrows()
        added: Arrows = set()
        if name == "link":
            arrow = cycles.arrow(*arguments)
            added = {arrow} if arrow else set()
            answer = graph.run(dependencies.link_tasks, dependencies.Link(*arguments, ""))  # type: ignore[call-arg]
        elif name == "unlink":
            answer = graph.run(dependencies.unlink_tasks, dependencies.Link(*arguments, ""))  # type: ignore[call-arg]
        elif name == "create":
            id, parent, blocker = arguments
            added = {(id, parent), (blocker, id)}
            answer = graph.create(id, parent, (blocker,))
        else:
            answer = graph.run(
                tasks.delete_task, tasks.DeleteTask(arguments[0], "", "", cascade=True, force=True)
            )
        reason = answer.reason if isinstance(answer, DomainError) else "done"
        event(f"{name}: {reason}")
        after = graph.arrows()
        assert not is_cyclic(after)
        if reason == "CYCLE":
            assert after == before
            ring = answer.subjects
            if added:
                assert ring[0] == ring[-1]
                assert set(pairwise(ring)) <= before | added
                assert not set(pairwise(ring)) <= before
            else:
                assert arguments[0] == arguments[1], "a task cannot even be like itself"
        elif reason == "done":
            assert added <= after


# What a client is told


async def _refusal(client: Client, from_: str, to: str, type_: str) -> TaskloomError:
    request = v1.LinkTasksRequest(from_task_id=from_, to_task_id=to, type=_number(type_))
    with pytest.raises(TaskloomError) as caught:
        await client.tasks.LinkTasks(request)
    return caught.value


def _number(type_: str) -> v1.DependencyType.ValueType:
    return v1.DependencyType.Value(f"DEPENDENCY_TYPE_{type_.upper().replace('-', '_')}")


async def test_refusal_names_the_ring(client: Client) -> None:
    """A link that closes a cycle is INVALID_ARGUMENT / CYCLE, with the tasks along it in order."""
    for id, blocked_by in (("a", []), ("b", ["a"]), ("c", ["b"])):
        request = v1.CreateTaskRequest(id=id, title=id, blocked_by=blocked_by)
        await client.tasks.CreateTask(request)
    error = await _refusal(client, "c", "a", "blocks")
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "CYCLE")
    assert [violation.subject for violation in error.violations] == ["c", "a", "b", "c"]
    assert "c -> a -> b -> c" in error.message


async def test_task_cannot_wait_for_its_own_parts(client: Client) -> None:
    """A parent cannot block what it contains, at any depth; a child may block its sibling."""
    leaf = v1.TaskNode(id="leaf", title="t")
    mid = v1.TaskNode(id="mid", title="t", children=[leaf, v1.TaskNode(id="twin", title="t")])
    root = v1.TaskNode(id="top", title="t", children=[mid])
    await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    for type_ in ("blocks", "follows"):
        assert (await _refusal(client, "top", "leaf", type_)).reason == "CYCLE"
    assert (await _refusal(client, "leaf", "top", "contains")).reason == "CYCLE"
    await client.tasks.LinkTasks(v1.LinkTasksRequest(from_task_id="leaf", to_task_id="twin"))


@pytest.mark.parametrize("type_", DEPENDENCY_TYPES)
async def test_task_cannot_be_linked_to_itself(client: Client, type_: str) -> None:
    """A link from a task to itself is CYCLE, whatever its type."""
    await client.tasks.CreateTask(v1.CreateTaskRequest(id="a", title="a"))
    error = await _refusal(client, "a", "a", type_)
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "CYCLE")
    assert {violation.subject for violation in error.violations} == {"a"}


async def test_tree_that_waits_for_itself(client: Client) -> None:
    """A tree whose tasks block each other in a ring is refused whole."""
    children = [
        v1.TaskNode(id="a", title="a", blocked_by=["b"]),
        v1.TaskNode(id="b", title="b", blocked_by=["c"]),
        v1.TaskNode(id="c", title="c", blocked_by=["a"]),
    ]
    root = v1.TaskNode(id="root", title="root", children=children)
    with pytest.raises(TaskloomError) as caught:
        await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(root=root))
    assert caught.value.reason == "CYCLE"
    assert {violation.subject for violation in caught.value.violations} == {"a", "b", "c"}
    status = await client.admin.GetStatus(v1.GetStatusRequest())
    assert not status.tasks_by_status


async def test_rings_that_wait_for_nothing(client: Client) -> None:
    """Types that block nothing may go round in circles, and beside a type that blocks."""
    for id in ("a", "b"):
        await client.tasks.CreateTask(v1.CreateTaskRequest(id=id, title=id))
    for from_, to, type_ in (
        ("a", "b", "blocks"),
        ("b", "a", "relates-to"),
        ("b", "a", "see-also"),
        ("a", "b", "see-also"),
        ("b", "a", "duplicate"),
    ):
        request = v1.LinkTasksRequest(from_task_id=from_, to_task_id=to, type=_number(type_))
        assert (await client.tasks.LinkTasks(request)).created


async def test_deleted_task_closes_no_ring(client: Client) -> None:
    """Once a task of a chain is deleted, its ends may be linked the other way round."""
    for id, blocked_by in (("a", []), ("b", ["a"]), ("c", ["b"])):
        request = v1.CreateTaskRequest(id=id, title=id, blocked_by=blocked_by)
        await client.tasks.CreateTask(request)
    assert (await _refusal(client, "c", "a", "blocks")).reason == "CYCLE"
    await client.tasks.DeleteTask(v1.DeleteTaskRequest(task_id="b"))
    link = v1.LinkTasksRequest(from_task_id="c", to_task_id="a")
    assert (await client.tasks.LinkTasks(link)).created
