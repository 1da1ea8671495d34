"""How an agent of a hybrid run decomposes a task: into which parts, and how long each takes.

The parts take as long together as the task would have taken as a whole, to the millisecond, so that
a hybrid run has the work of any other. They lie below a node of their own, which is no work.
"""

from dataclasses import dataclass
from datetime import timedelta

from taskloom import v1

from taskloom_experiments.modes import PART

_LONGEST_ID = 128


@dataclass(frozen=True)
class Decomposition:
    """Into how many parts, what deciding on them costs (simulated seconds, and tokens), and whether
    who is free helps with the parts of others.
    """

    parts: int = 3
    decision_s: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    help: bool = True


def is_part(task: v1.Task) -> bool:
    """Whether an agent made it out of a task."""
    return PART in task.tags


def has_work(task: v1.Task) -> bool:
    """Whether there is something to do but to end it: not of the node above the parts."""
    return not is_part(task) or task.HasField("time_estimate")


def tree_of_parts(task: v1.Task, seconds: float, parts: int) -> v1.TaskNode:
    """The tree below a task that takes so many simulated seconds.

    Who may take a part is who could take the task. The ids are made of the task's, so that whoever
    decomposes it again, after a crash, is told that the tree is there.
    """
    each = timedelta(milliseconds=max(1, round(1000 * seconds / parts)))
    root = v1.TaskNode(
        id=_id(task.id, "parts"),
        title=f"The parts of: {task.title}"[:1_000],
        tags=[PART],
        phase=task.phase,
        priority=task.priority,
    )
    for number in range(1, parts + 1):
        part = root.children.add(
            id=_id(task.id, str(number)),
            title=f"Part {number} of {parts}: {task.title}"[:1_000],
            tags=[PART],
            needed_tags=task.needed_tags,
            wanted_tags=task.wanted_tags,
            phase=task.phase,
            priority=task.priority,
            max_attempts=task.max_attempts,
        )
        part.time_estimate.FromTimedelta(each)
    return root


def _id(task_id: str, suffix: str) -> str:
    """A task's id with a suffix; empty, which lets the server choose, where it is too long."""
    whole = f"{task_id}.{suffix}"
    return whole if len(whole) <= _LONGEST_ID else ""
