"""The past: the transitions of a task, or of all."""

from dataclasses import dataclass

from taskloom_server.coordinator.lookup import require_task
from taskloom_server.graph.tasks import Transition
from taskloom_server.store.transaction import Transaction
from taskloom_server.store.transitions import TransitionFilters


@dataclass(frozen=True, slots=True)
class ListTransitions:
    """A page of transitions, from the one after ``after``."""

    filters: TransitionFilters
    after: int | None
    limit: int
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class TransitionPage:
    """Transitions, and the place from which the next page goes on."""

    transitions: list[Transition]
    next_after: tuple[int] | None
    revision: int


def list_transitions(tx: Transaction, ask: ListTransitions) -> TransitionPage:
    """The transitions that pass the filters, in the order of their making. Raises TaskNotFound."""
    if ask.filters.task_id:
        require_task(tx, ask.filters.task_id)
    found = tx.transitions.page(
        ask.filters, ask.after, ask.limit + 1, newest_first=ask.newest_first
    )
    shown = found[: ask.limit]
    return TransitionPage(shown, (shown[-1].id,) if len(found) > ask.limit else None, tx.seen)
