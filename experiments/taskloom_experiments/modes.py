"""The modes of coordination: who decides which agent works which task.

Nothing else is imported here: agents, of which many start at once, need it.
"""

from typing import Literal, get_args

Mode = Literal["pull", "push", "hybrid", "relay"]
"""``pull``: every agent takes what is ready. ``push``: a coordinator assigns every task, and agents
wait for what is assigned to them. ``hybrid``: a lead assigns the tasks below the root, and agents
decompose them and pull the parts. ``relay``: specialists pull the tasks of their phase."""

MODES: tuple[Mode, ...] = get_args(Mode)

COORDINATED: frozenset[Mode] = frozenset({"push", "hybrid"})
"""The modes in which somebody hands out tasks."""

PART = "part"
"""The tag of what an agent of a hybrid run made of its task: nobody hands it out, and whoever is
free may help."""

COORDINATING_TAGS = frozenset({"coordinator", "lead"})
"""The tags by which a coordinator is known where no record of the run says who it was."""
