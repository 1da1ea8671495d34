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
