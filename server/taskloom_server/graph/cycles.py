"""Cycles: what waits for what, and whether a new dependency would close a ring.

One graph is searched for all blocking types. An arrow X -> Y in it means that the end of Y
waits for the end of X: from blocker to blocked, and from child to parent. So a task that
blocks its own child is found out, too.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from taskloom_server.graph.tasks import CONTAINS, START_BLOCKING


def arrow(from_task_id: str, to_task_id: str, dep_type: str) -> tuple[str, str] | None:
    """The arrow that a dependency puts into the graph of waiting; None if it blocks nothing."""
    if dep_type in START_BLOCKING:
        return from_task_id, to_task_id
    if dep_type == CONTAINS:
        return to_task_id, from_task_id
    return None


def find_path(
    successors: Callable[[str], Iterable[str]], start: str, goal: str
) -> list[str] | None:
    """The shortest way from ``start`` to ``goal`` along the arrows, both included, or None."""
    came_from: dict[str, str | None] = {start: None}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        if here == goal:
            path = [here]
            while (before := came_from[path[-1]]) is not None:
                path.append(before)
            return path[::-1]
        for there in successors(here):
            if there not in came_from:
                came_from[there] = here
                queue.append(there)
    return None


def find_cycle(predecessors: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Some cycle in a whole graph, the first task repeated at its end; None if there is none."""
    # Whether there is one is found out in a third of the time that it takes to name it.
    if _is_acyclic(predecessors):
        return None
    try:
        TopologicalSorter(predecessors).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return None


def _is_acyclic(predecessors: Mapping[str, Iterable[str]]) -> bool:
    """Whether all tasks can be taken off one by one, each after those it waits for."""
    successors: dict[str, list[str]] = {}
    left: dict[str, int] = {}
    for node, before in predecessors.items():
        left[node] = len(before := list(before))
        for one in before:
            successors.setdefault(one, []).append(node)
    free = [node for node, count in left.items() if not count]
    free += [node for node in successors if node not in left]
    while free:
        for node in successors.pop(free.pop(), ()):
            left[node] -= 1
            if not left[node]:
                free.append(node)
    return not successors
