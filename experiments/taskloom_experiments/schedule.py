"""The best possible time: what no scheduler could beat, for one graph and a number of agents.

The work must be done, by at most that many agents at once; and a chain of tasks must be done one
after the other. So no run is shorter than the work divided by the agents, nor than the longest
chain (Graham, 1969). The better of the two bounds is used. It is a bound, not a plan: the shortest
schedule that exists may be longer, so an efficiency against it errs on the strict side.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from taskloom_experiments.tables import CONTAINS, START_BLOCKING, Dependency, Task


class ScheduleError(Exception):
    """A graph has no schedule; the text is a clause naming a task of the cycle."""


@dataclass(frozen=True)
class BestPossible:
    """The bounds, in ms. ``critical_path`` are the ids on the longest chain, first to last."""

    work_ms: int
    critical_path_ms: int
    critical_path: tuple[str, ...]
    agents: int

    @property
    def makespan_ms(self) -> float:
        """No run with this many agents can be shorter."""
        return max(self.work_ms / self.agents, self.critical_path_ms)

    @property
    def bound_by(self) -> Literal["work", "critical path"]:
        """What more agents would help with (work), or would not (critical path)."""
        return "work" if self.work_ms / self.agents >= self.critical_path_ms else "critical path"


def containment(tasks: Iterable[Task]) -> list[Dependency]:
    """The ``contains`` edges that parent_id says, for databases that say them only there."""
    return [Dependency(task.parent_id, task.id, CONTAINS) for task in tasks if task.parent_id]


def best_possible(
    durations_ms: Mapping[str, int], dependencies: Iterable[Dependency], agents: int
) -> BestPossible:
    """The best possible time for tasks of these durations.

    ``blocks`` and ``follows`` let a task start after another; a parent that ``contains`` tasks ends
    after them, and where it is work itself, starts after them. Other types, and edges to tasks
    without a duration, bind nothing. Raises ScheduleError where the edges make a cycle.
    """
    before: dict[str, set[str]] = defaultdict(set)
    for edge in dependencies:
        if edge.from_task_id not in durations_ms or edge.to_task_id not in durations_ms:
            continue
        if edge.dep_type in START_BLOCKING:
            before[edge.to_task_id].add(edge.from_task_id)
        elif edge.dep_type == CONTAINS:
            before[edge.from_task_id].add(edge.to_task_id)

    finish: dict[str, int] = {}
    longest_before: dict[str, str | None] = {}
    graph = {task_id: sorted(before[task_id]) for task_id in durations_ms}
    try:
        for task_id in TopologicalSorter(graph).static_order():
            latest = max(graph[task_id], key=lambda other: finish[other], default=None)
            longest_before[task_id] = latest
            finish[task_id] = durations_ms[task_id] + (finish[latest] if latest else 0)
    except CycleError as error:
        raise ScheduleError(
            f"the tasks wait for each other in a circle at {error.args[1][0]}"
        ) from (error)

    last = max(finish, key=lambda task_id: finish[task_id], default=None)
    chain: list[str] = []
    step = last
    while step is not None:
        if durations_ms[step] > 0:
            chain.append(step)
        step = longest_before[step]
    return BestPossible(
        work_ms=sum(durations_ms.values()),
        critical_path_ms=finish[last] if last else 0,
        critical_path=tuple(reversed(chain)),
        agents=agents,
    )
