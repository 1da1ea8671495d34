"""What an answer says beside what was done: the workflow's prompts, and its warnings."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from taskloom_client.cli import output
from taskloom_client.cli.session import Session

if TYPE_CHECKING:
    from taskloom import v1


class Tells(Protocol):
    """An answer that has prompts."""

    @property
    def prompts(self) -> "Iterable[v1.Prompt]": ...  # noqa: D102


class Warns(Protocol):
    """An answer that has warnings."""

    @property
    def warnings(self) -> Iterable[str]: ...  # noqa: D102


def print_prompts(session: Session, answer: Tells, *, several: bool = False) -> None:
    """Print the prompts of an answer for people; programs have them in it.

    ``several``: they are of several tasks, so that each says of which.
    """
    if session.json:
        return
    for prompt in answer.prompts:
        of = f" {prompt.task_id}" if several and prompt.task_id else ""
        output.print_block(f"[{prompt.trigger}{of}]\n{prompt.text}")


def note_warnings(answer: Warns) -> None:
    """Say on standard error what was taken although the workflow does not want it so."""
    for warning in answer.warnings:
        output.note(f"warning: {warning}")
