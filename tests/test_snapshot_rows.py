"""The columns of a snapshot follow the records of the graph."""

from taskloom_server.graph.snapshots import MEDIA, NOT_IN_SNAPSHOTS, TABLES
from taskloom_server.graph.tasks import Dependency, Task, Transition
from taskloom_server.service.snapshot_rows import FORMS, TASK_COLUMNS


def test_every_column_of_a_task_is_exported_or_left_out_by_name() -> None:
    """A column that a task gains is in snapshots by itself; one that is gone is not named."""
    assert set(Task._fields) - NOT_IN_SNAPSHOTS == set(TASK_COLUMNS) - {"metrics"}
    assert set(Task._fields) >= NOT_IN_SNAPSHOTS


def test_other_tables_have_the_columns_of_their_records() -> None:
    """Dependencies and history are exported as they are, and every column of them is read."""
    assert tuple(FORMS) == (*TABLES, MEDIA)
    assert tuple(FORMS["dependencies"].model_fields) == Dependency._fields
    assert tuple(FORMS["task_sequence"].model_fields) == Transition._fields
