"""The best possible time: bounds that can be checked on paper, and one that no plan can beat."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskloom_experiments.schedule import ScheduleError, best_possible
from taskloom_experiments.tables import Dependency


def edges(*told: str) -> list[Dependency]:
    """Dependencies from words: from, to, type."""
    return [Dependency(*edge.split()) for edge in told]


def test_independent_tasks_are_bound_by_work() -> None:
    """Four tasks of 10 s and two agents take 20 s at best."""
    best = best_possible(dict.fromkeys("abcd", 10), [], 2)
    assert (best.work_ms, best.critical_path_ms, best.makespan_ms) == (40, 10, 20)
    assert best.bound_by == "work"


def test_chain_is_bound_by_itself() -> None:
    """A chain takes its length, however many agents there are."""
    best = best_possible({"a": 10, "b": 5, "c": 20}, edges("a b blocks", "b c follows"), 8)
    assert best.makespan_ms == 35
    assert best.critical_path == ("a", "b", "c")
    assert best.bound_by == "critical path"


def test_parent_ends_after_its_children() -> None:
    """Who waits for a parent waits for all it contains; a parent without work adds none."""
    graph = edges("root a contains", "root b contains", "root end blocks")
    best = best_possible({"root": 0, "a": 10, "b": 30, "end": 5}, graph, 4)
    assert best.critical_path_ms == 35
    assert best.critical_path == ("b", "end")


def test_parent_that_is_work_itself_comes_after_its_children() -> None:
    """A parent that an agent worked could only be worked when its children were done."""
    assert best_possible({"p": 7, "a": 10}, edges("p a contains"), 2).critical_path_ms == 17


def test_other_dependencies_bind_nothing() -> None:
    """Related tasks, and edges to tasks that are not there, do not wait."""
    graph = edges("a b relates-to", "b a see-also", "gone a blocks", "a gone contains")
    assert best_possible({"a": 10, "b": 10}, graph, 2).makespan_ms == 10


def test_circle_is_refused() -> None:
    """Tasks that wait for each other have no schedule."""
    with pytest.raises(ScheduleError, match="wait for each other in a circle at"):
        best_possible({"a": 1, "b": 1}, edges("a b blocks", "b a blocks"), 1)


def test_no_tasks_take_no_time() -> None:
    """An empty graph is done at once."""
    assert best_possible({}, [], 3).makespan_ms == 0


@given(
    durations=st.lists(st.integers(0, 50), min_size=1, max_size=9),
    pairs=st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=14),
    agents=st.integers(1, 4),
)
def test_no_plan_beats_the_bound(
    durations: list[int], pairs: set[tuple[int, int]], agents: int
) -> None:
    """Whatever the graph, greedy agents need at least the best possible time, and not twice it.

    Graham's theorem: a greedy schedule takes less than work / agents + critical path.
    """
    times = {str(number): float(length) for number, length in enumerate(durations)}
    chosen = [(a, b) for a, b in pairs if a < b < len(durations)]
    graph = [Dependency(str(a), str(b), "blocks") for a, b in chosen]
    best = best_possible({name: int(time) for name, time in times.items()}, graph, agents)
    greedy = _greedy(times, chosen, agents)
    assert best.makespan_ms <= greedy + 1e-9
    assert greedy <= best.work_ms / agents + best.critical_path_ms + 1e-9


def _greedy(times: dict[str, float], edges: list[tuple[int, int]], agents: int) -> float:
    free = [0.0] * agents
    ended: dict[str, float] = {}
    waiting = dict(times)
    while waiting:
        ready = {
            name: max((ended[str(a)] for a, b in edges if str(b) == name), default=0.0)
            for name in waiting
            if all(str(a) in ended for a, b in edges if str(b) == name)
        }
        free.sort()
        name = min(ready, key=lambda one: max(ready[one], free[0]))
        start = max(ready[name], free[0])
        free[0] = ended[name] = start + waiting.pop(name)
    return max(ended.values())
