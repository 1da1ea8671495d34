"""Prompts: what a workflow says to a worker, and what it may speak of.

A prompt is a template. Reading templates takes more than the standard library, so it is done by
``taskloom_server.prompts``, and what is read comes down here as a Prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

MAX_PROMPT = 64 << 10
"""Characters of a prompt that is filled in."""


class Prompt(Protocol):
    """A template that was read, and speaks of nothing but VARIABLES."""

    @property
    def text(self) -> str:
        """The template as it stands in its file."""
        ...

    def render(self, variables: Mapping[str, object]) -> str:
        """The prompt for a worker; ``variables`` has every name of VARIABLES.

        Raises what the template raises for them, which is no reason to refuse a claim.
        """
        ...


@dataclass(frozen=True, slots=True)
class Joined:
    """Two prompts, the one below the other: a workflow's, and what an overlay adds to it."""

    first: Prompt
    second: Prompt

    @property
    def text(self) -> str:
        """Both templates."""
        return f"{self.first.text.rstrip()}\n\n{self.second.text}"

    def render(self, variables: Mapping[str, object]) -> str:
        """Both prompts, one of which may come to nothing."""
        said = self.first.render(variables), self.second.render(variables)
        return "\n\n".join(filter(None, said))


def joined(first: Prompt | None, second: Prompt | None) -> Prompt | None:
    """What two prompts say together, of which there may be none."""
    if first is None or second is None:
        return first or second
    return Joined(first, second)


# What each variable is. One that has fields is given as a mapping with all of them. Absent texts
# are empty, absent numbers 0, so that a prompt may always ask.
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "current_status": (),  # after the transition
    "valid_exits": (),  # a list: the states that may follow
    "current_phase": (),
    "valid_phases": (),  # a list: those of the workflow
    "task": (
        "id",
        "title",
        "description",
        "priority",
        "tags",  # a list
        "attempts",
        "max_attempts",
        "parent_id",
        "points",
    ),
    "worker": ("id", "tags", "role", "max_claims"),
    "workflow": ("name", "description"),
}
