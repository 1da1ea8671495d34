"""How a task is decomposed: the parts are its work, and whoever could take it may take them."""

from datetime import timedelta

from taskloom import v1
from taskloom_experiments.decomposing import has_work, is_part, tree_of_parts

WHOLE = v1.Task(
    id="parser",
    title="Write the parser",
    phase="implement",
    priority=7,
    needed_tags=["code"],
    wanted_tags=["rust", "c"],
    max_attempts=3,
)


def test_parts_take_as_long_as_the_whole() -> None:
    """Together they are the task's time; tags, phase, priority and attempts are the task's."""
    tree = tree_of_parts(WHOLE, 900.0, 3)
    assert [node.id for node in tree.children] == ["parser.1", "parser.2", "parser.3"]
    spent = [node.time_estimate.ToTimedelta() for node in tree.children]
    assert spent == [timedelta(minutes=5)] * 3
    for node in tree.children:
        assert [*node.needed_tags, *node.wanted_tags] == ["code", "rust", "c"]
        assert (node.phase, node.priority, node.max_attempts) == ("implement", 7, 3)


def test_node_above_the_parts_is_no_work() -> None:
    """It is told from a part by having no estimate; any other task is work."""
    tree = tree_of_parts(WHOLE, 900.0, 2)
    above = v1.Task(id=tree.id, tags=tree.tags)
    part = v1.Task(id=tree.children[0].id, tags=tree.children[0].tags)
    part.time_estimate.CopyFrom(tree.children[0].time_estimate)
    assert is_part(above)
    assert is_part(part)
    assert not is_part(WHOLE)
    assert [has_work(above), has_work(part), has_work(WHOLE)] == [False, True, True]


def test_id_that_would_be_too_long_is_left_to_the_server() -> None:
    """A task may have an id of the greatest length."""
    tree = tree_of_parts(v1.Task(id="x" * 128, title="t" * 1_000), 60.0, 2)
    assert [tree.id, *(node.id for node in tree.children)] == ["", "", ""]
    assert len(tree.title) == 1_000
